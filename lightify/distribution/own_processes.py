"""Finds what a script does itself to run in several processes, where a Trainer does the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import libcst as cst

from lightify.analysis.callers import callers
from lightify.distribution.edits import (
    Edit,
    called_here,
    on_gpu,
    unmoved,
    without_arguments,
    without_parameters,
)
from lightify.distribution.holders import Unclear
from lightify.distribution.launch import SPAWNS, Launch
from lightify.distribution.mentions import Holder
from lightify.distribution.questions import (
    answer,
    asks,
    device_around,
    moves_network,
    names_variable,
    sets_up,
    stands_alone,
    zero_test,
)
from lightify.distribution.samplers import Samplers
from lightify.distribution.wrapping import Wrapping, is_repeatable
from lightify.syntax.names import local_names, parameters
from lightify.syntax.parse import Tree
from lightify.syntax.query import (
    arguments,
    block,
    code,
    dotted,
    is_constant,
    is_docstring,
    small,
    target_names,
    walk,
)

_OTHER = (cst.NamedExpr, cst.Await, cst.Yield, cst.Lambda, cst.Comparison)
_PLAIN = ("int", "str", "bool", "min", "max", "print")


@dataclass
class Processes:
    """What a Trainer does instead of the script.

    Attributes:
        gone: statements that only start, count or tell apart processes, and functions of such.
        edits: what becomes of the others that mention them.
        devices: the number of processes of a machine, as the Trainer's argument; empty when only the launch knows.
        samplers: how many loaders the Trainer shares out.
        asked: names that stand for what the Trainer is asked instead, by its attribute: `world_size`.
    """

    devices: str = '"auto"'
    gone: set[cst.CSTNode] = field(default_factory=set)
    edits: dict[cst.CSTNode, Edit] = field(default_factory=dict)
    samplers: int = 0
    asked: dict[str, str] = field(default_factory=dict)


def own_processes(tree: Tree, wrapping: Wrapping, launch: Launch) -> Processes:
    """Reads how the script starts its processes and tells them apart.

    Raises:
        Unclear: with the first thing that a Trainer would not do.
    """
    return _Follower(tree, wrapping, launch).run()


class _Follower:
    def __init__(self, tree: Tree, wrapping: Wrapping, launch: Launch) -> None:
        self.tree, self.wrapping, self.launch = tree, wrapping, launch
        self.calls = callers(tree)
        self.called: dict[cst.Call, cst.FunctionDef] = {
            call: function for function, sites in self.calls.items() for call in sites
        }
        self.out = Processes()
        self.gone = self.out.gone
        self.samplers = Samplers(tree, wrapping)
        self.ranks: set[Holder] = set()
        self.dropped: set[cst.CSTNode] = set()  # parameters and arguments that go
        self.all_calls = tree.nodes(cst.Call)
        self.accounted: set[cst.CSTNode] = set()  # expressions that are said anew
        self.statements = [node for node in tree.spans if tree.linked(node) is None]

    def run(self) -> Processes:
        if self.launch.several_machines:
            raise Unclear("its processes run on several machines")
        self.samplers.take()
        self.gone |= self.samplers.gone
        self.dropped |= self.samplers.dropped
        worker = self.tree.functions.get(self.launch.worker) if self.launch.spawned else None
        if self.launch.spawned:
            if worker is None or not parameters(worker):
                raise Unclear("it is not known what the spawned processes run")
            self._take_parameter(worker, 0)
        changed = True
        while changed:
            before = len(self.gone), len(self.ranks), len(self.dropped)
            self.gone |= {statement for statement in self.statements if self._is_plumbing(statement)}
            for call in self.all_calls:
                self._hand_over(call)
            changed = before != (len(self.gone), len(self.ranks), len(self.dropped))
        self._settle()
        self._spawns()
        for node in list(self._mentions()):
            self._account(node)
        self._drop_parameters()
        self.out.edits.update(self.samplers.edits)
        self.out.samplers = self.samplers.loaders
        return self.out

    # -- what goes ----------------------------------------------------------------------------------------------

    def _is_plumbing(self, node: cst.CSTNode) -> bool:
        """True for a statement that only starts, counts or tells apart processes."""
        if isinstance(node, cst.Expr):
            call = node.value
            return isinstance(call, cst.Call) and (sets_up(call, self.tree) or self.called.get(call) in self.gone)
        if isinstance(node, cst.Assign):
            return self._assigns(node)
        if isinstance(node, cst.If):
            return self._holds_nothing_else(node)
        if isinstance(node, cst.FunctionDef):
            return self._is_plumbing_function(node)
        return False

    def _assigns(self, node: cst.Assign) -> bool:
        target = node.targets[0].target
        if len(node.targets) == 1 and isinstance(target, cst.Subscript):
            return names_variable(target, self.tree)
        names = [name for each in node.targets for name in target_names(each.target)]
        if not names or not self._counts_processes(node.value):
            return False
        self.ranks |= {self._holder(node, name) for name in names}
        return True

    def _holds_nothing_else(self, node: cst.If) -> bool:
        if not is_repeatable(node.test) or not self._all_gone(node.body):
            return False
        other = node.orelse
        return other is None or other in self.gone or (isinstance(other, cst.Else) and self._all_gone(other.body))

    def _all_gone(self, suite: cst.BaseSuite, *, shows: bool = True) -> bool:
        lines = block(suite)
        gone = [line for line in lines if line in self.gone or small(line) in self.gone]
        rest = [line for line in lines if line not in gone and not isinstance(small(line), cst.Pass)]
        return bool(gone) and all(shows and self._shows(line) for line in rest)

    def _shows(self, line: cst.CSTNode) -> bool:
        """True for a print that says nothing without the process's number."""
        inner = small(line)
        call = inner.value if isinstance(inner, cst.Expr) else None
        return isinstance(call, cst.Call) and dotted(call.func) == "print"

    def _is_plumbing_function(self, function: cst.FunctionDef) -> bool:
        if not self.calls.get(function):
            return False
        lines = [line for line in block(function.body) if not is_docstring(line)]
        work = [line for line in lines if line in self.gone or small(line) in self.gone]
        rest = [line for line in lines if line not in work]
        answers = [small(line) for line in rest if isinstance(small(line), cst.Return)]
        silent = all(self._shows(line) or isinstance(small(line), (cst.Return, cst.Pass)) for line in rest)
        known = all(
            answer.value is None or self._counts_processes(answer.value)
            for answer in answers
            if isinstance(answer, cst.Return)
        )
        return bool(work) and silent and known

    def _counts_processes(self, node: cst.BaseExpression) -> bool:
        """True for a value that is made of ranks and their like alone."""
        found = False
        for part in walk(node):
            if isinstance(part, cst.Call):
                if self.called.get(part) in self.gone or asks(part, self.tree):
                    found = True
                elif dotted(part.func) not in _PLAIN:
                    return False
            elif isinstance(part, cst.Subscript):
                if not asks(part, self.tree):
                    return False
                found = True
            elif self._is_rank(part):
                found = True
            elif isinstance(part, _OTHER) or (isinstance(part, cst.Name) and not self._is_harmless(part)):
                return False
        return found

    def _is_harmless(self, node: cst.Name) -> bool:
        parent = self.tree.parents[node]
        named = any(getattr(parent, part, None) is node for part in ("attr", "keyword", "func"))
        return named or node.value in self.tree.imports or node.value in (*_PLAIN, "None", "True", "False")

    def _is_rank(self, node: cst.CSTNode) -> bool:
        return isinstance(node, cst.Name) and self._holder(node, node.value) in self.ranks

    def _holder(self, node: cst.CSTNode, name: str) -> Holder:
        for ancestor in self.tree.ancestors(node):
            if name.startswith("self.") and isinstance(ancestor, cst.ClassDef):
                return ancestor, name
            if isinstance(ancestor, cst.FunctionDef) and "." not in name and name in local_names(ancestor):
                return ancestor, name
        return None, name

    # -- parameters ---------------------------------------------------------------------------------------------

    def _hand_over(self, call: cst.Call) -> None:
        """Takes away a parameter that gets a rank in each call."""
        function = self._runs(call)
        if function is None or function in self.gone or function.name.value == self.launch.worker:
            return
        plain = [arg for arg in call.args if arg.keyword is None]
        for arg in call.args:
            if arg in self.dropped or arg.star or not self._counts_processes(arg.value):
                continue
            names = [p.name.value for p in self._own_parameters(function)]
            position = names.index(arg.keyword.value) if arg.keyword is not None else plain.index(arg)
            given = [self._argument(site, position, names[position]) for site in self._sites(function)]
            if all(other is not None and self._counts_processes(other.value) for other in given):
                self._take_parameter(function, position + len(parameters(function)) - len(names))

    def _runs(self, call: cst.Call) -> cst.FunctionDef | None:
        definition = self.tree.classes.get(dotted(call.func) or "")
        if definition is None:
            return self.called.get(call)
        methods = (f for f in block(definition.body) if isinstance(f, cst.FunctionDef))
        return next((f for f in methods if f.name.value == "__init__"), None)

    def _sites(self, function: cst.FunctionDef) -> list[cst.Call]:
        return [call for call in self.all_calls if self._runs(call) is function]

    def _own_parameters(self, function: cst.FunctionDef) -> list[cst.Param]:
        method = any(function in block(a.body) for a in self.tree.ancestors(function) if isinstance(a, cst.ClassDef))
        return parameters(function)[1 if method else 0 :]

    def _argument(self, call: cst.Call, position: int, name: str) -> cst.Arg | None:
        named = [arg for arg in call.args if arg.keyword is not None and arg.keyword.value == name]
        plain = [arg for arg in call.args if arg.keyword is None]
        if any(arg.star for arg in call.args):
            return None
        return named[0] if named else plain[position] if position < len(plain) else None

    def _take_parameter(self, function: cst.FunctionDef, index: int) -> None:
        param = parameters(function)[index]
        if param in self.dropped:
            return
        self.dropped.add(param)
        self.ranks.add((function, param.name.value))
        skipped = len(parameters(function)) - len(self._own_parameters(function))
        for site in self._sites(function):
            arg = self._argument(site, index - skipped, param.name.value)
            if arg is None or not (is_constant(arg.value) or self._counts_processes(arg.value)):
                raise Unclear(f"`{code(site)[:60]}` does not say which process it is")
            self.dropped.add(arg)

    def _drop_parameters(self) -> None:
        for node in self.tree.nodes(cst.Parameters, cst.Call):
            if isinstance(node, cst.Parameters):
                names = [param.name.value for param in node.params if param in self.dropped]
                if names:
                    self.out.edits[node] = partial(without_parameters, names=names)
            elif isinstance(node, cst.Call) and node not in self.samplers.edits:
                places = [number for number, arg in enumerate(node.args) if arg in self.dropped]
                if places:
                    self.out.edits[node] = partial(without_arguments, places=places)

    # -- the launch ---------------------------------------------------------------------------------------------

    def _spawns(self) -> None:
        for call in self.all_calls:
            if self.tree.qualified(call.func) not in SPAWNS:
                continue
            given = arguments(call)
            handed = given.get(1, "args")
            extra = given.keyword.keys() - {"fn", "args", "nprocs", "join", "daemon"}
            if extra or given.starred or not isinstance(given.get(0, "fn"), cst.Name):
                raise Unclear(f"`{code(call)[:60]}` starts its processes in its own way")
            if handed is not None and not isinstance(handed, cst.Tuple):
                raise Unclear("what the spawned processes get is not known")
            if not self._is_last(call):
                raise Unclear("what follows the spawned processes runs once, in none of them")
            self.out.edits[call] = called_here
            count = given.get(2, "nprocs")
            self.out.devices = self._count(count) if count is not None else ""

    def _count(self, node: cst.BaseExpression) -> str:
        """The number of processes as anybody knows it: all devices, or a constant; else empty."""
        if isinstance(node, cst.Integer):
            return node.value
        if isinstance(node, cst.Name):
            assigns = [s for s in self.statements if isinstance(s, cst.Assign)]
            assigned = [s.value for s in assigns if code(s.targets[0].target) == node.value]
            known = len(assigned) == 1 and not isinstance(assigned[0], cst.Name)
            return self._count(assigned[0]) if known else ""
        full = self.tree.qualified(node.func) if isinstance(node, cst.Call) else None
        return '"auto"' if full in ("torch.cuda.device_count", "torch.accelerator.device_count") else ""

    def _is_last(self, node: cst.CSTNode) -> bool:
        below: cst.CSTNode = node
        for ancestor in self.tree.ancestors(node):
            if isinstance(ancestor, (cst.FunctionDef, cst.For, cst.While, cst.With, cst.Try)):
                sites = self.calls.get(ancestor, []) if isinstance(ancestor, cst.FunctionDef) else []
                return len(sites) == 1 and self._is_last(sites[0])
            if isinstance(ancestor, (cst.IndentedBlock, cst.Module)):
                later = block(ancestor)[list(block(ancestor)).index(below) + 1 :]  # type: ignore[arg-type]
                if any(line not in self.gone and small(line) not in self.gone for line in later):
                    return False
            below = ancestor
        return True

    # -- what stays ---------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Keeps what counts processes for something that stays, where it is known without a group, too."""
        changed = True
        while changed:
            changed = False
            for node in list(self._mentions()):
                holder = self._holder(node, node.value) if isinstance(node, cst.Name) else None
                if holder not in self.ranks or zero_test(node, self.wrapping.condition, self.tree) is not None:
                    continue
                for statement in [s for s in self.gone if isinstance(s, cst.Assign) and self._sets(s, holder)]:
                    if self._stands_alone(statement.value):
                        self.gone.discard(statement)
                        self.ranks -= {self._holder(statement, n) for n in target_names(statement.targets[0].target)}
                        changed = True

    def _sets(self, statement: cst.Assign, holder: Holder) -> bool:
        names = [name for each in statement.targets for name in target_names(each.target)]
        return any(self._holder(statement, name) == holder for name in names)

    def _stands_alone(self, node: cst.CSTNode) -> bool:
        return stands_alone(node, self.tree) and not any(self._is_rank(part) for part in walk(node))

    def _mentions(self) -> Iterator[cst.CSTNode]:
        """Ranks and questions about processes in what stays."""
        for node in self.tree.parents:
            if not (asks(node, self.tree) or self._is_rank(node)) or self.tree.linked(node) is not None:
                continue
            around = [node, *self.tree.ancestors(node)]
            if any(a in self.gone or a in self.dropped or a in self.accounted for a in around):
                continue
            if any(a in self.wrapping.calls for a in around) or getattr(around[1], "keyword", None) is node:
                continue
            yield node

    def _account(self, node: cst.CSTNode) -> None:
        """Finds what a question about processes becomes."""
        test = zero_test(node, self.wrapping.condition, self.tree)
        device = device_around(node, self.tree)
        if device is not None:
            self.accounted.add(device)
            self.out.edits[device] = unmoved if moves_network(device, self.wrapping, self.tree) else on_gpu
        elif test is not None:
            self._ask(test, "is_global_zero")
        elif not (asks(node, self.tree) and self._stands_alone(node)):
            self._ask(node, answer(node))

    def _ask(self, node: cst.CSTNode, attribute: str) -> None:
        """Lets the Trainer answer instead."""
        name = self.tree.fresh(attribute, f"trainer_{attribute}")
        self.accounted.add(node)
        self.out.asked[attribute] = name
        self.out.edits[node] = lambda new: cst.Name(name)
