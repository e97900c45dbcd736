"""The best weights so far become `ModelCheckpoint`, a patience `EarlyStopping`, in the idiomatic style."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest

from lightify.ledger import Fate, missing_and_double
from lightify.syntax.parse import parse
from tests.converter.scripts import EVALUATE, STEP, converted, script

EVALUATED = EVALUATE + "print(f'val loss {val_loss:.4f}')\n"
SAVE = "torch.save(model.state_dict(), 'out/best.pt')"
BEST = f"""\
if val_loss < best:
    best = val_loss
    {SAVE}
    print('saved')
"""
PATIENCE = """\
if val_loss < best:
    best = val_loss
    wait = 0
else:
    wait += 1
    if wait >= 2:
        print('enough')
        break
"""
AFTERWARDS = (
    PATIENCE.replace("    if wait", "if wait")
    .replace("        print", "    print")
    .replace("        break", "    break")
)
BOTH = PATIENCE.replace("wait = 0", f"wait = 0\n    {SAVE}")


def kept(end: str, *, start: str = "best, = [float('inf')]", after: str = "", **parts: str) -> str:
    """A script that starts with a best and a count, and ends its epochs with an evaluation and a comparison."""
    return script(
        start="model.train()",
        before=f"{start}\n{'wait = 0' if 'wait' in end else ''}\n",
        end=EVALUATED + end,
        after=after,
        **parts,
    )


def lowest(end: str, **parts: str) -> str:
    return kept(end, start="best = float('inf')", **parts)


def repeated(text: str) -> str:
    """A script that trains again with the best so far."""
    head, _, run = text.partition("\nfor epoch")
    return f"{head}\nfor fold in range(2):\n{indent(f'for epoch{run}', '    ')}"


FLAG = f"""\
is_best = val_loss < best
best = min(val_loss, best)
if is_best:
    {SAVE}
"""
KEEP = """\
import os, shutil
def keep(state, is_best, folder, filename='newest.pth.tar'):
    path = os.path.join(folder, filename)
    torch.save(state, path)
    if is_best:
        shutil.copyfile(path, os.path.join(folder, 'best.pt'))
"""
FUNCTION = """\
is_best = val_loss < best
best = min(val_loss, best)
keep({'epoch': epoch, 'net': model.state_dict(), 'best': best}, is_best, folder='out')
"""
STOPPER = """\
class Stopper:
    def __init__(self, patience=5, delta=0):
        self.patience = patience
        self.delta = delta
        self.count = 0
        self.lowest = None
        self.over = False
    def __call__(self, value):
        if self.lowest is None:
            self.lowest = value
        elif value > self.lowest - self.delta:
            self.count += 1
            if self.count >= self.patience:
                self.over = True
        else:
            self.lowest = value
            self.count = 0
