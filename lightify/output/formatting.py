"""Generated code by black; what the user wrote and did not move never comes here."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from black.mode import Mode


def format_text(text: str, line_length: int = 100) -> str:
    """Formats Python text; formatting its own result again changes nothing.

    Raises:
        ValueError: black cannot read the text, which is a fault of ours.
    """
    from black import format_str  # 40 ms to load: only who formats pays

    return format_str(text, mode=_mode(line_length))


@lru_cache(maxsize=8)
def _mode(line_length: int) -> Mode:
    from black.mode import Mode, TargetVersion

    # A named version spares black its search for the newest syntax in the text.
    # Quotes stay as the user wrote them.
    return Mode(line_length=line_length, target_versions={TargetVersion.PY310}, string_normalization=False)
