"""Running out of memory: how it shows, and what can be freed."""

from __future__ import annotations

import gc
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .transfer import map_contents

CUDA_MARKS = ("CUDA", "out of memory")
CUDNN_MARKS = ("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED.",)  # how cuDNN says that its workspace did not fit
CPU_MARKS = ("DefaultCPUAllocator: can't allocate memory",)


def _says(exception: BaseException, marks: tuple[str, ...]) -> bool:
    return isinstance(exception, RuntimeError) and all(mark in str(exception) for mark in marks)


def is_cuda_out_of_memory(exception: BaseException) -> bool:
    return _says(exception, CUDA_MARKS)


def is_cudnn_snafu(exception: BaseException) -> bool:
    return _says(exception, CUDNN_MARKS)


def is_out_of_cpu_memory(exception: BaseException) -> bool:
    return _says(exception, CPU_MARKS)


def is_oom_error(exception: BaseException) -> bool:
    """Whether the exception says that a device's memory did not suffice."""
    return any(_says(exception, marks) for marks in (CUDA_MARKS, CUDNN_MARKS, CPU_MARKS))


def garbage_collection_cuda() -> None:
    """Frees what is not referred to any more, in Python and in CUDA's cache."""
    gc.collect()
    try:
        torch.cuda.empty_cache()
    except RuntimeError as exception:
        if not is_oom_error(exception):  # the last thing that should need memory, but it can
            raise


def recursive_detach(data: Any, to_cpu: bool = False) -> Any:
    """`data` with the tensors in it, however nested, detached from their graphs (and copied to the CPU)."""
    if isinstance(data, Tensor):
        return data.detach().cpu() if to_cpu else data.detach()
    return map_contents(data, partial(recursive_detach, to_cpu=to_cpu))
