"""Evaluations that follow one another are one validation over several loaders, where nothing stands between them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.converter.scripts import converted, methods, script

RIGHT = """\
@torch.no_grad()
def test(loader):
    model.eval()
    right = 0
    for a, b in loader:
        right += int((model(a).argmax(1) == b).sum())
    return right / len(loader.dataset)
"""
MEANS = """\
def evaluate(net, loader):
    net.eval()
    total, n = 0.0, 0
    with torch.no_grad():
        for i, batch in enumerate(loader):
            total += criterion(net(batch[0]), batch[1]).item()
            n += 1
    net.train()
    print(f'loss {total / n:.4f}')
    return total / n
"""
METERS = """\
class Meter:
    def __init__(self):
        self.sum = self.count = 0
    def update(self, value, n):
        self.sum += value * n
        self.count += n
def validate(loader):
    losses, shapes = Meter(), []
    model.eval()
    for a, b in loader:
        with torch.no_grad():
            out = model(a)
        losses.update(criterion(out, b).item(), len(b))
        shapes.append(out.shape)
    a, b = losses.sum, losses.count
    print(out.shape, len(shapes), a / b)
    return a / b
"""
INLINE = """\
model.eval()
with torch.no_grad():
    mine = 0
    for a, b in train_loader:
        mine += (model(a).argmax(1) == b).sum().item()
    theirs = 0
    for a, b in val_loader:
        theirs += (model(a).argmax(1) == b).sum().item()
