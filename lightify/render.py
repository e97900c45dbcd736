"""Pieces -> text; the only file that imports jinja2; an undefined name in a template is an error."""

from __future__ import annotations

from functools import cache

import jinja2

from lightify.formatting import format_text
from lightify.rewrite import CLASS_SLOT, FIT_SLOT, IMPORT_SLOT, Pieces


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
    environment = _environment()
    definition = environment.get_template("module.jinja").render(
        name=pieces.class_name,
        parameters=pieces.parameters,
        init=pieces.init,
        manual=pieces.manual,
        hyperparameters=pieces.hyperparameters,
        keeps_batch=pieces.keeps_batch,
        keeps_gradients=pieces.keeps_gradients,
        size=pieces.size,
        about=pieces.about,
        data_module=pieces.data_module,
        validation=pieces.validation,
        methods=pieces.methods,
        passes=pieces.passes,
    )
    run = environment.get_template("fit.jinja").render(
        module=pieces.module_name,
        trainer=pieces.trainer_name,
        name=pieces.class_name,
        arguments=pieces.arguments,
        options=pieces.options,
        passes=pieces.passes,
        data_module=pieces.data_module,
        size=pieces.size,
        guarded=pieces.guarded,
        source=pieces.source,
        validation=pieces.validation,
        results=pieces.results,
        after_fit=pieces.after_fit,
    )
    definition, run = format_text(definition, line_length), format_text(run, line_length)
    lines: list[str] = []
    after_class = False
    for line in pieces.script.split("\n"):
        if after_class and not line.strip():
            continue
        after_class = False
        indent = line[: len(line) - len(line.lstrip())]
        if line.strip() == CLASS_SLOT:
            while lines and not lines[-1].strip():
                lines.pop()
            lines.extend(["", "", *definition.rstrip("\n").split("\n"), "", ""])
            after_class = True
        elif line.strip() == IMPORT_SLOT:
            lines.append(f"import {runtime_module} as L")
        elif line.strip() == FIT_SLOT:
            lines.extend(indent + part if part else part for part in run.rstrip("\n").split("\n"))
        else:
            lines.append(line)
    return "\n".join(lines)
