"""What hooks, own functions, networks and optimizers do unseen is read, or drawn after, where it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.converter.scripts import EVALUATE, SETUP, STEP, converted, methods, script

DEFINE = """
import random

grads, shown = {}, []

def keep(name):
    def hook(grad):
        grads[name] = grad.norm().item()
    return hook

def tell(module, given, taken):
    shown.append(("backward", taken[0].norm().item()))

class Total:
    def __init__(self):
        self.value = 0.0

    def __call__(self, grad):
        self.value += grad.sum().item()

class Counted(torch.autograd.Function):
    calls = []

    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, grad):
        Counted.calls.append(grad.sum().item())
        return grad

"""
NOISY = """
class Noisy(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, dict(lr=lr))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad + torch.randn_like(p), alpha=-group["lr"])
"""
NOISE = STEP.replace(
    "optimizer.step", "for p in model.parameters():\n    p.grad += torch.randn_like(p)\noptimizer.step"
)
DRAWN = "shown.append(torch.rand(1).item())"
LATE = {
    "what a hook keeps": ("model[0].weight.register_hook(keep('w'))", STEP, "shown.append(dict(grads))"),
    "what a hook tells": (
        "model[0].register_full_backward_hook(tell)",
        STEP,
        "shown.append(loss.item())",
    ),
    "what a lambda keeps": (
        "model[0].weight.register_hook(lambda g: grads.update(w=g.sum().item()))",
        STEP,
        "shown.append(grads['w'])",
    ),
    "what an object keeps": (
        "total = Total()\nmodel[0].weight.register_hook(total)",
        STEP,
        "shown.append(total.value)",
    ),
    "what a hook of the optimizer counts": (
        "counted = []\noptimizer.register_step_post_hook(lambda *given: counted.append(1))",
        STEP,
        "shown.append(len(counted))",
    ),
    "what an own backward counts": (
        "",
        STEP.replace("model(x)", "Counted.apply(model(x))"),
        "shown.append(len(Counted.calls))",
    ),
    "what a schedule's function notes": (
        "noted = []\nscheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: noted.append(n) or 0.9**n)",
        f"{STEP}\nscheduler.step()",
        "shown.append(len(noted))",
    ),
    "a list that a line before the step fills, too": (
        "",
        STEP.replace("optimizer.step", "shown.append(model[0].bias.grad.sum().item())\noptimizer.step"),
        "shown.append(loss.item())",
    ),
    "a list that the step's own block fills": (
        "",
        STEP.replace(
            "optimizer.step()", "if len(x) > 4:\n    optimizer.step()\n    shown.append(model[0].bias.sum().item())"
        ),
        "shown.append(loss.item())",
    ),
    "draws after an optimizer's own": (
        "own = Noisy(model.parameters(), lr=0.1)",
        STEP.replace("optimizer.", "own."),
        DRAWN,
    ),
    "draws after noise": ("", NOISE, DRAWN),
}
EARLY = {
    "what no hook uses": ("model[0].weight.register_hook(keep('w'))", STEP, "shown.append(loss.item())"),
    "what a hook of the forward pass keeps": (
        "model[0].register_forward_hook(lambda m, i, o: grads.update(o=o.sum().item()))",
        STEP,
        "shown.append(grads['o'])",
    ),
    "draws where nothing else does": ("", STEP, DRAWN),
    "another list than the line before the step": (
        "norms = []",
        STEP.replace("optimizer.step", "norms.append(model[0].bias.grad.sum().item())\noptimizer.step"),
        "shown.append(loss.item())",
    ),
    "what a schedule's function only reads": (
        "warm = 3\nscheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: min(1, n / warm))",
        f"{STEP}\nscheduler.step()",
        "shown.append((warm, loss.item()))",
    ),
    "no draws after noise": ("", NOISE, "shown.append(loss.item())"),
}


def _script(before: str, step: str, line: str) -> str:
    define = DEFINE + NOISY * ("Noisy" in before)
    return script(f"{step}\n{line}", define=define, before=f"{before}\n", after="print(shown)")


@pytest.mark.parametrize(("before", "step", "line"), LATE.values(), ids=LATE)
def test_what_reads_or_follows_the_unseen_stays_behind_it(
    before: str, step: str, line: str, trains_identically: Callable[[str, str | None], None]
) -> None:
    text = _script(before, step, line)
    done = converted(text, runtime="bundled")
    assert done.mode == "automatic"
    assert "shown.append" in methods(done.text)["on_train_batch_end"]
    trains_identically(text, done.text)


@pytest.mark.parametrize(("before", "step", "line"), EARLY.values(), ids=EARLY)
def test_what_has_nothing_to_do_with_it_stays_in_the_step(before: str, step: str, line: str) -> None:
    hooks = methods(converted(_script(before, step, line)).text)
    assert "on_train_batch_end" not in hooks


def test_between_backward_and_step_it_stands_right_before_the_step() -> None:
    step = STEP.replace("optimizer.step", "shown.append(dict(grads))\noptimizer.step")
    text = script(step, define=DEFINE, before="model[0].weight.register_hook(keep('w'))\n")
    assert "dict(grads)" in methods(converted(text).text)["on_before_optimizer_step"]


BOUNDS = {
    "drawn": ("1.0 + random.random()", ""),
    "taken from an iterator": ("next(bounds)", ""),
    "of the epoch": ("limits[epoch]", ""),
    "a field that the loop changes": ("bound.most", "bound.most *= 0.5"),
    "a name that the loop changes": ("most", "most *= 0.5"),
}
BOUND = """
class Bound:
    most = 1.0

