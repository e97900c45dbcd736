"""What costs time or hides differences: no seed, a wait for the device in each batch."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from lightify.errors import Diagnostic
from lightify.findings.base import Rule
from lightify.findings.script import Script
from lightify.syntax.query import arguments, method_call

NO_SEED = Rule(
    "LF490",
    "note",
    "no seed is set: two runs of the original differ from each other",
    "kept as it is; `lightify verify` seeds both sides; L.seed_everything(...) fixes a run",
)
WAITS = Rule(
    "LF491",
    "note",
    "each batch waits here until the device has computed the value",
    "kept as it is; self.log keeps tensors and reads them only when they are shown",
)
RULES = (NO_SEED, WAITS)


def find(script: Script) -> Iterator[Diagnostic]:
    """Accepts any call with seed in its name as a seed; `.item()` counts only where it runs in every batch."""
    if not any("seed" in name.lower() for name in script.call_names):
        yield NO_SEED.at(script, script.nest.host_loop)
    if not script.called("cuda") and not any(
        node.value.strip("'\"").startswith(("cuda", "mps")) for node in script.nodes(cst.SimpleString)
    ):
        return
    straight = set(script.straight)
    for call in script.calls("item"):
        used = method_call(call)
        if (
            used is not None
            and not len(arguments(call))
            and script.statement(call) in straight
            and not isinstance(used[0], cst.Subscript)
        ):
            yield WAITS.at(script, call)
            return
