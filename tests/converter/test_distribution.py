"""A script's own DistributedDataParallel gives way to a strategy; two processes then train as they did."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lightify.ledger import Fate
from tests.converter.processes import in_two_processes
from tests.converter.scripts import FORWARD, STEP, converted, script
from tests.regenerate_goldens import FIXTURES, conversion

GROUP = """\
import os
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP
dist.init_process_group("gloo")
ddp = dist.get_world_size() > 1
"""
MODEL = "model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 2))\n"
REST = "criterion = nn.CrossEntropyLoss()\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
SAVE = "torch.save(model.state_dict(), 'model.pt')"


def wrapped(wrap: str = "model = DDP(model)\n", batch: str = STEP, **parts: str) -> str:
    return script(batch, before=GROUP, setup="", **{"after": "", **parts}).replace(
        "ddp = dist.get_world_size() > 1\n", f"ddp = dist.get_world_size() > 1\n{MODEL}{wrap}{REST}"
    )


HERE = 'int(os.environ.get("LOCAL_WORLD_SIZE", dist.get_world_size()))'

#: (script, what stands in the result, what does not)
TAKEN_OUT = {
    "always": (wrapped(), ['strategy="ddp"', f"devices={HERE}", "use_distributed_sampler=False"], ["DDP"]),
    "under a condition": (
        wrapped("if ddp:\n    model = DDP(model)\n"),
        ['strategy="ddp" if ddp else "auto"', f"devices={HERE} if ddp else 1"],
        ["DDP", "if ddp:"],
    ),
    "in a conditional expression": (
        wrapped("model = DDP(model) if ddp else model\n"),
        ['strategy="ddp" if ddp else "auto"'],
        ["DDP"],
    ),
    "or else by DataParallel": (
        wrapped("if ddp:\n    model = DDP(model)\nelse:\n    model = nn.DataParallel(model)\n"),
        ["if not ddp:\n    model = nn.DataParallel(model)"],
        ["DDP"],
    ),
    "under another name": (
        wrapped("model = nn.SyncBatchNorm.convert_sync_batchnorm(model)\nmodel = DDP(module=model)\n"),
        ['strategy="ddp"', "convert_sync_batchnorm"],
        ["DDP"],
    ),
    "with unused parameters": (
        wrapped("model = DDP(model, find_unused_parameters=True)\n"),
        ['strategy="ddp_find_unused_parameters_true"'],
        ["DDP"],
    ),
    "with other arguments": (
        wrapped("model = DDP(model, device_ids=None, static_graph=True)\n"),
        ["strategy=L.strategies.DDPStrategy(static_graph=True)"],
        ["DDP(", "device_ids"],
    ),
    "its names are saved with their prefix": (wrapped(after=SAVE), ['model.state_dict(prefix="module.")'], []),
    "with a prefix where there was one": (
        wrapped("if ddp:\n    model = DDP(model)\n", after=SAVE),
        ['model.state_dict(prefix="module." if ddp else "")'],
        [],
    ),
    "what the script asks itself": (
        wrapped("if ddp:\n    model = DDP(model)\n", after=f"if ddp:\n    {SAVE}\nelse:\n    {SAVE}"),
        ["model.state_dict(prefix=\"module.\"), 'model.pt')\nelse:\n    torch.save(model.state_dict(), "],
        [],
    ),
    "the network inside, by the condition": (
        wrapped(
            "if ddp:\n    model = DDP(model)\n",
            after="torch.save((model.module if ddp else model).state_dict(), 'model.pt')",
        ),
        ["torch.save(model.state_dict(), 'model.pt')"],
        [".module"],
    ),
    "the network inside, by the wrapper's kind": (
        wrapped(
            after="inner = model.module if hasattr(model, 'module') else model\ntorch.save(inner.state_dict(), 'model.pt')"
        ),
        ["if hasattr(model, 'module') else model", "torch.save(inner.state_dict(), 'model.pt')"],
        ["prefix="],
    ),
    "under another name than the network": (
        wrapped("ddp_model = DDP(model)\n", STEP.replace("model(x)", "ddp_model(x)"), after=SAVE),
        ["self.criterion(self.model(x), y)", 'strategy="ddp"', "torch.save(model.state_dict(), 'model.pt')"],
        ["ddp_model"],
    ),
    "the network kept aside": (
        wrapped(
            "inner = model\nif ddp:\n    model = DDP(model)\n    inner = model.module\n",
            end="torch.save(inner.state_dict(), 'model.pt')",
        ),
        ['strategy="ddp" if ddp else "auto"', "inner = model\n"],
        ["DDP("],
    ),
    "a guarded script": (
        wrapped("if __name__ == '__main__':\n    model = DDP(model)\n"),
        ['strategy="ddp",'],
        ["DDP("],
    ),
    "weights that it has saved": (
        wrapped("model = DDP(model)\nmodel.load_state_dict(torch.load('model.pt'))\n"),
        [
            "model.load_state_dict({name.removeprefix(\"module.\"): value for name, value in torch.load('model.pt').items()})"
        ],
        [],
    ),
    "each process prints for itself": (
        wrapped(end="print(epoch)"),
        ["        print(self.current_epoch)"],
        ["self.print"],
    ),
}

KEPT = {
    "whether there is one is not known where names are saved": (
        "import torch\nfrom torch import nn\nfrom torch.nn.parallel import DistributedDataParallel as DDP\n\n"
        "def train(model, optimizer, kept):\n    for x in torch.randn(4, 2, 8).unbind():\n"
        "        loss = model(x).mean()\n        optimizer.zero_grad()\n        loss.backward()\n"
        "        optimizer.step()\n        kept.update(model.state_dict())\n\n"
        "def main():\n    model, kept = nn.Linear(8, 1), {}\n    cards = torch.cuda.device_count()\n"
        "    if cards > 1:\n        torch.distributed.init_process_group('nccl')\n        model = DDP(model)\n"
        "    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n    for epoch in range(2):\n"
        "        train(model, optimizer, kept)\n\nmain()\n",
        "whether `model.state_dict` has a wrapper is not known there",
    ),
    "another network is trained beside it": (
        wrapped("model = DDP(model)\nother = nn.Linear(4, 2)\n", f"{FORWARD} + other(x).sum()\n{STEP}"),
        "`other` is no part of the wrapped network",
    ),
    "two networks": (wrapped("model = DDP(model)\nother = DDP(nn.Linear(4, 2))\n"), "several networks are wrapped"),
    "gradients are exchanged at chosen steps": (
        wrapped(
            batch=f"{FORWARD}\noptimizer.zero_grad()\nwith model.no_sync():\n    loss.backward()\noptimizer.step()"
        ),
        "`model.no_sync` needs the wrapper",
    ),
    "the network trains beside the wrapper": (wrapped("ddp_model = DDP(model)\n"), "runs beside the wrapper"),
    "the network inside trains": (
        wrapped(batch=STEP.replace("model(x)", "model.module(x)")),
        "runs beside the wrapper",
    ),
    "a hook for its communication": (
        wrapped("model = DDP(model)\nmodel.register_comm_hook(None, print)\n"),
        "needs the wrapper",
    ),
    "given to what is not known": (
        wrapped("model = DDP(model)\nmodel = torch.compile(model)\n"),
        "is bound anew after it was wrapped",
    ),
    "it runs before": (wrapped("model = DDP(model)\nmodel(data[:8][0])\n"), "runs before the training starts"),
    "a changed condition": (
        wrapped("if ddp:\n    model = DDP(model)\nddp = False\n"),
        "`ddp` changes after it decided",
    ),
}


DATA_PARALLEL = {
    "always": script(STEP, setup=f"{MODEL}model = nn.DataParallel(model)\n{REST}", after=SAVE),
    "with several devices": script(
        STEP,
        setup=f"{MODEL}if torch.cuda.device_count() > 1:\n    model = nn.DataParallel(model)\n{REST}",
        after=SAVE,
    ),
}


@pytest.mark.parametrize("text", DATA_PARALLEL.values(), ids=DATA_PARALLEL)
def test_data_parallel_becomes_processes_in_the_idiomatic_style_only(text: str) -> None:
    faithful, idiomatic = converted(text), converted(text, style="idiomatic")
    assert "nn.DataParallel(model)" in (faithful.text or "")
    assert any("keeps its own DataParallel" in reason for reason in faithful.reasons)
    assert idiomatic.text is not None
    assert "DataParallel" not in idiomatic.text
    assert 'strategy="auto"' in idiomatic.text and 'devices="auto"' in idiomatic.text
    assert "prefix=" in idiomatic.text  # the saved names stay
    assert any("DataParallel becomes" in departure for departure in idiomatic.departures)


@pytest.mark.parametrize(("text", "there", "gone"), TAKEN_OUT.values(), ids=TAKEN_OUT)
def test_the_wrapper_is_taken_out(text: str, there: list[str], gone: list[str]) -> None:
    done = converted(text)
    assert done.text is not None, done.refusals
    assert [part for part in there if part not in done.text] == []
    assert [part for part in gone if part in done.text] == []
    wraps = [entry for entry in done.ledger.entries if "= DDP(" in entry.text]
    assert {(entry.fate, entry.target) for entry in wraps} == {(Fate.REPLACED, "Trainer(strategy=...)")}


@pytest.mark.parametrize(("text", "reason"), KEPT.values(), ids=KEPT)
def test_the_wrapper_stays_where_no_strategy_does_the_same(text: str, reason: str) -> None:
    done = converted(text)
    assert done.text is not None, done.refusals
    assert "DDP(" in done.text
    assert "devices=1" in done.text
    assert any("keeps its own DistributedDataParallel" in note and reason in note for note in done.reasons), (
        done.reasons
    )


@pytest.mark.slow
def test_two_processes_train_as_before(tmp_path: Path) -> None:
    """Under torchrun's environment and spawned, with both runtimes; each process has batch norms of its own."""
    pytest.importorskip("lightning")
    scripts = {}
    for case in ("ddp_torchrun", "ddp_spawn"):
        scripts[f"{case}_source.py"] = (FIXTURES / case / "input.py").read_text(encoding="utf-8")
        for runtime in ("bundled", "lightning"):
            text = conversion(case, runtime=runtime).text
            assert text is not None and "strategy=" in text
            scripts[f"{case}_{runtime}.py"] = text
    found = re.findall(
        r"rank (\d): (.*?)weights (\w{64})", in_two_processes(scripts, tmp_path)
    )  # (rank, names of parameters, digest)
    assert [rank for rank, *_ in sorted(found)] == ["0"] * 6 + ["1"] * 6
    assert len(set(found)) == 4, found  # one for each rank of each script, in all three forms
