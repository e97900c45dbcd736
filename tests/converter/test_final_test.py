"""The test after the training becomes `test_step` and `trainer.test`."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import indent

import pytest

from tests.converter.scripts import EVALUATE, PROLOGUE, SETUP, STEP, converted, in_each_mode, methods, script

TEST = """\
model.eval()
with torch.no_grad():
    right = 0
    for a, b in val_loader:
        right += (model(a).argmax(1) == b).sum().item()
    print(f'accuracy {100 * right / len(val_loader.dataset):.1f}')
"""
FUNCTION = "def test(net, loader):\n" + "".join(f"    {line}\n" for line in TEST.splitlines()).replace(
    "model", "net"
).replace("val_loader", "loader")
SAVE = "torch.save(model.state_dict(), 'net.pt')"

RUN = """\
for epoch in range(2):
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
"""
HOST = """\
def run(net, train_loader, val_loader):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
""" + "".join(f"    {line}\n" for line in f"{RUN}{TEST}".replace("model", "net").splitlines())

BARE = TEST.replace("model.eval()\n", "")
MAIN = f"def main():\n{indent(SETUP + RUN + BARE, '    ')}\n\nmain()\n"

MOVED = {
    "in place": script(after=f"{TEST}{SAVE}"),
    "in a function": script(define=FUNCTION, after=f"test(model, val_loader)\n{SAVE}"),
    "without eval()": script(after=TEST.replace("model.eval()\n", "")),
    "sums that are kept": script(after=TEST.replace("{100 * right", "{right}, {100 * right")),
    "of the best weights": script(after=f"model.load_state_dict(torch.load('best.pt'))\n{TEST}"),
    "after other things": script(after=f"{SAVE}\nprint('now the test')\n{TEST}"),
}
STAYS = {
    "the script goes on with the result": script(after=f"{TEST}if right > 3:\n    {SAVE}"),
    "the script goes on with the network": script(after=f"{TEST}print(model(data[:2][0]))"),
    "two tests": script(after=f"{TEST}{TEST.replace('val_loader', 'train_loader')}"),
    "the script goes on with its last batch": script(after=f"{TEST}{SAVE}\nprint(b)"),
    "it reads the last epoch's number": script(after=TEST.replace("accuracy", "{epoch}: accuracy")),
    "what it needs is made after the run": script(after=f"n = len(data)\n{TEST.replace('100 *', 'n *')}"),
    "what stands before it may set the mode": script(
        end=f"{EVALUATE}model.train()", after=f"print(model(data[:2][0]))\n{BARE}"
    ),
    "left early": script(
        after=TEST.replace("        right +=", "        if right > 5:\n            break\n        right +=")
    ),
    "the epochs run the same function": script(
        define=FUNCTION, start="model.train()", end="test(model, val_loader)", after="test(model, val_loader)"
    ),
}


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
@pytest.mark.parametrize("text", MOVED.values(), ids=MOVED)
def test_it_becomes_a_test_step(text: str, style: str) -> None:
    done = converted(text, style=style)
    assert done.text is not None
    hooks = methods(done.text)
    if style == "faithful":
        assert "self.print(f'accuracy {" in hooks["on_test_epoch_end"] and "self.right" in hooks["test_step"]
    else:
        assert "self.log('accuracy', " in hooks["test_step"] or "self.right" in hooks["test_step"]
    told = ", verbose=False" if style == "faithful" else ""
    assert done.text.count(f"trainer.test(module, val_loader{told})") == 1
    assert "for a, b in" not in done.text and "no_grad" not in done.text and ".eval()" not in done.text
    assert ("on_test_model_eval" in hooks) is ("eval()" not in text)


@pytest.mark.parametrize(
    ("made", "given", "call"),
    [
        ("", "LitScriptData(train_loader, val_loader)", "datamodule=trainer.datamodule"),
        ("val_loader = DataLoader(data, batch_size=4)\n", "LitScriptData(train_loader)", "val_loader"),
    ],
    ids=["made before the run", "made after it"],
)
def test_a_data_module_has_its_loader(made: str, given: str, call: str) -> None:
    done = converted(script(after=f"{made}{TEST.replace('len(val_loader.dataset)', '30')}"), data_module=True)
    assert done.text is not None
    assert f"trainer.fit(module, datamodule={given})" in done.text
    assert f"trainer.test(module, {call}, verbose=False)" in done.text
    assert ("def test_dataloader" in done.text) is ("datamodule" in call)


@pytest.mark.parametrize("text", STAYS.values(), ids=STAYS)
def test_it_stays(text: str) -> None:
    done = converted(text)
    assert done.text is not None and "trainer.test" not in done.text and "for a, b in" in done.text


@pytest.mark.slow
@in_each_mode
def test_it_counts_for_itself(style: str, runtime: str, trains_identically: Callable[[str, str | None], None]) -> None:
    """What the loops count with is computed from the batch's number; a test's counters of that name are others."""
    test = TEST.replace("for a, b in val_loader:", "for i, (a, b) in enumerate(val_loader):\n        seen.append(i)")
    text = script(
        "loss = criterion(model(x), y) * i\n" + STEP.partition("\n")[2],
        before="seen = []",
        batches="for i, (x, y) in enumerate(train_loader, 1):",
        after=f"{test}    for i in range(2):\n        print(seen[i], i)\nprint('in all', seen)",
    )
    done = converted(text, style=style, runtime=runtime)
    assert done.text is not None
    hooks = methods(done.text)
    assert "* (batch_idx + 1)" in hooks["training_step"] and "i = batch_idx" in hooks["test_step"]
    assert "for i in range(2):" in hooks["on_test_epoch_end"]
    trains_identically(text, done.text)


def test_in_a_function_its_sums_begin_anew() -> None:
    """What the host sets within the test is no name of the host's that nothing reads."""
    done = converted(PROLOGUE + MAIN)
    assert done.text is not None
    assert methods(done.text)["on_test_epoch_start"] == "self.right = 0"


