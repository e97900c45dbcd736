"""Comments between statements: those of a section, and those of the statement below them."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from lightify.syntax.parse import Tree
from lightify.syntax.query import map_children


def section(statement: cst.CSTNode) -> list[cst.EmptyLine]:
    """The lines above a statement that head the section which it opens: comments with a blank line below them."""
    lines = _lines(statement)
    end = len(lines) - len(own(statement))
    return list(lines[:end]) if any(line.comment is not None for line in lines[:end]) else []


#: Opens a cell of a notebook: it is no comment on the statement that is the first there.
_CELL = "# %% [cell "


def own(statement: cst.CSTNode) -> list[cst.EmptyLine]:
    """The comments right above a statement: they go where it goes."""
    kept: list[cst.EmptyLine] = []
    for line in reversed(_lines(statement)):
        if line.comment is None or line.comment.value.startswith(_CELL):
            break
        kept.insert(0, line)
    return kept


def beginning(lines: Sequence[cst.EmptyLine], before: Sequence[cst.CSTNode]) -> list[cst.EmptyLine]:
    """The lines without comments that end what the same comment, above the statement before them, began."""
    said = {text for statement in before for text in texts(own(statement))}
    left = [line for line in lines if line.comment is None or line.comment.value not in said]
    return left if texts(left) else []


def paragraph(statement: cst.CSTNode, following: cst.CSTNode) -> list[cst.EmptyLine]:
    """The lines above a statement whose comment is about the next one, too: no blank line, no comment parts them."""
    return list(_lines(statement)) if own(statement) and not _lines(following) else []


def below(statement: cst.CSTNode, tree: Tree) -> list[cst.EmptyLine]:
    """The comments that end the block whose last statement this is."""
    suite = tree.parents.get(statement)
    if not isinstance(suite, cst.IndentedBlock) or suite.body[-1] is not statement:
        return []
    return [line for line in suite.footer if line.comment is not None]


def in_place_of(statement: cst.CSTNode, new: Sequence[cst.BaseStatement]) -> list[cst.BaseStatement]:
    """Statements that stand for another one, under its comments."""
    lines = _lines(statement)
    if not new or all(line.comment is None for line in lines):
        return list(new)
    return [above(new[0], lines), *new[1:]]


def above(statement: cst.BaseStatement, lines: Sequence[cst.EmptyLine]) -> cst.BaseStatement:
    """A statement with more lines above it."""
    return statement.with_changes(leading_lines=[*lines, *_lines(statement)])


def _lines(statement: cst.CSTNode) -> Sequence[cst.EmptyLine]:
    return getattr(statement, "leading_lines", ())


def texts(lines: Sequence[cst.EmptyLine]) -> set[str]:
    """What the comments among lines say."""
    return {line.comment.value for line in lines if line.comment is not None}


def without_ends(block: cst.IndentedBlock | cst.Module, lost: set[str]) -> cst.IndentedBlock | cst.Module:
    """A block without the comments that repeat one which is gone with its statement: they ended what it began."""
    if not lost:
        return block

    def left(lines: Sequence[cst.EmptyLine]) -> list[cst.EmptyLine]:
        return [line for line in lines if line.comment is None or line.comment.value not in lost]

    body = [one.with_changes(leading_lines=left(_lines(one))) for one in block.body]
    return block.with_changes(body=body, footer=left(block.footer))


def uncommented(node: cst.CSTNode) -> cst.CSTNode:
    """A statement without the comments in and around it, and without blank lines."""
    new = map_children(node, uncommented)
    plain = {"leading_lines": [], "footer": [], "trailing_whitespace": cst.TrailingWhitespace()}
    plain["header"] = cst.TrailingWhitespace()
    return new.with_changes(**{name: value for name, value in plain.items() if hasattr(new, name)})
