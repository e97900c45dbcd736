"""Batches, samples, items and floating point operations per second, over a window of updates."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor


class Throughput:
    """Turns running totals into rates.

    Rates are there once the window is full: those of one device as ``device/...``, and with several devices those of
    all together without a prefix.

    Args:
        available_flops: What one device can do per second; gives ``device/mfu``, the share that is used.
        world_size: Number of devices.
        window_size: Number of updates that a rate is taken over.
        separator: What stands after ``device``.
    """

    def __init__(
        self,
        available_flops: float | None = None,
        world_size: int = 1,
        window_size: int = 100,
        separator: str = "/",
    ) -> None:
        assert world_size > 0 and window_size > 1
        self.available_flops = available_flops
        self.world_size = world_size
        self.separator = separator
        self._totals: dict[str, deque[float]] = {
            name: deque(maxlen=window_size) for name in ("time", "batches", "samples", "lengths")
        }
        self._flops: deque[float] = deque(maxlen=window_size)

    def update(
        self,
        *,
        time: float,
        batches: int,
        samples: int,
        lengths: int | None = None,
        flops: int | None = None,
    ) -> None:
        """Takes the totals so far.

        Args:
            time: Seconds.
            batches: Of this device.
            samples: Of this device.
            lengths: Items in these samples, tokens for example.
            flops: Operations since the last update, of this device.

        Raises:
            ValueError: A total did not grow, or is smaller than it can be.
        """
        if samples < batches:
            raise ValueError(f"Expected samples ({samples}) to be greater or equal than batches ({batches})")
        if lengths is not None and lengths < samples:
            raise ValueError(f"Expected lengths ({lengths}) to be greater or equal than samples ({samples})")
        totals = {"time": time, "batches": batches, "samples": samples, "lengths": lengths}
        for name, total in totals.items():
            if total is None:
                continue
            window = self._totals[name]
            if window and window[-1] >= total:
                raise ValueError(f"Expected the value to increase, last: {window[-1]}, current: {total}")
            window.append(total)
        if self._totals["lengths"] and len(self._totals["lengths"]) != len(self._totals["samples"]):
            raise RuntimeError("Pass `lengths` with every update, or with none.")
        if flops is not None:
            self._flops.append(flops * self.world_size)

    def compute(self) -> dict[str, float]:
        """Returns the totals and, once the window is full, the rates."""
        metrics = {name: window[-1] for name, window in self._totals.items() if window}
        times = self._totals["time"]
        if len(times) < (times.maxlen or 0):
            return metrics
        seconds = times[-1] - times[0]
        for name, rate in (("batches", "batches"), ("samples", "samples"), ("lengths", "items")):
            window = self._totals[name]
            if window:
                self._add(metrics, f"{rate}_per_sec", (window[-1] - window[0]) / seconds)
        if len(self._flops) == self._flops.maxlen:
            per_second = (sum(self._flops) - self._flops[0]) / seconds / self.world_size
            self._add(metrics, "flops_per_sec", per_second)
            if self.available_flops:
                metrics[f"device{self.separator}mfu"] = per_second / self.available_flops
        return metrics

    def _add(self, metrics: dict[str, float], name: str, of_one_device: float) -> None:
        metrics[f"device{self.separator}{name}"] = of_one_device
        if self.world_size > 1:
            metrics[name] = of_one_device * self.world_size

    @property
    def elapsed(self) -> float:
        """Seconds at the last update."""
        return self._totals["time"][-1] if self._totals["time"] else 0.0

    def reset(self) -> None:
        """Forgets all updates."""
        for window in self._totals.values():
            window.clear()
        self._flops.clear()


def measure_flops(
    model: torch.nn.Module,
    forward_fn: Callable[[], Tensor],
    loss_fn: Callable[[Tensor], Tensor] | None = None,
) -> int:
    """Counts the floating point operations of a forward pass, and of the backward pass with ``loss_fn``.

    A model on the ``meta`` device is counted without computing anything.

    Args:
        model: The model that ``forward_fn`` calls.
        forward_fn: Runs the model on an input and returns its output.
        loss_fn: Turns the output into a loss.
    """
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        output = forward_fn()
        if loss_fn is not None:
            loss_fn(output).backward()
    return counter.get_total_flops()
