"""Where each name lives: a local of a hook, an attribute, a global, or computed."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import indent

import pytest

from tests.converter.scripts import FORWARD, PROLOGUE, SETUP, STEP, converted, methods, script

LOCALS = {
    "set and read in one batch": script(f"{STEP}\nn = len(x)\nprint(n)"),
    "set in each batch before it is read": script(f"n = 0\nn += 1\nprint(n)\n{STEP}"),
    "the loop variable of an inner loop": script(f"{STEP}\nfor n in range(3):\n    print(n)"),
}

ATTRIBUTES = {
    "carried from batch to batch": script(f"{STEP}\nn += 1", before="n = 0\n", after="print(n)"),
    "set at the epoch's start": script(f"{STEP}\nn += 1", start="n = 0", end="print(n)"),
    "read after the batches": script(f"{STEP}\nn = len(x)", end="print(n)"),
    "read after the run": script(f"{STEP}\nn = len(x)", after="print(n)"),
    "set only under a condition": script(f"{STEP}\nif len(x) < 8:\n    n = len(x)", before="n = 0\n", after="print(n)"),
}


@pytest.mark.parametrize("text", LOCALS.values(), ids=LOCALS)
def test_what_a_batch_keeps_to_itself_stays_local(text: str) -> None:
    assert "self.n" not in "".join(methods(converted(text).text).values())


@pytest.mark.parametrize("text", ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_what_outlives_a_batch_becomes_an_attribute(text: str) -> None:
    assert "self.n " in "".join(body + " " for body in methods(converted(text).text).values())


def test_a_result_exists_after_the_run_under_its_name() -> None:
    text = converted(script(f"{STEP}\nn = len(x)", after="print(n)")).text
    assert text is not None and "\nn = module.n\n" in text


@pytest.mark.parametrize(
    ("line", "stays"),
    [("shown(model)", True), ("shown(model) if many else None", False), ("[shown(model) for _ in range(many)]", False)],
    ids=["read anyway", "read on a condition", "read in a loop"],
)
def test_a_name_that_the_host_reads_anyway_is_not_bound_to_none_first(line: str, stays: bool) -> None:
    made = "if many == 2:\n    model = nn.Linear(4, 2)\nelif many == 3:\n    model = nn.Bilinear(4, 4, 2)\n"
    trained = (
        "criterion = nn.CrossEntropyLoss()\nif many:\n    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
    )
    run = f"for epoch in range(2):\n    for x, y in train_loader:\n{indent(STEP, ' ' * 8)}\n"
    body = indent(f"{made}{trained}{line}\n{run}", "    ")
    text = f"{PROLOGUE}def shown(it):\n    pass\n\n\ndef main(many):\n{body}\n\nmain(2)\n"
    assert ("model = None" not in str(converted(text).text)) is stays


#: The loop stands where {run} does; what follows reads the loss of the last batch.
LEFT = {
    "a handler that leaves": "try:\n{run}except ValueError:\n    raise SystemExit\nprint(loss)",
    "a handler that tells its own error": "try:\n{run}except ValueError as loss:\n    print(loss)\n    raise\nprint(loss)",
    "what runs on the way out": "def tried():\n    try:\n{run}        return 1\n    finally:\n        print(loss)\ntried()",
    "an outer loop that ends": "for again in range(3):\n{run}    break\nprint(loss)",
}


@pytest.mark.parametrize("around", LEFT.values(), ids=LEFT)
def test_what_follows_ways_that_leave_the_run_reads_its_results(around: str) -> None:
    depth = " " * (8 if around.startswith("def") else 4)
    run = indent(f"for epoch in range(2):\n    for x, y in train_loader:\n{indent(STEP, ' ' * 8)}\n", depth)
    assert "loss = module.loss" in str(converted(f"{PROLOGUE}{SETUP}loss = 0\n{around.format(run=run)}\n").text)


def test_the_name_of_a_caught_error_is_no_result() -> None:
    caught = "except Exception as e:\n    print(e)"
    run = f"for epoch in range(2):\n    for x, y in train_loader:\n        try:\n{indent(STEP, ' ' * 12)}\n{indent(caught, ' ' * 8)}"
    text = converted(f"{PROLOGUE}{SETUP}try:\n{indent(run, '    ')}\n{caught}\n").text
    assert text is not None and "self.e" not in text and "module.e" not in text


def test_a_result_that_may_stay_unset_starts_with_its_old_value() -> None:
    done = converted(ATTRIBUTES["set only under a condition"])
    assert "self.n = " in methods(done.text)["__init__"]


@pytest.mark.parametrize(
    ("epochs", "shown"),
    [("range(3)", "self.current_epoch"), ("range(1, 4)", "self.current_epoch + 1"), ("range(first, 4)", "epoch")],
    ids=["from zero", "from one", "from a name"],
)
def test_the_epoch_is_computed(epochs: str, shown: str) -> None:
    text = script(end="print('epoch', epoch)", epochs=f"for epoch in {epochs}:", before="first = 1\n")
    assert shown in methods(converted(text).text)["on_train_epoch_end"]


def test_an_epoch_that_nobody_reads_has_no_name() -> None:
    done = converted(script(before="first = 1", epochs="for epoch in range(first, 3):"))
    assert "on_train_epoch_start" not in methods(done.text)
    assert done.findings == ()


@pytest.mark.parametrize("table", ["table = np.arange(9)", "table, rest = train_test_split(range(9))"])
def test_what_compares_to_no_truth_is_not_compared_with_the_hyperparameters(table: str) -> None:
    made = f"args = ArgumentParser().parse_args([])\nargs.k = 2\n{table}\n"
    step = f"{STEP}\nprint(table[args.k])"
    run = f"{SETUP}{made}for x, y in train_loader:\n{indent(step, '    ')}"
    imports = "from argparse import ArgumentParser\nimport numpy as np\n"
    imports += "from sklearn.model_selection import train_test_split\n"
    text = f"{PROLOGUE}{imports}def main():\n{indent(run, '    ')}\nmain()\n"
    kept = {runtime: methods(converted(text, runtime=runtime).text)["__init__"] for runtime in ("bundled", "lightning")}
    assert "self.save_hyperparameters(args)" in kept["bundled"]
    assert "self.save_hyperparameters(args, ignore=['table'])" in kept["lightning"]


def test_the_batch_number_is_batch_idx() -> None:
    text = script(f"{STEP}\nif i == 2:\n    print(i)", batches="for i, (x, y) in enumerate(train_loader):")
    assert "batch_idx" in methods(converted(text).text)["training_step"]


TOLD = {
    "read before and after the step": f"{FORWARD.replace('x', 'X')}\nprint(step)\n{STEP[len(FORWARD) :]}\nprint(step, model[0].bias)",
    "read after the step": f"{STEP.replace('x', 'X')}\nif step % 10 == 0:\n    print(step, model[0].bias)",
}
CARRIED = {
    "changed by the step": f"{STEP.replace('x', 'X')}\nstep += 1\nprint(step, model[0].bias)",
    "read after the loop": f"{STEP.replace('x', 'X')}\nprint(step, model[0].bias)",
}


@pytest.mark.parametrize("step", TOLD.values(), ids=TOLD)
def test_a_whole_batch_is_told_again_at_its_end(step: str) -> None:
    text = script(step, before="X, y = data[:8]\n", epochs="if True:", batches="for step in range(9):")
    done = converted(text)
    assert done.text is not None and "self.step" not in done.text
    assert "def on_train_batch_end(self, outputs, step, batch_idx):" in done.text


@pytest.mark.parametrize("step", CARRIED.values(), ids=CARRIED)
def test_a_batch_that_is_read_elsewhere_or_changed_is_carried(step: str) -> None:
    after = "print(step)" if "+=" not in step else ""
    text = script(step, before="X, y = data[:8]\n", epochs="if True:", batches="for step in range(9):", after=after)
    assert "self.step" in str(converted(text).text)


@pytest.mark.parametrize(
    ("batches", "step", "told"),
    [
        ("for x, y in train_loader:", f"{STEP}\nshown.append((y, model[0].bias))", "x, y = batch"),
        ("for x, y in train_loader:", f"{STEP}\nshown.append((y, x, model[0].bias))", "x, y = batch"),
        ("for (i, ((x, z), y)) in enumerate(pairs):", f"{STEP}\nshown.append((z, model[0].bias))", "(x, z), y = batch"),
        ("for x, y in train_loader:", f"y = y.long()\n{STEP}\nshown.append((y, model[0].bias))", ""),
        ("for x, y in train_loader:", f"{STEP}\nx, y = y, x\nshown.append((y, model[0].bias))", ""),
    ],
    ids=["one of two", "both", "nested", "changed by the step", "exchanged after it"],
)
def test_parts_of_a_batch_are_told_again_at_its_end(batches: str, step: str, told: str) -> None:
    text = script(step, before="shown, pairs = [], list(zip(train_loader, train_loader))\n", batches=batches)
    hooks = methods(converted(text).text)
    assert hooks["on_train_batch_end"].startswith(f"{told}\nshown.append(") is bool(told)
    assert ("self.y" in hooks["training_step"]) is not bool(told)


OWN = """
def turns(loader):
    for part in loader:
        yield map(torch.clone, part)

