"""Layers that see the batches of all processes together: `Trainer(sync_batchnorm=True)`."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Module, SyncBatchNorm


class LayerSync(ABC):
    """Replaces layers by synchronised ones, and back."""

    @abstractmethod
    def apply(self, model: Module) -> Module: ...

    @abstractmethod
    def revert(self, model: Module) -> Module: ...


class TorchSyncBatchNorm(LayerSync):
    """Every batch normalisation as `torch.nn.SyncBatchNorm`."""

    def apply(self, model: Module) -> Module:
        return SyncBatchNorm.convert_sync_batchnorm(model)

    def revert(self, model: Module) -> Module:
        """Batch normalisations of one process again, with the same weights and running statistics."""
        result: Module = model
        if isinstance(model, (SyncBatchNorm, CPUSyncBatchNorm)):
            result = _AnyBatchNorm(
                model.num_features, model.eps, model.momentum, model.affine, model.track_running_stats
            )
            if model.affine:
                result.weight, result.bias = model.weight, model.bias
            result.running_mean, result.running_var = model.running_mean, model.running_var
            result.num_batches_tracked = model.num_batches_tracked
            result.training = model.training
        for name, child in model.named_children():
            result.add_module(name, self.revert(child))
        return result


class _AnyBatchNorm(torch.nn.modules.batchnorm._BatchNorm):
    """A batch normalisation for any number of dimensions; which one was replaced is not recorded."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Accepts every shape, as SyncBatchNorm did."""


class CPUSyncBatchNorm(_AnyBatchNorm):
    """What `torch.nn.SyncBatchNorm` computes, which refuses to train on the CPU."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        from torch.distributed.nn.functional import all_reduce

        others = [dim for dim in range(input.dim()) if dim != 1]
        shape = [1, -1, *[1] * (input.dim() - 2)]
        count = input.new_full((1,), input.numel() / input.shape[1])
        total, count = all_reduce(torch.cat([input.sum(others), count])).split([input.shape[1], 1])
        mean = total / count
        centred = input - mean.view(shape)
        variance = all_reduce(centred.square().sum(others)) / count
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
            unbiased = variance.detach() * count.detach() / (count.detach() - 1)
            self.running_mean.lerp_(mean.detach(), share)
            self.running_var.lerp_(unbiased, share)
        result = centred * torch.rsqrt(variance + self.eps).view(shape)
        return result if not self.affine else result * self.weight.view(shape) + self.bias.view(shape)


def on_cpu(model: Module) -> Module:
    """`model` with torch's synchronised layers replaced by those that run on the CPU, in place."""
    for layer in model.modules():
        if type(layer) is SyncBatchNorm:
            layer.__class__ = CPUSyncBatchNorm  # type: ignore[assignment]
    return model
