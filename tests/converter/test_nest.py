"""What stands around the batch loop in an epoch: a `with`, an `if`, an expression, an early `continue`."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import indent

import pytest

from lightify.ledger import Fate
from tests.converter.scripts import PROLOGUE, SETUP, STEP, converted, methods, script

TRAIN = f"""
def train(model, criterion, optimizer):
    total = 0
    for x, y in train_loader:
{indent(STEP, " " * 8)}
        total += loss.item()
    return total / len(train_loader)


"""
TIMER = """
class Timer:
    def __enter__(self):
        print("on")
        return self

    def __exit__(self, *why):
        print("off")


"""
CALL = "train(model, criterion, optimizer)"
BATCHES = f"for x, y in train_loader:\n{indent(STEP, '    ')}\n"
GUARDED = f"""def guarded(epoch):
    if epoch == 1:
        return 0
    total = 0
    for x, y in train_loader:
{indent(STEP, " " * 8)}
        total += loss.item()
    return total
"""
ENDING = f"""def ending(epoch):
    total = 0
    for x, y in train_loader:
{indent(STEP, " " * 8)}
        if epoch == 1:
            return -1
        total += loss.item()
    return total
"""


def epochs(body: str, head: str = "for epoch in range(3):", before: str = "") -> str:
    """A run in a function of its own, whose epochs have a body."""
    return f"{SETUP}{before}{head}\n{indent(body, '    ')}\n"


def whole(run: str) -> str:
    """A script of one run at the top level."""
    return PROLOGUE + TIMER + (TRAIN if CALL in run else "") + run


# id: the run; a hook and what it does
SHAPES = {
    "a context": (
        epochs(f"with Timer() as timer:\n    total = 0\n{indent(BATCHES, '    ')}    print(total)\nprint(timer)"),
        ("on_train_epoch_start", "self.timer = self.contexts.enter_context(Timer())\nself.total = 0"),
        ("on_train_epoch_end", "self.print(self.total)\nself.contexts.close()\nself.print(self.timer)"),
    ),
    "a context that sets a mode": (
        epochs(f"with torch.autograd.set_detect_anomaly(True):\n{indent(BATCHES, '    ')}"),
        ("on_train_epoch_start", "self.contexts.enter_context(torch.autograd.set_detect_anomaly(True))"),
        ("on_train_epoch_end", "self.contexts.close()"),
    ),
    "a context around the call": (
        epochs(f"with Timer():\n    loss = {CALL}\nprint(loss)"),
        ("on_train_epoch_start", "self.contexts.enter_context(Timer())\nself.total = 0"),
        ("on_train_epoch_end", "loss = self.total / len(train_loader)\nself.contexts.close()"),
    ),
    "a bar": (
        epochs(
            "with tqdm(total=30) as bar:\n    for x, y in train_loader:\n"
            f"{indent(STEP, '        ')}\n        bar.update(len(x))\n        bar.set_postfix(loss=loss.item())",
            before="from tqdm import tqdm\n",
        ),
        ("training_step", "self.log('loss', loss, prog_bar=True)"),
    ),
    "epochs with a step": (
        epochs(f"{BATCHES}print(epoch)", "for epoch in range(1, 6, 2):"),
        ("on_train_epoch_start", "self.epoch = range(1, 6, 2)[self.current_epoch]"),
    ),
    "epochs of a list": (
        epochs(
            f"optimizer.param_groups[0]['lr'] = lr\n{BATCHES}", "for n, lr in enumerate(rates):", "rates = [0.1, 0.2]\n"
        ),
        ("on_train_epoch_start", "lr = rates[self.current_epoch]"),
    ),
    "epochs that nobody counts": (
        epochs(f"{BATCHES}print(name)", "for name in iter('abc'):"),
        (
            "on_train_epoch_start",
            "if self.current_epoch == 0:\n    self.epoch_values = iter('abc')\n"
            "for self.name in self.epoch_values:\n    break\nelse:\n    self.pass_skipped = True\n"
            "    self.trainer.should_stop = True\n    return",
        ),
    ),
    "epochs that nobody counts, around a loop that calls its number iter": (
        epochs(
            f"for iter in range(2):\n    x, y = data[iter : iter + 4]\n{indent(STEP, '    ')}\nprint(rate)",
            "for rate in rates.tolist():",
            "rates = torch.tensor([0.1, 0.2])\n",
        ),
        ("on_train_epoch_start", "self.epoch_values = iter(rates.tolist())"),
    ),
    "epochs that a test counts": (
        epochs(f"{BATCHES}print(n)", "while (n := n + 1) < 4:", "n = 0\n"),
        ("on_train_epoch_start", "self.n = self.n + 1\nif not self.n < 4:\n    self.pass_skipped = True"),
    ),
    "batches that a test takes": (
        epochs(
            f"batches = iter(train_loader)\nwhile (batch := next(batches, None)) is not None:\n    x, y = batch\n{indent(STEP, '    ')}"
        ),
        (
            "training_step",
            "if (batch := next(self.batches, None)) is None:\n    self.pass_ended = True\n    return None",
        ),
    ),
    "an argument": (
        epochs(f"losses.append({CALL})", before="losses = []\n"),
        ("on_train_epoch_end", "losses.append(self.total / len(train_loader))"),
    ),
    "an item": (
        epochs(f"history['loss'] += [{CALL}]", before="history = {'loss': []}\n"),
        ("on_train_epoch_end", "history['loss'] += [self.total / len(train_loader)]"),
    ),
    "a test": (
        epochs(f"if {CALL} < 0.6:\n    break"),
        ("on_train_epoch_end", "if self.total / len(train_loader) < 0.6:\n    self.trainer.should_stop = True"),
    ),
    "an epoch that is left out": (
        epochs(f"if epoch == 1:\n    continue\n{BATCHES}print(epoch)"),
        ("on_train_epoch_start", "if self.current_epoch == 1:\n    self.pass_skipped = True"),
        ("on_train_epoch_end", "if self.pass_skipped:\n    return\nself.print(self.current_epoch)"),
    ),
    "an epoch that ends the run": (
        epochs(f"if epoch == 2:\n    break\n{BATCHES}"),
        ("on_train_epoch_start", "    self.pass_skipped = True\n    self.trainer.should_stop = True"),
    ),
    "batches now and then": (
        epochs(
            f"if epoch % 2 == 0:\n{indent(BATCHES, '    ')}    print('trained')\nelse:\n    print('not')\nprint(epoch)"
        ),
        ("on_train_epoch_start", "if self.current_epoch % 2 != 0:\n    self.pass_skipped = True"),
        ("on_train_epoch_end", "if not self.pass_skipped:\n    self.print('trained')\nelse:\n    self.print('not')"),
    ),
    "a function that may train nothing": (
        epochs("value = guarded(epoch)\nprint(value)", before=GUARDED),
        ("on_train_epoch_start", "if self.current_epoch == 1:\n    self.pass_skipped = True"),
        (
            "on_train_epoch_end",
            "if not self.pass_skipped:\n    value = self.total\nelse:\n    value = 0\nself.print(value)",
        ),
    ),
    "a function that ends the batches": (
        epochs("values.append(ending(epoch))", before="values = []\n" + ENDING),
        ("on_train_batch_end", "    self.ending_result = -1\n    self.pass_ended = True"),
        ("on_train_epoch_end", "if not self.pass_ended:\n    self.ending_result = self.total\nvalues.append("),
    ),
    "batches under else": (
        epochs(f"if epoch == 0:\n    print('warm')\nelse:\n    {CALL}\nprint(epoch)"),
        (
            "on_train_epoch_start",
            "if self.current_epoch == 0:\n    self.pass_skipped = True\n    return\nself.total = 0",
        ),
        ("on_train_epoch_end", "if self.pass_skipped:\n    self.print('warm')\nself.print(self.current_epoch)"),
    ),
}
ALL = (
    PROLOGUE
    + TIMER
    + TRAIN
    + "".join(
        f"def run_{number}():\n{indent(shape[0], '    ')}\n\nrun_{number}()\n"
        for number, shape in enumerate(SHAPES.values())
    )
)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_what_stands_around_the_batches_moves_to_the_hooks(shape: tuple[str, ...]) -> None:
    done = converted(whole(shape[0]))
    assert done.mode == "automatic", (done.reasons, done.refusals)
    for name, lines in shape[1:]:
        assert lines in methods(done.text)[name]
    fates = {entry.fate for entry in done.ledger.entries if "with" in entry.text or "if epoch" in entry.text}
    assert fates <= {Fate.MOVED, Fate.REPLACED}


def test_fit_leaves_the_contexts_when_an_exception_ends_it() -> None:
    text = converted(whole(SHAPES["a context"][0])).text
    assert text is not None and "with module.contexts:\n    trainer.fit(module, train_loader)\n" in text


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["bundled", pytest.param("lightning", marks=pytest.mark.lightning)])
def test_all_of_them_train_identically(runtime: str, trains_identically: Callable[[str, str | None], None]) -> None:
    done = converted(ALL, runtime=runtime)
    assert done.text is not None and done.text.count(".fit(") == len(SHAPES)
    trains_identically(ALL, done.text)


RUN = """
def run(loader, optimizer=None, mode="train"):
    training = optimizer is not None
    model.train() if training else model.eval()
    total = 0.0
    with torch.set_grad_enabled(training):
        for x, y in loader:
            loss = criterion(model(x), y)
            if training:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            total += loss.item()
    print(f"{mode} loss {total / len(loader):.4f}")
    return total