"""
STOPS = "stopper(val_loss)\nif stopper.over:\n    print('enough')\n    break\n"
RETURNS = (
    STOPPER.replace("self.over = True", "return True")
    .replace("__call__", "late")
    .replace("        self.over = False\n", "")
)


def stopper(end: str, define: str = STOPPER, **parts: str) -> str:
    return kept(end, define=define, start="stopper = Stopper(patience=2)", **parts)


CHECKPOINT = "ModelCheckpoint(dirpath='out', filename='best', monitor='val_loss', mode='min')"
STOPPING = "EarlyStopping(monitor='val_loss', mode='min', patience=2, check_finite=False)"

#: Scripts, with their callbacks.
REPLACED = {
    "weights": (lowest(BEST), [CHECKPOINT]),
    "the other way round": (lowest(BEST.replace("val_loss < best", "best > val_loss")), [CHECKPOINT]),
    "the whole network": (lowest(BEST.replace(".state_dict()", "")), [CHECKPOINT]),
    "a dict of states": (
        lowest(
            BEST.replace(
                "model.state_dict()",
                "{'epoch': epoch + 1, 'net': model.state_dict(), 'opt': optimizer.state_dict(), 'loss': best}",
            )
        ),
        [CHECKPOINT],
    ),
    "a path with a name": (
        lowest(BEST.replace("'out/best.pt'", "PATH")).replace("best = float", "PATH = 'out/best.pt'\nbest = float"),
        [CHECKPOINT],
    ),
    **{
        f"a folder: {path}": (
            lowest(BEST.replace("'out/best.pt'", path)).replace("best = float", "import os\nOUT = 'out'\nbest = float"),
            [CHECKPOINT.replace("'out'", "OUT")],
        )
        for path in ("os.path.join(OUT, 'best.pt')", "OUT + '/best.pt'", "f'{OUT}/best.pt'", "OUT / 'best.pt'")
    },
    "ties": (lowest(BEST.replace("<", "<=")), [CHECKPOINT]),
    "a flag with ties": (lowest(FLAG.replace("<", "<=")), [CHECKPOINT]),
    "the highest": (
        kept(BEST.replace("val_loss < best", "val_loss > best"), start="best = 0.0"),
        [CHECKPOINT.replace("min", "max")],
    ),
    "a flag": (lowest(FLAG), [CHECKPOINT]),
    "a flag that a function asks": (
        lowest(FUNCTION, define=KEEP),
        [CHECKPOINT.replace("filename='best'", "filename='best', save_last=True")],
    ),
    "patience": (lowest(PATIENCE), [STOPPING]),
    "patience in a statement of its own": (lowest(AFTERWARDS), [STOPPING]),
    "an object that stops": (stopper(STOPS), [STOPPING]),
    "an object that returns when to stop": (stopper("if stopper.late(val_loss):\n    break", RETURNS), [STOPPING]),
    "an object that stops, and weights": (
        stopper(f"{BEST}{STOPS}").replace("stopper = S", "best = float('inf')\nstopper = S"),
        [STOPPING, CHECKPOINT],
    ),
    "both": (lowest(BOTH), [CHECKPOINT, STOPPING]),
    "best and count as pairs": (
        kept(
            BOTH.replace("best = val_loss\n    wait = 0", "best, wait = val_loss, 0"),
            start="best, wait = float('inf'), 0",
        ).replace("\nwait = 0", "", 1),
        [CHECKPOINT, STOPPING],
    ),
}

STAYS = {
    "nothing to replace": lowest("print('epoch')"),
    "only the best": lowest("if val_loss < best:\n    best = val_loss"),
    "a copy": lowest("if val_loss < best:\n    best = val_loss\n    weights = copy.deepcopy(model.state_dict())"),
    "each epoch": lowest(SAVE),
    "ties and a patience": lowest(PATIENCE.replace("<", "<=")),
    "a count that never is the patience": lowest(PATIENCE.replace(">= 2", "== 0")),
    "a folder of each epoch": lowest(BEST.replace("'out/best.pt'", "f'ep{epoch}' + '/best.pt'")),
    "a folder that is made anew": lowest(BEST.replace("'out/best.pt'", "tempfile.mkdtemp() + '/best.pt'")),
    "a path that goes on": lowest(BEST.replace("'out/best.pt'", "OUT + 'best.pt'")).replace(
        "best = float", "OUT = 'out'\nbest = float"
    ),
    "the file is read": lowest(BEST, after="model.load_state_dict(torch.load('out/best.pt'))"),
    "the file is used": lowest(BEST, after="print(open('out/best.pt', 'rb').read()[:2])"),
    "an unknown start": kept(BEST),
    "a bar": kept(BEST.replace("<", ">"), start="best = 0.9"),
    "more than weights": lowest(BEST.replace("model.state_dict()", "{'net': model.state_dict(), 'data': data}")),
    "another network": lowest(
        BEST.replace("model.state_dict()", "other.state_dict()"), define="other = nn.Linear(1, 1)"
    ),
    "the weights change afterwards": lowest(f"{BEST}model.load_state_dict(copy.deepcopy(model.state_dict()))"),
    "a path of each epoch": lowest(BEST.replace("'out/best.pt'", "f'{epoch}.pt'")),
    "best is set elsewhere": lowest(f"{BEST}if epoch == 1:\n    best = 5.0"),
    "a count that is read": lowest(PATIENCE, after="print(wait)"),
    "a count from elsewhere": lowest(PATIENCE).replace("\nwait = 0", "\nwait = 1", 1),
    "a flag that is read": lowest(FLAG, after="print(is_best)"),
    "a flag that is turned round": lowest(FLAG.replace("min(", "max(")),
    "a function that does more": lowest(
        FUNCTION, define=KEEP.replace("    if is_best", "    print(is_best)\n    if state")
    ),
    "an object that stops, and is read": stopper(STOPS, after="print(stopper.lowest)"),
    "an object that never forgets": stopper(STOPS, STOPPER.replace("            self.count = 0\n", "")),
    "an object that stops, and does more": stopper(
        STOPS, STOPPER.replace("            self.count += 1", "            self.count += value")
    ),
    "more than the patience": lowest(PATIENCE.replace(">=", ">")),
    "a patience in a statement of its own that asks more": lowest(AFTERWARDS.replace(">= 2", ">= 2 and epoch > 3")),
    "the break skips something": lowest(f"{PATIENCE}print(model)"),
}
STAYS["in an outer loop"] = repeated(lowest(BEST))


@pytest.mark.parametrize(("text", "callbacks"), REPLACED.values(), ids=REPLACED)
def test_the_trainer_keeps_it(text: str, callbacks: list[str]) -> None:
    done = converted(text, style="idiomatic")
    assert done.text is not None
    plain = re.sub(r"\s+", " ", done.text).replace('"', "'")
    plain = re.sub(r",? ?([\])])", r"\1", plain.replace("[ ", "[").replace("( ", "("))
    assert f"callbacks=[{', '.join(f'L.callbacks.{one}' for one in callbacks)}]" in plain
    assert "best =" not in done.text and "wait" not in done.text
    assert "torch.save" not in done.text and "should_stop" not in done.text and "PATH" not in done.text
    assert done.text.count("log('val_loss'") + done.text.count('log("val_loss"') == 1
    saved = re.compile("the best( and the last)? weights are in a Lightning checkpoint, not in (out/)?best.pt")
    assert any(map(saved.fullmatch, done.departures)) is (SAVE.partition("(")[0] in text)
    assert "val_loss is compared with its best in single precision" in done.departures
    fates = {entry.text: entry.target for entry in done.ledger.entries if entry.fate is Fate.REPLACED}
    lines = (
        "is_best",
        "keep(",
        "if val_loss",
        "if best",
        "best = val_loss",
        "best, wait = val_loss",
        "torch.save",
        "wait += 1",
        "if wait",
        "break",
    )
    loop = text.partition("for epoch")[2]
    gone = [line for line in map(str.strip, loop.splitlines()) if line.startswith(lines)]
    targets = " and ".join(one.partition("(")[0] for one in callbacks)
    assert {fates[line] for line in gone} in ({targets}, {one.partition("(")[0] for one in callbacks})
    assert missing_and_double(done.ledger, parse(done.source).spans.values()) == ([], [])


def test_a_best_that_is_kept_beside_another_value_is_saved_by_the_trainer() -> None:
    end = f"if val_loss < best:\n    best, best_epoch = val_loss, epoch\n    {SAVE}\n"
    text = kept(end, start="best, best_epoch = float('inf'), 0", after="print(best_epoch)")
    done = converted(text, style="idiomatic")
    assert done.text is not None and "ModelCheckpoint" in done.text and "torch.save" not in done.text
    assert "best_epoch = self.current_epoch" in done.text


def test_a_patience_from_a_finite_start_is_a_departure() -> None:
    done = converted(kept(PATIENCE, start="best = 1000.0"), style="idiomatic")
    assert "EarlyStopping" in str(done.text)
    assert "the first epoch counts as better than none, whatever its val_loss" in done.departures


def test_the_first_of_equals_and_a_patience_of_none_are_departures() -> None:
    ties = converted(lowest(BEST.replace("<", "<=")), style="idiomatic")
    assert "of epochs with the same val_loss the first one counts as the best" in ties.departures
    said = "a patience of 0 ends the training at the first epoch without improvement"
    for asks, unsure in ((">= enough", False), ("== enough", True)):
        text = lowest(PATIENCE.replace(">= 2", asks)).replace("best = float", "enough = 2\nbest = float")
        assert (said in converted(text, style="idiomatic").departures) is unsure


@pytest.mark.parametrize("text", STAYS.values(), ids=STAYS)
def test_what_is_not_exactly_that_stays(text: str) -> None:
    done = converted(text, style="idiomatic")
    assert done.text is not None and "callbacks" not in done.text
    for word in ("torch.save", "best = val_loss", "wait += 1"):
        assert (word in done.text.replace("self.", "")) is (word in text)


@pytest.mark.parametrize("text", [text for text, _ in REPLACED.values()], ids=REPLACED)
def test_the_faithful_style_keeps_it(text: str) -> None:
    done = converted(text)
    assert done.text is not None and "callbacks" not in done.text
    assert ("torch.save" in done.text) is ("torch.save" in text)


def test_a_patience_of_the_host() -> None:
    text = lowest(PATIENCE.replace(">= 2", ">= args.patience"), define="class args:\n    patience = 4")
    done = converted(text, style="idiomatic")
    assert done.text is not None and "patience=args.patience" in done.text and "wait" not in done.text


def test_a_metric_that_an_epoch_prints_beside_an_average_is_logged_once() -> None:
    shown = "print(f'{loss_sum / len(train_loader):.3f} {val_loss:.3f}')\n"
    end = EVALUATED.replace("print(f'val loss {val_loss:.4f}')\n", shown) + BEST
    text = script(
        f"{STEP}\nloss_sum += loss.item()",
        before="best = float('inf')\n",
        start="model.train()\nloss_sum = 0.0",
        end=end,
        after="print(best)",
    )
    done = converted(text, style="idiomatic")
    assert done.text is not None and done.text.count('log("val_loss"') == 1 and "loss_sum +=" not in done.text


def test_a_best_that_is_read_stays_without_its_save() -> None:
    done = converted(lowest(BEST, after="print(best)"), style="idiomatic")
    assert done.text is not None and "self.best = val_loss" in done.text
    assert "ModelCheckpoint" in done.text and "torch.save" not in done.text
    assert [entry.text for entry in done.ledger.entries if entry.target == "ModelCheckpoint"] == [SAVE]
    assert missing_and_double(done.ledger, parse(done.source).spans.values()) == ([], [])


@pytest.mark.slow
def test_it_stops_after_the_same_epoch_with_the_same_weights(tmp_path: Path) -> None:
    text = lowest(BOTH, epochs="for epoch in range(40):").replace("lr=0.1", "lr=0.5")
    text = text.replace("model.train()\n", "model.train()\n    print('epoch', epoch, len(model))\n")
    done = converted(text, style="idiomatic")
    assert done.text is not None
    (tmp_path / "out").mkdir()
    show = "\nprint([p.tolist() for p in model.parameters()])\n"
    ours, theirs = (_run(tmp_path, one + show) for one in (done.text, text))
    epochs = theirs.count("epoch ")
    assert 2 < epochs < 40 and ours.count("epoch ") == epochs
    assert ours.splitlines()[-1] == theirs.splitlines()[-1]
    assert _run(tmp_path, COMPARE).strip() == "same"


COMPARE = """\
import torch
theirs = torch.load('out/best.pt')
ours = torch.load('out/best.ckpt', weights_only=False)['state_dict']
print('same' if all(torch.equal(value, ours[f'model.{name}']) for name, value in theirs.items()) else 'different')
"""


def _run(folder: Path, text: str) -> str:
    (folder / "run.py").write_text(text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "run.py"], cwd=folder, capture_output=True, text=True, check=True, timeout=120
    ).stdout
