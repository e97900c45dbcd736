"""Attributes that are gone: `trainer.use_amp`, `trainer.proc_rank`, ..., and `self.hparams = hparams`."""

from __future__ import annotations

from dataclasses import dataclass

import libcst as cst

from lightify.syntax.names import scope_nodes
from lightify.syntax.query import code, dotted
from lightify.upgrade.base import Log
from lightify.upgrade.edit import Change, become, edit
from lightify.upgrade.script import Script, methods

#: What an attribute of the Trainer is today; `{}` stands for the Trainer.
ATTRIBUTES: dict[str, str] = {
    "use_amp": '("mixed" in {}.precision)',
    "use_native_amp": '("mixed" in {}.precision)',
    "use_ddp": '(type({}.strategy).__name__ == "DDPStrategy")',
    "use_ddp2": "False",
    "use_dp": "False",
    "use_horovod": "False",
    "use_tpu": "False",
    "on_tpu": "False",
    "use_single_gpu": '({0}.num_devices == 1 and {0}.strategy.root_device.type == "cuda")',
    "on_gpu": '({}.strategy.root_device.type == "cuda")',
    "root_gpu": '({0}.strategy.root_device.index if {0}.strategy.root_device.type == "cuda" else None)',
    "num_gpus": '({0}.num_devices if {0}.strategy.root_device.type == "cuda" else 0)',
    "gpus": '({0}.num_devices if {0}.strategy.root_device.type == "cuda" else 0)',
    "num_processes": "{}.num_devices",
    "data_parallel_device_ids": '({0}.device_ids if {0}.strategy.root_device.type == "cuda" else None)',
    "distributed_backend": "{}.strategy.strategy_name",
    "training_type_plugin": "{}.strategy",
    "proc_rank": "{}.global_rank",
    "running_sanity_check": "{}.sanity_checking",
    "early_stop_callback": "{}.early_stopping_callback",
    "progress_bar_dict": "{}.progress_bar_metrics",
    "lr_schedulers": "[vars(config) for config in {}.lr_scheduler_configs]",
}
_SCHEDULER_FIELDS = ("scheduler", "name", "interval", "frequency", "reduce_on_plateau", "monitor", "strict")
#: Those that modules had, too.
_OF_MODULES = ("use_amp", "use_ddp", "use_ddp2", "use_dp", "use_tpu", "on_tpu", "on_gpu")


def rewrite(script: Script, log: Log) -> cst.Module:
    edits: dict[cst.CSTNode, Change] = {}
    stored = {target.target for node in script.nodes if isinstance(node, cst.Assign) for target in node.targets}
    entries = {entry.listed: entry for node in script.nodes if (entry := _scheduler_entry(node)) is not None}
    for node in script.nodes:
        if isinstance(node, cst.Attribute) and node.attr.value in ATTRIBUTES and script.is_trainer(node.value):
            if node in stored:
                continue
            if node in entries:
                entries[node].replace(log, edits)
            else:
                _replace(node, code(node.value), log, edits)
    for owner in script.modules:
        own = {dotted(node) for node in stored if (dotted(node) or "").startswith("self.")}
        for function in methods(owner).values():
            for node in scope_nodes(function):
                name = (dotted(node) or "").removeprefix("self.")
                if isinstance(node, cst.Attribute) and name in _OF_MODULES and f"self.{name}" not in own:
                    _replace(node, "self.trainer", log, edits)
                elif isinstance(node, cst.SimpleStatementLine) and len(node.body) == 1:
                    _hyperparameters(node, log, edits)
    return edit(script.module, edits)


@dataclass(frozen=True)
class _SchedulerEntry:
    """`trainer.lr_schedulers[0]["scheduler"]`: the dicts of 1.x are objects with fields of the same names."""

    whole: cst.Subscript
    listed: cst.Attribute
    index: str
    field: str

    def replace(self, log: Log, edits: dict[cst.CSTNode, Change]) -> None:
        text = f"{code(self.listed.value)}.lr_scheduler_configs[{self.index}].{self.field}"
        edits[self.whole] = become(cst.parse_expression(text))
        log.rewrote(self.whole, code(self.whole), text)


def _scheduler_entry(node: cst.CSTNode) -> _SchedulerEntry | None:
    if not isinstance(node, cst.Subscript) or not isinstance(node.value, cst.Subscript):
        return None
    listed, index, key = node.value.value, _index(node.value), _index(node)
    if not isinstance(listed, cst.Attribute) or listed.attr.value != "lr_schedulers" or index is None:
        return None
    field = key.raw_value if isinstance(key, cst.SimpleString) else ""
    return _SchedulerEntry(node, listed, code(index), field) if field in _SCHEDULER_FIELDS else None


def _index(node: cst.Subscript) -> cst.BaseExpression | None:
    (first, *more) = [element.slice for element in node.slice]
    return first.value if isinstance(first, cst.Index) and not more else None


def _replace(node: cst.Attribute, trainer: str, log: Log, edits: dict[cst.CSTNode, Change]) -> None:
    text = ATTRIBUTES[node.attr.value].format(trainer)
    edits[node] = become(cst.parse_expression(text))
    log.rewrote(node, code(node), text)


def _hyperparameters(line: cst.SimpleStatementLine, log: Log, edits: dict[cst.CSTNode, Change]) -> None:
    """`self.hparams = hparams`: the property cannot be set any more."""
    small = line.body[0]
    if (
        not isinstance(small, cst.Assign)
        or len(small.targets) != 1
        or dotted(small.targets[0].target) != "self.hparams"
    ):
        return
    text = f"self.save_hyperparameters({code(small.value)})"
    edits[small] = become(cst.Expr(cst.parse_expression(text)))
    log.rewrote(line, code(small), text)
