"""Which function a call runs, where it can be only one, and which class an object is of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain

import libcst as cst

from lightify.analysis.closures import closures
from lightify.analysis.rebound import binds_of, in_force, is_replaced
from lightify.syntax.frames import Field, Frame, Variable
from lightify.syntax.names import local_names, read_names, same_scope
from lightify.syntax.parse import Tree
from lightify.syntax.query import (
    MODULE_SELF,
    assigned_pairs,
    block,
    dotted,
    expression_of,
    is_docstring,
    made_by,
    method_call,
    small,
)


def class_of_object(
    receiver: cst.BaseExpression, tree: Tree, scope: cst.FunctionDef | None = None
) -> cst.ClassDef | None:
    """The file's class that an object is of, where only one comes into question."""
    found = classes_of_object(receiver, tree, scope)
    return found[0] if len(found) == 1 else None


def classes_of_object(
    receiver: cst.BaseExpression, tree: Tree, scope: cst.FunctionDef | None = None
) -> Sequence[cst.ClassDef]:
    """The file's classes that an object may be of: that of `self`, or those whose `Class(...)` its name is bound to.

    Args:
        scope: the function that the name belongs to, where the receiver itself stands nowhere in the tree.
    """
    if isinstance(receiver, cst.Call):
        made = tree.classes.get(dotted(receiver.func) or "")
        return (made,) if made is not None else ()
    if not isinstance(receiver, cst.Name):
        return ()
    name = receiver.value
    if name == "self":
        around = class_of(receiver, tree)
        return (around,) if around is not None else ()
    bound = _classes_of_names(tree).get(name, {})
    own = bound.get(scope or scope_of_name(receiver, tree))
    return tuple(dict.fromkeys(own or chain.from_iterable(bound.values())))


def scope_of_name(name: cst.Name, tree: Tree) -> cst.FunctionDef | None:
    """The function that a name belongs to; None for one of the module."""
    functions = (a for a in tree.ancestors(name) if isinstance(a, cst.FunctionDef))
    return next((function for function in functions if name.value in local_names(function)), None)


@lru_cache(maxsize=4)
def _classes_of_names(tree: Tree) -> Mapping[str, Mapping[cst.FunctionDef | None, list[cst.ClassDef]]]:
    """Names that are bound to `Class(...)` of the file, by the function that they belong to."""
    found: dict[str, dict[cst.FunctionDef | None, list[cst.ClassDef]]] = defaultdict(lambda: defaultdict(list))
    for node in tree.spans:
        for one in node.targets if isinstance(node, cst.Assign) else ():
            for target, value in assigned_pairs(one.target, node.value):  # type: ignore[attr-defined]
                made = made_by(value) if isinstance(target, cst.Name) else None  # type: ignore[arg-type]
                definition = tree.classes.get(dotted(made.func) or "") if made is not None else None
                if isinstance(target, cst.Name) and definition is not None:
                    found[target.value][scope_of_name(target, tree)].append(definition)
    return found


@lru_cache(maxsize=4096)
def _inner_functions(function: cst.FunctionDef) -> Mapping[str, cst.FunctionDef]:
    """The functions that a function defines for itself."""
    nodes = same_scope(block(function.body))
    return {node.name.value: node for node in nodes if isinstance(node, cst.FunctionDef)}


def nested_function(name: str, node: cst.CSTNode, tree: Tree) -> cst.FunctionDef | None:
    """The function of a name that is defined inside one of those around a node."""
    around = (a for a in tree.ancestors(node) if isinstance(a, cst.FunctionDef))
    return next((inner[name] for function in around if name in (inner := _inner_functions(function))), None)


def class_around(node: cst.CSTNode, tree: Tree) -> cst.ClassDef | None:
    """The class that a node stands in the body of, in no function."""
    for ancestor in tree.ancestors(node):
        if isinstance(ancestor, cst.ClassDef):
            return ancestor
        if isinstance(ancestor, cst.FunctionDef):
            return None
    return None


def _with_bases(definition: cst.ClassDef, tree: Tree) -> list[cst.ClassDef]:
    found, todo = [], [definition]
    while todo:
        current = todo.pop()
        if current in found:
            continue
        found.append(current)
        todo.extend(tree.classes[name] for base in current.bases if (name := dotted(base.value) or "") in tree.classes)
    return found


