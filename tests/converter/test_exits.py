"""Leaving the loops: break, return, else, and epochs that a condition counts."""

from __future__ import annotations

from textwrap import indent

import pytest

from tests.converter.scripts import FORWARD, STEP, converted, methods, script

STOP = "self.trainer.should_stop = True"


def in_function(start: str, batch: str = STEP, end: str = "", otherwise: str = "") -> str:
    loop = f"{start}\n    for x, y in train_loader:\n{indent(batch, ' ' * 8)}\n{indent(end, '    ')}\n{otherwise}"
    define = f"def train(model, optimizer):\n    n = 0\n{indent(loop, '    ')}\n    return n\n\n"
    return script("pass", epochs="if True:", batches="if True:", define=define, after="print(train(model, optimizer))")


EPOCHS = "for epoch in range(3):"
# id: the script, the hook that leaves, what it does; what follows fit
EXITS = {
    "return at an epoch's end": (
        in_function(EPOCHS, end="if loss.item() < 0.5:\n    return model, epoch"),
        ("on_train_epoch_end", f"self.returned = ((self.model, self.current_epoch),)\n    {STOP}"),
        "    if module.returned:\n        return module.returned[0]\n",
    ),
    "return after a step": (
        in_function(EPOCHS, f"{STEP}\nif loss.item() < 0.5:\n    return", "print(epoch)"),
        ("on_train_batch_end", f"self.returned = (None,)\n    self.pass_ended = True\n    {STOP}"),
        "    if module.returned:",
    ),
    "after it the epoch's end does not run": (
        in_function(EPOCHS, f"{STEP}\nif loss.item() < 0.5:\n    return", "print(epoch)"),
        ("on_train_epoch_end", "if self.returned:\n    return"),
        "",
    ),
    "return before a step": (
        in_function(EPOCHS, f"{FORWARD}\nif loss.item() > 9:\n    return 'nan'\n{STEP}"),
        ("training_step", "self.returned = ('nan',)\n    self.pass_ended = True"),
        "",
    ),
    "return from an evaluation": (
        in_function(EPOCHS, end="for x, y in val_loader:\n    if len(x) < 8:\n        return x"),
        ("on_train_epoch_end", f"self.returned = (x,)\n        {STOP}\n        return"),
        "",
    ),
    "a function's own return stays": (
        in_function(EPOCHS, f"def half(t):\n    return t / 2\n{STEP.replace('backward', 'mul(1).backward')}"),
        ("training_step", "return t / 2"),
        "    return n",
    ),
    "else of the epochs": (
        in_function(EPOCHS, end="if loss.item() < 0.5:\n    break", otherwise="else:\n    n = -1"),
        ("on_train_epoch_end", f"self.epochs_ended = True\n    {STOP}"),
        "    if not module.epochs_ended:\n        n = -1\n    return n",
    ),
    "else that always runs": (
        in_function(EPOCHS, otherwise="else:\n    n = -1"),
        ("configure_optimizers", "return"),
        "fit(module, train_loader)\n    n = -1\n    return n",
    ),
    "else of the batches": (
        in_function(EPOCHS, f"{STEP}\nif loss.item() < 0.5:\n    break", otherwise="    else:\n        n += 1"),
        ("on_train_epoch_end", "if not self.pass_ended:\n    self.n += 1"),
        "n = module.n",
    ),
    "break before the evaluation": (
        in_function(EPOCHS, end="if loss.item() < 0.5:\n    break\nfor x, y in val_loader:\n    n += 1"),
        ("on_train_epoch_end", f"{STOP}"),
        "",
    ),
    "epochs while a condition holds": (
        in_function("while n < 3:", end="n += 1"),
        ("on_train_epoch_end", "self.n += 1\nself.trainer.should_stop = not self.another_epoch()"),
        "max_epochs=-1 if n < 3 else 0",
    ),
    "the condition is asked after continue, too": (
        in_function("while n < 3:", end="n += 1\nif n == 2:\n    continue\nprint(n)"),
        ("on_train_epoch_end", "self.trainer.should_stop = not self.another_epoch()\n    return"),
        "max_epochs=-1 if n < 3 else 0",
    ),
    "epochs without end": (
        in_function("while True:", end="n += 1\nif n == 3:\n    break"),
        ("on_train_epoch_end", f"{STOP}"),
        "max_epochs=-1,",
    ),
}


@pytest.mark.parametrize(("text", "hook", "after"), EXITS.values(), ids=EXITS)
def test_the_loop_is_left_as_before(text: str, hook: tuple[str, str], after: str) -> None:
    done = converted(text)
    assert done.text is not None, done.refusals
    name, lines = hook
    assert lines in methods(done.text)[name]
    assert after in done.text


RAISED = (
    f"count = 0\ntry:\n    for epoch in range(3):\n        for x, y in train_loader:\n{indent(STEP, ' ' * 12)}\n"
    + (
        "            count += 1\n            if count == 5:\n                raise ValueError(count)\n"
        "except ValueError:\n    print(count, epoch, loss.item())\n"
    )
)


def test_results_survive_an_exception() -> None:
    done = converted(script("pass", epochs="if True:", batches="if True:", after=RAISED))
    assert "raise" in methods(done.text)["on_train_batch_end"]  # the optimizer has stepped before
    assert "    finally:\n        count = module.count\n        if hasattr(" in (done.text or "")
    assert '        if hasattr(module, "loss"):\n            loss = module.loss\n' in (done.text or "")


