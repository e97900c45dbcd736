"""`truncated_bptt_steps` and `training_step(..., hiddens)`: manual optimization over the pieces of a sequence.

The step becomes a method that takes one piece; between pieces the hidden state is detached.
"""

from __future__ import annotations

import libcst as cst

from lightify.syntax.names import scope_nodes
from lightify.syntax.query import arguments, code, dotted, method_call, target_names
from lightify.upgrade.base import Log
from lightify.upgrade.edit import Change, become, body_of, edit, method, parameters, renamed, with_body
from lightify.upgrade.manual import Unreadable, forbidden, loss_of, read_optimizers, scheduler_lines, switched
from lightify.upgrade.script import Script, methods

SETTING = "truncated_bptt_steps"
_BY_HAND = "set `automatic_optimization = False` and loop over the pieces in `training_step`"


def rewrite(script: Script, log: Log) -> cst.Module:
    edits: dict[cst.CSTNode, Change] = {}
    for owner in script.modules:
        step = methods(owner).get("training_step")
        if step is not None and "hiddens" in parameters(step) and "optimizer_idx" not in parameters(step):
            new = _rewrite_class(script, owner, step, log)
            if new is not None:
                edits[owner] = become(new)
    return edit(script.module, edits)


def _rewrite_class(script: Script, owner: cst.ClassDef, step: cst.FunctionDef, log: Log) -> cst.ClassDef | None:
    size, more = _piece_size(script, owner)
    configure = script.inherited(owner, "configure_optimizers")
    reasons = {
        f"the length of a piece (`{SETTING}`) is set elsewhere": size is None,
        "`configure_optimizers` is in another file": configure is None,
        "`training_step` is called by other code, too": any(
            (call := method_call(node)) is not None and call[1] == "training_step" for node in script.calls()
        ),
        "how a batch is cut into pieces cannot be read": "tbptt_split_batch" not in methods(owner)
        and not _unpacks_batch(step),
    }
    for reason, holds in reasons.items():
        if holds:
            hint = "define `tbptt_split_batch(self, batch, split_size)`" if "cut" in reason else _BY_HAND
            log.refuse(step, reason, hint)
            return None
    assert configure is not None
    try:
        found = read_optimizers(configure) if _has_schedulers(configure) else None
    except Unreadable as unreadable:
        log.refuse(configure, f"the schedulers cannot be read: {unreadable}", _BY_HAND)
        return None
    if forbidden(script, owner, log):
        return None
    given = parameters(step)
    body = body_of(owner)
    place = body.index(step)
    body[place] = renamed(step, "_step_on_piece")
    names = [name for name in given if name != "hiddens"]
    passed = ", ".join("piece" if name == given[0] else name for name in given)
    tail = scheduler_lines(found).split("\n") if found is not None and found.schedulers else []
    lines = [
        "optimizer, hiddens = self.optimizers(), None",
        f"for piece in self.tbptt_split_batch({given[0]}, {size}):",
        f"    output = self._step_on_piece({passed})",
        "    optimizer.zero_grad()",
        f"    self.manual_backward({loss_of(owner, step)})",
        "    optimizer.step()",
        '    hiddens = output["hiddens"]',
        '    if hasattr(hiddens, "detach"):',
        "        hiddens = hiddens.detach()",
        "    elif hiddens is not None:",
        "        hiddens = type(hiddens)(part.detach() for part in hiddens)",
        *tail,
    ]
    added = [method(f"def training_step(self, {', '.join(names)}):\n    " + "\n    ".join(lines))]
    if "tbptt_split_batch" not in methods(owner):
        added.append(
            method(
                "def tbptt_split_batch(self, batch, split_size):\n"
                "    # sequences (B, T, ...), cut along T\n"
                "    return zip(*(part.split(split_size, dim=1) for part in batch))"
            )
        )
    body[place + 1 : place + 1] = added
    log.rewrote(step, "training_step(..., hiddens)", "manual optimization over the pieces of a batch")
    return switched(with_body(owner, body), not script.has_foreign_base(owner), more)


def _piece_size(script: Script, owner: cst.ClassDef) -> tuple[str | None, str]:
    """The expression for the length of a piece, and what the constructor has to set."""
    for node in (*owner.body.body, *(part for function in methods(owner).values() for part in scope_nodes(function))):
        small = node.body[0] if isinstance(node, cst.SimpleStatementLine) else node
        if isinstance(small, cst.Assign):
            names = [*target_names(small.targets[0].target), dotted(small.targets[0].target)]
            if SETTING in names or f"self.{SETTING}" in names:
                return f"self.{SETTING}", ""
    given = [value for call in script.trainer_calls() if (value := arguments(call).keyword.get(SETTING)) is not None]
    if len(given) == 1 and isinstance(given[0], cst.Integer):
        return f"self.{SETTING}", f"self.{SETTING} = {code(given[0])}"
    return None, ""


def _unpacks_batch(step: cst.FunctionDef) -> bool:
    batch = parameters(step)[0]
    return any(
        isinstance(node, cst.Assign) and dotted(node.value) == batch and isinstance(node.targets[0].target, cst.Tuple)
        for node in scope_nodes(step)
    )


def _has_schedulers(configure: cst.FunctionDef) -> bool:
    return "sched" in code(configure).lower()
