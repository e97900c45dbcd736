"""Figures of gradients, for logging."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Module


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
        norms[f"grad_{norm_type}_norm_total"] = torch.stack([norm.double() for norm in norms.values()]).norm(norm_type)
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