print(mine / 30, theirs / 30)
"""
TRAIN = "model.train()"


def ended(end: str, before: str = RIGHT, start: str = TRAIN) -> str:
    return script(start=start, before=before, end=end)


TOGETHER = {
    "one function": ended("mine = test(train_loader)\ntheirs = test(val_loader)\nprint(mine, theirs)"),
    "one function, told between": ended(
        "mine = test(train_loader)\nprint(mine)\ntheirs = test(val_loader)\nprint(theirs)"
    ),
    "back to training mode in between": ended(
        "mine = evaluate(model, train_loader)\ntheirs = evaluate(model, val_loader)\nprint(mine, theirs)", MEANS, ""
    ),
    "three passes": ended("shares = [0, 0, 0]\n" + "".join(f"r{n} = test(val_loader)\n" for n in range(3))),
    "meters, and what the last batch leaves": ended("validate(train_loader)\nvalidate(val_loader)", METERS),
    "a library's functions, and None": ended(
        "mine = test(train_loader)\ntheirs = test(val_loader)\nprint(mine, theirs)",
        RIGHT.replace("        right", "        torch.hypot(a, a, out=None)\n        right").replace(
            "right / len", "torch.tensor(right, device=None).item() / len"
        ),
    ),
    "two functions": ended(
        "test(train_loader)\nevaluate(model, val_loader)", RIGHT + MEANS.replace("    net.train()\n", "")
    ),
    "in the loop": ended(INLINE, ""),
    "in training mode": ended("test(train_loader)\ntest(val_loader)", RIGHT.replace("    model.eval()\n", "")),
    "random numbers before both": ended(
        "order = torch.randperm(4)\nmine = test(train_loader)\ntest(val_loader)\nprint(order)"
    ),
}
PRINTING = RIGHT.replace("        right", "        print(len(a))\n        right").replace(
    "    return", "    print(right)\n    return"
)
APART = {
    "random numbers are drawn between": (
        ended("test(train_loader)\norder = torch.randperm(4)\ntest(val_loader)"),
        "what stands between them draws, steps or may use a network",
    ),
    "a schedule steps between": (
        ended("mine = test(train_loader)\nscheduler.step(mine)\ntest(val_loader)"),
        "what stands between them draws, steps or may use a network",
    ),
    "both print": (
        ended("test(train_loader)\ntest(val_loader)", PRINTING),
        "what stands between them prints, as that does",
    ),
    "the second goes on from the first": (
        ended(INLINE.replace("    theirs = 0\n", "    theirs = mine\n"), ""),
        "what stands between them computes what that needs, or changes",
    ),
    "one list for both": (
        ended(
            "test(train_loader)\ntest(val_loader)",
            "seen = []\n"
            + RIGHT.replace("        right", "        seen.append(len(b))\n        right").replace(
                "len(loader.dataset)", "sum(seen)"
            ),
        ),
        "what stands between them computes what that needs, or changes",
    ),
    "the time is taken between": (
        ended(
            "test(train_loader)\nbegun = time.time()\ntest(val_loader)\nprint(time.time() - begun)",
            f"import time\n{RIGHT}",
        ),
        "the time is taken between them",
    ),
    "the epochs may end between": (
        ended("mine = test(train_loader)\nif mine > 1:\n    break\ntest(val_loader)"),
        "the epoch may be left before its evaluation",
    ),
}


@pytest.mark.parametrize("text", TOGETHER.values(), ids=TOGETHER)
@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
def test_they_are_one_validation(text: str, style: str) -> None:
    done = converted(text, style=style)
    assert done.text is not None
    assert "def validation_step(self, batch, batch_idx, dataloader_idx=0):" in done.text
    assert "val_loader]" in done.text and "for a, b in" not in done.text.partition("class Lit")[2]
    assert not [finding for finding in done.findings if finding.code == "LF222"]


@pytest.mark.parametrize("text, reason", APART.values(), ids=APART)
def test_they_stay_where_they_are(text: str, reason: str) -> None:
    done = converted(text)
    assert "validation_step" not in methods(done.text)
    told = [finding.message for finding in done.findings if finding.code == "LF222"]
    assert [one.partition("several evaluations end the epoch, and ")[2] for one in told] == [reason]


def test_one_in_training_mode_and_one_in_evaluation_mode_are_two() -> None:
    draw = RIGHT.replace("test", "draw").replace("    model.eval()\n", "")
    text = converted(ended("draw(train_loader)\ntest(val_loader)", RIGHT + draw)).text
    assert (
        text is not None and "dataloader_idx" not in text and "test(val_loader)" in methods(text)["on_train_epoch_end"]
    )


def test_what_each_pass_keeps_is_an_entry_of_a_list() -> None:
    hooks = methods(converted(TOGETHER["one function"]).text)
    assert hooks["on_validation_epoch_start"] == "self.right = [0, 0]"
    assert "self.right[dataloader_idx] += " in hooks["validation_step"]
    assert "self.mine = self.right[0] / len(train_loader.dataset)" in hooks["on_validation_epoch_end"]


def test_passes_that_differ_stand_under_conditions() -> None:
    step = methods(converted(TOGETHER["two functions"]).text)["validation_step"]
    assert step.startswith("if dataloader_idx == 0:\n    a, b = batch") and "if dataloader_idx == 1:" in step


def test_each_mean_is_logged_under_its_own_name() -> None:
    step = methods(converted(TOGETHER["one function"], style="idiomatic").text)["validation_step"]
    assert "self.log(('mine', 'theirs')[dataloader_idx], " in step and "add_dataloader_idx=False" in step


OWN_NAME = RIGHT.replace("right", "test_acc").replace("    return", "    test_acc /= len(loader.dataset)\n    return")
OWN_NAME = OWN_NAME.replace("return test_acc / len(loader.dataset)", "return test_acc")


def test_who_calls_a_pass_names_its_mean() -> None:
    text = ended("val_acc = test(train_loader)\ntest_acc = test(val_loader)\nprint(val_acc, test_acc)", OWN_NAME)
    step = methods(converted(text, style="idiomatic").text)["validation_step"]
    assert "self.log(('val_acc', 'test_acc')[dataloader_idx], " in step
    text = ended("val_acc = test(val_loader)\nprint(val_acc)", OWN_NAME)
    assert "self.log('val_acc', " in methods(converted(text, style="idiomatic").text)["validation_step"]


TOLD = """\
@torch.no_grad()
def {0}(loader):
    model.eval()
    right = 0
    for a, b in loader:
        right += int((model(a).argmax(1) == b).sum())
    {0}_loss = right / 9
    print('loss {{:.3f}}, accuracy {{:.1f}}'.format({0}_loss, 100 * right / len(loader.dataset)))
