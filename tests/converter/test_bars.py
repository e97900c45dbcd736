"""Progress bars of the script's own give way to the Trainer's; what they showed is logged."""

from __future__ import annotations

from textwrap import indent

import pytest

from lightify.ledger import Fate
from lightify.plan.idiom.bars import SEEDS
from tests.converter.scripts import STEP, converted, methods, script

BATCH = f"{STEP}\npbar.set_postfix(loss=loss.item())"
IMPORT = "from tqdm import tqdm\n"


def barred(head: str, loop: str, batch: str = BATCH, end: str = "", after: str = "") -> str:
    """Epochs whose batches stand below a head that makes a bar."""
    inner = f"{loop}\n{indent(batch, '    ')}\n{end}"
    body = f"{head}\n{indent(inner, '    ' if head.endswith(':') else '')}"
    return script(
        "pass",
        epochs="if True:",
        batches="if True:",
        before=IMPORT,
        after=f"for epoch in range(3):\n{indent(body, '    ')}\n{after}",
    )


GONE = {
    "a bar for the epoch": barred("with tqdm(train_loader, desc=f'{epoch}') as pbar:", "for x, y in pbar:"),
    "a bar beside the loop": barred(
        "with tqdm(total=30) as pbar:", "for x, y in train_loader:", f"{BATCH}\npbar.update(len(x))"
    ),
    "numbered": barred("pbar = tqdm(enumerate(train_loader), total=4)", "for i, (x, y) in pbar:"),
    "numbered outside": barred("pbar = tqdm(train_loader)", "for i, (x, y) in enumerate(pbar):"),
    "closed": barred("pbar = tqdm(total=4)", "for x, y in train_loader:", end="pbar.close()"),
    "shown now and then": barred(
        "pbar = tqdm(train_loader)",
        "for x, y in pbar:",
        f"{STEP}\nif len(x) == 8:\n    pbar.set_description(f'{{loss.item():.3f}}')",
    ),
    "told by a field": barred(
        "pbar = tqdm(train_loader)", "for x, y in pbar:", f"{STEP}\npbar.desc = f'loss:{{loss:.3f}}'"
    ),
    "a schedule's rate": barred(
        "pbar = tqdm(train_loader)",
        "for x, y in pbar:",
        f"{STEP}\nscheduler.step()\npbar.set_postfix(loss=loss.item(), lr=f'{{scheduler.get_last_lr()[0]:.1e}}')",
    ).replace(IMPORT, f"{IMPORT}scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)\n"),
    "in the head": barred("print(epoch)", "for x, y in (pbar := tqdm(train_loader)):"),
    "by way of a dictionary": barred(
        "pbar = tqdm(total=4)",
        "for x, y in train_loader:",
        f"{STEP}\nlogs = {{'loss': loss.detach().item(), 'batch': len(x)}}\npbar.set_postfix(**logs)",
    ),
}


@pytest.mark.parametrize("text", GONE.values(), ids=GONE)
def test_a_bar_that_only_shows_is_the_trainers(text: str) -> None:
    done = converted(text)
    assert done.mode == "automatic" and done.text is not None, (done.reasons, done.refusals)
    assert "tqdm" not in done.text and "bar." not in done.text and ".fit(module, train_loader)" in done.text
    assert "logs" not in done.text
    assert "self.log('loss', loss, prog_bar=True)" in methods(done.text)["training_step"]
    shown = {entry.fate for entry in done.ledger.entries if entry.text.strip().startswith("pbar")}
    assert shown == {Fate.REPLACED}


TOTAL = f"{STEP}\ntotal += loss.item()"
#: What a batch shows in the bar, and what is logged; nothing where it may be no number.
GIVEN = {
    "a mean so far": (f"{TOTAL}\npbar.set_postfix(loss=total / (i + 1))", "'loss', self.total / (batch_idx + 1)"),
    "a mean of the last": (
        f"{TOTAL}\nif (i + 1) % 2 == 0:\n    pbar.set_postfix(train_loss=total / 2)\n    total = 0",
        "'train_loss', self.total / 2",
    ),
    "rounded, in a dictionary": (
        f"{TOTAL}\npbar.set_postfix({{'loss': round(total / (i + 1), 3)}})",
        "'loss', self.total / (batch_idx + 1)",
    ),
    "a share": (
        f"{STEP}\nhits = (model(x).argmax(1) == y).sum().item()\npbar.set_postfix(acc=100.0 * hits / len(y))",
        "'acc', 100.0 * hits / len(y)",
    ),
    "under an OrderedDict": (
        f"{TOTAL}\npbar.set_postfix(OrderedDict(stage='train', loss=total / (i + 1)))",
        "'loss', self.total / (batch_idx + 1)",
    ),
    "in pairs": (
        f"{TOTAL}\npbar.set_postfix(ordered_dict=OrderedDict([('loss', total / (i + 1))]))",
        "'loss', self.total / (batch_idx + 1)",
    ),
    "what is no measure": (f"{STEP}\npbar.set_postfix(step=i + 1)", ""),
    "what may be many numbers": (f"{STEP}\nscores = model(x)\npbar.set_postfix(loss=scores / 2)", ""),
}