def test_it_is_the_last_run_s() -> None:
    done = converted(
        script(after=f"fine = torch.optim.SGD(model.parameters())\n{RUN.replace('optimizer', 'fine')}{TEST}")
    )
    assert done.text is not None and done.text.count("trainer.test(") == 1
    first, last = done.text.split("class Lit")[1:]
    assert "def test_step" not in first and "def test_step" in last


def test_who_called_the_host_finds_the_mode_of_the_script() -> None:
    text = PROLOGUE + HOST + SETUP + "run(model, train_loader, val_loader)\nprint(model(data[:2][0]))\n"
    done = converted(text)
    assert done.text is not None and "    net.eval()\n    trainer.test(module, val_loader" in done.text


@pytest.mark.slow
@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
@pytest.mark.parametrize("name", ["in place", "without eval()"])
def test_it_evaluates_identically(name: str, style: str, trains_identically: Callable[[str, str | None], None]) -> None:
    done = converted(MOVED[name], style=style)
    assert done.text is not None
    trains_identically(MOVED[name], done.text)


def test_what_stands_around_its_loop_moves_along() -> None:
    """The lists begin before the loop, and what they make follows it."""
    text = script(
        after="""\
wrong = []
seen = []
for a, b in val_loader:
    hit = model(a).argmax(1) == b
    wrong.append(~hit)
    seen.append(b)
wrong = torch.cat(wrong)
seen = torch.cat(seen)
print(sorted(seen[wrong].tolist()))
"""
    )
    done = converted(text, style="idiomatic")
    assert done.text is not None
    hooks = methods(done.text)
    start, end = hooks["on_test_epoch_start"], hooks["on_test_epoch_end"]
    assert "self.wrong = []" in start and "self.seen = []" in start
    assert "torch.cat(self.wrong)" in end and "torch.cat(self.seen)" in end and "print(sorted(" in end
    assert hooks["test_step"].count("append") == 2 and done.text.count("torch.cat") == 2
