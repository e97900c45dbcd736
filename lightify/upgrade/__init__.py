"""Lightning 1.x to 2.x in the source: one file for each form, applied in order, each to what the last has left."""

from __future__ import annotations

from lightify.errors import LightifyError
from lightify.output.selfcheck import self_check
from lightify.settings import Settings
from lightify.sources import Source
from lightify.syntax.parse import read_module
from lightify.upgrade import (
    attributes,
    epoch_ends,
    hooks,
    imports,
    optimizer_index,
    returned_logs,
    signatures,
    step_ends,
    trainer_arguments,
    trainer_calls,
    truncated_bptt,
)
from lightify.upgrade.base import Form, Log
from lightify.upgrade.script import Script
from lightify.upgraded import Upgrade

#: One entry for each form of this folder, by its file's name; `imports` comes last, since the others go by old names.
REGISTRY: dict[str, Form] = {
    "hooks": hooks.rewrite,
    "signatures": signatures.rewrite,
    "returned_logs": returned_logs.rewrite,
    "step_ends": step_ends.rewrite,
    "epoch_ends": epoch_ends.rewrite,
    "optimizer_index": optimizer_index.rewrite,
    "truncated_bptt": truncated_bptt.rewrite,
    "trainer_calls": trainer_calls.rewrite,
    "trainer_arguments": trainer_arguments.rewrite,
    "attributes": attributes.rewrite,
    "imports": imports.rewrite,
}


def upgrade(source: Source, settings: Settings) -> Upgrade:
    """Rewrites the forms of Lightning 1.x in one script.

    Raises:
        LightifyError: the text does not parse, or the result fails our own check (a fault of ours).
    """
    _, module = read_module(source)
    if Script(module).package is None:
        return Upgrade(source, source.text)
    log = Log(source.path, module, settings.runtime_module(source.neighbours))
    for name, form in REGISTRY.items():
        log.form = name
        module = form(Script(module), log)
    refusals = tuple(sorted(set(log.refusals), key=lambda refusal: (refusal.span, refusal.message)))
    text = None if refusals else module.code
    rewrites = tuple(sorted(dict.fromkeys(log.rewrites), key=lambda found: found.span))
    problems = self_check(text, source.text, source.path) if text is not None else ()
    for problem in problems:
        if problem.severity == "error":
            raise LightifyError(problem)
    return Upgrade(source, text, rewrites, refusals, (*log.notes, *problems))
