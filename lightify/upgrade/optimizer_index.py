"""`training_step(..., optimizer_idx)`: manual optimization with each optimizer in its turn.

The step becomes a method that computes one optimizer's loss; `training_step` toggles, backpropagates and steps in 1.x's
order. With frequencies, one optimizer has its turn in each batch.
"""

from __future__ import annotations

import libcst as cst

from lightify.syntax.names import scope_nodes
from lightify.syntax.query import Changed, code, dotted, method_call
from lightify.upgrade.base import Log
from lightify.upgrade.edit import (
    Change,
    become,
    body_of,
    edit,
    method,
    parameters,
    renamed,
    uses,
    with_body,
    without_parameters,
)
from lightify.upgrade.manual import (
    Optimizers,
    Unreadable,
    forbidden,
    loss_of,
    read_optimizers,
    scheduler_lines,
    switched,
)
from lightify.upgrade.script import Script, methods

INDEX = "optimizer_idx"
_BY_HAND = "set `automatic_optimization = False` and step the optimizers in `training_step`"


def rewrite(script: Script, log: Log) -> cst.Module:
    edits: dict[cst.CSTNode, Change] = {}
    for owner in script.modules:
        step = methods(owner).get("training_step")
        if step is not None and INDEX in parameters(step):
            new = _rewrite_class(script, owner, step, log)
            if new is not None:
                edits[owner] = become(new)
    return edit(script.module, edits)


def _rewrite_class(script: Script, owner: cst.ClassDef, step: cst.FunctionDef, log: Log) -> cst.ClassDef | None:
    if _is_manual(owner):
        if uses(step.body, INDEX):
            log.refuse(step, "manual optimization gets no `optimizer_idx`", "step all optimizers in `training_step`")
            return None
        log.rewrote(step, "training_step(..., optimizer_idx)", "training_step without optimizer_idx")
        body = body_of(owner)
        body[body.index(step)] = without_parameters(step, [INDEX])
        return with_body(owner, body)
    configure = script.inherited(owner, "configure_optimizers")
    if configure is None:
        log.refuse(step, "`configure_optimizers` is in another file", _BY_HAND)
        return None
    if "hiddens" in parameters(step):
        log.refuse(step, "several optimizers over pieces of a sequence", _BY_HAND)
        return None
    if any((call := method_call(node)) is not None and call[1] == "training_step" for node in script.calls()):
        log.refuse(step, "`training_step` is called by other code, too", _BY_HAND)
        return None
    try:
        found = read_optimizers(configure)
    except Unreadable as unreadable:
        log.refuse(configure, f"the schedulers or frequencies cannot be read: {unreadable}", _BY_HAND)
        return None
    if found.count == 1 and _has_default(step):
        return None  # 1.x gave no index either
    if forbidden(script, owner, log):
        return None
    body = body_of(owner)
    if configure in body:
        body[body.index(configure)] = edit(configure, _without_frequencies(found))
    elif found.frequencies:
        log.refuse(configure, "the frequencies belong to another class", _BY_HAND)
        return None
    place = body.index(step)
    body[place] = renamed(step, "_loss_of_optimizer")
    body.insert(place + 1, _training_step(owner, step, found))
    log.rewrote(step, "training_step(..., optimizer_idx)", "manual optimization, each optimizer in its turn")
    if found.frequencies:
        log.rewrote(configure, "'frequency'", "turns in training_step")
    return switched(with_body(owner, body), not script.has_foreign_base(owner))


def _training_step(owner: cst.ClassDef, step: cst.FunctionDef, found: Optimizers) -> cst.FunctionDef:
    given = parameters(step)
    names = [name for name in given if name != INDEX]
    if len(names) < 2 and found.frequencies:
        names.append("batch_idx")
    loss = loss_of(owner, step)
    one = [
        "self.toggle_optimizer(optimizer)",
        f"output = self._loss_of_optimizer({', '.join(given)})",
        "if output is not None:",
        "    optimizer.zero_grad()",
        f"    self.manual_backward({loss})",
        "    optimizer.step()",
        "self.untoggle_optimizer(optimizer)",
    ]
    if loss == "output":
        one = [line.replace("output", "loss") for line in one]
    if found.frequencies:
        turns = [
            f"turn = {names[1]} % ({' + '.join(found.frequencies)})",
            f"{INDEX} = {_index_of_turn(found.frequencies)}",
            f"optimizer = self.optimizers()[{INDEX}]",
        ]
        lines = [*turns, *one]
    else:
        lines = [f"for {INDEX}, optimizer in enumerate(self.optimizers()):", *(f"    {line}" for line in one)]
    schedulers = scheduler_lines(found)
    if schedulers:
        lines += schedulers.split("\n")
    return method(f"def training_step(self, {', '.join(names)}):\n    " + "\n    ".join(lines))


def _index_of_turn(frequencies: tuple[str, ...]) -> str:
    text, bounds = "", ""
    for index, frequency in enumerate(frequencies[:-1]):
        bounds = f"{bounds} + {frequency}" if bounds else frequency
        text += f"{index} if turn < {bounds} else "
    return f"{text}{len(frequencies) - 1}"


def _without_frequencies(found: Optimizers) -> dict[cst.CSTNode, Change]:
    def without(place: int) -> Change:
        def shorter(display: cst.CSTNode) -> Changed:
            assert isinstance(display, cst.Dict)
            kept = [element for number, element in enumerate(display.elements) if number != place]
            if kept:
                kept[-1] = kept[-1].with_changes(comma=display.elements[-1].comma)
            return display.with_changes(elements=kept)

        return shorter

    return {display: without(list(display.elements).index(entry)) for display, entry in found.frequency_entries}


def _has_default(step: cst.FunctionDef) -> bool:
    return any(param.name.value == INDEX and param.default is not None for param in step.params.params)


def _is_manual(owner: cst.ClassDef) -> bool:
    for function in methods(owner).values():
        if function.name.value == "automatic_optimization":
            return True
        for node in scope_nodes(function):
            if isinstance(node, cst.Assign) and dotted(node.targets[0].target) == "self.automatic_optimization":
                return code(node.value) == "False"
    return False
