"""Which loops are found, what their heads say, and which calls are opened on the way."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import indent

import pytest

from lightify.errors import LightifyError, Refusal
from tests.converter.scripts import FORWARD, PROLOGUE, SETUP, STEP, converted, methods, planned, script

REFUSED = {
    "nothing trains": (PROLOGUE + SETUP, "LF201"),
    "one step, no loop": (f"{PROLOGUE}{SETUP}x, y = data[:8]\n{STEP}\n", "LF203"),
    "the loop yields": (
        f"{PROLOGUE}{SETUP}def train():\n    for x, y in train_loader:\n{indent(STEP, ' ' * 8)}\n        yield loss\n"
        "for loss in train():\n    print(loss)\n",
        "LF220",
    ),
}


@pytest.mark.parametrize(("text", "code"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_loop_to_convert_is_refused(text: str, code: str) -> None:
    done = converted(text)
    assert done.text is None
    assert [refusal.code for refusal in done.refusals] == [code]
    assert all(refusal.hint and refusal.span for refusal in done.refusals)


OLD = {
    "print": ("print 1\n", "2to3"),
    "async": ("x = x.cuda(async=True)\n", "non_blocking"),
    "else": ("x = (\n", "mend the line"),
}


@pytest.mark.parametrize(("text", "hint"), OLD.values(), ids=OLD)
def test_what_is_no_python_3_is_told_with_what_to_do(text: str, hint: str) -> None:
    with pytest.raises(LightifyError) as error:
        converted(text)
    assert hint in error.value.diagnostic.hint


EPOCHS = {
    "range(n)": ("range(3)", "max_epochs=3"),
    "range(a, b)": ("range(1, 4)", "max_epochs=3"),
    "range(start, n + start)": ("range(first, n + first)", "max_epochs=n,"),
    "names": ("range(first, n)", "max_epochs=max(n - first, 0)"),
    "a bar": ("tqdm(range(n))", "max_epochs=n,"),
    "trange": ("trange(n)", "max_epochs=n,"),
    "a step": ("range(0, 6, 2)", "max_epochs=3"),
    "a step of a name's": ("range(0, n, first)", "max_epochs=len(range(0, n, first))"),
    "backwards": ("reversed(range(n))", "max_epochs=len(range(n))"),
    "a list": ("[1, 2, 5]", "max_epochs=3"),
    "a list by name": ("rates", "max_epochs=len(rates)"),
    "without end": ("itertools.count(1)", "max_epochs=-1"),
}


@pytest.mark.parametrize(("iterable", "option"), EPOCHS.values(), ids=EPOCHS)
def test_epochs_are_counted(iterable: str, option: str) -> None:
    text = script(
        epochs=f"for epoch in {iterable}:",
        before="import itertools\nfrom tqdm import tqdm, trange\nfirst, n = 1, 4\nrates = [0.1, 0.2]\n",
    )
    assert option in (converted(text).text or "")


NAMED = {
    "a step": ("for epoch in range(1, 6, 2):", "print(epoch)", "range(1, 6, 2)[self.current_epoch]"),
    "backwards": ("for epoch in reversed(range(3)):", "print(epoch)", "range(3)[-1 - self.current_epoch]"),
    "a list": ("for lr in [0.1, 0.2]:", "print(lr)", "[0.1, 0.2][self.current_epoch]"),
    "numbered": ("for n, lr in enumerate(rates, 1):", "print(n, lr)", "self.print(self.current_epoch + 1, self.lr)"),
    "side by side": ("for n, lr in zip(range(9), rates):", "print(n, lr)", "self.print(self.current_epoch, self.lr)"),
}


@pytest.mark.parametrize(("epochs", "end", "shown"), NAMED.values(), ids=NAMED)
def test_epochs_have_their_own_values(epochs: str, end: str, shown: str) -> None:
    done = converted(script(epochs=epochs, end=end, before="rates = [0.1, 0.2]\n"))
    assert done.mode == "automatic" and shown in "".join(methods(done.text).values())


STARTS = {
    "a name": (
        "for epoch in range(first_epoch, 5):",
        "first_epoch = epoch + 1",
        "self.first_epoch_ = self.first_epoch",
    ),
    "its own last value": ("for epoch in range(epoch, 5):", "print(epoch)", "self.first_epoch_ = self.epoch"),
    "an item": ("for epoch in range(state['epoch'], 5):", "state['epoch'] = epoch", "= state['epoch']"),
    "the number of epochs": ("for epoch in range(epochs):", "epochs -= 1", ""),
}
START = "first_epoch, epoch, epochs = 1, 1, 3\nstate = {'epoch': 1}\n"


@pytest.mark.parametrize(("epochs", "end", "put_by"), STARTS.values(), ids=STARTS)
def test_what_the_loops_change_starts_as_it_was(
    epochs: str, end: str, put_by: str, trains_identically: Callable[[str, str | None], None]
) -> None:
    text = script(STEP.replace("loss =", "loss = (epoch + 1) *"), epochs=epochs, end=end, before=START)
    done = converted(text)
    assert done.mode == "automatic" and ("on_train_start" in methods(done.text)) is bool(put_by)
    assert put_by in methods(done.text).get("on_train_start", "")
    trains_identically(text, done.text)


UNCOUNTED = {
    "a generator": "for lr in draw():",
    "a list that grows": "for lr in rates:",
    "an assignment in the head": "for epoch in (bar := list(range(3))):",
}


@pytest.mark.parametrize("epochs", UNCOUNTED.values(), ids=UNCOUNTED)
def test_other_epochs_are_taken_one_by_one(epochs: str) -> None:
    before = "rates = [0.1, 0.2]\ndef draw():\n    yield 0.1\n\n"
    done = converted(script(epochs=epochs, end="if len(rates) < 3:\n    rates.append(0.3)", before=before))
    assert done.mode == "automatic" and "max_epochs=-1," in (done.text or "")
    assert "in self.epoch_values:\n    break\nelse:\n" in methods(done.text)["on_train_epoch_start"]


BATCHES = {
    "a loader": "for x, y in train_loader:",
    "numbered": "for i, (x, y) in enumerate(train_loader):",
    "numbered from one": "for i, (x, y) in enumerate(train_loader, 1):",
    "a bar": "for x, y in tqdm(train_loader):",
    "a bar around numbers": "for i, (x, y) in tqdm(enumerate(train_loader), total=4):",
    "numbers around a bar": "for i, (x, y) in enumerate(tqdm(train_loader)):",
}


@pytest.mark.parametrize("head", BATCHES.values(), ids=BATCHES)
def test_the_loader_is_handed_to_fit(head: str) -> None:
    done = converted(script(batches=head, before="from tqdm import tqdm\n"))
    assert done.text is not None and ".fit(module, train_loader)" in done.text
    assert methods(done.text)["training_step"].startswith("x, y = batch")


NOT_LOADERS = {
    "a list": "for x, y in batches:",
    "a list that is called a loader": "for x, y in cached_loader:",
    "a list out of a dict of loaders": "for x, y in loaders['train']:",
    "a generator": "for x, y in draw():",
    "two loaders": "for (x, y), _ in zip(train_loader, val_loader):",
}


@pytest.mark.parametrize("head", NOT_LOADERS.values(), ids=NOT_LOADERS)
def test_other_sources_are_made_anew_each_pass(head: str) -> None:
    before = (
        "def two():\n    found = []\n    found.append(data[:8])\n    return found, 2\n\n"
        "batches, (cached_loader, _) = [data[:8], data[8:16]], two()\n"
        "cached_loader, _ = two()\nloaders = {'train': list(train_loader)}\n"
        "def draw():\n    yield data[:8]\n    yield data[8:16]\n\n"
    )
    source = head.partition(" in ")[2].rstrip(":")
    assert f"Passes(lambda: {source})" in (converted(script(batches=head, before=before)).text or "")


def test_a_list_that_a_class_was_handed_is_no_loader() -> None:
    loops = "for epoch in range(2):\n    for x, y in self.loader:\n" + indent(STEP, "        ")
    define = f"class Runner:\n    def __init__(self, loader):\n        self.loader = loader\n\n    def run(self):\n{indent(loops, '        ')}\n\n"
    text = f"{PROLOGUE}{SETUP}{define}Runner([data[:8], data[8:]]).run()\n"
    assert "Passes(lambda: self.loader)" in (converted(text).text or "")


#: Where a batch may be None, which a Trainer would take for no batch: source and the step's condition.
MISSING = {
    "literally": ("[None] * 4", "x, y = next(pairs)"),
    "repeated": ("itertools.repeat(None, 4)", "x, y = next(pairs)"),
    "what the loop asks": ("draw()", "if batch is None:\n    continue\nx, y = batch"),
    "a truth": ("draw()", "if not batch:\n    continue\nx, y = batch"),
    "what collates": ("ragged", "x, y = batch or next(pairs)"),
    "unread": ("steps", "x, y = next(pairs)"),
}


@pytest.mark.parametrize(("source", "first"), MISSING.values(), ids=MISSING)
def test_a_batch_that_may_be_none_is_a_batch(source: str, first: str) -> None:
    before = (
        "import itertools\n\ndef draw():\n    yield None\n    yield data[:8]\n\ndef drop(items):\n    return None\n\n"
        "pairs, steps = itertools.cycle(train_loader), draw()\nragged = DataLoader(data, collate_fn=drop)\n"
    )
    done = converted(script(f"{first}\n{STEP}", before=before, batches=f"for batch in {source}:"))
    assert f"Passes(lambda: zip({source}))" in (done.text or "")
    assert "(batch,) = batch" in (done.text or "")


@pytest.mark.parametrize("source", ["train_loader", "range(4)", "draw()"])
def test_other_batches_are_handed_over_as_they_are(source: str) -> None:
    before = "def draw():\n    yield data[:8]\n\n"
    done = converted(script(f"x, y = batch\n{STEP}", before=before, batches=f"for batch in {source}:"))
    assert "zip(" not in (done.text or "zip(")


def function(parameters: str, body: str = STEP, result: str = "") -> str:
    lines = f"for x, y in train_loader:\n{indent(body, '    ')}\n{result}"
    return f"def train({parameters}):\n{indent(lines, '    ')}\n\n"


OPENED = {
    "no parameters": (function(""), "train()"),
    "by position": (function("model, optimizer"), "train(model, optimizer)"),
    "by keyword": (
        function("net, opt", STEP.replace("model(", "net(").replace("optimizer.", "opt.")),
        "train(opt=optimizer, net=model)",
    ),
    "a default": (function("model, scale=2.0", STEP.replace("y)", "y) * scale", 1)), "train(model)"),
    "a result": (function("", result="return loss.item()"), "last = train()"),
    "two results": (function("", result="return loss.item(), len(x)"), "last, n = train()"),
    "a spread": (function("model, optimizer"), "train(*(model, optimizer))"),
    "returns from its middle": (function("", f"{STEP}\nif loss > 9:\n    return 0", "return 1"), "print(train())"),
    "an early default": (function("epoch"), "train(epoch)"),
    "variable arguments that nothing reads": (function("model, *rest, **options"), "train(model)"),
}
KEPT = {
    "returns from inside a try": (
        function("", f"try:\n    {FORWARD}\n    return\nfinally:\n    pass\n{STEP}"),
        "train()",
    ),
    "breaks and returns": (function("", f"{STEP}\nif loss > 9:\n    return\nif loss > 8:\n    break"), "train()"),
    "decorated": ("def twice(f):\n    return f\n\n@twice\n" + function(""), "train()"),
    "variable arguments": (function("*parts"), "train(1, 2)"),
    "variable options": (function("**options"), "train(lr=1)"),
    "variable options that are read": (function("**options", result="print(options)"), "train()"),
    "given to variable arguments, not to one by keyword": (function("*rest, n=1"), "train(2)"),
    "called after a call that may notice": (function("", result="return 1"), "print(next(steps), train())"),
    "called only if": (function("", result="return 1"), "print(epoch > 0 and train())"),
}


def in_epochs(define: str, call: str) -> str:
    return f"{PROLOGUE}{SETUP}{define}for epoch in range(3):\n    {call}\nprint('done')\n"


@pytest.mark.parametrize(("define", "call"), OPENED.values(), ids=OPENED)
def test_a_call_that_runs_the_loop_is_opened(define: str, call: str) -> None:
    done = converted(in_epochs(define, call))
    assert done.text is not None
    assert "max_epochs=3" in done.text and "def train(" not in done.text


@pytest.mark.parametrize(("define", "call"), KEPT.values(), ids=KEPT)
def test_other_calls_are_not_opened(define: str, call: str) -> None:
    _, plan = planned(in_epochs(define, call))
    assert isinstance(plan, Refusal) or not plan.nest.opened or plan.nest.epoch_loop is None


def test_an_optimizer_that_is_given_back_is_the_same_one() -> None:
    define = function("model, optimizer", result="return model, optimizer")
    done = converted(in_epochs(define, "model, optimizer = train(model, optimizer)"))
    assert (done.mode, done.reasons) == ("automatic", ())
    assert "return self.optimizer" in methods(done.text)["configure_optimizers"]


def test_parameters_take_their_arguments_names() -> None:
    define = function("net, opt", STEP.replace("model(", "net(").replace("optimizer.", "opt."))
    step = methods(converted(in_epochs(define, "train(model, optimizer)")).text)["training_step"]
    assert "self.model(x)" in step and "net" not in step


WHILE = {
    "epochs": ("while not done:", "for x, y in train_loader:", "another_epoch", "return not self.done"),
    "steps": ("if True:", "while not done:", "remaining_steps", "while not self.done:\n    yield True"),
}


@pytest.mark.parametrize(("epochs", "batches", "name", "test"), WHILE.values(), ids=WHILE)
def test_the_test_of_a_while_loop_reads_what_the_body_wrote(epochs: str, batches: str, name: str, test: str) -> None:
    text = script(
        f"x, y = data[:8]\n{STEP}\ncount += 1\nif count == 5:\n    done = True\n    break",
        epochs=epochs,
        batches=batches,
        before="count, done = 0, False\n",
    )
    hooks = methods(converted(text).text)
    assert hooks[name] == test
    assert "self.done = True" in hooks["on_train_batch_end"] + hooks["training_step"]


def test_steps_may_be_counted_in_a_variable_called_iter() -> None:
    """The host's name hides the built-in function."""
    text = script(
        f"x, y = data[:8]\n{STEP}\niter += 1", epochs="if True:", batches="while iter < 5:", before="iter = 0\n"
    )
    done = converted(text)
    assert done.text is not None and "iter(" not in done.text
    assert "Passes(module.remaining_steps)" in done.text


