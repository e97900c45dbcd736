from __future__ import annotations

import pytest

from lightify.findings.losses import RULES
from tests.findings.scripts import STEP, check, script

GAN = {
    "setup": """
        critic = nn.Linear(4, 1)
        optimizer_d = torch.optim.SGD(critic.parameters(), lr=0.1)
    """,
}

NOOP = {
    "a number is summed": {"epoch_start": "total = 0.0", "batch": f"{STEP}total += loss.item()"},
    "a detached tensor is summed": {"epoch_start": "total = 0.0", "batch": f"{STEP}total += loss.detach()"},
    "the sum is started in each batch": {"batch": f"{STEP}total = 0.0\ntotal += loss"},
    "the sum gets the backward": {
        "batch": """
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss += model.one.weight.norm()
            loss.backward()
            optimizer.step()
        """
    },
    "a list of parts that is made in each batch": {
        "batch": """
            optimizer.zero_grad()
            parts = []
            loss = criterion(model(x), y)
            parts.append(loss)
            loss = sum(parts)
            loss.backward()
            optimizer.step()
        """
    },
    "summed without gradients": {
        "epoch_start": "total = 0.0",
        "batch": f"{STEP}with torch.no_grad():\n    total += loss",
    },
    "overwritten after it was read": {
        "batch": f"{STEP}print(loss.item())\nloss = criterion(model(x), y)\nprint(loss.item())"
    },
    "the second value is made of the first": {
        "batch": """
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss = loss + model.one.weight.norm()
            loss.backward()
            optimizer.step()
        """
    },
    "overwritten on a condition only": {
        "batch": """
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            if i > 3:
                loss = criterion(2 * model(x), y)
            loss.backward()
            optimizer.step()
        """
    },
    "the parts of a shown sum get their own backward": GAN
    | {
        "batch": f"""{STEP}
            optimizer_d.zero_grad()
            real_loss = critic(x).mean()
            real_loss.backward()
            d_loss = 2 * real_loss
            optimizer_d.step()
            print(d_loss.item())
        """.replace("            ", "")
    },
    "shown only, but nothing trains beside it": {"batch": f"{STEP}x_loss = F.l1_loss(x, x)\nprint(x_loss.item())"},
}

FOUND = {
    "the loss is summed": {"epoch_start": "total = 0.0", "batch": f"{STEP}total += loss  # <- LF420"},
    "the weighted loss is summed": {"epoch_start": "total = 0.0", "batch": f"{STEP}total += loss * len(x)  # <- LF420"},
    "the loss goes into a list": {"epoch_start": "history = []", "batch": f"{STEP}history.append(loss)  # <- LF420"},
    "overwritten": {
        "batch": """
            optimizer.zero_grad()
            loss = criterion(model(x), 1 - y)  # <- LF423
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        """
    },
    "both branches overwritten": {
        "batch": """
            optimizer.zero_grad()
            if epoch > 1:
                loss = criterion(model(x), 1 - y)
            else:
                loss = criterion(2 * model(x), y)  # <- LF423
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        """
    },
    "shown only": GAN
    | {
        "batch": f"""{STEP}
            optimizer_d.zero_grad()
            d_loss = critic(x).mean()  # <- LF424
            penalty = critic(x).norm()
            penalty.backward()
            optimizer_d.step()
            print(d_loss.item())
        """.replace("            ", "")
    },
}

IN_FUNCTION = """\
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(9, 4)), batch_size=3)

def train(net, batches):
    total = 0.0
    for (x,) in batches:
        optimizer.zero_grad()
        loss = net(x).mean()
        loss.backward()
        optimizer.step()
        total += loss  # <- LF420
    return total

for epoch in range(2):
    print(train(model, loader))
"""


@pytest.mark.parametrize("parts", NOOP.values(), ids=NOOP)
def test_noop(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)


@pytest.mark.parametrize("parts", FOUND.values(), ids=FOUND)
def test_found(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)


def test_found_in_a_function_that_runs_each_epoch() -> None:
    check(IN_FUNCTION, RULES)
