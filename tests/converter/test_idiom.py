"""What the Trainer does instead of the script: moves, progress prints; and imports that nothing needs."""

from __future__ import annotations

import re
from textwrap import indent

import pytest

from tests.converter.scripts import PROLOGUE, SETUP, STEP, converted, methods, script

DEVICE = "device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')\nmodel.to(device)\n"

GONE = {
    "a pair": "x, y = x.to(device), y.to(device)",
    "a pair over several lines": "x, y = (\n    x.to(device),\n    y.to(device),\n)",
    "one by one": "x = x.to(device)\ny = y.to(device, non_blocking=True)",
    "cuda": "x, y = x.cuda(), y.cuda()",
    "guarded": "if torch.cuda.is_available():\n    x, y = x.cuda(), y.cuda()",
    "as the network": "if next(model.parameters()).is_cuda:\n    x, y = x.cuda(), y.cuda()",
    "once their shape was asked": "shape = x.size(0), len(y)\nx, y = x.to(device), y.to(device)",
}
STAYS = {
    "a part is handed to numpy before it moves": "print(y.numpy())\nx, y = x.to(device), y.to(device)",
    "noise of the CPU before it moves": "x = x + torch.randn(4)\nx, y = x.to(device), y.to(device)",
    "only part of the batch moves": "x = x.to(device)",
    "a change of type": "x, y = x.to(torch.float64).float(), y",
}


@pytest.mark.parametrize("move", GONE.values(), ids=GONE)
def test_moves_of_the_whole_batch_go(move: str) -> None:
    done = converted(script(f"{move}\n{STEP}", before=DEVICE))
    step = methods(done.text)["training_step"]
    assert ".to(" not in step and "cuda" not in step and re.search(r"x, y = \(?x", step) is None
    assert "transfer_batch_to_device" not in methods(done.text)


@pytest.mark.parametrize("move", [move for name, move in STAYS.items() if "before" in name])
def test_no_style_moves_a_batch_before_what_the_script_does_on_the_cpu(move: str) -> None:
    text = script(f"{move}\n{STEP}", before=DEVICE)
    assert "return batch" in methods(converted(text, style="idiomatic").text)["transfer_batch_to_device"]


@pytest.mark.parametrize("move", STAYS.values(), ids=STAYS)
def test_other_moves_stay_and_the_trainer_moves_nothing(move: str) -> None:
    hooks = methods(converted(script(f"{move}\n{STEP}", before=DEVICE)).text)
    assert ".to(" in hooks["training_step"]
    assert hooks["transfer_batch_to_device"] == "return batch"


TAKEN_APART = {
    "a pair": "x, y = batch\nx = x.to(device)\ny = y.to(device)",
    "by number": "x = batch[0]\ny = batch[1]\nx, y = x.to(device), y.to(device)",
    "both at once": "x, y = batch[0], batch[1]\nx, y = x.to(device), y.to(device)",
    "moved where they are used": "a, b = batch\nx = a.to(device).data\ny = b.to(device)",
}
TAKEN_IN_PART = {
    "a part stays": "x, y = batch\nx = x.to(device)",
    "the whole is used, too": "x, y = batch\nx, y = x.to(device), y.to(device)\nkept.append(batch)",
    "a part is taken from it where it is used": "x = batch[0]\nx = x.to(device)\ny = batch[1].float().long()",
}
WHOLE = "for batch in train_loader:"


@pytest.mark.parametrize("move", TAKEN_APART.values(), ids=TAKEN_APART)
def test_moves_of_what_the_batch_is_taken_apart_into_go(move: str) -> None:
    hooks = methods(converted(script(f"{move}\n{STEP}", before=DEVICE, batches=WHOLE)).text)
    assert ".to(" not in hooks["training_step"] and "transfer_batch_to_device" not in hooks


@pytest.mark.parametrize("move", TAKEN_IN_PART.values(), ids=TAKEN_IN_PART)
def test_a_batch_of_which_a_part_stays_is_moved_by_the_step(move: str) -> None:
    hooks = methods(converted(script(f"{move}\n{STEP}", before=f"{DEVICE}kept = []\n", batches=WHOLE)).text)
    assert ".to(" in hooks["training_step"] and hooks["transfer_batch_to_device"] == "return batch"


