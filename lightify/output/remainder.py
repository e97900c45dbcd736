"""The script around the runs: what stays, with a line where each class, each run and the import go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import libcst as cst

from lightify.ledger import Fate
from lightify.loops.runs import Loop
from lightify.output.elsewhere import with_code_from_elsewhere
from lightify.output.imports import drop_unused_imports
from lightify.output.unread import drop_unused_definitions
from lightify.plan.types import Plans
from lightify.settings import Settings
from lightify.syntax.comments import above, beginning, own, paragraph, section, texts, without_ends
from lightify.syntax.one_line import on_their_lines
from lightify.syntax.parse import Tree
from lightify.syntax.query import block, code, is_docstring, is_import, joined, map_children, negated, small, walk
from lightify.syntax.substitute import substitute

IMPORT_SLOT = "__lightify_import__"


def class_slot(number: int) -> str:
    return f"__lightify_class_{number}__"


def fit_slot(number: int) -> str:
    return f"__lightify_fit_{number}__"


def script_around(
    tree: Tree, plans: Plans, unbroken: Sequence[str], generated: Sequence[str], trainer: str, settings: Settings
) -> tuple[str, frozenset[cst.CSTNode]]:
    """Returns the text of what stays, and the imports and definitions that nothing uses any more.

    Args:
        unbroken: when the else of each run's loop runs; empty: always.
        generated: the code of the classes and runs, which uses imports, too.
        trainer: its name.
    """
    module, brought = with_code_from_elsewhere(tree, plans)
    adopted = frozenset(definition.name.value for definition in plans.adopted)  # type: ignore[attr-defined]
    spread = [plan.distributed for plan in plans.runs if plan.distributed is not None]
    answers = {name: f"{trainer}.{attribute}" for one in spread for attribute, name in one.asked.items()}
    answers |= {name: name for name in adopted}
    left = _Remainder(tree, plans, unbroken, module).change(module)
    script = substitute(left, lambda name: cst.parse_expression(answers[name]) if name in answers else None)
    assert isinstance(script, cst.Module)
    settled = settings.style == "idiomatic"
    lines, unused = "\n".join(generated), frozenset[cst.CSTNode]()
    if settled:
        script, unused = drop_unused_definitions(script, lines, tree)
    text, gone = drop_unused_imports(script, lines, tree, adopted, brought, settled=settled)
    return text, gone | unused


class _Remainder:
    """Takes what moved out of a script, and puts in where the new things go."""

    def __init__(self, tree: Tree, plans: Plans, unbroken: Sequence[str], module: cst.Module) -> None:
        self.plans = plans
        self.unbroken = unbroken
        self.module = module
        self.loops: dict[cst.CSTNode, int] = {plan.nest.host_loop: n for n, plan in enumerate(plans.runs)}
        self.edits = {node: new for plan in plans.runs for node, new in plan.host_edits.items()}
        fates = (pair for plan in plans.runs for pair in plan.fates.items())
        self.dropped = {node for node, note in fates if note.fate is Fate.DROPPED}
        self.unset: dict[cst.CSTNode, dict[str, None]] = defaultdict(dict)
        for plan in plans.runs:
            for node, names in plan.unset.items():
                self.unset[node].update(dict.fromkeys(names))
        self.tops = [_class_place(plan.nest.host_loop, module, tree) for plan in plans.runs]
        self.last_import = _last_import(module)

    def change(self, node: cst.CSTNode) -> cst.CSTNode:
        if isinstance(node, (cst.IndentedBlock, cst.Module)):
            return self._suite(node)
        if isinstance(node, (cst.BaseSmallStatement, cst.SimpleStatementLine, cst.BaseExpression)):
            return node
        changed = map_children(node, self.change)
        if isinstance(node, cst.If) and isinstance(changed, cst.If):
            changed = _without_removed(node, changed, self.plans.removed)
        return changed

    def _suite(self, node: cst.BaseSuite | cst.Module) -> cst.IndentedBlock | cst.Module:
        body: list[cst.BaseStatement] = []
        lost: set[str] = set()  # comments of statements that are gone
        heading: list[cst.EmptyLine] = []  # the comment above a section of the suite
        if self.last_import is None and node is self.module:
            body.append(_slot(IMPORT_SLOT))
        for number, statement in enumerate(block(node)):
            body.extend(_slot(class_slot(n)) for n, top in enumerate(self.tops) if statement is top)
            heading = section(statement) or heading
            previous, following = node.body[max(number - 1, 0) : number], block(node)[number + 1 : number + 2]
            if statement in self.plans.removed:
                shared = following and following[0] not in self.plans.removed and small(statement) in self.dropped
                about = paragraph(statement, following[0]) if shared else []
                heading = beginning(about or heading, previous)
                lost |= texts(own(statement)) if not about else set()
                body.extend(self._freed(statement))
                continue
            new: list[cst.BaseStatement] = [
                cst.parse_statement(f"{name} = None") for name in self.unset.get(statement, ())
            ]
            statement = self.edits.get(statement, statement)  # type: ignore[assignment]
            if statement in self.loops:
                new.extend(self._run(statement))  # type: ignore[arg-type]
            else:
                new.append(self.change(statement))  # type: ignore[arg-type]
            if heading and not section(statement):  # of a statement that is gone
                new[0] = new[0].with_changes(leading_lines=[*heading, *own(new[0])])
            heading = []
            if statement in self.plans.adopted:
                new[-1] = _apart(new[-1], following)
            if statement is self.last_import:
                new.append(_slot(IMPORT_SLOT))
            body.extend(new)
        if not body and isinstance(node, cst.IndentedBlock):
            body.append(cst.SimpleStatementLine([cst.Pass()]))
        lines = list(on_their_lines(body, block(node)))
        return without_ends(node.with_changes(body=lines), lost)  # type: ignore[arg-type]

    def _run(self, loop: Loop) -> list[cst.BaseStatement]:
        """What stands where the loop stood, its else included."""
        number = self.loops[loop]
        fit = _slot(fit_slot(number)).with_changes(leading_lines=list(loop.leading_lines))
        if loop.orelse is None:
            return [fit]
        suite, test = self._suite(loop.orelse.body), self.unbroken[number]
        return [fit, cst.If(cst.parse_expression(test), suite)] if test else [fit, *block(suite)]  # type: ignore[arg-type]

    def _freed(self, statement: cst.CSTNode) -> Sequence[cst.BaseStatement]:
        """What stays of a statement that is gone: the body of a `with` around a run's loop."""
        if not isinstance(statement, cst.With) or not any(node in self.loops for node in walk(statement)):
            return ()
        first, *rest = block(self._suite(statement.body))
        return [above(first, [*statement.leading_lines]), *rest]


