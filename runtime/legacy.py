"""Forms of Lightning 1.x, accepted with a `DeprecationWarning` that names the new spelling. The one adapter for them.

Trainer arguments are translated before the Trainer is made; methods of modules are adapted for the time of one call.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS

from .callbacks.base import Callback
from .callbacks.device_stats_monitor import DeviceStatsMonitor
from .callbacks.model_summary import ModelSummary
from .callbacks.progress import TQDMProgressBar
from .errors import MisconfigurationException, WarningCache

_said = WarningCache()

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
    "track_grad_norm": "`grad_norm` in `on_before_optimizer_step`",
    "prepare_data_per_node": "`prepare_data_per_node` of the module or datamodule",
    "auto_lr_find": "`Tuner(trainer).lr_find(model)`",
    "auto_scale_batch_size": "`Tuner(trainer).scale_batch_size(model)`",
    "amp_level": "`precision='16-mixed'`",
    "amp_backend": "`precision='16-mixed'`",
    "move_metrics_to_cpu": "nothing: values leave the device when they are read",
    "multiple_trainloader_mode": "`CombinedLoader(loaders, mode)` as the training data",
    "truncated_bptt_steps": "manual optimization, or `self.truncated_bptt_steps` of the module",
}
# Methods of modules and callbacks that were renamed: when they are called, and under which name today.
EDGES = {
    "on_epoch_start": ("on_train_epoch_start", "on_validation_epoch_start", "on_test_epoch_start"),
    "on_epoch_end": ("on_train_epoch_end", "on_validation_epoch_end", "on_test_epoch_end"),
    "on_pretrain_routine_start": ("on_fit_start",),
    "on_pretrain_routine_end": ("on_train_start",),
    "on_batch_start": ("on_train_batch_start",),
    "on_batch_end": ("on_train_batch_end",),
}
STEPS = ("training_step", "validation_step", "test_step")


def _instead(old: str, new: str) -> None:
    _said.deprecation(f"`{old}` is Lightning 1.x; write {new} instead.")


# ---------------------------------------------------------------- Trainer arguments


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
            _instead("Trainer(tpu_cores=...)", "nothing")
        elif name in SPECIAL:
            spelling, become = SPECIAL[name]
            _instead(f"Trainer({name}=...)", spelling)
            for new, translated in become(value).items():
                if new == "callbacks":
                    added.append(translated)
                elif new in ("refresh_rate", "process_position"):
                    progress[new] = translated
                else:
                    arguments.setdefault(new, translated)
        elif name in RENAMED:
            new = RENAMED[name]
            _instead(f"Trainer({name}=...)", f"`Trainer({new}=...)`")
            if value is not None:
                arguments[new] = value
        elif name in DROPPED:
            _instead(f"Trainer({name}=...)", DROPPED[name])
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


def _switch(name: str, when_on: Any) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: when_on} if value else {}


# Arguments that are said in another way, and the arguments that say it; `callbacks` adds one.
SPECIAL: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    "gpus": ("`Trainer(accelerator='gpu', devices=...)`", _gpus),
    "num_processes": ("`Trainer(accelerator='cpu', devices=...)`", lambda value: {"devices": value}),
    "checkpoint_callback": ("`Trainer(enable_checkpointing=...)`", _checkpoint_callback),
    "early_stop_callback": ("`callbacks=[EarlyStopping(...)]`", lambda value: {"callbacks": value} if value else {}),
    "weights_summary": ("`Trainer(enable_model_summary=...)`", _weights_summary),
    "resume_from_checkpoint": ("`trainer.fit(ckpt_path=...)`", lambda value: {"_resume_from": value}),
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
        _instead(f"{name}=", f"`{new}=`")
        current[new] = value
    return list(current.values())


def old_attribute(trainer: Any, name: str) -> Any:
    """An attribute of 1.x Trainers.

    Raises:
        AttributeError: it never existed, or has no meaning any more.
    """
    found: dict[str, Callable[[], Any]] = {
        "use_amp": lambda: "mixed" in trainer.precision,
        "use_ddp": lambda: type(trainer.strategy).__name__ == "DDPStrategy",
        "use_ddp2": lambda: False,
        "use_dp": lambda: False,
        "use_tpu": lambda: False,
        "on_gpu": lambda: trainer.strategy.root_device.type == "cuda",
        "num_gpus": lambda: trainer.num_devices if trainer.strategy.root_device.type == "cuda" else 0,
        "proc_rank": lambda: trainer.global_rank,
        "running_sanity_check": lambda: trainer.sanity_checking,
        "early_stop_callback": lambda: trainer.early_stopping_callback,
    }
    if name not in found:
        raise AttributeError(f"'{type(trainer).__name__}' object has no attribute '{name}'")
    _instead(f"trainer.{name}", "the attribute of `trainer.strategy`, `trainer.precision` or the trainer that says it")
    return found[name]()


# ---------------------------------------------------------------- methods of modules


class OldHooks(Callback):
    """Calls the methods of 1.x modules and callbacks at their places, and collects what their epoch ends want."""

    def __init__(self, module: Any, callbacks: list[Callback]) -> None:
        self.module = module
        self.outputs: dict[str, list[list[Any]]] = {}
        self.epoch_ends = {stem: _own(module, f"{stem}_epoch_end") for stem in ("training", "validation", "test")}
        self.edges: dict[str, list[Callable[..., Any]]] = {}
        for old, places in EDGES.items():
            for owner in (*callbacks, module):
                method = _own(owner, old)
                if method is None:
                    continue
                _instead(f"{type(owner).__name__}.{old}", f"`{places[0]}`")
                arguments = () if owner is module else ("trainer", "module")
                for place in places:
                    self.edges.setdefault(place, []).append(functools.partial(_call_fitting, method, bool(arguments)))
        for stem, method in self.epoch_ends.items():
            if method is not None:
                place = "on_train_epoch_end" if stem == "training" else f"on_{stem}_epoch_end"
                _instead(f"{type(module).__name__}.{stem}_epoch_end", f"`{place}`")
        needed = {"on_train_batch_end"} if self.epoch_ends["training"] else set()
        needed |= {f"on_{stem}_batch_end" for stem in ("validation", "test") if self.epoch_ends[stem]}
        self.idle_hooks = frozenset({"on_train_batch_start", "on_train_batch_end"} - needed - self.edges.keys())

    @property
    def is_needed(self) -> bool:
        return bool(self.edges) or any(self.epoch_ends.values())

    def _edge(self, name: str, trainer: Any, *arguments: Any) -> None:
        for method in self.edges.get(name, ()):
            method(trainer, *arguments)

    def _collect(self, stem: str, outputs: Any, dataloader_idx: int = 0) -> None:
        if self.epoch_ends[stem] is None:
            return
        kept = self.outputs.setdefault(stem, [])
        while len(kept) <= dataloader_idx:
            kept.append([])
        kept[dataloader_idx].append(outputs)

    def _end(self, stem: str) -> None:
        method, kept = self.epoch_ends[stem], self.outputs.pop(stem, [[]])
        if method is not None:
            log_returned(self.module, method(kept[0] if len(kept) == 1 else kept))

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self._edge("on_fit_start", trainer)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._edge("on_train_start", trainer)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.outputs.pop("training", None)
        self._edge("on_train_epoch_start", trainer)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._edge("on_train_batch_start", trainer, batch)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._collect("training", outputs)
        self._edge("on_train_batch_end", trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._end("training")
        self._edge("on_train_epoch_end", trainer)

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._edge("on_validation_epoch_start", trainer)

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._collect("validation", outputs, dataloader_idx)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._end("validation")
        self._edge("on_validation_epoch_end", trainer)

    def on_test_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._edge("on_test_epoch_start", trainer)

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._collect("test", outputs, dataloader_idx)

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._end("test")
        self._edge("on_test_epoch_end", trainer)


def _own(owner: Any, name: str) -> Callable[..., Any] | None:
    method = getattr(owner, name, None)
    return method if callable(method) else None


def _call_fitting(method: Callable[..., Any], of_callback: bool, trainer: Any, *arguments: Any) -> None:
    """Calls a method with as many of the arguments that it may have had as it takes."""
    given = (trainer, trainer.lightning_module, *arguments) if of_callback else arguments
    method(*given[: len(inspect.signature(method).parameters)])


def log_returned(module: Any, returned: Any) -> None:
    """Logs the ``log`` and ``progress_bar`` entries of a returned dict, and other numbers for callbacks."""
    if not isinstance(returned, Mapping):
        return
    shown, logged = returned.get("progress_bar", {}), returned.get("log", {})
    if "log" in returned or "progress_bar" in returned:
        _instead("a returned dict with 'log' or 'progress_bar'", "`self.log(name, value, prog_bar=...)`")
    for name, value in {**shown, **logged}.items():
        module.log(name, value, prog_bar=name in shown, logger=name in logged)
    for name, value in returned.items():
        is_number = isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.numel() == 1)
        if is_number and name not in ("loss", *shown, *logged):
            module.log(name, value, logger=False)


def adapt(trainer: Any, module: Any) -> dict[str, Callable[..., Any]]:
    """Today's methods in place of those of 1.x, to be set on the module for the time of one call."""
    methods: dict[str, Callable[..., Any]] = {}
    if not module.automatic_optimization and not hasattr(module, "manual_optimizer_step"):
        methods["manual_optimizer_step"] = _step_by_hand
    for name in STEPS:
        ending = _own(module, f"{name}_end")
        if ending is not None and _own(module, name) is not None:
            _instead(f"{type(module).__name__}.{name}_end", f"its lines at the end of `{name}`")
            methods[name] = _then(getattr(module, name), ending)
    methods |= _adapt_optimizer_step(module) | _adapt_backward(trainer, module)
    if _own(module, "training_step") is None:
        return methods
    parameters = inspect.signature(module.training_step).parameters
    pieces = getattr(module, "truncated_bptt_steps", 0)
    if "optimizer_idx" in parameters or "hiddens" in parameters:
        step = methods.get("training_step", module.training_step)
        methods["training_step"] = _OptimizerLoop(trainer, module, step, parameters, pieces)
    return methods


