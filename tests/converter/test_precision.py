"""Mixed precision by hand becomes `Trainer(precision=...)`, in the idiomatic style only."""

from __future__ import annotations

import re
from collections.abc import Callable
from textwrap import indent

import pytest

from lightify.ledger import Fate, missing_and_double
from lightify.sources import Source
from lightify.syntax.parse import parse
from tests.converter.scripts import converted, methods, script

SCALER = "scaler = torch.cuda.amp.GradScaler()\n"
FORWARD = "with torch.cuda.amp.autocast():\n    loss = criterion(model(x), y)\n"
BACKWARD = "scaler.scale(loss).backward()\n"
UNSCALE = "scaler.unscale_(optimizer)\n"
CLIP = "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
STEP = "scaler.step(optimizer)\nscaler.update()\n"
ZERO = "optimizer.zero_grad()\n"
BODY = f"{ZERO}{FORWARD}{BACKWARD}{STEP}"
CLIPPED = f"{ZERO}{FORWARD}{BACKWARD}{UNSCALE}{CLIP}{STEP}"
EVALUATE = """\
model.eval()
with torch.no_grad():
    for a, b in val_loader:
        with torch.cuda.amp.autocast():
            out = model(a)
        print(out.sum())
model.train()
"""
FUNCTION = f"""\
def train_epoch(loader, model, optimizer, scaler, flag):
    for x, y in loader:
{"".join(f"        {line}{chr(10)}" for line in CLIPPED.replace("autocast()", "autocast(enabled=flag)").splitlines())}
"""
OUTSIDE = BODY.replace("    loss = criterion(model(x), y)\n", "    out = model(x)\nloss = criterion(out, y)\n")
LOSS = "criterion(out, y)"
PLAIN = EVALUATE.replace("with torch.cuda.amp.autocast():\n            out", "out")
BF16 = "with torch.autocast('cpu', dtype=torch.bfloat16):\n    loss = criterion(model(x), y)\n"


def amp(batch: str = BODY, before: str = SCALER, **parts: str) -> str:
    return script(batch, before=before, **parts)


def spelled(context: str, scaler: str, imports: str = "") -> str:
    return script(BODY.replace("torch.cuda.amp.autocast()", context), before=f"scaler = {scaler}\n", define=imports)


