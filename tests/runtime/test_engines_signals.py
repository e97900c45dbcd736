"""Signals: acted on between two batches; the process ends with the right status, and what was asked for is saved."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import lightify.runtime as L
import pytest
import torch
from lightify.runtime import checkpoints
from lightify.runtime.ckpt_path import next_hpc_path
from lightify.runtime.errors import Interrupted, SIGTERMException
from lightify.runtime.signals import Signals, requeue_job
from lightify.runtime.strategies import LightningEnvironment, SLURMEnvironment


class Listener:
    """Notes what it is told."""

    def __init__(self, environment: Any = None) -> None:
        self.notes: list[str] = []
        self.signals = Signals(
            wake=lambda: self.notes.append("wake"),
            requeue=lambda: self.notes.append("requeue"),
            environment=environment,
            pass_on=lambda number: self.notes.append(f"pass on {number}"),
        )


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_ctrl_c_waits_for_the_loop_and_the_second_does_not() -> None:
    listener = Listener()
    with listener.signals:
        send(signal.SIGINT)
        assert listener.notes == ["wake"]
        with pytest.raises(Interrupted):
            listener.signals.act()
        listener.signals.act()  # only once
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_sigterm_is_passed_on_and_ends_with_its_status() -> None:
    listener = Listener()
    with listener.signals:
        send(signal.SIGTERM)
        assert listener.notes == [f"pass on {signal.SIGTERM}", "wake"] and listener.signals.received_sigterm
        with pytest.raises(SIGTERMException) as caught:
            listener.signals.act()
    assert caught.value.code == 128 + signal.SIGTERM


def test_handlers_are_put_back_and_the_users_still_run() -> None:
    heard: list[int] = []

    def own(number: int, frame: Any) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGTERM, own)
    try:
        with Listener().signals:
            send(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is own and heard == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_users_ctrl_c_handler_stays() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Listener().signals:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("environment", "listens"),
    [
        (None, False),
        (LightningEnvironment(), False),
        (SLURMEnvironment(auto_requeue=False), False),
        (SLURMEnvironment(), True),
    ],
)
def test_the_requeue_signal_is_slurms(environment: Any, listens: bool) -> None:
    listener = Listener(environment)
    with listener.signals:
        assert (signal.getsignal(signal.SIGUSR1) != signal.SIG_DFL) == listens
        if listens:
            send(signal.SIGUSR1)
            listener.signals.act()
            assert listener.notes == ["wake", "requeue"]
            send(signal.SIGTERM)  # SLURM's own, which follows
            listener.signals.act()


def test_the_job_is_requeued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    command = tmp_path / "scontrol"
    command.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\n')
    command.chmod(command.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    requeue_job()
    assert (tmp_path / "called").read_text() == "requeue 42\n"
    monkeypatch.setenv("SLURM_JOB_ID", "42; rm -rf x")
    requeue_job()
    assert (tmp_path / "called").read_text() == "requeue 42\n"


def test_turns_of_a_job_are_counted(tmp_path: Path) -> None:
    trainer = L.Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path)
    assert next_hpc_path(trainer).name == "hpc_ckpt_1.ckpt"
    for number in (1, 2, 10):
        (tmp_path / f"hpc_ckpt_{number}.ckpt").touch()
    (tmp_path / "hpc_ckpt_x.ckpt").touch()
    assert next_hpc_path(trainer).name == "hpc_ckpt_11.ckpt"


SCRIPT = """
import os, sys, time, torch
import lightify.runtime as L
from torch.utils.data import DataLoader

class Net(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(2, 1)
        self.starts = True
    def training_step(self, batch, batch_idx):
        if self.starts:
            print(f"process {os.getpid()} trains from step {self.global_step}", flush=True)
            self.starts = False
        time.sleep(0.01)
        return self.net(batch).sum()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)

trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False,
                    enable_model_summary=False, default_root_dir=sys.argv[1],
                    callbacks=[L.ModelCheckpoint(dirpath=sys.argv[1], save_on_exception=True)])
try:
    trainer.fit(Net(), DataLoader(torch.randn(100000, 2)))
except KeyboardInterrupt:
    print("the script's own farewell", flush=True)
    if "decides" in sys.argv:
        sys.exit(7)
    raise
