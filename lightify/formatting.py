"""Formats the result by black; leaves the lines that the user wrote as they are."""

from __future__ import annotations

from difflib import SequenceMatcher
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from black.mode import Mode


def format_text(text: str, line_length: int = 100, kept: str = "") -> str:
    """Formats Python text; formatting its own result again changes nothing.

    Args:
        text: what to format; it must parse.
        line_length: where black wraps.
        kept: the source. Lines of `text` that stand in it unchanged keep their layout.

    Raises:
        ValueError: black cannot read the text, which is a fault of ours.
    """
    from black import format_str  # 40 ms to load: only who formats pays

    ranges = changed_lines(kept, text) if kept else []
    if kept and not ranges:
        return text
    return format_str(text, mode=_mode(line_length), lines=ranges)


def changed_lines(old: str, new: str) -> list[tuple[int, int]]:
    """Line ranges of `new`, counted from 1 and inclusive, that do not stand in `old` in the same order.

    White space at a line's end makes no difference: black removes it in places from lines that it is to keep.
    """
    before, after = ([line.rstrip() for line in text.splitlines()] for text in (old, new))
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    return [
        (start + 1, end) for tag, _, _, start, end in matcher.get_opcodes() if tag != "equal" and end > start
    ]


@lru_cache(maxsize=8)
def _mode(line_length: int) -> Mode:
    from black.mode import Mode, TargetVersion

    # Named versions spare black its search for the newest syntax in the text, and the retry when it guesses wrong.
    return Mode(line_length=line_length, target_versions={TargetVersion.PY310})
