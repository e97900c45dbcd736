"""Parsed arguments are the module's hyperparameters where a copy of them tells the same all along."""

from __future__ import annotations

from textwrap import indent

import pytest

from tests.converter.scripts import PROLOGUE, SETUP, STEP, converted

PARSER = "import argparse\n\n\ndef parsed():\n    parser = argparse.ArgumentParser()\n    {more}\n    return parser.parse_args()\n\n\n"
LOOP = "for epoch in range(args.epochs):\n    for x, y in train_loader:\n{step}\n    {end}\n"


def with_arguments(
    call: str = "main(parsed())", *, more: str = "pass", define: str = "", first: str = "pass", end: str = "pass"
) -> str:
    """A script whose `main(args)` trains."""
    step = indent(f"{STEP}\nloss = loss * args.scale", " " * 8)
    body = indent(f"{first}\n{SETUP}\n{LOOP.format(step=step, end=end)}", "    ")
    return f"{PROLOGUE}{PARSER.format(more=more)}{define}\n\ndef main(args):\n{body}\n\n{call}\n"


PARSED = {
    "handed on as they are parsed": with_arguments(),
    "handed on by a name": with_arguments("options = parsed()\nmain(options)"),
    "by two functions": with_arguments("run(parsed())", define="def run(given):\n    main(given)\n"),
    "a number among them": with_arguments(first="args.total = len(data) * 2"),
    "a device among them": with_arguments(first="args.device = torch.device('cpu' if args.cpu else 'cuda')"),
    "a name that stands for a text": with_arguments(first="place = 'runs/' + args.name\nargs.place = place"),
    "only looked at": with_arguments(first="print(vars(args))"),
}

KEPT = {
    "a writer among them": with_arguments(first="args.writer = Writer()", define="class Writer:\n    pass\n"),
    "one by a name": with_arguments(first="writer = Writer()\nargs.writer = writer"),
    "two in a pair": with_arguments(first="args.pair = (model_of(args), 1)"),
    "set by its name": with_arguments(first="setattr(args, 'writer', model_of(args))"),
    "filled": with_arguments(first="vars(args)['writer'] = model_of(args)"),
    "an open file": with_arguments(more="parser.add_argument('--log', type=argparse.FileType('w'))"),
    "changed by the loop": with_arguments(end="args.scale = args.scale / 2"),
    "changed by a function under another name": with_arguments(
        "options = parsed()\nmain(options)", define="def decay():\n    options.scale /= 2\n", end="decay()"
    ),
    "changed by who holds them": with_arguments(
        define="class Rate:\n    def __init__(self, args):\n        self.args = args\n\n"
        "    def decay(self):\n        self.args.scale /= 2\n",
        first="rate = Rate(args)",
        end="rate.decay()",
    ),
    "handed on twice": with_arguments("main(parsed())\nmain(None)"),
    "given in whole": with_arguments(end="print(args)"),
}


@pytest.mark.parametrize("text", PARSED.values(), ids=PARSED)
def test_the_module_keeps_them(text: str) -> None:
    result = str(converted(text).text)
    assert "self.save_hyperparameters(args)" in result and "self.hparams.scale" in result
    assert "self.args" not in result


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT)
def test_the_module_holds_what_may_change_or_can_not_be_copied(text: str) -> None:
    result = str(converted(text).text)
    assert "self.args.scale" in result and "hparams" not in result
