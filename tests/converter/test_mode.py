"""Automatic optimization, or the reason why not."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import indent

import pytest

from tests.converter.scripts import FORWARD, PROLOGUE, SETUP, STEP, converted, methods, script

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

SLOWER = """
def slower(epoch, optimizer):
    for group in optimizer.param_groups:
        group["lr"] *= 0.9
    if epoch:
        return optimizer
    return optimizer
"""

MANUAL = {
    "a function that may give another optimizer": (
        script(
            define=SLOWER.replace(
                "if epoch:", "if epoch:\n        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)"
            ),
            start="optimizer = slower(epoch, optimizer)",
        ),
        "the optimizer is made anew in the loop",
    ),
    "a function that may give none": (
        script(define=SLOWER.replace("    return optimizer\n", "", 1), start="optimizer = slower(epoch, optimizer)"),
        "the optimizer is made anew in the loop",
    ),
    "a function that gives one of two": (
        script(define=SLOWER, before="other = copy.copy(optimizer)\n", start="optimizer = slower(epoch, other)"),
        "the optimizer is made anew in the loop",
    ),
    "two backward passes": (
        script(f"{FORWARD}\noptimizer.zero_grad()\nloss.backward()\n{FORWARD}\nloss.backward()\noptimizer.step()"),
        "2 backward passes in the batch loop",
    ),
    "backward with an argument": (
        script(f"{FORWARD}\noptimizer.zero_grad()\nloss.backward(torch.ones(()))\noptimizer.step()"),
        "backward has arguments",
    ),
    "each batch brings its optimizer": (
        script(
            "opt.zero_grad()\nloss = criterion(net(x), y)\nloss.backward()\nopt.step()",
            before="nets = [model]\noptimizers = [torch.optim.SGD(n.parameters(), lr=0.1) for n in nets]\n",
            epochs="for x, y in train_loader:",
            batches="for net, opt in zip(nets, optimizers):",
        ),
        "the optimizer is made anew in the loop",
    ),
    "an optimizer that works before its closure": (
        script(
            STEP,
            before="""\
class Own(torch.optim.SGD):
    def step(self, closure=None):
        seen = sum(p.grad.abs().sum() for p in self.param_groups[0]["params"])
        if closure is not None:
            closure()
        return seen