TYPED = {"by name": "dtype=torch.float32", "by place": "torch.float32"}


@pytest.mark.parametrize("kind", TYPED.values(), ids=TYPED)
def test_a_type_outlives_the_move_that_it_stands_in(kind: str) -> None:
    done = converted(script(f"x = x.to(device, {kind}, non_blocking=True)\ny = y.to(device)\n{STEP}", before=DEVICE))
    assert f"x = x.to({kind})" in methods(done.text)["training_step"]
    assert "transfer_batch_to_device" not in methods(done.text)


CPU_TYPES = {
    "a type of the CPU": "x, y = x.type(torch.FloatTensor).to(device), y.to(device)",
    "by its name": "x, y = x.type('torch.FloatTensor').cuda(), y.cuda()",
    "with more behind it": "x, y = x.type(torch.FloatTensor).detach().to(device), y.to(device)",
}


@pytest.mark.parametrize("move", CPU_TYPES.values(), ids=CPU_TYPES)
@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
def test_a_batch_that_has_moved_does_not_go_back_to_the_cpu_for_its_type(move: str, style: str) -> None:
    hooks = methods(converted(script(f"{move}\n{STEP}", before=DEVICE), style=style).text)
    assert "x.float()" in hooks["training_step"] and ".type(" not in hooks["training_step"]


LEFT_TO_THE_TRAINER = {
    "by its type": "x = x.type(Tensor)",
    "numpy knows its shape alone": "x = x.type(Tensor)\nnoise = numpy.ones(len(x))\nmore = numpy.ones(y.shape)",
    "numpy gets a copy on the CPU": "x = x.type(Tensor)\nlabels = y.cpu().numpy()",
}
ON_THE_CPU = {
    "only part of the batch moves": "x = x.to(device)",
    "a part chooses from a table of the CPU": "x = x.to(device)\nseen = torch.eye(2)[y]",
    "numpy takes some of it": "x = x.to(device)\nlabels = y.numpy()",
    "numpy takes it as an argument": "x = x.to(device)\nlabels = numpy.asarray(y)",
}


@pytest.mark.parametrize("move", LEFT_TO_THE_TRAINER.values(), ids=LEFT_TO_THE_TRAINER)
def test_idiomatic_style_leaves_whole_batches_to_the_trainer(move: str) -> None:
    before = f"import numpy\n{DEVICE}Tensor = torch.FloatTensor\n"
    done = converted(script(f"{move}\n{STEP}", before=before), style="idiomatic")
    assert (
        "transfer_batch_to_device" not in methods(done.text)
        and ".to(device)" not in methods(done.text)["training_step"]
    )
    assert "the Trainer moves whole batches to its device" in done.departures


@pytest.mark.parametrize("move", ON_THE_CPU.values(), ids=ON_THE_CPU)
def test_batches_that_are_needed_on_the_cpu_stay(move: str) -> None:
    hooks = methods(converted(script(f"{move}\n{STEP}", before=f"import numpy\n{DEVICE}"), style="idiomatic").text)
    assert hooks["transfer_batch_to_device"] == "return batch"


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
def test_numbers_need_no_moves(style: str) -> None:
    batch = f"x, y = data[i : i + 8]\nx, y = x.to(device), y.to(device)\n{STEP}"
    done = converted(script(batch, before=DEVICE, batches="for i in range(0, 24, 8):"), style=style)
    assert "transfer_batch_to_device" not in methods(done.text)


def test_batches_that_stay_on_the_cpu_are_no_departure() -> None:
    assert not any("whole batches" in one for one in converted(script(), style="idiomatic").departures)


def test_moves_of_arguments_go() -> None:
    define = "def step(inputs, labels):\n    loss = criterion(model(inputs), labels)\n    optimizer.zero_grad()\n"
    define += "    loss.backward()\n    optimizer.step()\n"
    done = converted(script("step(x.to(device), y.to(device))", define=define, before=DEVICE))
    assert "self.criterion(self.model(x), y)" in methods(done.text)["training_step"]
    changed = define.replace("    loss =", "    inputs = inputs * 2\n    loss =")
    step = methods(converted(script("step(x.to(device), y.to(device))", define=changed, before=DEVICE)).text)
    assert "x = x * 2\n" in step["training_step"]