def pairs(loader):
    for x, y in loader:
        yield x, y

class Drawn:
    def __iter__(self):
        yield torch.rand(8, 4)
        yield torch.randint(2, (8,))

"""


@pytest.mark.parametrize(
    ("batches", "told"),
    [
        ("for x, y in pairs(train_loader):", True),
        ("for x, y in zip(*stacked):", True),
        ("for x, y in [(a, b) for a, b in train_loader]:", True),
        ("for x, y in turns(train_loader):", False),
        ("for x, y in map(iter, train_loader):", False),
        ("for x, y in listed:", False),
        ("for x, y in [Drawn(), Drawn()]:", False),
        ("for x, *(y,) in train_loader:", False),
    ],
    ids=["tuples", "zip", "a list of tuples", "iterators", "map", "lists", "objects", "starred"],
)
def test_a_batch_that_gives_other_parts_the_next_time_is_carried(
    batches: str, told: bool, trains_identically: Callable[[str, str | None], None]
) -> None:
    before = "shown, stacked = [], [[data[:8][0]], [data[:8][1]]]\nlisted = [[*data[:8]], [*data[8:16]]]\n"
    ending = "shown.append((y.sum(), model[0].bias.sum().item()))\nlisted[0][1] = 1 - y"
    text = script(f"{STEP}\n{ending}", before=before, define=OWN, batches=batches)
    done = converted(text, runtime="bundled")
    assert methods(done.text)["on_train_batch_end"].startswith("x, y = batch\n") is told
    trains_identically(text, done.text)


COLLATED = """
from functools import partial

def turned(items):
    xs, ys = zip(*items)
    return iter((torch.stack(xs), torch.stack(ys)))

def stacked(items, noise=0.0):
    xs, ys = zip(*items)
    x = torch.stack(xs) + noise
    batch = (x, torch.stack(ys))
    return batch

class Drawn:
    def __init__(self, items):
        self.x, self.y = stacked(items)

    def __iter__(self):
        yield self.x + torch.randn_like(self.x)
        yield self.y

class Turns:
    def __call__(self, items):
        return map(torch.stack, zip(*items))

class Stacks:
    def __call__(self, items):
        return [torch.stack(part) for part in zip(*items)]"""
LOADER_OF = """
def loader_of(collate_fn):
    return DataLoader(data, batch_size=8, collate_fn=collate_fn)
