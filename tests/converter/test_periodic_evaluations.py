"""An evaluation under a condition.

That of every k-th epoch is `check_val_every_n_epoch`, where the Trainer counts as the script does; what stays as it is
during the run decides beforehand whether the Trainer is given data to validate on.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.converter.scripts import PROLOGUE, STEP, converted, in_each_mode, methods, script
from tests.converter.test_several_evaluations import RIGHT, TRAIN

SHARE = "share = test(val_loader)\nprint(share)"


def asked(test: str, inside: str = SHARE, *, end: str = "", after: str = "", more: str = "", **parts: str) -> str:
    lines = "".join(f"    {line}\n" for line in inside.splitlines())
    before = f"{parts.pop('before', RIGHT)}{more}"
    return script(start=parts.pop("start", TRAIN), before=before, end=f"if {test}:\n{lines}{end}", after=after, **parts)


#: The method of a class that evaluates reads a field that stands before it.
FIELDS = f"""\
{PROLOGUE}
class Training:
    def __init__(self):
        self.model = nn.Linear(4, 2)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.scale = 1

    def factor(self):
        return self.scale

    def validate(self):
        self.model.eval()
        total = 0
        with torch.no_grad():
            for a, b in val_loader:
                total += self.criterion(self.model(a), b).item() * self.factor()
        self.model.train()
        return total

    def fit(self):
        for epoch in range(4):
            for x, y in train_loader:
                loss = self.criterion(self.model(x), y)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
            self.scale = epoch + 2
            if (epoch + 1) % 2 == 0:
                print(self.validate())


Training().fit()
"""
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
    "a value for it alone": script(
        start=TRAIN,
        before=f"{RIGHT}total = 0.0\n",
        batch=f"{STEP}\ntotal += loss.item()",
        end="mean = total / len(train_loader)\nif (epoch + 1) % 2 == 0:\n    share = test(val_loader)\n"
        "    print(mean, share)\ntotal = 0.0",
    ),
    "a schedule before it": script(
        start=TRAIN,
        before=f"{RIGHT}schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)\n",
        end="schedule.step()\nif (epoch + 1) % 2 == 0:\n    share = test(val_loader)\n    print(share)",
    ),
}
SETTLED = {
    "a loader that may be missing": (asked("val_loader is not None"), "train_loader, val_loader)"),
    "a flag": (asked("not quick", more="quick = False\n"), "train_loader, val_loader if not quick else None)"),
    "an option": (
        asked(
            "len(train_loader) > options.least",
            more="from types import SimpleNamespace\noptions = SimpleNamespace(least=9)\n",
        ),
        "train_loader, val_loader if len(train_loader) > options.least else None)",
    ),
    "a flag, every k-th": (
        asked("wanted and (epoch + 1) % 2 == 0", more="wanted = True\n"),
        "train_loader, val_loader if wanted else None)",
    ),
    "two passes": (
        asked("wanted", "mine = test(train_loader)\nshare = test(val_loader)\nprint(mine, share)", more="wanted = 1\n"),
        "train_loader, [train_loader, val_loader] if wanted else None)",
    ),
}
RUN = {**TAKEN, **{name: text for name, (text, _) in SETTLED.items()}}
LEFT = {
    "another phase": (asked("epoch % 2 == 0"), "those that do are not every k-th"),
    "the last one, too": (asked("epoch % 2 == 0 or epoch == 2"), "those that do are not every k-th"),
    "an else": (asked("epoch % 2 == 0", end="else:\n    print(epoch)", **FROM_ONE), "those that do are not every k-th"),
    "a flag that changes": (
        asked("late", more="late = False\n", end="late = True"),
        "those that do are not every k-th",
    ),
    "what grows": (
        asked("len(seen) > 1", more="seen = []\n", end="seen.append(epoch)"),
        "those that do are not every k-th",
    ),
    "the time": (
        asked("time.time() - start > 60", more="import time\nstart = time.time()\n"),
        "those that do are not every k-th",
    ),
    "a mode": (asked("model.training"), "those that do are not every k-th"),
    "a rate that it prints": (
        script(
            start=TRAIN,
            before=f"{RIGHT}schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)\n",
            end="schedule.step()\nif (epoch + 1) % 2 == 0:\n    share = test(val_loader)\n"
            "    print(share, schedule.get_last_lr())",
        ),
        "what stands before it draws, steps or may use a network",
    ),
    "a value that others read": (
        script(
            start=TRAIN,
            before=f"{RIGHT}total, mean = 0.0, 0.0\n",
            batch=f"{STEP}\ntotal += loss.item()",
            end="mean = total / 4\nif (epoch + 1) % 2 == 0:\n    share = test(val_loader)\n    print(mean, share)",
            after="print(mean)",
        ),
        "what stands before it computes what that needs",
    ),
    "a value of what goes on": (
        script(
            start=TRAIN,
            before=f"{RIGHT}seen = []\n",
            end="seen.append(loss.item())\nmean = sum(seen) / len(seen)\nif (epoch + 1) % 2 == 0:\n"
            "    share = test(val_loader)\n    print(mean, share)",
        ),
        "what stands before it computes what that needs",
    ),
    "a field that its method reads": (FIELDS, "what stands before it computes what that needs"),
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


@pytest.mark.parametrize("test", ["epoch % 1 == 0", "(epoch + 1) % 1 == 0", "True"])
def test_what_always_holds_is_no_condition(test: str) -> None:
    done = converted(
        asked(test, f"seen = epoch + 1\n{SHARE}\nprint(seen)", end="print(model(data[:2][0]).sum().item())")
    )
    assert "trainer.fit(module, train_loader, val_loader)" in (done.text or "")
    assert "model(a)" in methods(done.text)["validation_step"] and "% 1" not in (done.text or "")
    assert [entry.fate.value for entry in done.ledger.entries if entry.text.startswith("if ")] == ["dropped"]


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
@pytest.mark.parametrize("text, handed", SETTLED.values(), ids=SETTLED)
def test_the_trainer_is_given_data_or_none(text: str, handed: str, style: str) -> None:
    done = converted(text, style=style)
    assert done.text is not None and handed in done.text
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
@pytest.mark.parametrize("text", RUN.values(), ids=RUN)
def test_it_evaluates_identically(
    text: str, style: str, runtime: str, trains_identically: Callable[[str, str | None], None]
) -> None:
    trains_identically(text, converted(text, style=style, runtime=runtime).text)
