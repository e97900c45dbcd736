from __future__ import annotations

from importlib import import_module

import pytest

from lightify.upgrade.names import APART, MOVED, PACKAGES, PUBLIC, locate
from tests.upgrade.scripts import check, check_refused, check_same

SAME = {
    "today's": "import lightning.pytorch as pl\nfrom lightify.runtime.callbacks import Timer\n",
    "another package": "import pytorch_lightning_spells as pl\n",
}
ROWS = {
    "under a name": ("import pytorch_lightning as pl\n", "import {} as pl\n"),
    "under its own": ("import pytorch_lightning\n", "import {} as pytorch_lightning\n"),
    "names": (
        "from pytorch_lightning import Trainer, LightningModule as M\n",
        "from {} import Trainer, LightningModule as M\n",
    ),
    "from within": (
        "from pytorch_lightning.core.lightning import LightningModule\n",
        "from {} import LightningModule\n",
    ),
    "a subpackage": ("from pytorch_lightning import loggers as ll\n", "from {} import loggers as ll\n"),
    "one line, several places": (
        "# ours\nfrom pytorch_lightning.utilities import seed_everything, rank_zero_only  # two\n",
        "# ours\nfrom {0} import seed_everything\nfrom {0}.utilities.rank_zero import rank_zero_only  # two\n",
    ),
    "a class that is called otherwise": (
        "from pytorch_lightning.plugins import DDPPlugin\n\nplugin = DDPPlugin()\n",
        "from {}.strategies import DDPStrategy\n\nplugin = DDPStrategy()\n",
    ),
    "several lines": (
        "from pytorch_lightning.callbacks import (\n    Timer,  # time\n    EarlyStopping,\n)\n",
        "from {}.callbacks import (\n    Timer,  # time\n    EarlyStopping,\n)\n",
    ),
    "through the package": (
        "import pytorch_lightning as pl\n\nc = pl.callbacks.early_stopping.EarlyStopping()\n",
        "import {} as pl\n\nc = pl.callbacks.EarlyStopping()\n",
    ),
    "the command line": (
        "from pytorch_lightning.utilities.cli import LightningCLI\n",
        "from {}.cli import LightningCLI\n",
    ),
    "metrics": (
        "import pytorch_lightning.metrics.functional as F\nfrom pytorch_lightning.metrics import MeanSquaredError\n",
        "import torchmetrics.functional as F\nfrom torchmetrics import MeanSquaredError\n",
    ),
}
REFUSED = {
    "an unknown name": ("from pytorch_lightning.utilities import secrets\n", "`secrets`", "secrets"),
    "arguments of a parser": (
        "from pytorch_lightning import Trainer\ntrainer = Trainer.from_argparse_args(args)\n",
        "`Trainer.from_argparse_args` is gone",
        "from_argparse_args",
    ),
    "a metric that wants its task": (
        "from pytorch_lightning.metrics import Accuracy\nacc = Accuracy()\n",
        "has to know the task",
        "acc =",
    ),
}
PACKAGE = {"bundled": "lightify.runtime", "lightning": "lightning.pytorch"}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_stays(text: str) -> None:
    check_same(text)


@pytest.mark.parametrize("runtime", PACKAGE)
@pytest.mark.parametrize(("before", "after"), ROWS.values(), ids=ROWS)
def test_becomes(before: str, after: str, runtime: str) -> None:
    check(before, after.format(PACKAGE[runtime]), "imports", runtime=runtime)


@pytest.mark.parametrize(("text", "reason", "line"), REFUSED.values(), ids=REFUSED)
def test_is_refused(text: str, reason: str, line: str) -> None:
    check_refused(text, reason, line)


@pytest.mark.parametrize(
    "library",
    ["lightify.runtime", pytest.param("lightning.pytorch", marks=[pytest.mark.lightning, pytest.mark.slow])],
)
def test_every_name_is_where_the_table_says(library: str) -> None:
    bundled = library == "lightify.runtime"
    places = [(package, name) for package, names in PUBLIC.items() for name in names]
    places += [(where[0 if bundled else 1], name) for name, where in APART.items()]  # type: ignore[misc]
    places += [(target.rpartition(".")[0], target.rpartition(".")[2]) for target in MOVED.values()]
    missing = [
        f"{package}.{name}"
        for package, name in places
        if package is not None and not hasattr(import_module(f"{library}.{package}".rstrip(".")), name)
    ]
    assert missing == []
    for package in PACKAGES.values():
        import_module(f"{library}.{package}".rstrip("."))


def test_a_name_is_found_by_the_longest_old_path() -> None:
    assert locate("callbacks.progress.ProgressBar", True) == ("callbacks", "TQDMProgressBar", "")
    assert locate("Trainer.fit", True) == ("", "Trainer", "fit")
    assert locate("nothing.of.this", True) is None
