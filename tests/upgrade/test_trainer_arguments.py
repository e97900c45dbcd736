from __future__ import annotations

import pytest

from tests.upgrade.scripts import HEAD, check, check_refused, check_same, run, script

SAME = {
    "today's arguments": "max_epochs=3, accelerator='gpu', devices=2, callbacks=[c]",
    "arguments that cannot be read": "**config",
}
ROWS = {
    "gpus": ("gpus=2", 'accelerator="gpu", devices=2'),
    "all gpus": ("gpus=-1", 'accelerator="gpu", devices=-1'),
    "gpus by index": ("gpus=[0, 3]", 'accelerator="gpu", devices=[0, 3]'),
    "no gpus is the CPU, which is not today's default": ("gpus=None", 'accelerator="cpu"'),
    "gpus, if any": (
        "gpus=1 if torch.cuda.is_available() else 0",
        'accelerator="gpu" if torch.cuda.is_available() else "cpu", devices=1',
    ),
    "gpus as given": ("gpus=args.gpus", 'accelerator="gpu" if args.gpus else "cpu", devices=args.gpus or 1'),
    "a strategy": ("gpus=2, distributed_backend='ddp'", "accelerator=\"gpu\", devices=2, strategy='ddp'"),
    "a strategy as accelerator": (
        "gpus=2, accelerator='ddp_spawn'",
        "accelerator=\"gpu\", devices=2, strategy='ddp_spawn'",
    ),
    "a strategy, if any": (
        "distributed_backend='ddp' if n > 1 else None, max_epochs=1",
        "strategy='ddp' if n > 1 else \"auto\", max_epochs=1",
    ),
    "a strategy as given": ("distributed_backend=args.backend", 'strategy=args.backend or "auto"'),
    "processes": (
        "distributed_backend='ddp_cpu', num_processes=2",
        'accelerator="cpu", strategy="ddp_spawn", devices=2',
    ),
    "processes alone": ("num_processes=2", 'accelerator="cpu", devices=2'),
    "no TPU": ("tpu_cores=None, max_epochs=1", "max_epochs=1"),
    "names": (
        "overfit_pct=0.1, row_log_interval=5, max_nb_epochs=2, replace_sampler_ddp=False, val_percent_check=0.5",
        "overfit_batches=0.1, log_every_n_steps=5, max_epochs=2, use_distributed_sampler=False, limit_val_batches=0.5",
    ),
    "more names": (
        "train_percent_check=1, test_percent_check=1, min_nb_epochs=1, gradient_clip=1.0, nb_gpu_nodes=2, nb_sanity_val_steps=0",
        "limit_train_batches=1, limit_test_batches=1, min_epochs=1, gradient_clip_val=1.0, num_nodes=2, num_sanity_val_steps=0",
    ),
    "a folder": ("weights_save_path='out'", "default_root_dir='out'"),
    "checkpointing off": ("checkpoint_callback=False", "enable_checkpointing=False"),
    "summary off": ("weights_summary=None", "enable_model_summary=False"),
    "summary on": ("weights_summary='top'", "enable_model_summary=True"),
    "no progress": ("progress_bar_refresh_rate=0", "enable_progress_bar=False"),
    "stop on nan": ("terminate_on_nan=True", "detect_anomaly=True"),
    "do not": ("terminate_on_nan=False, amp_level='O2', max_epochs=1", "max_epochs=1"),
    "half precision": ("use_amp=True, amp_backend='native'", 'precision="16-mixed"'),
    "loaders anew": ("reload_dataloaders_every_epoch=True", "reload_dataloaders_every_n_epochs=1"),
    "what nothing is left of": (
        "max_epochs=1, auto_select_gpus=True, log_save_interval=10, flush_logs_every_n_steps=10, move_metrics_to_cpu=True, "
        "truncated_bptt_steps=2, auto_lr_find=True, auto_scale_batch_size=False, log_gpu_memory=None, track_grad_norm=-1, "
        "prepare_data_per_node=True, multiple_trainloader_mode='max_size_cycle', process_position=0, early_stop_callback=None",
        "max_epochs=1",
    ),
    "resuming from nothing": ("resume_from_checkpoint=None, max_epochs=1", "max_epochs=1"),
    "one on each line, with comments": (
        "\n    gpus=1,  # one\n    weights_summary=None,\n    # long\n    max_nb_epochs=90,\n",
        '\n    accelerator="gpu",  # one\n    devices=1,\n    enable_model_summary=False,\n    # long\n    max_epochs=90,\n',
    ),
}
CALLBACKS = {
    "a bar": (
        "progress_bar_refresh_rate=5, process_position=1",
        "callbacks=[TQDMProgressBar(refresh_rate=5, process_position=1)]",
    ),
    "a whole summary": ("weights_summary='full', callbacks=[c]", "callbacks=[c, ModelSummary(max_depth=-1)]"),
    "device statistics": ("log_gpu_memory='all'", "callbacks=[DeviceStatsMonitor()]"),
}
REFUSED = {
    "a TPU": ("tpu_cores=8", "no TPU engine"),
    "strategies that are gone": ("gpus=2, distributed_backend='dp'", "the strategy 'dp' is gone"),
    "apex": ("amp_backend='apex', amp_level='O2'", "apex is gone"),
    "gradient norms": ("track_grad_norm=2", "`track_grad_norm`"),
    "one download for all nodes": ("prepare_data_per_node=False", "`prepare_data_per_node`"),
    "the shortest loader": ("multiple_trainloader_mode='min_size'", "`multiple_trainloader_mode`"),
    "a call that would be made twice": ("gpus=pick()", "read twice"),
    "a callback or a switch": ("checkpoint_callback=args.save", "whether `args.save` is a callback"),
    "resuming, and no fit to be seen": ("resume_from_checkpoint='a'", "in another place"),
}


