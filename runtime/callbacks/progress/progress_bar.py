"""What every progress bar knows: totals, descriptions and the metrics to show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import rank_zero_warn
from ..base import Callback

if TYPE_CHECKING:
    from ...module import LightningModule
    from ...trainer import Trainer


class ProgressBar(Callback):
    """Base class of progress bars; a subclass draws in the batch hooks and says how to enable and disable it."""

    def __init__(self) -> None:
        self._trainer: Trainer | None = None
        self._current_eval_dataloader_idx: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_trainer": None}  # set again when the next run begins

    @property
    def trainer(self) -> Trainer:
        """The Trainer of the run.

        Raises:
            TypeError: No run has begun.
        """
        if self._trainer is None:
            raise TypeError(f"The `{type(self).__name__}._trainer` reference has not been set yet.")
        return self._trainer

    @property
    def sanity_check_description(self) -> str:
        """What the bar of the sanity check says."""
        return "Sanity Checking"

    @property
    def train_description(self) -> str:
        """What the bar of training says before the first epoch."""
        return "Training"

    @property
    def validation_description(self) -> str:
        """What the bar of validation says."""
        return "Validation"

    @property
    def test_description(self) -> str:
        """What the bar of testing says."""
        return "Testing"

    @property
    def predict_description(self) -> str:
        """What the bar of prediction says."""
        return "Predicting"

    @property
    def total_train_batches(self) -> int | float:
        """Training batches of this epoch, infinite when unknown; at most the steps left in a run by steps."""
        trainer = self.trainer
        if trainer.max_epochs == -1 and trainer.max_steps > 0:
            return min(trainer.num_training_batches, trainer.max_steps - trainer.global_step)
        return trainer.num_training_batches

    @property
    def total_val_batches_current_dataloader(self) -> int | float:
        """Batches of the validation, or sanity check, loader in use; infinite when unknown."""
        trainer = self.trainer
        return self._of_current(trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches)

    @property
    def total_test_batches_current_dataloader(self) -> int | float:
        """Batches of the test loader in use; infinite when unknown."""
        return self._of_current(self.trainer.num_test_batches)

    @property
    def total_predict_batches_current_dataloader(self) -> int | float:
        """Batches of the prediction loader in use; infinite when unknown."""
        return self._of_current(self.trainer.num_predict_batches)

    def _of_current(self, batches: Any) -> int | float:
        if not isinstance(batches, list):
            return batches
        assert self._current_eval_dataloader_idx is not None
        return batches[self._current_eval_dataloader_idx]

    @property
    def total_val_batches(self) -> int | float:
        """Batches of all validation loaders; 0 in an epoch without validation."""
        trainer = self.trainer
        every = trainer.check_val_every_n_epoch
        if not trainer.enable_validation or (every is not None and (trainer.current_epoch + 1) % every):
            return 0
        return sum(trainer.num_val_batches) if isinstance(trainer.num_val_batches, list) else trainer.num_val_batches

    def has_dataloader_changed(self, dataloader_idx: int) -> bool:
        """Notes the evaluation loader in use and returns whether it is another than before."""
        changed = self._current_eval_dataloader_idx != dataloader_idx
        self._current_eval_dataloader_idx = dataloader_idx
        return changed

    def reset_dataloader_idx_tracker(self) -> None:
        """Forgets the evaluation loader."""
        self._current_eval_dataloader_idx = None

    def enable(self) -> None:
        """Draws from now on."""
        raise NotImplementedError

    def disable(self) -> None:
        """Draws nothing from now on; called on all ranks but zero."""
        raise NotImplementedError

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Prints without breaking the bar."""
        print(*args, **kwargs)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trainer = trainer
        if not trainer.is_global_zero:
            self.disable()

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Returns what is shown beside the bar; override it to add, remove or rename."""
        standard = get_standard_metrics(trainer)
        logged = trainer.progress_bar_metrics
        duplicates = sorted(standard.keys() & logged.keys())
        if duplicates:
            rank_zero_warn(
                f"The progress bar already tracks a metric with the name(s) '{', '.join(duplicates)}' and"
                f" `self.log('{duplicates[0]}', ..., prog_bar=True)` will overwrite this value. "
                " If this is undesired, change the name or override `get_metrics()` in the progress bar callback."
            )
        return {**standard, **logged}


def get_standard_metrics(trainer: Trainer) -> dict[str, int | str]:
    """Returns the loggers' version as ``v_num``, the last four characters of a long one; nothing without a logger."""
    versions = list(dict.fromkeys(logger.version for logger in trainer.loggers))
    if not versions:
        return {}
    version = versions[0] if len(trainer.loggers) == 1 else "_".join(dict.fromkeys(map(str, versions)))
    if version is None or version == "":
        return {}
    return {"v_num": version[-4:] if isinstance(version, str) else version}
