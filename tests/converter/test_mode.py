"""Automatic optimization, or the reason why not."""

from __future__ import annotations

from textwrap import indent

import pytest

from tests.converter.scripts import FORWARD, SETUP, STEP, converted, methods, script

SCHEDULER = "scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)\n"
WRAPPER = """
class Warm:
    def __init__(self, optimizer):
        self.optimizer = optimizer

    def step(self):
        self.optimizer.step()

    def zero_grad(self):
        self.optimizer.zero_grad()
"""

MANUAL = {
    "two backward passes": (
        script(f"{FORWARD}\noptimizer.zero_grad()\nloss.backward()\n{FORWARD}\nloss.backward()\noptimizer.step()"),
        "2 backward passes in the batch loop",
    ),
    "backward with an argument": (
        script(f"{FORWARD}\noptimizer.zero_grad()\nloss.backward(retain_graph=True)\noptimizer.step()"),
        "backward has arguments",
    ),
    "never zeroed": (
        script(f"{FORWARD}\nloss.backward()\noptimizer.step()"),
        "gradients are not zeroed in the batch loop",
    ),
    "zeroed twice": (script(f"optimizer.zero_grad()\n{STEP}"), "gradients are zeroed more than once"),
    "zeroed after backward": (
        script(f"{FORWARD}\nloss.backward()\noptimizer.zero_grad()\noptimizer.step()"),
        "the order is not zero_grad, backward, step",
    ),
    "zeroed on part of the weights": (
        script(f"{FORWARD}\nmodel[0].zero_grad()\nloss.backward()\noptimizer.step()"),
        "gradients are zeroed on something else than the optimizer",
    ),
    "steps every other batch": (
        script(
            f"{FORWARD}\nloss.backward()\nif i % 2 == 1:\n    optimizer.step()\n    optimizer.zero_grad()",
            batches="for i, (x, y) in enumerate(train_loader):",
        ),
        "step stands inside another statement",
    ),
    "two optimizers": (
        script(f"{STEP}\nother.step()", before="other = torch.optim.SGD(model.parameters(), lr=0.1)\n"),
        "2 optimizers step in the batch loop",
    ),
    "a bad batch is left before its step": (
        script(
            f"{FORWARD}\nif torch.isnan(loss):\n    continue\noptimizer.zero_grad()\nloss.backward()\noptimizer.step()"
        ),
        "the body may be left before the optimizer steps",
    ),
    "the optimizer is made anew each epoch": (
        script(start="optimizer = torch.optim.SGD(model.parameters(), lr=0.1)"),
        "the optimizer is made anew in the loop",
    ),
    "a second optimizer, now and then": (
        script(
            f"{STEP}\nif i % 2 == 0:\n    other.zero_grad()\n    criterion(model(x), y).backward()\n    other.step()",
            batches="for i, (x, y) in enumerate(train_loader):",
            before="other = torch.optim.SGD(model.parameters(), lr=0.01)\n",
        ),
        "2 optimizers step in the batch loop",
    ),
    "a gradient scaler": (
        script(
            f"{FORWARD}\noptimizer.zero_grad()\nscaler.scale(loss).backward()\nscaler.step(optimizer)\nscaler.update()",
            before="scaler = torch.amp.GradScaler('cpu', enabled=False)\n",
        ),
        "a gradient scaler of the script's own",
    ),
    "weights updated by hand": (
        script(
            f"{FORWARD}\nmodel.zero_grad()\nloss.backward()\nfor p in model.parameters():\n    p.data -= 0.1 * p.grad"
        ),
        "no optimizer steps in the loop's own body",
    ),
    "gradients from autograd.grad": (
        script(f"{FORWARD}\npenalty = torch.autograd.grad(loss, model[0].weight)\n{STEP}"),
        "gradients are taken by torch.autograd.grad",
    ),
    "gradients read at the epoch's end": (
        script(end="print(model[0].weight.grad.norm())"),
        "gradients are read or written by the script itself",
    ),
    "an epoch loop over a list": (script(epochs="for lr in (0.1, 0.2):"), "the epochs are not a range"),
}

