"""The user's code by template slot: what rewriting makes and rendering takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from textwrap import indent

import libcst as cst


@dataclass(frozen=True)
class Method:
    name: str
    parameters: tuple[str, ...]
    body: str  # indented by two levels, ends with a newline


@dataclass(frozen=True)
class RunPieces:
    """One run as text for the templates.

    Attributes:
        init: statements of `__init__`, in order, with their comments; parameters: of `__init__`.
        local: the variables of the function that the run stands in, which no import gives.
    """

    class_name: str
    parameters: tuple[str, ...]
    init: tuple[str, ...]
    methods: tuple[Method, ...]
    hyperparameters: tuple[str, ...]
    incomparable: tuple[str, ...]  # parameters whose == is no truth
    batch_mover: str
    manual: bool
    own_sigterm: str  # the signal module, where the script's handler has to be set again
    module_name: str
    trainer_name: str
    arguments: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    source: str
    passes: bool
    ends: bool  # the step may end a pass
    skips: bool  # an epoch's start may leave the pass out
    data_module: bool
    size: str  # what len() of a pass is, where the Trainer asks for it
    guarded: bool
    keeps_gradients: bool
    finds_gradients: bool
    undoes_exit: bool  # the script may catch Ctrl-C
    about: str
    validation: str
    test: str  # what the data module gives to the test
    after_fit: tuple[str, ...]
    returns: bool
    contexts: str  # the stack that fit runs in; empty: none
    unbroken: str  # when the loop's else runs; empty: always
    before_fit: tuple[str, ...]
    buffer_group: str  # asks for the function that keeps buffers equal, through this name of torch.distributed
    results: tuple[str, ...]  # statements that read back what the host needs
    local: tuple[str, ...]

    @property
    def code(self) -> Iterable[str]:
        """All user code in it, as statements."""
        options = (value for _, value in self.options)
        host = filter(
            None,
            (*self.arguments, self.source, self.validation, self.test, *options, *self.before_fit, *self.after_fit),
        )
        yield _within(self.local, host)
        yield _within(self.parameters, self.init)
        yield self.buffer_group
        yield self.own_sigterm
        yield from (f"def _():\n  if 1:\n{method.body}" for method in self.methods)


def _within(names: Iterable[str], lines: Iterable[str]) -> str:
    """Statements of a function that has these names."""
    body = "\n".join((*lines, "pass"))
    return f"def _({', '.join(names)}):\n{indent(body, '  ')}"


@dataclass(frozen=True)
class Pieces:
    """Text for the templates.

    Attributes:
        script: the script without what moved, with a line for each class and one for each run.
    """

    script: str
    runtime: str  # what the script calls the runtime
    runs: tuple[RunPieces, ...]
    imports: tuple[str, ...]  # that the script lacks
    dropped: frozenset[cst.CSTNode]  # imports, definitions and options that nothing needs any more
