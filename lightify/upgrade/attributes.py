"""Attributes that are gone: `trainer.use_amp`, `trainer.proc_rank`, ..., and `self.hparams = hparams`."""

from __future__ import annotations

import libcst as cst

from lightify.query import code, dotted
from lightify.upgrade.base import Log
from lightify.upgrade.edit import Change, become, edit, expression, own_nodes
from lightify.upgrade.script import Script, methods

#: What an attribute of the Trainer is today; `{}` stands for the Trainer.
ATTRIBUTES: dict[str, str] = {
    "use_amp": '("mixed" in {}.precision)',
    "use_ddp": '(type({}.strategy).__name__ == "DDPStrategy")',
    "use_ddp2": "False",
    "use_dp": "False",
    "use_tpu": "False",
    "on_gpu": '({}.strategy.root_device.type == "cuda")',
    "num_gpus": '({0}.num_devices if {0}.strategy.root_device.type == "cuda" else 0)',
    "proc_rank": "{}.global_rank",
    "running_sanity_check": "{}.sanity_checking",
    "early_stop_callback": "{}.early_stopping_callback",
}
#: Those that modules had, too.
_OF_MODULES = ("use_amp", "use_ddp", "use_ddp2", "use_dp", "use_tpu", "on_gpu")


def rewrite(script: Script, log: Log) -> cst.Module:
    edits: dict[cst.CSTNode, Change] = {}
    stored = {target.target for node in script.nodes if isinstance(node, cst.Assign) for target in node.targets}
    for node in script.nodes:
        if isinstance(node, cst.Attribute) and node.attr.value in ATTRIBUTES and script.is_trainer(node.value):
            if node in stored:
                continue
            _replace(node, code(node.value), log, edits)
    for owner in script.modules:
        own = {dotted(node) for node in stored if (dotted(node) or "").startswith("self.")}
        for function in methods(owner).values():
            for node in own_nodes(function):
                name = (dotted(node) or "").removeprefix("self.")
                if isinstance(node, cst.Attribute) and name in _OF_MODULES and f"self.{name}" not in own:
                    _replace(node, "self.trainer", log, edits)
                elif isinstance(node, cst.SimpleStatementLine) and len(node.body) == 1:
                    _hyperparameters(node, log, edits)
    return edit(script.module, edits)


def _replace(node: cst.Attribute, trainer: str, log: Log, edits: dict[cst.CSTNode, Change]) -> None:
    text = ATTRIBUTES[node.attr.value].format(trainer)
    edits[node] = become(expression(text))
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
    edits[small] = become(cst.Expr(expression(text)))
    log.rewrote(line, code(small), text)
