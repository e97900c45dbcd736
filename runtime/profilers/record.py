"""Labels for module names in torch's profiles."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torch.autograd.profiler import record_function
from torch.utils.hooks import RemovableHandle


class RegisterRecordFunction:
    """Within the ``with`` block, every submodule's forward appears as ``[pl][module]<class>: <name>``."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._open: dict[str, record_function] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> None:
        for name, module in self._model.named_modules():
            if not name:
                continue
            label = f"[pl][module]{type(module).__module__}.{type(module).__name__}: {name}"
            self._handles.append(module.register_forward_pre_hook(partial(self._start, label)))
            self._handles.append(module.register_forward_hook(partial(self._stop, label)))

    def __exit__(self, *exc_info: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _start(self, label: str, module: nn.Module, inputs: Any) -> None:
        self._open[label] = record_function(label)
        self._open[label].__enter__()

    def _stop(self, label: str, module: nn.Module, inputs: Any, output: Any) -> None:
        self._open[label].__exit__(None, None, None)
