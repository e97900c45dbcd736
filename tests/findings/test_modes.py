from __future__ import annotations

import pytest

from lightify.findings.modes import RULES
from tests.findings.scripts import MODAL_NETWORK, NETWORK, check, script

EVALUATE = """
with torch.no_grad():
    for a, b in val_loader:
        right = (model(a).argmax(1) == b).sum()
"""

NOOP = {
    "no evaluation": {"network": MODAL_NETWORK},
    "nothing in the network depends on the mode": {"epoch_end": EVALUATE},
    "eval and train around it": {
        "network": MODAL_NETWORK,
        "epoch_start": "model.train()",
        "epoch_end": f"model.eval()\n{EVALUATE}",
    },
    "train(False) is eval": {
        "network": MODAL_NETWORK,
        "epoch_start": "model.train(True)",
        "epoch_end": f"model.train(False)\n{EVALUATE}",
    },
    "eval after training only": {"network": MODAL_NETWORK, "after": f"model.eval()\n{EVALUATE}"},
    "a second pass over the data that trains": {
        "network": MODAL_NETWORK,
        "epoch_end": """
            for a, b in val_loader:
                optimizer.zero_grad()
                extra = criterion(model(a), b)
                extra.backward()
                optimizer.step()
        """,
    },
    "another network is frozen": {
        "network": MODAL_NETWORK,
        "setup": "teacher = Net()",
        "epoch_start": "teacher.eval()",
    },
    "eval in a loop of a network without modes": {"epoch_end": f"model.eval()\n{EVALUATE}"},
    "gradients are switched off around the call": {
        "setup": """
            def evaluate(net, loader):
                net.eval()
                for a, b in loader:
                    net(a)
        """,
        "epoch_end": "with torch.no_grad():\n    evaluate(model, val_loader)\nmodel.train()",
    },
    "gradients are switched off by a decorator": {
        "setup": """
            @torch.no_grad()
            def evaluate(net, loader):
                net.eval()
                for a, b in loader:
                    net(a)
        """,
        "epoch_end": "evaluate(model, val_loader)\nmodel.train()",
    },
    "functional dropout with a mode": {
        "network": NETWORK.replace("torch.relu(self.one(x))", "F.dropout(self.one(x), training=self.training)"),
        "epoch_end": "model.eval()\nmodel.train()",
    },
}

FOUND = {
    "never eval, dropout": {
        "network": MODAL_NETWORK,
        "epoch_end": EVALUATE.replace("val_loader:", "val_loader:  # <- LF410"),
    },
    "never eval, in a function": {
        "network": MODAL_NETWORK,
        "setup": """
            def evaluate(net, loader):
                with torch.no_grad():
                    for a, b in loader:  # <- LF410
                        net(a)
        """,
        "epoch_end": "evaluate(model, val_loader)",
    },
    "never eval, layers in a Sequential": {
        "network": "def Net():\n    pass",
        "setup": "model = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))",
        "epoch_end": EVALUATE,  # two bindings: silent
    },
    "never back to train": {
        "network": MODAL_NETWORK,
        "setup": "model.train()",
        "epoch_end": f"model.eval()  # <- LF411\n{EVALUATE}",
    },
    "never back to train, in a function": {
        "network": MODAL_NETWORK,
        "setup": """
            def evaluate(net, loader):
                net.eval()  # <- LF411
                with torch.no_grad():
                    for a, b in loader:
                        net(a)
        """,
        "epoch_end": "evaluate(model, val_loader)",
    },
    "evaluation builds graphs": {
        "epoch_end": """
            model.eval()
            for a, b in val_loader:  # <- LF412
                right = (model(a).argmax(1) == b).sum()
            model.train()
        """
    },
    "functional dropout without a mode": {
        "network": NETWORK.replace(
            "return self.two(torch.relu(self.one(x)))", "return self.two(F.dropout(self.one(x), 0.5))  # <- LF413"
        ),
        "epoch_end": "model.eval()\nmodel.train()",
    },
    "a dropout layer made in each call": {
        "network": NETWORK.replace(
            "return self.two(torch.relu(self.one(x)))", "return self.two(nn.Dropout(0.5)(self.one(x)))  # <- LF413"
        ),
        "epoch_end": "model.eval()\nmodel.train()",
    },
}


@pytest.mark.parametrize("parts", NOOP.values(), ids=NOOP)
def test_noop(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)


@pytest.mark.parametrize("parts", FOUND.values(), ids=FOUND)
def test_found(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)