def _step_by_hand(optimizer: Any, *arguments: Any, **keywords: Any) -> None:
    _instead("self.manual_optimizer_step(optimizer)", "`optimizer.step()`")
    optimizer.step()


@contextmanager
def adapted(trainer: Any, module: Any) -> Iterator[None]:
    """Lets a module in the form of 1.x run as one of today; leaves it as it was."""
    methods, old_hooks = adapt(trainer, module), OldHooks(module, trainer.callbacks)
    kept = {name: module.__dict__[name] for name in methods if name in module.__dict__}
    was_automatic = module.automatic_optimization
    callbacks = trainer.callbacks
    module.__dict__.update(methods)
    if isinstance(methods.get("training_step"), _OptimizerLoop):
        if trainer.accumulate_grad_batches != 1 or trainer.gradient_clip_val:
            raise MisconfigurationException(
                "`optimizer_idx` and `hiddens` in `training_step` run without accumulation and clipping. Set"
                " `automatic_optimization = False` and write both where you want them."
            )
        module.automatic_optimization = False
    if old_hooks.is_needed:
        trainer.callbacks = [old_hooks, *callbacks]
    try:
        yield
    finally:
        for name in methods:
            del module.__dict__[name]
        module.__dict__.update(kept)
        if module.automatic_optimization is not was_automatic:
            module.automatic_optimization = was_automatic
        if old_hooks in trainer.callbacks:
            trainer.callbacks = [callback for callback in trainer.callbacks if callback is not old_hooks]