"""


@pytest.mark.parametrize(
    ("loader", "told"),
    [
        ("DataLoader(data, batch_size=8, collate_fn=stacked)", True),
        ("DataLoader(data, batch_size=8, collate_fn=partial(stacked, noise=0.1))", True),
        ("loader_of(Stacks())", True),
        ("DataLoader(data, 8, False, None, None, 0, turned)", False),
        ("DataLoader(data, batch_size=8, collate_fn=Drawn)", False),
        ("loader_of(Turns())", False),
        ("DataLoader(data, **{'batch_size': 8, 'collate_fn': lambda items: turned(items)})", False),
    ],
    ids=["tuples", "partial", "an object's lists", "an iterator", "own batches", "an object's iterators", "lambda"],
)
def test_a_collated_batch_that_gives_other_parts_the_next_time_is_carried(
    loader: str, told: bool, trains_identically: Callable[[str, str | None], None]
) -> None:
    ending = "shown.append((y.sum(), model[0].bias.sum().item()))"
    before = f"shown = []\nloader = {loader}\n"
    define = COLLATED + LOADER_OF * ("loader_of" in loader)
    text = script(f"{STEP}\n{ending}", before=before, define=define, batches="for x, y in loader:")
    done = converted(text, runtime="bundled")
    assert methods(done.text)["on_train_batch_end"].startswith("x, y = batch\n") is told
    trains_identically(text, done.text)


def test_a_part_of_a_batch_that_an_outliving_function_reads_is_carried() -> None:
    step = f"{STEP}\nshown.append((x, model[0].bias))\nif len(shown) == 2:\n    tell = lambda: x.sum()"
    text = script(step, before="shown = []\n", after="print(tell())")
    assert "self.x, y = batch" in str(converted(text).text).replace("self.y", "y")


def test_a_batch_called_as_the_hooks_outputs_keeps_its_name_apart() -> None:
    step = f"{STEP.replace('x', 'X')}\nprint(outputs, model[0].bias)"
    text = script(step, before="X, y = data[:8]\n", epochs="if True:", batches="for outputs in range(9):")
    assert "def on_train_batch_end(self, outputs, batch, batch_idx):" in str(converted(text).text)


def test_a_name_that_the_module_has_already_is_not_hidden() -> None:
    text = script(f"{STEP}\nglobal_step += 1", before="global_step = 0\n", after="print(global_step)")
    assert "self.global_step = " not in "".join(methods(converted(text).text).values())


def test_a_global_that_a_kept_function_reads_stays_global() -> None:
    text = script(f"{STEP}\ncount += 1", before="count = 0\n\ndef report():\n    print(count)\n", end="report()")
    assert "global count" in methods(converted(text).text)["training_step"]


REBOUND = "def reset():\n    global model\n    model = nn.Linear(4, 2)\n"


def test_a_network_that_a_kept_function_replaces_stays_global() -> None:
    done = methods(converted(script(before=REBOUND, start="if epoch == 1:\n    reset()")).text)
    assert "criterion(model(x), y)" in done["training_step"].replace("self.criterion", "criterion")


def test_a_network_of_the_module_is_held_where_a_function_trains_it() -> None:
    loop = "def main():\n    for epoch in range(3):\n        for x, y in train_loader:\n" + indent(STEP, " " * 12)
    text = script("pass", epochs="if True:", batches="if True:", after=f"{loop}\n\nmain()")
    done = converted(text)
    assert "self.criterion(self.model(x), y)" in methods(done.text)["training_step"]
    assert "(criterion, model)\n" in (done.text or "")


CLASS = """
class Runner:
    def __init__(self, model, loader):
        self.model, self.loader = model, loader
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.stop = False

    def run(self, callbacks):
        for epoch in range(3):
            for x, y in self.loader:
                self.optimizer.zero_grad()
                loss = criterion(self.model(x), y)
                loss.backward()
                self.optimizer.step()
            for callback in callbacks:
                callback(self)
            if self.stop:
                break


def halt(runner):
    runner.stop = True


Runner(model, train_loader).run([halt])
"""


def test_a_field_that_others_assign_is_asked_of_its_object() -> None:
    end = methods(converted(script("pass", epochs="if True:", batches="if True:", after=CLASS)).text)[
        "on_train_epoch_end"
    ]
    assert "if self.owner.stop:" in end
    assert "self.trainer.should_stop = True" in end


def test_a_field_that_only_some_paths_set_is_asked_of_its_object() -> None:
    text = CLASS.replace(
        "self.stop = False", "self.stop = False\n        if model is None:\n            self.patience = 3"
    ).replace("if self.stop:", "if self.stop and self.patience:")
    done = methods(converted(script("pass", epochs="if True:", batches="if True:", after=text)).text)
    assert "self.owner.patience" in done["on_train_epoch_end"]
    assert "patience" not in done["__init__"]


#: What reading `self.optimizer` runs, and whether it is the same object each time.
COMPUTED = {
    "made anew at times": ("@property\n    def optimizer(self):\n        return self.remade()", False),
    "made when first read": (
        "@functools.cached_property\n    def optimizer(self):\n        return self.remade()",
        False,
    ),
    "a descriptor": ("optimizer = Remade()", False),
    "answered for": ("def __getattr__(self, name):\n        return self.remade()", False),
    "set by name": (
        "def take(self, name, value):\n        self.optimizer = None\n        setattr(self, name, value)",
        False,
    ),
    "a field under another name": ("@property\n    def optimizer(self):\n        return self._optimizer", True),
}


@pytest.mark.parametrize(("definition", "steady"), COMPUTED.values(), ids=COMPUTED)
def test_an_attribute_that_runs_code_is_asked_of_its_object(definition: str, steady: bool) -> None:
    remade = "    def remade(self):\n        return torch.optim.SGD(self.model.parameters(), lr=0.1)\n\n"
    text = (
        CLASS.replace("self.optimizer = ", "self._optimizer = ")
        .replace("    def run(", f"    {definition}\n\n{remade}    def run(")
        .replace(
            "class Runner",
            "class Remade:\n    def __get__(self, owner, kind):\n        return owner.remade()\n\nclass Runner",
        )
    )
    done = converted(script("pass", epochs="if True:", batches="if True:", after=text, before="import functools\n"))
    hooks = methods(done.text)
    assert ("self.owner.optimizer.step()" in "".join(hooks.values())) is not steady
    assert (hooks["configure_optimizers"] == "return None") is not steady


def test_an_optimizer_that_a_method_makes_anew_is_asked_of_its_object() -> None:
    reset = "def reset(self):\n        self.optimizer = torch.optim.Adam(self.model.parameters())\n        return 0\n\n    def run("
    text = CLASS.replace("def run(", reset).replace(
        "            if self.stop", "            print(self.reset() or 1)\n            if self.stop"
    )
    done = converted(script("pass", epochs="if True:", batches="if True:", after=text))
    assert done.reasons == ("the optimizer is made anew by a function that the loop calls",)
    assert "self.owner.optimizer.step()" in (done.text or "")


@pytest.mark.parametrize("change", ['globals()["optimizer"] = made', "globals().update(optimizer=made)"])
def test_an_optimizer_that_a_function_binds_by_its_text_is_made_anew(change: str) -> None:
    swap = f"def swap():\n    made = torch.optim.Adam(model.parameters())\n    {change}\n"
    done = converted(script(STEP, before=swap, end="swap()"))
    assert done.reasons == ("the optimizer is made anew by a function that the loop calls",)


def test_what_a_class_binds_is_no_name_of_the_script() -> None:
    held = "class Held:\n    device: object = torch.device('cpu')\n    model = nn.Linear(1, 1)\n\n"
    held += "def place(x):\n    return x.to(Held.device)\n\n"
    text = script("pass", epochs="if True:", batches="if True:", define=held, after=CLASS)
    assert 'accelerator="auto"' in (converted(text).text or "")


COUNTER = """
def main():
    step = 0

    def run_epoch():
        nonlocal step
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            step += 1

    for epoch in range(3):
        run_epoch()
        print(step)


