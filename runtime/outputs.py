"""What `training_step` may return: the loss in it, and what `on_train_batch_end` gets of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from . import legacy
from .errors import MisconfigurationException

if TYPE_CHECKING:
    from .run import TrainingRun

NO_BATCH = object()  # takes the place of an output when the loader gave None


def read_loss(run: TrainingRun, output: Any) -> Tensor | None:
    """The loss of what `training_step` returned, divided among the batches of a window.

    Raises:
        MisconfigurationException: there is no loss in it.
    """
    if isinstance(output, Tensor):
        loss: Any = output
    elif output is None:
        if run.trainer.world_size > 1:
            raise RuntimeError(
                "Skipping the `training_step` by returning None in distributed training is not supported."
                " It is recommended that you rewrite your training logic to avoid having to skip the step in the"
                " first place."
            )
        run.said.warn("`training_step` returned `None`. If this was on purpose, ignore this warning...")
        return None
    elif isinstance(output, Mapping):
        loss = output.get("loss")
        if "log" in output or "progress_bar" in output:
            legacy.log_returned(run.module, {key: output[key] for key in ("log", "progress_bar") if key in output})
        if loss is None:
            raise MisconfigurationException(
                "In automatic_optimization, when `training_step` returns a dict, the 'loss' key needs to be present"
            )
        if not isinstance(loss, Tensor):
            raise MisconfigurationException(
                f"The 'loss' that `training_step` returns must be a tensor to call `backward` on, not {loss!r}."
            )
    else:
        raise MisconfigurationException(
            "In automatic optimization, `training_step` must return a Tensor, a dict, or None (where the step will"
            " be skipped)."
        )
    scaled: Tensor = loss if run.window == 1 else loss / run.window
    return scaled


def for_hooks(run: TrainingRun, output: Any) -> Any:
    """What `on_train_batch_end` gets: a dict with the detached loss."""
    if isinstance(output, Tensor):
        return {"loss": output.detach() if run.window == 1 else output.detach() / run.window}
    if isinstance(output, Mapping):
        loss = output.get("loss")
        if not isinstance(loss, Tensor):
            return dict(output)
        return {**output, "loss": loss.detach() if run.window == 1 else loss.detach() / run.window}
    if output is None:
        return {}
    if output is NO_BATCH:
        return None
    raise MisconfigurationException(
        "In manual optimization, `training_step` must either return a Tensor or have no return."
    )
