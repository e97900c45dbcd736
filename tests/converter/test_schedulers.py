"""Who steps a scheduler: the Trainer, where nothing asks for the rate at another time than the script does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.converter.scripts import SETUP, STEP, converted, in_each_mode, methods, script

STEPLR = "scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)\n"
RATE = "optimizer.param_groups[0]['lr']"
#: An optimizer that one of two statements makes.
EITHER = SETUP.replace("optimizer =", "if len(data) > 9:\n    optimizer =")
EITHER += "else:\n    optimizer = torch.optim.Adam(model.parameters())\n"
MADE = "return ([optimizer], [scheduler])"
GIVEN = "return ([self.optimizer], [self.scheduler])"
EACH_BATCH = "return ([self.optimizer], [{'scheduler': self.scheduler, 'interval': 'step'}])"
HANDED = "return self.optimizer"

#: What an epoch ends with, and what configure_optimizers returns.
ENDS = {
    "the rate of the next epoch": (f"scheduler.step()\nprint({RATE})", MADE),
    "the rate of this epoch": (f"print({RATE})\nscheduler.step()", HANDED),
    "the optimizer is saved after it": ("scheduler.step()\nkept.append(optimizer.state_dict())", MADE),
    "the optimizer is saved before it": ("kept.append(optimizer.state_dict())\nscheduler.step()", HANDED),
}
#: Scripts with an optimizer that stays in the host.
STAYING = {
    "each epoch": (script(setup=EITHER, before=STEPLR, end="scheduler.step()"), GIVEN),
    "each batch": (script(f"{STEP}\nscheduler.step()", setup=EITHER, before=STEPLR), EACH_BATCH),
    "read after the run": (
        script(setup=EITHER, before=STEPLR, end="scheduler.step()", after="print(scheduler.last_epoch)"),
        GIVEN,
    ),
    "the rate of this epoch": (script(setup=EITHER, before=STEPLR, end=f"print({RATE})\nscheduler.step()"), HANDED),
    "asked for the rate": (
        script(setup=EITHER, before=STEPLR, end="scheduler.step()\nprint(scheduler.get_last_lr())"),
        HANDED,
    ),
    "ended before it": (
        script(setup=EITHER, before=STEPLR, end="if loss < 0:\n    break\nscheduler.step()"),
        HANDED,
    ),
    "of another optimizer": (
        script(
            setup=EITHER,
            before="other = torch.optim.SGD([model[0].weight], 1)\n" + STEPLR.replace("optimizer,", "other,"),
            end="scheduler.step()",
        ),
        HANDED,
    ),
}


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
@pytest.mark.parametrize(("end", "result"), ENDS.values(), ids=ENDS)
def test_a_rate_is_that_of_the_epoch_that_asks_for_it(end: str, result: str, style: str) -> None:
    hooks = methods(converted(script(before=f"kept = []\n{STEPLR}", end=end), style=style).text)
    assert result in hooks["configure_optimizers"]
    assert ("self.scheduler.step()" in hooks["on_train_epoch_end"]) is (result == HANDED)


@pytest.mark.parametrize(("text", "result"), STAYING.values(), ids=STAYING)
def test_the_trainer_steps_what_the_host_keeps(text: str, result: str) -> None:
    hooks = methods(converted(text).text)
    assert hooks["configure_optimizers"] == result
    assert ("scheduler.step()" in "".join(hooks.values())) is (result == HANDED)


@pytest.mark.slow
@in_each_mode
@pytest.mark.parametrize("text", [text for text, _ in STAYING.values()], ids=STAYING)
def test_it_trains_identically(
    text: str, style: str, runtime: str, trains_identically: Callable[[str, str | None], None]
) -> None:
    trains_identically(text, converted(text, style=style, runtime=runtime).text)