AGENT = """\
class Agent:
    def __init__(self, passes):
        self.passes = passes
        self.net = nn.Linear(4, 2)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)

    def update(self, x):
        for _ in range(self.passes):
            self.optimizer.zero_grad()
            loss = self.net(x).pow(2).mean()
            loss.backward()
            self.optimizer.step()
"""


@pytest.mark.parametrize("test", ["True", "epoch % 2 == 0"])
def test_batches_that_a_field_counts_are_those_of_its_object(test: str) -> None:
    start = f"x = torch.randn(2, 4)\nif {test}:\n    agent.update(x)"
    done = converted(script("pass", define=AGENT, before="agent = Agent(3)\n", start=start, batches="if False:"))
    assert done.mode == "automatic" and done.text is not None, (done.reasons, done.refusals)
    assert "range(agent.passes)" in done.text


def test_a_field_called_as_its_object_is_is_no_such_object() -> None:
    """`model.train()` runs the script's own method, `self.model.train()` in it does not."""
    text = (
        AGENT.replace("net", "agent").replace("for _", "self.agent.train()\n        for _").replace("update", "train")
    )
    done = converted(
        script("pass", define=text, before="agent = Agent(3)\n", start="agent.train(data[:8][0])", batches="if False:")
    )
    assert done.text is not None and "manual_backward" not in done.text and done.text.count("return loss") == 1


