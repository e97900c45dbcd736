"""File names of checkpoints: templates like ``{epoch}-{val_loss:.2f}``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_FIELD = re.compile(r"\{(?P<name>[^{}:]+)(?::(?P<spec>[^{}]*))?\}")


def fill_template(template: str, metrics: Mapping[str, Any], named: bool, equals: str) -> str:
    """Replaces each ``{name:spec}`` by the metric's value, 0 for a metric that is not there.

    Args:
        template: Metric names may hold dots and slashes.
        metrics: Numbers or tensors of one element.
        named: Puts ``name`` and ``equals`` before each value.
        equals: What stands between a name and its value.
    """

    def value(field: re.Match[str]) -> str:
        name, spec = field["name"], field["spec"] or ""
        text = format(_number(metrics.get(name, 0)), spec)
        return f"{name}{equals}{text}" if named else text

    return _FIELD.sub(value, template)


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
