"""Writes `expected.py` and `report.json` of the fixtures anew, on purpose.

    python -m tests.regenerate_goldens                 # every case
    python -m tests.regenerate_goldens gan wgan        # some

Look at `git diff fixtures` afterwards: a golden changes only in the commit whose code changes it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from lightify.convert import Conversion, convert
from lightify.errors import SourceSpan
from lightify.settings import RuntimeName, Settings
from lightify.sources import read_source

FIXTURES = Path(__file__).parents[1] / "fixtures"
CASES = sorted(path.parent.name for path in FIXTURES.glob("*/input.py"))


def conversion(case: str, runtime: RuntimeName = "bundled") -> Conversion:
    source = read_source(str(FIXTURES / case / "input.py"))
    return convert(replace(source, path="input.py"), Settings(runtime=runtime))


def report(result: Conversion) -> dict[str, object]:
    """What a golden says about a conversion besides its text: the answer and every statement's fate, by line."""
    return {
        "mode": result.mode,
        "reasons": list(result.reasons),
        "fates": result.ledger.count(),
        "ledger": [
            " ".join(filter(None, (f"{_place(entry.span)}:", entry.fate.value, entry.target)))
            for entry in result.ledger.entries
        ],
        "findings": [str(finding) for finding in result.findings],
        "refusals": [str(refusal) for refusal in result.refusals],
    }


def _place(span: SourceSpan) -> str:
    return str(span.line) if span.path == "input.py" else f"{span.path}:{span.line}"


def report_text(result: Conversion) -> str:
    return json.dumps(report(result), indent=1, ensure_ascii=False) + "\n"


def regenerate(case: str) -> list[str]:
    """Returns the names of the files that changed."""
    result = conversion(case)
    texts = {"expected.py": result.text, "report.json": report_text(result)}
    changed = []
    for name, text in texts.items():
        path = FIXTURES / case / name
        before = path.read_text(encoding="utf-8") if path.exists() else None
        if text == before:
            continue
        changed.append(name)
        if text is None:
            path.unlink()
        else:
            path.write_text(text, encoding="utf-8")
    return changed


def main(cases: list[str]) -> None:
    for case in cases or CASES:
        print(f"{case}: {', '.join(regenerate(case)) or 'unchanged'}")


if __name__ == "__main__":
    main(sys.argv[1:])
