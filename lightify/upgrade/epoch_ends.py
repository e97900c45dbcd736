"""`training_epoch_end(outputs)`, `validation_epoch_end`, `test_epoch_end`: `on_*_epoch_end` with outputs of its own.

What a step returned is kept in `on_*_batch_end`, which gets just what 1.x collected: a training loss without its
graph.
"""

from __future__ import annotations

import libcst as cst

from lightify.syntax.names import scope_nodes
from lightify.syntax.query import arguments, code, method_call
from lightify.upgrade.base import Log
from lightify.upgrade.edit import (
    Change,
    become,
    body_of,
    edit,
    into,
    method,
    parameters,
    prepend,
    renamed,
    uses,
    with_body,
    with_parameters,
    without_parameters,
)
from lightify.upgrade.script import STAGES, Script, methods

_HOOKS = {"training": "on_train", "validation": "on_validation", "test": "on_test"}


def rewrite(script: Script, log: Log) -> cst.Module:
    edits: dict[cst.CSTNode, Change] = {}
    called = {call[1] for node in script.calls() if (call := method_call(node)) is not None}
    names = {f"{stage}_epoch_end" for stage in STAGES}
    owners = [owner for owner in script.modules if names & methods(owner).keys()]
    for owner in owners:
        new = owner
        for stage in STAGES:
            if f"{stage}_epoch_end" in methods(owner):
                new = _rewrite_stage(script, owner, new, stage, called, log)
        edits[owner] = become(_calling_new_names(new, called & names))
    return edit(script.module, edits)


def _rewrite_stage(
    script: Script, owner: cst.ClassDef, new: cst.ClassDef, stage: str, called: set[str], log: Log
) -> cst.ClassDef:
    old, hook = f"{stage}_epoch_end", f"{_HOOKS[stage]}_epoch_end"
    function, step = methods(new)[old], script.inherited(owner, f"{stage}_step")
    names = parameters(function)
    if len(names) != 1 or function.params.kwonly_params:
        log.refuse(function, f"`{old}` takes more than the outputs", f"write `{hook}` by hand")
        return new
    if _passes_on_to_another_file(script, owner, function, old):
        log.refuse(function, f"it calls the `{old}` of a class in another file", "upgrade that file by hand first")
        return new
    steps = parameters(step) if step is not None else []
    if stage == "training" and {"optimizer_idx", "hiddens"} & set(steps) and uses(function.body, names[0]):
        log.refuse(function, "it collects outputs by optimizer or by piece of a sequence",
                   "collect them in `training_step`")  # fmt: skip
        return new
    outputs, kept = names[0], _list_name(script, owner, stage)
    shared, collects = old in called or hook in methods(owner), uses(function.body, names[0])
    # A step that takes no loader index has one loader; one that does may have several, and then gets a list for each.
    several = stage != "training" and any("dataloader" in name for name in steps)
    taken = f"{outputs}, self.{kept} = self.{kept}, []" if collects or old in called else ""
    if several and taken:
        taken += f"\nif len({outputs}) == 1:\n    {outputs} = {outputs}[0]"
    body = body_of(new)
    place = body.index(function)
    if shared:
        body[place] = renamed(function, f"_{old}")
        call = f"self._{old}({outputs if taken else '[]'})"
        if hook in methods(new):
            existing = methods(new)[hook]
            body[body.index(existing)] = prepend(existing, "\n".join(filter(None, (taken, call))))
        else:
            text = "\n    ".join(filter(None, (*taken.split("\n"), call)))
            body.insert(place + 1, method(f"def {hook}(self):\n    {text}"))
    else:
        body[place] = without_parameters(renamed(function, hook), names)
        if taken:
            body[place] = prepend(body[place], taken)  # type: ignore[arg-type]
    new = with_body(new, body)
    log.rewrote(function, f"{old}({outputs})", hook)
    if not taken or any(old in methods(base) for base in script.family(owner)[1:]):
        return new  # the base class of this file collects
    return _collecting(script, new, stage, kept, several, body[place])


def _collecting(
    script: Script, new: cst.ClassDef, stage: str, kept: str, several: bool, before: cst.BaseStatement
) -> cst.ClassDef:
    """The class with the hooks that empty the list and fill it."""
    start, batch_end = f"{_HOOKS[stage]}_epoch_start", f"{_HOOKS[stage]}_batch_end"
    given = ["outputs", "batch", "batch_idx", *(["dataloader_idx=0"] if stage != "training" else [])]
    existing = methods(new).get(batch_end)
    names = parameters(existing) if existing is not None else []
    outputs = names[0] if names else "outputs"
    fill = f"self.{kept}.append({outputs})"
    if several:
        if existing is not None and len(names) < 4:
            existing_new = with_parameters(existing, ["dataloader_idx=0"])
            new = with_body(new, [existing_new if part is existing else part for part in body_of(new)])
            names = parameters(existing_new)
        index = names[3] if len(names) > 3 else "dataloader_idx"
        fill = f"while len(self.{kept}) <= {index}:\n    self.{kept}.append([])\nself.{kept}[{index}].append({outputs})"
    for name, parameters_of, text in ((start, [], f"self.{kept} = []"), (batch_end, given, fill)):
        body, present = body_of(new), methods(new).get(name)
        if present is not None:
            body[body.index(present)] = prepend(present, text)
        else:
            if script.has_foreign_base(new) or script.inherited(new, name) is not None:
                text = f"super().{name}({', '.join(word.partition('=')[0] for word in parameters_of)})\n{text}"
            indented = text.replace("\n", "\n    ")
            added = method(f"def {name}({', '.join(['self', *parameters_of])}):\n    {indented}")
            place = body.index(before)
            if place == 0:
                added = added.with_changes(leading_lines=[])
                body[0] = body[0].with_changes(leading_lines=[cst.EmptyLine(indent=False), *body[0].leading_lines])  # type: ignore[attr-defined,call-arg]
                before = body[0]
            body.insert(place, added)
        new = with_body(new, body)
    return new


def _passes_on_to_another_file(script: Script, owner: cst.ClassDef, function: cst.FunctionDef, name: str) -> bool:
    if not any((call := method_call(node)) is not None and call[1] == name and code(call[0]).startswith("super(")
               for node in scope_nodes(function)):  # fmt: skip
        return False
    return not any(name in methods(base) for base in script.family(owner)[1:])


def _list_name(script: Script, owner: cst.ClassDef, stage: str) -> str:
    """A field of the class's own, when a base in another file may collect as well."""
    if script.has_foreign_base(owner):
        return f"_{owner.name.value.lower()}_{stage}_outputs"
    name = f"{stage}_step_outputs"
    return f"_{name}" if f"self.{name}" in code(owner) else name


def _calling_new_names(owner: cst.ClassDef, called: set[str]) -> cst.ClassDef:
    """Calls of the old methods under the names that they have now."""
    edits: dict[cst.CSTNode, Change] = {}
    for function in methods(owner).values():
        for node in scope_nodes(function):
            if (call := method_call(node)) is not None and call[1] in called and arguments(node).positional:  # type: ignore[arg-type]
                assert isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute)
                edits[node.func.attr] = into(value=f"_{node.func.attr.value}")
    return edit(owner, edits)
