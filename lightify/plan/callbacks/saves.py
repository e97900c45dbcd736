"""What a script saves of its training, and where: by `torch.save`, or by a function of its own that saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import libcst as cst

from lightify.plan.batches import in_host
from lightify.plan.draft import Draft
from lightify.plan.effects import only_computes
from lightify.plan.logs.metrics import printed
from lightify.syntax.flow import expression_usage, usage
from lightify.syntax.frames import Frame, Item
from lightify.syntax.names import parameters
from lightify.syntax.query import arguments, block, code, dotted, expression_of, is_docstring, small


@dataclass(frozen=True, eq=False)
class Saved:
    """One save of the best weights so far.

    Attributes:
        what: what is saved, an expression of the loop.
        path: the file's path, or its name in `folder`, an expression of the loop.
        last: the name of the file that is saved in each epoch, too; empty when there is none.
    """

    what: cst.BaseExpression
    path: str
    folder: cst.BaseExpression | None = None
    last: str = ""

    def place(self, draft: Draft, frame: Frame) -> str | None:
        """The arguments of ModelCheckpoint for where it is saved; None when others know the file."""
        if any(sign in self.path for sign in '{}\\="') or draft.tree.text.count(self.path) != 1:
            return None
        path, folder = PurePosixPath(self.path), ""
        if self.folder is not None:
            given = in_host(draft, self.folder, frame) if _is_settled(draft, self.folder, frame) else None
            if given is None or path.parent.name:
                return None
            folder = f"dirpath={code(given)}, "
        elif path.parent.name:
            folder = f'dirpath="{path.parent}", '
        return f'{folder}filename="{_stem(path)}", {"save_last=True, " if self.last else ""}'


def _is_settled(draft: Draft, folder: cst.BaseExpression, frame: Frame) -> bool:
    """True for a folder that is the same in all epochs."""
    nest = draft.nest
    changing = nest.taken | usage((*nest.epoch_start, *nest.body, *nest.epoch_end)).writes

    def known(call: cst.Call) -> bool:
        return (draft.tree.qualified(call.func) or "").startswith("os.path.")

    reads = expression_usage(folder, frame).reads
    return not reads & changing and only_computes(folder, frame, draft.tree, known)


def _stem(path: PurePosixPath) -> str:
    """`best` for `best.pth.tar`."""
    while path.suffix in (".pt", ".pth", ".th", ".tar", ".ckpt", ".bin", ".pkl", ".pkt", ".model", ".chkpt"):
        path = path.with_suffix("")
    return path.name


def saving_call(draft: Draft, line: cst.CSTNode) -> cst.Call | None:
    """The call of `torch.save(...)` as a statement."""
    call = expression_of(line)
    return call if isinstance(call, cst.Call) and draft.tree.qualified(call.func) == "torch.save" else None


def flagged_save(draft: Draft, step: Item, flag: str) -> Saved | None:
    """Reads `save_checkpoint(state, is_best)` of a function that saves, and copies the file where the flag says so."""
    call = expression_of(step.node)
    name = call.func.value if isinstance(call, cst.Call) and isinstance(call.func, cst.Name) else ""
    function = draft.tree.functions.get(name)
    if not isinstance(call, cst.Call) or function is None or function.decorators:
        return None
    given = arguments(call)
    values: dict[str, cst.BaseExpression] = {}
    for position, param in enumerate(parameters(function)):
        value = given.get(position, param.name.value) or param.default
        if value is None:
            return None
        values[param.name.value] = value
    asked = [name for name, value in values.items() if code(value) == flag]
    if given.starred or len(asked) != 1 or function.params.star_kwarg is not None or len(given) > len(values):
        return None
    return _read(draft, step.frame, function, values, asked[0])


def plain_save(what: cst.BaseExpression, path: cst.BaseExpression) -> Saved | None:
    """Reads where `torch.save(what, path)` saves."""
    found = _path(path, {})
    if found is None:
        return None
    return Saved(what, found.name, cst.parse_expression(found.folder) if found.folder else None)


def _read(
    draft: Draft, frame: Frame, function: cst.FunctionDef, values: dict[str, cst.BaseExpression], flag: str
) -> Saved | None:
    written: _Path | None = None
    best: _Path | None = None
    what: cst.BaseExpression | None = None
    for line in block(function.body):
        inner, call = small(line), saving_call(draft, line)
        if is_docstring(line) or printed(line, frame, draft.kinds) is not None or _makes_folder(line):
            continue
        if isinstance(inner, cst.Assign) and len(inner.targets) == 1 and isinstance(inner.targets[0].target, cst.Name):
            values[inner.targets[0].target.value] = inner.value
        elif call is not None and written is None and best is None and len(call.args) == 2:
            what, written = values.get(code(call.args[0].value)), _path(call.args[1].value, values)
        elif isinstance(line, cst.If) and code(line.test) == flag and line.orelse is None and written is not None:
            copies = [expression_of(one) for one in block(line.body) if printed(one, frame, draft.kinds) is None]
            copy = copies[0] if len(copies) == 1 else None
            if not isinstance(copy, cst.Call) or dotted(copy.func) not in ("shutil.copyfile", "shutil.copy"):
                return None
            if len(copy.args) != 2 or _path(copy.args[0].value, values) != written or best is not None:
                return None
            best = _path(copy.args[1].value, values)
        else:
            return None
    if what is None or written is None or best is None or written.folder != best.folder:
        return None
    folder = cst.parse_expression(best.folder) if best.folder else None
    return Saved(what, best.name, folder, written.name)


@dataclass(frozen=True)
class _Path:
    """A file's name, and the text of its folder."""

    name: str
    folder: str = ""


