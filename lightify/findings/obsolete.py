"""What fails on today's Python and libraries: the original does not run as published."""

from __future__ import annotations

import builtins
from collections.abc import Iterator

import libcst as cst

from lightify.errors import Diagnostic
from lightify.facts import Kind
from lightify.findings.base import Rule
from lightify.findings.script import Script
from lightify.syntax.names import parameters
from lightify.syntax.query import arguments, call_name, code, dotted, literal, method_call, target_names, words

UNBOUND = Rule(
    "LF480",
    "warning",
    "the original does not run as published: nothing binds {name}",
    "the name is kept; define it or correct it",
)
GONE = Rule(
    "LF481",
    "warning",
    "the original does not run as published: {what}",
    "kept as it is; {advice}",
)
WHOLE_MODULE = Rule(
    "LF484",
    "warning",
    "since torch 2.6 torch.load refuses whole modules: this line raises an error",
    "kept as it is; pass weights_only=False for files that you trust, or save and load the state_dict",
)
VOLATILE = Rule(
    "LF485",
    "note",
    "volatile=True has no effect since torch 0.4: this forward pass builds a graph",
    "kept as it is; use torch.no_grad()",
)
RULES = (UNBOUND, GONE, WHOLE_MODULE, VOLATILE)

#: qualified name: (what happens, what to write)
_REMOVED: dict[str, tuple[str, str]] = {
    "torchvision.transforms.Scale": ("torchvision has no transforms.Scale any more", "use transforms.Resize"),
    "torchvision.transforms.RandomSizedCrop": (
        "torchvision has no transforms.RandomSizedCrop any more",
        "use transforms.RandomResizedCrop",
    ),
    **{
        f"torchtext.{package}.{name}": (f"torchtext has no {package}.{name} any more", "read the data in another way")
        for package in ("data", "legacy.data")
        for name in (
            "Field",
            "LabelField",
            "RawField",
            "NestedField",
            "BucketIterator",
            "BPTTIterator",
            "TabularDataset",
            "Example",
        )
    },
    **{
        f"numpy.{name}": (f"NumPy has no np.{name} since 1.24", f"use {name}")
        for name in ("float", "int", "complex", "object")
    },
    **{
        f"numpy.{name}": (f"NumPy has no np.{name} since 2.0", f"use np.{new}")
        for name, new in {
            "Inf": "inf",
            "Infinity": "inf",
            "NaN": "nan",
            "NAN": "nan",
            "float_": "float64",
            "product": "prod",
            "cumproduct": "cumprod",
            "alltrue": "all",
            "sometrue": "any",
        }.items()
    },
    **{
        f"scipy.misc.{name}": (f"SciPy has no misc.{name} any more", "use imageio or Pillow")
        for name in ("imread", "imresize", "imsave", "imshow", "toimage", "fromimage")
    },
    "PIL.Image.ANTIALIAS": ("Pillow has no Image.ANTIALIAS since 10", "use Image.LANCZOS"),
    **{
        f"torch.{name}": (f"torch.{name} only raises an error by now", f"use torch.linalg.{new}")
        for name, new in {"symeig": "eigh", "eig": "eig", "lstsq": "lstsq", "solve": "solve", "gels": "lstsq"}.items()
    },
    **{
        f"collections.{name}": (f"Python has no collections.{name} since 3.10", f"use collections.abc.{name}")
        for name in ("Iterable", "Mapping", "MutableMapping", "Sequence", "Callable", "Hashable", "Iterator", "Set")
    },
}
_REMOVED_MODULES = {
    "torch._six": ("torch has no _six any more", "use str, int and collections.abc"),
    "torch.utils.ffi": ("torch has no utils.ffi any more", "use torch.utils.cpp_extension"),
    "torch.utils.serialization": ("torch has no utils.serialization any more", "use the torchfile package"),
    "torch.legacy": ("torch has no legacy package any more", "use torch.nn"),
    "torchvision.models.utils": ("torchvision has no models.utils any more", "use torch.hub"),
    "torchtext.legacy": ("torchtext has no legacy package any more", "read the data in another way"),
    "sklearn.externals.joblib": ("scikit-learn has no externals.joblib any more", "import joblib"),
}
_PYTHON_2_METHODS = {"iteritems": "items", "itervalues": "values", "iterkeys": "keys", "has_key": "in"}
_DYNAMIC = ("exec", "eval", "execfile", "globals", "locals", "vars", "setattr", "get_ipython", "interact")
_KNOWN = frozenset(dir(builtins)) | {
    "__file__",
    "__name__",
    "__doc__",
    "__class__",
    "__builtins__",
    "__spec__",
    "display",
    "WindowsError",
    "__package__",
    "__path__",
    "__qualname__",
    "__module__",
}