"""


@pytest.mark.parametrize("style", ["faithful", "idiomatic"])
def test_a_share_that_two_passes_print_is_told_apart_by_what_is_printed_with_it(style: str) -> None:
    define = TOLD.format("train") + TOLD.format("test")
    done = converted(ended("train(train_loader)\ntest(val_loader)", define), style=style)
    assert done.text is not None
    for name in ("train_loss", "test_loss"):
        assert f'self.log("{name}"' in done.text
    assert '"accuracy"' in done.text and ('"test_accuracy"' in done.text or '"train_accuracy"' in done.text)


def test_one_name_is_told_apart_by_the_trainer() -> None:
    text = ended("evaluate(model, train_loader)\nevaluate(model, val_loader)", MEANS, "")
    step = methods(converted(text, style="idiomatic").text)["validation_step"]
    assert "self.log('loss', " in step and "add_dataloader_idx" not in step


@pytest.mark.slow
def test_the_pass_that_a_scheduler_asks_for_has_its_name_alone(
    trains_identically: Callable[[str, str | None], None],
) -> None:
    plateau = "scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)\n"
    lines = "val_loss = evaluate(model, val_loader)\nprint(evaluate(model, train_loader))\nscheduler.step(val_loss)"
    text = ended(lines, MEANS.replace("loss", "val_loss") + plateau)
    done = converted(text, style="idiomatic")
    assert "self.log(('val_loss', 'val_loss_2')[dataloader_idx], " in methods(done.text)["validation_step"]
    assert done.text is not None and '"monitor": "val_loss"' in done.text
    trains_identically(text, done.text)


def test_a_name_that_the_second_pass_takes_is_that_of_the_second() -> None:
    """The best one is the best of the loader that the script compares."""
    save = "if share > best:\n    best = share\n    torch.save(model.state_dict(), 'best.pt')"
    text = ended(f"share = test(train_loader)\nshare = test(val_loader)\n{save}", f"{RIGHT}best = 0.0\n")
    done = converted(text, style="idiomatic")
    assert done.text is not None and 'monitor="share"' in done.text
    assert "('right', 'share')[dataloader_idx]" in methods(done.text)["validation_step"]


def test_what_a_print_shows_of_both_stays() -> None:
    text = ended(INLINE.replace("print(mine / 30, theirs / 30)", "print(f'{mine / 30:.3f} {theirs / 30:.3f}')"), "")
    hooks = methods(converted(text, style="idiomatic").text)
    assert "self.mine / 30" in hooks["on_train_epoch_end"] and "self.theirs / 30" in hooks["on_train_epoch_end"]


def test_lightning_begins_the_pass_before_what_draws() -> None:
    text = ended("order = torch.randperm(4)\nshare = test(val_loader)\nprint(order, share)")
    assert "validation_step" in methods(converted(text).text)
    done = converted(text, runtime="lightning")
    assert "validation_step" not in methods(done.text)
    assert any("may draw random numbers" in finding.message for finding in done.findings if finding.code == "LF222")


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["bundled", "lightning"])
@pytest.mark.parametrize("text", TOGETHER.values(), ids=TOGETHER)
def test_they_evaluate_identically(
    text: str, runtime: str, trains_identically: Callable[[str, str | None], None]
) -> None:
    if runtime == "lightning":
        pytest.importorskip("lightning")
    trains_identically(text, converted(text, runtime=runtime).text)