def test_a_function_that_outlives_its_batch_sees_the_last_value() -> None:
    hooks = methods(converted(script(f"{STEP}\nshown.append(lambda: (epoch, loss))", before="shown = []\n")).text)
    assert "shown.append(lambda: (self.epoch, self.loss))" in hooks["training_step"]


def test_a_name_assigned_in_an_expression_is_assigned_before_it() -> None:
    text = script(
        f"{STEP}\nif (low := loss.item()) < 1:\n    print('low', (last := low))",
        after="print(low, last)",
        before="last = 0\n",
    )
    step = methods(converted(text).text)["training_step"]
    assert "self.low = loss.item()\nif self.low < 1:\n    self.last = self.low\n    print('low', self.last)" in step
    second = script(f"{STEP}\nif low is None and (low := loss.item()) < 1:\n    print('low')", before="low = None\n")
    step = methods(converted(second).text)["training_step"]
    assert "if self.low is None:\n    self.low = loss.item()\n    if self.low < 1:\n        print('low')" in step
    inside = script(f"{STEP}\nif (low := loss.item()) < 1:\n    shown.append(low)", before="shown = []\n")
    assert "if (low := loss.item()) < 1:" in methods(converted(inside).text)["training_step"]


@pytest.mark.parametrize(
    "made",
    [
        "hook = model.register_forward_hook(lambda self, x, out: shown.append((epoch, out)))",
        "class Shown:\n    def show(self):\n        return epoch\nshown.append(Shown())",
    ],
)
def test_what_hides_the_module_cannot_read_what_it_keeps(made: str) -> None:
    done = converted(script(f"{made}\n{STEP}", before="shown = []\n"))
    assert done.text is None
    assert "of its own, and epoch is kept by the module" in done.refusals[0].message


def test_a_while_that_fetches_its_batch_in_its_test_asks_within_the_step() -> None:
    loop = (
        "for _ in range(1):\n    batch = iter(train_loader)\nwhile (pair := next(batch, None)) is not None:\n"
        f"    x, y = pair\n{indent(STEP, '    ')}"
    )
    done = converted(script("pass", after=loop, epochs="if True:", batches="if True:"))
    assert done.mode == "automatic"
    step = methods(done.text)["training_step"]
    assert step.startswith(
        "if (pair := next(self.batch, None)) is None:\n    self.pass_ended = True\n    return None\n"
    )
    otherwise = converted(script("pass", after=f"{loop}\nelse:\n    print(1)", epochs="if True:", batches="if True:"))
    assert "the loop's head assigns a name" in otherwise.refusals[0].message


def test_a_break_that_asks_for_the_epoch_is_no_limit_of_all() -> None:
    done = converted(script(f"{STEP}\nif epoch > 1:\n    break"))
    assert "limit_train_batches" not in (done.text or "limit_train_batches")


def test_a_name_assigned_only_sometimes_cannot_be_an_attribute() -> None:
    done = converted(script(f"{STEP}\nif epoch or (low := loss.item()) < 1:\n    print('low')", after="print(low)"))
    assert done.text is None
    assert "(low := loss.item()) assigns what outlives the batch" in done.refusals[0].message


MATCHED = "match (x, y):\n    case [a, b]{}:\n        pass\n    {}\n" + STEP.replace("model(x), y", "model(a), b")


def test_names_of_a_pattern_stay_in_the_batch() -> None:
    done = converted(script(MATCHED.format("", "case _:\n        raise ValueError(x)")))
    assert done.mode == "automatic" and "case [a, b]:" in (done.text or "")


def test_names_of_a_pattern_that_may_not_match_are_refused() -> None:
    done = converted(script(MATCHED.format(" if len(x) > 1", "case None:\n        pass")))
    assert "assigns what outlives the batch inside a case" in done.refusals[0].message


LAST = {
    "in the last branch": (
        "if loss < 1:\n    break",
        "loss = outputs['loss']\nif loss < 1:\n    self.pass_ended = True",
    ),
    "in an elif": (
        "if loss < 1:\n    break\nelif loss > 9:\n    print(1)\n    break\nelse:\n    print(2)",
        "loss = outputs['loss']\nif loss < 1:\n    self.pass_ended = True\nelif loss > 9:\n    print(1)\n    self.pass_ended = True\n"
        "else:\n    print(2)",
    ),
    "before more": (
        "if loss < 1:\n    break\nprint(1)",
        "loss = outputs['loss']\nif loss < 1:\n    self.pass_ended = True\n    return\nprint(1)",
    ),
}


@pytest.mark.parametrize(("lines", "hook"), LAST.values(), ids=LAST)
def test_a_hook_does_not_return_where_it_ends_anyway(lines: str, hook: str) -> None:
    assert methods(converted(script(f"{STEP}\n{lines}")).text)["on_train_batch_end"] == hook


@pytest.mark.parametrize(
    ("define", "line", "source"),
    [
        ("", "import itertools", "Passes(itertools.count, module)"),
        ("import itertools\n", "", "Passes(itertools.count, module)"),
        ("def later():\n    import itertools\n", "import itertools", "Passes(itertools.count, module)"),
        ("import mytools as itertools\n", "", "Passes(module.remaining_steps, module)"),
    ],
    ids=["not imported", "imported", "imported by a function", "another module"],
)
def test_steps_without_end_are_counted(define: str, line: str, source: str) -> None:
    batch = f"x, y = data[:8]\n{STEP}\nif loss < 0.1:\n    break"
    text = str(converted(script(batch, batches="while True:", define=define)).text)
    assert f"trainer.fit(module, {source})" in text
    assert ("def remaining_steps" in text) is ("remaining_steps" in source)
    assert not line or f"\n{line}\n" in text
