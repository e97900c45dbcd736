"""Code that asks which names are bound is refused: the module keeps them where it does not look."""

from __future__ import annotations

from textwrap import indent

import pytest

from tests.converter.scripts import STEP, converted, script

AVERAGE = "average = 0.9 * average + 0.1 * loss.item()"
FIRST = f"try:\n    {AVERAGE}\nexcept %s:\n    average = loss.item()"
CAUGHT = "except NameError asks whether %s is bound"

REFUSED = {
    "a first value": (f"{STEP}\n{FIRST % 'NameError'}", "", CAUGHT % "average"),
    "one of several errors": (f"{STEP}\n{FIRST % '(KeyError, UnboundLocalError)'}", "", CAUGHT % "average"),
    "after the loop": (
        f"{STEP}\ndel loss",
        "try:\n    print(loss)\nexcept NameError:\n    print('gone')",
        CAUGHT % "loss",
    ),
    "locals": (f"{STEP}\nif 'average' not in locals():\n    average = 0\n{AVERAGE}", "", "locals() in the loop"),
    "a format": (f"{STEP}\nprint('{{loss}}'.format(**vars()))", "", "vars() in the loop"),
    "an expression": (f"{STEP}\nprint(eval('loss'))", "", "eval() in the loop"),
    "globals after the loop": (STEP, "print('loss' in globals())", "globals() after the loop"),
}
KEPT = {
    "an object's own": f"{STEP}\nprint(vars(criterion))",
    "a method": f"model.eval()\n{STEP}",
    "another error": f"try:\n    {AVERAGE.replace('0.9 * average', '1')}\nexcept KeyError:\n    pass\n".join(
        (f"{STEP}\n", "")
    ),
    "deleted for good": f"{STEP}\ndel loss",
}


@pytest.mark.parametrize(("batch", "after", "message"), REFUSED.values(), ids=REFUSED)
def test_what_asks_for_names_is_refused(batch: str, after: str, message: str) -> None:
    done = converted(script(batch, after=after))
    assert done.text is None
    assert message in done.refusals[0].message


@pytest.mark.parametrize("batch", KEPT.values(), ids=KEPT)
def test_what_asks_for_none_is_converted(batch: str) -> None:
    assert converted(script(batch)).text is not None


TAKEN = f"try:\n    more, _ = next(rest)\nexcept (StopIteration, NameError):\n    rest = iter(val_loader)\n{STEP}"


@pytest.mark.parametrize("taking", ["next(rest)", "rest.__next__()"])
def test_an_iterator_that_is_made_when_it_is_missed_is_asked_of_the_module(taking: str) -> None:
    done = converted(script(TAKEN.replace("next(rest)", taking)))
    assert done.mode == "automatic"
    assert "except (StopIteration, NameError, AttributeError):\n            self.rest = iter(" in (done.text or "")


@pytest.mark.parametrize("caught", ["except", "except Exception", "except UnboundLocalError"])
def test_what_a_function_forgets_is_not_kept(caught: str) -> None:
    taken = TAKEN.replace("except (StopIteration, NameError)", caught)
    define = f"def train():\n    for x, y in train_loader:\n{indent(taken, '        ')}\n"
    done = converted(script("", define=define, start="train()", batches="if True:"))
    assert done.mode == "manual" and "self.rest" not in (done.text or ""), done.refusals


def test_a_function_that_the_script_calls_eval_asks_for_none() -> None:
    done = converted(script(f"{STEP}\neval(model)", define="def eval(net):\n    net.eval()\n    net.train()"))
    assert done.text is not None


LOOP = f"for epoch in range(2):\n    for x, y in train_loader:\n{indent(STEP, '        ')}\n        count = count + 1"
SHARED = {
    "reads what the loop sets": ("def save():\n    print(count)", "save()", "save() of main() reads count"),
    "reads the epoch": ("scale = lambda: 1 / (epoch + 1)", "scale()", "a lambda of main() reads epoch"),
    "sets what the loop reads": (
        "def more():\n    nonlocal count\n    count += 1",
        "more()",
        "more() of main() sets count",
    ),
    "is handed on": (
        "def rate(_):\n    return 1 / count\natexit.register(rate)",
        "pass",
        "rate() of main() reads count",
    ),
}


@pytest.mark.parametrize(("function", "use", "message"), SHARED.values(), ids=SHARED)
def test_a_function_beside_the_loop_that_shares_its_names_is_refused(function: str, use: str, message: str) -> None:
    main = f"count = 0\nepoch = 0\n{function}\n{LOOP}\n        {use}"
    text = script(
        "pass", before=f"def main():\n{indent(main, '    ')}\n", epochs="if 0:", batches="if 0:", after="main()"
    )
    done = converted(text.replace("if 0:\n\n    if 0:\n        pass\n", ""))
    assert done.text is None and done.refusals[0].message.startswith(message), done.refusals
    # at the module's level the name stays one that all share
    flat = main.replace("nonlocal", "global")
    everywhere = converted(script("pass", before=f"{flat}\n", epochs="if 0:", batches="if 0:")).text
    assert everywhere is not None and "global" in everywhere


def test_a_function_around_the_host_counts_too() -> None:
    run = f"def run():\n    nonlocal count\n{indent(LOOP, '    ')}\n        show()"
    main = f"count = epoch = 0\ndef show():\n    print(count)\n{run}\nrun()"
    text = script(
        "pass", before=f"def main():\n{indent(main, '    ')}\n", epochs="if 0:", batches="if 0:", after="main()"
    )
    refusals = converted(text).refusals
    assert [one.message.startswith("show() of main() reads count, which the loop sets") for one in refusals] == [True]
