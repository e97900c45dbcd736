"""Statements that move into a hook: exits of the loop become the hook's, backward calls the Trainer's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import libcst as cst

from lightify.analysis.caught import catches
from lightify.plan.effects import only_computes
from lightify.plan.types import Attribute, Computed, Home, Hook, Plan
from lightify.plan.unbound import asked_by
from lightify.syntax.frames import Frame, Variable, constant
from lightify.syntax.names import local_names
from lightify.syntax.parse import Tree
from lightify.syntax.query import (
    MODULE_SELF,
    FieldName,
    atom,
    block,
    dotted,
    map_children,
    method_call,
    module_attribute,
    small,
)
from lightify.syntax.substitute import substitute


class Restructure:
    """Rewrites statements of one frame for one hook."""

    def __init__(self, tree: Tree, plan: Plan, frame: Frame, hook: Hook) -> None:
        self.tree = tree
        self.plan = plan
        self.frame = frame
        self.hook = hook
        self.sites = set(plan.nest.sites) - plan.backwards_of_others

    def statement(self, node: cst.CSTNode, own: bool = True) -> list[cst.CSTNode]:
        """Drops removed statements, turns exits of the loop into exits of the hook, and backward calls into ours.

        Args:
            own: a `break` or `continue` here is the moved loop's own.
        """
        inner = small(node)
        if node in self.plan.removed or (inner is not None and inner in self.plan.removed):
            return []
        if own and isinstance(inner, cst.Break) and self.hook.on_break:
            return _with_comments(node, [_own_statement(text) for text in self.hook.on_break])
        if own and isinstance(inner, cst.Continue) and self.hook.on_continue:
            return _with_comments(node, [_own_statement(text) for text in self.hook.on_continue])
        if isinstance(inner, cst.Return) and self.hook.on_return:
            kept = cst.AssignTarget(module_attribute("returned"))
            value = cst.Tuple([cst.Element(atom(inner.value or cst.Name("None")), cst.Comma())])
            line = cst.SimpleStatementLine([cst.Assign([kept], value)])
            return _with_comments(node, [line, *(_own_statement(text) for text in self.hook.on_return)])
        if isinstance(inner, (cst.Global, cst.Nonlocal)):
            # the hook declares its own; what a function in it declares is read once its names have their homes
            return [node] if any(isinstance(ancestor, cst.FunctionDef) for ancestor in self._around(node)) else []
        if isinstance(node, (cst.For, cst.While)):
            body = self._suite(node.body, False)
            orelse = node.orelse
            if orelse is not None:
                orelse = orelse.with_changes(body=self._suite(orelse.body, own))
            return [self._calls(node.with_changes(body=body, orelse=orelse), skip=("body", "orelse"))]
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            return [node.with_changes(body=_filled(self._inner(node.body)))]
        if isinstance(node, cst.If) and (truth := constant(node.test, self.frame)) is not None:
            branch = node.body if truth else node.orelse
            if isinstance(branch, cst.If):
                return self.statement(branch, own)
            suite = branch.body if isinstance(branch, cst.Else) else branch
            return list(self._suite(suite, own).body) if suite is not None else []
        if isinstance(node, cst.If):
            body = self._suite(node.body, own)
            other: cst.CSTNode | None = node.orelse
            if isinstance(other, cst.If):
                found = self.statement(other, own)
                other = found[0] if found else None
            elif isinstance(other, cst.Else):
                other = other.with_changes(body=self._suite(other.body, own))
            if not block(body) and other is None and only_computes(node.test, self.frame, self.tree, lambda _: False):
                return []
            return [self._calls(node.with_changes(body=_filled(body), orelse=other), skip=("body", "orelse"))]
        if isinstance(node, cst.Try) and asked_by(node, self.frame, self.plan.homes):
            node = node.with_changes(handlers=[_for_attributes(handler) for handler in node.handlers])
        if isinstance(node, cst.BaseCompoundStatement):
            return [map_children(node, lambda child: self._part(child, own))]
        return [self._calls(node)]

    def _around(self, node: cst.CSTNode) -> Iterable[cst.CSTNode]:
        """The nodes around a statement, up to the function that its frame runs."""
        for ancestor in self.tree.ancestors(node):
            if ancestor is self.frame.function:
                return
            yield ancestor

    def _part(self, node: cst.CSTNode, own: bool) -> cst.CSTNode:
        if isinstance(node, cst.IndentedBlock):
            return _filled(self._suite(node, own))
        if isinstance(node, (cst.ExceptHandler, cst.ExceptStarHandler, cst.Finally, cst.Else, cst.MatchCase)):
            return map_children(node, lambda child: self._part(child, own))
        return self._calls(node)

    def _inner(self, node: cst.BaseSuite) -> cst.IndentedBlock:
        """The body of a function or class in the moved code, whose returns are its own."""
        hook = replace(self.hook, on_return=())
        return Restructure(self.tree, self.plan, self.frame, hook)._suite(node, False)

    def _suite(self, node: cst.BaseSuite, own: bool) -> cst.IndentedBlock:
        body = [new for statement in block(node) for new in self.statement(statement, own)]
        return node.with_changes(body=body)  # type: ignore[return-value]

    def _calls(self, node: cst.CSTNode, skip: tuple[str, ...] = ()) -> cst.CSTNode:
        """`loss.backward(...)` -> `self.manual_backward(loss, ...)` in an expression."""
        summary = self.hook.name.endswith(("epoch_start", "epoch_end"))
        if self.plan.mode != "manual" and not summary:
            return node
        kept = {id(getattr(node, name)) for name in skip if getattr(node, name, None) is not None}
        logs = summary and "print" not in self.tree.functions and not self.plan.prints_everywhere

        def change(child: cst.CSTNode) -> cst.CSTNode:
            if id(child) in kept:
                return child
            if logs and isinstance(child, cst.Call) and dotted(child.func) == "print" and not _has_keywords(child):
                child = child.with_changes(func=module_attribute("print"))
            if child in self.sites and self.plan.mode == "manual":
                receiver, method = method_call(child)  # type: ignore[misc]
                if method == "backward" and self.tree.qualified(receiver) not in ("torch.autograd", "autograd"):
                    args = [cst.Arg(receiver), *child.args]  # type: ignore[attr-defined]
                    return cst.Call(module_attribute("manual_backward"), args)
            return map_children(child, change)

        return map_children(node, change)


def declared_at_home(node: cst.CSTNode, frame: Frame, homes: Mapping[Variable, Home]) -> cst.CSTNode:
    """`global` and `nonlocal` of functions inside the moved code, for the names that did not become attributes."""

    def line(part: cst.SimpleStatementLine, own: frozenset[str]) -> cst.CSTNode | cst.RemovalSentinel:
        declared = small(part)
        if not isinstance(declared, (cst.Global, cst.Nonlocal)):
            return part
        meant = frame.outermost if isinstance(declared, cst.Global) else frame
        names = []
        for item in declared.names:
            meaning = None if item.name.value in own else meant.resolve(item.name.value)
            home = homes.get(meaning) if isinstance(meaning, Variable) else None
            if not isinstance(home, (Attribute, Computed)):
                names.append(cst.NameItem(cst.Name(home.name if home is not None else item.name.value)))
        return part.with_changes(body=[declared.with_changes(names=names)]) if names else cst.RemovalSentinel.REMOVE

    def visit(part: cst.CSTNode, own: frozenset[str]) -> cst.CSTNode | cst.RemovalSentinel:
        if isinstance(part, cst.SimpleStatementLine):
            return line(part, own)
        if isinstance(part, cst.FunctionDef):
            inner = part.body
            own = own | local_names(part)
            new = map_children(inner, lambda child: visit(child, own))  # type: ignore[arg-type,return-value]
            return part if new is inner else part.with_changes(body=_filled(new))  # type: ignore[arg-type]
        if isinstance(part, (cst.BaseCompoundStatement, cst.BaseSuite, cst.Else, cst.Finally, cst.ExceptHandler)):
            return map_children(part, lambda child: visit(child, own))  # type: ignore[arg-type,return-value]
        return part

    compound = isinstance(node, cst.BaseCompoundStatement)
    return visit(node, frozenset()) if compound else node  # type: ignore[return-value]


def _has_keywords(call: cst.Call) -> bool:
    return any(arg.keyword is not None for arg in call.args)


def _own_statement(text: str) -> cst.BaseStatement:
    """A statement of the generated module, whose self is not the script's."""
    own = substitute(cst.parse_statement(text), lambda name: FieldName(MODULE_SELF) if name == "self" else None)
    return own  # type: ignore[return-value]


