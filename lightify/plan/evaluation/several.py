"""Several passes of one evaluation: one step for all of their loaders.

Passes that do the same become one body that keeps what it counts in a list, an entry for each loader; others stand
under `if dataloader_idx == 0:` and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import libcst as cst

from lightify.analysis.passing import named_in_all
from lightify.ledger import Fate
from lightify.loops.condition import guarded
from lightify.plan.batches import batch_parts
from lightify.plan.counters import batch_names
from lightify.plan.draft import Draft
from lightify.plan.evaluation.ending import Evaluation, Turn
from lightify.plan.logs.metrics import log_call, log_name
from lightify.plan.types import FateNote, Local
from lightify.syntax.flow import usage
from lightify.syntax.frames import Binding, Expression, Frame, Item, Step, Variable
from lightify.syntax.names import bound_by, bound_names
from lightify.syntax.query import assigned_pairs, code, small, walk
from lightify.syntax.substitute import substitute

INDEX = "dataloader_idx"


def in_one_step(draft: Draft, found: Evaluation) -> Evaluation:
    """The evaluation with one body for the batches of all loaders."""
    draft.forced[draft.generated.variable(INDEX)] = Local(INDEX)
    found = found.with_bodies(lambda turn: tuple(_told_apart(step, found.turns) for step in turn.body))
    return _shared(draft, found) or _branched(draft, found)


def _told_apart(step: Step, turns: Sequence[Turn]) -> Step:
    """A log under its plain name, where no other loader logs under it."""
    call = log_call(step.node) if isinstance(step, Item) else None
    if call is None or not isinstance(step, Item):
        return step
    bodies = (turn.body for turn in turns)
    named = [{log_name(one) for s in body if isinstance(s, Item) and (one := log_call(s.node))} for body in bodies]
    if sum(log_name(call) in names for names in named) > 1:
        return step
    plain = cst.Arg(cst.Name("False"), keyword=cst.Name("add_dataloader_idx"), equal=_TIGHT)
    return _with_call(step, call.with_changes(args=[*call.args, plain]))


_TIGHT = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))


def _with_call(step: Item, call: cst.Call) -> Item:
    return Item(step.node.with_changes(body=[cst.Expr(call)]), step.frame)  # type: ignore[call-arg]


# -- bodies that differ -------------------------------------------------------------------------------------------


def _branched(draft: Draft, found: Evaluation) -> Evaluation:
    steps: list[Step] = []
    for turn in found.others:
        for name in _passing(found, turn):
            turn.frame.stand_for(name, found.frame.variable(name))
    for number, turn in enumerate(found.turns):
        first = _batch_names(draft, turn, found)
        named = [step for step in first if not _is_batch(draft, step)]
        test = cst.parse_expression(f"{INDEX} == {number}")
        steps += guarded([*named, *turn.body], (test, draft.generated), draft.nest.module)
    return replace(found, body=tuple(steps))


def _passing(found: Evaluation, turn: Turn) -> list[str]:
    """Names that both a pass and the first one have for a batch alone: one name will do."""
    others = usage((*found.before, *found.after, *found.rest))

    def passing(one: Turn) -> set[str]:
        own = usage([Item(one.loop, one.frame)])
        kept = usage(one.body).exposed - set(batch_parts(one.head, one.frame)) | others.reads | others.writes
        return {v.name for v in own.writes - kept if v.frame is one.frame}

    return sorted(passing(found.turns[0]) & passing(turn)) if turn.frame is not found.frame else []


def _batch_names(draft: Draft, turn: Turn, found: Evaluation) -> list[Step]:
    """What the head of a loop binds, as statements of its own frame."""
    later = (*found.after, *found.rest)
    names = batch_names(draft, turn.head, turn.frame, turn.loop, turn.body, later)
    return [_statement(step, draft) for step in names]


def _statement(step: Step, draft: Draft) -> Step:
    if not isinstance(step, Binding):
        return step
    value = named_in_all(step.value, step.value_frame, draft.nest.module)
    assign = cst.Assign([cst.AssignTarget(step.target)], value)  # type: ignore[arg-type]
    return Item(cst.SimpleStatementLine([assign]), step.target_frame)


def _is_batch(draft: Draft, step: Step) -> bool:
    """True for `batch = batch`."""
    inner = small(step.node) if isinstance(step, Item) else None
    target = inner.targets[0].target if isinstance(inner, cst.Assign) else None
    if not isinstance(target, cst.Name) or target.value != "batch" or not isinstance(step, Item):
        return False
    draft.forced[step.frame.variable("batch")] = Local("batch")
    return True


# -- bodies that do the same --------------------------------------------------------------------------------------


def _shared(draft: Draft, found: Evaluation) -> Evaluation | None:
    """One body, with a list for what each pass keeps; None when the passes differ."""
    first, *others = found.turns
    body = _one_body(draft, found.turns)
    if body is None or INDEX in draft.tree.names:
        return None
    kept = _kept(found)
    starts = _starts(draft, found, kept) if kept is not None else None
    if kept is None or starts is None or not _may_index(draft, found, kept):
        return None
    names = kept.keys()
    index = named_in_all(cst.Name(INDEX), draft.generated, draft.nest.module)
    step = [_indexed(draft, one, {first.frame: index}, names) for one in body]
    numbers = {turn.frame: cst.Integer(str(number)) for number, turn in enumerate(found.turns)}
    after = tuple(_indexed(draft, one, numbers, names) for one in found.after)
    for turn in others:
        for part in turn.body:
            if isinstance(part, Item) and part.node not in draft.fates:
                draft.fates[part.node] = FateNote(Fate.MOVED, "validation_step")
        for name in (*names, *_ended(found, turn, kept)):
            turn.frame.stand_for(name, first.frame.variable(name))
    heads = batch_names(draft, first.head, first.frame, first.loop, first.body, (*found.after, *found.rest))
    return replace(found, before=starts, body=(*heads, *step), after=after)


def _ended(found: Evaluation, turn: Turn, kept: Mapping[str, object]) -> list[str]:
    """Names of a pass that its end assigns for itself: the end of another pass may have used them before."""
    own = [s for s in found.after if (s.frame if isinstance(s, Item) else s.value_frame) is turn.frame]
    done = usage(own)
    fresh = sorted({v.name for v in done.writes - done.exposed if v.frame is turn.frame} - kept.keys())
    return [name for name in fresh if found.turns[0].frame.variable(name).frame is found.turns[0].frame]


def _one_body(draft: Draft, turns: Sequence[Turn]) -> list[Step] | None:
    """The body that all passes share, but for the names that they log under."""
    first, *others = turns
    body = list(first.body)
    for turn in others:
        heads = [[code(part) if part is not None else "" for part in _head(one)] for one in (first, turn)]
        if heads[0] != heads[1] or len(turn.body) != len(body) or turn.frame is first.frame:
            return None
    for number, step in enumerate(body):
        same = [turn.body[number] for turn in turns]
        if not all(isinstance(one, Item) for one in same):
            return None
        calls = [log_call(one.node) for one in same if isinstance(one, Item)]
        if all(call is not None for call in calls):
            assert isinstance(step, Item)
            named = [cst.Element(call.args[0].value) for call in calls if call is not None]
            plain = [call.with_changes(args=[cst.Arg(cst.Name("x")), *call.args[1:]]) for call in calls if call]
            if not all(one.deep_equals(plain[0]) for one in plain):
                return None
            if any(not one.deep_equals(named[0]) for one in named):
                index = named_in_all(cst.Name(INDEX), draft.generated, draft.nest.module)
                given = calls[0].args  # type: ignore[union-attr]
                name = cst.Subscript(cst.Tuple(named), [cst.SubscriptElement(cst.Index(index))])
                call = calls[0].with_changes(args=[given[0].with_changes(value=name), *given[1:]])  # type: ignore[union-attr]
                body[number] = _with_call(step, call)
        elif not all(one.node.deep_equals(step.node) for one in same):  # type: ignore[union-attr]
            return None
    return body


def _head(turn: Turn) -> tuple[cst.CSTNode | None, ...]:
    return turn.head.element, turn.head.index, turn.head.start


def _kept(found: Evaluation) -> dict[str, list[Variable]] | None:
    """What each pass keeps for itself, by its name; None when their names mean different things."""
    frames = [turn.frame for turn in found.turns]
    nodes: list[cst.CSTNode] = [step.node for step in found.body if isinstance(step, Item)]
    nodes += [part for part in (found.head.element, found.head.index) if part is not None]
    names = {node.value for part in nodes for node in walk(part) if isinstance(node, cst.Name)}
    start, end = usage(found.before), usage((*found.after, *found.rest))
    outside = start.reads | start.writes | end.exposed
    kept: dict[str, list[Variable]] = {}
    for name in sorted(names):
        meanings = [frame.resolve(name) for frame in frames]
        if all(_is_same(meanings[0], one) for one in meanings):
            continue
        own = [one for one, frame in zip(meanings, frames) if isinstance(one, Variable) and one.frame is frame]
        if len(own) < len(frames):
            return None
        if any(one in outside for one in own):
            kept[name] = own
    return kept


def _is_same(one: Variable | Expression, other: Variable | Expression) -> bool:
    if isinstance(one, Expression) and isinstance(other, Expression):
        if not one.node.deep_equals(other.node):
            return False
        names = [node.value for node in walk(one.node) if isinstance(node, cst.Name)]
        return all(_is_same(one.frame.resolve(name), other.frame.resolve(name)) for name in names)
    return one is other


def _starts(draft: Draft, found: Evaluation, kept: Mapping[str, Sequence[Variable]]) -> tuple[Step, ...] | None:
    """The steps before the passes, with a list for what each of them keeps."""
    variables = [{own[number] for own in kept.values()} for number in range(len(found.turns))]
    if usage(found.before).reads & set().union(*variables):
        return None
    own = [[step for step in found.before if usage([step]).writes & mine] for mine in variables]
    if any(len(steps) != len(own[0]) for steps in own):
        return None
    new: dict[Step, Sequence[Step]] = {step: [] for steps in own for step in steps}
    started: set[str] = set()
    for same in zip(*own):
        lines = _lists(draft, same, kept)
        if lines is None:
            return None
        new[same[0]] = lines
        started.update(name for line in lines for name in bound_names([line.node]))
    if started != kept.keys():
        return None
    for step in new:
        if isinstance(step, Item) and small(step.node) is not None:
            draft.fates.setdefault(small(step.node), FateNote(Fate.MOVED, "on_validation_epoch_start"))  # type: ignore[arg-type]
    return tuple(one for step in found.before for one in new.get(step, [step]))


def _lists(draft: Draft, same: Sequence[Step], kept: Mapping[str, object]) -> list[Item] | None:
    """`right = [0, 0]` for two steps `right = 0`."""
    pairs = [list(_assigned(step)) for step in same]
    result: list[Item] = []
    for number, (target, _) in enumerate(pairs[0]):
        if any(len(one) != len(pairs[0]) or not one[number][0].deep_equals(target) for one in pairs):
            return None
        if not isinstance(target, cst.Name) or target.value not in kept:
            return None
        values = [named_in_all(one[number][1], _frame(step), draft.nest.module) for one, step in zip(pairs, same)]  # type: ignore[arg-type]
        assign = cst.Assign([cst.AssignTarget(target)], cst.List([cst.Element(value) for value in values]))
        step = same[0]
        if isinstance(step, Item):
            draft.stripped.origins[assign] = small(step.node)  # type: ignore[assignment]
        leading = step.node.leading_lines if isinstance(step, Item) and not result else ()  # type: ignore[attr-defined]
        frame = step.frame if isinstance(step, Item) else step.target_frame
        result.append(Item(cst.SimpleStatementLine([assign], leading_lines=leading), frame))
    return result or None


def _assigned(step: Step) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
    if isinstance(step, Binding):
        yield from assigned_pairs(step.target, step.value)
        return
    inner = small(step.node)
    for target in inner.targets if isinstance(inner, cst.Assign) else ():
        yield from assigned_pairs(target.target, inner.value)  # type: ignore[union-attr]


def _frame(step: Step) -> Frame:
    return step.frame if isinstance(step, Item) else step.value_frame


def _may_index(draft: Draft, found: Evaluation, kept: Mapping[str, Sequence[Variable]]) -> bool:
    """True when the entry of a list can take each place of the names."""
    own = {variable for variables in kept.values() for variable in variables}
    if usage(draft.nest.epoch_end).reads & own:
        return False
    frames = [turn.frame for turn in found.turns]
    for step in (*found.body, *found.after):
        parts = [(step.node, step.frame)] if isinstance(step, Item) else _sides(step)
        for part, frame in parts:
            for node in walk(part):
                if isinstance(node, (cst.Global, cst.Nonlocal, cst.FunctionDef, cst.ClassDef)):
                    return False
                assigned = isinstance(node, (cst.AssignTarget, cst.AugAssign, cst.AnnAssign))
                if not assigned and any(name in kept for name in bound_by(node)):
                    return False
                if isinstance(node, cst.Name) and (node.value not in kept or frame not in frames):
                    meaning = frame.resolve(node.value)
                    if meaning in own:
                        return False  # under another name
    return True


def _sides(step: Binding) -> list[tuple[cst.BaseStatement | cst.BaseExpression, Frame]]:
    return [(step.target, step.target_frame), (step.value, step.value_frame)]


def _indexed(draft: Draft, step: Step, by: Mapping[Frame, cst.BaseExpression], names: object) -> Step:
    """A step with the entry of a list for each name that the passes keep."""

    def entry(name: str, index: cst.BaseExpression) -> cst.BaseExpression | None:
        if name not in names:  # type: ignore[operator]
            return None
        return cst.Subscript(cst.Name(name), [cst.SubscriptElement(cst.Index(index))])

    def put(node: cst.CSTNode, frame: Frame) -> cst.CSTNode:
        return substitute(node, lambda name: entry(name, by[frame])) if frame in by else node

    if isinstance(step, Binding):
        target, value = put(step.target, step.target_frame), put(step.value, step.value_frame)
        return replace(step, target=target, value=value)  # type: ignore[arg-type]
    new = put(step.node, step.frame)
    for made, old in zip(_statements(new), _statements(step.node)):
        if made is not old:
            draft.stripped.origins[made] = old
    return Item(new, step.frame)  # type: ignore[arg-type]


def _statements(node: cst.CSTNode) -> list[cst.CSTNode]:
    kinds = (cst.BaseSmallStatement, cst.BaseCompoundStatement, cst.SimpleStatementLine)
    return [part for part in walk(node) if isinstance(part, kinds)]
