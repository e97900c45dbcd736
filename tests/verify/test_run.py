"""Real scripts in real child processes."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lightify.errors import LightifyError
from lightify.verify import Outcome, Verdict, verify
from lightify.verify.run import Command, run_traced, run_traced_pair

Check = Callable[..., Verdict]

BASE = """\
import sys
import torch
from torch import nn

model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
steps = int(sys.argv[1]) if len(sys.argv) > 1 else 6
for step in range(steps):
    x = torch.randn(8, 3)
    optimizer.zero_grad()
    loss = model(x).pow(2).mean()
    loss.backward()
    optimizer.step()
model.eval()
with torch.no_grad():
    print(model(torch.ones(1, 3)))
"""

GAN = """\
import torch
from torch import nn

G, D = nn.Linear(2, 3), nn.Linear(3, 1)
opt_g, opt_d = (torch.optim.Adam(net.parameters()) for net in (G, D))
for _ in range(3):
    fake = G(torch.randn(4, 2))
    opt_d.zero_grad()
    D(torch.randn(4, 3)).mean().backward()
    torch.autograd.backward([-D(fake.detach()).mean()])
    opt_d.step()
    opt_g.zero_grad()
    D(fake).mean().backward()
    opt_g.step()
"""

BY_HAND = """\
import torch

weight = torch.zeros(3, requires_grad=True)
for _ in range(5):
    loss = (torch.randn(8, 3) @ weight - 1).pow(2).mean()
    loss.backward()
    with torch.no_grad():
        weight -= 0.1 * weight.grad
        weight.grad = None
"""

SPAWNED = """\
import torch
import torch.multiprocessing as mp

def work(rank):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1 * (rank + 1))
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(4, 2)).mean().backward()
        optimizer.step()

if __name__ == "__main__":
    mp.spawn(work, nprocs=2)
"""

DATA = """\
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

loader = DataLoader(TensorDataset(torch.randn(24, 3)), batch_size=8, shuffle=True)
model = nn.Linear(3, 1)
"""

PLAIN = (
    DATA
    + """
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(2):
    for (x,) in loader:
        optimizer.zero_grad()
        loss = model(x).pow(2).mean()
        loss.backward()
        optimizer.step()
"""
)

LIGHTNING = (
    DATA
    + """
import lightning as L

class Lit(L.LightningModule):
    def __init__(self, model):
        super().__init__()
        self.model = model
    def training_step(self, batch, batch_idx):
        return self.model(batch[0]).pow(2).mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

trainer = L.Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
trainer.fit(Lit(model), loader)
"""
)

DRAWS_WHILE_IMPORTED = """\
import torch
torch.randn(5)
"""


@pytest.fixture
def check(tmp_path: Path, python: str) -> Check:
    """Compares two texts; `python=None` starts an interpreter for each, as a user's command does."""

    def compared(old: str, new: str, **options: object) -> Verdict:
        (tmp_path / "old.py").write_text(old)
        (tmp_path / "new.py").write_text(new)
        return verify(tmp_path / "old.py", tmp_path / "new.py", **{"python": python, **options})  # type: ignore[arg-type]

    return compared


def test_identical_though_written_differently(check: Check) -> None:
    new = BASE.replace("loss = model(x).pow(2).mean()", "y = model(x); loss = (y * y).mean()")
    new = new.replace("model.parameters()", "reversed(list(model.parameters()))")
    verdict = check(BASE, new, python=None)
    assert verdict.outcome is Outcome.IDENTICAL, verdict.sentence
    assert verdict.sentence == "6 steps, 6 losses, 1 evaluation outputs"
    assert verdict.old.trace.steps[0].line is not None
    assert str(verdict.old.trace.steps[0].line) == "old.py:13"


@pytest.mark.slow
def test_learning_rate_that_changes_at_a_step(check: Check) -> None:
    change = "    optimizer.param_groups[0]['lr'] = 0.1 + (step == 3)\n"
    new = BASE.replace("    optimizer.step()", change + "    optimizer.step()")
    verdict = check(BASE, new)
    assert verdict.outcome is Outcome.DIFFERS
    assert verdict.difference is not None
    assert (verdict.difference.step, verdict.difference.kind) == (4, "parameters")
    assert str(verdict.difference.line) == "old.py:13"
    assert [row.same for row in verdict.rows] == [True] * 3 + [False] * 3


@pytest.mark.slow
def test_other_random_draws_show_in_the_loss(check: Check) -> None:
    verdict = check(BASE, BASE.replace("    optimizer.zero", "    torch.rand(1)\n    optimizer.zero"))
    assert verdict.difference is not None
    assert (verdict.difference.step, verdict.difference.kind) == (1, "loss")
    assert str(verdict.difference.line) == "old.py:12"


@pytest.mark.slow
def test_step_counts_and_arguments(check: Check) -> None:
    same = check(BASE, BASE, args_old=["4"])
    assert (same.outcome, len(same.rows)) == (Outcome.IDENTICAL, 4)
    other = check(BASE, BASE, args_old=["4"], args_new=["5"])
    assert other.outcome is Outcome.OTHER_STEP_COUNT
    assert other.sentence == "4 steps became 5; the first 4 are identical"


