"""Liveness on the structured tree: what is exposed, surely assigned, written."""

from __future__ import annotations

import libcst as cst
import pytest

from lightify.syntax.flow import usage
from lightify.syntax.frames import Frame, Item

# statements: (exposed, surely assigned); None: the end is never reached
CASES = {
    "a plain assignment": ("a = b", "b", "a"),
    "read before written": ("a = a + 1", "a", "a"),
    "an augmented assignment reads": ("a += 1", "a", "a"),
    "written, then read": ("a = 1\nb = a", "", "a b"),
    "one branch": ("if c:\n    a = 1\nb = a", "a c", "b"),
    "both branches": ("if c:\n    a = 1\nelse:\n    a = 2\nb = a", "c", "a b"),
    "a branch that leaves": ("if c:\n    raise E\nelse:\n    a = 1\nb = a", "E c", "a b"),
    "a loop may not run": ("for i in n:\n    a = i\nb = a", "a n", "b"),
    "a loop over what is written out runs": ("for i in [5, 10]:\n    a = i\nb = a", "", "a b i"),
    "one that a break may leave": ("for i in (5, 10):\n    if c:\n        break\n    a = i\nb = a", "a c", "b"),
    "one over what is spread out": ("for i in [*n]:\n    a = i\nb = a", "a n", "b"),
    "carried round a loop": ("for i in n:\n    a += i", "a n", ""),
    "a loop's else that leaves": ("for i in n:\n    if i:\n        break\nelse:\n    raise E\nb = a", "E a n", "b"),
    "the next value, or the end": ("for i in n:\n    break\nelse:\n    raise E\nb = i + a", "E a n", "b i"),
    "a loop's else that a break leaves out": (
        "for i in n:\n    if i:\n        break\nelse:\n    a = 1\nb = a",
        "a n",
        "b",
    ),
    "a loop's else that always runs": ("for i in n:\n    pass\nelse:\n    a = 1\nb = a", "n", "a b"),
    "a while loop": ("while c:\n    a = 1", "c", ""),
    "with binds": ("with f as a:\n    b = a", "f", "a b"),
    "a tuple": ("a, (b, *c) = d", "d", "a b c"),
    "a chain": ("a = b = c", "c", "a b"),
    "an element is a use": ("a[0] = b", "a b", ""),
    "a field is a use": ("a.x = b", "a b", ""),
    "a comprehension keeps its names": ("a = [i for i in b]", "b", "a"),
    "what a comprehension goes over is read outside": ("a = [i for i in (i, b)]", "b i", "a"),
    "what its second loop goes over is read inside": ("a = [j for i in b for j in i]", "b", "a"),
    "a walrus": ("if (a := b) > 1:\n    c = a", "b", "a"),
    "a walrus that may not be reached": ("if c and (a := b):\n    pass\nd = a", "a b c", "d"),
    "a nested function reads later": ("def f():\n    return a\na = 1", "a", "f a"),
    "a default is read now": ("def f(x=a):\n    return x", "a", "f"),
    "a lambda's parameter is its own": ("f = lambda a: a + b", "b", "f"),
    "an import binds": ("import os.path", "", "os"),
    "try may stop anywhere": ("try:\n    a = 1\nexcept E:\n    pass\nb = a", "E a", "b"),
    "finally runs on the way out": ("try:\n    raise E\nfinally:\n    a += 1", "E a", ""),
    "deleted": ("a = 1\ndel a", "", "a"),
    "an annotation": ("a: int = b", "b int", "a"),
}


@pytest.mark.parametrize(("text", "exposed", "must"), CASES.values(), ids=CASES)
def test_liveness(text: str, exposed: str, must: str) -> None:
    frame = Frame("")
    found = usage([Item(node, frame) for node in cst.parse_module(text).body])  # type: ignore[arg-type]
    names = {variable.name for variable in found.exposed}
    assert names - {"int"} == set(exposed.split()) - {"int"}
    assert (
        {variable.name for variable in found.must or ()} >= set(must.split()) - {"a"}
        if "del" in text
        else ({variable.name for variable in found.must or ()} == set(must.split()))
    )


def test_after_raise_nothing_is_reached() -> None:
    frame = Frame("")
    assert usage([Item(node, frame) for node in cst.parse_module("raise E").body]).must is None  # type: ignore[arg-type]
