from __future__ import annotations

import pytest

from lightify.findings.references import RULES
from tests.findings.scripts import STEP, check, script

BETTER = "if loss.item() < best:\n    best = loss.item()\n    "
START = {"setup": "import copy\nbest, weights = 9.0, None"}

NOOP = {
    "a copy": START
    | {"epoch_end": f"{BETTER}weights = copy.deepcopy(model.state_dict())", "after": "model.load_state_dict(weights)"},
    "a copy of each tensor": START
    | {
        "epoch_end": f"{BETTER}weights = {{k: v.clone() for k, v in model.state_dict().items()}}",
        "after": "model.load_state_dict(weights)",
    },
    "saved at once": START | {"epoch_end": f"{BETTER}weights = model.state_dict()\n    torch.save(weights, 'best.pt')"},
    "each epoch's, taken over at once": {
        "setup": "target = Net()",
        "epoch_end": "weights = model.state_dict()\ntarget.load_state_dict(weights)",
    },
    "one of two networks": START
    | {
        "setup": START["setup"] + "\nother = Net()",
        "epoch_end": f"{BETTER}tested = model\nelse:\n    tested = other\nprint(tested(torch.ones(1, 4)))",
    },
    "after the training": {"after": "weights = model.state_dict()\ntorch.save(weights, 'last.pt')"},
}

FOUND = {
    "weights loaded at the end": START
    | {
        "epoch_end": f"{BETTER}weights = model.state_dict()  # <- LF463",
        "after": "model.load_state_dict(weights)",
    },
    "weights saved at the end": START
    | {"epoch_end": f"{BETTER}weights = model.state_dict()  # <- LF463", "after": "torch.save(weights, 'best.pt')"},
    "the network itself": START
    | {"epoch_end": f"{BETTER}best_model = model  # <- LF463", "after": "print(best_model(torch.ones(1, 4)))"},
    "restored within the epochs": START
    | {
        "epoch_end": f"{BETTER}weights = model.state_dict()  # <- LF463\nelse:\n    model.load_state_dict(weights)",
    },
    "best of the batches": START
    | {
        "batch": f"{STEP}if loss.item() < best:\n    weights = model.state_dict()  # <- LF463",
        "after": "model.load_state_dict(weights)",
    },
}


@pytest.mark.parametrize("parts", NOOP.values(), ids=NOOP)
def test_noop(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)


@pytest.mark.parametrize("parts", FOUND.values(), ids=FOUND)
def test_found(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)
