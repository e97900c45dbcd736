"""The loss at the end of a batch comes from the Trainer's `outputs` where its value is all that is asked for."""

from __future__ import annotations

import pytest

from tests.converter.scripts import FORWARD, STEP, converted, methods, script

WEIGHTS = "norm = model[0].weight.norm().item()"  # what must see the updated weights

#: What follows the step, and what the hook asks of the loss.
TOLD = {
    "item": "shown.append((loss.item(), norm))",
    "detach": "shown.append((loss.detach(), norm))",
    "data": "shown.append((loss.data, norm))",
    "moved first": "shown.append((loss.cpu().item(), norm))",
    "float": "shown.append((float(loss), norm))",
    "a comparison": "if loss < norm:\n    shown.append(norm)",
    "a text": "print(f'{loss:.3f} {norm}')",
    "an old text": "shown.append('%.3f %.3f' % (loss, norm))",
    "format": "print('{:.3f} {}'.format(loss, norm))",
}

#: The same, where the loss is asked for its graph, is shown with it, or is read elsewhere.
KEPT = {
    "a list": ("shown.append((loss, norm))", "", ""),
    "a sum": ("total = loss + norm\nshown.append(total.item())", "", ""),
    "shown as an object": ("shown.append('%s %5s' % (norm, loss))", "", ""),
    "shown by its representation": ("print('{!r} {}'.format(loss, norm))", "", ""),
    "changed under another name": ("shared.mul_(2)\nshown.append((loss.item(), norm))", "", ""),
    "added to under another name": ("shared += 2\nshown.append((loss.item(), norm))", "", ""),
    "at the epoch's end": ("shown.append((loss.item(), norm))", "print(loss.item())", ""),
    "after the run": ("shown.append((loss.item(), norm))", "", "print(loss.item())"),
}


@pytest.mark.parametrize("lines", TOLD.values(), ids=TOLD)
def test_the_end_of_a_batch_is_told_the_loss(lines: str) -> None:
    hooks = methods(converted(script(f"{STEP}\n{WEIGHTS}\n{lines}", before="shown = []\n")).text)
    assert hooks["on_train_batch_end"].startswith("loss = outputs['loss']\n"), hooks["on_train_batch_end"]
    assert hooks["training_step"].endswith("return loss") and "self.loss" not in "".join(hooks.values())


@pytest.mark.parametrize(("lines", "end", "after"), KEPT.values(), ids=KEPT)
def test_a_loss_that_is_more_than_a_number_is_kept(lines: str, end: str, after: str) -> None:
    batch = f"{STEP}\nshared = loss.detach()\n{WEIGHTS}\n{lines}"
    text = converted(script(batch, before="shown = []\n", end=end, after=after)).text
    hooks = methods(text)
    assert "outputs[" not in str(text) and "self.loss = " in "".join(hooks.values())


def test_windows_divide_what_the_trainer_tells() -> None:
    batch = f"{FORWARD}\n(loss / 3).backward()\nif (i + 1) % 3 == 0 or i + 1 == len(train_loader):\n"
    batch += f"    optimizer.step()\n    optimizer.zero_grad()\n{WEIGHTS}\nshown.append((loss.item(), norm))"
    text = converted(script(batch, batches="for i, (x, y) in enumerate(train_loader):", before="shown = []\n")).text
    assert "accumulate_grad_batches=3" in str(text) and "outputs[" not in str(text)


def test_a_loss_that_is_changed_before_the_step_is_kept() -> None:
    batch = f"{STEP}\n{WEIGHTS}\nshown.append((loss.item(), norm))".replace(
        "optimizer.step()", "loss = torch.zeros(1)\noptimizer.step()"
    )
    assert "outputs[" not in str(converted(script(batch, before="shown = []\n")).text)
