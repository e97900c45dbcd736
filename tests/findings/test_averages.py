from __future__ import annotations

import pytest

from lightify.findings.averages import RULES
from tests.findings.scripts import STEP, check, script

SUM = {"epoch_start": "total = 0.0", "batch": f"{STEP}total += loss.item()"}

NOOP = {
    "no sum": {},
    "no short batch": SUM
    | {
        "loaders": "train_loader = DataLoader(data, batch_size=8, shuffle=True, drop_last=True)",
        "epoch_end": "print(total / len(train_loader))",
    },
    "sums of samples": SUM
    | {
        "criterion": "criterion = nn.CrossEntropyLoss(reduction='sum')",
        "epoch_end": "print(total / len(train_loader.dataset))",
    },
    "an option that is not seen": SUM
    | {
        "criterion": "how = input()\ncriterion = nn.CrossEntropyLoss(reduction=how)",
        "epoch_end": "print(total / len(train_loader.dataset))",
    },
    "a loss of the user's own": SUM
    | {
        "criterion": "def criterion(a, b):\n    return (a - b[:, None]).abs().sum()",
        "epoch_end": "print(total / len(train_loader))",
    },
    "weighed by the batch's size": {
        "epoch_start": "total = 0.0",
        "batch": f"{STEP}total += loss.item() * len(x)",
        "epoch_end": "print(total / len(train_loader.dataset))",
    },
    "batches of one sample": SUM
    | {
        "loaders": "train_loader = DataLoader(data, shuffle=True)",
        "epoch_end": "print(total / len(train_loader))",
    },
}

FOUND = {
    "samples that were dropped": {
        "loaders": "train_loader = DataLoader(data, batch_size=8, shuffle=True, drop_last=True)",
        "epoch_start": "right = 0",
        "batch": f"{STEP}right += (model(x).argmax(1) == y).sum().item()",
        "epoch_end": "print(right / len(train_loader.dataset))  # <- LF425",
    },
    "divided by the number of batches": SUM | {"epoch_end": "print(total / len(train_loader))  # <- LF421"},
    "divided in place": SUM | {"epoch_end": "total /= len(train_loader)  # <- LF421\nprint(total)"},
    "divided by the number of samples": SUM | {"epoch_end": "print(total / len(train_loader.dataset))  # <- LF422"},
    "a function of torch": {
        "epoch_start": "total = 0.0",
        "batch": f"{STEP}total += F.cross_entropy(model(x), y).item()",
        "epoch_end": "print(total / len(train_loader.dataset))  # <- LF422",
    },
}


@pytest.mark.parametrize("parts", NOOP.values(), ids=NOOP)
def test_noop(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)


@pytest.mark.parametrize("parts", FOUND.values(), ids=FOUND)
def test_found(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)
