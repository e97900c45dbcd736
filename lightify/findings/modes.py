"""Evaluation in the wrong mode, a mode that is never switched back, and graphs built for nothing."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from lightify.errors import Diagnostic
from lightify.facts import Kind
from lightify.findings.base import Rule
from lightify.findings.script import Loop, Script
from lightify.syntax.query import arguments, call_name, dotted, literal, method_call, walk

IN_TRAINING_MODE = Rule(
    "LF410",
    "warning",
    "evaluates in training mode: dropout draws, and batch norm learns from the batches",
    "kept as it is; a validation_step runs in eval mode, or call {model}.eval() and afterwards {model}.train()",
)
NEVER_BACK = Rule(
    "LF411",
    "warning",
    "{model}.eval() is never followed by {model}.train(): it trains on with dropout off and batch norm frozen",
    "kept as it is; a validation_step is followed by training mode, or call {model}.train() before the batch loop",
)
WITH_GRAPH = Rule(
    "LF412",
    "note",
    "evaluates without torch.no_grad(): each forward pass builds a graph",
    "kept as it is, the numbers are the same; a validation_step runs without gradients",
)
ALWAYS_DROPS = Rule(
    "LF413",
    "warning",
    "this dropout acts in eval mode too: it does not follow the network's mode",
    "kept as it is; give training=self.training, or make an nn.Dropout in __init__",
)
RULES = (IN_TRAINING_MODE, NEVER_BACK, WITH_GRAPH, ALWAYS_DROPS)

_MODAL = ("Dropout", "BatchNorm", "SyncBatchNorm", "AlphaDropout", "FeatureAlphaDropout")
_FUNCTIONAL_DROPOUT = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")


def find(script: Script) -> Iterator[Diagnostic]:
    """Accepts loops over data that call the trained network without backward(); silent when its layers are not seen."""
    yield from _functional_dropout(script)
    trained = _trained(script)
    evals = [call for call in script.calls("eval") if _receiver_is_module(script, call)] + [
        call for call in script.calls("train") if call.args and literal(call.args[0].value) == "False"
    ]
    yield from _never_back(script, evals, trained)
    for loop, forward in _evaluation_loops(script):
        model = forward.func
        off = script.without_gradients(forward)
        if not evals and off and _is_modal(script, model):
            yield IN_TRAINING_MODE.at(script, loop, model=dotted(model))
        elif not off and _switched_before(script, evals, loop, model) and not script.called("grad", "requires_grad_"):
            yield WITH_GRAPH.at(script, loop)


def _trained(script: Script) -> frozenset[tuple]:
    """The names of networks whose parameters an optimizer gets."""
    found: set[tuple] = set()
    for call in script.calls("parameters", "named_parameters"):
        used = method_call(call)
        if used is not None and any(
            isinstance(a, cst.Call) and ".optim." in f".{script.qualified(a)}" for a in script.tree.ancestors(call)
        ):
            found |= script.origins(used[0])
    return frozenset(found)


def _receiver_is_module(script: Script, call: cst.Call) -> bool:
    used = method_call(call)
    return used is not None and not call.args and script.kind(used[0]) is Kind.MODULE


def _never_back(script: Script, evals: list[cst.Call], trained: frozenset) -> Iterator[Diagnostic]:
    for call in evals:
        receiver, _ = method_call(call)  # type: ignore[misc]
        origins = script.origins(receiver)
        if not origins or not origins <= trained or not script.in_run(call) or _ends_the_run(script, call):
            continue
        if not _is_modal(script, receiver):
            continue
        back = [c for c in script.calls("train") if not c.args or literal(c.args[0].value) != "False"]
        if any(script.in_run(c) and _may_be(script, c, origins) for c in back):
            continue
        yield NEVER_BACK.at(script, call, model=dotted(receiver))


def _may_be(script: Script, call: cst.Call, origins: frozenset) -> bool:
    """True when `x.train(...)` may be the network's; calls of the file's own functions named train are not."""
    used = method_call(call)
    if used is None:
        return False
    found = script.origins(used[0])
    return not found or bool(found & origins) or script.kind(used[0]) is not Kind.MODULE


def _ends_the_run(script: Script, node: cst.CSTNode) -> bool:
    """True when the loops are left after a node: a `break` or `return` follows in its block."""
    for ancestor in script.tree.ancestors(node):
        if isinstance(ancestor, Loop):
            return False
        if isinstance(ancestor, cst.IndentedBlock) and any(
            isinstance(part, (cst.Break, cst.Return)) for line in ancestor.body[-1:] for part in walk(line)
        ):
            return isinstance(script.tree.parents.get(ancestor), (cst.If, cst.Else))
    return False


def _evaluation_loops(script: Script) -> Iterator[tuple[Loop, cst.Call]]:
    """Loops over a loader that run a network and train nothing, with the first call of the network."""
    training = {fact.call for fact in script.analysis.backwards} | {fact.call for fact in script.analysis.updates}
    training_loops = {
        ancestor for call in training for ancestor in script.enclosing(call) if isinstance(ancestor, Loop)
    }
    for loop in script.nodes(cst.For):
        if loop in training_loops or not _is_over_loader(script, loop):
            continue
        forward = next((node for node in walk(loop.body) if _is_forward(script, node)), None)
        if isinstance(forward, cst.Call):
            yield loop, forward


def _is_forward(script: Script, node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Call) and dotted(node.func) is not None and script.kind(node.func) is Kind.MODULE


def _is_over_loader(script: Script, loop: cst.For) -> bool:
    iterable: cst.BaseExpression | None = loop.iter
    while isinstance(iterable, cst.Call) and call_name(iterable) in ("enumerate", "tqdm", "iter"):
        iterable = arguments(iterable).get(0, "iterable")
    if iterable is None or dotted(iterable) is None:
        return False
    return script.kind(iterable) is Kind.LOADER


def _switched_before(script: Script, evals: list[cst.Call], loop: Loop, model: cst.CSTNode) -> bool:
    """True when the network is put into eval mode in the loop's function before the loop."""
    return any(
        script.function(call) is script.function(loop)
        and script.place(call) < script.place(loop)
        and script.origins(method_call(call)[0]) == script.origins(model)  # type: ignore[index]
        for call in evals
    )


