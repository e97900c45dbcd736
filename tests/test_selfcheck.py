"""The check of a result: the no-op table first, then what it must find."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

import pytest

from lightify.output.selfcheck import self_check

FINE = {
    "builtins and module names": "print(__name__, __file__, range(3))",
    "bound by a function that runs first": "def f():\n    global n\n    n = 1\nf()\nprint(n)",
    "used by a function before it is bound": "def f():\n    return later\nlater = 1",
    "bound at the end of an earlier pass": "for i in range(3):\n    if i:\n        print(last)\n    last = i",
    "while loop": "while True:\n    try:\n        print(n)\n    except NameError:\n        n = 1",
    "class body reads the module": "import os\nclass A:\n    os = os\n    n = 1\n    m = n\nprint(A)",
    "comprehension": "rows = [[1]]\nprint([x for row in rows for x in row if x], {k: v for k, v in []}, {*()})",
    "walrus in a comprehension": "print([y for x in range(3) if (y := x)], y)",
    "lambda defaults": "n = 1\nf = lambda x, *a, k=n, **kw: (x, a, k, kw)\nf(1)",
    "super and __class__": "class A:\n    def f(self):\n        return super().f, __class__\nA()",
    "except handler": "try:\n    pass\nexcept ValueError as error:\n    print(error)",
    "with, star and nested targets": "with open('f') as (a, *b):\n    print(a, b)\nfor (c, d), e in []:\n    print(c, d, e)",
    "match": "match [1]:\n    case [x, *rest] | {'k': x, **rest}:\n        print(x, rest)\n    case int() as y:\n        print(y)",
    "quoted annotation": "from torch import Tensor\ndef f(x: 'Tensor | None') -> 'list[Tensor]':\n    return [x]",
    "exported": "from m import a\nfrom m import b as b\n__all__ = ['a']",
    "star import binds anything": "from m import *\nprint(whatever)",
    "unpacked and unused": "def f():\n    a, b = pair()\n    return a\nf()\npair = tuple",
    "locals reads everything": "def f():\n    a = 1\n    return locals()\nf()",
    "nonlocal": "def f():\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n    g()\n    return n\nf()",
    "name error expected": "try:\n    unicode\nexcept NameError:\n    unicode = str\nprint(unicode)",
    "decorator and default of a method": "class A:\n    n = 1\n    @property\n    def f(self, m=n):\n        return m\nA()",
    "future import": "from __future__ import annotations",
    "shadowed builtin": "print(max(1, 2))\nmax = 3\nprint(max)",
    "deleted": "x = 1\ndel x",
}

WRONG = {
    "undefined": ("def f():\n    return model(1)\nf()", [("LF902", 2, "model")]),
    "undefined at module level": ("print(x)", [("LF902", 1, "x")]),
    "method does not see its class": ("class A:\n    n = 1\n    def f(self):\n        return n\nA()", [("LF902", 4, "n")]),
    "comprehension variable is gone": ("print([i for i in ()], i)", [("LF902", 1, "i")]),
    "local of another function": (
        "def f():\n    x = 1\n    return x\ndef g():\n    return x\nf(), g()",
        [("LF902", 5, "x")],
    ),
    "read before it is bound": ("def f():\n    total += 1\n    total = 0\n    return total\nf()", [("LF903", 2, "total")]),
    "read before the loop that binds it": ("print(i)\nfor i in range(3):\n    print(i)", [("LF903", 1, "i")]),
    "unused import": ("import os\nimport a.b\nfrom m import c as d", [("LF904", 1, "os"), ("LF904", 2, "a"), ("LF904", 3, "d")]),
    "unused local": ("def f():\n    loss = 1\n    return 2\nf()", [("LF905", 2, "loss")]),
    "unused part of a literal": ("def f():\n    a, b = 1, 2\n    return a\nf()", [("LF905", 2, "b")]),
    "unused handler name": ("def f():\n    try:\n        pass\n    except E as e:\n        pass\nE = ValueError\nf()", [("LF905", 4, "e")]),
    "unused in spite of a star": ("from m import *\nimport os", [("LF904", 2, "os")]),
}  # fmt: skip


@pytest.mark.parametrize("text", FINE.values(), ids=FINE)
def test_nothing_to_say(text: str) -> None:
    ast.parse(text)
    assert self_check(text) == ()


@pytest.mark.parametrize(("text", "expected"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_found(text: str, expected: list[tuple[str, int, str]]) -> None:
    found = self_check(text)
    assert [(problem.code, problem.span and problem.span.line) for problem in found] == [row[:2] for row in expected]
    assert all(f"'{name}'" in problem.message for problem, (_, _, name) in zip(found, expected))


@pytest.mark.parametrize("text", [row[0] for row in WRONG.values()], ids=WRONG)
def test_what_the_source_had_is_no_fault_of_ours(text: str) -> None:
    assert self_check(text, source_text=text) == ()


def test_a_result_that_does_not_parse_has_a_place() -> None:
    (problem,) = self_check("x = 1\nif x\n", path="train.py")
    assert (problem.code, str(problem.span)) == ("LF901", "train.py (converted):2:5")


def test_undefined_is_an_error_and_unused_a_warning() -> None:
    found = self_check("import os\nprint(x)")
    assert [(problem.code, problem.severity) for problem in found] == [("LF904", "warning"), ("LF902", "error")]


def test_agrees_with_pyflakes_on_this_repository() -> None:
    from pyflakes import checker, messages

    kinds = {messages.UndefinedName: "LF902", messages.UnusedImport: "LF904", messages.UnusedVariable: "LF905"}
    files = [path for folder in ("lightify", "runtime", "fixtures") for path in Path(folder).rglob("*.py")]
    assert files
    for path in files:
        text = path.read_text(encoding="utf-8")
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        theirs = {
            (kinds[type(found)], found.lineno) for found in checker.Checker(tree).messages if type(found) in kinds
        }
        ours = {(problem.code, problem.span and problem.span.line) for problem in self_check(text)}
        # an unused name is listed once per binding by us, once per name by pyflakes
        assert {row for row in theirs if row[0] == "LF902"} == {row for row in ours if row[0] == "LF902"}, path
        assert theirs <= ours, path


def test_a_nested_text_is_no_crash() -> None:
    deep = "x = " + "(" * 150 + "1" + ")" * 150
    assert [problem.code for problem in self_check(textwrap.dedent(deep))] in ([], ["LF901"])
