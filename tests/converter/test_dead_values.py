"""What only prints read goes with them, in the idiomatic style; what draws or is read stays."""

from __future__ import annotations

from textwrap import indent

import pytest

from lightify.ledger import Fate
from tests.converter.scripts import PROLOGUE, SETUP, STEP, converted, methods, script

NUMBERED = "for i, (x, y) in enumerate(train_loader):"
BEFORE = "import time, datetime\nimport numpy as np\nprev = time.time()\nscale = 1\n"


def ending(lines: str, **parts: str) -> str:
    """A script whose batches end with lines."""
    return script(f"{STEP}\n{lines}", batches=NUMBERED, before=BEFORE, **parts)


LEFT = (
    "left = datetime.timedelta(seconds=(9 - i) * (time.time() - prev))\n"
    "prev = time.time()\nprint('%d %f ETA: %s' % (i, loss.item(), left))"
)
GONE = {
    "the time that is left": ending(LEFT),
    "in a branch": ending(f"if len(x) > 2:\n{indent(LEFT, '    ')}"),
    "over two hooks": ending("took = time.time() - began\nprint(loss.item(), took)", start="began = time.time()"),
    "numpy": ending("shown = np.concatenate([y.cpu().numpy(), y.cpu().numpy()])\nprint(loss.item(), shown)"),
}


@pytest.mark.parametrize("text", GONE.values(), ids=GONE)
def test_what_only_a_print_read_goes(text: str) -> None:
    done = converted(text, style="idiomatic")
    code = "".join(methods(done.text).values())
    assert not any(word in code for word in ("left", "time.", "prev", "began", "shown", "np.")), code
    assert ("prev = " in str(done.text)) is ("prev)" not in text)  # what nothing read before stays
    lines = ("left =", "shown =", "took =", "began =")
    gone = {entry.fate for entry in done.ledger.entries if entry.text.strip().startswith(lines)}
    assert gone == {Fate.DROPPED}
    assert any("no longer printed" in departure for departure in done.departures)


@pytest.mark.parametrize(
    "text",
    [
        script(
            "train(epoch + 1, x, y)",
            define=f"def train(number, x, y):\n{indent(STEP, '    ')}\n    print('%d %f' % (number, loss.item()))\n\n",
        ),
        script(
            f"{STEP}\nlogger.info('loss %f', loss.item())",
            before="import logging\nlogger = logging.getLogger('train')\n",
        ),
    ],
    ids=["an argument", "a logger"],
)
def test_names_that_only_a_print_used_go(text: str) -> None:
    body = indent(text.partition("torch.manual_seed(0)\n")[2], "    ")
    done = converted(f"{text.partition('torch.manual_seed')[0]}def main():\n{body}\nmain()\n", style="idiomatic")
    assert done.text is not None and "number" not in done.text and "logger = " not in done.text
    assert not [finding for finding in done.findings if finding.code == "LF905"]


STAYS = {
    "a random draw": (
        ending("shown = torch.rand(1).item()\nprint(loss.item(), shown)"),
        "\ntorch.rand(1).item()",
    ),
    "read by the next batch": (
        ending("if i == 2:\n    scale = scale / 2\n    print(loss.item())").replace(
            "model(x), y)", "model(x), y) * scale"
        ),
        "self.scale = self.scale / 2",
    ),
    "read after the run": (
        ending("if i == 2:\n    shown = i\n    print(loss.item())", after="print(shown)"),
        "shown = ",
    ),
    "read by a function": (
        ending(
            "if i == 2:\n    shown = i\n    print(loss.item())",
            define="def tell():\n    print(shown)\n",
            after="tell()",
        ),
        "shown = ",
    ),
    "deleted": (ending("if i == 2:\n    shown = i\n    print(loss.item())\n    del shown"), "shown = "),
}


