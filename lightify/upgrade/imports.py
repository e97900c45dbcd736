"""Imports of `pytorch_lightning` and of names that have moved: the runtime's, or those of `lightning.pytorch`."""

from __future__ import annotations

import libcst as cst

from lightify.syntax.query import arguments, dotted, walk
from lightify.upgrade.base import Log
from lightify.upgrade.edit import Change, become, edit, into, lines
from lightify.upgrade.names import METRICS, PACKAGES, locate
from lightify.upgrade.script import Script

OLD = "pytorch_lightning"
#: Metrics whose constructor wants to know the task today.
_WITH_TASK = frozenset({"Accuracy", "AUROC", "AveragePrecision", "ConfusionMatrix", "F1", "Fbeta", "FBeta", "IoU",
                        "Precision", "PrecisionRecallCurve", "ROC", "Recall", "StatScores"})  # fmt: skip
_GONE = {
    "from_argparse_args": "give the Trainer its arguments by name, or use LightningCLI",
    "add_argparse_args": "add the arguments that the script has to its own parser, or use LightningCLI",
    "default_attributes": "read the signature of Trainer",
    "parse_argparser": "give the Trainer its arguments by name, or use LightningCLI",
}
_Edits = dict[cst.CSTNode, Change]


def rewrite(script: Script, log: Log) -> cst.Module:
    package = log.package
    edits: _Edits = {}
    bundled = package not in (OLD, "lightning.pytorch")
    refusals = len(log.refusals)
    for node in script.nodes:
        if isinstance(node, cst.SimpleStatementLine) and len(node.body) == 1:
            small = node.body[0]
            if isinstance(small, cst.Import) and any(_is_old(dotted(alias.name)) for alias in small.names):
                _import(node, small, log, package, edits)
            elif isinstance(small, cst.ImportFrom) and not small.relative and _is_old(dotted(small.module)):
                _import_from(script, node, small, log, package, bundled, edits)
    _chains(script, log, package, bundled, edits)
    return edit(script.module, edits) if len(log.refusals) == refusals else script.module


def _is_old(name: str | None) -> bool:
    return name == OLD or (name or "").startswith(f"{OLD}.")


def _import(line: cst.SimpleStatementLine, small: cst.Import, log: Log, package: str, edits: _Edits) -> None:
    names = []
    for alias in small.names:
        full = dotted(alias.name) or ""
        if not _is_old(full) or (package == OLD and full == OLD):
            names.append(alias)
            continue
        new = _package(full.removeprefix(OLD).lstrip("."), package)
        if new is None:
            log.refuse(line, f"`{full}` has no successor that lightify knows", "import what replaces it", "LF502")
            return
        local = alias.asname or cst.AsName(cst.Name(full.partition(".")[0]))
        if alias.asname is None and full != OLD:
            log.refuse(line, f"`import {full}` binds `{OLD}`", f"write `import {OLD} as pl`", "LF502")
            return
        if new != full:
            log.rewrote(line, f"import {full}", f"import {new}")
        names.append(alias.with_changes(name=cst.parse_expression(new), asname=local))
    if names != list(small.names):
        edits[small] = into(names=names)


def _package(relative: str, package: str) -> str | None:
    if relative == METRICS or relative.startswith(f"{METRICS}."):
        return f"torchmetrics{relative.removeprefix(METRICS)}"
    if relative not in PACKAGES:
        return None
    return f"{package}.{PACKAGES[relative]}".rstrip(".")


def _import_from(
    script: Script,
    line: cst.SimpleStatementLine,
    small: cst.ImportFrom,
    log: Log,
    package: str,
    bundled: bool,
    edits: _Edits,
) -> None:
    base = (dotted(small.module) or "").removeprefix(OLD).lstrip(".")
    if isinstance(small.names, cst.ImportStar):
        new = _package(base, package)
        if new is None:
            log.refuse(
                line, f"`from {OLD}.{base} import *` has no successor that lightify knows", "import names", "LF502"
            )
        elif new != dotted(small.module):
            edits[small] = into(module=cst.parse_expression(new))
            log.rewrote(line, f"from {dotted(small.module)} import *", f"from {new} import *")
        return
    found: dict[str, list[cst.ImportAlias]] = {}
    for alias in small.names:
        name = alias.evaluated_name
        place = _place(f"{base}.{name}".lstrip("."), package, bundled)
        if place is None:
            log.refuse(line, f"`{name}` of `{dotted(small.module)}` has no successor that lightify knows",
                       "replace it, or try --runtime lightning" if bundled else "replace it", "LF502")  # fmt: skip
            return
        module, new_name = place
        if module.startswith("torchmetrics"):
            _check_task(script, alias.evaluated_alias or name, log)
        new_alias = alias if name == new_name else alias.with_changes(name=cst.Name(new_name))
        if name != new_name and alias.asname is None:
            for used in _uses(script, name):
                edits[used] = into(value=new_name)
        found.setdefault(module, []).append(new_alias)
    old = dotted(small.module) or ""
    if list(found) == [old] and found[old] == list(small.names):
        return
    log.rewrote(line, f"from {old} import", ", ".join(f"from {module} import" for module in found))
    if len(found) == 1:
        ((module, aliases),) = found.items()
        head = cst.parse_expression(module)
        edits[small] = into(module=head, names=aliases)
        return
    texts = []
    for module, aliases in found.items():
        names = ", ".join(a.evaluated_name + (f" as {a.evaluated_alias}" if a.evaluated_alias else "") for a in aliases)
        texts.append(f"from {module} import {names}" if module else f"import {names}")
    new_lines = [made for text in texts for made in lines(text)]
    new_lines[0] = new_lines[0].with_changes(leading_lines=line.leading_lines)  # type: ignore[call-arg]
    new_lines[-1] = new_lines[-1].with_changes(trailing_whitespace=line.trailing_whitespace)  # type: ignore[call-arg]
    edits[line] = become(cst.FlattenSentinel(new_lines))


