"""The progress bar by tqdm."""

from __future__ import annotations

import math
import os
import sys
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING, Any

from ...errors import rank_zero_debug
from .clocked_bar import ClockedBar

if TYPE_CHECKING:
    from ...module import LightningModule
    from ...trainer import Trainer
    from .tqdm_bar import Tqdm

_BAR_NAMES = ("train", "val", "test", "predict")


class _Bar:
    """An attribute ``<name>_progress_bar``: kept in `_bars` under its name, an error before it is made."""

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc

    def __set_name__(self, owner: type, attribute: str) -> None:
        self.name = attribute.removesuffix("_progress_bar")

    def __get__(self, callback: TQDMProgressBar | None, owner: type) -> Any:
        if callback is None:
            return self
        if self.name not in callback._bars:
            raise TypeError(
                f"The `{type(callback).__name__}._{self.name}_progress_bar` reference has not been set yet."
            )
        return callback._bars[self.name]

    def __set__(self, callback: TQDMProgressBar, bar: Tqdm) -> None:
        callback._bars[self.name] = bar


class TQDMProgressBar(ClockedBar):
    """Shows one bar for each of sanity check, training, validation, testing and prediction, on stdout.

    It is drawn by the clock, ten times a second at most, so that a step costs almost nothing. Override an
    ``init_*_tqdm`` method to change a bar, and `get_metrics` to change what stands beside it.

    Args:
        refresh_rate: Draws only at multiples of this number of batches, and at the last; 0 draws nothing.
        process_position: Lines to leave free above, for bars of others.
        leave: Leaves each epoch's bar in the terminal.
    """

    BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"

    def __init__(self, refresh_rate: int = 1, process_position: int = 0, leave: bool = False) -> None:
        if find_spec("tqdm") is None:
            raise ModuleNotFoundError("`TQDMProgressBar` requires `tqdm` to be installed: pip install tqdm")
        super().__init__()
        self._refresh_rate = self._resolve_refresh_rate(refresh_rate)
        self._process_position = process_position
        self._leave = leave
        self._bars: dict[str, Tqdm] = {}
        self._epoch_end_is_shown = True

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_bars": {}}  # a bar holds the terminal

    train_progress_bar = _Bar("The bar of training.")
    val_progress_bar = _Bar("The bar of validation and of the sanity check.")
    test_progress_bar = _Bar("The bar of testing.")
    predict_progress_bar = _Bar("The bar of prediction.")

    @property
    def refresh_rate(self) -> int:
        """Batches between draws, at least."""
        return self._refresh_rate

    @property
    def process_position(self) -> int:
        """Lines left free above."""
        return self._process_position

    # -- the bars -------------------------------------------------------------------------------------------------

    def init_sanity_tqdm(self) -> Tqdm:
        """Makes the bar of the sanity check."""
        return self._make(self.sanity_check_description, leave=False)

    def init_train_tqdm(self) -> Tqdm:
        """Makes the bar of training."""
        return self._make(self.train_description, leave=True, smoothing=0)

    def init_validation_tqdm(self) -> Tqdm:
        """Makes the bar of validation: below the bar of training while that is there."""
        below = self.trainer.state.fn != "validate"
        return self._make(self.validation_description, leave=not below, below=int(below))

    def init_test_tqdm(self) -> Tqdm:
        """Makes the bar of testing."""
        return self._make(self.test_description, leave=True)

    def init_predict_tqdm(self) -> Tqdm:
        """Makes the bar of prediction."""
        return self._make(self.predict_description, leave=True, smoothing=0)

    def _make(self, description: str, leave: bool, below: int = 0, smoothing: float = 0.3) -> Tqdm:
        from .tqdm_bar import Tqdm

        return Tqdm(
            desc=description,
            position=2 * self.process_position + below,
            disable=self.is_disabled,
            leave=leave,
            dynamic_ncols=True,
            file=sys.stdout,
            smoothing=smoothing,
            bar_format=self.BAR_FORMAT,
            delay=1e-9,  # not drawn when it is made, but when the clock says so
        )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._close_all()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close_all()

    def _close_all(self) -> None:
        for bar in self._bars.values():
            bar.close()

    # -- drawing --------------------------------------------------------------------------------------------------

    def _advance(self, name: str, batch_idx: int, metrics: dict[str, Any] | None = None) -> None:
        bar, started = self._bars[name], monotonic()
        if not bar.disable:
            bar.n = batch_idx + 1
            if metrics is not None:
                bar.set_postfix(metrics, refresh=False)
            bar.refresh()
        self._clock.drew(started)

    def _is_stop(self, name: str, batch_idx: int) -> bool:
        n = batch_idx + 1
        return n % self._refresh_rate == 0 or n == self._bars[name].total

    def _show_metrics(self, trainer: Trainer, pl_module: LightningModule) -> None:
        started = monotonic()
        metrics = self.get_metrics(trainer, pl_module)
        bar = self._bars.get("train")
        if bar is not None and not bar.disable:
            bar.set_postfix(metrics)
            self._clock.drew(started)

    def _start_batch(self, name: str, dataloader_idx: int, description: str) -> None:
        """Sets the bar `name` back, if a loader begins."""
        from .tqdm_bar import restart

        if self.has_dataloader_changed(dataloader_idx):
            total: float = getattr(self, f"total_{name}_batches_current_dataloader")
            restart(self._bars[name], convert_inf(total), f"{description} DataLoader {dataloader_idx}")

    # -- training -------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.train_progress_bar = self.init_train_tqdm()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        from .tqdm_bar import restart

        if self._leave and self.train_progress_bar.n:
            self.train_progress_bar = self.init_train_tqdm()
        restart(self.train_progress_bar, convert_inf(self.total_train_batches), f"Epoch {trainer.current_epoch}")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if monotonic() >= self._clock.next and self._is_stop("train", batch_idx):
            self._advance("train", batch_idx, self.get_metrics(trainer, pl_module))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        bar = self.train_progress_bar
        if not bar.disable:
            bar.n = trainer.batch_idx + 1
        self._epoch_end_is_shown = self.is_disabled or self._leave or self._clock.is_due
        if self.is_enabled and self._epoch_end_is_shown:
            self._show_metrics(trainer, pl_module)
        if self._leave:
            bar.close()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._epoch_end_is_shown:
            self._show_metrics(trainer, pl_module)
        if "val" in self._bars:
            self.val_progress_bar.close()
        self.train_progress_bar.close()

    # -- evaluation -----------------------------------------------------------------------------------------------

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.val_progress_bar = self.init_sanity_tqdm()

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.val_progress_bar.close()
        self.reset_dataloader_idx_tracker()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        # one bar for all validations of a fit: making one takes longer than a small validation
        if "val" not in self._bars or self.val_progress_bar.disable or trainer.state.fn != "fit":
            self.val_progress_bar = self.init_validation_tqdm()

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        sanity = trainer.sanity_checking
        self._start_batch(
            "val", dataloader_idx, self.sanity_check_description if sanity else self.validation_description
        )

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if monotonic() >= self._clock.next and self._is_stop("val", batch_idx):
            self._advance("val", batch_idx)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.reset_dataloader_idx_tracker()
        bar = self.val_progress_bar
        if trainer.state.fn != "fit":
            self._finish(bar)
        elif not bar.disable and bar.n and not trainer.sanity_checking:
            bar.clear()
        if trainer.state.fn == "fit" and self._clock.is_due:
            self._show_metrics(trainer, pl_module)

    @staticmethod
    def _finish(bar: Tqdm) -> None:
        if not bar.disable:
            bar.n = bar.n if bar.total is None else bar.total
            bar.refresh()
        bar.close()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.test_progress_bar = self.init_test_tqdm()

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._start_batch("test", dataloader_idx, self.test_description)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if monotonic() >= self._clock.next and self._is_stop("test", batch_idx):
            self._advance("test", batch_idx)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.reset_dataloader_idx_tracker()
        self._finish(self.test_progress_bar)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.predict_progress_bar = self.init_predict_tqdm()

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._start_batch("predict", dataloader_idx, self.predict_description)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if monotonic() >= self._clock.next and self._is_stop("predict", batch_idx):
            self._advance("predict", batch_idx)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.reset_dataloader_idx_tracker()
        self._finish(self.predict_progress_bar)

    def print(self, *args: Any, sep: str = " ", **kwargs: Any) -> None:
        for name in _BAR_NAMES:
            if name in self._bars and not self._bars[name].disable:
                self._bars[name].write(sep.join(map(str, args)), **kwargs)
                return
        print(*args, sep=sep, **kwargs)

    @staticmethod
    def _resolve_refresh_rate(refresh_rate: int) -> int:
        if os.getenv("COLAB_GPU") and refresh_rate == 1:
            rank_zero_debug("Using a higher refresh rate on Colab. Setting it to `20`")
            return 20
        if "TQDM_MINITERS" in os.environ:
            return max(int(os.environ["TQDM_MINITERS"]), refresh_rate)
        return refresh_rate


def convert_inf(x: float | None) -> float | None:
    """Returns None for infinite, NaN and None: how tqdm writes an unknown total."""
    return None if x is None or not math.isfinite(x) else x
