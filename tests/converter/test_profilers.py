"""A profiler of the script's own around its batches becomes the Trainer's, in the idiomatic style."""

from __future__ import annotations

from textwrap import indent

import pytest

from lightify.ledger import Fate
from tests.converter.scripts import STEP, converted, methods, script

IMPORT = "from torch.profiler import ProfilerActivity, profile, schedule, tensorboard_trace_handler\n"
OPTIONS = "activities=[ProfilerActivity.CPU], schedule=schedule(wait=1, warmup=1, active=1)"
HEAD = f"with profile({OPTIONS}) as prof:"
BATCH = f"{STEP}\nprof.step()"


def profiled(head: str = HEAD, batch: str = BATCH, *, start: str = "", end: str = "", after: str = "") -> str:
    """Epochs in a function, whose batches stand in a `with`."""
    loop = f"{head}\n    for i, (x, y) in enumerate(train_loader):\n{indent(batch, '        ')}\n"
    train = f"def train(epoch, wait):\n{indent(f'{start}{loop}{end}', '    ')}\n"
    main = "    plan_of_main = 1\n    for epoch in range(3):\n        train(epoch, plan_of_main)\n" + indent(
        after, "    "
    )
    return script(
        "pass", epochs="if False:", batches="if True:", before=f"{IMPORT}{train}", after=f"def main():\n{main}\nmain()"
    )


def around(head: str) -> str:
    """The same around all epochs."""
    before, _, loop = script(before=IMPORT).partition("\nfor epoch")
    return f"{before}\n{head}\n{indent(f'for epoch{loop}', '    ')}\nprint(loss)\n"


TAKEN = {
    "told of each step": profiled(),
    "told first": profiled(batch=f"prof.step()\n{STEP}"),
    "told now and then": profiled(batch=f"{STEP}\nif i < 3:\n    prof.step()"),
    "without a name": profiled(f"with profile({OPTIONS}):", STEP),
    "records all": profiled("with profile(record_shapes=True) as prof:"),
    "writes its traces": profiled(
        "with profile(on_trace_ready=tensorboard_trace_handler('out'), schedule=plan) as prof:",
        start="plan = schedule(wait=wait, warmup=1, active=1)\n",
    ),
    "shows its traces": profiled(
        "with profile(on_trace_ready=ready) as prof:",
        start="def ready(p):\n    print(p.key_averages().table(row_limit=wait))\n    p.export_chrome_trace('t.json')\n",
    ),
    "beside another": profiled(f"with torch.autograd.set_detect_anomaly(True), profile({OPTIONS}) as prof:"),
    "around all epochs": around(HEAD),
}


@pytest.mark.parametrize("text", TAKEN.values(), ids=TAKEN)
def test_a_profiler_that_is_only_told_of_steps_is_the_trainers(text: str) -> None:
    done = converted(text, style="idiomatic")
    assert done.mode == "automatic" and done.text is not None, (done.reasons, done.refusals)
    assert "profiler=L.profilers.PyTorchProfiler(" in done.text and "prof.step()" not in done.text
    assert "with profile(" not in done.text and "(profile(" not in done.text
    assert any("torch's profiler is the Trainer's" in departure for departure in done.departures)
    told = {entry.fate for entry in done.ledger.entries if entry.text.strip().startswith(("prof.", "with "))}
    assert told == {Fate.REPLACED}


KEPT = {
    "read afterwards": profiled(end="print(prof.key_averages())\n"),
    "handed on": profiled(batch=f"{BATCH}\nprint(prof)"),
    "read after the run": f"{around(HEAD)}\nprint(prof.events())\n",
    "options in a dictionary": profiled("with profile(**dict(with_stack=True)) as prof:"),
    "an option of its own": profiled("with profile(use_cuda=True) as prof:"),
    "its handler counts": profiled(
        "with profile(on_trace_ready=ready) as prof:", start="traces = []\ndef ready(p):\n    traces.append(p)\n"
    ),
    "its handler draws": profiled(
        "with profile(on_trace_ready=ready) as prof:", start="def ready(p):\n    print(torch.rand(1))\n"
    ),
    "its handler knows the epoch": profiled("with profile(on_trace_ready=lambda p: print(epoch)) as prof:"),
    "a name that the host has": profiled(
        "with profile(schedule=plan_of_main) as prof:", start="plan_of_main = schedule(wait=1, warmup=1, active=1)\n"
    ),
    "chosen for each epoch": profiled(
        "with profile(schedule=plan) as prof:", start="plan = schedule(wait=epoch, warmup=1, active=1)\n"
    ),
}


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT)
def test_another_profiler_stays(text: str) -> None:
    done = converted(text, style="idiomatic")
    assert done.text is not None and "PyTorchProfiler" not in done.text, done.refusals
    assert not any("profiler" in departure for departure in done.departures)


def test_what_makes_the_profiler_is_made_before_the_trainer() -> None:
    done = converted(TAKEN["shows its traces"], style="idiomatic")
    assert done.text is not None and set(methods(done.text)) == {"__init__", "training_step", "configure_optimizers"}
    head, _, run = done.text.partition("module = ")
    assert "def ready(p):" not in head and "row_limit=plan_of_main" in run
    assert run.index("    def ready(p):") < run.index("trainer = L.Trainer(")
    assert "\n\n\n    " not in run.partition("\nmain()")[0]


def test_the_faithful_style_keeps_the_profiler() -> None:
    done = converted(profiled())
    assert done.text is not None and "PyTorchProfiler" not in done.text
    assert "self.prof = self.contexts.enter_context(" in done.text and "self.prof.step()" in done.text
