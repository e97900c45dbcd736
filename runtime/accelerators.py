"""Kinds of devices that a Trainer runs on, and the registry in which others add theirs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .errors import MisconfigurationException, rank_zero_warn

Devices = int | str | list[int]
KINDS_OF_INDICES = "Device IDs (GPU/TPU) must be an int, a string, a sequence of ints,"


class Accelerator(ABC):
    """One kind of device: how many there are, which were asked for, what is to do before and after a run."""

    @staticmethod
    @abstractmethod
    def parse_devices(devices: Any) -> Any:
        """`Trainer(devices=...)` as what `get_parallel_devices` takes."""

    @staticmethod
    @abstractmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        """The devices, one for each process of this machine."""

    @staticmethod
    @abstractmethod
    def auto_device_count() -> int:
        """How many `devices="auto"` means."""

    @staticmethod
    @abstractmethod
    def is_available() -> bool:
        """Whether this machine has one that works."""

    @staticmethod
    def name() -> str:
        """What `Trainer(accelerator=...)` calls it, when it registers itself."""
        return ""

    def setup_device(self, device: torch.device) -> None:
        """Makes `device` this process's own, before anything is put on it."""

    def setup(self, trainer: Any) -> None:
        """Runs at the start of each of the Trainer's methods."""

    def get_device_stats(self, device: torch.device | str | int) -> dict[str, Any]:
        """Current figures of the device, for logging."""
        return {}

    def teardown(self) -> None:
        """Frees what the device keeps for later use."""


class CPUAccelerator(Accelerator):
    """The processor; `devices` is the number of processes."""

    def setup_device(self, device: torch.device) -> None:
        if device.type != "cpu":
            raise MisconfigurationException(f"Device should be CPU, got {device} instead.")

    def get_device_stats(self, device: torch.device | str | int) -> dict[str, Any]:
        try:
            import psutil  # type: ignore[import-untyped]
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                "Fetching CPU device stats requires `psutil` to be installed. Try `pip install -U psutil`."
            ) from None
        return {
            "cpu_vm_percent": psutil.virtual_memory().percent,
            "cpu_percent": psutil.cpu_percent(),
            "cpu_swap_percent": psutil.swap_memory().percent,
        }

    @staticmethod
    def parse_devices(devices: Devices) -> int:
        if isinstance(devices, str) and devices.strip().isdigit():
            devices = int(devices)
        if isinstance(devices, bool) or not isinstance(devices, int) or devices <= 0:
            raise TypeError("`devices` selected with `CPUAccelerator` should be an int > 0.")
        return devices

    @staticmethod
    def get_parallel_devices(devices: Devices) -> list[torch.device]:
        return [torch.device("cpu")] * CPUAccelerator.parse_devices(devices)

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return "cpu"


class CUDAAccelerator(Accelerator):
    """NVIDIA's devices, and AMD's through ROCm."""

    def setup_device(self, device: torch.device) -> None:
        if device.type != "cuda":
            raise MisconfigurationException(f"Device should be CUDA, got {device} instead.")
        if torch.get_float32_matmul_precision() == "highest" and torch.cuda.get_device_capability(device) >= (8, 0):
            rank_zero_warn(
                f"{torch.cuda.get_device_name(device)} has Tensor Cores. To use them for 32-bit matrix products, set"
                " `torch.set_float32_matmul_precision('medium' | 'high')`, which trades precision for speed.",
                category=UserWarning,
            )
        torch.cuda.set_device(device)

    def get_device_stats(self, device: torch.device | str | int) -> dict[str, Any]:
        return torch.cuda.memory_stats(device)

    def teardown(self) -> None:
        torch.cuda.empty_cache()

    @staticmethod
    def parse_devices(devices: Devices) -> list[int]:
        return parse_indices(devices, list(range(torch.cuda.device_count())))

    @staticmethod
    def get_parallel_devices(devices: list[int]) -> list[torch.device]:
        return [torch.device("cuda", index) for index in devices]

    @staticmethod
    def auto_device_count() -> int:
        return torch.cuda.device_count()

    @staticmethod
    def is_available() -> bool:
        return torch.cuda.device_count() > 0

    @staticmethod
    def name() -> str:
        return "cuda"


class MPSAccelerator(Accelerator):
    """Apple's processors; one device."""

    def setup_device(self, device: torch.device) -> None:
        if device.type != "mps":
            raise MisconfigurationException(f"Device should be MPS, got {device} instead.")

    def get_device_stats(self, device: torch.device | str | int) -> dict[str, Any]:
        return {
            "mps_allocated_bytes": torch.mps.current_allocated_memory(),
            "mps_driver_bytes": torch.mps.driver_allocated_memory(),
        }

    @staticmethod
    def parse_devices(devices: Devices) -> list[int]:
        return parse_indices(devices, [0] if MPSAccelerator.is_available() else [])

    @staticmethod
    def get_parallel_devices(devices: list[int]) -> list[torch.device]:
        return [torch.device("mps", index) for index in devices]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return torch.backends.mps.is_available()

    @staticmethod
    def name() -> str:
        return "mps"


class XLAAccelerator(Accelerator):
    """Stands for TPUs, for which this runtime has no engine: never available."""

    @staticmethod
    def parse_devices(devices: Devices) -> Any:
        return devices

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return []

    @staticmethod
    def auto_device_count() -> int:
        return 0

    @staticmethod
    def is_available() -> bool:
        return False

    @staticmethod
    def name() -> str:
        return "tpu"


