from __future__ import annotations

import pytest

from lightify.findings.outputs import RULES
from tests.findings.scripts import NETWORK, STEP, check, script

RETURN = "return self.two(torch.relu(self.one(x)))"


def ends(text: str) -> str:
    return NETWORK.replace(RETURN, text)


def step(loss: str) -> str:
    return STEP.replace("loss = criterion(model(x), y)", loss)


TWO_HEADS = NETWORK.replace(RETURN, "h = self.one(x)\n        return self.two(h), torch.softmax(self.two(h), 1)")

NOOP = {
    "raw scores": {},
    "log_softmax with nll_loss": {
        "network": ends(f"return F.log_softmax({RETURN[7:]}, dim=1)"),
        "criterion": "criterion = nn.NLLLoss()",
    },
    "sigmoid with BCELoss": {
        "network": ends(f"return torch.sigmoid({RETURN[7:]})"),
        "criterion": "criterion = nn.BCELoss()",
    },
    "raw scores with BCEWithLogitsLoss": {"criterion": "criterion = nn.BCEWithLogitsLoss()"},
    "softmax in one of two ways": {
        "network": ends(
            f"y = {RETURN[7:]}\n        if self.training:\n            return y\n        return F.softmax(y, 1)"
        ),
    },
    "softmax to read predictions": {"batch": f"{STEP}print(F.softmax(model(x), dim=1).argmax(1))"},
    "the raw one of two heads": {"network": TWO_HEADS, "batch": step("raw, soft = model(x)\nloss = criterion(raw, y)")},
    "a network that is not seen": {"network": "from nets import Net", "criterion": "criterion = nn.NLLLoss()"},
    "a loss that is not torch's": {
        "network": ends(f"return F.softmax({RETURN[7:]}, dim=1)"),
        "criterion": "from losses import CrossEntropyLoss\ncriterion = CrossEntropyLoss()",
    },
}

FOUND = {
    "softmax, then CrossEntropyLoss": {
        "network": ends(f"return F.softmax({RETURN[7:]}, dim=1)"),
        "batch": step("loss = criterion(model(x), y)  # <- LF430"),
    },
    "softmax layer at the end of a Sequential": {
        "network": NETWORK.replace(
            "self.two = nn.Linear(8, 2)", "self.two = nn.Sequential(nn.Linear(8, 2), nn.Softmax(1))"
        ),
        "batch": step("out = model(x)\nloss = criterion(out, y)  # <- LF430"),
    },
    "softmax in the call": {"batch": step("loss = F.cross_entropy(F.softmax(model(x), 1), y)  # <- LF430")},
    "the soft one of two heads": {
        "network": TWO_HEADS,
        "batch": step("raw, soft = model(x)\nloss = criterion(soft, y)  # <- LF430"),
    },
    "log_softmax, then CrossEntropyLoss": {
        "network": ends(f"return F.log_softmax({RETURN[7:]}, dim=1)"),
        "batch": step("loss = criterion(model(x), y)  # <- LF431"),
    },
    "softmax, then nll_loss": {
        "network": ends(f"return F.softmax({RETURN[7:]}, dim=1)"),
        "batch": step("loss = F.nll_loss(model(x), y)  # <- LF432"),
    },
    "raw scores, then nll_loss": {"batch": step("loss = F.nll_loss(model(x), y)  # <- LF432")},
    "raw scores, then BCELoss": {
        "criterion": "criterion = nn.BCELoss()",
        "batch": step("loss = criterion(model(x), y)  # <- LF433"),
    },
    "sigmoid, then BCEWithLogitsLoss": {
        "network": ends(f"return torch.sigmoid({RETURN[7:]})"),
        "criterion": "criterion = nn.BCEWithLogitsLoss()",
        "batch": step("loss = criterion(model(x).squeeze(1), y)  # <- LF434"),
    },
}


@pytest.mark.parametrize("parts", NOOP.values(), ids=NOOP)
def test_noop(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)


@pytest.mark.parametrize("parts", FOUND.values(), ids=FOUND)
def test_found(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)
