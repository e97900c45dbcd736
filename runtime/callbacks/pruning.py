"""Prunes parameters during training, by torch.nn.utils.prune.

Source: https://docs.pytorch.org/tutorials/intermediate/pruning_tutorial.html; the lottery ticket: J. Frankle and
M. Carbin, "The Lottery Ticket Hypothesis", 2019, page 2.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch.nn.utils.prune as pytorch_prune
from torch import Tensor, nn

from ..errors import MisconfigurationException, rank_zero_only
from ..module import LightningModule
from .base import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer

log = logging.getLogger(__name__)

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ln_structured": pytorch_prune.ln_structured,
    "l1_unstructured": pytorch_prune.l1_unstructured,
    "random_structured": pytorch_prune.random_structured,
    "random_unstructured": pytorch_prune.random_unstructured,
}
_METHODS: dict[str, type[pytorch_prune.BasePruningMethod]] = {
    "ln_structured": pytorch_prune.LnStructured,
    "l1_unstructured": pytorch_prune.L1Unstructured,
    "random_structured": pytorch_prune.RandomStructured,
    "random_unstructured": pytorch_prune.RandomUnstructured,
}
_CONTAINERS = (LightningModule, nn.Sequential, nn.ModuleList, nn.ModuleDict)

Parameters = Sequence[tuple[nn.Module, str]]
Amount = int | float
Sparsity = tuple[int, int]  # zeros and size of a mask


@dataclass
class _Original:
    """A module as it was before training, and which of the pruned parameters are its."""

    module: nn.Module
    names: list[tuple[nn.Module, str]] = field(default_factory=list)


class ModelPruning(Callback):
    """Prunes at the end of each epoch; masks become permanent in checkpoints and at the end.

    Args:
        pruning_fn: Name of a function of ``torch.nn.utils.prune``, or a ``BasePruningMethod`` class.
        parameters_to_prune: Pairs of module and parameter name; default: every weight and bias.
        parameter_names: "weight", "bias" or both.
        use_global_unstructured: Ranks all parameters together instead of each by itself.
        amount: Share (float) or number (int) to prune, or a function of the epoch.
        apply_pruning: Whether to prune, or a function of the epoch.
        make_pruning_permanent: Removes masks at the end and from checkpoints.
        use_lottery_ticket_hypothesis: Sets what is left back to its first values, or a function of the epoch.
        resample_parameters: Sets it to new values instead.
        pruning_dim: For structured pruning.
        pruning_norm: For ``ln_structured``.
        verbose: 1 says the sparsity, 2 that of each parameter.
        prune_on_train_epoch_end: False prunes after validation.
    """

    PARAMETER_NAMES = ("weight", "bias")
    inexact = "no checkpoint holds the masks and first weights of `ModelPruning`"

    def __init__(
        self,
        pruning_fn: Callable[..., Any] | str,
        parameters_to_prune: Parameters = (),
        parameter_names: list[str] | None = None,
        use_global_unstructured: bool = True,
        amount: Amount | Callable[[int], Amount] = 0.5,
        apply_pruning: bool | Callable[[int], bool] = True,
        make_pruning_permanent: bool = True,
        use_lottery_ticket_hypothesis: bool | Callable[[int], bool] = True,
        resample_parameters: bool = False,
        pruning_dim: int | None = None,
        pruning_norm: int | None = None,
        verbose: int = 0,
        prune_on_train_epoch_end: bool = True,
    ) -> None:
        for name in parameter_names or ():
            if name not in self.PARAMETER_NAMES:
                raise MisconfigurationException(
                    f"The provided `parameter_names` name: {name} isn't in {self.PARAMETER_NAMES}"
                )
        if not (isinstance(amount, (int, float)) or callable(amount)):
            raise MisconfigurationException(
                "`amount` should be provided and be either an int, a float or Callable function."
            )
        if verbose not in (0, 1, 2):
            raise MisconfigurationException("`verbose` must be any of (0, 1, 2)")
        self._use_global_unstructured = use_global_unstructured
        self._parameters_to_prune = parameters_to_prune
        self._parameter_names = parameter_names or self.PARAMETER_NAMES
        self._use_lottery_ticket_hypothesis = use_lottery_ticket_hypothesis
        self._resample_parameters = resample_parameters
        self._prune_on_train_epoch_end = prune_on_train_epoch_end
        self._apply_pruning = apply_pruning
        self._make_pruning_permanent = make_pruning_permanent
        self._verbose = verbose
        self.amount = amount
        self._global_kwargs: dict[str, Any] = {}
        self._originals: list[_Original] = []
        self._pruning_method_name = ""
        if isinstance(pruning_fn, str):
            pruning_fn = self._named_function(pruning_fn.lower(), pruning_dim, pruning_norm)
        elif not (inspect.isclass(pruning_fn) and issubclass(pruning_fn, pytorch_prune.BasePruningMethod)):
            raise MisconfigurationException(
                f"`pruning_fn` is expected to be a str in {list(_FUNCTIONS)}"
                f" or a PyTorch `BasePruningMethod`. Found: {pruning_fn}."
                " HINT: if passing a `BasePruningMethod`, pass the class, not an instance"
            )
        elif not use_global_unstructured:
            raise MisconfigurationException(
                "PyTorch `BasePruningMethod` is currently only supported with `use_global_unstructured=True`."
            )
        kind = getattr(pruning_fn, "PRUNING_TYPE", None)
        if use_global_unstructured and kind != "unstructured":
            raise MisconfigurationException(
                'Only the "unstructured" PRUNING_TYPE is supported with `use_global_unstructured=True`.'
                f" Found method {pruning_fn} of type {kind}. "
            )
        self.pruning_fn: Callable[..., Any] = pruning_fn

    def _named_function(self, name: str, dim: int | None, norm: int | None) -> Callable[..., Any]:
        if name not in _FUNCTIONS:
            raise MisconfigurationException(
                f"The provided `pruning_fn` {name} isn't available in PyTorch's built-in functions: {list(_FUNCTIONS)} "
            )
        options: dict[str, Any] = {}
        if name.endswith("_structured"):
            if dim is None:
                raise MisconfigurationException(
                    "When requesting `structured` pruning, the `pruning_dim` should be provided."
                )
            if name == "ln_structured":
                if norm is None:
                    raise MisconfigurationException(
                        "When requesting `ln_structured` pruning, the `pruning_norm` should be provided."
                    )
                options["n"] = norm
            options["dim"] = dim
        if self._use_global_unstructured:
            self._global_kwargs = options
            self._pruning_method_name = _METHODS[name].__name__
            return _METHODS[name]
        self._pruning_method_name = name
        return partial(_FUNCTIONS[name], **options)

    def filter_parameters_to_prune(self, parameters_to_prune: Parameters = ()) -> Parameters:
        """Returns the parameters to prune; override it to choose."""
        return parameters_to_prune

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        parameters = self.sanitize_parameters_to_prune(pl_module, self._parameters_to_prune, self._parameter_names)
        self._parameters_to_prune = self.filter_parameters_to_prune(parameters)
        if self._use_lottery_ticket_hypothesis:
            originals: dict[int, _Original] = {}
            for module, name in self._parameters_to_prune:
                original = originals.setdefault(id(module), _Original(deepcopy(module)))
                original.names.append((module, name))
            self._originals = list(originals.values())

    @staticmethod
    def sanitize_parameters_to_prune(
        pl_module: LightningModule, parameters_to_prune: Parameters = (), parameter_names: Sequence[str] = ()
    ) -> Parameters:
        """Returns the given pairs, or all of the model when there are none.

        Raises:
            MisconfigurationException: The pairs are malformed, or not of this model.
        """
        modules = [module for module in pl_module.modules() if not isinstance(module, _CONTAINERS)]
        if not parameters_to_prune:
            names = parameter_names or ModelPruning.PARAMETER_NAMES
            return [
                (module, name)
                for name in names
                for module in modules
                if isinstance(getattr(module, name, None), nn.Parameter)
            ]
        if not isinstance(parameters_to_prune, (list, tuple)) or not all(map(_is_pair, parameters_to_prune)):
            raise MisconfigurationException(
                "The provided `parameters_to_prune` should either be list of tuple"
                " with 2 elements: (nn.Module, parameter_name_to_prune) or None"
            )
        missing_modules = [module for module, _ in parameters_to_prune if module not in modules]
        missing_parameters = [
            name for module, name in parameters_to_prune if module in modules and not hasattr(module, name)
        ]
        if missing_modules or missing_parameters:
            raise MisconfigurationException(
                "Some provided `parameters_to_prune` don't exist in the model."
                f" Found missing modules: {missing_modules} and missing parameters: {missing_parameters}"
            )
        return parameters_to_prune

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._prune_on_train_epoch_end:
            self._run_pruning(trainer.current_epoch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking and not self._prune_on_train_epoch_end:
            self._run_pruning(trainer.current_epoch)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._make_pruning_permanent:
            self.make_pruning_permanent(pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._make_pruning_permanent:
            checkpoint["state_dict"] = _with_masks_applied(pl_module.state_dict())

    def _run_pruning(self, current_epoch: int) -> None:
        amount = _at(self.amount, current_epoch)
        if not _at(self._apply_pruning, current_epoch) or not amount:
            return
        self.apply_pruning(amount)
        if _at(self._use_lottery_ticket_hypothesis, current_epoch):
            self.apply_lottery_ticket_hypothesis()

    def apply_pruning(self, amount: Amount) -> None:
        """Prunes now."""
        before = [self._get_pruned_stats(module, name) for module, name in self._parameters_to_prune]
        if self._use_global_unstructured:
            accepted = inspect.signature(self.pruning_fn).parameters
            options = {**self._global_kwargs, "amount": amount}
            pytorch_prune.global_unstructured(
                self._parameters_to_prune,
                pruning_method=self.pruning_fn,
                **{name: value for name, value in options.items() if name in accepted},
            )
        else:
            for module, name in self._parameters_to_prune:
                self.pruning_fn(module, name=name, amount=amount)
        if self._verbose:
            after = [self._get_pruned_stats(module, name) for module, name in self._parameters_to_prune]
            self._log_sparsity_stats(before, after, amount=amount)

    def apply_lottery_ticket_hypothesis(self) -> None:
        """Sets the parameters that are left back to their values before training, or to new ones."""
        for original in self._originals:
            source = original.module
            if self._resample_parameters and callable(getattr(source, "reset_parameters", None)):
                source = deepcopy(source)
                source.reset_parameters()  # type: ignore[operator]
            for module, name in original.names:
                self._copy_param(module, source, name)

    @staticmethod
    def _copy_param(new: nn.Module, old: nn.Module, name: str) -> None:
        target = getattr(new, f"{name}_orig", None)  # where a pruned parameter keeps its values
        target = getattr(new, name) if target is None else target
        source = getattr(old, name)
        if isinstance(target, Tensor) and isinstance(source, Tensor):
            target.data = source.data.to(target.device)

    def make_pruning_permanent(self, module: nn.Module) -> None:
        """Multiplies the masks into the parameters and removes them."""
        for part in module.modules():
            for key, hook in list(part._forward_pre_hooks.items()):
                if isinstance(hook, pytorch_prune.BasePruningMethod):
                    hook.remove(part)
                    del part._forward_pre_hooks[key]

    @staticmethod
    def _get_pruned_stats(module: nn.Module, name: str) -> Sparsity:
        if not hasattr(module, name):
            return 0, 1
        mask = getattr(module, f"{name}_mask", None)
        return (0, 1) if mask is None else (int((mask == 0).sum()), mask.numel())

    @rank_zero_only
    def _log_sparsity_stats(self, prev: list[Sparsity], curr: list[Sparsity], amount: Amount = 0) -> None:
        total = sum(size for _, size in curr)
        earlier, now = sum(zeros for zeros, _ in prev), sum(zeros for zeros, _ in curr)
        log.info(
            f"Applied `{self._pruning_method_name}`. Pruned:"
            f" {earlier}/{total} ({earlier / total:.2%}) -> {now}/{total} ({now / total:.2%})"
        )
        if self._verbose < 2:
            return
        for (module, name), (zeros, size), (new_zeros, new_size) in zip(self._parameters_to_prune, prev, curr):
            log.info(
                f"Applied `{self._pruning_method_name}` to `{module!r}.{name}` with amount={amount}. Pruned:"
                f" {zeros} ({zeros / size:.2%}) -> {new_zeros} ({new_zeros / new_size:.2%})"
            )


def _is_pair(entry: Any) -> bool:
    return len(entry) == 2 and isinstance(entry[0], nn.Module) and isinstance(entry[1], str)


def _at(value: Any, epoch: int) -> Any:
    return value(epoch) if callable(value) else value


def _with_masks_applied(state_dict: dict[str, Any]) -> dict[str, Any]:
    # training goes on with the masks: the parameters are multiplied in the copy only
    for name in [key.removesuffix("_mask") for key in state_dict if key.endswith("_mask")]:
        original, mask = state_dict.pop(f"{name}_orig"), state_dict.pop(f"{name}_mask")
        state_dict[name] = mask.to(dtype=original.dtype) * original
    return {name: value.cpu() if isinstance(value, Tensor) else value for name, value in state_dict.items()}
