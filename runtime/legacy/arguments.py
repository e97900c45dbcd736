"""Arguments of the Trainer and of its methods, from the spelling of 1.x into that of today."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from ..callbacks.base import Callback
from ..callbacks.device_stats_monitor import DeviceStatsMonitor
from ..callbacks.early_stopping import EarlyStopping
from ..callbacks.model_summary import ModelSummary
from ..callbacks.progress import TQDMProgressBar
from ..errors import MisconfigurationException
from .hooks import GradientNorms
from .said import instead

# Arguments that only changed their name.
RENAMED = {
    "distributed_backend": "strategy",
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
# Arguments that have no successor, and what to write instead.
DROPPED = {
    "auto_select_gpus": "`devices` picks free GPUs by itself",
    "log_save_interval": "`CSVLogger(flush_logs_every_n_steps=...)`",
    "flush_logs_every_n_steps": "`CSVLogger(flush_logs_every_n_steps=...)`",
    "amp_level": "`precision='16-mixed'`",
    "amp_backend": "`precision='16-mixed'`",
    "move_metrics_to_cpu": "nothing: values leave the device when they are read",
}


def modern_arguments(given: dict[str, Any], known: list[str]) -> dict[str, Any]:
    """Trainer arguments in today's spelling.

    Raises:
        MisconfigurationException: an argument needs an engine that does not exist here.
        TypeError: no version of the Trainer has such an argument.
    """
    arguments = {name: value for name, value in given.items() if name in known}
    added: list[Callback] = []
    progress: dict[str, Any] = {}
    for name, value in sorted(given.items(), key=lambda item: item[0] != "gpus"):  # it beats num_processes
        if name in known:
            continue
        if name == "tpu_cores":
            if value is not None:
                message = "`tpu_cores`: there is no TPU engine here. Use accelerator='cpu' or 'gpu'."
                raise MisconfigurationException(message)
            instead("Trainer(tpu_cores=...)", "nothing")
        elif name in SPECIAL:
            spelling, become = SPECIAL[name]
            instead(f"Trainer({name}=...)", spelling)
            for new, translated in become(value).items():
                if new == "callbacks":
                    added.append(translated)
                elif new in ("refresh_rate", "process_position"):
                    progress[new] = translated
                else:
                    arguments.setdefault(new, translated)
        elif name in RENAMED:
            new = RENAMED[name]
            instead(f"Trainer({name}=...)", f"`Trainer({new}=...)`")
            if value is not None:
                arguments[new] = value
        elif name in DROPPED:
            instead(f"Trainer({name}=...)", DROPPED[name])
        else:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean `{close[0]}`?" if close else ""
            raise TypeError(f"Trainer.__init__() got an unexpected keyword argument '{name}'.{hint}")
    if progress:
        added.append(TQDMProgressBar(**progress))
    if added:
        present = arguments.get("callbacks") or []
        arguments["callbacks"] = [*(present if isinstance(present, list) else [present]), *added]
    return arguments


def _gpus(value: Any) -> dict[str, Any]:
    return {"accelerator": "cpu"} if value in (None, 0, "0", []) else {"accelerator": "gpu", "devices": value}


def _checkpoint_callback(value: Any) -> dict[str, Any]:
    return {"enable_checkpointing": bool(value)} if value is None or isinstance(value, bool) else {"callbacks": value}


def _weights_summary(value: Any) -> dict[str, Any]:
    return {"callbacks": ModelSummary(max_depth=-1)} if value == "full" else {"enable_model_summary": value is not None}


def _refresh_rate(value: Any) -> dict[str, Any]:
    return {"enable_progress_bar": False} if value == 0 else {} if value is None else {"refresh_rate": value}


def _early_stop(value: Any) -> dict[str, Any]:
    return {"callbacks": EarlyStopping("val_loss") if value is True else value} if value else {}


def _track_grad_norm(value: Any) -> dict[str, Any]:
    return {"callbacks": GradientNorms(value)} if value not in (None, -1) else {}


def _kept(name: str) -> Callable[[Any], dict[str, Any]]:
    """For what is no argument any more: the Trainer keeps it for the adapter, under a name that nobody can pass."""
    return lambda value: {f"_{name}": value}


def _switch(name: str, when_on: Any) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: when_on} if value else {}


# Arguments that are said in another way, and the arguments that say it; `callbacks` adds one.
SPECIAL: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    "gpus": ("`Trainer(accelerator='gpu', devices=...)`", _gpus),
    "num_processes": ("`Trainer(accelerator='cpu', devices=...)`", lambda value: {"devices": value}),
    "checkpoint_callback": ("`Trainer(enable_checkpointing=...)`", _checkpoint_callback),
    "early_stop_callback": ("`callbacks=[EarlyStopping(...)]`", _early_stop),
    "weights_summary": ("`Trainer(enable_model_summary=...)`", _weights_summary),
    "resume_from_checkpoint": ("`trainer.fit(ckpt_path=...)`", _kept("resume_from_checkpoint")),
    "track_grad_norm": ("`self.log_dict(grad_norm(self, 2))` in `on_before_optimizer_step`", _track_grad_norm),
    "prepare_data_per_node": (
        "`prepare_data_per_node` of the module or datamodule",
        _kept("prepare_data_per_node"),
    ),
    "auto_lr_find": ("`Tuner(trainer).lr_find(model)`", _kept("auto_lr_find")),
    "auto_scale_batch_size": ("`Tuner(trainer).scale_batch_size(model)`", _kept("auto_scale_batch_size")),
    "multiple_trainloader_mode": (
        "`CombinedLoader(loaders, mode)` as the training data",
        _kept("multiple_trainloader_mode"),
    ),
    "truncated_bptt_steps": ("manual optimization with a loop over the pieces", _kept("truncated_bptt_steps")),
    "progress_bar_refresh_rate": ("`callbacks=[TQDMProgressBar(refresh_rate=...)]`", _refresh_rate),
    "process_position": (
        "`callbacks=[TQDMProgressBar(process_position=...)]`",
        lambda value: {"process_position": value} if value else {},
    ),
    "terminate_on_nan": (
        "`detect_anomaly=True`, or `callbacks=[EarlyStopping(check_finite=True)]`",
        _switch("detect_anomaly", True),
    ),
    "reload_dataloaders_every_epoch": (
        "`Trainer(reload_dataloaders_every_n_epochs=1)`",
        _switch("reload_dataloaders_every_n_epochs", 1),
    ),
    "use_amp": ("`Trainer(precision='16-mixed')`", _switch("precision", "16-mixed")),
    "log_gpu_memory": (
        "`callbacks=[DeviceStatsMonitor()]`",
        lambda value: {"callbacks": DeviceStatsMonitor()} if value else {},
    ),
}


def modern_loaders(older: dict[str, Any], **current: Any) -> list[Any]:
    """Loaders passed under the names of 1.x (``train_dataloader=``, ``test_dataloaders=``) in place of today's."""
    names = {"train_dataloader": "train_dataloaders", "val_dataloader": "val_dataloaders"}
    names |= {name: "dataloaders" for name in ("test_dataloaders", "val_dataloaders") if "dataloaders" in current}
    for name, value in older.items():
        new = names.get(name)
        if new not in current:
            raise TypeError(f"There is no argument `{name}`; the arguments for data are {', '.join(current)}.")
        instead(f"{name}=", f"`{new}=`")
        current[new] = value
    return list(current.values())
