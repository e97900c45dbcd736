"""Runs a script as `__main__` and writes down how it trains; only child processes of `run.py` run this file.

    python tracer.py '{"folder": ..., "steps": ..., "seed": ...}' script.py [script's arguments]

Every process of the script appends to a file of its own in `folder`, one JSON list for each event:
`[kind, digest, number, name, path, line]` with kind "loss", "step", "evaluation" (a network's output without gradients
or in evaluation mode) or "output" (any other). Nothing in the script is changed: torch's global hooks see optimizer
steps and module calls; backward is wrapped, as it has no hook.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import multiprocessing
import multiprocessing.spawn
import os
import random
import sys
import sysconfig
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TextIO

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

# A script without optimizer steps may be one that updates its weights by hand; it is left after this many
# backward calls for each wanted step, enough for any accumulation window that does end in a step.
BACKWARDS_PER_STEP = 20
LIBRARIES = {"torch", "lightify", "lightning", "lightning_fabric", "pytorch_lightning", "torchmetrics"}
QUIET_IMPORTS = {*LIBRARIES - {"torch"}, "lightify.runtime", "lightning.pytorch"}
LIBRARY_FOLDERS = tuple({sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")})


# Digests


def content(tensor: torch.Tensor) -> bytes:
    """Returns the bytes of a tensor of any device, layout and type."""
    tensor = tensor.detach()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    tensor = tensor.cpu().resolve_conj().resolve_neg().contiguous()
    return ctypes.string_at(tensor.data_ptr(), tensor.numel() * tensor.element_size())


def digest(tensors: Iterable[torch.Tensor]) -> list[str]:
    return [hashlib.blake2b(content(tensor), digest_size=12).hexdigest() for tensor in tensors]


def joined(digests: Sequence[str]) -> str:
    if len(digests) == 1:
        return digests[0]
    return hashlib.blake2b("".join(digests).encode(), digest_size=12).hexdigest()


def total(tensors: Iterable[torch.Tensor]) -> float:
    return sum(float(tensor.detach().double().sum()) for tensor in tensors if not tensor.is_complex())


def tensors_in(value: object, depth: int = 4) -> Iterator[torch.Tensor]:
    """Yields the tensors of a network's output in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif depth and isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item, depth - 1)
    elif depth and isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item, depth - 1)


# Events


def carries_steps(module: torch.nn.Module) -> bool:
    """True for a LightningModule, and for the wrapper that calls its steps: neither is a network of the script."""
    inner = getattr(module, "module", None)
    return is_lightning(module) or (isinstance(inner, torch.nn.Module) and is_lightning(inner))


def is_lightning(module: torch.nn.Module) -> bool:
    return any(base.__name__ == "LightningModule" for base in type(module).__mro__)


def users_line() -> tuple[str, int]:
    """Returns the innermost line on the stack that belongs to no library."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        name = str(frame.f_globals.get("__name__", ""))
        ours = frame.f_globals is globals() or name.partition(".")[0] in LIBRARIES
        if not ours and not path.startswith(("<", *LIBRARY_FOLDERS)):
            return path, frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    return "", 0


class Recorder:
    """Writes the events of this process, and leaves it after the wanted number of optimizer steps."""

    def __init__(self, folder: str, steps: int | None) -> None:
        self.folder = folder
        self.wanted_steps = steps
        self.steps = 0
        self.losses = 0
        self.pid = 0
        self.file: TextIO | None = None
        self.local = threading.local()

    def write(self, kind: str, digest: str, number: float, name: str) -> None:
        if self.pid != os.getpid():  # the first event, or the first one after a fork
            self.pid = os.getpid()
            process = multiprocessing.current_process()
            rank = process.name.rpartition("-")[2] if multiprocessing.parent_process() else "0"
            path = os.path.join(self.folder, f"{rank.rjust(4, '0')}.trace")
            self.file = open(path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115  open as long as the process
        assert self.file is not None
        self.file.write(json.dumps([kind, digest, number, name, *users_line()]) + "\n")

    def step(self, optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = sum(float(parameter.detach().abs().double().pow(2).sum()) for parameter in parameters) ** 0.5
        self.write("step", joined(sorted(digest(parameters))), norm, type(optimizer).__name__)
        self.steps += 1
        if self.wanted_steps is not None and self.steps >= self.wanted_steps:
            leave()

    def backward(self, tensors: object) -> None:
        started_from = list(tensors_in(tensors))
        value = total(started_from)
        scalar = len(started_from) == 1 and started_from[0].numel() == 1
        self.write("loss", "" if scalar else joined(digest(started_from)), value, "")
        self.losses += 1

    def after_backward(self) -> None:
        if self.wanted_steps is None or self.steps:
            return
        if self.losses >= BACKWARDS_PER_STEP * self.wanted_steps:
            leave()

    def enter_module(self, module: torch.nn.Module, args: object) -> None:
        if not carries_steps(module):
            self.local.depth = getattr(self.local, "depth", 0) + 1

    def exit_module(self, module: torch.nn.Module, args: object, output: object) -> None:
        if carries_steps(module):
            return
        self.local.depth -= 1
        if self.local.depth:
            return
        # Losses and metrics are modules too; only those with parameters say something about the training.
        if next(module.parameters(), None) is None or type(module).__module__.startswith("torchmetrics"):
            return
        outputs = list(tensors_in(output))
        plain = all(type(tensor) in (torch.Tensor, torch.nn.Parameter) for tensor in outputs)
        if outputs and plain and not any(tensor.is_meta for tensor in outputs):
            kind = "output" if torch.is_grad_enabled() and module.training else "evaluation"
            self.write(kind, joined(digest(outputs)), total(outputs), type(module).__name__)


def leave() -> None:
    """Ends the process at once and successfully: the wanted steps are done."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


