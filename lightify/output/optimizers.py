"""Optimizers and schedulers in the module: the method that makes them, and the lines by which a hook asks for them."""

from __future__ import annotations

from collections.abc import Callable

import libcst as cst

from lightify.plan.types import Attribute, Computed, Hook, Local, Made, Plan, Scheduled
from lightify.syntax.comments import own
from lightify.syntax.frames import Item, Variable, live_nodes
from lightify.syntax.parse import Tree


def configure_optimizers(
    plan: Plan, expression: Callable[[cst.CSTNode], cst.BaseExpression]
) -> list[cst.BaseStatement]:
    """The body of `configure_optimizers`.

    Args:
        expression: says in the module what the host says.
    """
    if not plan.optimizers:
        return [cst.parse_statement("return None")]
    if len(plan.optimizers) == 1 and not plan.schedulers:
        made = plan.optimizers[0]
        moved = made.moved and made.value is not None
        value = expression(made.value) if moved else cst.parse_expression(_text(made, plan))  # type: ignore[arg-type]
        return [_moved(made, cst.Return(value))]
    lines: list[cst.BaseStatement] = []
    for made in (*plan.optimizers, *(one.made for one in plan.schedulers)):
        if made.moved and made.value is not None:
            target = cst.AssignTarget(cst.Name(made.variable.name))
            lines.append(_moved(made, cst.Assign([target], expression(made.value))))
    optimizers = ", ".join(_text(made, plan) for made in plan.optimizers)
    schedulers = ", ".join(_scheduler_text(one, plan) for one in plan.schedulers)
    result = f"[{optimizers}], [{schedulers}]" if schedulers else f"[{optimizers}]"
    return [*lines, cst.parse_statement(f"return {result}")]


def fetch(tree: Tree, plan: Plan, hook: Hook, mentioned: set[Variable]) -> tuple[dict[Variable, str], list[str]]:
    """What a hook takes from the Trainer: optimizers and schedulers by their names in it, and the lines that do so.

    Args:
        mentioned: what the hook reads or assigns.
    """
    names, lines = _optimizers(tree, plan, hook, mentioned)
    schedulers = {one.made.variable: one.made.variable.name for one in plan.schedulers}
    homes = (plan.homes.get(variable) for variable in mentioned)
    taken = {*names.values(), *(home.name for home in homes if isinstance(home, Local))}
    if len(schedulers) < 2 or not mentioned.issuperset(schedulers) or taken & set(schedulers.values()):
        return names, lines  # one of them is asked for where it is used
    return {**names, **schedulers}, [*lines, f"{', '.join(schedulers.values())} = self.lr_schedulers()"]


def _optimizers(tree: Tree, plan: Plan, hook: Hook, mentioned: set[Variable]) -> tuple[dict[Variable, str], list[str]]:
    made = plan.optimizers
    stepped = [(number, one) for number, one in enumerate(made) if one.variable in mentioned and not one.field]
    if "optimizer" in hook.parameters:  # handed over
        return {one.variable: "optimizer" for _, one in stepped}, []
    given = {one.variable for one in made}
    locals_ = {home.name for v in mentioned - given if isinstance(home := plan.homes.get(v), Local)}
    wanted = []
    for number, one in stepped:
        plain = _only_stepped(tree, one.variable, hook)
        if one.moved or (plain and hook.name == "training_step" and _own_name(one, plan) not in locals_):
            wanted.append((number, one, plain))
    if not wanted:
        return {}, []
    names = {one.variable: _own_name(one, plan) for _, one, _ in wanted}
    raw = "" if all(plain for _, _, plain in wanted) and not plan.steps_raw else "use_pl_optimizer=False"
    if len(wanted) == len(made):
        return names, [f"{', '.join(names.values())} = self.optimizers({raw})"]
    return names, [f"{names[one.variable]} = self.optimizers({raw})[{number}]" for number, one, _ in wanted]


def _own_name(made: Made, plan: Plan) -> str:
    """What a hook calls an optimizer: as the module does, where it is handed over."""
    home = plan.homes[made.variable]
    return home.name if isinstance(home, Attribute) else made.variable.name


def _only_stepped(tree: Tree, variable: Variable, hook: Hook) -> bool:
    """True where a hook does with an optimizer what the Trainer's own wrapper of it does, too."""
    for step in hook.steps:
        if not isinstance(step, Item):
            continue
        for node in live_nodes(step.node, step.frame):
            if not (isinstance(node, cst.Name) and step.frame.meaning(node.value) is variable):
                continue
            parent = tree.parents.get(node)
            if not (isinstance(parent, cst.Attribute) and parent.attr.value in ("step", "zero_grad", "param_groups")):
                return False
    return True


def _text(made: Made, plan: Plan) -> str:
    home = plan.homes[made.variable]
    if isinstance(home, Computed) and made.field:
        return f"{home.text}.{made.field}"
    name = f"self.{home.path}" if not made.moved and isinstance(home, Attribute) else made.variable.name
    return f"{name}.{made.field}" if made.field else name


def _scheduler_text(one: Scheduled, plan: Plan) -> str:
    """`scheduler`, or the dictionary that says when and by what the Trainer steps it."""
    name = _text(one.made, plan)
    if one.monitor:
        return f'{{"scheduler": {name}, "monitor": "{one.monitor}"}}'
    return f'{{"scheduler": {name}, "interval": "step"}}' if one.interval == "step" else name


def _moved(made: Made, statement: cst.BaseSmallStatement) -> cst.SimpleStatementLine:
    """A statement of configure_optimizers with the comments of the one that it stands for."""
    if not made.moved or made.statement is None:
        return cst.SimpleStatementLine([statement])
    return made.statement.with_changes(body=[statement], leading_lines=own(made.statement))  # type: ignore[return-value]
