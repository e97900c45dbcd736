"""What every test may rely on, whatever started pytest."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lightify.verify import Outcome, verify
from tests.warm import warm_python

# The models are so small that threads do nothing but wait for one another, the more so as tests run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A job started in the background by a shell inherits an ignored Ctrl-C, and so would every process a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_process_group_outlives_its_test() -> Iterator[None]:
    """A Trainer leaves its group, and where to find it, to the next one; a script started by a later test must not meet it."""
    before = {name: os.environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT")}
    yield
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(scope="session")
def python() -> Iterator[str]:
    """An interpreter that need not import torch again for each script."""
    with tempfile.TemporaryDirectory() as folder, warm_python(Path(folder)) as command:
        yield command


@pytest.fixture
def trains_identically(
    python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str | None], None]:
    """Asserts that a source and what it was converted to train alike, bit for bit."""

    def run_both(old: str, new: str | None) -> None:
        assert new is not None, "it was refused"
        (tmp_path / "old.py").write_text(old, encoding="utf-8")
        (tmp_path / "new.py").write_text(new, encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        verdict = verify(tmp_path / "old.py", tmp_path / "new.py", timeout_s=200, python=python)
        assert verdict.outcome is Outcome.IDENTICAL, f"{verdict.sentence}\n{verdict.new.stderr_tail}"

    return run_both