@pytest.mark.parametrize(
    "made", ["one = Agent(1)\nother = Agent(2)\n", "one, other = Agent(1), Agent(2)\n"], ids=["apart", "together"]
)
def test_fields_of_two_objects_keep_apart(made: str) -> None:
    define = AGENT.replace("for _ in range(self.passes)", "if True")
    define += f"{define.replace('Agent', 'Other')}"
    made = made.replace("Agent(2)", "Other(2)")
    done = converted(script("one.update(x)\nother.update(x)", define=define, before=made))
    hooks = methods(done.text)
    assert "optimizer, other_optimizer = self.optimizers()" in hooks["training_step"], done.reasons
    assert hooks["training_step"].count("other_optimizer.step()") == 1
    assert hooks["configure_optimizers"] == "return [self.optimizer, self.other_optimizer]"


HEIRS = """\
class Base(Agent):
    def update(self, x):
        self.learn(x)

    def learn(self, x):
        loss = self.net(x).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class Heir(Base):
    def learn(self, x):
        loss = self.net(x).abs().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
"""


@pytest.mark.parametrize(
    ("made", "opened"),
    [
        ("agent = Heir(1)\n", ".abs()"),
        ("agent = Heir(1)\nother = Base(1)\n", ".abs()"),
        ("other = Heir(1)\nagent = Base(1)\n", "(x).mean()"),
        ("agent = {'base': Base, 'heir': Heir}['base'](1)\n", ""),
        ("agent = Base(1) if len(data) else Heir(1)\n", ""),
    ],
    ids=["the heir alone", "both, the heir trains", "both, the base trains", "of a table", "either"],
)
def test_a_method_is_that_of_the_class_of_its_object(made: str, opened: str) -> None:
    define = AGENT.split("    def update")[0] + HEIRS.replace("update", "advance")
    done = converted(script("agent.advance(x)", define=define, before=made))
    step = methods(done.text)["training_step"]
    assert opened in step if opened else ".mean()" not in step, step


