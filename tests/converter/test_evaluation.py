"""The evaluation at an epoch's end becomes validation hooks only where that changes nothing."""

from __future__ import annotations

import pytest

from tests.converter.scripts import STEP, converted, methods, script

EVALUATE = """\
model.eval()
right = 0
with torch.no_grad():
    for a, b in val_loader:
        right += (model(a).argmax(1) == b).sum().item()
print(f'{right / 30:.3f}')
"""

INLINE = {
    "there is none": script(),
    "the network never goes back to training": script(end=EVALUATE),
    "left early": script(
        start="model.train()", end=EVALUATE.replace("right +=", "if right > 9:\n            break\n        right +=")
    ),
    "every k batches": script(
        f"{STEP}\nif i % 3 == 0:\n" + "".join(f"    {line}\n" for line in EVALUATE.splitlines()) + "    model.train()",
        batches="for i, (x, y) in enumerate(train_loader):",
    ),
    "a call draws random numbers before it, in training mode": script(
        start="model.train()", end=f"sample = model(torch.randn(2, 4))\n{EVALUATE}"
    ),
    "what follows runs the network": script(start="model.train()", end=f"{EVALUATE}print(model(data[:8][0]).sum())"),
    "it takes gradients": script(
        start="model.train()", end="model.eval()\nfor a, b in val_loader:\n    criterion(model(a), b).backward()\n"
    ),
    "the training pass may end early": script(
        f"{STEP}\nif loss.item() < 0.1:\n    break", start="model.train()", end=EVALUATE
    ),
}

HOOKS = {
    "eval, then train at the next epoch's start": script(start="model.train()", end=EVALUATE),
    "eval and train around it": script(end=f"{EVALUATE}model.train()"),
    "train(False) is eval": script(
        start="model.train(True)", end=EVALUATE.replace("model.eval()", "model.train(False)")
    ),
    "in a function": script(
        start="model.train()",
        end="right = evaluate()\nprint(right)",
        before="def evaluate():\n"
        + "".join(f"    {line}\n" for line in EVALUATE.splitlines())
        + "    return right\n\n",
    ),
    "in a decorated function": script(
        start="model.train()",
        end="evaluate()",
        before="@torch.no_grad()\ndef evaluate():\n    model.eval()\n    for a, b in val_loader:\n"
        "        print(criterion(model(a), b).item())\n\n",
    ),
}


@pytest.mark.parametrize("text", INLINE.values(), ids=INLINE)
def test_it_stays_where_it_is(text: str) -> None:
    done = converted(text)
    assert "validation_step" not in methods(done.text)


@pytest.mark.parametrize("text", HOOKS.values(), ids=HOOKS)
def test_it_becomes_validation_hooks(text: str) -> None:
    done = converted(text)
    assert done.text is not None
    hooks = methods(done.text)
    assert "model(a)" in hooks["validation_step"] and "eval()" not in hooks["validation_step"]
    assert ", val_loader)" in done.text and "num_sanity_val_steps=0" in done.text


def test_evaluation_in_training_mode_keeps_that_mode() -> None:
    done = converted(script(end=EVALUATE.replace("model.eval()\n", "")))
    hooks = methods(done.text)
    assert hooks.get("on_validation_model_eval") == "pass" or "val_loader" in hooks["on_train_epoch_end"]
