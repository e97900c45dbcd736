"""Runs of several processes, described by JSON on the command line; the first process writes what came of each."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lightify.runtime as L
import torch.distributed as dist

from tests.runtime.engines_scripts import checks, parts


def train(case: dict[str, Any]) -> dict[str, Any]:
    """One fit; what it measured, and its checkpoint."""
    saving = L.ModelCheckpoint(dirpath=case["folder"], save_on_exception=True)
    trainer = parts.trainer(case, callbacks=[saving], enable_checkpointing=True)
    trainer.fit(parts.net(case), *parts.loaders(case), ckpt_path=case.get("ckpt_path"))
    return {
        "loss": trainer.callback_metrics["loss"].item(),
        "val_loss": trainer.callback_metrics["val_loss"].item(),
        "global_step": trainer.global_step,
        "checkpoint": saving.best_model_path,
    }


def main(cases: list[dict[str, Any]]) -> None:
    for case in cases:
        check = getattr(checks, case["check"]) if "check" in case else train
        result = check(case)
        results = [result]
        if dist.is_initialized():
            results = [None] * dist.get_world_size()
            dist.all_gather_object(results, result)
        if not dist.is_initialized() or dist.get_rank() == 0:
            Path(case["folder"], "result.json").write_text(json.dumps(results))
    if dist.is_initialized():
        dist.destroy_process_group()  # the Trainer leaves to the script what the script made


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