NUMBERED = "for i, (x, y) in enumerate(train_loader):"
LOGGED = {
    "an f-string": "print(f'loss {loss.item():.4f}')",
    "format": "print('loss {:.4f}'.format(loss.item()))",
    "percent": "print('loss %f' % loss.item())",
    "every k batches": "if i % 2 == 0:\n    print(i, loss.item())",
}
PRINTED = {
    "a shape": "print(x.shape)",
    "something made in the body": "best = loss.argmax()\nprint(best, loss.item())",
    "a text": "print('next')",
    "a random draw": "print(loss.item(), torch.rand(1).item())",
    "a pass of the network": "print(loss.item(), model(x).sum().item())",
    "what it takes away": "print(loss.item(), names.pop())",
    "a name that it binds": "print(f'{(shown := loss.item()):.3f}')",
    "a name inside of it": "print(' '.join('{:.3f}'.format(one) for one in names))",
    "into a file": "print(loss.item(), file=log)",
}


@pytest.mark.parametrize("line", LOGGED.values(), ids=LOGGED)
def test_prints_of_numbers_are_logged(line: str) -> None:
    step = methods(converted(script(f"{STEP}\n{line}", batches=NUMBERED)).text)["training_step"]
    assert "self.log('loss', loss, prog_bar=True)" in step and "print" not in step


@pytest.mark.parametrize("line", PRINTED.values(), ids=PRINTED)
def test_other_prints_stay(line: str) -> None:
    body = "".join(methods(converted(script(f"{STEP}\n{line}", batches=NUMBERED)).text).values())
    assert "print(" in body


@pytest.mark.parametrize("line", PRINTED.values(), ids=PRINTED)
def test_an_idiomatic_print_stays_too_for_what_it_does(line: str) -> None:
    done = converted(script(f"{STEP}\n{line}", batches=NUMBERED), style="idiomatic")
    logged = "self.log(" in "".join(methods(done.text).values())
    assert logged is ("progress within an epoch is logged, not printed" in done.departures) is (".argmax()" in line)


def test_what_prints_showed_beside_the_logs_is_a_departure() -> None:
    shown = "print(f'{epoch} {total:.3f} {100 * share:.1f} {optimizer.param_groups[0][\"lr\"]} {len(data)} {count}')"
    end = f"total, share, count = loss.item(), 0.5, len(x)\n{shown}"
    done = converted(script(end=end.replace('\\"', '"')), style="idiomatic")
    assert done.departures[-1] == 'no longer printed: optimizer.param_groups[0]["lr"], count'
    assert "self.log('share', share, prog_bar=True)" in methods(done.text)["on_train_epoch_end"]


def test_an_interval_that_may_be_no_whole_number_is_no_option() -> None:
    batch = f"{STEP}\nif i % every == 0:\n    print(loss.item())"
    for every, option in (("len(train_loader) / 2", False), ("len(train_loader) // 2", True), ("2", True)):
        text = script(batch, batches=NUMBERED, before=f"every = {every}\n")
        assert ("log_every_n_steps" in (converted(text, style="idiomatic").text or "")) is option


def test_summaries_of_an_epoch_are_printed_once() -> None:
    hooks = methods(converted(script(f"{STEP}\ntotal = loss.item()", end="print(epoch, total)")).text)
    assert "self.print(" in hooks["on_train_epoch_end"]


def test_imports_that_only_the_loop_used_go() -> None:
    text = script(before="from tqdm import tqdm\n", batches="for x, y in tqdm(train_loader):")
    done = converted(text)
    assert done.text is not None and "tqdm" not in done.text
    assert [e.reason for e in done.ledger.entries if "tqdm import" in e.text] == ["nothing uses it any more"]


def test_imports_that_were_unused_before_stay() -> None:
    done = converted("import os\n" + script())
    assert done.text is not None and "import os\n" in done.text


MODE = (
    "model.eval()\nwith torch.no_grad():\n    for a, b in val_loader:\n        print(criterion(model(a), b).item())\n"
)


def handed(calls: str, build: str = "") -> str:
    """A run in a function that is handed the network."""
    body = script(setup="", start="net.train()", end=MODE).removeprefix(PROLOGUE).replace("model", "net")
    run = indent(body, "    ").replace("criterion", "measure")
    return f"{PROLOGUE}{SETUP}{build}\ndef fit(net, measure):\n{run}\n{calls}\n"