def find(script: Script) -> Iterator[Diagnostic]:
    """Accepts names by what they were imported as; silent in `try` and below tests of a version."""
    yield from _unbound(script)
    yield from _removed(script)
    for node in script.nodes(cst.Subscript):
        if (name := _indexed_loss(script, node)) is not None:
            what = f"{name} has no dimension to index (IndexError since torch 0.5)"
            yield GONE.at(script, node, what=what, advice="use .item()")
    for call in script.calls("next"):
        used = method_call(call)
        if used is not None and not call.args and call_name(script.construction(used[0]) or used[0]) == "iter":
            yield GONE.at(
                script, call, what="iterators have no next() method in Python 3", advice=f"use next({code(used[0])})"
            )
    for old, new in _PYTHON_2_METHODS.items():
        for call in script.calls(old):
            if (
                method_call(call) is not None
                and not script.qualified(call).startswith(("six.", "future."))
                and not script.targets(call)
            ):
                yield GONE.at(script, call, what=f"Python 3 has no {old}()", advice=f"use {new}")
    for call in script.nodes(cst.Call):
        if script.qualified(call).startswith("torch.optim.lr_scheduler.") and "verbose" in arguments(call).keyword:
            yield GONE.at(
                script, call, what="learning-rate schedulers take no verbose since torch 2.7", advice="leave it out"
            )
    for call in script.calls("Variable"):
        if literal(arguments(call).keyword.get("volatile")) == "True" and not script.without_gradients(call):
            yield VOLATILE.at(script, call)
    yield from _whole_module(script)


def _unbound(script: Script) -> Iterator[Diagnostic]:
    if script.called(*_DYNAMIC) or any(isinstance(node.names, cst.ImportStar) for node in script.nodes(cst.ImportFrom)):
        return
    bound = _bound(script)
    seen: set[str] = set()
    reads = [n for n in script.nodes(cst.Name) if n.value not in bound and n.value not in _KNOWN]
    for node in sorted(reads, key=script.place):
        assert isinstance(node, cst.Name)
        if node.value not in seen and _is_read(script, node) and not _guarded(script, node):
            seen.add(node.value)
            yield UNBOUND.at(script, node, name=node.value)


def _bound(script: Script) -> set[str]:
    """Names that are bound anywhere in the file, whatever the scope."""
    names: set[str] = set(script.tree.imports)
    every = script.nodes
    for bound in (
        *every(cst.AssignTarget),
        *every(cst.AugAssign),
        *every(cst.AnnAssign),
        *every(cst.For),
        *every(cst.CompFor),
        *every(cst.NamedExpr),
    ):
        names.update(target_names(bound.target))  # type: ignore[attr-defined]
    for alias in every(cst.AsName):
        names.update(target_names(alias.name))
    for function in (*every(cst.FunctionDef), *every(cst.Lambda)):
        names.update(param.name.value for param in parameters(function))  # type: ignore[arg-type]
    names.update(definition.name.value for definition in (*every(cst.FunctionDef), *every(cst.ClassDef)))  # type: ignore[attr-defined]
    for declared in (*every(cst.Global), *every(cst.Nonlocal)):
        names.update(item.name.value for item in declared.names)  # type: ignore[attr-defined]
    names.update(found.name.value for found in (*every(cst.MatchAs), *every(cst.MatchStar)) if found.name is not None)  # type: ignore[attr-defined]
    names.update(found.rest.value for found in every(cst.MatchMapping) if found.rest is not None)
    return names


def _is_read(script: Script, node: cst.Name) -> bool:
    parent = script.tree.parents.get(node)
    if isinstance(parent, cst.Attribute):
        return parent.value is node and not any(
            isinstance(a, (cst.Import, cst.ImportFrom)) for a in script.tree.ancestors(parent)
        )
    if isinstance(parent, cst.Arg):
        return parent.value is node
    return not isinstance(
        parent,
        (
            cst.ImportAlias,
            cst.Import,
            cst.ImportFrom,
            cst.AsName,
            cst.Param,
            cst.MatchKeywordElement,
            cst.NameItem,
            cst.Annotation,
        ),
    )


