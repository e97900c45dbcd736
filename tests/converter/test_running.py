"""Means over the last batches, shown by an `if` that zeroes their sums, become what each batch logs."""

from __future__ import annotations

import pytest

from tests.converter.scripts import STEP, converted, methods, script

ZERO = "total = 0.0"
TIMED = """\
if (i + 1) % 2 == 0 and i > 0:
    mean = total / 2
    took = time.time() - begun
    print(f'| {took:.2f} s | loss {mean:.3f} | acc {100. * right / seen:.1f}')
    total = right = seen = 0
    begun = time.time()"""


def window(shown: str, add: str = "total += loss.item()", **parts: str) -> str:
    parts = {"start": ZERO, "batches": "for i, (x, y) in enumerate(train_loader):", **parts}
    return script(f"{STEP}\n{add}\n{shown}", **parts)


def every(line: str, zero: str = ZERO) -> str:
    return f"if i % 2 == 1:\n    {line}\n    {zero}"


PRINTED = "print(f'[{epoch}, {i}] loss: {total / 2:.3f}')"
COUNT = "total += loss.item()\nright += (model(x).argmax(1) == y).sum().item()\nseen += y.size(0)"

LOGGED = {
    "begun with each epoch": (window(every(PRINTED)), ["self.log('loss', loss, prog_bar=True)"]),
    "begun once": (window(every(PRINTED), before=f"{ZERO}\n", start=""), ["self.log('loss', loss, prog_bar=True)"]),
    "per sample": (
        window(
            every("print(f'acc {right / seen:.3f}, loss {total / seen:.3f}')", "total, right, seen = 0.0, 0, 0"),
            COUNT.replace("loss.item()", "loss.item() * y.size(0)"),
            start="total, right, seen = 0.0, 0, 0",
        ),
        [
            "self.log('acc', (self.model(x).argmax(1) == y).sum() / y.size(0), prog_bar=True)",
            "self.log('loss', loss, prog_bar=True)",
        ],
    ),
    "with times, and a name for the mean": (
        window(TIMED, COUNT, define="import time\n", start="total = right = seen = 0\nbegun = time.time()"),
        [
            "self.log('acc', 100.0 * (self.model(x).argmax(1) == y).sum() / y.size(0), prog_bar=True)",
            "self.log('loss', loss, prog_bar=True)",
        ],
    ),
    "beside the batch's own loss": (
        window(every("print(f'loss {loss.item():.3f} ({total / 2:.3f})')")),
        ["self.log('loss', loss, prog_bar=True)"],
    ),
}
KEPT = {
    "a sum that is shown as it is": window(every("print(total)")),
    "a sum over another number of batches": window(every(PRINTED.replace("/ 2", "/ 3"))),
    "a mean that is kept": window(every("means.append(total / 2)"), before="means = []\n", after="print(means)"),
    "a mean that is read after the run": window(every(f"mean = total / 2\n    {PRINTED}"), after="print(mean)"),
    "a sum that the epoch's end reads": window(every(PRINTED), end="print(total)"),
    "a sum that decides": window(f"{every(PRINTED)}\nif total > 9:\n    break"),
    "a sum that only some batches add to": window(every(PRINTED), "if i > 0:\n    total += loss.item()"),
    "one value for each class": window(every(PRINTED), "total += torch.bincount(y, minlength=2)"),
    "a window that does more": window(every(f"{PRINTED}\n    torch.manual_seed(i)")),
    "a question that does more": window(every(PRINTED).replace("i % 2", "torch.randint(9, ()).item() % 2")),
}


@pytest.mark.parametrize(("text", "logs"), LOGGED.values(), ids=LOGGED)
def test_each_batch_logs_its_own_number(text: str, logs: list[str]) -> None:
    done = converted(text, style="idiomatic")
    hooks = "\n".join(methods(done.text).values())
    assert sorted(line for line in hooks.splitlines() if "self.log(" in line) == logs
    assert "+=" not in hooks and "if " not in hooks and "print(" not in hooks
    assert "total" not in str(done.text)
    assert any("each batch's own" in departure for departure in done.departures)


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT)
def test_what_is_no_such_mean_stays(text: str) -> None:
    done = converted(text, style="idiomatic")
    assert "self.total +=" in "\n".join(methods(done.text).values())
    assert not any("each batch's own" in departure for departure in done.departures)


@pytest.mark.parametrize("text", [text for text, _ in LOGGED.values()], ids=LOGGED)
def test_the_faithful_style_keeps_its_sums(text: str) -> None:
    assert "self.total +=" in "\n".join(methods(converted(text).text).values())
