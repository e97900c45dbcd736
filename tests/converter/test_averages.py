"""Averages that the script keeps by hand become `self.log(..., on_epoch=True)`; the numbers stay."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest

from tests.converter.scripts import PROLOGUE, SETUP, STEP, converted, methods, script

SUMS = {"start": "total, seen, right = 0.0, 0, 0", "batches": "for i, (x, y) in enumerate(train_loader):"}
ADD_ONLY = f"{STEP}\ntotal += loss.item() * x.size(0)"
ADD = f"{ADD_ONLY}\nseen += x.size(0)"
EVALUATE = """\
model.eval()
val_loss, right, n = 0.0, 0, 0
with torch.no_grad():
    for a, b in val_loader:
        out = model(a)
        val_loss += criterion(out, b).item()
        right += (out.argmax(1) == b).sum().item()
        n += len(b)
"""
SHOWN = "print('val loss {:.4f} accuracy {:.2f}%'.format(val_loss / len(val_loader), 100. * right / n))\n"

METER = """\
class AverageMeter:
    def __init__(self, name='', fmt=':f'):
        self.name, self.fmt = name, fmt
        self.reset()
    def reset(self):
        self.val = self.avg = self.sum = self.count = 0
    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count
class ProgressMeter:
    def __init__(self, meters, prefix=''):
        self.meters, self.prefix = meters, prefix
    def display(self, batch):
        entries = [self.prefix + str(batch)]
        entries += [str(meter.avg) for meter in self.meters]
        print('\\t'.join(entries))
    def summary(self):
        if not self.meters:
            raise ValueError('nothing to show')
        print(' '.join(meter.name for meter in self.meters))