def _then(step: Callable[..., Any], ending: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(step)
    def step_and_ending(*arguments: Any, **keywords: Any) -> Any:
        return ending(step(*arguments, **keywords))

    return step_and_ending


def _adapt_optimizer_step(module: Any) -> dict[str, Callable[..., Any]]:
    own = module.optimizer_step
    parameters = inspect.signature(own).parameters
    if not {"optimizer_idx", "optimizer_i", "second_order_closure", "on_tpu", "using_lbfgs"} & parameters.keys():
        return {}
    _instead("optimizer_step(..., optimizer_idx, ...)", "`optimizer_step(epoch, batch_idx, optimizer, closure)`")

    def optimizer_step(epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> Any:
        by_name = {
            "optimizer_idx": 0, "optimizer_i": 0, "optimizer_closure": optimizer_closure, "on_tpu": False,
            "second_order_closure": optimizer_closure, "using_native_amp": "mixed" in module.trainer.precision,
            "using_lbfgs": isinstance(getattr(optimizer, "optimizer", optimizer), LBFGS),
        }  # fmt: skip
        keywords = {name: value for name, value in by_name.items() if name in parameters}
        return own(epoch, batch_idx, optimizer, **keywords)

    return {"optimizer_step": optimizer_step}


def _adapt_backward(trainer: Any, module: Any) -> dict[str, Callable[..., Any]]:
    own = module.backward
    parameters = inspect.signature(own).parameters
    if "optimizer" not in parameters:
        return {}
    _instead("backward(self, loss, optimizer, ...)", "`backward(self, loss)`")

    def backward(loss: Tensor, *arguments: Any, **keywords: Any) -> None:
        by_name = {"optimizer": trainer.optimizers[0] if trainer.optimizers else None, "optimizer_idx": 0}
        own(loss, **{name: value for name, value in by_name.items() if name in parameters})

    return {"backward": backward}


class _OptimizerLoop:
    """`training_step` for each optimizer in turn, or for each piece of a sequence; steps by itself."""

    def __init__(
        self, trainer: Any, module: Any, step: Callable[..., Any], parameters: Mapping[str, Any], pieces: int
    ) -> None:
        self.trainer, self.module, self.step, self.pieces = trainer, module, step, pieces
        self.takes_index, self.takes_hiddens = "optimizer_idx" in parameters, "hiddens" in parameters
        if self.takes_index:
            _instead("training_step(..., optimizer_idx)", "`automatic_optimization = False` and `self.optimizers()`")
        if self.takes_hiddens:
            _instead("truncated_bptt_steps", "`automatic_optimization = False` and a loop over the pieces")

    def __call__(self, batch: Any, batch_idx: int) -> Any:
        optimizers = self.module.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        loss = None
        for piece, hiddens in self._split(batch):
            for index, optimizer in self._due(optimizers, batch_idx):
                self.module.toggle_optimizer(optimizer)
                keywords: dict[str, Any] = {"optimizer_idx": index} if self.takes_index else {}
                if self.takes_hiddens:
                    keywords["hiddens"] = hiddens[0]
                output = self.step(piece, batch_idx, **keywords)
                if isinstance(output, Mapping):
                    log_returned(self.module, {k: v for k, v in output.items() if k in ("log", "progress_bar")})
                    hiddens[0] = _detached(output.get("hiddens"))
                    output = output.get("loss")
                if output is not None:
                    optimizer.zero_grad()
                    self.module.manual_backward(output)
                    optimizer.step()
                    loss = output
                self.module.untoggle_optimizer(optimizer)
        for config in self.trainer.lr_scheduler_configs:
            self._step_scheduler(config, batch_idx)
        return loss

    def _split(self, batch: Any) -> Iterator[tuple[Any, list[Any]]]:
        hiddens: list[Any] = [None]
        if not self.takes_hiddens or not self.pieces:
            yield batch, hiddens
            return
        split = getattr(self.module, "tbptt_split_batch", None)
        parts = split(batch, self.pieces) if split is not None else _pieces(batch, self.pieces)
        for part in parts:
            yield part, hiddens

    def _due(self, optimizers: list[Any], batch_idx: int) -> list[tuple[int, Any]]:
        """All optimizers, or the one whose turn it is when they have frequencies."""
        frequencies = self.trainer._optimizer_frequencies
        if not frequencies:
            return list(enumerate(optimizers))
        place = batch_idx % sum(frequencies)
        for index, frequency in enumerate(frequencies):
            if place < frequency:
                return [(index, optimizers[index])]
            place -= frequency
        return []

    def _step_scheduler(self, config: Any, batch_idx: int) -> None:
        last = batch_idx + 1 == self.trainer.num_training_batches
        count = batch_idx + 1 if config.interval == "step" else self.trainer.current_epoch + 1
        if (config.interval == "step" or last) and count % config.frequency == 0:
            self.module.lr_scheduler_step(config.scheduler, None)


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, (list, tuple)):
        return type(value)(_detached(part) for part in value)
    return value


def _pieces(batch: Any, size: int) -> list[Any]:
    """A batch of sequences (B, T, ...) cut along T."""
    if isinstance(batch, Tensor):
        return list(torch.split(batch, size, dim=1)) if batch.ndim > 1 else [batch]
    parts = [_pieces(part, size) for part in batch]
    length = max(map(len, parts))
    return [type(batch)(part[i] if len(part) > 1 else part[0] for part in parts) for i in range(length)]
