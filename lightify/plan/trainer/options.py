"""Arguments of the Trainer, and what the idiomatic style does that the script did not."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from lightify.analysis.calls import class_of
from lightify.loops.epochs import EpochHead
from lightify.plan.draft import Draft
from lightify.plan.optimization.automatic import Automatic
from lightify.plan.trainer.device import device_options
from lightify.plan.types import (
    TrainerOption,
)
from lightify.syntax.parse import Tree
from lightify.syntax.query import dotted

_LOGGED = "metrics go to the Trainer's default logger, under lightning_logs/"
_EACH_EPOCH = "the Trainer saves a checkpoint after each epoch"


def departures(draft: Draft) -> tuple[str, ...]:
    """What the idiomatic style does that the script did not do; none of it touches a parameter."""
    if draft.settings.style == "faithful":
        return ()
    written = () if _shares_folder(draft) else (_LOGGED, *(() if _saves(draft) else (_EACH_EPOCH,)))
    return (
        *written,
        *_gone_methods(draft),
        *dict.fromkeys(draft.steps_away),
        *([f"no longer printed: {', '.join(draft.unshown)}"] if draft.unshown else []),
    )


def _saves(draft: Draft) -> bool:
    """True where a callback of the Trainer saves what the script saves."""
    return any("ModelCheckpoint" in str(o.value) for o in draft.options if o.name == "callbacks")


def _shares_folder(draft: Draft) -> bool:
    """True where each of the script's processes has a Trainer that knows of no others: all would write to one place."""
    return draft.distribution is None and "init_process_group" in draft.tree.text


def _gone_methods(draft: Draft) -> Iterator[str]:
    methods = [function.name.value for function in draft.around.removed if class_of(function, draft.tree) is not None]
    if methods:
        yield f"methods whose code moved are gone: {', '.join(sorted(methods))}"


def trainer_options(draft: Draft, epochs: EpochHead | None, auto: Automatic | None) -> None:
    host = draft.nest.host
    one = TrainerOption("max_epochs", "1")
    options = [TrainerOption("max_epochs", epochs.count, host) if epochs is not None else one]
    options.extend(device_options(draft))
    if auto is not None and auto.clip is not None:
        value, frame, algorithm = auto.clip
        options.append(TrainerOption("gradient_clip_val", value, frame))
        if algorithm == "value":
            options.append(TrainerOption("gradient_clip_algorithm", '"value"'))
    options.extend(draft.options)
    if _detects_anomalies(draft.tree):
        options.append(TrainerOption("detect_anomaly", "torch.is_anomaly_enabled()"))
    if draft.evaluation is not None:
        options.append(TrainerOption("num_sanity_val_steps", "0"))
    if draft.settings.style == "faithful" or _shares_folder(draft):
        options.append(TrainerOption("logger", "False"))
        if not _saves(draft):
            options.append(TrainerOption("enable_checkpointing", "False"))
    draft.options[:] = options


def _detects_anomalies(tree: Tree) -> bool:
    """True when the script may have turned anomaly detection on; a Trainer turns it off."""
    if "detect_anomaly" not in tree.text or tree.imports.get("torch") != "torch":
        return False
    calls = tree.nodes(cst.Call)
    found = (call for call in calls if (dotted(call.func) or "").endswith("detect_anomaly"))
    return any([dotted(arg.value) for arg in call.args[:1]] != ["False"] for call in found)
