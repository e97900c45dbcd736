"""Training a part of the model first and more of it later."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from ..errors import MisconfigurationException, rank_zero_warn
from .base import Callback

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer import Trainer

log = logging.getLogger(__name__)

Modules = nn.Module | Iterable[Any]


def multiplicative(epoch: int) -> float:
    """Doubles the learning rate at every epoch."""
    return 2.0


class BaseFinetuning(Callback):
    """Base class for freezing and unfreezing: override `freeze_before_training` and `finetune_function`.

    Give the optimizer only parameters that require a gradient; parameters that are unfrozen later are added to it as
    a group of their own, which a resumed run gets back.
    """

    def __init__(self) -> None:
        self._internal_optimizer_metadata: dict[int, list[dict[str, Any]]] = {}
        self._unfrozen: dict[str, list[str]] = {}  # names of what trains by now, for a process that begins frozen
        self._restarting = False

    def freeze_before_training(self, pl_module: LightningModule) -> None:
        """Freezes what shall not train at first; called before ``configure_optimizers``."""
        raise NotImplementedError

    def finetune_function(self, pl_module: LightningModule, epoch: int, optimizer: Optimizer) -> None:
        """Unfreezes what shall train from ``epoch`` on; called at the start of each epoch for each optimizer."""
        raise NotImplementedError

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restarting = False
        self.freeze_before_training(pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._restarting:
            parameters = dict(pl_module.named_parameters())
            for index, optimizer in enumerate(trainer.optimizers):
                if index in self._internal_optimizer_metadata:
                    saved = self._internal_optimizer_metadata[index]
                    optimizer.param_groups = self._apply_mapping_to_param_groups(saved, parameters)
            for name in self._unfrozen.get("parameters", ()):
                parameters[name].requires_grad = True
            for name in self._unfrozen.get("statistics", ()):
                pl_module.get_submodule(name).track_running_stats = True  # type: ignore[assignment]
            self._restarting = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for index, optimizer in enumerate(trainer.optimizers):
            groups_before = len(optimizer.param_groups)
            self.finetune_function(pl_module, trainer.current_epoch, optimizer)
            self._store(pl_module, index, groups_before, optimizer.param_groups)
        self._unfrozen = {
            "parameters": [name for name, each in pl_module.named_parameters() if each.requires_grad],
            "statistics": [name for name, each in pl_module.named_modules() if _keeps_statistics(each)],
        }

    def _store(
        self,
        pl_module: LightningModule,
        opt_idx: int,
        num_param_groups: int,
        current_param_groups: list[dict[str, Any]],
    ) -> None:
        names = {parameter: name for name, parameter in pl_module.named_parameters()}
        if opt_idx not in self._internal_optimizer_metadata:
            new = current_param_groups
            self._internal_optimizer_metadata[opt_idx] = []
        else:
            new = current_param_groups[num_param_groups:]
        self._internal_optimizer_metadata[opt_idx] += self._apply_mapping_to_param_groups(new, names)

    @staticmethod
    def _apply_mapping_to_param_groups(
        param_groups: list[dict[str, Any]], mapping: dict[Any, Any]
    ) -> list[dict[str, Any]]:
        return [{**group, "params": [mapping[entry] for entry in group["params"]]} for group in param_groups]

    @staticmethod
    def flatten_modules(modules: Modules) -> list[nn.Module]:
        """Returns the modules that own parameters or have no children, at any depth."""
        if isinstance(modules, nn.ModuleDict):
            modules = modules.values()
        if isinstance(modules, Iterable):
            return [flat for module in modules for flat in BaseFinetuning.flatten_modules(module)]
        return [module for module in modules.modules() if not list(module.children()) or module._parameters]

    @staticmethod
    def filter_params(modules: Modules, train_bn: bool = True, requires_grad: bool = True) -> Iterator[Tensor]:
        """Yields the parameters whose ``requires_grad`` is as asked, without batch normalization's if so asked."""
        for module in BaseFinetuning.flatten_modules(modules):
            if isinstance(module, _BatchNorm) and not train_bn:
                continue
            for parameter in module.parameters(recurse=False):
                if parameter.requires_grad == requires_grad:
                    yield parameter

    @staticmethod
    def make_trainable(modules: Modules) -> None:
        """Unfreezes the modules' parameters, and batch normalization's running statistics."""
        for module in BaseFinetuning.flatten_modules(modules):
            if isinstance(module, _BatchNorm):
                module.track_running_stats = True
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad = True

    @staticmethod
    def freeze_module(module: nn.Module) -> None:
        """Freezes the parameters that the module itself owns, and batch normalization's running statistics."""
        if isinstance(module, _BatchNorm):
            module.track_running_stats = False
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad = False

    @staticmethod
    def freeze(modules: Modules, train_bn: bool = True) -> None:
        """Freezes the modules; ``train_bn`` lets batch normalization train."""
        for module in BaseFinetuning.flatten_modules(modules):
            if isinstance(module, _BatchNorm) and train_bn:
                BaseFinetuning.make_trainable(module)
            else:
                BaseFinetuning.freeze_module(module)

    @staticmethod
    def filter_on_optimizer(optimizer: Optimizer, params: Iterable[Tensor]) -> list[Tensor]:
        """Returns the parameters that the optimizer does not have yet; warns of those it has."""
        known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        wanted = list(params)
        new = [parameter for parameter in wanted if id(parameter) not in known]
        if len(new) < len(wanted):
            rank_zero_warn(
                "The provided params to be frozen already exist within another group of this optimizer."
                " Those parameters will be skipped.\n"
                "HINT: Did you init your optimizer in `configure_optimizer` as such:\n"
                f" {type(optimizer)}(filter(lambda p: p.requires_grad, self.parameters()), ...) "
            )
        return new

    @staticmethod
    def unfreeze_and_add_param_group(
        modules: Modules,
        optimizer: Optimizer,
        lr: float | None = None,
        initial_denom_lr: float = 10.0,
        train_bn: bool = True,
    ) -> None:
        """Unfreezes the modules and adds their parameters to the optimizer as a new group.

        Args:
            modules: What to unfreeze.
            optimizer: Gets the group.
            lr: The group's learning rate; default: the first group's, divided by ``initial_denom_lr``.
            initial_denom_lr: The divisor.
            train_bn: Adds batch normalization's parameters too.
        """
        BaseFinetuning.make_trainable(modules)
        new_lr = optimizer.param_groups[0]["lr"] / initial_denom_lr if lr is None else float(lr)
        trainable = BaseFinetuning.filter_params(modules, train_bn=train_bn, requires_grad=True)
        params = BaseFinetuning.filter_on_optimizer(optimizer, trainable)
        if params:
            optimizer.add_param_group({"params": params, "lr": new_lr})

    def state_dict(self) -> dict[str, Any]:
        return {"internal_optimizer_metadata": self._internal_optimizer_metadata, "unfrozen": self._unfrozen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restarting = True
        self._internal_optimizer_metadata = state_dict["internal_optimizer_metadata"]
        self._unfrozen = state_dict.get("unfrozen", {})


def _keeps_statistics(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.track_running_stats


class BackboneFinetuning(BaseFinetuning):
    """Trains all but ``self.backbone`` at first, then the backbone with a growing learning rate.

    Args:
        unfreeze_backbone_at_epoch: When the backbone joins.
        lambda_func: Takes an epoch and returns what the backbone's learning rate is multiplied by.
        backbone_initial_ratio_lr: Its first learning rate as a share of the first group's.
        backbone_initial_lr: Its first learning rate; wins over the share.
        should_align: Never lets it grow above the first group's.
        initial_denom_lr: See `unfreeze_and_add_param_group`.
        train_bn: Trains batch normalization in the backbone.
        verbose: Says both learning rates at each epoch.
        rounding: Digits to say them with.
    """

    def __init__(
        self,
        unfreeze_backbone_at_epoch: int = 10,
        lambda_func: Callable[[int], float] = multiplicative,
        backbone_initial_ratio_lr: float = 10e-2,
        backbone_initial_lr: float | None = None,
        should_align: bool = True,
        initial_denom_lr: float = 10.0,
        train_bn: bool = True,
        verbose: bool = False,
        rounding: int = 12,
    ) -> None:
        super().__init__()
        self.unfreeze_backbone_at_epoch = unfreeze_backbone_at_epoch
        self.lambda_func = lambda_func
        self.backbone_initial_ratio_lr = backbone_initial_ratio_lr
        self.backbone_initial_lr = backbone_initial_lr
        self.should_align = should_align
        self.initial_denom_lr = initial_denom_lr
        self.train_bn = train_bn
        self.verbose = verbose
        self.rounding = rounding
        self.previous_backbone_lr: float | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(getattr(pl_module, "backbone", None), nn.Module):
            raise MisconfigurationException("The LightningModule should have a nn.Module `backbone` attribute")
        super().on_fit_start(trainer, pl_module)

    def freeze_before_training(self, pl_module: LightningModule) -> None:
        self.freeze(pl_module.backbone)

    def finetune_function(self, pl_module: LightningModule, epoch: int, optimizer: Optimizer) -> None:
        if epoch < self.unfreeze_backbone_at_epoch:
            return
        current_lr = optimizer.param_groups[0]["lr"]
        if epoch == self.unfreeze_backbone_at_epoch:
            given = self.backbone_initial_lr
            backbone_lr = current_lr * self.backbone_initial_ratio_lr if given is None else given
            self.unfreeze_and_add_param_group(
                pl_module.backbone,
                optimizer,
                backbone_lr,
                train_bn=self.train_bn,
                initial_denom_lr=self.initial_denom_lr,
            )
        else:
            assert self.previous_backbone_lr is not None
            backbone_lr = self.lambda_func(epoch + 1) * self.previous_backbone_lr
            if self.should_align:
                backbone_lr = min(backbone_lr, current_lr)
            optimizer.param_groups[-1]["lr"] = backbone_lr
        self.previous_backbone_lr = backbone_lr
        if self.verbose:
            log.info(
                f"Current lr: {round(current_lr, self.rounding)}, Backbone lr: {round(backbone_lr, self.rounding)}"
            )

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "previous_backbone_lr": self.previous_backbone_lr}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.previous_backbone_lr = state_dict["previous_backbone_lr"]
        super().load_state_dict(state_dict)
