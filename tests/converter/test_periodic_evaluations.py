"""An evaluation of every k-th epoch is `check_val_every_n_epoch`, where the Trainer counts as the script does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.converter.scripts import converted, in_each_mode, methods, script
from tests.converter.test_several_evaluations import RIGHT, TRAIN

SHARE = "share = test(val_loader)\nprint(share)"


def asked(test: str, inside: str = SHARE, *, end: str = "", after: str = "", more: str = "", **parts: str) -> str:
    lines = "".join(f"    {line}\n" for line in inside.splitlines())
    before = f"{parts.pop('before', RIGHT)}{more}"
    return script(start=parts.pop("start", TRAIN), before=before, end=f"if {test}:\n{lines}{end}", after=after, **parts)


FROM_ONE = {"epochs": "for epoch in range(1, 6):"}
TAKEN = {
    "from nought": asked("(epoch + 1) % 2 == 0"),
    "from one, negated": asked("not epoch % 2", **FROM_ONE),
    "a name": asked("(epoch + 1) % every == 0", more="every = 2\n"),
    "two passes": asked(
        "epoch % 2 == 0", "mine = test(train_loader)\nshare = test(val_loader)\nprint(mine, share)", **FROM_ONE
    ),
    "what each epoch goes on with": asked(
        "epoch % 2 == 0", more="share, seen = 0.0, []\n", end="seen.append(share)", after="print(seen)", **FROM_ONE
    ),
    "the best one": asked(
        "epoch % 2 == 0", f"{SHARE}\nif share > best:\n    best = share", more="best = 0\n", **FROM_ONE
    ),
}
LEFT = {
    "another phase": (asked("epoch % 2 == 0"), "those that do are not every k-th"),
    "the last one, too": (asked("epoch % 2 == 0 or epoch == 2"), "those that do are not every k-th"),
    "an else": (asked("epoch % 2 == 0", end="else:\n    print(epoch)", **FROM_ONE), "those that do are not every k-th"),
    "a k that changes": (
        asked("(epoch + 1) % every == 0", more="every = 1\n", end="every = 2"),
        "those that do are not every k-th",
    ),
    "prints before it": (
        script(
            start=TRAIN,
            before=RIGHT,
            end=f"print(epoch)\nif (epoch + 1) % 2 == 0:\n    {SHARE.splitlines()[0]}\n    print(share)",
        ),
        "what stands before it prints, as that does",
    ),
    "the network after it": (
        asked("(epoch + 1) % 2 == 0", end="with torch.no_grad():\n    print(model(data[:8][0]).sum())"),
        "what follows it may notice the mode",
    ),
    "the network after the training": (
        asked("(epoch + 1) % 2 == 0", after="print(model(data[:8][0]).sum())"),
        "what follows the training would notice whether the last one had",
    ),
}


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
@pytest.mark.parametrize("text", TAKEN.values(), ids=TAKEN)
def test_it_is_an_option_of_the_trainer(text: str, style: str) -> None:
    done = converted(text, style=style)
    assert done.text is not None and done.text.count("check_val_every_n_epoch=") == 1
    assert "model(a)" in methods(done.text)["validation_step"]


@pytest.mark.parametrize("text, reason", LEFT.values(), ids=LEFT)
def test_it_stays_under_its_condition(text: str, reason: str) -> None:
    done = converted(text)
    assert done.text is not None and "check_val_every_n_epoch" not in done.text
    told = [finding.message for finding in done.findings if finding.code == "LF222"]
    assert len(told) == 1 and reason in told[0]


def test_one_of_each_epoch_stays_the_validation() -> None:
    text = converted(asked("(epoch + 1) % 2 == 0", "print(epoch)", end="share = test(val_loader)\nprint(share)")).text
    assert text is not None and "check_val_every_n_epoch" not in text and "validation_step" in text


@pytest.mark.slow
@in_each_mode
@pytest.mark.parametrize("text", TAKEN.values(), ids=TAKEN)
def test_it_evaluates_identically(
    text: str, style: str, runtime: str, trains_identically: Callable[[str, str | None], None]
) -> None:
    trains_identically(text, converted(text, style=style, runtime=runtime).text)
