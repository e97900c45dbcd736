"""The proof: runs two scripts under a tracer and says whether they trained identically."""

from lightify.verify.compare import Difference, Outcome, StepRow, Verdict, compare
from lightify.verify.run import Command, run_traced, run_traced_pair, verify
from lightify.verify.table import render, to_json
from lightify.verify.trace import Run, SourceLine, Trace

__all__ = [
    "Command",
    "Difference",
    "Outcome",
    "Run",
    "SourceLine",
    "StepRow",
    "Trace",
    "Verdict",
    "compare",
    "render",
    "run_traced",
    "run_traced_pair",
    "to_json",
    "verify",
]
