"""Calls on a Trainer: loaders under their old names, `ckpt_path` for `resume_from_checkpoint`, `Tuner`, ..."""

from __future__ import annotations

import libcst as cst

from lightify.syntax.query import Changed, arguments, code, dotted, method_call
from lightify.upgrade.base import Log
from lightify.upgrade.edit import Change, argument, become, edit, with_arguments
from lightify.upgrade.names import with_imports
from lightify.upgrade.script import Script

#: method: old keyword to today's
LOADERS: dict[str, dict[str, str]] = {
    "fit": {"train_dataloader": "train_dataloaders", "val_dataloader": "val_dataloaders"},
    "validate": {"val_dataloaders": "dataloaders"},
    "test": {"test_dataloaders": "dataloaders"},
}
_TUNED = ("auto_scale_batch_size", "auto_lr_find")
_OFF = ("False", "None")


def rewrite(script: Script, log: Log) -> cst.Module:
    edits: dict[cst.CSTNode, Change] = {}
    imports: list[str] = []
    for node in script.nodes:
        if isinstance(node, cst.SimpleStatementLine) and len(node.body) == 1 and isinstance(node.body[0], cst.Expr):
            tuned = _tune(script, node.body[0].value, log)
            if tuned is not None:
                edits[node] = become(_several(node, tuned))
                imports += ["tuner.Tuner"] if tuned else []
    for call in script.calls():
        used = method_call(call)
        if used is None:
            continue
        receiver, name = used
        if name in LOADERS and script.is_trainer(receiver):
            old = [arg for arg in call.args if arg.keyword is not None and arg.keyword.value in LOADERS[name]]
            for arg in old:
                log.rewrote(arg, f"{name}({arg.keyword.value}=)", f"{LOADERS[name][arg.keyword.value]}=")  # type: ignore[union-attr]
            if old:
                edits[call] = _renaming(LOADERS[name])
        elif name == "get_model" and not call.args and script.is_trainer(receiver):
            edits[call] = become(cst.parse_expression(f"{code(receiver)}.lightning_module"))
            log.rewrote(call, code(call), f"{code(receiver)}.lightning_module")
        elif name == "lr_find" and _is_tuner(script, receiver):
            edits[call] = _lr_find
            imports.append("tuner.Tuner")
            log.rewrote(call, f"{code(receiver)}.lr_find", "Tuner(trainer).lr_find")
    for call in script.trainer_calls():
        value = arguments(call).keyword.get("resume_from_checkpoint")
        if value is None or code(value) == "None" or not fits_of(script, call):
            continue
        if any(other is not call and code(other) == code(call) for other in script.trainer_calls()):
            log.refuse(value, "two Trainers are made alike", "give ckpt_path to `fit`", "LF502")
            continue
        if dotted(value) is None and not isinstance(value, cst.SimpleString):
            log.refuse(
                value, "the checkpoint to resume is computed here and read in `fit`", "give it a name first", "LF502"
            )
            continue
        for fit in fits_of(script, call):
            edits[fit] = _with_path(value, edits.get(fit))
        kept = [arg for arg in call.args if arg.value is not value]
        edits[call] = become(with_arguments(call, kept))
        log.rewrote(value, "Trainer(resume_from_checkpoint=...)", f"fit(ckpt_path={code(value)})")
    return with_imports(edit(script.module, edits), imports)


def fits_of(script: Script, trainer: cst.Call) -> list[cst.Call]:
    """The `fit` calls of one Trainer, found by its name or on the spot."""
    names = {name for name, call in script.trainers.items() if call is trainer}
    found = []
    for call in script.calls():
        used = method_call(call)
        if used is not None and used[1] == "fit" and (dotted(used[0]) in names or used[0] is trainer):
            found.append(call)
    return found


def _with_path(value: cst.BaseExpression, before: Change | None) -> Change:
    def longer(call: cst.CSTNode) -> Changed:
        call = before(call) if before is not None else call  # type: ignore[assignment]
        assert isinstance(call, cst.Call)
        return with_arguments(call, [*call.args, argument("ckpt_path", value)])

    return longer


def _renaming(names: dict[str, str]) -> Change:
    def changed(call: cst.CSTNode) -> Changed:
        assert isinstance(call, cst.Call)
        return call.with_changes(args=_new_names(call, names))

    return changed


def _new_names(call: cst.Call, names: dict[str, str]) -> list[cst.Arg]:
    return [
        arg.with_changes(keyword=cst.Name(names[arg.keyword.value]))
        if arg.keyword is not None and arg.keyword.value in names
        else arg
        for arg in call.args
    ]


def _tune(script: Script, value: cst.BaseExpression, log: Log) -> list[str] | None:
    """`trainer.tune(model)` as what its Trainer's arguments asked for; [] when they asked for nothing."""
    used = method_call(value)
    if used is None or used[1] != "tune" or not script.is_trainer(used[0]):
        return None
    trainer, given = code(used[0]), [_argument(arg) for arg in value.args]  # type: ignore[attr-defined]
    made = script.trainers.get(trainer)
    if made is None:
        log.refuse(
            value, "the Trainer that tunes is made in another place", "call Tuner(trainer).lr_find(model)", "LF502"
        )
        return None
    calls = []
    for name in _TUNED:
        wanted = arguments(made).keyword.get(name)
        if wanted is None or code(wanted) in _OFF:
            continue
        text = code(wanted)
        if text != "True" and not isinstance(wanted, cst.SimpleString):
            log.refuse(wanted, f"`{name}={text}` cannot be read", f"call Tuner({trainer}) where it is wanted", "LF502")
            return None
        method = "scale_batch_size" if name == "auto_scale_batch_size" else "lr_find"
        option = {"auto_scale_batch_size": f"mode={text}", "auto_lr_find": f"attr_name={text}"}[name]
        calls.append(f"Tuner({trainer}).{method}({', '.join([*given, *([option] if text != 'True' else [])])})")
    log.rewrote(value, f"{trainer}.tune(...)", "; ".join(calls) or "nothing: its Trainer tunes nothing")
    return calls


def _argument(arg: cst.Arg) -> str:
    names = {"train_dataloader": "train_dataloaders"}
    text = code(arg.with_changes(comma=cst.MaybeSentinel.DEFAULT))
    return text.replace(arg.keyword.value, names.get(arg.keyword.value, arg.keyword.value), 1) if arg.keyword else text


def _several(line: cst.SimpleStatementLine, texts: list[str]) -> Changed:
    if not texts:
        return cst.RemoveFromParent()
    made = [line.with_changes(body=[cst.Expr(cst.parse_expression(text))]) for text in texts]
    return cst.FlattenSentinel([made[0], *(one.with_changes(leading_lines=()) for one in made[1:])])


def _is_tuner(script: Script, receiver: cst.BaseExpression) -> bool:
    """`trainer.tuner` and, in the oldest, the Trainer itself."""
    if isinstance(receiver, cst.Attribute) and receiver.attr.value == "tuner":
        receiver = receiver.value
    return script.is_trainer(receiver)


def _lr_find(call: cst.CSTNode) -> Changed:
    """1.x left the module's rate alone unless told otherwise."""
    assert isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute)
    receiver = call.func.value
    trainer = code(
        receiver.value if isinstance(receiver, cst.Attribute) and receiver.attr.value == "tuner" else receiver
    )
    args = _new_names(call, LOADERS["fit"])
    if "update_attr" not in arguments(call).keyword:
        args.append(argument("update_attr", cst.Name("False")))
    return with_arguments(call, args).with_changes(func=cst.parse_expression(f"Tuner({trainer}).lr_find"))