def _guarded(script: Script, node: cst.CSTNode) -> bool:
    """True inside `try`, below a test of a version or platform, and in annotations."""
    for ancestor in script.tree.ancestors(node):
        if isinstance(ancestor, (cst.Try, cst.TryStar, cst.Annotation)):
            return True
        if isinstance(ancestor, (cst.If, cst.IfExp)) and any(
            word in code(ancestor.test) for word in ("version", "PY2", "PY3", "TYPE_CHECKING", "platform", "hasattr")
        ):
            return True
    return False


def _removed(script: Script) -> Iterator[Diagnostic]:
    roots = {full.partition(".")[0] for full in script.tree.imports.values()}
    if not roots & {"torchvision", "torchtext", "numpy", "scipy", "PIL", "torch", "collections", "sklearn"}:
        return
    seen: set[str] = set()
    for name, full in script.tree.imports.items():
        for module, (what, advice) in _REMOVED_MODULES.items():
            if full == module or full.startswith(f"{module}."):
                node = _import_of(script, name)
                if node is not None and not _guarded(script, node) and what not in seen:
                    seen.add(what)
                    yield GONE.at(script, node, what=what, advice=advice)
        if full in _REMOVED and (node := _import_of(script, name)) is not None and not _guarded(script, node):
            what, advice = _REMOVED[full]
            seen.add(what)
            yield GONE.at(script, node, what=what, advice=advice)
    for node in script.nodes(cst.Attribute):
        if node.attr.value not in _REMOVED_LAST:
            continue
        found = _REMOVED.get(script.tree.qualified(node) or "")
        if found is not None and found[0] not in seen and not _guarded(script, node):
            seen.add(found[0])
            yield GONE.at(script, node, what=found[0], advice=found[1])


_REMOVED_LAST = {full.rpartition(".")[2] for full in _REMOVED}


def _import_of(script: Script, name: str) -> cst.CSTNode | None:
    for node in (*script.nodes(cst.Import), *script.nodes(cst.ImportFrom)):
        for alias in node.names if not isinstance(node.names, cst.ImportStar) else ():  # type: ignore[attr-defined]
            local = (
                alias.asname.name.value if alias.asname is not None else (dotted(alias.name) or "").partition(".")[0]
            )
            if local == name:
                return node
    return None


def _indexed_loss(script: Script, node: cst.Subscript) -> str | None:
    """`loss.data[0]` and `loss[0]` of what gets a backward(), `criterion(...).data[0]`."""
    if len(node.slice) != 1 or literal(getattr(node.slice[0].slice, "value", None)) != "0":
        return None
    value = node.value
    is_data = isinstance(value, cst.Attribute) and value.attr.value == "data"
    inner = value.value if isinstance(value, cst.Attribute) and is_data else value
    name = dotted(inner)
    if name is not None:
        if script.key(inner, name) in script.loss_names:
            return name
        return name if is_data and "loss" in words(name) and script.key(inner, name) not in _lists(script) else None
    if is_data and isinstance(inner, cst.Call):
        full = script.qualified(inner)
        if (
            full.startswith("torch.nn.functional.")
            and ("loss" in full or "entropy" in full)
            and "reduce" not in arguments(inner).keyword
        ):
            return code(inner)
    return None


def _lists(script: Script) -> set:
    return {
        key
        for key, found in script.definitions.items()
        if any(d.value is None or isinstance(d.value, (cst.List, cst.ListComp, cst.Tuple)) for d in found)
    }


def _whole_module(script: Script) -> Iterator[Diagnostic]:
    if script.called("add_safe_globals", "safe_globals"):
        return
    for call in script.calls("load"):
        statement = script.statement(call)
        if (
            script.qualified(call) == "torch.load"
            and "weights_only" not in arguments(call).keyword
            and not arguments(call).starred
            and isinstance(statement, cst.Assign)
            and statement.value is call
            and len(statement.targets) == 1
            and script.kind(statement.targets[0].target) is Kind.MODULE
        ):
            yield WHOLE_MODULE.at(script, call)