@pytest.mark.parametrize(
    ("made", "opened"),
    [("", True), ("kinds = Base, Heir\n", False), ("kind = globals()['Base']\n", False), ("kind: type[Base]\n", True)],
    ids=["the heir alone is made", "both may be", "looked up by name", "told in a type"],
)
def test_a_run_in_a_method_knows_which_classes_run_it(made: str, opened: bool) -> None:
    once = HEIRS.replace("update(self, x):\n        ", "update(self):\n        for x, y in train_loader:\n            ")
    define = AGENT.split("    def update")[0] + once
    done = converted(f"{PROLOGUE}{define}\n\nagent = Heir(1)\n{made}agent.update()\n")
    assert ("self.owner.learn(x)" not in methods(done.text)["training_step"]) is opened


@pytest.mark.parametrize(
    ("made", "whole"), [("[data[:8], data[8:16]]", False), ("DataLoader(data, 8)", True)], ids=["a list", "a loader"]
)
def test_a_name_that_holds_a_list_elsewhere_is_not_trusted_to_be_a_loader(made: str, whole: bool) -> None:
    loop = f"for epoch in range(2):\n    for x, y in loader:\n{indent(STEP, ' ' * 8)}\n"
    text = f"{PROLOGUE}{SETUP}def run(loader):\n{indent(loop, '    ')}\n\nloader = {made}\nfor one in (run,):\n    one(loader)\n"
    assert ("fit(module, loader)" in str(converted(text).text)) is whole