CHECK = f"def check():\n{indent(MODE, '    ')}\n"

ALWAYS_TRAINING = {
    "a function evaluates in the run and after it": script(
        start="model.train()", define=CHECK, end="check()", after="check()"
    ),
    "a function that evaluates after the run calls another": script(
        start="model.train()", define=f"{CHECK}def last():\n    check()\n\n", end="check()", after="last()"
    ),
    "loaded after the run": script(
        start="model.train()", after="with open('net.pt', 'rb') as file:\n    model = torch.load(file)"
    ),
    "handed to the run's function": handed("fit(model, criterion)"),
    "handed by a function that is handed it": handed(
        "def main(net):\n    fit(measure=criterion, net=net)\n    net.eval()\n\nmain(model)"
    ),
    "no evaluation": script(start="model.train()"),
    "the Trainer evaluates": script(start="model.train()", end=MODE),
    "evaluated once, after the run": script(start="model.train()", after=MODE),
    "in the batch loop": script(f"model.train()\n{STEP}", end=MODE),
    "moved": script(start="model.train()", end=MODE, before="model = model.to('cpu')\n"),
}
MODE_MAY_DIFFER = {
    "a function that evaluates after the run is handed on, too": script(
        start="model.train()", define=CHECK, before="checks = [check]\n", end="check()", after="check()"
    ),
    "a function that evaluates after the run is called by one that may run before": script(
        start="model.train()", define=f"{CHECK}def first():\n    check()\n\n", before="first()\n", after="check()"
    ),
    "handed to the run's function twice": handed("fit(model, criterion)\nfit(model, criterion)"),
    "handed to it again and again": handed("for _ in range(2):\n    fit(model, criterion)"),
    "handed on by a function that runs twice": handed(
        "def main(net):\n    fit(net, criterion)\n\nmain(model)\nmain(model)"
    ),
    "handed to the run's function by somebody else, too": handed("fit(model, criterion)\nprint(fit)"),
    "handed on built to evaluate": handed("fit(model, criterion)", "model = nn.Linear(4, 2).eval()\n"),
    "handed on after an evaluation": handed("model.eval()\nfit(model, criterion)"),
    "evaluated before the run": script(start="model.train()", before=MODE),
    "an evaluation that stays in a hook": script(
        start="model.train()", end=MODE + "if model(data[:2][0]).sum() > 9:\n    break"
    ),
    "a function that evaluates runs before, too": script(
        start="model.train()",
        end="check()",
        before="def check():\n    model.eval()\n    for a, b in val_loader:\n        print(model(a).sum())\n\ncheck()\n",
    ),
    "built to evaluate": script(start="model.train()", before="model = nn.Linear(4, 2).eval()\n"),
    "a part of it is frozen": script(start="model.train()", before="model[1].eval()\n"),
    "a mode set by hand": script(start="model.train()", before="model.training = False\n"),
    "handed to unknown code": script(start="model.train()", before="from there import prepare\nprepare(model)\n"),
    "loaded": script(start="model.train()", before="model = torch.load('net.pt', weights_only=False)\n"),
    "an outer loop keeps it": script(start="model.train()", end=MODE, epochs="for epoch in range(3):").replace(
        "\nfor epoch in range(3):", "\nfor fold in range(2):\n  for epoch in range(3):"
    ),
}


@pytest.mark.parametrize("text", ALWAYS_TRAINING.values(), ids=ALWAYS_TRAINING)
def test_train_goes_where_the_network_is_in_training_mode_already(text: str) -> None:
    done = converted(text)
    assert done.text is not None and ".train()" not in "".join(methods(done.text).values())
    assert "the network is in training mode here already" in [e.reason for e in done.ledger.entries]


@pytest.mark.parametrize("text", MODE_MAY_DIFFER.values(), ids=MODE_MAY_DIFFER)
def test_train_stays_where_the_mode_may_differ(text: str) -> None:
    assert re.search(r"self\.(model|net)\.train\(\)", "".join(methods(converted(text).text).values()))


def test_values_that_only_the_loop_read_go() -> None:
    text = script(
        f"{STEP}\nif i % 2 == 0:\n    print(f'{{i}}/{{steps}} {{loss.item():.3f}}')",
        batches=NUMBERED,
        before="steps = len(train_loader)\n",
    )
    done = converted(text)
    assert done.text is not None and "steps" not in done.text
    assert "only the loop's own code read it" in [e.reason for e in done.ledger.entries]