def _place(relative: str, package: str, bundled: bool) -> tuple[str, str] | None:
    """Module and name today of what `from` imports: a name or a subpackage."""
    if relative == METRICS:
        return None  # binds a package under this name: rare, and said
    if relative.startswith(f"{METRICS}."):
        module, _, name = relative.rpartition(".")
        return f"torchmetrics{module.removeprefix(METRICS)}", name
    found = locate(relative, bundled)
    if found is not None:
        return f"{package}.{found[0]}".rstrip("."), found[1]
    if relative in PACKAGES:
        module, _, name = f"{package}.{PACKAGES[relative]}".rpartition(".")
        return module, name
    return None


def _check_task(script: Script, local: str, log: Log) -> None:
    if local not in _WITH_TASK:
        return
    for call in script.calls():
        if dotted(call.func) == local and arguments(call).get(-1, "task") is None:
            log.refuse(
                call, f"torchmetrics' {local} has to know the task", f'write {local}(task="multiclass", ...)', "LF502"
            )


def _uses(script: Script, name: str) -> list[cst.Name]:
    """A name where it is read: not an attribute, not a keyword, not in an import."""
    skipped: set[cst.CSTNode] = set()
    for node in script.nodes:
        if isinstance(node, cst.Attribute):
            skipped.add(node.attr)
        elif isinstance(node, cst.Arg) and node.keyword is not None:
            skipped.add(node.keyword)
        elif isinstance(node, (cst.Import, cst.ImportFrom)):
            skipped.update(walk(node))
    return [node for node in script.nodes if isinstance(node, cst.Name) and node.value == name and node not in skipped]


def _chains(script: Script, log: Log, package: str, bundled: bool, edits: _Edits) -> None:
    """`pl.callbacks.base.Callback`, `pl.metrics.Accuracy()`, `pl.Trainer.from_argparse_args(...)`."""
    inner = {node.value for node in script.nodes if isinstance(node, cst.Attribute)}
    for node in script.nodes:
        if not isinstance(node, cst.Attribute) or node in inner:
            continue
        relative = script.lightning_name(node)
        last = node.attr.value
        if last in _GONE and relative.endswith(f"Trainer.{last}"):
            log.refuse(node, f"`Trainer.{last}` is gone", _GONE[last], "LF502")
            continue
        if not relative or not _is_old(script.qualified(node)):
            continue
        head = dotted(node) or ""
        alias = head.partition(".")[0]
        if script.imports.get(alias) != OLD:
            continue  # a name of its own: its import says where it is
        if relative.partition(".")[0] == METRICS:
            log.refuse(
                node,
                f"`{head}` is part of torchmetrics",
                f"import torchmetrics and write {head.split('.')[-1]}",
                "LF502",
            )
            continue
        found = locate(relative, bundled)
        if found is None:
            if relative in PACKAGES or relative.partition(".")[0] == "__version__":
                continue
            log.refuse(node, f"`{head}` has no successor that lightify knows", "replace it", "LF502")
            continue
        module, name, rest = found
        new = ".".join(filter(None, (alias, module, name, rest)))
        if module.partition(".")[0] in (
            "accelerators",
            "cli",
            "combined",
            "gradients",
            "hparams",
            "optim",
            "transfer",
            "tuner",
            "utilities",
        ):
            log.refuse(
                node, f"`{head}` is not imported with the package", f"from {package}.{module} import {name}", "LF502"
            )
        elif new != head:
            edits[node] = become(cst.parse_expression(new))
            log.rewrote(node, head, new)
