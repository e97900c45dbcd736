"""Layers that see the batches of all processes together: `Trainer(sync_batchnorm=True)`."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch.nn import Module, SyncBatchNorm


class LayerSync(ABC):
    """Replaces layers by synchronised ones, and back."""

    @abstractmethod
    def apply(self, model: Module) -> Module: ...

    @abstractmethod
    def revert(self, model: Module) -> Module: ...


class TorchSyncBatchNorm(LayerSync):
    """Every batch normalisation as `torch.nn.SyncBatchNorm`, which runs on GPUs."""

    def apply(self, model: Module) -> Module:
        return SyncBatchNorm.convert_sync_batchnorm(model)

    def revert(self, model: Module) -> Module:
        """Batch normalisations of one process again, with the same weights and running statistics."""
        result: Module = model
        if isinstance(model, SyncBatchNorm):
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
