"""Hooks and calls whose arguments changed: `optimizer_step`, `backward`, `manual_backward`, ...

What an override no longer gets and still uses is computed in its first lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import libcst as cst

from lightify.syntax.names import scope_nodes
from lightify.syntax.query import Changed, arguments, code, dotted, method_call, walk
from lightify.upgrade.base import Log
from lightify.upgrade.edit import (
    Change,
    become,
    edit,
    into,
    parameters,
    prepend,
    takes_any,
    uses,
    with_parameters,
    without_parameters,
)
from lightify.upgrade.script import Script, methods


@dataclass(frozen=True)
class _Hook:
    """Attributes:
    gone: parameters that are no longer given, and what they held.
    added: parameters that are given now; `name=value` has a default.
    """

    gone: dict[str, str] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)


_INDEX = {"optimizer_idx": "0", "optimizer_i": "0", "opt_idx": "0"}
MODULE_HOOKS: dict[str, _Hook] = {
    "optimizer_step": _Hook(
        {
            **_INDEX,
            "on_tpu": "False",
            "using_native_amp": '"mixed" in self.trainer.precision',
            "using_lbfgs": "type(optimizer).__name__ == 'LBFGS'",
        },
        renamed={"second_order_closure": "optimizer_closure"},
    ),
    "backward": _Hook({"optimizer": "self.trainer.optimizers[0]", **_INDEX}),
    "optimizer_zero_grad": _Hook(_INDEX),
    "on_before_optimizer_step": _Hook(_INDEX),
    "configure_gradient_clipping": _Hook(_INDEX),
    "lr_scheduler_step": _Hook(_INDEX),
    "on_train_batch_start": _Hook({"dataloader_idx": "0"}),
    "on_train_batch_end": _Hook({"dataloader_idx": "0"}),
    "on_train_epoch_end": _Hook({"outputs": ""}),
}
CALLBACK_HOOKS = {name: MODULE_HOOKS[name] for name in MODULE_HOOKS if name.startswith("on_")}
#: Hooks with a parameter more than they had, when they have as few as this.
_GREW: dict[str, tuple[int, str]] = {
    "transfer_batch_to_device": (2, "dataloader_idx"),
    "on_before_batch_transfer": (1, "dataloader_idx"),
    "on_after_batch_transfer": (1, "dataloader_idx"),
}


def rewrite(script: Script, log: Log) -> cst.Module:
    edits: dict[cst.CSTNode, Change] = {}
    for owners, hooks in ((script.modules, MODULE_HOOKS), (script.callbacks, CALLBACK_HOOKS)):
        for owner in owners:
            for name, function in methods(owner).items():
                if (name in hooks and (new := _shorter(function, hooks[name], log)) is not function) or (
                    name in _GREW and (new := _longer(function, log)) is not function
                ):
                    edits[function] = become(new)
    module = edit(script.module, edits)
    edits = {}
    for owner in Script(module).modules:
        for function in methods(owner).values():
            for call in scope_nodes(function):
                if isinstance(call, cst.Call) and (changed := _call(call, log)) is not None:
                    edits[call] = changed
    return edit(module, edits)


def _shorter(function: cst.FunctionDef, hook: _Hook, log: Log) -> cst.FunctionDef:
    names = parameters(function)
    gone = [name for name in [*names, *(p.name.value for p in function.params.kwonly_params)] if name in hook.gone]
    old_names = [name for name in names if name in hook.renamed]
    if not gone and not old_names:
        return function
    name = function.name.value
    new = without_parameters(function, gone)
    new = edit(new, {call: _without(gone) for call in _super_calls(new, name)})
    used = [word for word in gone if uses(new.body, word)]
    for word in used:
        if not hook.gone[word]:
            log.refuse(function, f"`{name}` uses `{word}`, which is no longer given",
                       "collect what it needs in `on_train_batch_end`")  # fmt: skip
            return function
    for word in old_names:
        new = edit(new, dict.fromkeys(_every(new, word), into(value=hook.renamed[word])))
    for word in reversed(used):
        new = prepend(new, f"{word} = {hook.gone[word]}")
    if name == "optimizer_step":
        new = _with_closure(new)
    log.rewrote(function, f"{name}({', '.join(names)})", f"{name}({', '.join(parameters(new))})")
    return new


def _with_closure(function: cst.FunctionDef) -> cst.FunctionDef:
    """`optimizer.step()` runs the training step now, which needs the closure."""
    names = parameters(function)
    closure = names[3] if len(names) > 3 else "optimizer_closure"
    if len(names) == 3 and not takes_any(function):
        function = with_parameters(function, [closure])
    if uses(function.body, closure) or takes_any(function) or len(names) < 3:
        return function
    steps = [
        node
        for node in scope_nodes(function)
        if (call := method_call(node)) is not None and call[1] == "step" and dotted(call[0]) == names[2]
    ]
    with_closure = become(cst.parse_expression(f"{names[2]}.step(closure={closure})"))
    return edit(function, dict.fromkeys(steps, with_closure))


def _super_calls(function: cst.FunctionDef, name: str) -> list[cst.Call]:
    return [node for node in scope_nodes(function)
            if isinstance(node, cst.Call) and (call := method_call(node)) is not None and call[1] == name]  # fmt: skip


def _without(gone: list[str]) -> Change:
    def shorter(call: cst.CSTNode) -> Changed:
        assert isinstance(call, cst.Call)
        kept = [
            arg
            for arg in call.args
            if not (arg.keyword is not None and arg.keyword.value in gone) and dotted(arg.value) not in gone
        ]
        if kept:
            kept[-1] = kept[-1].with_changes(comma=call.args[-1].comma)
        return call.with_changes(args=kept)

    return shorter


def _every(function: cst.FunctionDef, word: str) -> list[cst.Name]:
    attributes = {node.attr for node in walk(function) if isinstance(node, cst.Attribute)}
    return [
        node for node in walk(function) if isinstance(node, cst.Name) and node.value == word and node not in attributes
    ]


def _longer(function: cst.FunctionDef, log: Log) -> cst.FunctionDef:
    count, added = _GREW[function.name.value]
    if len(parameters(function)) != count or takes_any(function):
        return function
    new = with_parameters(function, [added])
    new = edit(new, {call: _with(added) for call in _super_calls(new, function.name.value)})
    log.rewrote(function, f"{function.name.value} without {added}", f"with {added}")
    return new


def _with(name: str) -> Change:
    def longer(call: cst.CSTNode) -> Changed:
        assert isinstance(call, cst.Call)
        return call.with_changes(args=[*call.args, cst.Arg(cst.Name(name))])

    return longer


def _call(call: cst.Call, log: Log) -> Change | None:
    """`self.manual_backward(loss, optimizer)` and `self.manual_optimizer_step(optimizer)`."""
    name, given = dotted(call.func), arguments(call)
    if name == "self.manual_backward":
        if any(_is_optimizer(arg) for arg in call.args[1:]):
            log.rewrote(call, "manual_backward(loss, optimizer)", "manual_backward(loss)")
            return _without_optimizer
    elif name == "self.manual_optimizer_step" and given.get(0, "optimizer") is not None:
        log.rewrote(call, "manual_optimizer_step(optimizer)", "optimizer.step()")
        optimizer = given.get(0, "optimizer")
        assert optimizer is not None
        return become(cst.Call(cst.Attribute(optimizer, cst.Name("step"))))
    elif name == "self.toggle_optimizer" and len(call.args) == 2:
        log.rewrote(call, "toggle_optimizer(optimizer, optimizer_idx)", "toggle_optimizer(optimizer)")
        return into(args=[call.args[0].with_changes(comma=cst.MaybeSentinel.DEFAULT)])
    elif name == "self.untoggle_optimizer" and isinstance(given.get(0, "optimizer_idx"), cst.Integer):
        log.rewrote(call, "untoggle_optimizer(optimizer_idx)", "untoggle_optimizer(optimizer)")
        index = code(call.args[0].value)
        return become(cst.parse_expression(f"self.untoggle_optimizer(self.optimizers()[{index}])"))
    return None


def _is_optimizer(arg: cst.Arg) -> bool:
    """The second positional argument, or one of the keywords that 1.x had."""
    return not arg.star and (arg.keyword is None or arg.keyword.value in ("optimizer", "optimizer_idx"))


def _without_optimizer(call: cst.CSTNode) -> Changed:
    assert isinstance(call, cst.Call)
    kept = [call.args[0], *(arg for arg in call.args[1:] if not _is_optimizer(arg))]
    kept[-1] = kept[-1].with_changes(comma=call.args[-1].comma)
    return call.with_changes(args=kept)