"""
MEASURE = f"{STEP}\nlosses.update(loss.item(), x.size(0))"
TIMED = f"""\
data_time.update(time.time() - end)
{MEASURE}
end = time.time()
if i % 2 == 0:
    print('{{data.val:.3f}} Loss {{loss.val:.4f}} ({{loss.avg:.4f}})'.format(data=data_time, loss=losses))"""
DISPLAYED = f"{MEASURE}\nif i % 2 == 0:\n    progress.display(i)"


def metered(batch: str = MEASURE, more: str = "", **parts: str) -> str:
    parts = {"batches": SUMS["batches"], "start": f"losses = AverageMeter()\n{more}", **parts}
    return script(batch, define=f"import time\n{METER}", **parts)


RETURNED = """\
def run(model, loader):
    losses, scores = AverageMeter(), AverageMeter()
    model.train()
    for x, y in loader:
        out = model(x)
        loss = criterion(out, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.update(loss.item(), x.size(0))
        scores.update((out.argmax(1) == y).float().mean().item(), x.size(0))
    return losses.avg, scores.avg
for epoch in range(2):
    train_loss, train_acc = run(model, train_loader)
    print(f'{train_loss:.4f} {train_acc:.2f}')
"""


IN_DICTIONARIES = """\
def run(model, loader):
    model.train()
    total, right, n = 0.0, 0, 0
    for x, y in loader:
        out = model(x)
        loss = criterion(out, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
        right += (out.argmax(1) == y).sum().item()
        n += len(y)
    return {"loss": total / n, "acc": right / n}
@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    total, n = 0.0, 0
    for x, y in loader:
        outputs = model(x)
        total += criterion(outputs, y).item() * len(y)
        n += len(y)
    return {"loss": total / n, "last": outputs}
def check(loader):
    metrics = evaluate(model, loader)
    return metrics
for epoch in range(2):
    train_metrics = run(model, train_loader)
    metrics = evaluate(model, val_loader)
    print(f"{train_metrics['loss']:.4f} {train_metrics['acc']:.2f} {metrics['loss']:.3f}")
"""


BAR = """\
shown = 0
def bar(value):
    global shown
    shown += 1
    print(shown, value)
"""


#: Scripts, with what their steps log.
LOGGED = {
    "a bar of the script's own": (
        script(f"{STEP}\ntotal += loss.item()\nbar('Loss %.3f' % (total / (i + 1)))", define=BAR, **SUMS),
        {"loss": "loss"},
    ),
    "a meter": (metered(end="print(f'{losses.avg:.4f}')"), {"loss": "loss"}),
    "a meter, shown as it goes": (
        metered(TIMED, "data_time = AverageMeter()\nend = time.time()"),
        {"loss": "loss"},
    ),
    "meters that an object shows": (
        metered(DISPLAYED, start="losses = AverageMeter('Loss', ':.4e')\nprogress = ProgressMeter([losses])"),
        {"loss": "loss"},
    ),
    "meters whose means a function returns": (
        script().partition("for epoch")[0] + METER + RETURNED,
        {"train_loss": "loss", "train_acc": "(out.argmax(1) == y).float().mean()"},
    ),
    "what functions return in dictionaries": (
        script().partition("for epoch")[0] + IN_DICTIONARIES,
        {
            "train_loss": "loss",
            "train_acc": "(out.argmax(1) == y).sum() / len(y)",
            "val_loss": "self.criterion(outputs, y)",
        },
    ),
    "one of the values that a function returns": (
        script().partition("for epoch")[0]
        + IN_DICTIONARIES.replace('{"loss": total / n, "last": outputs}', "total / n, outputs")
        .replace("metrics = evaluate(model, val", "val_loss, last = evaluate(model, val")
        .replace("{metrics['loss']", "{val_loss"),
        {"val_loss": "self.criterion(outputs, y)"},
    ),
    "per sample, counted": (
        script(ADD, **SUMS, end="print(f'loss {total / seen:.4f}')"),
        {"loss": "loss"},
    ),
    "per sample, by the dataset's length": (
        script(ADD_ONLY, **SUMS, end="mean = total / len(train_loader.dataset)\nprint(f'{mean:.4f}')"),
        {"mean": "loss"},
    ),
    "per sample, by the dataset itself": (
        script(f"{STEP}\ntotal += loss.item() * len(x)", start="total = 0", end="print('%.4f' % (total / len(data)))"),
        {"total": "loss"},
    ),
    "per batch": (
        script(f"{STEP}\ntotal += loss.item()", start="total = 0", end="print(f'{total / len(train_loader):.4f}')"),
        {"total": "loss"},
    ),
    "printed as it is": (
        script(f"{STEP}\ntotal += loss.item()", start="total = 0", end="print(epoch, total / len(train_loader))"),
        {"total": "loss"},
    ),
    "per batch, by the last number": (
        script(f"{STEP}\ntotal += loss.item()", **SUMS, end="print(f'{total / (i + 1):.4f}')"),
        {"total": "loss"},
    ),
    "sizes that were named before": (
        script(
            f"{STEP}\ntotal += loss.item()\nright += (model(x).argmax(1) == y).sum().item()",
            start="size = len(train_loader.dataset)\nbatches = len(train_loader)\ntotal, right = 0, 0",
            end="total /= batches\nright /= size\nprint(f'Accuracy: {(100*right):>0.1f}%, Avg loss: {total:>8f}')",
        ),
        {"total": "loss", "accuracy": "100 * (self.model(x).argmax(1) == y).sum() / len(x)"},
    ),
    "a share in percent": (
        script(
            f"{STEP}\nright += (model(x).argmax(1) == y).sum().item()\nseen += len(y)",
            **SUMS,
            end="print(f'accuracy {100 * right / seen:.1f}')",
        ),
        {"accuracy": "accuracy"},
    ),
    "an evaluation": (
        script(start="model.train()", end=EVALUATE + SHOWN),
        {"val_loss": "self.criterion(out, b)", "accuracy": "100.0 * (out.argmax(1) == b).sum() / len(b)"},
    ),
    **{
        f"a list: {mean}": (
            script(
                f"{STEP}\nlosses.append({value})", start="losses = []", end=f"print(f'Train loss: {{{mean}:.3f}}')"
            ).replace("import torch\n", "import torch, numpy as np, statistics\n", 1),
            {"train_loss": "loss"},
        )
        for value, mean in (
            ("loss.item()", "sum(losses) / len(losses)"),
            ("loss.item()", "sum(losses) / len(train_loader)"),
            ("loss.item()", "np.mean(losses)"),
            ("loss.item()", "np.array(losses).mean()"),
            ("loss.item()", "statistics.mean(losses)"),
            ("loss.detach()", "torch.stack(losses).mean()"),
            ("loss.item()", "torch.tensor(losses).mean().item()"),
        )
    },
    "a list beside a sum": (
        script(
            f"{STEP}\nlosses.append(loss.item())\ntotal += loss.item()",
            start="losses, total = [], 0.0",
            end="print(f'{np.mean(losses):.3f} {total / len(train_loader):.3f}')",
            before="import numpy as np\n",
        ),
        {"loss": "loss", "total": "loss"},
    ),
    "the epoch's loss beside what a bar shows": (
        metered(
            f"{MEASURE}\nbar.set_postfix(loss=loss.item())",
            more="bar = tqdm(train_loader)",
            batches="for x, y in bar:",
            end="print(f'{losses.avg:.4f}')",
        ).replace("import copy", "import copy\nfrom tqdm import tqdm"),
        {"losses": "loss"},
    ),
    "the epoch's loss beside the batch's": (
        script(
            f"{STEP}\ntotal += loss.item()\nif i % 2 == 0:\n    print(f'loss {{loss.item():.3f}}')",
            **SUMS,
            end="print(f'loss {total / len(train_loader):.3f}')",
        ),
        {"total": "loss"},
    ),
}
KEPT = {
    "the sum is read after the run": script(ADD, **SUMS, end="print(f'{total / seen:.4f}')", after="print(total)"),
    "the last of a list": script(
        f"{STEP}\nlosses.append(loss.item())", start="losses = []", end="print(f'{np.mean(losses):.3f}', losses[-1])"
    ),
    "a list that goes on": script(
        f"{STEP}\nlosses.append(loss.item())", before="losses = []\n", end="print(f'{np.mean(losses):.3f}')"
    ),
    "a mean of some of a list": script(
        f"{STEP}\nlosses.append(loss.item())", start="losses = []", end="print(f'{sum(losses[1:]) / len(losses):.3f}')"
    ),
    "a list of means decides": script(
        ADD,
        **SUMS,
        before="losses = []\n",
        end="losses.append(total / seen)\nif losses[-1] < 0.1:\n    optimizer.param_groups[0]['lr'] = 0.01",
    ),
    "the mean is kept before an evaluation": script(
        ADD,
        before="losses = []\n",
        start=f"model.train()\n{SUMS['start']}",
        end=f"losses.append(total / seen)\n{EVALUATE}",
    ),
    "the sum is written down beside the mean": script(
        ADD, **SUMS, before="losses = []\n", end="losses.append((total, total / seen))", after="print(losses)"
    ),
    "a share that is rounded down is written down": script(
        f"{STEP}\nright += (model(x).argmax(1) == y).sum().item()",
        **SUMS,
        before="scores = []\n",
        end="scores.append(100 * right // len(data))",
    ),
    "a share that is rounded down decides": script(
        start="model.train()",
        before="best = 0\n",
        end=f"{EVALUATE}score = 100 * right // n\nif score > best:\n    best = score\n"
        "    torch.save(model.state_dict(), 'best.pt')",
    ),
    "a mean is saved with the weights": script(
        ADD, **SUMS, end="mean = total / seen\ntorch.save({'loss': mean, 'model': model.state_dict()}, 'model.pt')"
    ),
    "the average of all epochs": script(
        f"{STEP}\ntotal += loss.item()", before="total = 0\n", end="print(f'{total / len(train_loader):.3f}')"
    ),
    "a value for each class": script(
        f"{STEP}\ntotal += torch.bincount(y, minlength=2)", **SUMS, end="print(total / len(train_loader))"
    ),
    "batches that may hold nothing": script(
        f"{STEP}\nbig = x[:, 0] > 1\nright += (y[big] == 1).sum().item()\nseen += big.sum().item()",
        **SUMS,
        end="print(f'{right / seen:.3f}')",
    ),
    "a print that runs the network": script(
        f"{STEP}\ntotal += loss.item()", **SUMS, end="print(total / len(train_loader), model(data[0][0]).sum().item())"
    ),
    "some batches do not count": script(
        f"{STEP}\nif loss.item() > 1:\n    continue\ntotal += loss.item()",
        **SUMS,
        end="print(f'{total / len(train_loader):.3f}')",
    ),
    "the last batch is left out": script(ADD, **SUMS, end="print(f'{total / len(data):.4f}')").replace(
        "shuffle=True", "shuffle=True, drop_last=True"
    ),
    "another loader's length": script(
        f"{STEP}\ntotal += loss.item()", **SUMS, end="print(f'{total / len(val_loader):.3f}')"
    ),
    "a moving average": metered(end="print(f'{losses.avg:.4f}')").replace("+= val * n", "= 0.9 * self.sum + val"),
    "a meter that does more": metered(end="print(f'{losses.avg:.4f}')").replace(
        "        self.count += n", "        self.count += n\n        torch.manual_seed(n)"
    ),
    "an object that also decides": metered(
        DISPLAYED, "progress = ProgressMeter([losses])", end="if progress.prefix:\n    break"
    ),
    "an object that does more than print": metered(
        DISPLAYED, "progress = ProgressMeter([losses])", end="progress.summary()"
    ),
    "a bar that others ask": script(
        f"{STEP}\ntotal += loss.item()\nbar('Loss %.3f' % (total / (i + 1)))", define=BAR, **SUMS, after="print(shown)"
    ),
    "a dictionary that is handed on": script().partition("for epoch")[0]
    + IN_DICTIONARIES.replace("    print(f", "    print(train_metrics, metrics)\n    print(f"),
    "only the sum is shown": script(ADD, **SUMS, end="print(total, seen)"),
}

LISTS = "losses, history = [], {'accuracy': []}\n"
CALLBACK_METRIC = "self.trainer.callback_metrics['{}']"

#: What an epoch's end writes down, with what it is read from.
RECORDED = {
    "a list": (
        script(ADD, **SUMS, before=LISTS, end="losses.append(total / seen)", after="print(losses)"),
        "losses.append({loss}.item())",
    ),
    "a list, of a meter's mean": (
        metered(before="kept = []\n", end="kept.append(losses.avg)", after="print(kept)"),
        "kept.append({loss}.item())",
    ),
    "a place in a list": (
        script(ADD, **SUMS, before="losses = [0] * 3\n", end="losses[epoch] = total / seen", after="print(losses)"),
        "losses[self.current_epoch] = {total}.item()",
    ),
    "tensors": (
        script(f"{STEP}\ntotal += loss.detach()", **SUMS, before=LISTS, end="losses.append(total / len(train_loader))"),
        "losses.append({loss})",
    ),
    "a list by a name, after an evaluation": (
        script(
            start="model.train()",
            before=LISTS,
            end=f"{EVALUATE}accuracy = right / n\nhistory['accuracy'].append(accuracy)",
            after="print(history)",
        ),
        "history['accuracy'].append({accuracy}.item())",
    ),
    "a list and the best one": (
        script(
            start="model.train()",
            before=f"{LISTS}best = 0\n",
            end=f"{EVALUATE}accuracy = right / n\nlosses.append(accuracy)\nif accuracy > best:\n    best = accuracy\n"
            "    torch.save(model.state_dict(), 'best.pt')",
            after="print(best)",
        ),
        "accuracy = {accuracy}.item()",
    ),
}


@pytest.mark.parametrize(("text", "line"), RECORDED.values(), ids=RECORDED)
def test_what_is_written_down_is_what_was_logged(text: str, line: str) -> None:
    done = converted(text, style="idiomatic")
    hooks = methods(done.text)
    names = {name: CALLBACK_METRIC.format(name) for name in ("loss", "total", "accuracy")}
    assert line.format(**names) in hooks["on_train_epoch_end"].splitlines()
    assert not re.search(r"(total|seen|right) \+=|\.update\(", "\n".join(hooks.values()))


@pytest.mark.parametrize(("text", "logs"), LOGGED.values(), ids=LOGGED)
def test_a_mean_is_logged(text: str, logs: dict[str, str]) -> None:
    done = converted(text, style="idiomatic")
    hooks = "\n".join(methods(done.text).values())
    assert "+=" not in hooks and ".append(" not in hooks and "print(" not in hooks and "time" not in hooks
    assert "AverageMeter" not in str(done.text)
    for name, value in logs.items():
        found = re.search(rf"self\.log\('{name}', (.*?), (on_step|prog_bar)", hooks)
        assert found is not None, hooks
        assert found[1] == value or f"{found[1]} = {value}" in hooks
        assert f"the average {name} is kept by self.log, in single precision" in done.departures


@pytest.mark.parametrize("text", [text for text, _ in LOGGED.values()], ids=LOGGED)
def test_the_faithful_style_keeps_its_sums(text: str) -> None:
    hooks = "\n".join(methods(converted(text).text).values())
    assert "+=" in hooks or ".update(" in hooks or ".append(" in hooks


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT)
def test_what_more_than_a_print_needs_stays(text: str) -> None:
    done = converted(text, style="idiomatic")
    hooks = "\n".join(methods(done.text).values())
    assert "+=" in hooks or ".update(" in hooks or ".append(" in hooks
    assert not any("average" in departure for departure in done.departures)


@pytest.mark.slow
def test_the_logged_means_are_those_that_were_printed(tmp_path: Path) -> None:
    # 30 samples in batches of 8: the last batch is smaller, so that a mean of means would differ
    text = script(
        f"{STEP}\ntotal += loss.item() * x.size(0)",
        before="scores = []\n",
        start="model.train()\ntotal = 0",
        end=f"print(f'mean {{total / len(data):.5f}}')\n{EVALUATE}{SHOWN.replace('.4f', '.5f').replace('.2f', '.5f')}"
        "scores.append(100. * right / n)",
        after="assert all(abs(score * 0.3 - round(score * 0.3)) < 1e-4 for score in scores) and len(scores) == 3",
    )
    done = converted(text, style="idiomatic")
    assert done.text is not None and "print(" not in done.text
    metrics = "\nprint(*(f'{name} {float(value):.5f}' for name, value in trainer.callback_metrics.items()))\n"
    printed, logged = _run(tmp_path, text), _run(tmp_path, done.text + metrics)
    assert _numbers(logged) == pytest.approx(_numbers(printed), abs=2e-5)


def _numbers(text: str) -> list[float]:
    """The numbers of the last epoch, in order of size."""
    return sorted([float(number) for number in re.findall(r"\d+\.\d{5}", text)][-3:])


def _run(folder: Path, text: str) -> str:
    (folder / "run.py").write_text(text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "run.py"], cwd=folder, capture_output=True, text=True, check=True, timeout=120
    ).stdout


def test_a_mean_that_the_evaluation_waits_for_is_read_when_the_trainer_has_it() -> None:
    epoch = indent("model.train()\ncorrect = total = 0\n", "    ") + "    for x, y in train_loader:\n"
    epoch += indent(f"{STEP}\ncorrect += (model(x).argmax(1) == y).sum()\ntotal += y.size(0)\n", " " * 8)
    test = "    model.eval()\n    correct = total = 0\n    with torch.no_grad():\n        for x, y in val_loader:\n"
    test += indent("correct += (model(x).argmax(1) == y).sum()\ntotal += y.size(0)\n", " " * 12)
    kept = "    accuracy = correct / total\n    kept.append(accuracy)\n"
    run = "for epoch in range(2):\n    train()\n    test()\nprint(kept)\n"
    text = f"{PROLOGUE}{SETUP}kept = []\ndef train():\n{epoch}{kept}\ndef test():\n{test}{kept}\n{run}"
    hooks = methods(converted(text, style="idiomatic").text)
    assert "validation_step" not in hooks
    assert "kept.append(self.trainer.callback_metrics" in hooks["on_train_epoch_end"]