ON_GPU = '"16-mixed" if torch.cuda.is_available() else "32-true"'
CONVERTED = {
    "needs a GPU": (amp(before=f"model.cuda()\n{SCALER}"), '"16-mixed"'),
    "told by the flag": (
        script(
            BODY.replace("autocast()", "autocast(enabled=flag)"),
            before="flag = torch.cuda.is_available()\nscaler = torch.cuda.amp.GradScaler(enabled=flag)\n",
        ),
        '"16-mixed" if flag else "32-true"',
    ),
    "plain": (amp(), ON_GPU),
    "clipped": (amp(CLIPPED), ON_GPU),
    "gradients zeroed at the end": (amp(f"{FORWARD}{BACKWARD}{STEP}{ZERO}"), ON_GPU),
    "torch.autocast": (spelled("torch.autocast('cuda')", "torch.amp.GradScaler('cuda')"), ON_GPU),
    "torch.amp": (
        spelled(
            "autocast(device_type='cuda', dtype=torch.float16)",
            "GradScaler()",
            "from torch.amp import GradScaler, autocast",
        ),
        ON_GPU,
    ),
    "torch.cuda.amp": (
        spelled("autocast()", "GradScaler()", "from torch.cuda.amp import GradScaler, autocast"),
        ON_GPU,
    ),
    "by a flag": (
        script(
            BODY.replace("autocast()", "autocast(enabled=flag)"),
            before="flag = True\nscaler = torch.cuda.amp.GradScaler(enabled=flag)\n",
        ),
        '"16-mixed" if flag and torch.cuda.is_available() else "32-true"',
    ),
    "in a function": (
        script(
            define=FUNCTION,
            before="use_amp = True\nscaler = torch.cuda.amp.GradScaler(enabled=use_amp)\n",
            batches="train_epoch(train_loader, model, optimizer, scaler, use_amp)\nif 0:",
            batch="pass",
        ),
        '"16-mixed" if use_amp and torch.cuda.is_available() else "32-true"',
    ),
    "bfloat16": (script(f"{ZERO}{BF16}loss.backward()\noptimizer.step()"), '"bf16-mixed"'),
    "evaluated": (amp(start="model.train()", end=EVALUATE), ON_GPU),
}
PERHAPS = "flag = torch.cuda.is_available()\nscaler = torch.cuda.amp.GradScaler() if flag else None\n"
CLIPS = "if bound is not None:\n"
EITHER = f"""\
{FORWARD.replace("autocast()", "autocast(enabled=scaler is not None)")}
{ZERO}if scaler is not None:
{indent(f"# scaled{chr(10)}{BACKWARD}{CLIPS}{indent(f'{UNSCALE}{CLIP}', '    ')}{STEP}", "    ")}
else:
{indent(f"loss.backward(){chr(10)}{CLIPS}{indent(CLIP, '    ')}optimizer.step()  # as it is", "    ")}
"""
#: The Trainer is handed the script's own scaler.
OWN = {
    "it is saved": (amp(end="torch.save(scaler.state_dict(), 'scaler.pt')"), ""),
    "it is resumed": (amp(before=f"{SCALER}scaler.load_state_dict(torch.load('scaler.pt'))\n"), ""),
    "its scale is read": (amp(f"{BODY}print(scaler.get_scale())"), ""),
    "it is read later": (amp(after="print(scaler.get_scale())"), ""),
    "a scale of its own": (amp(before="scaler = torch.cuda.amp.GradScaler(init_scale=1024.0)\n"), ""),
    "it is enabled by a flag, autocast is not": (
        script(BODY, before="flag = True\nscaler = torch.cuda.amp.GradScaler(enabled=flag)\n"),
        "",
    ),
    "there may be none": (script(EITHER, before=f"bound = 1.0\n{PERHAPS}"), "scaler is not None and "),
    "there is none until a flag says so": (
        script(
            EITHER.replace("if scaler is not None", "if scaler"),
            before="bound = scaler = None\nflag = False\nif flag:\n    scaler = torch.amp.GradScaler()\n",
        ),
        "scaler is not None and ",
    ),
    "an evaluation in full precision decides": (
        amp(end=f"{PLAIN}if out.mean() > 1:\n    break", after="print(scaler.get_scale())"),
        "",
    ),
}
#: What the Trainer does otherwise, or may do otherwise.
KEPT = {
    "no mixed precision": script(),
    "clipped while scaled": amp(f"{ZERO}{FORWARD}{BACKWARD}{CLIP}{STEP}"),
    "clipped before it is unscaled": amp(f"{ZERO}{FORWARD}{BACKWARD}{CLIP}{UNSCALE}{STEP}"),
    "no update": amp(BODY.replace("scaler.update()\n", "")),
    "two steps": amp(BODY + "scaler.step(optimizer)\n"),
    "the scaled loss has a name": amp(BODY.replace(BACKWARD, "scaled = scaler.scale(loss)\nscaled.backward()\n")),
    "never enabled": script(
        BODY.replace("autocast()", "autocast(enabled=False)"),
        before="scaler = torch.cuda.amp.GradScaler(enabled=False)\n",
    ),
    "a choice between flags": script(
        BODY.replace("autocast()", "autocast(enabled=one if flag else flag)"),
        before="one = flag = True\nscaler = torch.cuda.amp.GradScaler(enabled=one if flag else flag)\n",
    ),
    "the flag changes": script(
        BODY.replace("autocast()", "autocast(enabled=flag)"),
        before="flag = True\nscaler = torch.cuda.amp.GradScaler(enabled=flag)\n",
        end="flag = False",
    ),
    "a type that is computed": amp(
        BODY.replace("autocast()", "autocast(dtype=kind)"), before=f"{SCALER}kind = data.tensors[0].dtype\n"
    ),
    "half precision without a scaler": script(f"{ZERO}{FORWARD}loss.backward()\noptimizer.step()"),
    "a network runs outside of it": amp(BODY.replace(BACKWARD, f"loss = loss + model(x).sum()\n{BACKWARD}")),
    "the loss itself runs a network": amp(BODY.replace("scale(loss)", "scale(loss + model(x).sum())")),
    "an optimizer that unscales itself": amp(CLIPPED).replace("momentum=0.9", "fused=True"),
    "two types": amp(BODY.replace(BACKWARD, f"{FORWARD.replace('()', '(dtype=torch.bfloat16)', 1)}{BACKWARD}")),
    "the loss outside": amp(OUTSIDE),
    "the loss outside, in place": amp(OUTSIDE.replace("loss = criterion(out, y)\n", "").replace("loss", LOSS)),
    "an evaluation outside steps a scheduler": amp(
        before=f"{SCALER}plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)\n",
        end=f"{PLAIN}plateau.step(out.mean())",
    ),
    "an evaluation outside ends the epochs": amp(end=f"{PLAIN}if out.mean() > 1:\n    break"),
    "an evaluation outside chooses the weights": amp(
        end=f"{PLAIN}if out.mean() > 0:\n    best = copy.deepcopy(model.state_dict())",
        after="model.load_state_dict(best)",
    ),
    "its two steps differ": script(
        EITHER.replace("loss.backward()", "(2 * loss).backward()"), before=f"bound = 1.0\n{PERHAPS}"
    ),
    "another flag decides": script(
        EITHER.replace("enabled=scaler is not None", "enabled=flag"), before=f"bound = 1.0\n{PERHAPS}"
    ),
    "the scaler changes": script(EITHER, before=f"bound = 1.0\n{PERHAPS}", end="scaler = None"),
    "backward stands in it": amp(f"{ZERO}{FORWARD}    {BACKWARD}{STEP}"),
}
SCALED = re.compile(r"autocast|Scaler|scaler")


