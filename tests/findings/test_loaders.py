from __future__ import annotations

import pytest

from lightify.findings.loaders import RULES
from tests.findings.scripts import check, script

SAMPLED = """
from torch.utils.data.distributed import DistributedSampler
sampler = DistributedSampler(data, num_replicas=1, rank=0)
train_loader = DataLoader(data, batch_size=8, sampler=sampler)
"""

NOOP = {
    "training shuffled, validation not": {},
    "a sampler of its own": {
        "loaders": """
            order = torch.utils.data.RandomSampler(data)
            train_loader = DataLoader(data, batch_size=8, sampler=order)
        """
    },
    "order chosen on purpose": {"loaders": "train_loader = DataLoader(data, batch_size=8, shuffle=False)"},
    "options behind a star": {
        "loaders": "options = {'shuffle': True}\ntrain_loader = DataLoader(data, batch_size=8, **options)"
    },
    "a data set that may be iterable": {
        "loaders": "from sets import data\ntrain_loader = DataLoader(data, batch_size=8)"
    },
    "an evaluation loader that training reads": {
        "loaders": "test_loader = DataLoader(data, batch_size=8, shuffle=True)\ntrain_loader = test_loader"
    },
    "set_epoch is called": {"loaders": SAMPLED, "epoch_start": "sampler.set_epoch(epoch)"},
    "a sampler for evaluation": {
        "loaders": SAMPLED.replace("(data, num_replicas", "(data, shuffle=False, num_replicas"),
    },
    "a list of what is no loader": {"epoch_end": "print(len(list(range(3))))"},
}

FOUND = {
    "the last samples are not evaluated": {
        "loaders": """
            train_loader = DataLoader(data, batch_size=8, shuffle=True, drop_last=True)
            test_loader = DataLoader(data, batch_size=8, drop_last=True)  # <- LF444
        """
    },
    "validation shuffled": {
        "loaders": """
            train_loader = DataLoader(data, batch_size=8, shuffle=True)
            val_loader = DataLoader(data, batch_size=8, shuffle=True)  # <- LF440
        """
    },
    "test shuffled by position": {
        "loaders": """
            train_loader = DataLoader(data, 8, True)
            testloader_small = DataLoader(data, 8, True)
            test_loader = DataLoader(data, 8, True)  # <- LF440
        """
    },
    "training in order": {"loaders": "train_loader = DataLoader(data, batch_size=8)  # <- LF441"},
    "set_epoch is not called": {
        "loaders": SAMPLED.replace("rank=0)", "rank=0)  # <- LF442"),
    },
    "a pass to count batches": {"epoch_end": "print(len(list(train_loader)))  # <- LF443"},
}


def test_set_epoch_is_called_where_the_batches_are_in_a_function() -> None:
    text = script(loaders=SAMPLED, epoch_start="sampler.set_epoch(epoch)")
    head, body = text.split("for epoch in range(3):\n")
    start, batches = body.split("    for i, ")
    train = "def train():\n    for i, "
    check(f"{head}{train}{batches.rstrip()}\n\nfor epoch in range(3):\n{start}    train()\n", RULES)


@pytest.mark.parametrize("parts", NOOP.values(), ids=NOOP)
def test_noop(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)


@pytest.mark.parametrize("parts", FOUND.values(), ids=FOUND)
def test_found(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)