def _with_comments(node: cst.CSTNode, statements: Sequence[cst.BaseStatement]) -> list[cst.CSTNode]:
    """The statements, with the comments above and behind the one that they stand for."""
    first, *rest = statements
    lines = [first.with_changes(leading_lines=node.leading_lines), *rest]  # type: ignore[attr-defined]
    lines[-1] = lines[-1].with_changes(trailing_whitespace=node.trailing_whitespace)  # type: ignore[attr-defined]
    return lines  # type: ignore[return-value]


def _filled(suite: cst.IndentedBlock) -> cst.IndentedBlock:
    return suite if suite.body else suite.with_changes(body=[cst.parse_statement("pass")])


def _for_attributes(handler: cst.ExceptHandler) -> cst.ExceptHandler:
    """`except (NameError, AttributeError)` for `except NameError`: what the module has not got is no missing name."""
    if not catches(handler):
        return handler
    kinds = list(handler.type.elements) if isinstance(handler.type, cst.Tuple) else [cst.Element(handler.type)]  # type: ignore[arg-type]
    kinds = [cst.Element(kind.value) for kind in (*kinds, cst.Element(cst.Name("AttributeError")))]
    space = cst.SimpleWhitespace(" ")
    return handler.with_changes(type=cst.Tuple(kinds), whitespace_after_except=space)