# Hooks


def watch(recorder: Recorder) -> None:
    register_optimizer_step_post_hook(recorder.step)
    register_module_forward_pre_hook(recorder.enter_module)
    register_module_forward_hook(recorder.exit_module, always_call=True)

    def wrapped(backward: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(backward)
        def traced_backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
            if getattr(recorder.local, "in_backward", False):  # Tensor.backward calls torch.autograd.backward
                return backward(tensors, *args, **kwargs)
            recorder.backward(tensors)
            recorder.local.in_backward = True
            try:
                backward(tensors, *args, **kwargs)
            finally:
                recorder.local.in_backward = False
            recorder.after_backward()

        return traced_backward

    torch.Tensor.backward = wrapped(torch.Tensor.backward)  # type: ignore[method-assign]
    torch.autograd.backward = wrapped(torch.autograd.backward)


def seed_all(seed: int) -> None:
    random.seed(seed)
    torch.manual_seed(seed)
    with contextlib.suppress(ImportError):
        import numpy

        numpy.random.seed(seed)


class QuietImports(importlib.abc.MetaPathFinder):
    """Keeps the random state still while a training library is imported: no script asked it to draw."""

    def __init__(self) -> None:
        self.searching: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in QUIET_IMPORTS or name in self.searching:
            return None
        self.searching.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.searching.discard(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def quiet_exec_module(module: types.ModuleType) -> None:
                states = random_states()
                try:
                    execute(module)
                finally:
                    restore_random_states(states)

            spec.loader.exec_module = quiet_exec_module  # type: ignore[method-assign]
        return spec


def random_states() -> tuple[Any, torch.Tensor, Any]:
    numpy = sys.modules.get("numpy")
    return random.getstate(), torch.get_rng_state(), numpy.random.get_state() if numpy else None


def restore_random_states(states: tuple[Any, torch.Tensor, Any]) -> None:
    random.setstate(states[0])
    torch.set_rng_state(states[1])
    if states[2] is not None:
        sys.modules["numpy"].random.set_state(states[2])


def trace_spawned_children(options: str) -> None:
    """Makes processes started by the "spawn" method run this file before their own work."""
    command_line = multiprocessing.spawn.get_command_line
    tracer = f"runpy.run_path({__file__!r}, run_name='lightify_tracer')"
    prefix = f"import runpy; {tracer}['install']({options!r}); "

    def traced_command_line(**kwargs: Any) -> list[str]:
        command = command_line(**kwargs)
        program = command.index("-c") + 1
        return [*command[:program], prefix + command[program], *command[program + 1 :]]

    multiprocessing.spawn.get_command_line = traced_command_line


def install(options: str) -> None:
    chosen = json.loads(options)
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    sys.meta_path.insert(0, QuietImports())
    trace_spawned_children(options)
    watch(Recorder(chosen["folder"], chosen["steps"]))
    seed_all(chosen["seed"])


def run_as_main(script: str) -> None:
    main = types.ModuleType("__main__")
    main.__file__ = script
    sys.modules["__main__"] = main
    with open(script, "rb") as file:
        program = compile(file.read(), script, "exec")
    exec(program, main.__dict__)


if __name__ == "__main__":
    install(sys.argv[1])
    del sys.argv[:2]
    sys.path[0] = os.path.dirname(sys.argv[0])
    keep_alive = sys.modules["__main__"]  # its functions are still called once another module has its name
    run_as_main(sys.argv[0])