main()
"""


def test_nonlocal_names_of_moved_code_become_attributes() -> None:
    done = converted(script("pass", epochs="if True:", batches="if True:", after=COUNTER))
    assert done.text is not None and "nonlocal" not in done.text
    assert "self.step += 1" in methods(done.text)["training_step"]


OUTER = """
for fold in range(2):
    for epoch in range(3):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
    print(fold)
"""


@pytest.mark.parametrize("inside", [False, True], ids=["built before the outer loop", "built in it"])
def test_an_optimizer_keeps_its_state_from_run_to_run(inside: bool) -> None:
    build = "optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)\n"
    outer = OUTER.replace("    for epoch", f"    {build}    for epoch") if inside else build + OUTER
    text = script("pass", epochs="if True:", batches="if True:", after=outer, setup=SETUP.replace(build, ""))
    made = methods(converted(text).text)["configure_optimizers"]
    assert ("SGD" in made) == inside


def test_an_optimizer_that_a_function_gives_back_is_handed_over() -> None:
    define = "def prepared(optimizer):\n    optimizer.param_groups[0]['lr0'] = 0.1\n    return optimizer\n\n"
    run = f"{SETUP}optimizer = prepared(optimizer)\nfor x, y in train_loader:\n{indent(STEP, '    ')}\n"
    text = PROLOGUE + define + f"def main():\n{indent(run, '    ')}\nmain()\n"
    assert methods(converted(text).text)["configure_optimizers"] == "return self.optimizer"


def test_a_function_beside_the_one_that_calls_it_reads_the_same_host() -> None:
    evaluate = "def evaluate(loader):\n    model.eval()\n    total = torch.zeros(1, device=place)\n"
    evaluate += "    with torch.no_grad():\n        for x, y in loader:\n            total += criterion(model(x), y)\n"
    evaluate += "    return total.item()\n"
    epoch = f"def run_epoch():\n    model.train()\n    for x, y in train_loader:\n{indent(STEP, ' ' * 8)}\n"
    epoch += "    value = evaluate(val_loader)\n    print(value)\n"
    run = f"{SETUP}place = torch.device('cpu')\n{evaluate}{epoch}for epoch in range(3):\n    run_epoch()\n"
    done = converted(PROLOGUE + f"def main():\n{indent(run, '    ')}\nmain()\n")
    assert "device=self.place" in methods(done.text)["on_validation_epoch_start"]


LEFT = """\
class Learn:
    def __call__(self, x, y, only=False):
        loss = criterion(model(x), y)
        if only:
            return loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

learn = Learn()

def mean(loader):
    return sum(learn(x, y, only=True).item() for x, y in loader)

def report():
    value = mean(val_loader)
    print(value)

def run_epoch():
    for n, (x, y) in enumerate(train_loader):
        learn(x, y)
        if n == 2:
            report()

"""


def test_a_function_that_stays_for_other_calls_keeps_what_it_calls() -> None:
    text = converted(PROLOGUE + SETUP + LEFT + "for epoch in range(3):\n    run_epoch()\n    report()\n").text or ""
    assert "def report():\n    value = mean(val_loader)\n" in text and "def mean(loader):" in text


TRAINER = """\
class Learner:
    def __init__(self, rate):
        self.net = nn.Linear(4, 2)
        self.rate = rate
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=rate)

    def learn(self, x, y):
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.net(x), y) * self.rate
        loss.backward()
        self.optimizer.step()
