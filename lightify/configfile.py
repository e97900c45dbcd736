"""Reads `[tool.lightify]` of the nearest pyproject.toml; the command line's own options come first."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path

from lightify.errors import LightifyError
from lightify.settings import Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def settings_for(folder: Path, options: Mapping[str, object]) -> Settings:
    """Settings for the scripts of a folder: those of `options` that are not None, then the file's, then our own.

    Raises:
        LightifyError: LF002, the file is not TOML, or names a setting that does not exist, or a wrong value.
    """
    path = _nearest(folder)
    table = _read_table(path) if path is not None else {}
    given = {name: value for name, value in options.items() if value is not None}
    if path is None or not table:
        return Settings(**given)  # type: ignore[arg-type]  # checked when made
    try:
        Settings(**table)  # type: ignore[arg-type]
        return Settings(**{**table, **given})  # type: ignore[arg-type]
    except LightifyError as error:
        found = error.diagnostic
        raise LightifyError.at(path, found.code, found.message, found.hint) from None


def _nearest(folder: Path) -> Path | None:
    folder = folder.resolve()
    for parent in (folder, *folder.parents):
        if (parent / "pyproject.toml").is_file():
            return parent / "pyproject.toml"
    return None


def _read_table(path: Path) -> dict[str, object]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LightifyError.at(path, "LF002", f"not readable as TOML: {error}", "mend the file") from None
    tools = content.get("tool", {})
    table = tools.get("lightify", {}) if isinstance(tools, dict) else {}
    if not isinstance(table, dict):
        raise LightifyError.at(path, "LF002", "tool.lightify is not a table", "write [tool.lightify]")
    known = [field.name for field in fields(Settings)]
    settings: dict[str, object] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known settings: {', '.join(known)}"
            raise LightifyError.at(path, "LF002", f"[tool.lightify] has no setting {key!r}", hint)
        settings[name] = value
    return settings