@pytest.mark.parametrize(("batch", "log"), GIVEN.values(), ids=GIVEN)
def test_what_a_bar_is_given_under_a_name_is_logged(batch: str, log: str) -> None:
    text = barred("total = 0\npbar = tqdm(train_loader)", "for i, (x, y) in enumerate(pbar):", batch)
    text = f"from collections import OrderedDict\n{text}"
    parts = methods(converted(text).text)
    step = parts["training_step"] + parts.get("on_train_batch_end", "")
    assert (f"self.log({log}, prog_bar=True)" in step) if log else ("self.log(" not in step)


TWICE = {
    "in the head": barred("print(epoch)", "for x, y in tqdm(train_loader):", STEP),
    "named": barred("pbar = tqdm(train_loader)", "for x, y in pbar:"),
    "numbered outside": barred("print(epoch)", "for i, (x, y) in enumerate(tqdm(train_loader)):", STEP),
}
ONCE = {
    "numbered within": barred("print(epoch)", "for i, (x, y) in tqdm(enumerate(train_loader)):", STEP),
    "counting": barred("with tqdm(total=4) as pbar:", "for x, y in train_loader:", f"{STEP}\npbar.update(1)"),
}
AUTO = "from tqdm.auto import tqdm\n"


@pytest.mark.parametrize("text", TWICE.values(), ids=TWICE)
def test_a_bar_that_draws_a_seed_stays_in_the_faithful_style(text: str) -> None:
    text = text.replace(IMPORT, AUTO)
    assert "tqdm(" in str(converted(text).text)
    idiomatic = converted(text, style="idiomatic")
    assert "tqdm" not in str(idiomatic.text) and SEEDS in idiomatic.departures


@pytest.mark.parametrize("text", ONCE.values(), ids=ONCE)
def test_a_bar_that_only_counts_gives_way_wherever_it_is_from(text: str) -> None:
    assert "tqdm" not in str(converted(text.replace(IMPORT, AUTO)).text)


AROUND = {
    "which go over it": (
        "with trange(3, leave=True) as bar:",
        "for epoch in bar:",
        "bar.set_postfix(loss=loss.item())",
    ),
    "which it counts": ("with tqdm(total=3) as bar:", "for epoch in range(3):", "bar.update(1)"),
    "told by a name of its own": (
        "total = 3 * len(train_loader)\nwith tqdm(total=total) as bar:",
        "for epoch in range(3):",
        "bar.update(1)",
    ),
}


@pytest.mark.parametrize(("around", "epochs", "end"), AROUND.values(), ids=AROUND)
def test_a_bar_that_holds_the_epochs_is_the_trainers(around: str, epochs: str, end: str) -> None:
    inner = barred("with tqdm(train_loader) as pbar:", "for x, y in pbar:", end=indent(end, "    "))
    text = inner.replace("for epoch in range(3):", epochs).replace("if True:\n    if True:\n        pass\n", "")
    head, _, loop = text.partition(epochs)
    done = converted(
        f"from tqdm import trange\n{head}{around}\n{indent(epochs + loop, '    ')}\n    print('trained')\n"
    )
    assert done.mode == "automatic" and done.text is not None, (done.reasons, done.refusals)
    assert "tqdm(" not in done.text and "trange(" not in done.text and "max_epochs=3" in done.text
    assert "total" not in done.text
    assert "\nprint('trained')" in done.text


KEPT = {
    "asked for its count": barred("pbar = tqdm(train_loader)", "for x, y in pbar:", end="print(pbar.n)"),
    "handed on": barred("pbar = tqdm(train_loader)", "for x, y in pbar:", f"{STEP}\nprint(pbar)"),
    "read after the run": barred("pbar = tqdm(train_loader)", "for x, y in pbar:", after="print(pbar)"),
    "shows a sample": barred(
        "with tqdm(train_loader) as pbar:",
        "for x, y in pbar:",
        f"{STEP}\npbar.set_postfix(noise=torch.randn(1).item())",
    ),
    "another field of it is set": barred("pbar = tqdm(train_loader)", "for x, y in pbar:", f"{STEP}\npbar.n = 0"),
}


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT)
def test_another_bar_stays(text: str) -> None:
    assert "tqdm(train_loader)" in (converted(text).text or "")


def test_a_bar_around_the_epochs_is_gone_too() -> None:
    text = script(
        before=f"{IMPORT}bar = tqdm(range(3))\n",
        epochs="for epoch in bar:",
        end="bar.set_description(f'{loss.item():.2f}')",
    )
    done = converted(text)
    assert done.text is not None and "tqdm" not in done.text and "max_epochs=3" in done.text
    assert "self.log('loss', self.loss, prog_bar=True)" in methods(done.text)["on_train_epoch_end"]
