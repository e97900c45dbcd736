"""Parsed arguments that the module keeps as its hyperparameters: `self.hparams.lr`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import libcst as cst

from lightify.facts import Kind
from lightify.loops.nest import Nest
from lightify.plan.kinds import Kinds
from lightify.plan.types import Hook
from lightify.syntax.frames import Field, Frame, Item, Variable
from lightify.syntax.names import local_names
from lightify.syntax.parse import Tree
from lightify.syntax.query import children, dotted, is_constant, method_name, nodes_of, target_names

#: Calls that give numbers, texts and what else a copy can be made of.
_PLAIN = frozenset(
    """int float str bool len list tuple dict set sorted min max sum abs round range torch.device os.getpid os.getenv
    os.environ.get os.cpu_count time.time time.strftime random.randint random.random datetime.datetime.now
    torch.cuda.is_available torch.cuda.device_count torch.distributed.get_rank torch.distributed.get_world_size
    torch.backends.mps.is_available""".split()  # noqa: SIM905, a list of words
)
_PLAIN_METHODS = frozenset(
    """split rsplit join format strip rstrip lstrip lower upper replace get item tolist size strftime startswith
    endswith""".split()  # noqa: SIM905, a list of words
)
#: How often a name may stand for another one.
_MOST_NAMES = 3


def hyperparameters(nest: Nest, hooks: Sequence[Hook], only_read: Iterable[Variable], kinds: Kinds) -> Variable | None:
    """The parsed arguments, when the module only reads their fields and a copy tells the same all along.

    Args:
        only_read: what the hooks read and do not assign.
    """
    spaces = [v for v in only_read if kinds.of(v) is Kind.NAMESPACE and not isinstance(v, Field)]
    if len(spaces) != 1:
        return None
    space = spaces[0]
    for hook in hooks:
        for step in hook.steps:
            node, frame = (step.node, step.frame) if isinstance(step, Item) else (step.value, step.value_frame)
            if not _reads_fields_only(node, frame, space):
                return None
    if "FileType" in kinds.tree.names or _is_edited(space, nest, kinds) or not _can_be_copied(space, kinds):
        return None
    return space


def _is_edited(space: Variable, nest: Nest, kinds: Kinds) -> bool:
    """True when a function that stays, or one in the loop, assigns a field: the module's copy would not follow."""
    for path, node in _assigned_fields(space, kinds):
        around = list(kinds.tree.ancestors(node))
        if nest.host_loop in around:
            return True
        inside = next((a for a in around if isinstance(a, cst.FunctionDef)), None)
        if inside is not None and inside is not nest.host.function and path not in local_names(inside):
            return True
    return False


def _can_be_copied(space: Variable, kinds: Kinds) -> bool:
    """True where the script puts nothing but plain values among the arguments."""
    tree = kinds.tree
    for call in tree.nodes(cst.Call):
        about = bool(call.args) and dotted(call.args[0].value) == space.name
        if about and (dotted(call.func) == "setattr" or (dotted(call.func) == "vars" and _is_filled(call, tree))):
            return False
    for _, node in _assigned_fields(space, kinds):
        statement = tree.parents.get(node) if isinstance(node, cst.AssignTarget) else node
        value = getattr(statement, "value", None)
        if value is not None and not _is_plain(value, kinds):
            return False
    return True


def _is_filled(call: cst.Call, tree: Tree) -> bool:
    """True for `vars(args)["x"] = ...` and `vars(args).update(...)`."""
    parent = tree.parents.get(call)
    if isinstance(parent, cst.Subscript):
        return isinstance(tree.parents.get(parent), (cst.AssignTarget, cst.AugAssign))
    return isinstance(parent, cst.Attribute) and parent.attr.value in ("update", "setdefault")


def _assigned_fields(space: Variable, kinds: Kinds) -> Iterator[tuple[str, cst.CSTNode]]:
    """Where the script assigns or deletes fields of what may be the arguments: theirs, a global's, `self.args`'."""
    for node in kinds.tree.nodes(cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.Del):
        path, _, field = (dotted(node.target) or "").rpartition(".")  # type: ignore[attr-defined]
        own = path.rpartition(".")[2] == space.name or kinds.in_scope(path, None) is Kind.NAMESPACE
        if field and own:
            yield path, node


def _is_plain(value: cst.CSTNode, kinds: Kinds, names: int = 0) -> bool:
    """True for what is made of numbers, texts and fields."""
    if any(not _is_plain_call(call, kinds) for call in nodes_of(value, cst.Call)):
        return False
    if next(nodes_of(value, cst.Lambda, cst.GeneratorExp, cst.Await, cst.Yield), None) is not None:
        return False
    if isinstance(value, (cst.Tuple, cst.List, cst.Set)):
        return all(_is_plain(element.value, kinds, names) for element in value.elements)
    if isinstance(value, cst.IfExp):
        return _is_plain(value.body, kinds, names) and _is_plain(value.orelse, kinds, names)
    if not isinstance(value, cst.Name) or is_constant(value):
        return True
    given = [
        node.value
        for node in kinds.tree.nodes(cst.Assign)
        for target in node.targets
        if value.value in target_names(target.target)
    ]
    return names < _MOST_NAMES and bool(given) and all(_is_plain(one, kinds, names + 1) for one in given)


def _is_plain_call(call: cst.Call, kinds: Kinds) -> bool:
    full = kinds.tree.qualified(call.func) or dotted(call.func) or ""
    return full in _PLAIN or full.startswith("os.path.") or method_name(call) in _PLAIN_METHODS


def _reads_fields_only(node: cst.CSTNode, frame: Frame, space: Variable) -> bool:
    if isinstance(node, (cst.AssignTarget, cst.AugAssign, cst.AnnAssign, cst.Del)):
        target = node.target
        if isinstance(target, cst.Attribute) and not _reads_fields_only(target.value, frame, space):
            return False
    if isinstance(node, cst.Name):
        return frame.resolve(node.value) is not space
    if isinstance(node, cst.Attribute) and isinstance(node.value, cst.Name):
        return True
    return all(_reads_fields_only(child, frame, space) for child in children(node))