READ_STILL = {
    "after the run": {"after": "print(steps)"},
    "in a hook": {"end": "print(epoch, steps)"},
    "by a function that stays": {"define": "def show():\n    print(steps)\n", "after": "show()"},
    "by the head of a loop": {"before": "steps = len(train_loader)\nfor fold in range(steps):\n    pass\n"},
    "by nobody, as before": {"before": "steps = len(train_loader)\n", "batch": STEP},
}


@pytest.mark.parametrize("parts", READ_STILL.values(), ids=READ_STILL)
def test_values_that_are_read_stay(parts: dict[str, str]) -> None:
    batch = f"{STEP}\nif i % 2 == 0:\n    print(f'{{i}}/{{steps}} {{loss.item():.3f}}')"
    given = {"batch": batch, "batches": NUMBERED, "before": "steps = len(train_loader)\n", **parts}
    assert "steps = len(train_loader)" in (converted(script(**given)).text or "")


#: What is put on no device at all trains on the CPU, whatever the script says of devices.
UNMOVED = {
    "device = torch.device('cpu')": "pass",
    "device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')\nprint(device)": "pass",
    "use_cuda = torch.cuda.is_available()\ntorch.cuda.manual_seed(0)": "pass",
}
MOVED = {
    "device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')": "x, y = x.to(device), y.to(device)",
    "use = torch.cuda.is_available()\nTensor = torch.cuda.FloatTensor if use else torch.FloatTensor": "x = x.type(Tensor)",
    "torch.set_default_device('cuda' if torch.cuda.is_available() else 'cpu')": "pass",
}


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
@pytest.mark.parametrize(("before", "moves"), [*UNMOVED.items(), *MOVED.items()])
def test_a_device_that_nothing_is_put_on_is_not_trained_on(before: str, moves: str, style: str) -> None:
    done = converted(script(f"{moves}\n{STEP}", before=f"{before}\n"), style=style)
    assert done.text is not None
    assert ('accelerator="cpu"' in done.text) is (before in UNMOVED)
    if before in UNMOVED:
        assert "transfer_batch_to_device" not in done.text


ACCELERATORS = {
    "torch.device('cuda' if torch.cuda.is_available() else 'cpu')": "",
    "torch.device('cuda' if torch.cuda.is_available() and not slow else 'cpu')": 'accelerator="cpu" if slow else "auto"',
    "torch.device('cuda' if slow and torch.cuda.is_available() else 'cpu')": 'accelerator="auto" if slow else "cpu"',
    "torch.device('cuda' if slow or torch.cuda.is_available() else 'cpu')": "accelerator=device.type",
    "torch.device('cuda:1' if torch.cuda.is_available() else 'cpu')": "accelerator=device.type",
}


@pytest.mark.parametrize(("device", "option"), ACCELERATORS.items())
def test_the_idiomatic_style_lets_the_trainer_choose_the_device(device: str, option: str) -> None:
    text = script(
        f"x, y = x.to(device), y.to(device)\n{STEP}", before=f"slow = False\ndevice = {device}\nmodel.to(device)\n"
    )
    assert "accelerator=device.type" in (converted(text).text or "")
    done = converted(text, style="idiomatic")
    assert done.text is not None
    assert option in done.text if option else "accelerator" not in done.text
    assert ("device =" in done.text) is (option == "accelerator=device.type")
    assert ("the Trainer chooses the accelerator" in done.departures) is (option != "accelerator=device.type")


OPTIONS = "more = {'batch_size': 8}\nless = {'batch_size': 4, 'shuffle': True}\n"
LOADERS = "train_loader = DataLoader(data, **more)\nval_loader = DataLoader(data, **less)\n"
FAST = "if torch.cuda.is_available():\n    fast = {'num_workers': 1}\n    more.update(fast)\n    less.update(fast)\n"