def test_a_method_that_only_raises_is_no_choice() -> None:
    once = HEIRS.replace("update(self, x):\n        ", "update(self):\n        for x, y in train_loader:\n            ")
    base, _, heir = once.partition("class Heir")
    abstract = base.split("        loss = ")[0] + "        raise NotImplementedError\n\n\nclass Heir" + heir
    define = AGENT.split("    def update")[0] + abstract
    done = converted(f"{PROLOGUE}{define}\n\nkinds = Base, Heir\nagent = Heir(1)\nagent.update()\n")
    assert ".abs()" in methods(done.text)["training_step"]


def test_an_object_in_a_field_is_read_by_its_own_class() -> None:
    judge = "class Judge:\n    def __init__(self, net):\n        self.net = net\n\n    def score(self):\n        self.net.eval()\n"
    judge += (
        "        with torch.no_grad():\n            return sum(self.net(x).sum().item() for x, y in val_loader)\n\n\n"
    )
    agent = AGENT.replace("self.passes = passes", "self.passes, self.judge = passes, None")
    agent = agent.replace("    def update", "        self.judge = Judge(self.net)\n\n    def update")
    agent += "        print(self.judge.score(), self.judge.net)\n"
    done = converted(
        script(
            "pass",
            define=judge + agent,
            before="agent = Agent(3)\n",
            start="agent.update(data[:8][0])",
            batches="if False:",
        )
    )
    assert done.mode == "automatic", (done.reasons, done.refusals)