def parse_indices(devices: Any, available: list[int]) -> list[int]:
    """`devices` (a count, -1 or "-1" for all, a list, "0,1") as indices of `available` ones.

    Raises:
        TypeError, MisconfigurationException: It names none, one twice, or one that is not there.
    """
    hint = f"`devices` must be a count, a list of indices or -1, got {devices!r}."
    if isinstance(devices, bool) or not isinstance(devices, (int, str, Sequence)):
        raise TypeError(f"{hint} {KINDS_OF_INDICES} but you passed {type(devices).__name__}.")
    if isinstance(devices, str):
        parts = [part.strip() for part in devices.split(",") if part.strip()]
        if not parts or not all(part.lstrip("-").isdigit() for part in parts):
            raise MisconfigurationException(hint)
        numbers = [int(part) for part in parts]
        devices = numbers if "," in devices else numbers[0]
    if isinstance(devices, int):
        indices = list(available) if devices == -1 else list(range(devices))
    else:
        if any(isinstance(index, bool) or not isinstance(index, int) for index in devices):
            raise TypeError(f"{hint} {KINDS_OF_INDICES} but you passed a sequence of other things.")
        indices = list(devices)
    if not indices:
        raise MisconfigurationException("GPUs requested but none are available.")
    if len(set(indices)) != len(indices):
        raise MisconfigurationException("Device ID's (GPU) must be unique.")
    if not set(indices) <= set(available):
        raise MisconfigurationException(f"You requested gpu: {indices}\n But your machine only has: {available}")
    return indices


class Registry(dict[str, dict[str, Any]]):
    """Named classes with the arguments to make them; open for registration, as a call or as a decorator."""

    def __init__(self, kind: str, duplicate: type[Exception]) -> None:
        super().__init__()
        self.kind, self.duplicate = kind, duplicate

    def register(
        self,
        name: str,
        cls: Callable[..., Any] | None = None,
        description: str = "",
        override: bool = False,
        **init_params: Any,
    ) -> Callable[..., Any]:
        """Adds `cls` under `name`, to be made with `init_params`.

        Raises:
            The registry's own error: `name` is taken and `override` is not set.
        """
        if not isinstance(name, str):
            raise TypeError(f"`name` must be a str, found {name}")
        if name in self and not override:
            raise self.duplicate(f"'{name}' is already present in the registry. HINT: Use `override=True`.")

        def add(cls: Callable[..., Any]) -> Callable[..., Any]:
            self[name] = {
                self.kind: cls,
                f"{self.kind}_name": name,
                "description": description,
                "init_params": init_params,
            }
            return cls

        return add if cls is None else add(cls)

    def get(self, name: str, default: Any = None) -> Any:
        """A new object of what is registered under `name`."""
        if name in self:
            entry = self[name]
            return entry[self.kind](**entry["init_params"])
        if default is not None:
            return default
        raise KeyError(f"'{name}' not found in registry. Available names: {', '.join(sorted(self)) or 'none'}")

    def remove(self, name: str) -> None:
        self.pop(name)


class _Accelerators(Registry):
    def available_accelerators(self) -> set[str]:
        return set(self)


AcceleratorRegistry = _Accelerators("accelerator", MisconfigurationException)
for _accelerator in (CPUAccelerator, CUDAAccelerator, MPSAccelerator, XLAAccelerator):
    AcceleratorRegistry.register(_accelerator.name(), _accelerator, description=_accelerator.__name__)


def find_usable_cuda_devices(num_devices: int = -1) -> list[int]:
    """Indices of CUDA devices on which a tensor can be made; all of them for -1.

    Raises:
        RuntimeError: There are fewer than asked for.
    """
    usable = []
    for index in range(torch.cuda.device_count()):
        try:
            torch.tensor(0.0, device=torch.device("cuda", index))
        except RuntimeError:
            continue  # taken by a process that lets no other in
        usable.append(index)
        if len(usable) == num_devices:
            return usable
    if num_devices > len(usable):
        raise RuntimeError(f"You requested to find {num_devices} devices but only {len(usable)} are currently usable.")
    return usable


def resolve_accelerator(accelerator: str | Accelerator) -> Accelerator:
    """What `Trainer(accelerator=...)` names; "auto" is the best that is there, "gpu" the kind of GPU.

    Raises:
        ValueError: No accelerator is called so.
        MisconfigurationException: It is not there.
    """
    if not isinstance(accelerator, (str, Accelerator)) or (
        isinstance(accelerator, str) and accelerator not in {*AcceleratorRegistry, "auto", "gpu"}
    ):
        raise ValueError(
            f"You selected an invalid accelerator name: `accelerator={accelerator!r}`."
            f" Available names are: auto, {', '.join(sorted(AcceleratorRegistry))}."
        )
    if accelerator in ("auto", "gpu"):
        kinds = [kind for kind in (MPSAccelerator, CUDAAccelerator) if kind.is_available()]
        if kinds:
            return kinds[0]()
        if accelerator == "gpu":
            raise MisconfigurationException("No supported gpu backend found!")
        return CPUAccelerator()
    resolved = AcceleratorRegistry.get(accelerator) if isinstance(accelerator, str) else accelerator
    if not resolved.is_available():
        there = sorted(name for name, entry in AcceleratorRegistry.items() if entry["accelerator"].is_available())
        reason = " This runtime has no TPU engine." if isinstance(resolved, XLAAccelerator) else ""
        raise MisconfigurationException(
            f"`{type(resolved).__qualname__}` can not run on your system since the accelerator is not available."
            f"{reason} The following accelerator(s) is available and can be passed into `accelerator` argument of"
            f" `Trainer`: {there}."
        )
    return resolved
