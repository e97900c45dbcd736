from __future__ import annotations

import pytest

from lightify.findings.obsolete import RULES
from tests.findings.scripts import STEP, check, script

NOOP = {
    "all names bound": {},
    "a name bound further down": {"setup": "def show():\n    print(late)\nlate = 1"},
    "a name that a star import may bind": {"setup": "from tools import *", "epoch_end": "report()"},
    "a name that exec may bind": {"setup": "exec('rate = 1')", "epoch_end": "print(rate)"},
    "a Python 2 name in a test of the version": {
        "setup": "import sys\nif sys.version_info[0] < 3:\n    range = xrange"
    },
    "a Python 2 name in try": {"setup": "try:\n    text = unicode\nexcept NameError:\n    text = str"},
    "names of comprehensions, handlers and matches": {
        "setup": """
            try:
                values = {k: v for k, v in [(1, 2)]}
            except ValueError as error:
                print(error)
            match values:
                case {1: found, **rest}:
                    print(found, rest)
        """
    },
    "keywords and attributes are no names": {"setup": "print('a', end='')\nmodel.extra = 1\nprint(model.extra)"},
    "the elements of a list": {"setup": "losses = [torch.ones(2)]\nprint(losses[0], losses[0].data[0])"},
    "a method named next": {"setup": "class Reader:\n    def next(self):\n        return 1\nReader().next()"},
    "six": {"setup": "import six\nfor k, v in six.iteritems({}):\n    print(k, v)"},
    "weights only": {"after": "state = torch.load('net.pt')\nmodel.load_state_dict(state)"},
    "whole modules on purpose": {"after": "model = torch.load('net.pt', weights_only=False)"},
}

FOUND = {
    "a misspelt name": {"epoch_end": "print(lose)  # <- LF480"},
    "a Python 2 name": {"epoch_end": "for k in xrange(3):  # <- LF480\n    print(k)"},
    "reported once": {"epoch_end": "print(lose)  # <- LF480\nprint(lose)"},
    "loss.data[0]": {"batch": f"{STEP}print(loss.data[0])  # <- LF481"},
    "data[0] of a loss in a function": {
        "setup": """
            def evaluate(net, loader):
                total = 0
                for a, b in loader:
                    total += F.cross_entropy(net(a), b).data[0]  # <- LF481
                return total
        """
    },
    "iter(...).next()": {"setup": "images = iter(train_loader).next()  # <- LF481"},
    "an iterator's next()": {"setup": "batches = iter(train_loader)\nfirst = batches.next()  # <- LF481"},
    "dict.iteritems": {"setup": "for k, v in {}.iteritems():  # <- LF481\n    print(k, v)"},
    "transforms.Scale": {"setup": "from torchvision import transforms\ntransform = transforms.Scale(8)  # <- LF481"},
    "torchtext's fields": {"setup": "from torchtext import data as text\nfield = text.Field(lower=True)  # <- LF481"},
    "a removed module": {"setup": "from torch._six import string_classes  # <- LF481"},
    "np.float": {"setup": "import numpy as np\nkind = np.float  # <- LF481"},
    "a verbose schedule": {
        "setup": "scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, verbose=True)  # <- LF481",
        "epoch_end": "scheduler.step(loss)",
    },
    "a whole module loaded": {"after": "model = torch.load('net.pt')  # <- LF484\nmodel.eval()"},
    "volatile": {
        "setup": "from torch.autograd import Variable",
        "epoch_end": "print(model(Variable(torch.ones(1, 4), volatile=True)))  # <- LF485",
    },
}


@pytest.mark.parametrize("parts", NOOP.values(), ids=NOOP)
def test_noop(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)


@pytest.mark.parametrize("parts", FOUND.values(), ids=FOUND)
def test_found(parts: dict[str, str]) -> None:
    check(script(**parts), RULES)