def _path(node: cst.BaseExpression, values: Mapping[str, cst.BaseExpression], depth: int = 0) -> _Path | None:
    """Reads a literal path, `os.path.join(folder, "name")`, `folder + "/name"` and its like, and names of such."""
    if isinstance(node, cst.SimpleString):
        return _Path(str(node.raw_value))
    if isinstance(node, cst.Name) and depth < 4:
        return _path(values[node.value], values, depth + 1) if node.value in values else None
    parts = _joined(node)
    if parts is None:
        return None
    folder, inner = parts[0], _path(parts[1], values, depth + 1)
    if isinstance(folder, cst.Name) and folder.value in values:
        folder = values[folder.value]
    return _Path(inner.name, code(folder)) if inner is not None and not inner.folder else None


def _joined(node: cst.BaseExpression) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """The folder and the file's name of a path made of both."""
    if isinstance(node, cst.Call) and dotted(node.func) == "os.path.join" and len(node.args) == 2:
        return node.args[0].value, node.args[1].value
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Divide):
        return node.left, node.right
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add):
        return _parted(node.left, node.right.raw_value) if isinstance(node.right, cst.SimpleString) else None
    if isinstance(node, cst.FormattedString) and len(node.parts) == 2:
        folder, text = node.parts
        if isinstance(folder, cst.FormattedStringExpression) and isinstance(text, cst.FormattedStringText):
            plain = folder.conversion is None and folder.format_spec is None
            return _parted(folder.expression, text.value) if plain else None
    return None


def _parted(folder: cst.BaseExpression, rest: str | bytes) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """The folder and the name after a slash."""
    name = str(rest).removeprefix("/")
    return (folder, cst.SimpleString(f'"{name}"')) if name != rest and '"' not in name else None


def _makes_folder(line: cst.CSTNode) -> bool:
    """True for `if not os.path.exists(folder): os.makedirs(folder)`."""
    if isinstance(line, cst.If) and line.orelse is None:
        return all(_makes_folder(inner) for inner in block(line.body))
    call = expression_of(line)
    return isinstance(call, cst.Call) and dotted(call.func) in ("os.makedirs", "os.mkdir")
