"""The test after the training becomes `test_step` and `trainer.test`, in the idiomatic style."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.converter.scripts import converted, methods, script

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
    "what it needs is made after the run": script(after=f"n = len(data)\n{TEST.replace('100 *', 'n *')}"),
    "left early": script(
        after=TEST.replace("        right +=", "        if right > 5:\n            break\n        right +=")
    ),
    "the epochs run the same function": script(
        define=FUNCTION, start="model.train()", end="test(model, val_loader)", after="test(model, val_loader)"
    ),
}


@pytest.mark.parametrize("text", MOVED.values(), ids=MOVED)
def test_it_becomes_a_test_step(text: str) -> None:
    done = converted(text, style="idiomatic")
    assert done.text is not None
    hooks = methods(done.text)
    assert "self.log('accuracy', " in hooks["test_step"] or "self.right" in hooks["test_step"]
    assert done.text.count("trainer.test(module, val_loader)") == 1
    assert "for a, b in" not in done.text and "no_grad" not in done.text and ".eval()" not in done.text
    assert ("on_test_model_eval" in hooks) is ("eval()" not in text)
    assert "the test after the training is run by trainer.test" in done.departures


@pytest.mark.parametrize("text", MOVED.values(), ids=MOVED)
def test_the_faithful_style_keeps_it(text: str) -> None:
    done = converted(text)
    assert done.text is not None and "trainer.test" not in done.text


@pytest.mark.parametrize("text", STAYS.values(), ids=STAYS)
def test_it_stays(text: str) -> None:
    done = converted(text, style="idiomatic")
    assert done.text is not None and "trainer.test" not in done.text and "for a, b in" in done.text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["in place", "without eval()"])
def test_it_evaluates_identically(name: str, trains_identically: Callable[[str, str | None], None]) -> None:
    done = converted(MOVED[name], style="idiomatic")
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