@lru_cache(maxsize=256)
def family_of(definition: cst.ClassDef, tree: Tree) -> tuple[cst.ClassDef, ...]:
    """The class that an object seen as `definition` is of, then its bases: its only heir where it is never made."""
    heirs = heirs_of(definition, tree)
    leaves = [heir for heir in heirs if not any(heir in _with_bases(other, tree)[1:] for other in heirs)]
    if len(leaves) == 1 and not _is_made(definition, tree):
        definition = leaves[0]
    return tuple(_with_bases(definition, tree))


@lru_cache(maxsize=256)
def heirs_of(definition: cst.ClassDef, tree: Tree) -> tuple[cst.ClassDef, ...]:
    """The classes that derive from a class, in whatever number of steps."""
    others = (one for one in dict.fromkeys(tree.classes.values()) if one is not definition)
    return tuple(one for one in others if definition in _with_bases(one, tree))


def _selves(definition: cst.ClassDef, tree: Tree) -> Sequence[cst.ClassDef]:
    """The classes that `self` may be of in a class's code: those of it and its heirs that are made."""
    every = (definition, *heirs_of(definition, tree))
    made = [one for one in every if _is_made(one, tree)]
    leaf = family_of(definition, tree)[0]
    return made or ([leaf] if leaf is not definition else every)


def _is_made(definition: cst.ClassDef, tree: Tree) -> bool:
    """True where a class is called, is kept, handed on or registered as a value, or may be looked up by its text."""
    if definition.decorators or not tree.names.isdisjoint(_LOOKED_UP):
        return True
    names = (name for name, one in tree.classes.items() if one is definition)
    return any(_is_value(node, tree) for name in names for node in tree.mentions.get(name, ()))


#: What finds classes by their names.
_LOOKED_UP = frozenset(("globals", "__subclasses__", "import_module"))


def _is_value(node: cst.Name, tree: Tree) -> bool:
    """True for the name of a class that is no base, in no import and no annotation, and asked for nothing itself."""
    parent = tree.parents[node]
    if isinstance(parent, cst.Arg) and node is parent.value:
        around = tree.parents[parent]
        asks = isinstance(around, cst.Call) and dotted(around.func) in ("super", "isinstance", "issubclass")
        return not asks and not isinstance(around, cst.ClassDef)
    if isinstance(parent, (cst.Attribute, cst.Arg)):
        return False
    told = isinstance(parent, (cst.ClassDef, cst.ImportAlias, cst.AsName))
    return not told and tree.around(node, cst.Annotation) is None


def callee(call: cst.Call, frame: Frame, tree: Tree) -> tuple[cst.FunctionDef, cst.BaseExpression | None] | None:
    """The function that a call runs and, for a method, the expression of its object."""
    if _is_of_self(call):
        found = _methods_of_self(call, frame, tree)
        return found[0] if len({one and one[0] for one in found}) == 1 else None
    if isinstance(call.func, cst.Name):
        meaning = frame.resolve(call.func.value)
        if not isinstance(meaning, Variable):
            return None
        closure = closures(tree).get((meaning.frame.function, meaning.name))
        if closure is not None:
            return closure.function, None
        if meaning.frame.is_module:
            if meaning.name not in tree.functions:
                return _called_object(meaning, call, tree)
            function = in_force(meaning.name, call if frame.is_module else None, tree)
            return (function, None) if function is not None else None
        owner = meaning.frame.function
        assert owner is not None
        binds = binds_of(meaning.name, owner)
        if any(isinstance(node, cst.FunctionDef) for node in binds):
            return (binds[0], None) if len(binds) == 1 else None  # type: ignore[return-value]
        return _called_object(meaning, call, tree)
    used = method_call(call)
    if used is None:
        return None
    receiver = used[0]
    if isinstance(receiver, cst.Name) and receiver.value != MODULE_SELF:
        meaning = frame.resolve(receiver.value)
        if isinstance(meaning, Variable) and meaning.frame.function is not None and meaning.name == "self":
            definition = class_around(meaning.frame.function, tree)
        elif isinstance(meaning, Field) or not isinstance(meaning, Variable):
            definition = class_of_object(receiver, tree)  # a field as its class writes it: its owner may have its name
        else:
            definition = class_of_object(cst.Name(meaning.name), tree, meaning.frame.function)
        return _kept_method(definition, used[1], receiver, tree)
    return None