"""


@pytest.mark.parametrize("where", ["start", "end"])
def test_fields_of_an_object_made_anew_are_asked_of_the_one_that_is_on(where: str) -> None:
    before = "learner = Learner(0.1)\n"
    text = script("learner.learn(x, y)", define=TRAINER, before=before, **{where: "learner = Learner(0.2)"})
    done = converted(text)
    assert done.mode == "manual" and done.reasons == ("the optimizer is made anew in the loop",)
    step = methods(done.text)["training_step"]
    assert "self.learner.optimizer.step()" in step and "* self.learner.rate" in step


def test_lambdas_of_the_module_share_the_names_of_the_loop() -> None:
    rate = "torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1 / (1 + count))"
    batch = f"{STEP}\nscheduler.step()\ncount += 1"
    text = script(batch, before=f"count = 0\nscheduler = {rate}\n")
    parts = methods(converted(text).text)
    assert "count" not in parts["training_step"] and "global count" in parts["on_train_batch_end"]


def test_what_a_definition_of_the_host_reads_stays() -> None:
    loop = f"for x, y in train_loader:\n{indent(STEP, '    ')}"
    main = f"scale = 2\nclass Data:\n    def __len__(self):\n        return scale\nprint(len(Data()))\n{loop}"
    text = script(
        "pass", before=f"def main():\n{indent(main, '    ')}\n", epochs="if 0:", batches="if 0:", after="main()"
    )
    assert "scale = 2" in (converted(text).text or "")


_LOOP = f"for x, y in train_loader:\n{indent(STEP, '    ')}\n    scale = 2 * scale if False else scale"


def test_what_the_default_of_a_function_reads_stays() -> None:
    done = converted(
        script(before="scale = 2\n\ndef show(times=scale):\n    print(times)\n", end="show()"), style="idiomatic"
    )
    assert "scale = 2" in (done.text or "")


def test_a_function_in_the_loop_that_reads_what_it_binds_means_the_attribute() -> None:
    function = (
        "first = True\ndef once(loss):\n    nonlocal first\n    if first:\n        first = False\n    return loss"
    )
    batch = f"{function}\n{STEP.replace(FORWARD, 'loss = once(criterion(model(x), y))')}\nassert not first"
    main = f"for x, y in train_loader:\n{indent(batch, '    ')}"
    text = script(
        "pass", before=f"def main():\n{indent(main, '    ')}\n", epochs="if 0:", batches="if 0:", after="main()"
    )
    done = converted(text).text or ""
    assert "if self.first:\n                self.first = False" in done and "nonlocal" not in done


OWNER = """
class Solver:
    def __init__(self, model):
        self.model = model

    def train(self):
        for x, y in train_loader:
            loss = F.cross_entropy(self.model(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if self.stepping:
                self.rates.append(self.epoch)

    def fit(self):
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.stepping = True
        self.rates = []
        for epoch in range(3):
            self.epoch = epoch
            self.train()


Solver(nn.Linear(4, 2)).fit()
"""
CLOSURE = """
def main():
    model = nn.Linear(4, 2)
    optimizer = torch.optim.LBFGS(model.parameters())
    def closure():
        optimizer.zero_grad()
        loss = model(data.tensors[0]).square().mean()
        loss.backward()
        return loss
    for epoch in range(3):
        optimizer.step(closure)


main()
"""
TWICE = f"""
def update(loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def again(n):
    if n > len(data):
        return
    for _ in range(2):
        update(model(data.tensors[0][:n]).square().mean())


{SETUP}
for x, y in train_loader:
    update(criterion(model(x), y))
    again(5)
"""
STAYS = {
    "fields that the hooks ask their object for": (OWNER, ("self.stepping = True", "self.rates = []")),
    "an optimizer that a closure of the host reads": (CLOSURE, ("    optimizer = torch.optim.LBFGS",)),
    "a function that moved code still calls": (TWICE, ("def update(loss):", "\noptimizer = torch.optim.SGD")),
}


@pytest.mark.parametrize(("text", "kept"), STAYS.values(), ids=STAYS)
def test_what_moved_code_reads_of_the_host_stays(text: str, kept: tuple[str, ...]) -> None:
    done = converted(PROLOGUE + text)
    assert done.text is not None
    assert all(line in done.text for line in kept)


UNLESS = '"cpu" if str({}) == "cpu" else "auto"'
INDEX = "[{0}.index] if {0}.index else 1"
UNASKED = "[{0}.index] if torch.cuda.is_available() and {0}.index else 1"
OF_TEXT = f"(\n        {UNASKED.format('torch.device(device)')}\n    )".replace(" if ", "\n        if ").replace(
    " else ", "\n        else "
)
CARD = "torch.device('{}' if torch.cuda.is_available() else 'cpu')"
PLACES = {
    "a numbered card": (f"device = {CARD.format('cuda:1')}", "device.type", INDEX.format("device")),
    "the first card": (f"device = {CARD.format('cuda:0')}", "device.type", "1"),
    "by a text that is given": (
        "device = torch.device(which)",
        '"cpu" if device.type == "cpu" else "auto"',
        UNASKED.format("device"),
    ),
    "of the text that it was": ("device = 'cpu'\ndevice = torch.device(device)", UNLESS.format("device"), "1"),
    "of the number that it was": (
        "device = 'cuda:1'\ndevice = torch.device(device)",
        UNLESS.format("device"),
        OF_TEXT,
    ),
    "a text": ("device = f'cuda:{gpu}' if gpu >= 0 else 'cpu'", UNLESS.format("device"), OF_TEXT),
    "a text, where there is a card": (
        "device = f'cuda:{gpu}' if torch.cuda.is_available() else 'cpu'",
        UNLESS.format("device"),
        INDEX.format("torch.device(device)"),
    ),
    "a card by a number that is filled in": (
        f"device = {CARD.format('cuda:{}').replace(' if', '.format(gpu) if')}",
        "device.type",
        INDEX.format("device"),
    ),
    "a card, whatever its number": (
        "device = torch.device('cuda:%d' % gpu)",
        '"auto"',
        UNASKED.format("device"),
    ),
    "a card, whatever its number, by a text": ("device = f'cuda:{gpu}'", '"auto"', OF_TEXT),
    "a card that nobody asked for": (
        "device = torch.device('cuda' if gpu >= 0 else 'cpu')",
        '"cpu" if device.type == "cpu" else "auto"',
        "1",
    ),
    "the processor, always": ("device = torch.device('cpu')  # or cuda", '"cpu"', "1"),
    "a card, always": ("device = torch.device('cuda')", '"auto"', "1"),
    "a numbered card, always": ("device = 'cuda:1'", '"auto"', "[1] if torch.cuda.is_available() else 1"),
    "by the name of a text": (
        "NAME = 'cuda:1'\ndevice = torch.device(NAME)",
        '"auto"',
        "[1] if torch.cuda.is_available() else 1",
    ),
    "a device or a text": (
        "device = 'cpu'\nif gpu > 0:\n    device = torch.device('cuda')",
        UNLESS.format("device"),
        "1",
    ),
}


def test_a_device_made_of_the_parameter_of_its_name_may_be_any_card() -> None:
    body = script(setup=f"device = torch.device(device)\n{SETUP}model.to(device)\n").removeprefix(PROLOGUE)
    done = converted(f"{PROLOGUE}def main(device):\n{indent(body, '    ')}\n\nmain('cpu')\n")
    assert done.text is not None and f"devices={UNASKED.format('device')}," in done.text


@pytest.mark.parametrize(
    ("calls", "devices"),
    [("main(place)", "1"), ("main(place)\nmain('cuda:1')", INDEX.format("torch.device(device)"))],
)
def test_a_device_that_is_handed_to_the_run_is_what_the_caller_made(calls: str, devices: str) -> None:
    body = script(setup=f"{SETUP}model.to(device)\n").removeprefix(PROLOGUE)
    place = "place = 'cuda' if torch.cuda.is_available() else 'cpu'"
    done = converted(f"{PROLOGUE}def main(device):\n{indent(body, '    ')}\n\n{place}\n{calls}\n")
    assert done.text is not None and f"devices={devices}," in done.text


@pytest.mark.parametrize(("place", "accelerator", "devices"), PLACES.values(), ids=PLACES)
def test_the_device_that_the_script_names_is_the_trainers(place: str, accelerator: str, devices: str) -> None:
    done = converted(script(setup=f"gpu, which = -1, 'cpu'\n{place}\n{SETUP}model.to(device)\n"))
    assert done.text is not None
    assert f"accelerator={accelerator}," in done.text and f"devices={devices}," in done.text


@pytest.mark.parametrize(
    ("imported", "named"),
    [("from torch import nn", True), ("import torch as th", False), ("import torch", True)],
    ids=["not imported", "by another name", "imported"],
)
def test_a_file_that_only_moves_batches_asks_torch_for_their_device(imported: str, named: bool) -> None:
    moves = STEP.replace(FORWARD, f"x, y = x.to(self.device), y.to(self.device)\n{FORWARD}")
    define = "class Client:\n    def __init__(self, loader, device='cpu'):\n        self.loader, self.device = loader, device\n\n"
    update = f"    def update(self, model, optimizer, criterion):\n        for x, y in self.loader:\n{indent(moves, ' ' * 12)}\n"
    text = str(converted(f"{imported}\n\n{define}{update}").text)
    assert text.count("import torch\n") == named
    assert ("[torch.device(self.device).index]" in text and 'str(self.device) == "cpu"' in text) is named


def test_the_device_that_batches_are_moved_to_is_the_trainers() -> None:
    moves = STEP.replace(FORWARD, f"x, y = x.to(self.device), y.to(self.device)\n{FORWARD}").replace(
        "model", "self.model"
    )
    define = f"""class Learner:
    def __init__(self, args):
        self.device = self.choose(args)
        self.model = nn.Linear(4, 2).to(self.device)

    def choose(self, args):
        return torch.device(f"cuda:{{args.gpu}}") if args.use_gpu else torch.device("cpu")

    def learn(self):
        criterion = nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        for epoch in range(3):
            for x, y in train_loader:
{indent(moves, " " * 16)}


"""
    done = converted(PROLOGUE + define + "Learner(get_args()).learn()\n")
    assert done.text is not None and 'accelerator="cpu" if str(self.device) == "cpu" else "auto"' in done.text
    assert "[torch.device(self.device).index]" in done.text


CURRENT = "[torch.cuda.current_device()] if {} else 1"
CARDS = {
    "under a condition": ("if args.cuda:\n    model.cuda()", '"auto" if args.cuda else "cpu"', "1"),
    "unless a condition": (
        "if args.cpu:\n    pass\nelse:\n    model = model.cuda()",
        '"auto" if not args.cpu else "cpu"',
        "1",
    ),
    "by a number": (
        "if args.cuda and torch.cuda.is_available():\n    model.cuda(1)",
        '"auto" if args.cuda else "cpu"',
        "[1] if args.cuda and torch.cuda.is_available() else 1",
    ),
    "by a number that is given": (
        "if torch.cuda.is_available():\n    model.cuda(args.gpu)",
        '"auto"',
        "[args.gpu] if torch.cuda.is_available() and args.gpu else 1",
    ),
    "the current one": (
        "if args.cuda:\n    torch.cuda.set_device(args.gpu)\n    model.cuda()",
        '"auto" if args.cuda else "cpu"',
        CURRENT.format("args.cuda"),
    ),
    "the current one of a device": (
        f"if args.cuda:\n    torch.cuda.set_device(args.gpu)\ndevice = {CARD.format('cuda')}\nmodel.to(device)",
        "device.type",
        CURRENT.format('device.type == "cuda"'),
    ),
    "beside a choice of something else": (
        "amp = args.cpu and torch.cuda.is_available()\nif args.cuda:\n    model.cuda()",
        '"auto" if args.cuda else "cpu"',
        "1",
    ),
    "by an expression that is gone": ("if args.cuda:\n    model.cuda()\nargs.cuda = None", '"auto"', "1"),
    "in several ways": (
        "if args.cuda:\n    model.cuda()\nelif args.cpu:\n    model.cuda(args.gpu)",
        '"auto"',
        "1",
    ),
}


@pytest.mark.parametrize(("moves", "accelerator", "devices"), CARDS.values(), ids=CARDS)
def test_the_card_that_the_script_takes_is_the_trainers(moves: str, accelerator: str, devices: str) -> None:
    given = "import types\nargs = types.SimpleNamespace(cuda=False, cpu=True, gpu=None)\n"
    done = converted(script(setup=f"{given}{SETUP}{moves}\n"))
    assert done.text is not None
    assert f"accelerator={accelerator}," in done.text and f"devices={devices}," in done.text


HANDED = """\
def train(model, loader, device):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in loader:
        x, y = x.to(device), y.to(device)
        loss = criterion(model(x + torch.randn(4, device=device)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

def main():
    device = {device}
    model = nn.Linear(4, 2).to(device)
    train(model, train_loader, device=device)

main()
"""


@pytest.mark.parametrize(
    ("device", "more", "found"),
    [
        (CARD.format("cuda"), "", True),
        ("torch.device('cpu')", "", False),
        ("'cuda' if torch.cuda.is_available() else 'cpu'", "", False),
        (CARD.format("cuda"), "train(nn.Linear(4, 2), train_loader, torch.device('cpu'))", False),
    ],
    ids=["chosen", "fixed", "a text", "two calls"],
)
def test_a_device_that_the_one_call_hands_on_is_the_modules(device: str, more: str, found: bool) -> None:
    text = f"{PROLOGUE}criterion = nn.CrossEntropyLoss()\n{HANDED.format(device=device)}\n{more}\n"
    done = converted(text)
    assert ("device=self.device)" in methods(done.text)["training_step"]) is found
    assert ("accelerator=device.type" in str(done.text)) is found


@pytest.mark.parametrize("move", ["model.cuda()", "device = 'cuda'\nmodel.to(device)", "model = model.cuda()"])
def test_the_trainer_moves_what_is_always_on_a_card(move: str) -> None:
    text = converted(script(setup=f"{SETUP}{move}\n")).text
    assert text is not None and ".cuda()" not in text and ".to(" not in text


def test_a_device_that_an_option_names_is_the_trainers() -> None:
    given = "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--device', default='cpu')\n"
    done = converted(script(setup=f"{given}args = parser.parse_args()\n{SETUP}model.to(args.device)\n"))
    assert done.text is not None
    assert f"accelerator={UNLESS.format('args.device')}," in done.text


RATES = """\
class Solver:
    def __init__(self, loader):
        self.loader, self.rate, self.decay, self.weight = loader, 0.1, 0.5, 1.0
        self.model = nn.Linear(4, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=self.rate)
    def train(self):
        rate, decay, weight = self.rate, self.decay, self.weight
        for epoch in range(3):
            for x, y in self.loader:
                loss = weight * self.weight * self.model(x).pow(2).mean()
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
            rate -= self.rate / 10
            decay *= self.decay
            weight = weight + self.weight
            self.optimizer.param_groups[0]["lr"] = rate * decay
        return rate
print(Solver(train_loader).train())
"""


def test_which_of_two_names_changes_is_no_chance() -> None:
    """A field and a local of one name: who comes first must not depend on where Python puts them in memory."""
    held = [[object() for _ in range(number * 7919 % 1000)] for number in range(12)]
    texts = {converted(f"{PROLOGUE}{RATES}").text for _ in held}
    assert len(texts) == 1


def test_what_a_function_gives_back_as_it_got_it_is_not_set_anew() -> None:
    train = (
        f"for x, y in train_loader:\n{indent(STEP, '    ')}\n    seen.append(len(x))\nreturn len(train_loader), seen"
    )
    run = "batches, seen = train(seen)\nprint(batches)"
    text = f"{PROLOGUE}{SETUP}def train(seen):\n{indent(train, '    ')}\n\nseen = []\nfor epoch in range(3):\n{indent(run, '    ')}\nprint(seen)\n"
    body = methods(converted(text).text)["on_train_epoch_end"]
    assert "batches = len(train_loader)" in body and "seen" not in body


PERHAPS = """
class Runner:
    {bound}
    def __init__(self, amp):
        self.model, self.amp = nn.Linear(4, 2), amp
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        if amp:
            self.scaler = torch.amp.GradScaler("cpu")

    def run(self):
        for x, y in train_loader:
            loss = nn.functional.cross_entropy(self.model(x), y)
            self.optimizer.zero_grad()
            if self.amp:
                self.scaler.scale(loss).backward()
                self.scaler.step(self.optimizer)
                self.scaler.update()
            else:
                loss.backward()
                self.optimizer.step()

Runner({amp}).run()
"""


@pytest.mark.parametrize(
    ("bound", "given"),
    [("", 'getattr(self, "scaler", None)'), ("scaler = None", "self.scaler")],
    ids=["some objects have it", "the class has it"],
)
@pytest.mark.parametrize("amp", [True, False])
def test_a_field_that_only_some_objects_have_is_handed_over_where_it_is_there(
    bound: str, given: str, amp: bool, trains_identically: Callable[[str, str | None], None]
) -> None:
    text = PROLOGUE + PERHAPS.format(bound=bound, amp=amp)
    done = converted(text, runtime="bundled")
    assert f", {given})" in str(done.text)
    trains_identically(text, done.text)


@pytest.mark.parametrize("returned", ["", " scaler", " self.scaler"])
def test_a_field_that_a_method_sets_before_it_returns_is_there(returned: str) -> None:
    made = f"        self.make()\n\n    def make(self):\n        self.scaler = scaler = torch.amp.GradScaler()\n        return{returned}"
    text = PERHAPS.format(bound="", amp=True)
    start = text.index("        if amp:\n")
    end = text.index("    def run(")
    done = converted(f"{PROLOGUE}{text[:start]}{made}\n\n{text[end:]}")
    assert "self.scaler" in str(done.text) and "getattr(" not in str(done.text)


STARTS = {
    "one by one": ("best = 0.0\nstep = -1\n", "", {"self.best = 0.0", "self.step = -1"}, False),
    "together": ("best, step = 0.0, -1\n", "", {"self.best = 0.0", "self.step = -1"}, False),
    "one of them is computed": ("best, step = 0.0, len(train_loader)\n", "", set(), True),
    "one of them is read by the host": ("best, step = 0.0, -1\n", "print(step)\n", set(), True),
    "one of them is not the loop's": ("best, step, name = 0.0, -1, 'run'\n", "", set(), True),
}


@pytest.mark.parametrize(("before", "read", "lines", "stays"), STARTS.values(), ids=STARTS)
def test_what_starts_with_a_constant_starts_in_the_module(before: str, read: str, lines: set[str], stays: bool) -> None:
    batch = f"{STEP}\nstep += 1\nbest = max(best, step * loss.item())"
    loops = (
        f"for epoch in range(3):\n    for x, y in train_loader:\n{indent(batch, '        ')}\n    print(best, step)\n"
    )
    done = converted(f"{PROLOGUE}def main():\n{indent(SETUP + before + read + loops, '    ')}\nmain()\n")
    assert done.text is not None
    assert lines <= set(methods(done.text)["__init__"].splitlines())
    assert (before.partition("\n")[0] in done.text.partition("def main")[2]) is stays


STEPS = "for x, y in train_loader:\n    seen += 1\n    loss = criterion(model(x), y) * seen\n{}"
REPEATED = {
    "counted over all runs": ("seen = 0\n", "for run in range(2):", "", "seen = module.seen"),
    "asked for by the outer loop": ("seen = 0\n", "while seen < 12:", "", "seen = module.seen"),
    "begun anew in each": ("", "for run in range(2):", "seen = 0\n", None),
}


@pytest.mark.parametrize(("before", "outer", "start", "line"), REPEATED.values(), ids=REPEATED)
def test_what_the_next_run_reads_of_this_one_is_there(
    before: str, outer: str, start: str, line: str | None, trains_identically: Callable[[str, str | None], None]
) -> None:
    step = STEPS.format(indent(STEP.replace(FORWARD, ""), "    "))
    inner = f"{start}for epoch in range(2):\n{indent(step, '    ')}"
    text = f"{PROLOGUE}{SETUP}{before}{outer}\n{indent(inner, '    ')}\n"
    done = converted(text)
    assert (line in str(done.text)) if line is not None else ("= module.seen" not in str(done.text))
    trains_identically(text, done.text)


def test_a_name_that_functions_share_may_count_two_runs() -> None:
    loop = f"for i in range(3):\n{indent('x, y = data[i * 8 : i * 8 + 8]' + chr(10) + STEP + chr(10) + 'show()', '    ')}\n"
    text = f"{PROLOGUE}{SETUP}def show():\n    print(i)\n\n{loop}{SETUP}{loop}"
    assert str(converted(text).text).count("global i") == 2


@pytest.mark.parametrize(
    ("held", "home"),
    [
        ("model[0].weight", "self.borrowed.w"),
        ("model[2]", "self.borrowed.w"),
        ("next(model.parameters())", "self.borrowed.w"),
        ("model[0].in_features", "self.w"),
        ("model[0].weight.clone()", "self.w"),
        ("[model[0].weight]", "self.w"),
    ],
)
def test_a_part_of_the_network_does_not_become_the_modules_own(held: str, home: str) -> None:
    done = methods(converted(script(f"w = {held}\n{STEP}\nprint(w)", before="w = 0.5\n", end="print(w)\nw = 1")).text)
    assert f"{home} = {held.replace('model', 'self.model')}" in done["training_step"] + done.get(
        "on_train_batch_end", ""
    )
    assert ("self.borrowed = SimpleNamespace()" in done["__init__"]) == ("borrowed" in home)
    assert f"{home} = 1" in done["on_train_epoch_end"]
    assert f"{home} = 0.5" in done["__init__"]


def test_a_name_that_goes_over_the_parts_of_a_network_registers_none() -> None:
    """As `self.a` the first would be the module's, and the batch that it holds later an error."""
    average = (
        "with torch.no_grad():\n    for a, b in zip(kept.parameters(), model.parameters()):\n        a.lerp_(b, 0.1)"
    )
    text = script(
        f"{STEP}\n{average}",
        before="kept = copy.deepcopy(model)\n",
        end="for a, b in val_loader:\n    print(len(a))",
        after="print(a.shape)",
    )
    done = methods(converted(text).text)
    assert "for self.borrowed.a, b in zip(" in done["on_train_batch_end"]
    assert "self.borrowed.a, b = batch" in done["validation_step"]


def test_a_loss_that_was_a_criterion_before_is_not_registered() -> None:
    """torch takes no number for what it has registered as a module."""
    text = script(before="loss = nn.NLLLoss()\n", end="print(float(loss))")
    done = methods(converted(text).text)
    assert "self.borrowed.loss = loss" in done["__init__"]
    assert "self.borrowed.loss = self.criterion(" in done["training_step"]


def test_a_part_of_the_network_that_is_handed_over_is_not_registered_twice() -> None:
    text = script(f"{STEP}\nprint(head.weight.norm())", before="head = model[2]\n")
    lines = text.split("model = ")
    main = f"{lines[0]}def main():\n{indent('model = ' + lines[1], '    ')}\nmain()\n"
    assert "self.borrowed.head = head" in methods(converted(main).text)["__init__"]


def test_of_calls_that_are_opened_in_one_hook_the_first_keeps_the_names() -> None:
    names = [f"n{number}" for number in range(9)]
    body = "\n".join([STEP, *(f"{name} = x.sum()\nprint({name})" for name in names)])
    done = converted(script("train(x, y)\ntrain(x * 2, y)", define=f"def train(x, y):\n{indent(body, '    ')}\n\n"))
    lines = methods(done.text)["training_step"].splitlines()
    written = [name for line in lines if (name := line.partition(" = ")[0]).startswith(("n", "train_n"))]
    assert written == [*names, *(f"train_{name}" for name in names)]


def test_what_a_function_reads_at_any_time_is_told_when_it_changes() -> None:
    watch = "done = False\nThread(target=print, args=(lambda: done,)).start()"
    text = script(start=f"model.train()\n{watch}", end="done = True", define="from threading import Thread\n")
    lines = text.split("model = ")
    main = f"{lines[0]}def main():\n{indent('model = ' + lines[1], '    ')}\nmain()\n"
    hooks = methods(converted(main).text)
    assert "lambda: self.done" in hooks["on_train_epoch_start"]
    assert "self.done = True" in hooks["on_train_epoch_end"]
