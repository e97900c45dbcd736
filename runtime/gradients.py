"""Gradients: how they are clipped, and figures of them for logging."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import Module

from .errors import MisconfigurationException
from .optim import GradClipAlgorithmType

if TYPE_CHECKING:
    from .trainer import Trainer


def clip_settings(
    trainer: Trainer, value: int | float | None, algorithm: str | None
) -> tuple[int | float, GradClipAlgorithmType]:
    """What to clip by: as given, or as the Trainer was told.

    Raises:
        MisconfigurationException: both say it, and not the same.
        TypeError: the value is no number.
    """
    chosen_value, chosen_algorithm = trainer.gradient_clip_val, trainer.gradient_clip_algorithm
    if value is None:
        value = chosen_value or 0.0
    elif chosen_value is not None and chosen_value != value:
        raise MisconfigurationException(
            f"You have set `Trainer(gradient_clip_val={chosen_value!r})`"
            f" and have passed `clip_gradients(gradient_clip_val={value!r})`."
            " Please use only one of them."
        )
    if algorithm is None:
        algorithm = chosen_algorithm or "norm"
    else:
        algorithm = algorithm.lower()
        if chosen_algorithm is not None and chosen_algorithm != algorithm:
            raise MisconfigurationException(
                f"You have set `Trainer(gradient_clip_algorithm={str(chosen_algorithm.value)!r})`"
                f" and have passed `clip_gradients(gradient_clip_algorithm={algorithm!r})`"
                " Please use only one of them."
            )
    if not isinstance(value, (int, float)):
        raise TypeError(f"`gradient_clip_val` should be an int or a float. Got {value}.")
    if not GradClipAlgorithmType.supported_type(algorithm.lower()):
        raise MisconfigurationException(
            f"`gradient_clip_algorithm` {algorithm} is invalid."
            f" Allowed algorithms: {GradClipAlgorithmType.supported_types()}."
        )
    return value, GradClipAlgorithmType(algorithm.lower())


def grad_norm(module: Module, norm_type: float | str, group_separator: str = "/") -> dict[str, Tensor]:
    """The p-norm of each parameter's gradient, and of all of them as one vector.

    Args:
        module: Whose gradients; parameters without one are left out.
        norm_type: p, or "inf".
        group_separator: Between the group's name and the parameter's.

    Returns:
        ``grad_<p>_norm/<name>`` for each parameter, and ``grad_<p>_norm_total``. Nothing is read back from the device.
    """
    norm_type = float(norm_type)
    if norm_type <= 0:
        raise ValueError(f"`norm_type` must be a positive number or 'inf' (infinity norm). Got {norm_type}")
    norms = {
        f"grad_{norm_type}_norm{group_separator}{name}": parameter.grad.detach().norm(norm_type)
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    if norms:
        norms[f"grad_{norm_type}_norm_total"] = torch.stack(list(norms.values())).norm(norm_type)
    return norms


def find_shared_parameters(module: Module) -> list[list[str]]:
    """The names of each parameter that has several."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def set_shared_parameters(module: Module, shared_params: list[list[str]]) -> Module:
    """Makes the parameters of each group one again, as after a copy to a device that does not keep them so."""
    for first, *others in shared_params:
        parameter = module.get_parameter(first)
        for name in others:
            owner, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(owner), attribute, parameter)
    return module