def _is_modal(script: Script, model: cst.CSTNode) -> bool:
    """True when a network surely acts differently in training: the layers in sight say so."""
    definition = script.class_of(model)
    if definition is None:
        call = script.construction(model)
        return call is not None and any(
            _is_modal_call(script, part) for part in walk(call) if isinstance(part, cst.Call)
        )
    todo: list[cst.ClassDef | None] = [definition]
    seen: set[cst.ClassDef] = set()
    while todo:
        definition = todo.pop()
        if definition is None or definition in seen:
            continue
        seen.add(definition)
        for node in walk(definition):
            if isinstance(node, cst.Call):
                if _is_modal_call(script, node):
                    return True
                todo.append(script.tree.classes.get(dotted(node.func) or ""))
    return False


def _is_modal_call(script: Script, call: cst.Call) -> bool:
    full = script.qualified(call)
    last = full.rpartition(".")[2]
    given = arguments(call)
    if full.startswith("torch.nn.functional."):
        return last in _FUNCTIONAL_DROPOUT and literal(given.get(2, "training")) != "False"
    if full.startswith("torch.nn."):
        if last.startswith(_MODAL):
            zero = last.endswith(("Dropout", "Dropout1d", "Dropout2d", "Dropout3d")) and literal(given.get(0, "p")) in (
                "0",
                "0.0",
            )
            return not zero
        if last in ("LSTM", "GRU", "RNN"):
            dropout = given.keyword.get("dropout")
            return (
                literal(dropout) not in (None, "0", "0.0") if isinstance(dropout, (cst.Integer, cst.Float)) else False
            )
        return last.startswith("Transformer") and literal(given.keyword.get("dropout")) not in ("0", "0.0")
    return full.startswith("torchvision.models.") and last.startswith(_MODAL_NETWORKS)


_MODAL_NETWORKS = (
    "resnet",
    "resnext",
    "wide_resnet",
    "alexnet",
    "vgg",
    "densenet",
    "googlenet",
    "inception",
    "mobilenet",
    "efficientnet",
    "mnasnet",
    "regnet",
    "shufflenet",
    "squeezenet",
)


def _functional_dropout(script: Script) -> Iterator[Diagnostic]:
    if not (script.called("eval") or script.called("train")):
        return
    for call in script.calls(*_FUNCTIONAL_DROPOUT):
        full = script.qualified(call)
        given = arguments(call)
        if not full.startswith("torch.nn.functional.") or given.starred or "forward" not in _method_names(script, call):
            continue
        rate = given.get(1, "p")
        if given.get(2, "training") is None and literal(rate) not in ("0", "0.0"):
            yield ALWAYS_DROPS.at(script, call)
    for call in script.nodes(cst.Call):
        inner = call.func
        if (
            isinstance(inner, cst.Call)
            and script.qualified(inner).startswith("torch.nn.Dropout")
            and "forward" in _method_names(script, call)
        ):
            yield ALWAYS_DROPS.at(script, call)


def _method_names(script: Script, node: cst.CSTNode) -> list[str]:
    return [a.name.value for a in script.tree.ancestors(node) if isinstance(a, cst.FunctionDef)]