"""
#: A function that trains or evaluates, as it is called.
SHARED = {
    "by its optimizer": RUN,
    "by what its optimizer is": RUN.replace("if training:", "if optimizer:").replace(" is not None", ""),
    "by a word": RUN.replace("optimizer is not None", "mode == 'train'").replace("optimizer=None, ", ""),
}


@pytest.mark.parametrize("function", SHARED.values(), ids=SHARED)
def test_a_function_that_trains_and_evaluates(function: str) -> None:
    calls = "run(train_loader)\nrun(val_loader, mode='val')"
    if "optimizer=" in function:
        calls = "run(train_loader, optimizer)\nrun(val_loader)"
    text = script("pass", define=function, start=calls, batches="if False:")
    done = converted(text)
    hooks = methods(done.text)
    assert done.mode == "automatic" and "None" not in hooks["configure_optimizers"], done.reasons
    assert "self.print(f'train loss {self.total / len(train_loader):.4f}')" in hooks["on_train_epoch_end"]


FLAT = {
    "a with that swallows": ("with contextlib.suppress(ValueError):", "may swallow exceptions"),
    "no gradients": ("with torch.no_grad():", "where gradients are off"),
    "two withs": ("with Timer():\n  with Timer():", "several with statements"),
    "a try": ("try:", "inside a try statement"),
}


@pytest.mark.parametrize(("head", "reason"), FLAT.values(), ids=FLAT)
def test_other_blocks_around_the_batches_keep_the_epochs_in_one_step(head: str, reason: str) -> None:
    end = "finally:\n    print(epoch)" if head == "try:" else ""
    text = script(
        "pass",
        epochs="if True:",
        batches="if True:",
        define=TIMER + "import contextlib\n",
        after=epochs(f"{head}\n{indent(BATCHES, '    ')}{end}"),
    )
    done = converted(text)
    assert done.mode == "manual" and any(reason in found for found in done.reasons), done.reasons


def test_a_number_made_before_the_step_is_shown_after_it() -> None:
    clip = "norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)\nif norm > 5:\n    print(norm)\n"
    batch = STEP.replace("optimizer.step()", f"{clip}optimizer.step()\nprint(norm)")
    hooks = methods(converted(script(batch)).text)
    assert "norm" not in hooks["training_step"] and "self.norm" in hooks["on_train_batch_end"]


def test_a_phase_is_plain_text_in_an_f_string() -> None:
    batches = f"for x, y in loaders[phase]:\n{indent(STEP, '    ')}\n"
    text = f"for phase in ['train']:\n{indent(batches, '    ')}    print(f'{{phase}} {{names[phase]}}')\n    print(f'{{phase}}:')"
    run = epochs(text, before="loaders, names = {'train': train_loader}, {'train': 'training'}\n")
    done = converted(whole(run))
    assert done.text is not None and """f'train {names["train"]}'""" in done.text and "print('train:')" in done.text


@pytest.mark.parametrize(
    ("end", "after", "left"),
    [
        ("if phase == 'val':\n    print(epoch)", "", "\nphase = 'val'\n"),
        ("", "print(phase)", "\nself.phase = 'val'"),
        ("for phase in ['a', 'b']:\n    print(phase)", "", ""),
        ("", "", ""),
    ],
    ids=["read in the epoch", "read after the run", "bound anew", "read nowhere else"],
)
def test_the_last_phase_stays_bound(end: str, after: str, left: str) -> None:
    batches = f"for x, y in loaders[phase]:\n{indent(STEP, '    ')}\n"
    text = (
        f"for phase in ['train', 'val']:\n    print(phase)\n    if phase == 'train':\n{indent(batches, ' ' * 8)}\n{end}"
    )
    done = converted(whole(epochs(text, before="loaders = {'train': train_loader}\n") + f"{after}\n"))
    hooks = methods(done.text)
    assert (left or "self.print('val')") in hooks["on_train_epoch_end"]
    assert left or "phase = 'val'" not in hooks["on_train_epoch_end"]


def test_phases_that_stay_a_loop_are_part_of_the_epoch() -> None:
    batches = f"for x, y in loaders[phase]:\n{indent(STEP, '    ')}\n"
    text = f"for phase in ['train', 'val']:\n{indent(batches, '    ')}    if phase == last:\n        break\n"
    run = epochs(text, before="loaders, last = {'train': train_loader, 'val': train_loader}, 'val'\n")
    done = converted(whole(run))
    assert done.text is not None and "for epoch in" not in done.text and "for phase in" in done.text