INLINE = {
    "plain": (OPTIONS + LOADERS, ["DataLoader(data, batch_size=8)", "DataLoader(data, batch_size=4, shuffle=True)"]),
    "under a condition": (
        OPTIONS + FAST + LOADERS,
        ['fast = {"num_workers": 1} if torch.cuda.is_available() else {}', "batch_size=4, shuffle=True, **fast)"],
    ),
    "beside other arguments": (
        OPTIONS + LOADERS.replace("**more", "drop_last=True, **more"),
        ["DataLoader(data, drop_last=True, batch_size=8)"],
    ),
}
IN_DICTIONARIES = {
    "one says it again": OPTIONS + FAST.replace("num_workers", "batch_size") + LOADERS,
    "used otherwise": OPTIONS + "print(more)\nprint(less)\n" + LOADERS,
    "changed meanwhile": "n = 8\n" + OPTIONS.replace("8", "n").replace("4", "n") + "n = 2\n" + LOADERS,
    "changed otherwise": OPTIONS + FAST + "more['drop_last'] = less['drop_last'] = True\n" + LOADERS,
    "another branch": OPTIONS + FAST + "else:\n    more['shuffle'] = less['drop_last'] = True\n" + LOADERS,
}


@pytest.mark.parametrize(("lines", "there"), INLINE.values(), ids=INLINE)
def test_options_are_given_where_they_are_used(lines: str, there: list[str]) -> None:
    done = converted(script(before=lines), style="idiomatic")
    assert done.text is not None
    assert [part for part in there if part not in done.text] == []
    assert "more" not in done.text and "less" not in done.text
    assert "more" in (converted(script(before=lines)).text or "")


@pytest.mark.parametrize("lines", IN_DICTIONARIES.values(), ids=IN_DICTIONARIES)
def test_options_stay_in_dictionaries_that_may_say_something_else(lines: str) -> None:
    text = converted(script(before=lines), style="idiomatic").text or ""
    assert "**more" in text and "**less" in text


def test_schedulers_of_manual_optimization_are_made_with_their_optimizer() -> None:
    scheduler = "scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)\n"
    batch = STEP.replace("optimizer.step()", "if len(x) < 2:\n    continue\noptimizer.step()")
    hooks = methods(converted(script(batch, before=scheduler, end="scheduler.step()")).text)
    assert hooks["on_train_epoch_end"] == "self.lr_schedulers().step()"
    assert "return ([optimizer], [scheduler])" in hooks["configure_optimizers"]


@pytest.mark.parametrize(
    ("end", "hook"),
    [
        ("first.step()\nsecond.step()", "first, second = self.lr_schedulers()\nfirst.step()\nsecond.step()"),
        ("second.step()", "self.lr_schedulers()[1].step()"),
        (
            "for first_rate in (0.1,):\n    first.step()\n    second.step()",
            "first, second = self.lr_schedulers()\nfor first_rate in (0.1,):\n    first.step()\n    second.step()",
        ),
    ],
)
def test_a_hook_asks_once_for_several_schedulers(end: str, hook: str) -> None:
    makes = "torch.optim.lr_scheduler.StepLR(optimizer{}, 2)\n"
    lines = "optimizer2 = torch.optim.SGD(criterion2.parameters(), lr=0.1)\nfirst = " + makes.format("")
    lines = f"criterion2 = nn.Linear(2, 2)\n{lines}second = {makes.format(2)}"
    batch = f"{STEP}\noptimizer2.step()"
    start = "" if "first" in end else "first.step()"
    done = converted(script(batch, before=lines, start=start, end=end))
    assert methods(done.text)["on_train_epoch_end"] == hook


def test_what_python_3_does_anyway_is_not_imported() -> None:
    text = "from __future__ import annotations, print_function\n" + script()
    assert "from __future__ import annotations\n" in (converted(text, style="idiomatic").text or "")
    assert "print_function" in (converted(text).text or "")


def test_the_module_stands_after_a_text_that_explains_the_script() -> None:
    text = script().replace("torch.manual_seed", '"""Explains."""\ntorch.manual_seed')
    result = converted(text).text or ""
    assert result.index("Explains") < result.index("class Lit")


def test_only_what_changes_is_called_a_departure() -> None:
    said = "summaries are logged, not printed"
    assert said not in converted(script(), style="idiomatic").departures
    assert said in converted(script(end="print(f'{loss:.3f}')"), style="idiomatic").departures