"""


class Started:
    """The script, in a process that has begun to train."""

    def __init__(self, python: str, folder: Path, argument: str = "", **environment: str) -> None:
        script = folder / "script.py"
        script.write_text(SCRIPT)
        self.process = subprocess.Popen(
            [python, script, folder, argument], env={**os.environ, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        _, pid, *_, step = self.process.stdout.readline().split()
        self.pid, self.step = int(pid), int(step)

    def send(self, number: int) -> None:
        os.kill(self.pid, number)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "argument", "status"),
    [(signal.SIGINT, "", 130), (signal.SIGINT, "decides", 7), (signal.SIGTERM, "", 143)],
    ids=["Ctrl-C", "Ctrl-C, the script decides", "SIGTERM"],
)
def test_a_run_ends_in_order(number: int, argument: str, status: int, tmp_path: Path, python: str) -> None:
    started = Started(python, tmp_path, argument)
    assert started.step == 0
    time.sleep(0.3)
    started.send(number)
    output, error = started.process.communicate(timeout=60)
    assert started.process.returncode == status, error
    assert "Traceback" not in error
    assert ("the script's own farewell" in output) == (number == signal.SIGINT)
    saved = list(tmp_path.glob("*.ckpt"))
    assert len(saved) == 1
    assert checkpoints.load(saved[0])["global_step"] > 0


@pytest.mark.slow
def test_a_requeued_job_goes_on_where_it_was(tmp_path: Path, python: str) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\n')
    scontrol.chmod(scontrol.stat().st_mode | stat.S_IEXEC)
    environment = {
        "SLURM_JOB_ID": "42", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
        "SLURM_JOB_NAME": "x", "SLURM_NODELIST": "localhost", "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    started = Started(python, tmp_path, **environment)
    assert started.step == 0
    started.send(signal.SIGUSR1)
    deadline = time.monotonic() + 60
    while not (tmp_path / "called").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (tmp_path / "called").read_text() == "requeue 42\n"
    started.send(signal.SIGTERM)  # SLURM's, which ends the old turn; the new one is asked for already
    time.sleep(0.3)
    assert started.process.poll() is None
    started.send(signal.SIGKILL)
    started.process.communicate()
    saved = checkpoints.load(tmp_path / "hpc_ckpt_1.ckpt")["global_step"]
    assert saved > 0
    again = Started(python, tmp_path, **environment)
    again.send(signal.SIGKILL)
    again.process.communicate()
    assert again.step == saved


class Interrupting(L.LightningModule):
    """Sends itself a signal in the third batch of a step, once or twice."""

    def __init__(self, step: str, number: int, times: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.where, self.number, self.times = step, number, times
        self.finished: list[str] = []

    def _run(self, step: str, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        if step == self.where and batch_idx == 2:
            for _ in range(self.times):
                send(self.number)
        self.finished.append(step)
        return self.layer(batch).sum()

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self._run("fit", batch, batch_idx)

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self._run("validate", batch, batch_idx)

    def test_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self._run("test", batch, batch_idx)

    def predict_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self._run("predict", batch, batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Farewell(L.Callback):
    def __init__(self) -> None:
        self.heard: list[type[BaseException]] = []

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        self.heard.append(type(exception))


@pytest.mark.parametrize("step", ["fit", "validate", "test", "predict", "validate within fit"])
@pytest.mark.parametrize(
    ("number", "times", "finished", "error"),
    [
        (signal.SIGINT, 1, 3, KeyboardInterrupt),
        (signal.SIGINT, 2, 2, KeyboardInterrupt),
        (signal.SIGTERM, 1, 3, SystemExit),
        (signal.SIGTERM, 2, 3, SystemExit),
    ],
    ids=["Ctrl-C", "Ctrl-C twice", "SIGTERM", "SIGTERM twice"],
)
@pytest.mark.filterwarnings("ignore")
def test_every_method_ends_after_the_batch_or_at_once(
    step: str, number: int, times: int, finished: int, error: type[BaseException]
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        module, farewell = Interrupting(step.split()[0], number, times), Farewell()
        trainer = L.Trainer(
            accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0, callbacks=farewell,
        )  # fmt: skip
        loader = torch.ones(5, 1, 2)
        with pytest.raises(error) as caught:
            if step in ("fit", "validate within fit"):
                trainer.fit(module, loader, loader)
            else:
                getattr(trainer, step)(module, loader)
        assert module.finished.count(module.where) == finished
        assert trainer.interrupted and len(farewell.heard) == 1 and issubclass(farewell.heard[0], error)
        assert trainer.received_sigterm == (number == signal.SIGTERM)
        if number == signal.SIGTERM:
            assert caught.value.code == 128 + signal.SIGTERM  # type: ignore[attr-defined]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)