@pytest.mark.slow
def test_leaves_after_the_wanted_steps(check: Check) -> None:
    verdict = check(BASE, BASE.replace("if len", "if 0 * len"), steps=3, args_old=["100000000"])
    assert verdict.outcome is Outcome.IDENTICAL, verdict.sentence
    assert len(verdict.old.trace.steps) == len(verdict.new.trace.steps) == 3


@pytest.mark.slow
def test_evaluation_alone_differs(check: Check) -> None:
    verdict = check(BASE, BASE.replace("torch.ones(1, 3)", "torch.zeros(1, 3)"))
    assert verdict.outcome is Outcome.DIFFERS
    assert verdict.sentence.startswith("all 6 steps are identical, but evaluation differs before step 7 (old.py:16)")


WRAPPED = """\
class LightningModule(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        self.net(x)

class Wrapper(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        self.module(x)

model.eval()
with torch.no_grad():
    Wrapper(LightningModule(model))(torch.ones(1, 3))
"""


@pytest.mark.slow
def test_a_network_is_seen_within_the_module_that_calls_it(check: Check) -> None:
    """A wrapper for several processes hands the steps on by its own `forward`, which returns nothing."""
    verdict = check(BASE, BASE.partition("model.eval()")[0] + WRAPPED)
    assert verdict.outcome is Outcome.IDENTICAL and verdict.sentence.endswith("1 evaluation outputs")


@pytest.mark.slow
def test_crash_shows_the_scripts_own_words(check: Check) -> None:
    verdict = check(BASE, BASE.replace("model.eval()", "raise RuntimeError('disk is full')"))
    assert verdict.outcome is Outcome.FAILED
    assert verdict.sentence.endswith("exit code 1: RuntimeError: disk is full; the first 6 steps are identical")


@pytest.mark.slow
def test_time_over_and_never_trained(check: Check) -> None:
    stuck = check(BASE, BASE.replace("model.eval()", "__import__('time').sleep(99)"), timeout_s=10)
    assert stuck.outcome is Outcome.TIMED_OUT
    assert stuck.new.timed_out and not stuck.old.timed_out
    idle = check("print('nothing')", BASE)
    assert idle.outcome is Outcome.NEVER_TRAINED
    assert "old.py never made a backward call" in idle.sentence


@pytest.mark.slow
def test_several_backward_calls_and_optimizers(check: Check) -> None:
    verdict = check(GAN, GAN)
    assert verdict.outcome is Outcome.IDENTICAL
    assert [len(step.losses) for step in verdict.old.trace.steps] == [2, 1] * 3


@pytest.mark.slow
def test_weights_updated_by_hand_are_compared_by_their_losses(check: Check) -> None:
    assert check(BY_HAND, BY_HAND).outcome is Outcome.IDENTICAL
    verdict = check(BY_HAND, BY_HAND.replace("0.1", "0.2"))
    assert verdict.difference is not None
    assert (verdict.difference.step, verdict.difference.kind) == (2, "loss")


@pytest.mark.slow
def test_spawned_processes_are_traced(check: Check) -> None:
    verdict = check(SPAWNED, SPAWNED, python=None)
    assert (verdict.outcome, len(verdict.rows)) == (Outcome.IDENTICAL, 4)


@pytest.mark.slow
def test_importing_a_training_library_does_not_move_the_random_state(tmp_path: Path, check: Check) -> None:
    (tmp_path / "torchmetrics.py").write_text(DRAWS_WHILE_IMPORTED)
    verdict = check(BASE, "import torchmetrics\n" + BASE, python=None)
    assert verdict.outcome is Outcome.IDENTICAL, verdict.sentence


@pytest.mark.slow
def test_script_sees_itself_as_main(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("LR = 0.1\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, pickle, inspect\nfrom helper import LR\n"
        "class Config: pass\n"
        "if __name__ == '__main__':\n"
        "    pickle.loads(pickle.dumps(Config()))\n"
        "    inspect.getsource(Config)\n"
        "    assert sys.argv == [__file__, '--lr', '1'], sys.argv\n"
        "    raise SystemExit(7)\n"
    )
    run = run_traced(Command(script, ("--lr", "1")))
    assert (run.exit_code, run.stderr_tail) == (7, "")


@pytest.mark.slow
@pytest.mark.lightning
def test_plain_loop_equals_lightning(check: Check) -> None:
    pytest.importorskip("lightning")
    verdict = check(PLAIN, LIGHTNING, python=None)
    assert verdict.outcome is Outcome.IDENTICAL, verdict.sentence
    assert str(verdict.new.trace.steps[0].line) == "new.py:20"


def test_wrong_use_is_said_before_anything_runs(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(BASE)
    with pytest.raises(LightifyError, match="LF301"):
        verify(script, tmp_path / "missing.py")
    with pytest.raises(LightifyError, match="LF302"):
        verify(script, script, steps=0)


def test_parent_never_imports_torch() -> None:
    program = "import sys, lightify.verify; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_scripts_with_a_process_group_take_turns(tmp_path: Path) -> None:
    """Both wait for their processes at the same port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = tmp_path / "group.py"
    script.write_text(
        "import socket, time  # a stand-in for torch.distributed\n"
        f"listener = socket.create_server(('127.0.0.1', {port}), reuse_port=False)\ntime.sleep(1.5)\n",
        encoding="utf-8",
    )
    runs = run_traced_pair(Command(script, timeout_s=60), Command(script, timeout_s=60))
    assert [run.exit_code for run in runs] == [0, 0], runs
