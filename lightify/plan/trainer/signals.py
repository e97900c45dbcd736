"""A handler of the script's own for SIGTERM, on which a Trainer would end the run."""

from __future__ import annotations

import libcst as cst

from lightify.plan.draft import Flatten
from lightify.syntax.parse import Tree, imported_names
from lightify.syntax.query import block, dotted


def handles_sigterm(tree: Tree) -> cst.Call | None:
    """The call that says what the script does on SIGTERM."""
    if "SIGTERM" not in tree.text:
        return None
    calls = (node for node in tree.nodes(cst.Call) if tree.qualified(node.func) == "signal.signal")
    return next((call for call in calls if call.args and (dotted(call.args[0].value) or "").endswith("SIGTERM")), None)


def own_sigterm(tree: Tree) -> str:
    """What the script calls the signal module, where it handles SIGTERM by it; else empty."""
    return _signal_module(tree) if handles_sigterm(tree) is not None else ""


def _signal_module(tree: Tree) -> str:
    names = imported_names(
        part for line in block(tree.module) if isinstance(line, cst.SimpleStatementLine) for part in line.body
    )
    return next((name for name, full in names.items() if full == "signal"), "")


def unreachable_sigterm(tree: Tree) -> Flatten | None:
    """A handler that the module has no name to set again by."""
    call = handles_sigterm(tree)
    if call is None or _signal_module(tree):
        return None
    return Flatten(
        "the script handles SIGTERM, on which a Trainer ends the run, and the module can't set the handler again",
        tree.span(call),
        "import signal at the top of the file",
    )