def _apart(definition: cst.BaseStatement, following: Sequence[cst.BaseStatement]) -> cst.BaseStatement:
    """A definition with two blank lines after it."""
    lines = len(following[0].leading_lines) if following else 2  # type: ignore[attr-defined]
    body = definition.body  # type: ignore[attr-defined]
    blank = [cst.EmptyLine(indent=False)] * max(2 - lines, 0)
    return definition.with_changes(body=body.with_changes(footer=[*body.footer, *blank]))


def _without_removed(node: cst.If, changed: cst.If, removed: Collection[cst.CSTNode]) -> cst.If:
    """`if not a: ...` for `if a: pass else: ...`, once what stood under `a` is gone."""
    if node.orelse is not None and node.orelse in removed:
        changed = changed.with_changes(orelse=None)
    rest = changed.orelse
    if rest is None or not block(node.body) or not all(statement in removed for statement in block(node.body)):
        return changed
    if isinstance(rest, cst.Else):
        return changed.with_changes(test=cst.parse_expression(negated(node.test)), body=rest.body, orelse=None)
    if rest.orelse is not None:
        return changed
    test = joined([negated(node.test), code(rest.test)])
    return changed.with_changes(test=cst.parse_expression(test), body=rest.body, orelse=None)


def _last_import(module: cst.Module) -> cst.CSTNode | None:
    """The last import of the file's first group of imports."""
    last = None
    for node in module.body:
        if is_import(node):
            last = node
        elif not is_docstring(node):
            break
    return last


def _class_place(loop: Loop, module: cst.Module, tree: Tree) -> cst.CSTNode:
    """The top-level statement that the class goes before: the run's, or the first after the last definition."""
    body = list(module.body)
    around = [loop, *tree.ancestors(loop)]
    end = next(i for i, node in enumerate(body) if any(node is a for a in around))
    place = end
    for number in range(end):
        if isinstance(body[number], (cst.FunctionDef, cst.ClassDef)) or is_import(body[number]):
            place = number + 1
    while place < end and is_docstring(body[place]):
        place += 1
    return body[place] if place < len(body) else body[end]


def _slot(name: str) -> cst.SimpleStatementLine:
    return cst.SimpleStatementLine([cst.Expr(cst.Name(name))])
