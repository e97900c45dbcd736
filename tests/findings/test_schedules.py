from __future__ import annotations

import pytest

from lightify.findings.schedules import RULES
from tests.findings.scripts import STEP, check, script

BUILT = {"setup": "scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)"}

NOOP = {
    "no schedule": {},
    "stepped after the epoch": BUILT | {"epoch_end": "scheduler.step()"},
    "stepped after the optimizer": BUILT | {"batch": f"{STEP}scheduler.step()"},
    "the epoch is given": BUILT | {"epoch_start": "scheduler.step(epoch)"},
    "stepped in a function": BUILT
    | {"setup": BUILT["setup"] + "\ndef close_epoch(s):\n    s.step()", "epoch_end": "close_epoch(scheduler)"},
    "handed on": {
        "setup": """
            from torch.optim.lr_scheduler import LinearLR, SequentialLR, StepLR
            first = LinearLR(optimizer)
            second = StepLR(optimizer, 2)
            scheduler = SequentialLR(optimizer, [first, second], [2])
        """,
        "epoch_end": "scheduler.step()",
    },
}

FOUND = {
    "stepped before the epoch": BUILT | {"epoch_start": "scheduler.step()  # <- LF450"},
    "stepped before the optimizer": BUILT
    | {
        "batch": """
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            scheduler.step()  # <- LF450
            optimizer.step()
        """
    },
    "never stepped": {"setup": BUILT["setup"] + "  # <- LF451"},
    "read but never stepped": {"setup": BUILT["setup"] + "  # <- LF451", "epoch_end": "print(scheduler.get_last_lr())"},
}


@pytest.mark.parametrize("parts", NOOP.values(), ids=NOOP)
def test_noop(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)


@pytest.mark.parametrize("parts", FOUND.values(), ids=FOUND)
def test_found(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)
