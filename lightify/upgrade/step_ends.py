"""`training_step_end`, `validation_step_end`, `test_step_end`: what the step returns goes through a method.

Without `strategy="dp"`, which is gone, the ending got exactly what its step returned.
"""

from __future__ import annotations

import libcst as cst

from lightify.syntax.query import Changed, method_call
from lightify.upgrade.base import Log
from lightify.upgrade.edit import Change, append, become, body_of, edit, parameters, renamed, returns
from lightify.upgrade.script import STAGES, Script, methods

STEPS = tuple(f"{stage}_step" for stage in STAGES)


def rewrite(script: Script, log: Log) -> cst.Module:
    edits: dict[cst.CSTNode, Change] = {}
    mentioned = [call for node in script.calls() if (call := method_call(node)) is not None]
    for owner in script.modules:
        own = methods(owner)
        for step in STEPS:
            ending = own.get(f"{step}_end")
            if ending is None:
                continue
            old, new = f"{step}_end", f"_finish_{step}"
            if any(name == old for _, name in mentioned):
                log.refuse(ending, f"`{old}` is called by other code, too", f"call it under another name in `{step}`")
            elif step not in own:
                log.refuse(ending, f"the `{step}` that it ends is in another class", f"put its lines into `{step}`")
            elif len(parameters(ending)) != 1:
                log.refuse(ending, f"`{old}` takes more than the outputs", f"put its lines into `{step}`")
            elif any(name == step for _, name in mentioned):
                log.refuse(own[step], f"`{step}` is called by other code, which would get what `{old}` returns",
                           f"put the lines of `{old}` where they belong")  # fmt: skip
            else:
                edits[ending] = become(renamed(ending, new))
                edits[own[step]] = become(_through(own[step], new))
                log.rewrote(ending, old, f"return self.{new}(...) in {step}")
    return edit(script.module, edits)


def _through(node: cst.FunctionDef, name: str) -> cst.FunctionDef:
    """The step with each result passed on; what it does without returning anything, too."""
    last = body_of(node)[-1]
    leaves = isinstance(last, cst.SimpleStatementLine) and isinstance(last.body[-1], (cst.Return, cst.Raise))

    def passed_on(statement: cst.CSTNode) -> Changed:
        assert isinstance(statement, cst.Return)
        value = statement.value or cst.Name("None")
        if isinstance(value, cst.Tuple) and not value.lpar:
            value = value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        call = cst.Call(cst.parse_expression(f"self.{name}"), [cst.Arg(value)])
        return statement.with_changes(value=call, whitespace_after_return=cst.SimpleWhitespace(" "))

    new = edit(node, dict.fromkeys(returns(node), passed_on))
    return new if leaves else append(new, f"return self.{name}(None)")
