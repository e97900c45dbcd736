from __future__ import annotations

import pytest

from lightify.findings.schedules import RULES
from tests.findings.scripts import STEP, check, script

BUILT = {"setup": "scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)"}

LR = "torch.optim.lr_scheduler"
COSINE = {"setup": f"scheduler = {LR}.CosineAnnealingLR(optimizer, T_max=3)"}
ONE_CYCLE = {
    "setup": f"scheduler = {LR}.OneCycleLR(optimizer, 0.1, epochs=3, steps_per_epoch=len(train_loader))",
}
PLATEAU = {"setup": f"scheduler = {LR}.ReduceLROnPlateau(optimizer)\nval_acc = val_loss = 0.0"}

NOOP = {
    "as many epochs as there are": COSINE | {"epoch_end": "scheduler.step()"},
    "as many batches as there are": {
        "setup": f"scheduler = {LR}.CosineAnnealingLR(optimizer, 3 * len(train_loader))",
        "batch": f"{STEP}scheduler.step()",
    },
    "a cycle of all batches": ONE_CYCLE | {"batch": f"{STEP}scheduler.step()"},
    "a cycle of all batches, caught up after the epoch": ONE_CYCLE
    | {"epoch_end": "for _ in train_loader: scheduler.step()"},
    "a plateau of the loss": PLATEAU | {"epoch_end": "scheduler.step(val_loss)"},
    "a plateau of the accuracy": {
        "setup": f"scheduler = {LR}.ReduceLROnPlateau(optimizer, mode='max')\nval_acc = 0.0",
        "epoch_end": "scheduler.step(val_acc)",
    },
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
    "epochs taken for batches": COSINE | {"batch": f"{STEP}scheduler.step()  # <- LF452"},
    "batches taken for epochs": ONE_CYCLE | {"epoch_end": "scheduler.step()  # <- LF453"},
    "a minimum of the accuracy": PLATEAU | {"epoch_end": "scheduler.step(val_acc)  # <- LF454"},
    "a maximum of the loss": {
        "setup": f"scheduler = {LR}.ReduceLROnPlateau(optimizer, 'max')\nval_loss = 0.0",
        "epoch_end": "scheduler.step(val_loss)  # <- LF454",
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
