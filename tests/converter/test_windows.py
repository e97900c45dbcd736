"""Gradients accumulated by hand become `accumulate_grad_batches` where the numbers stay."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.converter.scripts import FORWARD, converted, methods, script

NUMBERED = "for i, (x, y) in enumerate(train_loader):"
STEP = "    optimizer.step()\n    optimizer.zero_grad()"
LAST = "(i + 1) % 3 == 0 or i + 1 == len(train_loader)"


def loop(test: str, *, loss: str = "(loss / 3).backward()", step: str = STEP, **parts: str) -> str:
    return script(f"{FORWARD}\n{loss}\nif {test}:\n{step}", **{"batches": NUMBERED, **parts})


EXACT = {
    "divided in the call": loop(LAST),
    "divided before": loop(LAST, loss="loss = loss / 3\nloss.backward()"),
    "divided in place": loop(LAST, loss="loss /= 3\nloss.backward()"),
    "the last batch by its index": loop("(i + 1) % 3 == 0 or i == len(train_loader) - 1"),
    "counted from one": loop(
        "i % 3 == 0 or i == len(train_loader)", batches="for i, (x, y) in enumerate(train_loader, 1):"
    ),
    "clipped": loop(LAST, step=f"    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)\n{STEP}"),
    "a window from the host": loop(LAST.replace("3", "k"), loss="(loss / k).backward()", before="k = 3\n"),
    "shown undivided": loop(LAST, step=f"{STEP}\nprint(f'{{loss.item():.3f}}')"),
}
#: Exact but for what the departure says.
NEARLY = {
    "a short last window is carried over": loop("(i + 1) % 3 == 0"),
    "the divided loss is shown": loop(
        LAST, loss="loss = loss / 3\nloss.backward()", step=f"{STEP}\nprint(f'{{loss.item():.3f}}')"
    ),
}
OTHER = {
    "not divided": loop(LAST, loss="loss.backward()"),
    "divided by another number": loop(LAST, loss="(loss / 4).backward()"),
    "the first batch is a window": loop("i % 3 == 0"),
    "zeroed in each batch": loop(
        LAST, loss="optimizer.zero_grad()\n(loss / 3).backward()", step="    optimizer.step()"
    ),
    "the window grows": loop(LAST.replace("3", "k"), loss="(loss / k).backward()", before="k = 3\n", end="k += 1"),
    "more than the step depends on the window": loop(LAST, step=f"{STEP}\n    print('stepped')"),
    "another loader's end": loop(LAST.replace("train_loader", "val_loader")),
}


@pytest.mark.parametrize("text", EXACT.values(), ids=EXACT)
def test_the_trainer_accumulates(text: str) -> None:
    done = converted(text)
    assert done.mode == "automatic", done.reasons
    assert done.text is not None and "accumulate_grad_batches=" in done.text
    step = methods(done.text)["training_step"]
    assert "/ 3" not in step and "/ k" not in step and "len(train_loader)" not in step


@pytest.mark.parametrize("text", NEARLY.values(), ids=NEARLY)
def test_only_the_idiomatic_style_departs(text: str) -> None:
    assert "optimizer.step()" in methods(converted(text).text)["optimizer_step"]
    done = converted(text, style="idiomatic")
    assert done.mode == "automatic" and "accumulate_grad_batches=3" in (done.text or "")
    assert any("window" in departure for departure in done.departures)


@pytest.mark.parametrize("text", OTHER.values(), ids=OTHER)
def test_other_windows_stay_the_scripts_own(text: str) -> None:
    for style in ("faithful", "idiomatic"):
        done = converted(text, style=style)
        assert done.text is not None and "accumulate_grad_batches" not in done.text
        assert "optimizer.step()" in methods(done.text)["optimizer_step"]


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["bundled", pytest.param("lightning", marks=pytest.mark.lightning)])
def test_it_trains_identically(runtime: str, trains_identically: Callable[[str, str | None], None]) -> None:
    text = EXACT["clipped"]  # four batches in windows of three: the last one is alone
    done = converted(text, runtime=runtime)
    assert done.text is not None
    trains_identically(text, done.text)