def callees(call: cst.Call, frame: Frame, tree: Tree) -> list[cst.FunctionDef]:
    """The function that a call runs, or all methods that it may run of the classes that `self` may be of."""
    found = _methods_of_self(call, frame, tree) if _is_of_self(call) else [callee(call, frame, tree)]
    return list(dict.fromkeys(one[0] for one in found if one is not None))


def _is_of_self(call: cst.Call) -> bool:
    return isinstance(call.func, cst.Name) and call.func.value.startswith("self.")


def _methods_of_self(
    call: cst.Call, frame: Frame, tree: Tree
) -> list[tuple[cst.FunctionDef, cst.BaseExpression] | None]:
    """The method that code of a class calls on its own object, for each class that it may be of.

    `self` stands for an object of the caller's, or for that of the method in which the run starts.
    """
    definition, meaning = class_of(call, tree), frame.resolve("self")
    if definition is None:
        return [None]
    classes: Sequence[cst.ClassDef] = _selves(definition, tree)
    if isinstance(meaning, Variable) and meaning.name == "self" and (host := meaning.frame.function) is not None:
        classes = [one for one in classes if _runs(one, host, tree)] or classes
    elif isinstance(meaning, Variable) and not isinstance(meaning, Field):
        known = classes_of_object(cst.Name(meaning.name), tree, meaning.frame.function)
        classes = [one for one in known if definition in _with_bases(one, tree)] or classes
    found = [_kept_method(one, dotted(call.func)[5:], cst.Name("self"), tree) for one in classes]  # type: ignore[index]
    return [one for one in found if one is None or not _is_abstract(one[0])] or found


def _is_abstract(method: cst.FunctionDef) -> bool:
    """True for a method that is there to be overridden: it only raises, or is decorated to be abstract."""
    body = [node for node in block(method.body) if not is_docstring(node)]
    decorated = any((dotted(one.decorator) or "").endswith("abstractmethod") for one in method.decorators)
    return decorated or (len(body) == 1 and isinstance(small(body[0]), cst.Raise))


def _runs(definition: cst.ClassDef, method: cst.FunctionDef, tree: Tree) -> bool:
    """True where a method is run by objects of a class: it has no other of that name, or one that calls it."""
    found = method_of(definition, method.name.value, cst.Name("self"), tree)
    return found is None or found[0] is method or "super" in read_names(found[0])


def _kept_method(
    definition: cst.ClassDef | None, name: str, receiver: cst.BaseExpression, tree: Tree
) -> tuple[cst.FunctionDef, cst.BaseExpression] | None:
    """A method, where no field takes its place."""
    if definition is None or is_replaced(name, family_of(definition, tree), tree):
        return None
    return method_of(definition, name, receiver, tree)


def _called_object(meaning: Variable, call: cst.Call, tree: Tree) -> tuple[cst.FunctionDef, cst.BaseExpression] | None:
    """`__call__` of an object of the script's own class."""
    definition = class_of_object(cst.Name(meaning.name), tree, meaning.frame.function)
    return method_of(definition, "__call__", call.func, tree)


def method_of(
    definition: cst.ClassDef | None, name: str, receiver: cst.BaseExpression, tree: Tree
) -> tuple[cst.FunctionDef, cst.BaseExpression] | None:
    for candidate in family_of(definition, tree) if definition is not None else ():
        for statement in block(candidate.body):
            if isinstance(statement, cst.FunctionDef) and statement.name.value == name:
                return statement, receiver
    return None


def class_of(node: cst.CSTNode, tree: Tree) -> cst.ClassDef | None:
    """The innermost class around a node."""
    return tree.around(node, cst.ClassDef)


def called_statement(node: cst.BaseStatement) -> tuple[cst.Call, cst.BaseExpression | None] | None:
    """(call, target) of the statements `f(...)` and `target = f(...)`."""
    value = expression_of(node)
    if isinstance(value, cst.Call):
        return value, None
    inner = small(node)
    if isinstance(inner, cst.Assign) and isinstance(inner.value, cst.Call) and len(inner.targets) == 1:
        return inner.value, inner.targets[0].target
    return None