@pytest.mark.parametrize("arguments", SAME.values(), ids=SAME)
def test_stays(arguments: str) -> None:
    check_same(script(f"trainer = pl.Trainer({arguments})"))


def test_another_trainer_stays() -> None:
    check_same(script("from mine import Trainer\n\ntrainer = Trainer(gpus=2)"))


@pytest.mark.parametrize(("before", "after"), ROWS.values(), ids=ROWS)
def test_becomes(before: str, after: str) -> None:
    check(script(f"trainer = pl.Trainer({before})"), script(f"trainer = pl.Trainer({after})"), "trainer_arguments")


@pytest.mark.parametrize(("before", "after"), CALLBACKS.values(), ids=CALLBACKS)
def test_becomes_a_callback(before: str, after: str) -> None:
    name = (
        after.rpartition("[")[2].rpartition(", ")[2].partition("(")[0]
        if "[c" in after
        else after[11:].partition("(")[0]
    )
    head = HEAD.rstrip() + f"\nfrom lightify.runtime.callbacks import {name}\n\n\n"
    new = script(f"trainer = pl.Trainer({after})").replace(HEAD, head)
    check(script(f"trainer = pl.Trainer({before})"), new, "trainer_arguments")


def test_callbacks_by_name_join_the_list() -> None:
    before = "stop = EarlyStopping()\nsave = ModelCheckpoint()\nmine = [stop]\n"
    old = "t = pl.Trainer(checkpoint_callback=save, early_stop_callback=stop, callbacks=mine)"
    check(script(before + old), script(before + "t = pl.Trainer(callbacks=[*mine, save, stop])"), "trainer_arguments")


@pytest.mark.parametrize(
    "form", ["dict({})\nt = pl.Trainer(**given)", "dict({})\npl.cli.LightningCLI(M, trainer_defaults=given)"]
)
def test_arguments_in_a_dict(form: str) -> None:
    text = f"given = {form}"
    new = text.format('accelerator="gpu", devices=2')
    check(script(text.format("gpus=2")), script(new), "trainer_arguments")


def test_arguments_from_elsewhere_are_noted() -> None:
    text = "import pytorch_lightning as pl\n\ntrainer = pl.Trainer(max_epochs=1, **config)\n"
    result = run(text)
    assert result.text == text.replace("pytorch_lightning", "lightify.runtime")
    assert [(note.code, str(note.span)) for note in result.findings] == [("LF503", "old.py:3:36")]
    assert run(result.text).findings == ()


@pytest.mark.parametrize(("arguments", "reason"), REFUSED.values(), ids=REFUSED)
def test_is_refused(arguments: str, reason: str) -> None:
    check_refused(script(f"trainer = pl.Trainer(\n{arguments}\n)"), reason, arguments)
