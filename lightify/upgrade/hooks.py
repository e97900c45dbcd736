"""`on_epoch_start/end`, `on_pretrain_routine_start/end`, `on_batch_start/end`: today's hooks by stage.

In 1.x `on_epoch_start` ran before each epoch of training, validation and test. It takes the name of the only hook
that it stands for, or becomes a method that each of them calls.
"""

from __future__ import annotations

import libcst as cst

from lightify.syntax.names import scope_nodes
from lightify.syntax.query import method_call
from lightify.upgrade.base import Log
from lightify.upgrade.edit import (
    Change,
    append,
    become,
    body_of,
    edit,
    method,
    parameters,
    prepend,
    renamed,
    takes_any,
    with_body,
    with_parameters,
)
from lightify.upgrade.script import Script, methods

HOOKS: dict[str, tuple[str, ...]] = {
    "on_epoch_start": ("on_train_epoch_start", "on_validation_epoch_start", "on_test_epoch_start"),
    "on_epoch_end": ("on_train_epoch_end", "on_validation_epoch_end", "on_test_epoch_end"),
    "on_pretrain_routine_start": ("on_fit_start",),
    "on_pretrain_routine_end": ("on_train_start",),
    "on_batch_start": ("on_train_batch_start",),
    "on_batch_end": ("on_train_batch_end",),
}
#: What today's hooks are given, for those that get anything; a module's `on_batch_start` had the batch already.
_GIVEN = {"on_train_batch_start": ("batch", "batch_idx"), "on_train_batch_end": ("outputs", "batch", "batch_idx")}
_STEP_OF = {"on_validation": "validation_step", "on_test": "test_step"}


def rewrite(script: Script, log: Log) -> cst.Module:
    edits: dict[cst.CSTNode, Change] = {}
    for owner in (*script.modules, *script.callbacks):
        if HOOKS.keys() & methods(owner).keys():
            new = _rewrite_class(script, owner, log, ("trainer", "pl_module") if owner in script.callbacks else ())
            edits[owner] = become(new)
    return edit(script.module, edits)


def _rewrite_class(script: Script, owner: cst.ClassDef, log: Log, always: tuple[str, ...]) -> cst.ClassDef:
    found = dict(methods(owner))
    body = body_of(owner)
    for old, places in HOOKS.items():
        function = found.get(old)
        if function is None:
            continue
        targets = [place for place in places if always or _happens(script, owner, place)]
        own, given = parameters(function), _GIVEN.get(places[0], ())
        may_have = [*always, *(given if old == "on_batch_start" and not always else ())]
        if len(own) > len(may_have) or takes_any(function) or _calls_super(function, old):
            log.refuse(
                function, f"`{old}` takes or passes on what today's hook does not", f"write `{places[0]}` by hand"
            )
            continue
        missing = [*always, *given][len(own) :]
        if len(targets) == 1 and targets[0] not in found:
            new = with_parameters(renamed(function, targets[0]), missing)
            body[body.index(function)] = new
            found[targets[0]] = new
            log.rewrote(function, old, targets[0])
            continue
        body[body.index(function)] = renamed(function, f"_{old}")
        call = f"self._{old}({', '.join([*always, *given][: len(own)])})"
        for target in targets:
            if target in found:
                add = prepend if target.endswith("start") else append
                new = add(found[target], call)
                body[body.index(found[target])] = new
            else:
                new = method(f"def {target}({', '.join(['self', *always, *given])}):\n    {call}")
                body.append(new)
            found[target] = new
        log.rewrote(function, old, ", ".join(targets))
    return with_body(owner, body)


def _happens(script: Script, owner: cst.ClassDef, place: str) -> bool:
    """Whether the module has the step of that stage; one that derives from another file's class may."""
    step = next((step for start, step in _STEP_OF.items() if place.startswith(start)), None)
    return step is None or script.has_foreign_base(owner) or script.inherited(owner, step) is not None


def _calls_super(function: cst.FunctionDef, name: str) -> bool:
    return any((call := method_call(node)) is not None and call[1] == name for node in scope_nodes(function))
