"""A step under a condition: `training_step` returns None, and what follows the step still ends the batch."""

from __future__ import annotations

from textwrap import indent

import pytest

from lightify.ledger import Fate
from tests.converter.scripts import FORWARD, STEP, converted, methods, script

NUMBERED = "for i, (x, y) in enumerate(train_loader):"
UNLESS_LEFT = "if optimizer_closure() is not None:\n    optimizer.step()"
TRAIN = f"""
def train(x, y):
    if len(x) < 8:
        return None
{indent(STEP, "    ")}
    return loss.item()

"""

# id: the script; a hook and what it does
CONDITIONS = {
    "a bad batch is left": (
        script(f"{FORWARD}\nif torch.isnan(loss):\n    continue\n{STEP}\nn += 1", before="n = 0\n", end="print(n)"),
        ("training_step", "if torch.isnan(loss):\n    return None"),
        ("optimizer_step", UNLESS_LEFT),
    ),
    "what follows the step does not run": (
        script(f"if len(x) < 8:\n    continue\n{STEP}\nprint(model[0].weight.norm())"),
        ("on_train_batch_end", "if not outputs:\n    return\n"),
    ),
    "the pass ends before a step": (
        script(f"if n > 5:\n    break\n{STEP}\nn += 1", before="n = 0\n", end="print(n)"),
        ("training_step", "if self.n > 5:\n    self.pass_ended = True\n    return None"),
    ),
    "the function ends before a step": (
        script(
            "pass",
            epochs="if True:",
            batches="if True:",
            define="def train():\n    for x, y in train_loader:\n"
            f"{indent(FORWARD, ' ' * 8)}\n        if loss > 9:\n            return loss\n{indent(STEP, ' ' * 8)}\n\n",
            after="print(train())",
        ),
        ("training_step", "self.returned = (loss,)\n    self.pass_ended = True\n    return None"),
    ),
    "a step now and then": (
        script(f"if i % 2 == 0:\n{indent(STEP, '    ')}\nelse:\n    n += 1", batches=NUMBERED, before="n = 0\n"),
        ("training_step", "if batch_idx % 2 != 0:\n    n += 1\n    return None".replace("n +=", "self.n +=")),
    ),
    "what runs in any case": (
        script(
            f"if i > 1:\n{indent(STEP, '    ')}\n    last = model[0].bias.sum().item()\nprint(last)",
            batches=NUMBERED,
            before="last = None\n",
        ),
        ("on_train_batch_end", "if outputs:\n    self.last = self.model[0].bias.sum().item()\nprint(self.last)"),
        ("__init__", "self.last = None"),
    ),
    "conditions within conditions": (
        script(f"if i > 1:\n    if i % 2:\n{indent(STEP, ' ' * 8)}\nprint(i)", batches=NUMBERED),
        ("training_step", "if not batch_idx > 1:\n    return None\nif not batch_idx % 2:\n    return None"),
    ),
    "what runs where the outer condition holds": (
        script(f"if i > 1:\n    if i % 2:\n{indent(STEP, ' ' * 8)}\n    print(i)\nprint('any')", batches=NUMBERED),
        ("training_step", "self.due = batch_idx > 1\nif not self.due:\n    return None\nif not batch_idx % 2:"),
        ("on_train_batch_end", "if self.due:\n    print(batch_idx)\nprint('any')"),
    ),
    "a function that may take no step": (
        script("losses.append(train(x, y))", define=TRAIN, before="losses = []\n"),
        ("training_step", "if len(x) < 8:\n    self.train_result = None\n    return None"),
        ("on_train_batch_end", "losses.append(self.train_result)"),
    ),
    "its result is unpacked": (
        script(
            "value, count = train(x, y)\nif value:\n    shown.append(value)",
            define=TRAIN.replace("return None", "return None, 0").replace("loss.item()", "loss.item(), 1"),
            before="shown = []\n",
        ),
        ("training_step", "self.value = None"),
    ),
    "a scheduler steps with the optimizer": (
        script(
            f"if i == 1:\n    continue\n{STEP}\nscheduler.step()",
            batches=NUMBERED,
            before="scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)\n",
        ),
        ("on_train_batch_end", "if not outputs:\n    return\nself.scheduler.step()"),
    ),
}


@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=CONDITIONS)
def test_the_trainer_leaves_the_step_out(condition: tuple[str, ...]) -> None:
    done = converted(condition[0])
    assert (done.mode, done.reasons) == ("automatic", ()), done.refusals
    for name, lines in condition[1:]:
        assert lines in methods(done.text)[name]
    moved = [entry for entry in done.ledger.entries if entry.text.strip() == "continue"]
    assert all(entry.fate is Fate.MOVED for entry in moved)


MANUAL = {
    "gradients that someone reads": script(
        f"if i:\n{indent(STEP, '    ')}", batches=NUMBERED, after="print(model[0].weight.grad)"
    ),
    "between backward and step": script(
        f"{FORWARD}\noptimizer.zero_grad()\nloss.backward()\nif i:\n    continue\noptimizer.step()", batches=NUMBERED
    ),
    "another end of the batch beside the condition": script(
        f"if i > 3:\n    break\nif i:\n{indent(STEP, '    ')}\nprint(i)", batches=NUMBERED
    ),
}


@pytest.mark.parametrize("text", MANUAL.values(), ids=MANUAL)
def test_other_conditions_stay_as_they_are(text: str) -> None:
    assert converted(text).mode == "manual"
