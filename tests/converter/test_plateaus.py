"""A scheduler that a metric steps is the Trainer's in the idiomatic style, where it sees the same at the same time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.converter.scripts import EVALUATE, converted, methods, script

PLATEAU = "scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)\n"
SHOWN = "print(f'val loss {val_loss:.4f}')"
STEPS = "scheduler.step(val_loss)"


def stepped(*end: str, before: str = PLATEAU, evaluate: str = EVALUATE) -> str:
    return script(start="model.train()", before=before, end=evaluate + "\n".join(end), epochs="for epoch in range(8):")


MONITORED = {
    "after the print": stepped(SHOWN, STEPS),
    "before the print": stepped(STEPS, SHOWN),
    "with its rate before": stepped("rate = optimizer.param_groups[0]['lr']", "print(f'lr {rate:.3f}')", STEPS),
    "shown nowhere": stepped(STEPS),
    "written down, too": stepped(STEPS, "history.append(val_loss)", before=f"{PLATEAU}history = []\n"),
    "a list's mean": stepped(
        STEPS,
        evaluate=EVALUATE.replace("total, n = 0.0, 0", "losses = []")
        .replace("total += criterion(model(a), b).item() * len(b)", "losses.append(criterion(model(a), b).item())")
        .replace("        n += len(b)\n", "")
        .replace("total / n", "sum(losses) / len(losses)"),
    ),
}
OWN = {
    "its rate is read later": stepped(STEPS, "print(optimizer.param_groups[0]['lr'])"),
    "some epochs do without": stepped(f"if epoch > 1:\n    {STEPS}"),
    "an epoch, too": stepped("scheduler.step(val_loss, epoch)"),
    "no plateau": stepped(
        "scheduler.step(epoch)", before="scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)\n"
    ),
}


@pytest.mark.parametrize("text", MONITORED.values(), ids=MONITORED)
def test_the_trainer_monitors_it(text: str) -> None:
    hooks = methods(converted(text, style="idiomatic").text)
    assert "[{'scheduler': scheduler, 'monitor': 'val_loss'}]" in hooks["configure_optimizers"]
    assert "scheduler.step" not in "\n".join(hooks.values()) and "self.log('val_loss'" in "\n".join(hooks.values())


@pytest.mark.parametrize("text", MONITORED.values(), ids=MONITORED)
def test_the_faithful_style_steps_it_itself(text: str) -> None:
    hooks = methods(converted(text).text)
    assert "monitor" not in hooks["configure_optimizers"] and "step(" in hooks["on_train_epoch_end"]


@pytest.mark.parametrize("text", OWN.values(), ids=OWN)
def test_what_the_trainer_would_do_at_another_time_stays(text: str) -> None:
    assert "monitor" not in str(converted(text, style="idiomatic").text)


@pytest.mark.slow
def test_the_rates_are_the_same(trains_identically: Callable[[str, str | None], None]) -> None:
    text = MONITORED["a list's mean"].replace("lr=0.1", "lr=2.0")
    trains_identically(text, converted(text, style="idiomatic").text)
