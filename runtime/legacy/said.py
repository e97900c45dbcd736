"""Which spelling of today takes the place of a form of 1.x, said once for each."""

from __future__ import annotations

from ..errors import WarningCache

said = WarningCache()


def instead(old: str, new: str) -> None:
    said.deprecation(f"`{old}` is Lightning 1.x; write {new} instead.")
