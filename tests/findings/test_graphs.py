from __future__ import annotations

import pytest

from lightify.findings.graphs import RULES
from tests.findings.scripts import check, script

TWO = {
    "setup": """
        class Maker(nn.Module):
            def __init__(self):
                super().__init__()
                self.one = nn.Linear(2, 8)
                self.two = nn.Linear(8, 4)

            def forward(self, z):
                return self.two(torch.relu(self.one(z)))

        maker = Maker()
        maker_optimizer = torch.optim.SGD(maker.parameters(), lr=0.1)
    """
}
START = """
z = torch.randn(len(x), 2)
fake = maker(z)
maker_optimizer.zero_grad()
g_loss = model(fake).mean()
g_loss.backward(retain_graph=True)
maker_optimizer.step()
optimizer.zero_grad()
"""

RECURRENT = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(4, 8)
        self.two = nn.Linear(8, 2)

    def forward(self, x, hidden):
        hidden = self.cell(x, hidden)
        return self.two(hidden), hidden
"""
RECURRENT_STEP = """
optimizer.zero_grad()
out, hidden = model(x, hidden)
loss = criterion(out, y)
loss.backward()
optimizer.step()
"""

NOOP = {
    "one network": {},
    "detached before the second backward": TWO
    | {"batch": f"{START}d_loss = model(fake.detach()).mean()\nd_loss.backward()\noptimizer.step()"},
    "made again after the step": TWO
    | {"batch": f"{START}fake = maker(z)\nd_loss = model(fake).mean()\nd_loss.backward()\noptimizer.step()"},
    "only its shape is used": TWO
    | {"batch": f"{START}d_loss = model(torch.ones(fake.size(0), 4)).mean()\nd_loss.backward()\noptimizer.step()"},
    "both backward passes before the steps": TWO
    | {
        "batch": """
            fake = maker(torch.randn(len(x), 2))
            g_loss = model(fake).mean()
            g_loss.backward(retain_graph=True)
            d_loss = -model(fake).mean()
            d_loss.backward()
            maker_optimizer.step()
            optimizer.step()
            optimizer.zero_grad()
            maker_optimizer.zero_grad()
        """
    },
    "rebound on a condition": TWO
    | {"batch": f"{START}if len(x):\n    fake = x\nd_loss = model(fake).mean()\nd_loss.backward()\noptimizer.step()"},
    "a new state for each batch": {"network": RECURRENT, "batch": f"hidden = torch.zeros(len(x), 8){RECURRENT_STEP}"},
    "the state is detached": {
        "network": RECURRENT,
        "epoch_start": "hidden = torch.zeros(8, 8)",
        "batch": f"hidden = hidden.detach(){RECURRENT_STEP}",
    },
    "the state is detached in the call": {
        "network": RECURRENT,
        "epoch_start": "hidden = torch.zeros(8, 8)",
        "batch": RECURRENT_STEP.replace("model(x, hidden)", "model(x, hidden.detach())"),
    },
    "the network detaches": {
        "network": RECURRENT.replace("self.cell(x, hidden)", "self.cell(x, hidden.detach())"),
        "epoch_start": "hidden = torch.zeros(8, 8)",
        "batch": RECURRENT_STEP,
    },
    "a function detaches": {
        "network": RECURRENT,
        "setup": "def cut(h):\n    return h.detach()",
        "epoch_start": "hidden = torch.zeros(8, 8)",
        "batch": f"hidden = cut(hidden){RECURRENT_STEP}",
    },
}

FOUND = {
    "a step between the forward pass and its backward": TWO
    | {"batch": f"{START}d_loss = model(fake).mean()\nd_loss.backward()  # <- LF482\noptimizer.step()"},
    "through a sum of losses": TWO
    | {
        "batch": f"{START}real = model(x).mean()\nd_loss = real - model(fake).mean()\nd_loss.backward()  # <- LF482\noptimizer.step()"
    },
    "state without detach": {
        "network": RECURRENT,
        "epoch_start": "hidden = torch.zeros(8, 8)",
        "batch": RECURRENT_STEP.replace("model(x, hidden)", "model(x, hidden)  # <- LF483"),
    },
}


@pytest.mark.parametrize("parts", NOOP.values(), ids=NOOP)
def test_noop(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)


@pytest.mark.parametrize("parts", FOUND.values(), ids=FOUND)
def test_found(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)


@pytest.mark.parametrize("parts", NOOP.values(), ids=NOOP)
def test_the_silent_ones_run(parts: dict[str, str]) -> None:
    run(script(**parts))


@pytest.mark.parametrize("parts", FOUND.values(), ids=FOUND)
def test_the_found_ones_do_not_run(parts: dict[str, str]) -> None:
    with pytest.raises(
        RuntimeError, match=r"modified by an inplace operation|backward through the graph a second time"
    ):
        run(script(**parts))


def run(text: str) -> None:
    text = text.replace("torch.randn(30, 4), torch.randint(2, (30,))", "torch.randn(32, 4), torch.randint(2, (32,))")
    exec(compile(text, "train.py", "exec"), {"__name__": "__main__"})
