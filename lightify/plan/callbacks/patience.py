"""The epochs without a better metric that a script counts by hand, which EarlyStopping counts."""

from __future__ import annotations

import libcst as cst

from lightify.loops.nest import Nest
from lightify.plan.batches import in_host
from lightify.plan.callbacks.comparisons import Best
from lightify.plan.callbacks.starts import start_of
from lightify.plan.draft import Draft
from lightify.plan.logs.metrics import printed
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Field, Item, Step
from lightify.syntax.query import block, code, small, walk


def patience_of(draft: Draft, nest: Nest, found: Best, later: tuple[Step, ...]) -> tuple[str, cst.BaseStatement] | None:
    """`wait = 0` where it improved, else `wait += 1` and `if wait >= patience: break`: the patience, the reset."""
    frame, orelse = found.step.frame, found.node.orelse
    if later or not isinstance(orelse, cst.Else):
        return None
    lines = [line for line in block(orelse.body) if printed(line, frame, draft.kinds) is None]
    grows = small(lines[0]) if len(lines) == 2 else None
    end = lines[1] if len(lines) == 2 else None
    if not isinstance(grows, cst.AugAssign) or not isinstance(grows.operator, cst.AddAssign):
        return None
    if code(grows.value) != "1" or not isinstance(end, cst.If) or end.orelse is not None:
        return None
    wait, test = draft.kinds.variable(grows.target, frame), end.test
    leaving = [line for line in block(end.body) if printed(line, frame, draft.kinds) is None]
    if wait is None or isinstance(wait, Field) or len(leaving) != 1 or not isinstance(small(leaving[0]), cst.Break):
        return None
    if not isinstance(test, cst.Comparison) or len(test.comparisons) != 1:
        return None
    limit = test.comparisons[0].comparator
    if draft.kinds.variable(test.left, frame) is not wait:
        return None
    if not isinstance(test.comparisons[0].operator, (cst.GreaterThanEqual, cst.Equal)):
        return None
    resets = [line for line in found.kept if wait in usage([Item(line, frame)]).writes]
    reset = small(resets[0]) if len(resets) == 1 else None
    others = [one for one in (*nest.epoch_start, *nest.body, *nest.epoch_end) if one is not found.step]
    used = usage(others)
    if wait in used.reads | used.writes | draft.read_elsewhere() or start_of(draft, wait) != "0":
        return None
    if not isinstance(reset, cst.Assign) or code(reset.value) != "0" or len(reset.targets) != 1:
        return None
    whole = usage((*others, found.step)).writes
    host = in_host(draft, limit, frame)
    called = any(isinstance(part, cst.Call) for part in walk(limit))
    fixed = not called and not expression_usage(limit, frame).reads & whole
    if host is None or not fixed:
        return None
    if any(wait in usage([Item(line, frame)]).reads for line in block(found.node.body)):
        return None
    if isinstance(test.comparisons[0].operator, cst.Equal):  # which a count from 1 on never is to 0
        if code(host) == "0":
            return None
        if not isinstance(host, cst.Integer):
            draft.steps_away.append("a patience of 0 ends the training at the first epoch without improvement")
    return code(host), resets[0]
