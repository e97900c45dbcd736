"""Import paths of Lightning that scripts use; nothing is defined here."""

from ..accelerators import find_usable_cuda_devices
from ..combined import CombinedLoader
from ..errors import (
    disable_possible_user_warnings,
    rank_zero_deprecation,
    rank_zero_info,
    rank_zero_only,
    rank_zero_warn,
)
from ..filesystem import is_shared_filesystem
from ..gradients import find_shared_parameters, grad_norm, set_shared_parameters
from ..hparams import AttributeDict, is_picklable
from ..loaders import suggested_max_num_workers
from ..optim import GradClipAlgorithmType
from ..state import LightningEnum
from ..throughput import measure_flops
from ..transfer import move_data_to_device
from . import (
    combined_loader,
    compile,
    exceptions,
    grads,
    memory,
    model_helpers,
    model_summary,
    parsing,
    rank_zero,
    seed,
    types,
)

__all__ = [
    "AttributeDict",
    "CombinedLoader",
    "GradClipAlgorithmType",
    "LightningEnum",
    "combined_loader",
    "compile",
    "disable_possible_user_warnings",
    "exceptions",
    "find_shared_parameters",
    "find_usable_cuda_devices",
    "grad_norm",
    "grads",
    "is_picklable",
    "is_shared_filesystem",
    "measure_flops",
    "memory",
    "model_helpers",
    "model_summary",
    "move_data_to_device",
    "parsing",
    "rank_zero",
    "rank_zero_deprecation",
    "rank_zero_info",
    "rank_zero_only",
    "rank_zero_warn",
    "seed",
    "set_shared_parameters",
    "suggested_max_num_workers",
    "types",
]