@pytest.mark.parametrize(("text", "line"), STAYS.values(), ids=STAYS)
def test_what_is_read_or_draws_stays(text: str, line: str) -> None:
    assert line in "".join(methods(converted(text, style="idiomatic").text).values())


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
@pytest.mark.parametrize("line", ["print(loss.item())", "bar.update(1)", "x, y = x.cuda(), y.cuda()"])
def test_a_condition_that_draws_is_asked_still(line: str, style: str) -> None:
    bar = "from tqdm import tqdm\nbar = tqdm(total=9)\n"
    text = script(f"{STEP}\nif torch.rand(1) > 0.5:\n    {line}", before=bar)
    assert "if torch.rand(1) > 0.5:" in methods(converted(text, style=style).text)["training_step"]


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
def test_shares_in_percent_and_detached_numbers_are_logged(style: str) -> None:
    shown = "print('%d %f, acc: %d%%' % (i, loss.data.item(), 100 * acc))"
    step = methods(converted(ending(f"acc = (y > 0).float().mean().item()\n{shown}"), style=style).text)[
        "training_step"
    ]
    assert "self.log('acc', acc, prog_bar=True)" in step and "self.log('loss', loss, prog_bar=True)" in step


DRAWS = {
    "a list of a loader": "seen = list(train_loader)",
    "a comprehension over a loader": "seen = max([len(y) for _, y in train_loader])",
    "an iterator that is used up": "it = iter(val_loader)\nseen = list(it)",
    "an element, which may be made when it is asked for": "seen = data[0]",
}


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
@pytest.mark.parametrize("lines", DRAWS.values(), ids=DRAWS)
def test_a_pass_over_batches_stays_though_nothing_reads_it(lines: str, style: str) -> None:
    before = lines.replace("train_", "val_")
    assert before in str(converted(script(STEP, before=before), style=style).text)
    value = lines.rpartition("seen = ")[2]
    assert f"\n        {value}\n" in str(converted(script(STEP, end=lines), style=style).text)
    assert "seen = " not in str(converted(script(STEP, end="seen = len(train_loader)"), style=style).text)


#: What an epoch ends with, and what is left of it in the hook.
UNREAD = {
    "a mere value": ("seen = given.eq(1).sum().item()", ""),
    "a criterion": ("seen = criterion(given, given)", ""),
    "a network": ("seen = model(given)", "self.model(given)"),
    "a network that moves": ("seen = model.float()", "self.model.float()"),
    "within blocks": (
        "for part in given:\n    if part > 0:\n        seen = part.sum()\n        shown.append(part)",
        "for part in given:\n    if part > 0:\n        shown.append(part)",
    ),
    "one needs the other": ("size = given.shape\nseen = size[0]", ""),
    "a pair": ("seen, last = given.sum(), 1\nshown.append(last)", "last = 1\nshown.append(last)"),
    "a pair that the script did not want": (
        "_, last = given.sum(), 1\nshown.append(last)",
        "last = 1\nshown.append(last)",
    ),
    "a pair that nothing needs": ("seen, last = given.sum(), 1", ""),
    "names of a function inside": (
        "def tell():\n    seen = 2\n    return seen\nshown.append(tell())\nseen = 1",
        "def tell():\n    seen = 2\n    return seen\nshown.append(tell())",
    ),
    "a result of a function that stays": ("seen = stays()", "stays()"),
    "what a call fills": ("seen = torch.add(given, 1, out=given)", "torch.add(given, 1, out=given)"),
    "a property that counts": ("seen = meter.asked", "meter.asked"),
    "a property that computes": ("seen = plain.mean", ""),
    "an operator that counts": ("seen = meter + 1", "meter + 1"),
    "a text that counts": ("seen = f'{meter}'", "f'{meter}'"),
    "a queue": ("seen = waiting.get()", "waiting.get()"),
    "a set": (
        "seen = [kept.add(part) for part in given]",
        "[kept.add(part) for part in given]",
    ),
    "a dictionary": ("seen = {}.get(1)", ""),
    "what a try expects": (
        "try:\n    seen = given[9]\nexcept IndexError:\n    shown.append(1)",
        "try:\n    given[9]\nexcept IndexError:\n    shown.append(1)",
    ),
}