optimizer = Own(model.parameters(), lr=0.1)
""",
        ),
        "works before it evaluates the closure",
    ),
    "zeroed by an object of the script's own, too": (
        script(f"warm.zero_grad()\n{STEP}", define=WRAPPER, before="warm = Warm(optimizer)\n"),
        "gradients are zeroed more than once",
    ),
    "two optimizers": (
        script(f"{STEP}\nother.step()", before="other = torch.optim.SGD(model.parameters(), lr=0.1)\n"),
        "2 optimizers step in the batch loop",
    ),
    "a bad batch is left between backward and step": (
        script(
            f"{FORWARD}\noptimizer.zero_grad()\nloss.backward()\nif torch.isnan(loss):\n    continue\noptimizer.step()"
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
    "a gradient scaler that scales twice": (
        script(
            f"{FORWARD}\noptimizer.zero_grad()\nscaler.scale(loss).backward()\n"
            "scaler.scale(criterion(model(x), y)).backward()\nscaler.step(optimizer)\nscaler.update()",
            before="scaler = torch.amp.GradScaler('cpu')\n",
        ),
        "a gradient scaler of the script's own",
    ),
    "gradients from autograd.grad": (
        script(f"{FORWARD}\npenalty = torch.autograd.grad(loss, model[0].weight)\n{STEP}"),
        "gradients are taken by torch.autograd.grad",
    ),
    "gradients read at the epoch's end, after they are zeroed": (
        script(
            f"{FORWARD}\nloss.backward()\noptimizer.step()\noptimizer.zero_grad()", end="print(model[0].weight.grad)"
        ),
        "gradients are read or written by the script itself",
    ),
    "epochs of a generator, with an else": (
        script(epochs="for lr in (rate for rate in (0.1, 0.2)):", after="else:\n    print(lr)"),
        "the epochs are not a range",
    ),
}

LEARNER = """
class Learner(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.optimizer = torch.optim.SGD(self.parameters(), lr=0.1)

    def forward(self, x):
        return self.layer(x)

    def learn(self, x, y):
        loss = criterion(self(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

"""

AUTOMATIC = {
    "a function that gives its optimizer back": script(
        f"{STEP}\nif i % 2:\n    optimizer = slower(0, optimizer)",
        define=SLOWER,
        start="optimizer = slower(epoch, optimizer=optimizer)",
        batches="for i, (x, y) in enumerate(train_loader):",
    ),
    "gradients read at the epoch's end": script(end="print(model[0].weight.grad.norm())"),
    "zeroed twice": script(f"model.zero_grad()\n{STEP}"),
    "an epoch loop by while": script(epochs="while epoch < 3:", before="epoch = 0\n", end="epoch += 1"),
    "an optimizer that the network holds": script(
        "learner.learn(x, y)", define=LEARNER, before="learner = Learner()\n"
    ),
    "a result in an expression": script(
        "total += train(x, y)",
        define=f"def train(x, y):\n{indent(STEP, '    ')}\n    return loss.item()\n\n",
        before="total = 0\n",
    ),
    "arguments that are spread": script(
        "train(*draw())",
        define=f"def train(x, y):\n{indent(STEP, '    ')}\n\ndef draw():\n    return data[:8]\n\n",
        epochs="if True:",
        batches="for n in range(9):",
    ),
    "epochs of a generator": script(epochs="for lr in (rate for rate in (0.1, 0.2)):", end="print(lr)"),
    "zeroed before the forward": script(f"optimizer.zero_grad()\n{FORWARD}\nloss.backward()\noptimizer.step()"),
    "zeroed right before backward": script(),
    "zeroed after the step": script(f"{FORWARD}\nloss.backward()\noptimizer.step()\noptimizer.zero_grad()"),
    "zeroed on the network that the optimizer owns": script(
        f"{FORWARD}\nmodel.zero_grad()\nloss.backward()\noptimizer.step()"
    ),
    "a loss that has no name, of a batch that moves": script(
        "optimizer.zero_grad()\ncriterion(model(x.to(device)), y.to(device)).backward()\noptimizer.step()",
        before="device = torch.device('cpu')\n",
    ),
    "zeroed by a function of the script's own": script(
        f"{FORWARD}\nzero_gradients()\nloss.backward()\noptimizer.step()",
        define="def zero_gradients():\n    model.zero_grad()\n\n",
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


NUMBERED = "for i, (x, y) in enumerate(train_loader):"
ZERO, STEPS = "optimizer_zero_grad", "optimizer_step"
CLIP = "nn.utils.clip_grad_norm_(model.parameters(), 0.5)"
SCALER = "scaler = torch.amp.GradScaler('cpu')\n"
BARE = "optimizer = optimizer.optimizer\n"
# id: the script; a hook and what it does; the hook that is not there
OWN_STEP = {
    "a wrapper of the optimizer": (
        script(STEP.replace("optimizer.", "warm."), define=WRAPPER, before="warm = Warm(optimizer)\n"),
        ("optimizer_step", "optimizer_closure()\nwarm.optimizer.step()"),
        "on_train_batch_end",
    ),
    "a wrapper that may read what follows": (
        script(
            f"{STEP.replace('optimizer.', 'warm.')}\nseen['n'] += 1",
            define=WRAPPER,
            before="seen = {'n': 0}\nwarm = Warm(optimizer)\nwarm.seen = seen\n",
        ),
        ("on_train_batch_end", "seen['n'] += 1"),
        "on_before_optimizer_step",
    ),
    "a window with a leftover": (
        script(
            f"{FORWARD}\n(loss / 2).backward()\nif i % 2 == 1:\n    optimizer.step()\n    optimizer.zero_grad()",
            batches=NUMBERED,
        ),
        (STEPS, "optimizer_closure()\nif batch_idx % 2 == 1:\n    optimizer.step()\n    optimizer.zero_grad()"),
        "on_before_optimizer_step",
    ),
    "gradients thrown away in between": (
        script(
            f"optimizer.zero_grad()\n{FORWARD}\nloss.backward()\nif i % 2 == 1:\n    optimizer.step()", batches=NUMBERED
        ),
        (STEPS, "optimizer_closure()\nif batch_idx % 2 == 1:\n    optimizer.step()"),
        ZERO,
    ),
    "gradients that add up": (script(f"{FORWARD}\nloss.backward()\noptimizer.step()"), (ZERO, "pass"), STEPS),
    "no gradients": (
        script(f"{FORWARD}\nloss.backward()\noptimizer.zero_grad()\noptimizer.step()"),
        ("on_before_optimizer_step", "optimizer.zero_grad()"),
        STEPS,
    ),
    "gradients of one part only": (
        script(f"{FORWARD}\nmodel[0].zero_grad()\nloss.backward()\noptimizer.step()"),
        (ZERO, "self.model[0].zero_grad()"),
        STEPS,
    ),
    "gradients made zero, not None": (
        script(STEP.replace("zero_grad()", "zero_grad(set_to_none=False)")),
        (ZERO, "optimizer.zero_grad(set_to_none=False)"),
        STEPS,
    ),
    "zeroed one way or the other": (
        script(
            f"if epoch:\n    optimizer.zero_grad()\nelse:\n    model.zero_grad()\n{STEP.replace('optimizer.zero_grad()', 'n = 1')}"
        ),
        (ZERO, "if self.current_epoch:\n    optimizer.zero_grad()\nelse:\n    self.model.zero_grad()"),
        STEPS,
    ),
    "a graph that is kept": (
        script(STEP.replace("backward()", "backward(retain_graph=True)")),
        ("backward", "loss.backward(retain_graph=True)"),
        STEPS,
    ),
    "a gradient scaler": (
        script(
            f"{FORWARD}\noptimizer.zero_grad()\nscaler.scale(loss / 2).backward()\nscaler.unscale_(optimizer)\n"
            f"{CLIP}\nscaler.step(optimizer)\nscaler.update()\nprint(model[0].weight.grad.norm())",
            before=SCALER,
        ),
        ("backward", "self.scaler.scale(loss).backward()"),
        ZERO,
    ),
    "what a gradient scaler steps": (
        script(
            f"{FORWARD}\nscaler.scale(loss).backward()\nif (i + 1) % 2 == 0:\n    scaler.step(optimizer)\n"
            "    scaler.update()\n    optimizer.zero_grad()\nprint(model[0].weight.grad)",
            batches=NUMBERED,
            before=SCALER,
        ),
        (
            STEPS,
            f"{BARE}if (batch_idx + 1) % 2 == 0:\n    self.scaler.step(optimizer)\n    self.scaler.update()\n    opti",
        ),
        "on_before_optimizer_step",
    ),
    "a gradient scaler that a function is handed": (
        script(
            "learn(scaler, optimizer, x, y)",
            define="def learn(amp, opt, x, y):\n    loss = criterion(model(x), y)\n    opt.zero_grad()\n"
            "    amp.scale(loss).backward()\n    amp.step(opt)\n    amp.update()\n\n",
            before=SCALER,
        ),
        (STEPS, f"{BARE}self.scaler.step(optimizer)\nself.scaler.update()"),
        ZERO,
    ),
    "a gradient scaler, or none": (
        script(
            f"{FORWARD}\noptimizer.zero_grad()\nif scaler is not None:\n    scaler.scale(loss / 2).backward()\n"
            "    scaler.step(optimizer)\n    scaler.update()\nelse:\n    (loss / 2).backward()\n    optimizer.step()",
            before=f"{SCALER[:-1]} if len(train_loader) > 1 else None\n",
        ),
        ("backward", "if self.scaler is not None:\n    self.scaler.scale(loss).backward()\nelse:\n    loss.backward()"),
        ZERO,
    ),
    "a gradient scaler by a flag, of a fused optimizer": (
        script(
            f"{FORWARD}\noptimizer.zero_grad()\nif amp:\n    scaler.scale(loss).backward()\n"
            "    scaler.step(optimizer)\n    scaler.update()\nelse:\n    loss.backward()\n    optimizer.step()",
            before=f"amp = len(train_loader) > 1\nif amp:\n    {SCALER}"
            "optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)\n",
        ),
        (
            STEPS,
            f"{BARE}if amp:\n    self.scaler.step(optimizer)\n    self.scaler.update()\nelse:\n    optimizer.step()",
        ),
        ZERO,
    ),
    "two steps": (script(f"{STEP}\noptimizer.step()"), (STEPS, "optimizer.step()\noptimizer.step()"), ZERO),
    "weights updated by hand": (
        script(
            f"{FORWARD}\nmodel.zero_grad()\nloss.backward()\nfor p in model.parameters():\n    p.data -= 0.1 * p.grad\nprint(loss.item(), model[0].bias)",
            setup=SETUP.rpartition("optimizer =")[0],
        ),
        (STEPS, "for p in self.model.parameters():\n    p.data -= 0.1 * p.grad"),
        "on_before_optimizer_step",
    ),
    "shown in between": (
        script(
            f"{FORWARD}\nloss.backward()\nif i % 2:\n    optimizer.step()\nprint(loss.item())\nif i % 2:\n    optimizer.zero_grad()",
            batches=NUMBERED,
        ),
        (STEPS, "if batch_idx % 2:\n    optimizer.step()\nif batch_idx % 2:\n    optimizer.zero_grad()"),
        "on_before_optimizer_step",
    ),
    "rates, clips and counts in between": (
        script(
            f"{FORWARD}\noptimizer.zero_grad()\nloss.backward()\nif loss.item() < 0.7:\n    n += 1\n"
            "    nn.utils.clip_grad_norm_(model[0].parameters(), 0.1)\n    optimizer.step()\n    scheduler.step()",
            before=f"n = 0\n{SCHEDULER}",
            after="print(n)",
        ),
        (STEPS, "if self.loss.item() < 0.7:\n    self.n += 1\n    nn.utils.clip_grad_norm_"),
        ZERO,
    ),
}


@pytest.mark.parametrize(("text", "hook", "absent"), OWN_STEP.values(), ids=OWN_STEP)
def test_a_step_of_the_scripts_own_is_a_hook(text: str, hook: tuple[str, str], absent: str) -> None:
    done = converted(text)
    assert (done.mode, done.reasons) == ("automatic", ())
    hooks = methods(done.text)
    assert hook[1] in hooks[hook[0]]
    assert absent not in hooks


def test_apex_scales_the_loss_and_is_handed_the_optimizer_itself() -> None:
    text = script(
        f"{FORWARD}\noptimizer.zero_grad()\nif half:\n    with amp.scale_loss(loss, optimizer) as scaled:\n"
        "        scaled.backward()\n    nn.utils.clip_grad_norm_(amp.master_params(optimizer), 1.0)\nelse:\n"
        "    loss.backward()\n    nn.utils.clip_grad_norm_(model.parameters(), 1.0)\noptimizer.step()",
        before="half = len(train_loader) > 9\nif half:\n    from apex import amp\n"
        "    model, optimizer = amp.initialize(model, optimizer)\n",
    )
    done = converted(text)
    assert (done.mode, done.reasons) == ("automatic", ())
    hooks = methods(done.text)
    assert "with amp.scale_loss(loss, self.optimizer) as scaled:\n        scaled.backward()" in hooks["backward"]
    step = hooks[STEPS]
    assert step.startswith(f"optimizer_closure()\n{BARE}if half:") and step.endswith("optimizer.step()")


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["bundled", pytest.param("lightning", marks=pytest.mark.lightning)])
def test_steps_of_the_scripts_own_train_identically(
    runtime: str, trains_identically: Callable[[str, str | None], None]
) -> None:
    runs = (text.removeprefix(PROLOGUE).replace(WRAPPER, "") for text, _, _ in OWN_STEP.values())
    text = (
        PROLOGUE
        + WRAPPER
        + "".join(f"def run_{n}():\n{indent(run, '    ')}\n\nrun_{n}()\n" for n, run in enumerate(runs))
    )
    done = converted(text, runtime=runtime)
    assert done.text is not None and done.text.count(".fit(") == len(OWN_STEP) and done.mode == "automatic"
    trains_identically(text, done.text)


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


def test_weights_beyond_the_optimizers_are_zeroed_by_the_script() -> None:
    done = converted(script(f"encoder.zero_grad()\n{STEP}", before="encoder = nn.Linear(4, 4)\n"))
    assert done.mode == "automatic"
    assert "self.encoder.zero_grad()" in methods(done.text)["training_step"]


def test_a_loss_that_is_made_a_number_stays_a_tensor_until_backward() -> None:
    text = script(STEP.replace("optimizer.step()", "loss = loss.item()\noptimizer.step()\nprint(loss)"))
    hooks = methods(converted(text).text)
    assert "item" not in hooks["training_step"] and "loss.item()" in hooks["on_before_optimizer_step"]


def test_a_counter_that_is_read_before_the_step_is_kept() -> None:
    text = script(STEP.replace("optimizer.step()", "print(number, model[0].weight.grad.norm())\noptimizer.step()"))
    done = converted(text.replace("for x, y in train_loader", "for number, (x, y) in enumerate(train_loader)"))
    assert done.mode == "automatic"
    assert "self.number = batch_idx" in methods(done.text)["training_step"]
    assert "print(self.number, " in methods(done.text)["on_before_optimizer_step"]


def test_clipping_of_all_weights_is_an_option() -> None:
    batch = STEP.replace("optimizer.step()", "nn.utils.clip_grad_norm_(model.parameters(), 0.5)\noptimizer.step()")
    text = converted(script(batch)).text
    assert text is not None
    assert "gradient_clip_val=0.5" in text and "clip_grad_norm_" not in text


def test_clipping_to_nothing_stays_before_the_step() -> None:
    batch = STEP.replace("optimizer.step()", "nn.utils.clip_grad_norm_(model.parameters(), 0.0)\noptimizer.step()")
    done = converted(script(batch))
    assert "clip_grad_norm_" in methods(done.text)["on_before_optimizer_step"]
    assert "gradient_clip_val" not in (done.text or "")


def test_clipping_of_some_weights_stays_before_the_step() -> None:
    batch = STEP.replace("optimizer.step()", "nn.utils.clip_grad_norm_(model[0].parameters(), 0.5)\noptimizer.step()")
    hooks = methods(converted(script(batch)).text)
    assert "clip_grad_norm_" in hooks["on_before_optimizer_step"]


HANDED = f"""
def train(optimizer):
    for epoch in range(3):
        for x, y in train_loader:
{indent(STEP.replace("optimizer.step", "optimizer.step_and_warm"), "            ")}

"""
WRAPPED = {
    "around one that the script made": (WRAPPER, "Warm(optimizer)", "return warm.optimizer"),
    "around one that is made in place": (
        WRAPPER,
        "Warm(torch.optim.Adam(model.parameters(), lr=0))",
        "return warm.optimizer",
    ),
    "made by a function": (
        f"{WRAPPER}\ndef warmed(net):\n    return Warm(torch.optim.Adam(net.parameters()))\n",
        "warmed(model)",
        "return warm.optimizer",
    ),
    "that makes its own, of one kind or another": (
        WRAPPER.replace(
            "self.optimizer = optimizer",
            "if len(optimizer) > 9:\n            self.optimizer = torch.optim.SGD(optimizer, lr=0.1)\n"
            "        else:\n            self.optimizer = torch.optim.Adam(optimizer)",
        ),
        "Warm(list(model.parameters()))",
        "return warm.optimizer",
    ),
    "that makes it anew": (
        WRAPPER.replace("self.optimizer.step()", "self.optimizer.step()\n        self.optimizer = type(self)"),
        "Warm(optimizer)",
        "return None",
    ),
    "of two": (
        WRAPPER.replace(
            "= optimizer\n", "= optimizer\n        self.other = torch.optim.SGD(model.parameters(), lr=1)\n"
        ),
        "Warm(optimizer)",
        "return None",
    ),
    "around no optimizer of torch": (WRAPPER, "Warm(open_optimizer(model))", "return None"),
}


@pytest.mark.parametrize(("define", "made", "configured"), WRAPPED.values(), ids=WRAPPED)
def test_the_optimizer_within_a_wrapper_is_the_trainers(define: str, made: str, configured: str) -> None:
    text = script(STEP.replace("optimizer.", "warm."), define=define, before=f"warm = {made}\n")
    assert methods(converted(text).text)["configure_optimizers"] == configured


def test_the_wrapper_that_a_function_is_handed_says_what_is_within() -> None:
    wrapper = WRAPPER.replace("step(self)", "step_and_warm(self)")
    done = converted(f"{PROLOGUE}{SETUP}{wrapper}\n{HANDED}\ntrain(Warm(optimizer))\n")
    assert methods(done.text)["configure_optimizers"] == "return self.optimizer.optimizer"


def test_two_wrappers_of_one_optimizer_leave_the_trainer_none() -> None:
    steps = "\n".join(STEP.replace("optimizer.", f"{name}.") for name in ("warm", "cold"))
    text = script(steps, define=WRAPPER, before="warm = Warm(optimizer)\ncold = Warm(optimizer)\n")
    assert methods(converted(text).text)["configure_optimizers"] == "return None"


OWNER = """
class Owner:
    def __init__(self, net):
        self.opt = torch.optim.SGD(net.parameters(), lr=0.1)

    def update(self, loss):
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
"""


@pytest.mark.parametrize(
    ("first", "taken"),
    [("", "opt, two_opt = self.optimizers()"), ("opt = len(x)\nprint(opt)", "two_opt = self.optimizers()[1]")],
    ids=["names of their own", "one is taken"],
)
def test_optimizers_within_objects_of_one_class_are_told_apart(first: str, taken: str) -> None:
    steps = "\n".join(f"{FORWARD}\n{name}.update(loss)" for name in ("one", "two"))
    text = script(f"{first}\n{steps}", define=OWNER, before="one = Owner(model)\ntwo = Owner(model)\n")
    hooks = methods(converted(text).text)
    assert hooks["configure_optimizers"] == "return [self.opt, self.two_opt]"
    assert taken in hooks["training_step"] and hooks["training_step"].count("two_opt.step()") == 1


def test_a_class_of_the_scripts_own_that_derives_from_an_optimizer_is_one() -> None:
    own = "class Base(torch.optim.SGD):\n    pass\n\nclass Own(Base):\n    pass\n"
    step = f"{FORWARD}\nmodel.zero_grad()\nloss.backward()\nown.step()"
    done = converted(script(step, define=own, before="own = Own(model.parameters(), lr=0.1)\n"))
    assert (done.mode, done.reasons) == ("automatic", ())


@pytest.mark.parametrize(
    ("after_step", "hook"),
    [
        ("total += loss.item()", "training_step"),
        ("ema.update()", "on_train_batch_end"),
        ("print(model[0].weight.norm())", "on_train_batch_end"),
        ("torch.save(model.state_dict(), 'm.pt')", "on_train_batch_end"),
        ("print(parts[0].norm())", "on_train_batch_end"),
        ("print(first.norm())", "on_train_batch_end"),
    ],
    ids=["a number only", "an object built from the network", "prints weights", "saves weights", "a list", "a name"],
)
def test_what_sees_updated_weights_waits_for_them(after_step: str, hook: str) -> None:
    text = script(
        f"{STEP}\n{after_step}",
        before="total = 0\nema = Average(model)\nparts = [model[0].weight]\nfirst = model[0].weight\n",
        define="class Average:\n    def __init__(self, model):\n        self.model = model\n\n"
        "    def update(self):\n        self.shadow = copy.deepcopy(self.model)\n",
    )
    word = after_step.partition("(")[0].partition(" ")[0].rpartition(".")[2]
    assert word in methods(converted(text).text)[hook]


@pytest.mark.parametrize(
    "body",
    ["return accuracy_score(scores.argmax(1).numpy(), y.numpy())", "return 20 * scores.exp().log10().mean()"],
    ids=["a library of measures", "a method of tensors"],
)
def test_what_an_own_function_measures_of_the_outputs_stays_in_the_step(body: str) -> None:
    define = f"from sklearn.metrics import accuracy_score\n\n\ndef measured(scores, y):\n    {body}\n\n\n"
    text = script(f"{STEP}\nfound.append(measured(scores, y))", define=define, before="found = []\n")
    hooks = methods(converted(text).text)
    assert "measured" in hooks["training_step"] and "on_train_batch_end" not in hooks


def test_a_parameter_that_is_called_may_be_a_network() -> None:
    line = "shown.append((part[0].weight.sum().item(), loss.item()))"
    batch = indent(f"{STEP.replace('model(', 'part(')}\n{line}", " " * 8)
    loops = f"    for epoch in range(2):\n        for x, y in train_loader:\n{indent(batch, '    ')}"
    define = f"shown = []\ndef train(part, optimizer, criterion):\n{loops}\n\n"
    text = script(
        "pass", epochs="if True:", batches="if True:", define=define, after="train(model, optimizer, criterion)"
    )
    assert "weight" in methods(converted(text).text)["on_train_batch_end"]


ENABLED = (
    f"with torch.enable_grad():\n{indent(FORWARD, '    ')}\noptimizer.zero_grad()\nloss.backward()\noptimizer.step()"
)
LOOPS = f"for epoch in range(2):\n    for x, y in train_loader:\n{indent(ENABLED, '        ')}\n"
OFF = {
    "for good": f"torch.set_grad_enabled(False)\n{LOOPS}",
    "in a with": f"with torch.no_grad():\n{indent(LOOPS, '    ')}",
    "by a decorator": f"@torch.no_grad()\ndef main():\n{indent(LOOPS, '    ')}\n\nmain()\n",
    "for the call": f"def main():\n{indent(LOOPS, '    ')}\n\nwith torch.inference_mode():\n    main()\n",
}
ON = {
    "again": f"torch.set_grad_enabled(False)\nprint(model(data[0][0]))\ntorch.set_grad_enabled(True)\n{LOOPS}",
    "for a method of the same name": "@torch.no_grad()\ndef evaluate():\n    model.eval()\n    print(model(data[0][0]))\n"
    f"    model.train()\n\ndef train():\n{indent(LOOPS, '    ')}\ntrain()\nevaluate()\n",
    "for a network's method of the same name": f"def train(net):\n{indent(LOOPS.replace('model', 'net'), '    ')}\n\n"
    "with torch.no_grad():\n    model.eval()\n    model.train()\ntrain(model)\n",
    "for a field's method of the same name": "class Run:\n    def train(self):\n"
    f"{indent(LOOPS, '        ')}\n    @torch.no_grad()\n    def check(self):\n        self.net.train()\n\nRun().train()\n",
    "by the loops": "torch.set_grad_enabled(False)\n"
    + LOOPS.replace("range(2):\n", "range(2):\n    torch.set_grad_enabled(True)\n"),
}


@pytest.mark.parametrize("loops", OFF.values(), ids=OFF)
def test_loops_where_gradients_are_off_are_refused(loops: str) -> None:
    done = converted(f"{PROLOGUE}{SETUP}{loops}")
    assert done.text is None
    assert done.refusals[0].message.startswith("gradients are off where the loop stands")


@pytest.mark.parametrize("loops", ON.values(), ids=ON)
def test_loops_that_turn_gradients_on_are_converted(loops: str) -> None:
    assert converted(f"{PROLOGUE}{SETUP}{loops}").text is not None


CLIPPED = "loss = criterion(model(x), y)\noptimizer.zero_grad()\nloss.backward()\n{}optimizer.step()\n"
LIMIT = "nn.utils.clip_grad_norm_(model.parameters(), {})\n"
LIMITS = {
    "always the same": ("limit", "", "", True),
    "of the epoch": ("1 / (epoch + 1)", "", "", False),
    "of the batch": ("x.shape[0] / 8", "", "", False),
    "changed after the step": ("limit", "limit *= 0.9", "", False),
    "changed after the epoch": ("limit", "", "limit *= 0.5", False),
    "changed in an object": ("args.limit", "", "args.limit *= 0.5", False),
    "changed in a dictionary": ("table['limit']", "", "table['limit'] = 0.5", False),
}


@pytest.mark.parametrize(("limit", "late", "end", "steady"), LIMITS.values(), ids=LIMITS)
def test_the_trainer_clips_at_a_limit_that_stays(limit: str, late: str, end: str, steady: bool) -> None:
    before = "import types\nlimit, table = 1.0, {'limit': 1.0}\nargs = types.SimpleNamespace(limit=1.0)\n"
    done = converted(script(f"{CLIPPED.format(LIMIT.format(limit))}{late}", before=before, end=end))
    assert done.mode == "automatic" and ("gradient_clip_val=" in str(done.text)) is steady
    assert ("clip_grad_norm_" in methods(done.text).get("on_before_optimizer_step", "")) is not steady