@pytest.mark.parametrize(("text", "value"), CONVERTED.values(), ids=CONVERTED)
def test_the_trainer_scales(text: str, value: str) -> None:
    done = converted(text, style="idiomatic")
    assert done.mode == "automatic", done.reasons
    assert done.text is not None and f"precision={value}" in done.text
    assert SCALED.search(done.text) is None
    assert ("gradient_clip_val=1.0" in done.text) is ("clip_grad" in text)
    replaced = [e.text for e in done.ledger.entries if e.target == "Trainer(precision=...)" and e.fate is Fate.REPLACED]
    assert len(replaced) == len(re.findall(r"autocast\(.*:|scaler = |unscale_|update\(\)", text)), replaced
    assert missing_and_double(done.ledger, parse(Source("script.py", text)).spans.values()) == ([], [])
    moved = [e for e in done.ledger.entries if e.text.startswith("loss = criterion")]
    assert {(e.fate, e.target) for e in moved} == {(Fate.MOVED, "training_step")}
    assert any("mixed precision" in departure for departure in done.departures)


@pytest.mark.parametrize(("text", "when"), OWN.values(), ids=OWN)
def test_the_trainer_takes_its_scaler(text: str, when: str) -> None:
    done = converted(text, style="idiomatic")
    assert done.mode == "automatic" and done.text is not None, done.reasons
    given = f'plugins=[L.plugins.MixedPrecision("16-mixed", device="cuda", scaler=scaler)] if {when}torch.cuda.is_available() else None'
    assert re.sub(r"[\s()]", "", given) in re.sub(r"[\s()]", "", done.text)
    assert "autocast(" not in done.text and "scaler.step" not in done.text and "if self.scaler" not in done.text
    assert missing_and_double(done.ledger, parse(Source("script.py", text)).spans.values()) == ([], [])


@pytest.mark.parametrize("text", [text for text, _ in CONVERTED.values()], ids=CONVERTED)
def test_the_faithful_style_keeps_it(text: str) -> None:
    done = converted(text)
    assert done.text is not None and "precision=" not in done.text and "autocast(" in done.text


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT)
def test_it_stays(text: str) -> None:
    done = converted(text, style="idiomatic")
    assert done.text is not None and "precision=" not in done.text and "plugins=" not in done.text
    assert done.text.count("autocast(") == text.count("autocast(")
    assert done.text.count("GradScaler(") == text.count("GradScaler(")
    assert not any("mixed precision" in departure for departure in done.departures)


def test_departures_name_what_comes_under_mixed_precision() -> None:
    found = {
        name: [d for d in converted(text, style="idiomatic").departures if "autocast" in d or "the evaluation" in d]
        for name, text in {
            "all in it": amp(end=EVALUATE),
            "an evaluation outside": amp(end=PLAIN),
        }.items()
    }
    assert found == {
        "all in it": [],
        "an evaluation outside": [
            "the evaluation computes in the Trainer's precision, too, which the script's did not"
        ],
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bfloat16", "not enabled"])
def test_it_trains_identically(name: str, trains_identically: Callable[[str, str | None], None]) -> None:
    text = CONVERTED["by a flag" if name == "not enabled" else name][0].replace("flag = True", "flag = False")
    done = converted(text, style="idiomatic")
    assert done.text is not None and "training_step" in methods(done.text)
    trains_identically(text, done.text)