def test_a_member_of_a_class_is_no_device_of_the_script() -> None:
    run = f"{SETUP}model.to(Place.GPU)\nfor x, y in train_loader:\n{indent(STEP, '    ')}\n"
    text = f"{PROLOGUE}class Place:\n    GPU = 'cuda'\ndef main():\n{indent(run, '    ')}\nmain()\n"
    done = converted(text)
    assert done.text is not None and 'accelerator="auto"' in done.text


def test_what_only_prints_needed_goes_with_them() -> None:
    batch = (
        f"{STEP}\nif i % 2 == 0:\n    loss, seen = loss.item(), (i + 1) * len(x)\n    print(f'{{loss:.3f}} {{seen}}')"
    )
    start = "print(f'Epoch {epoch + 1}')"
    text = script(batch, batches="for i, (x, y) in enumerate(train_loader):", start=start)
    hooks = methods(converted(text, style="idiomatic").text)
    assert "on_train_epoch_start" not in hooks and "on_train_batch_end" not in hooks
    assert "seen" not in hooks["training_step"]
    assert "seen = " in "".join(methods(converted(text).text).values())


def test_definitions_that_only_code_which_is_gone_named_go() -> None:
    define = "class Unused:\n    pass\ndef shown(value):\n    return f'{value:.3f}'\n"
    done = converted(script(f"{STEP}\nprint(loss.item(), shown(loss.item()))", define=define), style="idiomatic")
    assert "shown" not in str(done.text) and "class Unused" in str(done.text)


PARSED = """\
import argparse
parser = argparse.ArgumentParser()
parser.add_argument('--rate', type=float, default=0.1)
parser.add_argument('--print-freq', type=int, default=2)
parser.add_argument('--unused')
args = parser.parse_args([])
"""


def test_options_stay_so_that_command_lines_go_on_working() -> None:
    batch = f"{STEP}\nif epoch % args.print_freq == 0:\n    print(f'{{loss.item():.3f}}')"
    text = script(batch, define=PARSED).replace("lr=0.1", "lr=args.rate")
    for style in ("faithful", "idiomatic"):
        assert "--print-freq" in str(converted(text, style=style).text)


SIZES = {
    "one of tensors": ("for x, y in train_loader:", STEP, "len(y)", False),
    "one that begins with text": ("for name, x, y in train_loader:", STEP, "len(y)", True),
    "one made otherwise": ("for x, y in train_loader:", f"x, y = x[:2], y[:2]\n{STEP}", "len(y)", True),
    "one that the script collates": ("for x, y in collated:", STEP, "len(y)", True),
}


@pytest.mark.parametrize(("batches", "batch", "size", "said"), SIZES.values(), ids=SIZES)
def test_a_batch_counts_for_its_samples(batches: str, batch: str, size: str, said: bool) -> None:
    text = script(
        f"{batch}\ntotal += loss.item() * {size}\nseen += {size}\nlabels = y.view(-1)",
        define="collated = DataLoader(data, batch_size=8, collate_fn=list)\n",
        batches=batches,
        start="total, seen = 0, 0",
        end="print(f'loss {total / seen:.3f}')",
    )
    assert ("batch_size=" in methods(converted(text, style="idiomatic").text)["training_step"]) is said


WRITES = {
    "print(value)": True,
    "with open('log', 'a') as file:\n        file.write(str(value))": True,
    "torch.save(model.state_dict(), 'x.pt')": True,
    "model(data[0][0])": False,
    "model.train()": False,
    "unknown(value)": False,
}


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
@pytest.mark.parametrize(("body", "writes"), WRITES.items(), ids=WRITES)
def test_an_evaluation_ends_with_what_may_run_a_network(body: str, writes: bool, style: str) -> None:
    loop = "    for a, b in val_loader:\n        hits += (model(a).argmax(1) == b).sum()"
    end = f"model.eval()\nhits = 0\nwith torch.no_grad():\n{loop}\nnote(hits)"
    text = script(start="model.train()", define=f"def note(value):\n    {body}\n", end=end)
    hooks = methods(converted(text, style=style).text)
    assert "note(" in hooks["on_train_epoch_end" if writes else "on_validation_epoch_end"]


WRITES = {
    "a file that nobody reads": ("", "handle = open('log.txt', 'a')"),
    "a folder": ("from os import mkdir\n", "made = mkdir('log.txt')"),
    "in what is shown": ("", "print(f\"{open('log.txt', 'a')} loss {loss.item():.3f}\")"),
    "in what a bar shows": ("from tqdm import tqdm\nbar = tqdm(total=9)\n", "bar.set_postfix(to=open('log.txt', 'a'))"),
}


