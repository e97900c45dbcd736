from __future__ import annotations

import pytest

from lightify.findings.habits import RULES
from tests.findings.scripts import STEP, check, script

NOOP = {
    "seeded, nothing read": {},
    "a number read on a condition": {"batch": f"x = x.to('cuda')\n{STEP}if i % 100 == 0:\n    print(loss.item())"},
    "no device in sight": {"batch": f"{STEP}print(loss.item())"},
    "no device but the CPU": {"batch": f"x = x.to('cpu')\n{STEP}print(loss.item())"},
}

FOUND = {
    "a number read in each batch": {"batch": f"x = x.to('cuda')\n{STEP}print(loss.item())  # <- LF491"},
}


@pytest.mark.parametrize("parts", NOOP.values(), ids=NOOP)
def test_noop(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)


@pytest.mark.parametrize("parts", FOUND.values(), ids=FOUND)
def test_found(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)


def test_no_seed() -> None:
    text = script().replace("torch.manual_seed(0)\n", "").replace("range(3):", "range(3):  # <- LF490")
    check(text, RULES)
