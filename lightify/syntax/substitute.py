"""Replaces names in a node, aware of the scopes inside it."""

from __future__ import annotations

from collections.abc import Callable

import libcst as cst

from lightify.syntax.names import local_names
from lightify.syntax.query import class_test, dotted, map_children, target_names

#: Gets a name; returns what to put in its place, or None to leave it.
NameMap = Callable[[str], cst.BaseExpression | None]

_COMPREHENSIONS = (cst.ListComp, cst.SetComp, cst.GeneratorExp, cst.DictComp)
_is_special = class_test(
    *(cst.Name, cst.Attribute, cst.Arg, cst.Import, cst.ImportFrom, cst.Global, cst.Nonlocal, cst.FunctionDef),
    *(cst.Lambda, *_COMPREHENSIONS, cst.ClassDef, cst.NameItem, cst.IfExp),
)
_BARE_PARENTS = (cst.Arg, cst.FormattedStringExpression, cst.Index, cst.Return, cst.Expr, cst.Assign, cst.Element)


def substitute(node: cst.CSTNode, replace: NameMap, replace_chain: NameMap | None = None) -> cst.CSTNode:
    """Returns the node with its free names replaced; attributes, keywords and inner names stay.

    Args:
        replace_chain: the same for chains of attributes that start with a free name: `a.b`.
    """
    return _Substitution(replace, replace_chain).visit(node, frozenset(), None)


class _Substitution:
    def __init__(self, replace: NameMap, replace_chain: NameMap | None) -> None:
        self.replace = replace
        self.replace_chain = replace_chain

    def visit(self, node: cst.CSTNode, hidden: frozenset[str], parent: cst.CSTNode | None) -> cst.CSTNode:
        if not _is_special(node.__class__):
            return _folded(node, map_children(node, lambda child: self.visit(child, hidden, node)))
        if isinstance(node, cst.Name):
            if node.value in hidden:
                return node
            new = self.replace(node.value)
            if new is None:
                return node
            if isinstance(new, (cst.Name, cst.Attribute)) and node.lpar and not new.lpar:
                return new.with_changes(lpar=node.lpar, rpar=node.rpar)
            return _without_parentheses(new) if isinstance(parent, _BARE_PARENTS) and _stands_bare(new, parent) else new
        if isinstance(node, cst.Attribute):
            new = self._chain(node, hidden) if self.replace_chain is not None else None
            if new is not None:
                return new
            value = self.visit(node.value, hidden, node)
            return node if value is node.value else node.with_changes(value=value)
        if isinstance(node, cst.Arg):
            value = self.visit(node.value, hidden, node)
            return node if value is node.value else node.with_changes(value=value)
        if isinstance(node, (cst.Import, cst.ImportFrom, cst.Global, cst.Nonlocal)):
            return node
        if isinstance(node, (cst.FunctionDef, cst.Lambda)):
            return self._function(node, hidden)
        if isinstance(node, _COMPREHENSIONS):
            names: set[str] = set()
            part = node.for_in
            while part is not None:
                names.update(target_names(part.target))
                part = part.inner_for_in  # type: ignore[assignment]
            inner, first = hidden | names, node.for_in

            def visit(child: cst.CSTNode) -> cst.CSTNode:
                if child is first:
                    return map_children(child, visit)
                outside = child is first.iter  # the one part that is evaluated where the comprehension stands
                return self.visit(child, hidden if outside else inner, node)

            return map_children(node, visit)
        if isinstance(node, (cst.ClassDef,)):
            return map_children(node, lambda child: child if child is node.name else self.visit(child, hidden, node))
        if isinstance(node, cst.NameItem):
            return node
        if isinstance(node, cst.IfExp):
            test = self.visit(node.test, hidden, node)
            if isinstance(test, cst.Name) and test is not node.test and test.value in ("True", "False", "None"):
                return self.visit(node.body if test.value == "True" else node.orelse, hidden, parent)
        return _folded(node, map_children(node, lambda child: self.visit(child, hidden, node)))

    def _chain(self, node: cst.Attribute, hidden: frozenset[str]) -> cst.BaseExpression | None:
        name = dotted(node)
        if name is None or name.partition(".")[0] in hidden or self.replace_chain is None:
            return None
        new = self.replace_chain(name)
        return new.with_changes(lpar=node.lpar, rpar=node.rpar) if new is not None and node.lpar else new

    def _function(self, node: cst.FunctionDef | cst.Lambda, hidden: frozenset[str]) -> cst.CSTNode:
        inner = hidden | local_names(node)

        def in_params(child: cst.CSTNode) -> cst.CSTNode:
            if isinstance(child, cst.Param):
                changes = {}
                for name in ("default", "annotation"):
                    value = getattr(child, name)
                    if value is not None:
                        new = self.visit(value, hidden, child)
                        if new is not value:
                            changes[name] = new
                return child.with_changes(**changes) if changes else child
            return map_children(child, in_params) if isinstance(child, cst.Parameters) else child

        params = in_params(node.params)
        body = self.visit(node.body, inner, node)
        changes: dict[str, object] = {}
        if params is not node.params:
            changes["params"] = params
        if body is not node.body:
            changes["body"] = body
        if isinstance(node, cst.FunctionDef):
            if node.decorators:
                changes["decorators"] = [self.visit(d, hidden, node) for d in node.decorators]
            if node.returns is not None:
                changes["returns"] = self.visit(node.returns, hidden, node)
        return node.with_changes(**changes) if changes else node


