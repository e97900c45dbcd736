from __future__ import annotations

import pytest

from lightify.findings.statements import RULES
from tests.findings.scripts import STEP, check, script

NOOP = {
    "called": {},
    "a network moves in place": {
        "setup": "device = torch.device('cpu')\nmodel.to(device)\nmodel.eval()\nmodel.train()"
    },
    "a batch that is assigned": {"batch": f"x = x.to('cpu')\n{STEP}"},
    "a method that is handed on": {"setup": "import atexit\natexit.register(model.eval)"},
    "an object that may move in place": {"loaders": "from sets import train_loader", "batch": f"x.to('cpu')\n{STEP}"},
    "detached in place": {"batch": f"{STEP}loss.detach_()"},
}

FOUND = {
    "step without parentheses": {
        "batch": """
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            model.eval  # <- LF470
        """
    },
    "zero_grad without parentheses": {"batch": f"optimizer.zero_grad  # <- LF470\n{STEP}"},
    "a batch that stays where it is": {"batch": f"x.to('cpu')  # <- LF471\n{STEP}"},
    "no_grad as a statement": {"epoch_end": "torch.no_grad()  # <- LF471"},
    "detach as a statement": {"batch": f"{STEP}loss.detach()  # <- LF471"},
}


@pytest.mark.parametrize("parts", NOOP.values(), ids=NOOP)
def test_noop(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)


@pytest.mark.parametrize("parts", FOUND.values(), ids=FOUND)
def test_found(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)
