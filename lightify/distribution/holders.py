"""Follows the wrapped network through the script: which names hold it, and what each use becomes without a wrapper."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial

import libcst as cst

from lightify.analysis.callers import callers
from lightify.analysis.calls import class_of_object
from lightify.distribution.edits import Edit, free_quote, merged, module_argument, stripping_prefix, with_argument
from lightify.distribution.mentions import Holder, Mentions
from lightify.distribution.order import Order, Place
from lightify.distribution.presence import asks_for_wrapper, decides_on_network_alone, known_wrapped, under_question
from lightify.distribution.renaming import renamed
from lightify.distribution.wrapping import Wrapping, names_of
from lightify.syntax.names import local_names, parameters
from lightify.syntax.parse import Tree
from lightify.syntax.query import code, dotted, method_call, walk

#: Methods and attributes that a network has the same with and without the wrapper; those that return it.
_SAME = {"parameters", "buffers", "modules", "zero_grad", "training", "forward"}
_ITSELF = {"train", "eval", "to", "cuda", "cpu", "float", "double", "half", "bfloat16", "requires_grad_", "apply"}
_SHOWING = {"print", "str", "repr", "id", "wandb.watch"}
_QUIET = {"state_dict", "load_state_dict", "parameters", "named_parameters", "train", "eval", "training", "modules"}


class Unclear(Exception):
    """A use of the wrapper that has no equal without it."""


@dataclass
class Holders:
    """What following found.

    Attributes:
        names: the names that hold the wrapper, with the function or class that owns them.
        inside: names that hold the network inside it.
        edits: what becomes of the uses.
        forwards, raw_forwards: calls of the wrapper, and of the network inside it.
    """

    tree: Tree
    wrapping: Wrapping
    names: dict[Holder, list[tuple[cst.FunctionDef | None, Place]]] = field(default_factory=lambda: defaultdict(list))
    edits: dict[cst.CSTNode, Edit] = field(default_factory=dict)
    inside: set[Holder] = field(default_factory=set)
    forwards: list[cst.Call] = field(default_factory=list)
    raw_forwards: list[cst.Call] = field(default_factory=list)
    values: set[cst.CSTNode] = field(default_factory=set)
    prefixed: list[tuple[Holder, cst.CSTNode]] = field(default_factory=list)
    fed: dict[Holder, set[cst.Call]] = field(default_factory=lambda: defaultdict(set))


def follow(tree: Tree, wrapping: Wrapping, *, prefixed: bool) -> Holders:
    """Follows the wrapper from where it is made.

    Args:
        prefixed: saved names keep the prefix that the wrapper gave them.

    Raises:
        Unclear: with the first use that is not understood.
    """
    return _Follower(tree, wrapping, prefixed).run()


class _Follower:
    def __init__(self, tree: Tree, wrapping: Wrapping, prefixed: bool) -> None:
        self.tree, self.found, self.prefixed = tree, Holders(tree, wrapping), prefixed
        self.calls = callers(tree)
        self.order = Order(tree, self.calls, wrapping.calls)
        self.called: dict[cst.Call, list[cst.FunctionDef]] = defaultdict(list)
        for function, sites in self.calls.items():
            for call in sites:
                self.called[call].append(function)
        self.mentions = Mentions(tree)
        self.all_calls = tree.nodes(cst.Call)
        self.todo: list[cst.CSTNode] = list(wrapping.calls)
        self.seen: set[Holder] = set()

    def run(self) -> Holders:
        for call in self.found.wrapping.calls:
            self.found.edits[call] = lambda new: new.args[module_argument(new)].value  # type: ignore[attr-defined]
        while self.todo or self.found.names.keys() - self.seen:
            if self.todo:
                self._value(self.todo.pop())
                continue
            holder = next(each for each in self.found.names if each not in self.seen)
            self.seen.add(holder)
            self._mentions_of(holder)
        for call in self.found.wrapping.calls:
            self._raw_name(call.args[module_argument(call)].value)
            self._rename(call)
        for holder, node in self.found.prefixed:
            self._check_prefix(holder, node)
        last_names = {name.rpartition(".")[2] for _, name in self.found.names}
        for node in self.mentions.of_field["module"]:
            name = (dotted(node.value) or "").rpartition(".")[2]
            if name in last_names and node not in self.found.edits and not under_question(node, self.tree):
                raise Unclear(f"`{code(node)}` may be of the wrapper")
        return self.found

    def _rename(self, call: cst.Call) -> None:
        statement = self.tree.around(call, cst.Assign)
        target = statement.targets[0].target if statement is not None else None
        inner = call.args[module_argument(call)].value
        if not isinstance(target, cst.Name) or not isinstance(inner, cst.Name) or "." in target.value:
            return
        if target.value != inner.value:
            owner = self.mentions.owner(target, target.value)
            mentions = self.mentions.of_name[target.value]
            nodes = [node for node in mentions if self.mentions.owner(node, target.value) is owner]
            self.found.edits.update(renamed(self.found.wrapping, nodes, self.tree))

    # -- where names are read -----------------------------------------------------------------------------------

    def _mentions_of(self, holder: Holder) -> None:
        owner, name = holder
        for node in self.mentions.of_name[name]:
            parent = self.tree.parents[node]
            if getattr(parent, "attr", None) is node or getattr(parent, "keyword", None) is node:
                continue
            if isinstance(parent, (cst.Param, cst.FunctionDef, cst.ImportAlias, cst.NameItem)) and not _is_default(
                parent, node
            ):
                continue
            reached = self.order.is_reached(node, self.found.names[holder])
            if self.mentions.owner(node, name) is not owner or not reached:
                continue
            if self.mentions.is_written(node):
                self._rebound(node)
            else:
                self._value(node, holder)

        if isinstance(owner, cst.ClassDef):
            for field_node in self.mentions.of_field[name.partition(".")[2]]:
                if class_of_object(field_node.value, self.tree) is owner and not self.mentions.is_written(field_node):
                    self._value(field_node, holder)

    def _rebound(self, node: cst.CSTNode) -> None:
        parent = self.tree.parents[node]
        statement = self.tree.parents.get(parent)
        if isinstance(statement, cst.Assign) and (
            statement.value in self.found.values or any(statement.value is call for call in self.found.wrapping.calls)
        ):
            return
        if isinstance(statement, cst.Assign) and _starts_from(statement.value, node):
            return  # seen as a use
        raise Unclear(f"`{code(node)}` is bound anew after it was wrapped")

    # -- what a use becomes -------------------------------------------------------------------------------------

    def _value(self, node: cst.CSTNode, holder: Holder | None = None) -> None:
        """Follows an expression whose value is the wrapper."""
        if node in self.found.values:
            return
        self.found.values.add(node)
        parent = self.tree.parents[node]
        if known_wrapped(node, self.found.wrapping, self.tree) is False or under_question(node, self.tree):
            return  # there is no wrapper here, or none any more
        if isinstance(parent, cst.Attribute):
            self._attribute(parent, holder)
        elif isinstance(parent, cst.Call):
            self.found.forwards.append(parent)
        elif isinstance(parent, cst.Arg):
            self._argument(parent)
        elif isinstance(parent, (cst.Assign, cst.AnnAssign)):
            targets = [t.target for t in parent.targets] if isinstance(parent, cst.Assign) else [parent.target]
            for target in targets:
                self._bind(target)
        elif isinstance(parent, cst.Return):
            self._returned(parent, None)
        elif isinstance(parent, cst.Element) and isinstance(self.tree.parents[parent], cst.Tuple):
            self._in_tuple(parent)
        elif isinstance(parent, cst.IfExp):
            if parent.test is not node:
                self.found.edits.setdefault(parent, merged)
                self._value(parent, holder)
        elif not isinstance(
            parent,
            (
                cst.Expr,
                cst.If,
                cst.Comparison,
                cst.ComparisonTarget,
                cst.UnaryOperation,
                cst.FormattedStringExpression,
                cst.Del,
            ),
        ):
            raise Unclear(f"`{code(parent).strip()[:60]}` needs the wrapper")

    def _attribute(self, node: cst.Attribute, holder: Holder | None) -> None:
        name, parent = node.attr.value, self.tree.parents[node]
        call = parent if isinstance(parent, cst.Call) and parent.func is node else None
        if name == "module":
            self.found.edits[node] = lambda new: new.value  # type: ignore[attr-defined]
            self._raw(node)
        elif name == "state_dict" and call is not None and not call.args:
            prefix = self._prefix(node, "module.", holder)
            if prefix:
                self.found.edits[call] = with_argument("prefix", prefix)
        elif name == "named_parameters" and call is not None and not call.args:
            prefix = self._prefix(node, "module", holder)
            if prefix:
                self.found.edits[call] = with_argument("prefix", prefix)
        elif name == "load_state_dict" and call is not None and call.args and not call.args[0].star:
            known = known_wrapped(node, self.found.wrapping, self.tree)
            if known is not False:
                condition = "" if known or not self._has_plain_wrapper() else self._condition_at(node)
                quote = free_quote(call, self.tree)
                self.found.edits[call] = partial(stripping_prefix, quote=quote, condition=condition)
        elif name in _ITSELF and call is not None:
            self._value(call, holder)
        elif name not in _SAME:
            raise Unclear(f"`{code(node)}` needs the wrapper")

    def _raw(self, node: cst.CSTNode) -> None:
        """Follows `model.module`: outside training it is as good as the network, inside it is not synchronised."""
        parent = self.tree.parents[node]
        if isinstance(parent, cst.Call) and parent.func is node:
            self.found.raw_forwards.append(parent)
        elif isinstance(parent, cst.Attribute) and parent.attr.value not in _QUIET:
            outer = self.tree.parents[parent]
            if isinstance(outer, cst.Call) and outer.func is parent:
                self.found.raw_forwards.append(outer)
        elif isinstance(parent, cst.IfExp) and parent.test is not node:
            self.found.edits.setdefault(parent, merged)
            self._raw(parent)
        elif isinstance(parent, cst.Arg):
            call = self.tree.parents[parent]
            if isinstance(call, cst.Call) and any(trains(function) for function in self.called.get(call, ())):
                self.found.raw_forwards.append(call)
        elif isinstance(parent, cst.Assign):
            for target in parent.targets:
                self._raw_name(target.target)

    def _raw_name(self, target: cst.BaseExpression) -> None:
        """Follows a name that holds the network inside the wrapper."""
        name = dotted(target)
        if name is None or name.count(".") > name.startswith("self."):
            return
        holder = (self.mentions.owner(target, name), name)
        if holder in self.found.names or holder in self.found.inside:
            return
        self.found.inside.add(holder)
        for mention in self.mentions.of_name[name]:
            if self.mentions.owner(mention, name) is not holder[0] or self.mentions.is_written(mention):
                continue
            elsewhere = self.tree.function_of(mention) is not self.tree.function_of(target)
            if elsewhere or self.order.place(mention) > self.order.place(target):
                self._raw(mention)

    def _argument(self, arg: cst.Arg) -> None:
        call = self.tree.parents[arg]
        name = dotted(call.func) if isinstance(call, cst.Call) else None
        if not isinstance(call, cst.Call) or arg.star:
            raise Unclear(f"`{code(arg)}` needs the wrapper")
        if name in _SHOWING or any(call is made for made in self.found.wrapping.calls):
            return
        if (
            name == "getattr"
            and code(call) == f"getattr({code(arg.value)}, {code(call.args[1].value)}, {code(arg.value)})"
        ):
            return
        if asks_for_wrapper(call, self.tree):
            if not decides_on_network_alone(call, self.tree):
                raise Unclear(f"`{code(call)}` decides about more than the network")
            return
        functions = list(self.called.get(call, ()))
        definition = self.tree.classes.get(name or "")
        if definition is not None:
            body = definition.body.body
            functions = [f for f in body if isinstance(f, cst.FunctionDef) and f.name.value == "__init__"]
        if not functions:
            raise Unclear(f"the wrapper is handed to `{name or code(call.func)}`")
        for function in functions:
            self._bind_parameter(function, call, arg)

    def _bind_parameter(self, function: cst.FunctionDef, call: cst.Call, arg: cst.Arg) -> None:
        params = parameters(function)
        parent = self.tree.around(function, cst.ClassDef, cst.FunctionDef)
        static = any(dotted(d.decorator) == "staticmethod" for d in function.decorators)
        if isinstance(parent, cst.ClassDef) and not static:
            params = params[1:]
        if arg.keyword is not None:
            name = arg.keyword.value
        else:
            index = [a for a in call.args if a.keyword is None].index(arg)
            if index >= len(params) or any(a.star for a in call.args):
                raise Unclear(f"the wrapper is handed to `{function.name.value}` behind a star")
            name = params[index].name.value
        holder = (function, name)
        self.found.fed[holder].add(call)
        self.found.names[holder].append((function, (0, 0)))

    def _bind(self, target: cst.BaseExpression) -> None:
        name = dotted(target)
        if name is None or name.count(".") > name.startswith("self."):
            raise Unclear(f"`{code(target)}` holds the wrapper")
        holder = (self.mentions.owner(target, name), name)
        self.found.names[holder].append((self.tree.function_of(target), self.order.place(target)))
        self.seen.discard(holder)

    def _in_tuple(self, element: cst.Element) -> None:
        around = self.tree.parents[element]
        assert isinstance(around, cst.Tuple)
        index, outer = around.elements.index(element), self.tree.parents[around]
        if isinstance(outer, cst.Return):
            self._returned(outer, index)
        elif isinstance(outer, cst.Assign) and len(outer.targets) == 1:
            self._bind(_element(outer.targets[0].target, index, code(around)))
        else:
            raise Unclear(f"`{code(around)}` holds the wrapper")

    def _returned(self, node: cst.Return, index: int | None) -> None:
        function = self.tree.function_of(node)
        for call in self.calls.get(function, ()) if function is not None else ():
            if index is None:
                self._value(call)
                continue
            parent = self.tree.parents[call]
            if not isinstance(parent, cst.Assign) or len(parent.targets) != 1:
                raise Unclear(f"the result of `{code(call.func)}` holds the wrapper")
            self._bind(_element(parent.targets[0].target, index, code(call)))

    # -- names of parameters ------------------------------------------------------------------------------------

    def _prefix(self, node: cst.CSTNode, text: str, holder: Holder | None) -> str:
        """The prefix that the wrapper put before the names, as an expression; empty where it put none."""
        known = known_wrapped(node, self.found.wrapping, self.tree)
        if known is False or not self.prefixed:
            return ""
        if holder is not None:
            self.found.prefixed.append((holder, node))
        condition = self.found.wrapping.condition
        quote = free_quote(node, self.tree)
        if known or condition is None:
            return f"{quote}{text}{quote}"
        return f"{quote}{text}{quote} if {self._condition_at(node)} else {quote}{quote}"

    def _condition_at(self, node: cst.CSTNode) -> str:
        """The condition of the wrapper as it can be asked at a node."""
        condition = self.found.wrapping.condition
        assert condition is not None
        function = self.found.wrapping.function
        here = self.tree.function_of(node) is function
        own = local_names(function) if function is not None else set()
        names = names_of(condition, self.tree)
        if not here and any(
            "." in name or name in own or self.mentions.owner(node, name) is not None for name in names
        ):
            raise Unclear(f"whether `{code(node)}` has a wrapper is not known there")
        return code(condition)

    def _has_plain_wrapper(self) -> bool:
        """True when DataParallel takes the wrapper's place at times, which keeps the prefix itself."""
        return any((self.tree.qualified(c.func) or "").endswith(".DataParallel") for c in self.all_calls)

    def _check_prefix(self, holder: Holder, node: cst.CSTNode) -> None:
        owner = holder[0]
        if not isinstance(owner, cst.FunctionDef) or holder not in self.found.fed:
            return
        if set(self.calls.get(owner, ())) - self.found.fed[holder]:
            raise Unclear(f"`{code(node)}` is of a wrapper in one call and of a plain network in another")


def _element(target: cst.BaseExpression, index: int, source: str) -> cst.BaseExpression:
    """The name that one value of several is given to."""
    if not isinstance(target, cst.Tuple) or index >= len(target.elements):
        raise Unclear(f"`{source}` holds the wrapper")
    return target.elements[index].value


def trains(function: cst.CSTNode) -> bool:
    """True for code that takes gradients."""
    return any(isinstance(node, cst.Attribute) and node.attr.value == "backward" for node in walk(function))


def _is_default(param: cst.CSTNode, node: cst.CSTNode) -> bool:
    return isinstance(param, cst.Param) and param.default is node


def _starts_from(value: cst.BaseExpression, target: cst.CSTNode) -> bool:
    """True for `model = model.to(...)`."""
    used = method_call(value)
    return used is not None and used[1] in _ITSELF and code(used[0]) == code(target)