@pytest.mark.parametrize(("before", "line"), WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
def test_what_touches_files_stays_whoever_reads_its_value(before: str, line: str, style: str) -> None:
    done = converted(script(f"{STEP}\n{line}", before=before), style=style)
    assert "'log.txt'" in methods(done.text)["training_step"] + methods(done.text).get("on_train_batch_end", "")


def test_a_value_that_only_a_line_after_fit_reads_stays() -> None:
    """The network is moved again for the second loop, which the first run's own lines do."""
    move = SETUP.replace("criterion =", "model.to(DEVICE)\ncriterion =")
    loop = indent(f"x, y = x.to(DEVICE), y.to(DEVICE)\n{STEP}", "        ")
    loops = f"for epoch in range(2):\n    for x, y in train_loader:\n{loop}\n"
    text = converted(f"{PROLOGUE}DEVICE = 'cuda:0'\n{move}\n{loops}{loops}", style="idiomatic").text
    assert text is not None and "DEVICE = 'cuda:0'" in text and "model.to(DEVICE)" in text


def test_an_import_goes_where_only_a_local_bears_its_name() -> None:
    waves = "import time\ndef waves():\n    time = torch.arange(3.0)\n    return torch.sin(time)\n"
    shown = "print(f'{time.time() - began:.1f}s loss {loss.item():.3f}')"
    text = script(define=waves, start="began = time.time()", end=shown)
    assert "import time" not in (converted(text, style="idiomatic").text or "")
    assert "import time" in (converted(text.replace("time = torch.arange(3.0)", "time.sleep(0)")).text or "")


@pytest.mark.parametrize("taken", [False, True])
def test_a_batch_that_is_called_as_its_number_has_another_name(taken: bool) -> None:
    batch = (
        "x, y = data[batch_idx : batch_idx + 2]"
        if not taken
        else "batch = data[batch_idx : batch_idx + 2]\nx, y = batch"
    )
    text = script(f"{batch}\n{STEP}", batches="for batch_idx in range(0, 8, 2):")
    body = methods(converted(text).text)["training_step"]
    assert ("batch_idx = batch" in body) is taken
    assert ("data[batch:batch + 2]" in body) is not taken


OLD = {
    "one by one": "x = Variable(x).cuda()\ny = Variable(y.cuda())",
    "a pair": "x, y = Variable(x).to(device), Variable(y).to(device)",
}


@pytest.mark.parametrize("move", OLD.values(), ids=OLD)
def test_moves_of_old_variables_go(move: str) -> None:
    step = methods(
        converted(script(f"{move}\n{STEP}", define="from torch.autograd import Variable\n", before=DEVICE)).text
    )
    assert "cuda" not in step["training_step"] and ".to(" not in step["training_step"]
    assert "transfer_batch_to_device" not in step


@pytest.mark.parametrize(("name", "lines"), [("n", 1), ("number_of_batches_in_the_training_loader", 2)])
def test_two_results_that_fit_no_line_have_one_each(name: str, lines: int) -> None:
    define = f"def epoch_of(loader):\n    total = right = 0\n    {name} = len(loader)\n    for x, y in loader:\n"
    define += indent(f"{STEP}\ntotal += loss.item()\nright += (x > 0).sum().item()", "        ")
    define += f"\n    return total / {name}, right / {name}\n"
    end = "loss, share = epoch_of(train_loader)\nprint(f'{loss:.3f} {share:.3f}')"
    text = script("pass", define=define, batches="if True:", start=end)
    body = methods(converted(text).text)["on_train_epoch_end"]
    told = f"loss = self.total / self.{name}\nshare = " if lines == 2 else "loss, share = ("
    assert body.startswith(told), body


def test_a_batch_that_is_a_number_is_not_said_to_be_moved() -> None:
    take = "x, y = data[i : i + 8]\nx, y = x.to(device), y.to(device)"
    text = script(f"{take}\n{STEP}", before=DEVICE, batches="for i in range(0, 24, 8):")
    assert not any("whole batches" in departure for departure in converted(text, style="idiomatic").departures)