def _stands_bare(node: cst.BaseExpression, parent: cst.CSTNode) -> bool:
    """True where parentheses do nothing: in a list of values, a tuple without them is several."""
    if isinstance(node, cst.Tuple):
        return not isinstance(parent, (cst.Arg, cst.Element))
    return not isinstance(node, (cst.GeneratorExp, cst.Yield))


def _without_parentheses(node: cst.BaseExpression) -> cst.BaseExpression:
    return node.with_changes(lpar=[], rpar=[]) if node.lpar else node


_LITERALS = (cst.SimpleString, cst.Integer)


def _folded(old: cst.CSTNode, new: cst.CSTNode) -> cst.CSTNode:
    """Settles `"val" == "val"`, `True and x` and `f"{'val'}"`, which fixed names leave behind."""
    if new is old:
        return new
    if isinstance(new, cst.FormattedString):
        return _fitting(new)
    if isinstance(new, cst.Comparison) and len(new.comparisons) == 1:
        left, target = new.left, new.comparisons[0]
        if isinstance(left, _LITERALS) and isinstance(target.comparator, _LITERALS):
            same = left.evaluated_value == target.comparator.evaluated_value
            if isinstance(target.operator, (cst.Equal, cst.NotEqual)):
                return cst.Name(str(same is isinstance(target.operator, cst.Equal)))
    if isinstance(new, cst.BooleanOperation) and isinstance(new.left, cst.Name) and new.left.value in ("True", "False"):
        decides = (new.left.value == "True") is isinstance(new.operator, cst.Or)
        return new.left if decides else new.right
    return new


def _fitting(text: cst.FormattedString) -> cst.FormattedString | cst.SimpleString:
    """An f-string whose fixed values are text, and whose other strings have quotes that do not end it."""
    parts: list[cst.BaseFormattedStringContent] = []
    for part in text.parts:
        value = part.expression if isinstance(part, cst.FormattedStringExpression) else None
        plain = isinstance(value, cst.SimpleString) and _is_plain(value)
        if plain and part.conversion is None and part.format_spec is None:  # type: ignore[attr-defined]
            parts.append(cst.FormattedStringText(value.raw_value))  # type: ignore[union-attr]
        else:
            parts.append(_requoted(part, text.end))  # type: ignore[arg-type]
    words = [part.value for part in parts if isinstance(part, cst.FormattedStringText)]
    if len(words) < len(parts):
        return text.with_changes(parts=parts)
    prefix = text.start.lower().replace("f", "")  # nothing is left to fill in
    inner = "".join(words).replace("{{", "{").replace("}}", "}")
    return cst.SimpleString(f"{prefix}{inner}{text.end}", lpar=text.lpar, rpar=text.rpar)


def _requoted(node: cst.CSTNode, taken: str) -> cst.CSTNode:
    if isinstance(node, cst.SimpleString) and node.quote == taken and _is_plain(node):
        other = "'" if taken == '"' else '"'
        return node.with_changes(value=f"{node.prefix}{other}{node.raw_value}{other}")
    return map_children(node, lambda child: _requoted(child, taken))


def _is_plain(text: cst.SimpleString) -> bool:
    """True for characters that mean themselves in any string."""
    return len(text.quote) == 1 and not set(text.raw_value) & set("\\{}'\"")
