"""Code that asks which names are bound is refused: the module keeps them where it does not look."""

from __future__ import annotations

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
