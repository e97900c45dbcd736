"""Pieces -> text; the only file that imports jinja2; an undefined name in a template is an error."""

from __future__ import annotations

from functools import cache

import jinja2

from lightify.output.formatting import format_text
from lightify.output.pieces import Pieces, RunPieces
from lightify.output.remainder import IMPORT_SLOT, class_slot, fit_slot


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("lightify.templates", ""),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def render(pieces: Pieces, runtime_module: str, line_length: int) -> str:
    """Puts the script together; only generated code is formatted, the rest keeps its layout."""
    slots = {IMPORT_SLOT: [*pieces.imports, f"import {runtime_module} as {pieces.runtime}"]}
    ends = any(run.ends for run in pieces.runs)
    skips = any(run.skips for run in pieces.runs)
    lazy = [number for number, run in enumerate(pieces.runs) if run.passes]
    for number, run in enumerate(pieces.runs):
        slots[class_slot(number)] = _definition(run, pieces.runtime, line_length)
        slots[fit_slot(number)] = _fit(run, pieces.runtime, line_length, ends or skips)
    if lazy:
        first = pieces.runs[lazy[0]]
        slots[class_slot(lazy[0])][:0] = [*_passes(first, line_length, ends, skips), "", ""]
    groups = [run.buffer_group for run in pieces.runs if run.buffer_group]
    if groups:
        slots[class_slot(0)][:0] = [*_buffers(groups[0], line_length), "", ""]
    classes = {class_slot(number) for number in range(len(pieces.runs))}
    lines: list[str] = []
    after_class = False
    for line in pieces.script.split("\n"):
        text = line.strip()
        if after_class and not text:
            continue
        after_class = text in classes
        indent = line[: len(line) - len(line.lstrip())]
        if text in classes:
            while lines and not lines[-1].strip():
                lines.pop()
            lines.extend(["", "", *slots[text], "", ""])
        elif text in slots:
            parts = slots[text]
            within = [part for part, before in zip(parts, ["", *parts]) if part or before or not indent]
            lines.extend(indent + part if part else part for part in within)
        else:
            lines.append(line)
    return "\n".join(lines)


def _passes(run: RunPieces, line_length: int, ends: bool, skips: bool) -> list[str]:
    """The source of batches that all runs share."""
    text = _environment().get_template("passes.jinja").render(ends=ends, skips=skips, sized=bool(run.size))
    return format_text(text, line_length).rstrip("\n").split("\n")


def _buffers(group: str, line_length: int) -> list[str]:
    """What keeps buffers equal where the strategy does not."""
    text = _environment().get_template("buffers.jinja").render(group=group)
    return format_text(text, line_length).rstrip("\n").split("\n")


def _definition(run: RunPieces, runtime: str, line_length: int) -> list[str]:
    text = _environment().get_template("module.jinja").render(run=run, runtime=runtime)
    return format_text(text, line_length).rstrip("\n").split("\n")


def _fit(run: RunPieces, runtime: str, line_length: int, asks: bool) -> list[str]:
    text = _environment().get_template("fit.jinja").render(run=run, runtime=runtime, asks=asks)
    return format_text(text, line_length).rstrip("\n").split("\n")