bound, bounds, limits, most = Bound(), iter(range(1, 99)), [1.0, 0.1, 0.01], 1.0
"""


@pytest.mark.parametrize(("bound", "end"), BOUNDS.values(), ids=BOUNDS)
def test_a_bound_that_changes_is_no_option_of_the_trainer(
    bound: str, end: str, trains_identically: Callable[[str, str | None], None]
) -> None:
    clip = f"nn.utils.clip_grad_norm_(model.parameters(), {bound})\noptimizer.step"
    text = script(STEP.replace("optimizer.step", clip), define=DEFINE, before=f"random.seed(1)\n{BOUND}", end=end)
    done = converted(text, runtime="bundled")
    assert done.mode == "automatic" and "gradient_clip_val" not in str(done.text)
    assert "clip_grad_norm_" in methods(done.text)["on_before_optimizer_step"]
    trains_identically(text, done.text)


def test_a_bound_that_stays_is_an_option_of_the_trainer() -> None:
    clip = "nn.utils.clip_grad_norm_(model.parameters(), float(bound.most))\noptimizer.step"
    text = script(STEP.replace("optimizer.step", clip), before=BOUND)
    assert "gradient_clip_val=float(bound.most)" in str(converted(text).text)


COUNTED = """
shown, seen = [], {}

class Counted(nn.Linear):
    runs = 0

    def forward(self, x):
        Counted.runs += 1
        return super().forward(x)

"""
BETWEEN = {
    "what a layer counts": ("Counted.runs", True),
    "what a hook keeps": ("seen['last']", True),
    "what neither knows": ("loss.item()", False),
}


@pytest.mark.parametrize(("value", "stays"), BETWEEN.values(), ids=BETWEEN)
def test_what_a_network_keeps_of_a_pass_is_read_before_the_next(value: str, stays: bool) -> None:
    setup = SETUP.replace("nn.Linear(4, 8)", "Counted(4, 8)")
    hook = "model[0].register_forward_hook(lambda m, i, o: seen.update(last=o.sum().item()))\n"
    end = f"shown.append({value})\n{EVALUATE}model.train()\nprint(val_loss)"
    hooks = methods(converted(script(setup=setup, define=COUNTED, before=hook, end=end)).text)
    assert ("shown.append" in hooks.get("on_validation_epoch_start", "")) is stays
    assert ("shown.append" in hooks["on_train_epoch_end"]) is not stays