METER = """
class Meter:
    def __init__(self):
        self.n = 1
    @property
    def asked(self):
        self.n += 1
        return self.n
    @property
    def mean(self):
        return self.n / 2

class Sum(Meter):
    def __add__(self, other):
        self.n += other
        return self
    def __str__(self):
        self.n += 1
        return ""

"""


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
@pytest.mark.parametrize(("lines", "left"), UNREAD.values(), ids=UNREAD)
def test_names_that_a_hook_does_not_read_go(lines: str, left: str, style: str) -> None:
    define = f"def stays():\n    return torch.rand(1)\n{METER}\n"
    before = "kept = set()\nshown, waiting = [], queue.Queue()\ngiven, meter, plain = torch.ones(4), Sum(), Meter()\n"
    text = script(STEP, before=f"import queue\n{before}", end=lines, define=define)
    done = converted(text, style=style)
    assert methods(done.text).get("on_train_epoch_end", "").strip() == left
    assert not [finding for finding in done.findings if finding.code == "LF905"]
    assert left or "nothing reads its value" in {entry.reason for entry in done.ledger.entries}


def test_a_name_that_its_own_function_left_unread_stays() -> None:
    define = f"def train(x, y):\n    unread = x.sum()\n{indent(STEP, '    ')}\n\n"
    step = methods(converted(script("train(x, y)", define=define)).text)["training_step"]
    assert "unread = x.sum()" in step, "any linter says so of the script"


def test_a_name_stays_where_a_try_around_the_loops_may_expect_its_value_to_fail() -> None:
    loops = f"for epoch in range(3):\n    for x, y in train_loader:\n{indent(STEP, ' ' * 8)}\n        seen = x[7]"
    for caught, kept in (("IndexError", True), ("KeyboardInterrupt", False)):
        lines = f"try:\n{indent(loops, '    ')}\nexcept {caught}:\n    print('over')"
        text = script("pass", epochs="if True:", batches="if True:", after=lines)
        assert ("\n        x[7]\n" in str(converted(text).text)) is kept


def test_a_result_that_nothing_reads_has_no_name() -> None:
    define = f"def train(x, y):\n{indent(STEP, '    ')}\n    return loss.item(), len(x)\n\n"
    text = script("share, count = train(x, y)\nshown.append(count)", before="shown = []\n", define=define)
    assert "share" not in str(converted(text).text)


def test_a_starred_name_keeps_the_others_in_their_places() -> None:
    lines = "seen, *last = (given, 1)\nshown.append(last)"
    text = script(STEP, before="shown = []\ngiven = torch.ones(4)\n", end=lines)
    assert methods(converted(text).text)["on_train_epoch_end"] == lines


def test_a_name_whose_value_draws_keeps_its_place_among_others() -> None:
    lines = "seen, last, most = (torch.rand(1), 1, given.max())\nshown.append(last)"
    text = script(STEP, before="shown = []\ngiven = torch.ones(4)\n", end=lines)
    hook = methods(converted(text).text)["on_train_epoch_end"]
    assert hook == "seen, last = (torch.rand(1), 1)\nshown.append(last)"