AUTOMATIC = {
    "an epoch loop by while": script(epochs="while epoch < 3:", before="epoch = 0\n", end="epoch += 1"),
    "zeroed before the forward": script(f"optimizer.zero_grad()\n{FORWARD}\nloss.backward()\noptimizer.step()"),
    "zeroed right before backward": script(),
    "zeroed after the step": script(f"{FORWARD}\nloss.backward()\noptimizer.step()\noptimizer.zero_grad()"),
    "zeroed on the network that the optimizer owns": script(
        f"{FORWARD}\nmodel.zero_grad()\nloss.backward()\noptimizer.step()"
    ),
    "a scheduler each batch": script(f"{STEP}\nscheduler.step()", before=SCHEDULER),
    "a scheduler each epoch": script(end="scheduler.step()", before=SCHEDULER),
    "rates written by hand": script(start="for group in optimizer.param_groups:\n    group['lr'] = 0.1 / (epoch + 1)"),
    "one loop of steps": script("x, y = data[:8]\n" + STEP, epochs="if True:", batches="for step in range(10):"),
    "a closure": script(
        "def closure():\n    optimizer.zero_grad()\n    loss = criterion(model(x), y)\n    loss.backward()\n"
        "    return loss\noptimizer.step(closure)",
        setup=SETUP.replace("SGD", "LBFGS").replace(", momentum=0.9", ""),
    ),
    "in a function of its own": script(
        "train_step(x, y)", before="def train_step(x, y):\n" + indent(STEP, "    ") + "\n"
    ),
}


@pytest.mark.parametrize(("text", "reason"), MANUAL.values(), ids=MANUAL)
def test_what_stays_manual_says_why(text: str, reason: str) -> None:
    done = converted(text)
    assert done.mode == "manual"
    assert any(reason in found for found in done.reasons), done.reasons


@pytest.mark.parametrize("text", AUTOMATIC.values(), ids=AUTOMATIC)
def test_what_the_trainer_can_do_is_automatic(text: str) -> None:
    done = converted(text)
    assert (done.mode, done.reasons) == ("automatic", ())
    step = methods(done.text)["training_step"]
    assert "backward" not in step and "zero_grad" not in step and ".step(" not in step


def test_clipping_of_all_weights_is_an_option() -> None:
    batch = STEP.replace("optimizer.step()", "nn.utils.clip_grad_norm_(model.parameters(), 0.5)\noptimizer.step()")
    text = converted(script(batch)).text
    assert text is not None
    assert "gradient_clip_val=0.5" in text and "clip_grad_norm_" not in text


def test_clipping_of_some_weights_stays_before_the_step() -> None:
    batch = STEP.replace("optimizer.step()", "nn.utils.clip_grad_norm_(model[0].parameters(), 0.5)\noptimizer.step()")
    hooks = methods(converted(script(batch)).text)
    assert "clip_grad_norm_" in hooks["on_before_optimizer_step"]


def test_a_wrapper_of_an_optimizer_is_no_optimizer() -> None:
    text = script(STEP.replace("optimizer.", "warm."), define=WRAPPER, before="warm = Warm(optimizer)\n")
    done = converted(text)
    assert "warm" not in methods(done.text)["configure_optimizers"]


@pytest.mark.parametrize(
    ("after_step", "hook"),
    [
        ("total += loss.item()", "training_step"),
        ("ema.update()", "on_train_batch_end"),
        ("print(model[0].weight.norm())", "on_train_batch_end"),
        ("torch.save(model.state_dict(), 'm.pt')", "on_train_batch_end"),
    ],
    ids=["a number only", "an object built from the network", "prints weights", "saves weights"],
)
def test_what_sees_updated_weights_waits_for_them(after_step: str, hook: str) -> None:
    text = script(
        f"{STEP}\n{after_step}",
        before="total = 0\nema = Average(model)\n",
        define="class Average:\n    def __init__(self, model):\n        self.model = model\n\n"
        "    def update(self):\n        self.shadow = copy.deepcopy(self.model)\n",
    )
    word = after_step.partition("(")[0].partition(" ")[0].rpartition(".")[2]
    assert word in methods(converted(text).text)[hook]
