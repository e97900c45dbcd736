"""Arguments of `Trainer(...)` that 1.x had: today's arguments, a callback, or nothing where nothing is left to say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import libcst as cst

from lightify.syntax.query import code, dotted
from lightify.upgrade.base import Log
from lightify.upgrade.edit import Change, argument, become, edit, with_arguments
from lightify.upgrade.names import with_imports
from lightify.upgrade.script import Script

RENAMED = {
    "overfit_pct": "overfit_batches",
    "row_log_interval": "log_every_n_steps",
    "nb_sanity_val_steps": "num_sanity_val_steps",
    "replace_sampler_ddp": "use_distributed_sampler",
    "train_percent_check": "limit_train_batches",
    "val_percent_check": "limit_val_batches",
    "test_percent_check": "limit_test_batches",
    "max_nb_epochs": "max_epochs",
    "min_nb_epochs": "min_epochs",
    "gradient_clip": "gradient_clip_val",
    "nb_gpu_nodes": "num_nodes",
    "weights_save_path": "default_root_dir",
}
#: What is left out, whatever it says, and what to write for those who want it.
DROPPED = {
    "auto_select_gpus": "`devices` picks free GPUs by itself",
    "log_save_interval": "`CSVLogger(flush_logs_every_n_steps=...)`",
    "flush_logs_every_n_steps": "`CSVLogger(flush_logs_every_n_steps=...)`",
    "amp_level": "nothing: it belonged to apex",
    "move_metrics_to_cpu": "nothing: values leave the device when they are read",
    "truncated_bptt_steps": "the loop over pieces in `training_step`",
    "auto_lr_find": "`Tuner(trainer).lr_find(model)`",
    "auto_scale_batch_size": "`Tuner(trainer).scale_batch_size(model)`",
}
_STRATEGIES = {"ddp", "ddp_spawn", "ddp_find_unused_parameters_true", "fsdp", "deepspeed"}
_NOT_AN_ACCELERATOR = {*_STRATEGIES, "dp", "ddp2", "ddp_cpu", "horovod", "ddp_sharded"}
_PURE = ("torch.cuda.", "len", "int", "min", "max", "bool", "os.environ.get", "os.getenv", "getattr")


@dataclass
class _Call:
    """One `Trainer(...)` while its arguments are rewritten."""

    script: Script
    node: cst.Call
    log: Log
    arguments: dict[str, cst.Arg]  # in order; a positional or starred one under its number
    callbacks: list[cst.BaseExpression] = field(default_factory=list)
    progress: dict[str, cst.BaseExpression] = field(default_factory=dict)  # of TQDMProgressBar
    imports: list[str] = field(default_factory=list)

    def value(self, name: str) -> cst.BaseExpression:
        return self.arguments[name].value

    def literal(self, name: str) -> str:
        """The text of a value; a name by what it is assigned, when that happens once."""
        value = self.value(name)
        known = self.script.assigned(value.value) if isinstance(value, cst.Name) else []
        return code(known[0] if len(known) == 1 else value).strip("'\"")

    def replace(self, name: str, new: dict[str, cst.BaseExpression], instead: str = "") -> None:
        """Puts arguments in the place of one; one that is given already wins."""
        old = self.arguments[name]
        rows: list[tuple[str, cst.Arg]] = []
        for key, arg in self.arguments.items():
            if key != name:
                rows.append((key, arg))
                continue
            for number, (word, value) in enumerate((w, v) for w, v in new.items() if w not in self.arguments):
                changed = old.with_changes(keyword=cst.Name(word), value=value)
                rows.append((word, changed if number == 0 else argument(word, value)))
        self.arguments = dict(rows)
        shown = ", ".join(f"{word}={code(value)}" for word, value in new.items()) or instead
        self.log.rewrote(old, f"Trainer({name}={code(old.value)})", shown)

    def refuse(self, name: str, reason: str, hint: str) -> None:
        self.log.refuse(self.arguments[name], f"`{name}`: {reason}", hint, "LF502")

    def add_callback(self, text: str, name: str) -> None:
        self.callbacks.append(cst.parse_expression(text))
        self.imports.append(f"callbacks.{text.partition('(')[0]}")
        self.replace(name, {}, f"callbacks=[{text}]")


def rewrite(script: Script, log: Log) -> cst.Module:
    edits: dict[cst.CSTNode, Change] = {}
    imports: list[str] = []
    calls = script.trainer_calls()
    for node in calls:
        for arg in node.args:
            if arg.star and script.package == "pytorch_lightning" and script.dict_call(arg.value) is None:
                log.note(arg, f"the arguments in `{code(arg.value)}` were not looked at: they are made elsewhere",
                         "see that they are today's (docs/upgrade.md)", "LF503")  # fmt: skip
        given = {arg.keyword.value if arg.keyword else str(place): arg for place, arg in enumerate(node.args)}
        call = _Call(script, node, log, given)
        for name in sorted(given, key=lambda name: name not in ("accelerator", "distributed_backend")):
            if name in RULES and name in call.arguments:
                RULES[name](call, name)
        _add_callbacks(call)
        if list(call.arguments.values()) != list(given.values()):
            edits[node] = become(with_arguments(node, list(call.arguments.values())))
            imports += call.imports
    return with_imports(edit(script.module, edits), imports)


def _add_callbacks(call: _Call) -> None:
    if call.progress:
        given = ", ".join(f"{name}={code(value)}" for name, value in call.progress.items())
        call.callbacks.append(cst.parse_expression(f"TQDMProgressBar({given})"))
        call.imports.append("callbacks.TQDMProgressBar")
    if not call.callbacks:
        return
    added = ", ".join(code(callback) for callback in call.callbacks)
    present = call.arguments.get("callbacks")
    if present is None or code(present.value) == "None":
        value = cst.parse_expression(f"[{added}]")
        call.arguments["callbacks"] = present.with_changes(value=value) if present else argument("callbacks", value)
    elif isinstance(present.value, cst.List):
        elements = [*present.value.elements]
        if elements:
            elements[-1] = elements[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
        new = [cst.Element(callback) for callback in call.callbacks]
        call.arguments["callbacks"] = present.with_changes(value=present.value.with_changes(elements=[*elements, *new]))
    elif isinstance(present.value, (cst.Name, cst.Attribute)) and all(
        isinstance(value, cst.List) for value in call.script.assigned(dotted(present.value) or "")
    ) and call.script.assigned(dotted(present.value) or ""):  # fmt: skip
        call.arguments["callbacks"] = present.with_changes(
            value=cst.parse_expression(f"[*{code(present.value)}, {added}]")
        )
    else:
        call.refuse("callbacks", "whether it is one callback or a list cannot be read", "give a list")


def _rename(call: _Call, name: str) -> None:
    call.replace(name, {RENAMED[name]: call.value(name)} if call.literal(name) != "None" else {}, "nothing")


def _drop(call: _Call, name: str) -> None:
    if name == "amp_level" and "amp_backend" in call.arguments and call.literal("amp_backend") == "apex":
        return  # refused there
    call.replace(name, {}, DROPPED[name])


def _gpus(call: _Call, name: str) -> None:
    value, text = call.value(name), call.literal(name)
    if "devices" in call.arguments:
        call.refuse(name, "`devices` is given as well", "leave out one of them")
    elif text in ("None", "0", "[]"):
        call.replace(name, {"accelerator": cst.parse_expression('"cpu"')})
    elif isinstance(value, (cst.Integer, cst.UnaryOperation, cst.SimpleString, cst.List)):
        call.replace(name, {"accelerator": cst.parse_expression('"gpu"'), "devices": value})
    elif isinstance(value, cst.IfExp) and code(value.orelse) in ("None", "0") and isinstance(value.body, cst.Integer):
        test, count = code(value.test), code(value.body)
        devices = count if count == "1" else f"{count} if {test} else 1"
        call.replace(
            name,
            {
                "accelerator": cst.parse_expression(f'"gpu" if {test} else "cpu"'),
                "devices": cst.parse_expression(devices),
            },
        )
    elif text == "int(torch.cuda.is_available())":
        gpu = cst.parse_expression('"gpu" if torch.cuda.is_available() else "cpu"')
        call.replace(name, {"accelerator": gpu, "devices": cst.Integer("1")})
    elif _is_pure(value):
        shown = code(value) if not isinstance(value, (cst.IfExp, cst.BooleanOperation)) else f"({code(value)})"
        new = {
            "accelerator": cst.parse_expression(f'"gpu" if {shown} else "cpu"'),
            "devices": cst.parse_expression(f"{shown} or 1"),
        }
        call.replace(name, new)
    else:
        call.refuse(name, "its value has to be read twice, and reading it may do something", "give it a name first")


def _is_pure(value: cst.BaseExpression) -> bool:
    """Whether an expression may be evaluated twice."""
    if isinstance(value, cst.Call):
        return (dotted(value.func) or "").startswith(_PURE) and all(_is_pure(arg.value) for arg in value.args)
    if isinstance(value, cst.IfExp):
        return all(map(_is_pure, (value.test, value.body, value.orelse)))
    if isinstance(value, (cst.BinaryOperation, cst.BooleanOperation)):
        return _is_pure(value.left) and _is_pure(value.right)
    if isinstance(value, cst.Subscript):
        return _is_pure(value.value)
    return dotted(value) is not None or isinstance(value, (cst.BaseNumber, cst.BaseString, cst.Comparison))


def _num_processes(call: _Call, name: str) -> None:
    new: dict[str, cst.BaseExpression] = {"devices": call.value(name)}
    if "gpus" in call.arguments or call.literal(name) == "None":
        new = {}
    elif "accelerator" not in call.arguments or call.literal("accelerator") in _NOT_AN_ACCELERATOR:
        new = {"accelerator": cst.parse_expression('"cpu"'), **new}
    call.replace(name, new, "nothing")


def _tpu_cores(call: _Call, name: str) -> None:
    if call.literal(name) == "None":
        call.replace(name, {}, "nothing")
    else:
        call.refuse(name, "there is no TPU engine", "use accelerator='cpu' or 'gpu'")


def _strategy(call: _Call, name: str) -> None:
    """`distributed_backend=`, and `accelerator=` as long as it named a strategy."""
    text = call.literal(name)
    if name == "accelerator" and text not in _NOT_AN_ACCELERATOR:
        return
    if text == "None":
        call.replace(name, {}, "nothing")
    elif text == "ddp_cpu":
        new = {"accelerator": cst.parse_expression('"cpu"'), "strategy": cst.parse_expression('"ddp_spawn"')}
        if name == "accelerator":
            call.arguments = {f"old {k}" if k == name else k: v for k, v in call.arguments.items()}
            name = "old accelerator"
        call.replace(name, new)
    elif text in _STRATEGIES or (name == "distributed_backend" and not isinstance(call.value(name), cst.SimpleString)):
        call.replace(name, {"strategy": _or_auto(call.value(name))})
    else:
        call.refuse(name, f"the strategy '{text}' is gone", "use strategy='ddp'")


def _or_auto(value: cst.BaseExpression) -> cst.BaseExpression:
    """No strategy was None, and is "auto"."""
    if isinstance(value, cst.SimpleString):
        return value
    if isinstance(value, cst.IfExp) and isinstance(value.body, cst.SimpleString) and code(value.orelse) == "None":
        return value.with_changes(orelse=cst.parse_expression('"auto"'))
    return cst.parse_expression(f'{code(value)} or "auto"' if dotted(value) else f'({code(value)}) or "auto"')


def _checkpoint_callback(call: _Call, name: str) -> None:
    value, text = call.value(name), call.literal(name)
    if text in ("True", "False", "None"):
        flag = cst.parse_expression("True" if text == "True" else "False")
        call.replace(
            name, {"enable_checkpointing": flag if isinstance(value, cst.Name) and text == value.value else value}
        )
        return
    _as_callback(call, name)


def _early_stop_callback(call: _Call, name: str) -> None:
    if call.literal(name) in ("None", "False"):
        call.replace(name, {}, "nothing")
    else:
        _as_callback(call, name)


def _as_callback(call: _Call, name: str) -> None:
    """A value that is a callback goes into the list of callbacks."""
    value = call.value(name)
    known = call.script.assigned(value.value) if isinstance(value, cst.Name) else [value]
    if known and all(isinstance(made, cst.Call) for made in known):
        call.callbacks.append(value)
        call.replace(name, {}, f"callbacks=[{code(value)}]")
    else:
        call.refuse(name, f"whether `{code(value)}` is a callback cannot be read", "put it into `callbacks` by hand")


def _weights_summary(call: _Call, name: str) -> None:
    text = call.literal(name)
    if text == "None":
        call.replace(name, {"enable_model_summary": cst.parse_expression("False")})
    elif text == "top":
        call.replace(name, {"enable_model_summary": cst.parse_expression("True")})
    elif text == "full":
        call.add_callback("ModelSummary(max_depth=-1)", name)
    else:
        call.refuse(name, f"`{text}` cannot be read", "add a ModelSummary callback")


def _refresh_rate(call: _Call, name: str) -> None:
    if call.literal(name) == "0":
        call.replace(name, {"enable_progress_bar": cst.parse_expression("False")})
    elif call.literal(name) == "None":
        call.replace(name, {}, "nothing")
    else:
        _into_progress_bar(call, name, "refresh_rate")


def _process_position(call: _Call, name: str) -> None:
    if call.literal(name) == "0":
        call.replace(name, {}, "nothing")
    else:
        _into_progress_bar(call, name, "process_position")


def _into_progress_bar(call: _Call, name: str, argument_name: str) -> None:
    value = call.value(name)
    call.progress[argument_name] = value
    call.replace(name, {}, f"callbacks=[TQDMProgressBar({argument_name}={code(value)})]")


def _resume(call: _Call, name: str) -> None:
    """What `trainer_calls` could not give to `fit`."""
    if call.literal(name) == "None":
        call.replace(name, {}, "nothing")
    else:
        call.refuse(name, "the `fit` of this Trainer is in another place", "give it to `trainer.fit(ckpt_path=...)`")


def _switch(new: str, when_on: str) -> Callable[[_Call, str], None]:
    def switch(call: _Call, name: str) -> None:
        text = call.literal(name)
        if text in ("False", "None"):
            call.replace(name, {}, "nothing")
        elif text == "True":
            call.replace(name, {new: cst.parse_expression(when_on)})
        else:
            call.refuse(name, f"`{text}` cannot be read", f"write {new}={when_on} where it is wanted")

    return switch


def _only(allowed: tuple[str, ...], hint: str) -> Callable[[_Call, str], None]:
    """Left out when it says what happens anyway."""

    def only(call: _Call, name: str) -> None:
        if call.literal(name) in allowed:
            call.replace(name, {}, "nothing: it is so anyway")
        else:
            call.refuse(name, "this has no argument any more", hint)

    return only


def _log_gpu_memory(call: _Call, name: str) -> None:
    if call.literal(name) in ("None", "False"):
        call.replace(name, {}, "nothing")
    else:
        call.add_callback("DeviceStatsMonitor()", name)


def _amp(call: _Call, name: str) -> None:
    """`use_amp=True`, `amp_backend="native"`."""
    if name == "amp_backend":
        if call.literal(name) in ("native", "None"):
            call.replace(name, {}, "nothing")
        else:
            call.refuse(name, "apex is gone", "use precision='16-mixed'")
    else:
        _switch("precision", '"16-mixed"')(call, name)


def _every_epoch(call: _Call, name: str) -> None:
    _switch("reload_dataloaders_every_n_epochs", "1")(call, name)


#: One rule for each argument of 1.x.
RULES: dict[str, Callable[[_Call, str], None]] = {
    **dict.fromkeys(RENAMED, _rename),
    **dict.fromkeys(DROPPED, _drop),
    "gpus": _gpus,
    "num_processes": _num_processes,
    "tpu_cores": _tpu_cores,
    "distributed_backend": _strategy,
    "accelerator": _strategy,
    "checkpoint_callback": _checkpoint_callback,
    "early_stop_callback": _early_stop_callback,
    "weights_summary": _weights_summary,
    "progress_bar_refresh_rate": _refresh_rate,
    "process_position": _process_position,
    "resume_from_checkpoint": _resume,
    "terminate_on_nan": _switch("detect_anomaly", "True"),
    "reload_dataloaders_every_epoch": _every_epoch,
    "use_amp": _amp,
    "amp_backend": _amp,
    "log_gpu_memory": _log_gpu_memory,
    "track_grad_norm": _only(("-1",), "log grad_norm(self, 2) in `on_before_optimizer_step`"),
    "prepare_data_per_node": _only(("True",), "set it on the module or datamodule"),
    "multiple_trainloader_mode": _only(("max_size_cycle",), "give CombinedLoader(loaders, mode) to `fit`"),
}
