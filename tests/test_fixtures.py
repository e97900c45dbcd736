"""Golden files, three ways: the text is as expected, it runs, and it trains exactly as its source does.

`python -m tests.regenerate_goldens [case ...]` writes the goldens anew.
"""

from __future__ import annotations

import hashlib
import pickle
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest

import lightify.verify
from lightify.verify import Command, Outcome, Run, compare, run_traced
from tests.regenerate_goldens import CASES, FIXTURES, conversion, report_text

REFUSED = {case for case in CASES if (FIXTURES / case / "refusal.txt").exists()}
CONVERTED = [case for case in CASES if case not in REFUSED]
ON_LIGHTNING = (
    "accelerate_accumulation",
    "accelerate_metrics",
    "accumulate_clip",
    "best_model",
    "char_rnn",
    "classifier",
    "dcgan_reuse",
    "full_batch",
    "gan",
    "lbfgs",
    "loop_in_engine",
    "no_eval_mode",
    "plateau",
    "resume",
    "step_loop",
    "trainer_in_package",
)
VERIFY = Path(lightify.verify.__file__).parent
MOST_STEPS = 60
TIMEOUT_S = 120


@pytest.mark.parametrize("case", CASES)
def test_text_and_report_are_as_expected(case: str) -> None:
    result = conversion(case)
    assert result.text == golden(case, "expected.py")
    assert report_text(result) == golden(case, "report.json")


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_refusal_has_a_place_and_a_reason(case: str) -> None:
    result = conversion(case)
    assert result.text is None
    assert result.refusals
    for refusal in result.refusals:
        assert refusal.code and refusal.message and refusal.span is not None


@pytest.mark.slow
@pytest.mark.parametrize("case", CONVERTED)
def test_trains_as_its_source_does(case: str, traces: Path, python: str) -> None:
    expected = FIXTURES / case / "expected.py"
    if not expected.exists():
        pytest.skip("refused for now: " + conversion(case).refusals[0].message)
    source = source_run(case, traces, python)
    assert len(source.trace.steps) <= MOST_STEPS
    verdict = compare(source, run_traced(Command(expected, timeout_s=TIMEOUT_S, python=python)))
    assert verdict.outcome is Outcome.IDENTICAL, verdict.sentence


@pytest.mark.slow
@pytest.mark.lightning
@pytest.mark.parametrize("case", ON_LIGHTNING)
def test_trains_as_its_source_does_on_lightning(case: str, traces: Path, python: str, tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    result = conversion(case, runtime="lightning")
    if result.text is None:
        pytest.skip("refused for now: " + result.refusals[0].message)
    script = tmp_path / "train.py"
    script.write_text(result.text, encoding="utf-8")
    for file in siblings(case):
        copy = tmp_path / file.relative_to(FIXTURES / case)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    verdict = compare(source_run(case, traces, python), run_traced(Command(script, timeout_s=TIMEOUT_S, python=python)))
    assert verdict.outcome is Outcome.IDENTICAL, f"{verdict.sentence}\n{verdict.new.stderr_tail}"


def siblings(case: str) -> list[Path]:
    """The other files of a case's repository."""
    return sorted(path for path in (FIXTURES / case).rglob("*.py") if path.name not in ("input.py", "expected.py"))


def golden(case: str, name: str) -> str | None:
    path = FIXTURES / case / name
    return path.read_text(encoding="utf-8") if path.exists() else None


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a traced script gets a copy of the current folder


@pytest.fixture(scope="session")
def traces(request: pytest.FixtureRequest) -> Path:
    return Path(request.config.cache.mkdir("source_traces"))  # shared by the workers of a parallel run


def source_run(case: str, traces: Path, python: str) -> Run:
    """The run of a case's source, made once for each version of what it depends on."""
    script = FIXTURES / case / "input.py"
    key = hashlib.sha256(script.read_bytes())
    for file in (*siblings(case), *sorted(VERIFY.glob("*.py"))):
        key.update(file.read_bytes())
    key.update(f"{platform.python_version()} {version('torch')} {version('numpy')}".encode())
    kept = traces / f"{case}-{key.hexdigest()[:16]}.pickle"
    if kept.exists():
        return pickle.loads(kept.read_bytes())
    run = run_traced(Command(script, timeout_s=TIMEOUT_S, python=python))
    assert run.exit_code == 0, run.stderr_tail
    unfinished = kept.with_suffix(f".{id(run)}")
    unfinished.write_bytes(pickle.dumps(run))
    unfinished.replace(kept)
    return run
