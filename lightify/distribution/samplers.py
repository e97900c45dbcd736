"""Takes the script's own samplers for several processes out of its loaders, where a Trainer's are the same."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import libcst as cst

from lightify.distribution.edits import Edit, as_before
from lightify.distribution.holders import Unclear
from lightify.distribution.wrapping import Wrapping
from lightify.syntax.parse import Tree
from lightify.syntax.query import arguments, code, dotted, literal, method_call, target_names


def is_sampler(node: cst.CSTNode, tree: Tree) -> bool:
    """True for the making of torch's DistributedSampler."""
    full = tree.qualified(node.func) if isinstance(node, cst.Call) else None
    return full is not None and full.startswith("torch.utils.data.") and full.endswith(".DistributedSampler")


class Samplers:
    """The samplers of a script: what goes with them, and what their loaders become.

    Attributes:
        gone: statements that only make samplers or tell them the epoch.
        edits: of the loaders.
        dropped: their arguments that go.
        loaders: how many the Trainer shares out.
    """

    def __init__(self, tree: Tree, wrapping: Wrapping) -> None:
        self.tree, self.wrapping = tree, wrapping
        self.gone: set[cst.CSTNode] = set()
        self.edits: dict[cst.CSTNode, Edit] = {}
        self.dropped: set[cst.CSTNode] = set()
        self.loaders = 0
        self.calls = tree.nodes(cst.Call)

    def take(self) -> None:
        """Finds them all.

        Raises:
            Unclear: the Trainer would hand out other batches.
        """
        made = [call for call in self.calls if is_sampler(call, self.tree)]
        if not made:
            return  # each process sees all data, and the Trainer is told so
        self.loaders = len(made)
        loaders = [call for call in self.calls if self._makes_loader(call)]
        if len(loaders) != len(made):
            raise Unclear("a loader without a DistributedSampler would be shared out, too")
        shuffling = [call for call in made if self._shuffles(call)]
        self._check_epochs(shuffling)
        for call in made:
            self._take_one(call)

    def _makes_loader(self, call: cst.Call) -> bool:
        return (self.tree.qualified(call.func) or "").endswith("data.DataLoader")

    def _shuffles(self, call: cst.Call) -> bool:
        """Whether the order is drawn anew in each epoch, once it is known that a Trainer would draw the same."""
        given = arguments(call)
        others = given.keyword.keys() - {"dataset", "num_replicas", "rank", "shuffle"}
        shuffle = given.get(3, "shuffle")
        unclear = shuffle is not None and literal(shuffle) not in ("True", "False")
        if others or given.starred or len(given.positional) > 4 or unclear:
            raise Unclear(f"`{code(call)[:60]}` is made in a way that the Trainer does not know")
        return literal(shuffle) != "False"

    def _check_epochs(self, shuffling: list[cst.Call]) -> None:
        """Notes the calls that tell samplers the epoch; the Trainer tells it by itself, from 0."""
        told = [c for c in self.calls if (used := method_call(c)) is not None and used[1] == "set_epoch"]
        for call in told:
            statement = self.tree.parents[call]
            epoch = dotted(call.args[0].value) if len(call.args) == 1 else None
            if not isinstance(statement, cst.Expr) or (shuffling and not self._counts_from_zero(call, epoch)):
                raise Unclear(f"`{code(call)}` tells a sampler other numbers than the Trainer would")
            self.gone.add(statement)
        if len(shuffling) > len(told):
            raise Unclear("a shuffling sampler is not told the epoch, as the Trainer would tell it")

    def _counts_from_zero(self, call: cst.Call, epoch: str | None) -> bool:
        """True for the number of a `for epoch in range(n)` around a call, or around the only call of its function."""
        function = self.tree.function_of(call)
        for ancestor in self.tree.ancestors(call):
            if isinstance(ancestor, cst.For) and target_names(ancestor.target) == [epoch]:
                counted = ancestor.iter
                return isinstance(counted, cst.Call) and dotted(counted.func) == "range" and len(counted.args) == 1
            if isinstance(ancestor, (cst.For, cst.While)):
                return False
            if ancestor is function:
                break
        if function is None:
            return False
        names = [param.name.value for param in function.params.params]
        sites = [c for c in self.calls if (dotted(c.func) or "").rpartition(".")[2] == function.name.value]
        if epoch not in names or len(sites) != 1:
            return False
        index = names.index(epoch) - (names[:1] == ["self"])
        value = arguments(sites[0]).get(index, epoch)
        return self._counts_from_zero(sites[0], dotted(value))

    # -- one sampler --------------------------------------------------------------------------------------------

    def _take_one(self, call: cst.Call) -> None:
        value: cst.CSTNode = call
        parent = self.tree.parents[value]
        if isinstance(parent, cst.IfExp) and parent.body is call and literal(parent.orelse) == "None":
            value, parent = parent, self.tree.parents[parent]
        shuffles = self._shuffles(call)
        if isinstance(parent, cst.Arg):
            self._loader(parent, shuffles, "")
        elif isinstance(parent, cst.Assign) and len(parent.targets) == 1:
            target = parent.targets[0].target
            self.gone.add(parent)
            if isinstance(target, cst.Name):
                self._named(target, shuffles)
            elif isinstance(target, cst.Subscript) and not shuffles and self._is_option(target):
                return
            else:
                raise Unclear(f"`{code(parent).strip()[:60]}` keeps a sampler")
        else:
            raise Unclear(f"`{code(call)[:60]}` is used for more than a loader")

    def _is_option(self, target: cst.Subscript) -> bool:
        """True for `options["sampler"]` of a script whose options say nothing else about the order."""
        index = target.slice[0].slice
        named = isinstance(index, cst.Index) and literal(index.value) == "sampler"
        words = [node.raw_value for node in self.tree.nodes(cst.SimpleString)]
        return named and words.count("sampler") == self.loaders and "shuffle" not in words

    def _named(self, target: cst.Name, shuffles: bool) -> None:
        """Follows the name of a sampler to its loader."""
        function = self.tree.function_of(target)
        for node in self._mentions(target.value, function):
            parent = self.tree.parents[node]
            if isinstance(parent, cst.AssignTarget):
                assign = self.tree.parents[parent]
                known = isinstance(assign, cst.Assign) and (assign in self.gone or literal(assign.value) == "None")
                if not known:
                    raise Unclear(f"`{code(assign).strip()[:60]}` is another sampler")
                self.gone.add(assign)
            elif isinstance(parent, cst.Arg):
                self._loader(parent, shuffles, target.value)
            elif isinstance(parent, cst.Attribute) and parent.attr.value == "set_epoch":
                continue
            elif not self._asks_for_none(node):
                raise Unclear(f"`{target.value}` is used for more than a loader")

    def _mentions(self, name: str, function: cst.FunctionDef | None) -> Iterator[cst.CSTNode]:
        for node in self.tree.mentions.get(name, ()):
            parent = self.tree.parents[node]
            named = any(getattr(parent, part, None) is node for part in ("keyword", "attr"))
            if not named and self.tree.function_of(node) is function:
                yield node

    def _asks_for_none(self, node: cst.CSTNode) -> bool:
        """True inside a loader's `shuffle=(sampler is None)`."""
        arg = self.tree.around(node, cst.Arg)
        return arg is not None and arg.keyword is not None and arg.keyword.value == "shuffle"

    def _loader(self, arg: cst.Arg, shuffles: bool, name: str) -> None:
        call = self.tree.parents[arg]
        named = arg.keyword is not None and arg.keyword.value == "sampler"
        if not isinstance(call, cst.Call) or not self._makes_loader(call) or not named:
            raise Unclear(f"`{code(call)[:60]}` takes a sampler")
        given = arguments(call)
        shuffle = given.get(2, "shuffle")
        if given.starred or len(given.positional) > 2 or "generator" in given.keyword:
            raise Unclear(f"`{code(call)[:60]}` makes a loader in a way that is not known")
        alone = self._without_sampler(shuffle, name)
        always = self.wrapping.condition is None
        if alone is None or (alone != shuffles and not always):
            raise Unclear("one process and several go through the data in different orders")
        self.dropped |= {a for a in call.args if a is arg or a.value is shuffle}
        self.edits[call] = partial(_without_the_sampler, shuffles=shuffles)

    def _without_sampler(self, shuffle: cst.BaseExpression | None, name: str) -> bool | None:
        """Whether the loader shuffles without its sampler; None when that is not known."""
        if shuffle is None or literal(shuffle) in ("False", "True"):
            return literal(shuffle) == "True"
        condition = code(self.wrapping.condition) if self.wrapping.condition is not None else ""
        text = code(shuffle).strip("() ")
        return True if text in (f"{name} is None", f"not {condition}", f"{name} == None") else None


def _without_the_sampler(call: cst.CSTNode, *, shuffles: bool) -> cst.CSTNode:
    assert isinstance(call, cst.Call)
    args: list[cst.Arg] = []
    place = next(n for n, arg in enumerate(call.args) if arg.keyword is not None and arg.keyword.value == "sampler")
    said = False
    for number, arg in enumerate(call.args):
        name = arg.keyword.value if arg.keyword is not None else ""
        if name == "shuffle":
            said = True
            args.extend([arg.with_changes(value=cst.Name(str(shuffles)))] if shuffles or literal(arg.value) else [])
        elif number != place:
            args.append(arg)
    if shuffles and not said:
        equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
        args.insert(min(place, len(args)), cst.Arg(cst.Name("True"), cst.Name("shuffle"), equal))
    return call.with_changes(args=as_before(call, args))