HOST = f"""\
def main(best=0.0):
    model = nn.Linear(4, 2)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    {{before}}
    for epoch in range(3):
        for x, y in train_loader:
{indent(STEP, " " * 12)}
        {{end}}
{{after}}

main()
"""
HOST_NAMES = {
    "after the run": ("score = best", "score = 1.0 + best\nshown(score)", "score = best + 2", "best + 2", ""),
    "what does something": ("pass", "out = model(x)\nshown(out)", "for x in range(2):\n    out = torch.rand(2)", "out =", "    torch.rand(2)"),
    "one of two": ("pass", "rate = 1\nshown(rate)", "rate, more = 1, torch.rand(2)\nshown(more)", "rate", "more = torch.rand(2)"),
    "of two that draw": ("pass", "a = 1\nshown(a)", "a, b = torch.rand(1), 2\nshown(b)", "", "a, b = torch.rand(1), 2"),
    "read there": ("pass", "a = 1\nshown(a)", "a = 1 + best\nshown(a)", "", "a = 1 + best"),
    "read in a list there": ("pass", "a = 1\nshown(a)", "a = 1 + best\nshown([a for _ in range(2)])", "", "a = 1 + best"),
    "where it may fail": ("pass", "a = 1\nshown(a)", "try:\n    a = best + 2\nexcept TypeError:\n    pass", "", "a = best + 2"),
    "what nothing ever read": ("pass", "pass", "a = 1 + best", "", "a = 1 + best"),
}  # fmt: skip


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
@pytest.mark.parametrize(("before", "end", "after", "gone", "left"), HOST_NAMES.values(), ids=HOST_NAMES)
def test_names_of_the_host_that_only_the_loop_read_go(
    before: str, end: str, after: str, gone: str, left: str, style: str
) -> None:
    lines = HOST.format(before=before, end=indent(end, " " * 8).strip(), after=indent(after, "    "))
    text = str(converted(f"{PROLOGUE}def shown(it):\n    pass\n\n\n{lines}", style=style).text)
    host = text.partition("def main(")[2]
    assert (not gone or gone not in host) and left in host, host


def test_a_name_that_another_run_sets_and_reads_stays() -> None:
    run = f"for epoch in range(3):\n    for x, y in train_loader:\n{indent(STEP, ' ' * 8)}\n        a = 1 + epoch\n"
    lines = HOST.format(before="pass", end="a = 1\n        shown(a)", after=indent(run, "    "))
    done = converted(f"{PROLOGUE}def shown(it):\n    pass\n\n\n{lines}")
    assert not done.refusals and str(done.text).count("LightningModule") == 2


def test_a_loop_variable_of_a_run_that_is_repeated_is_no_result() -> None:
    run = f"for epoch in range(2):\n    for x, y in train_loader:\n        x = x * 2\n{indent(STEP, ' ' * 8)}\n"
    lines = f"def main():\n    for fold in range(2):\n{indent(SETUP + run, ' ' * 8)}\n\nmain()\n"
    text = str(converted(PROLOGUE + lines).text)
    assert "x, y = batch" in text and "module.x" not in text


def test_a_batch_counter_that_only_an_average_read_goes_with_it() -> None:
    text = script(
        f"{STEP}\ntotal += loss.item()",
        start="total = 0.0",
        batches="for step, (x, y) in enumerate(train_loader):",
        end="n = step + 1\nprint('loss %.4f' % (total / n))",
    )
    done = converted(text, style="idiomatic")
    assert "step =" not in methods(done.text)["training_step"] and not done.findings


@pytest.mark.parametrize(
    ("own", "after", "left"),
    [
        ("n = 0", "", "global n\n    n = 0"),
        ("n, best = 0, 1e9", "", "global best, n"),
        ("", "", ""),
        ("", "best = 0.0", "global best\n"),
    ],
    ids=["one that the host sets", "both", "none", "set after the run"],
)
def test_the_host_declares_no_globals_that_only_hooks_assign(own: str, after: str, left: str) -> None:
    run = f"for epoch in range(2):\n    for x, y in train_loader:\n{indent(STEP, ' ' * 8)}\n    n, best = n + 1, loss.item()\n"
    lines = indent(f"global best, n\n{own}\n{SETUP}{run}{after}\n", "    ")
    text = str(converted(f"{PROLOGUE}best, n = 1e9, 0\n\n\ndef main():\n{lines}\n\nmain()\nprint(best, n)\n").text)
    host = text.partition("def main(")[2]
    assert left in host if left else "global" not in host
    assert "global best, n" in methods(text)["on_train_epoch_end"]
