from __future__ import annotations

import pytest

from lightify.findings.gradients import RULES
from tests.findings.scripts import check, script

NOOP = {
    "zeroed before the forward pass": {},
    "zeroed after the step": {
        "batch": "loss = criterion(model(x), y)\nloss.backward()\noptimizer.step()\noptimizer.zero_grad()"
    },
    "zeroed on the network": {
        "batch": "model.zero_grad()\nloss = criterion(model(x), y)\nloss.backward()\noptimizer.step()"
    },
    "zeroed by hand": {
        "batch": """
            for p in model.parameters():
                p.grad = None
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        """
    },
    "code that is not seen may zero them": {
        "setup": "import tools",
        "batch": "tools.clear(optimizer)\nloss = criterion(model(x), y)\nloss.backward()\noptimizer.step()",
    },
    "a function of the file zeroes them": {
        "setup": "def clear():\n    optimizer.zero_grad()",
        "batch": "clear()\nloss = criterion(model(x), y)\nloss.backward()\noptimizer.step()",
    },
    "accumulation of an average": {
        "batch": """
            loss = criterion(model(x), y) / 4
            loss.backward()
            if (i + 1) % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
        """
    },
    "accumulation of a scaled loss": {
        "batch": """
            loss = criterion(model(x), y)
            (loss / 4).backward()
            if (i + 1) % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
        """
    },
    "one step for each pass over the data": {
        "epoch_start": "optimizer.zero_grad()",
        "batch": "loss = criterion(model(x), y)\nloss.backward()",
        "epoch_end": "optimizer.step()",
    },
    "two optimizers, each in its turn": {
        "setup": "other = Net()\nother_optimizer = torch.optim.SGD(other.parameters(), lr=0.1)",
        "batch": """
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            other_optimizer.zero_grad()
            optimizer.step()
            if i % 5 == 0:
                other_loss = criterion(other(x), y)
                other_loss.backward()
                other_optimizer.step()
        """,
    },
    "stepped on a condition that counts nothing": {
        "batch": """
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            if torch.isfinite(loss):
                optimizer.step()
        """
    },
}

FOUND = {
    "accumulation of sums": {
        "batch": """
            loss = criterion(model(x), y)
            loss.backward()
            if (i + 1) % 4 == 0:
                optimizer.step()  # <- LF408
                optimizer.zero_grad()
        """
    },
    "never zeroed": {"batch": "loss = criterion(model(x), y)\nloss.backward()\noptimizer.step()  # <- LF401"},
    "never zeroed, in a function": {
        "setup": """
            def learn(net, opt, x, y):
                loss = criterion(net(x), y)
                loss.backward()
                opt.step()  # <- LF401
        """,
        "batch": "learn(model, optimizer, x, y)",
    },
    "zeroed for each epoch": {
        "epoch_start": "optimizer.zero_grad()  # <- LF402",
        "batch": "loss = criterion(model(x), y)\nloss.backward()\noptimizer.step()",
    },
    "zeroed before the loops": {
        "setup": "optimizer.zero_grad()  # <- LF402",
        "batch": "loss = criterion(model(x), y)\nloss.backward()\noptimizer.step()",
    },
    "zeroed between backward and step": {
        "batch": "loss = criterion(model(x), y)\nloss.backward()\noptimizer.zero_grad()  # <- LF403\noptimizer.step()"
    },
    "accumulation by name only": {
        "batch": """
            optimizer.zero_grad()  # <- LF404
            loss = criterion(model(x), y)
            loss.backward()
            if (i + 1) % 4 == 0:
                optimizer.step()
        """
    },
}


@pytest.mark.parametrize("parts", NOOP.values(), ids=NOOP)
def test_noop(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)


@pytest.mark.parametrize("parts", FOUND.values(), ids=FOUND)
def test_found(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)
