from __future__ import annotations

import pytest

from lightify.findings.registration import RULES
from tests.findings.scripts import NETWORK, check, script

LAYERS = "self.layers = [nn.Linear(4, 4) for _ in range(2)]"


def with_line(line: str, more: str = "") -> str:
    return NETWORK.replace("self.two = nn.Linear(8, 2)", f"self.two = nn.Linear(8, 2)\n        {line}\n        {more}")


NOOP = {
    "layers as attributes": {},
    "a ModuleList": {"network": with_line("self.layers = nn.ModuleList([nn.Linear(4, 4)])")},
    "a list made into a Sequential": {"network": with_line(LAYERS, "self.all = nn.Sequential(*self.layers)")},
    "registered one by one": {
        "network": with_line(LAYERS, "for i, l in enumerate(self.layers): self.add_module(str(i), l)")
    },
    "a list of layers without weights": {"network": with_line("self.layers = [nn.ReLU(), nn.Tanh()]")},
    "a list outside a network": {"setup": "layers = [nn.Linear(4, 4)]"},
    "a layer of weights made in __init__": {"network": with_line("self.mean = nn.AvgPool1d(2)(torch.ones(1, 1, 4))")},
    "a parameter": {"network": with_line("self.scale = nn.Parameter(torch.ones(2).double())")},
    "a parameter that is used": {"network": with_line("self.start = nn.Parameter(torch.ones(2)).sum().item()")},
    "replaced before the optimizer": {
        "optimizer": "model.two = nn.Linear(8, 2)\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)"
    },
    "wrapped after the optimizer": {"setup": "model = nn.DataParallel(model)"},
    "the optimizer is built again": {"setup": "model = Net()\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)"},
}

FOUND = {
    "layers in a list": {"network": with_line(f"{LAYERS}  # <- LF460")},
    "layers in a dict": {"network": with_line("self.heads = {'a': nn.Linear(8, 2)}  # <- LF460")},
    "a layer made in each forward pass": {
        "network": NETWORK.replace("self.one(x)))", "nn.Linear(4, 8)(x)))  # <- LF461")
    },
    "a parameter that moves": {"network": with_line("self.scale = nn.Parameter(torch.ones(2)).to('cpu')  # <- LF464")},
    "a layer replaced after the optimizer": {"setup": "model.two = nn.Linear(8, 2)  # <- LF462"},
    "the network replaced after the optimizer": {"setup": "model = Net()  # <- LF462"},
}


@pytest.mark.parametrize("parts", NOOP.values(), ids=NOOP)
def test_noop(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)


@pytest.mark.parametrize("parts", FOUND.values(), ids=FOUND)
def test_found(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)
