"""ONNX checked by onnxruntime, TorchScript, and the summary of a model."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightify.runtime as L
import pytest
import torch
from lightify.runtime import export
from lightify.runtime.callbacks import ModelSummary, RichModelSummary
from lightify.runtime.errors import MisconfigurationException
from lightify.runtime.summary import get_human_readable_count, summarize
from torch import nn

from .leaves import Classifier, trainer


class WithDropout(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.example_input_array = torch.randn(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.drop(x))


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("target", ["path", "text", "buffer"])
def test_onnx_gives_what_the_module_gives(tmp_path: Path, target: str, dynamo: bool) -> None:
    runtime = pytest.importorskip("onnxruntime")
    if dynamo and target == "buffer":
        pytest.skip("torch's dynamo exporter writes files")
    model = WithDropout().eval()
    path = tmp_path / "model.onnx"
    where: Any = {"path": path, "text": str(path), "buffer": BytesIO()}[target]
    model.to_onnx(where, dynamo=dynamo)
    session = runtime.InferenceSession(
        where.getvalue() if target == "buffer" else str(path), providers=["CPUExecutionProvider"]
    )
    x = model.example_input_array
    (output,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(output), model(x).detach())


def test_onnx_keeps_the_mode_and_needs_an_input(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    model = WithDropout().train()
    model.to_onnx(tmp_path / "m.onnx", torch.randn(2, 4), dynamo=False)
    assert model.training and model.drop.training
    model.example_input_array = None
    with pytest.raises(ValueError, match="neither `input_sample` nor"):
        model.to_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_onnx_says_what_to_install(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == missing else True)
    with pytest.raises(ModuleNotFoundError, match=f"pip install {missing}"):
        WithDropout().to_onnx(dynamo=True)


def test_tensorrt_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModuleNotFoundError, match="to_tensorrt` requires `torch_tensorrt`"):
        WithDropout().to_tensorrt()
    monkeypatch.setattr(export, "find_spec", lambda name: name)
    with pytest.raises(MisconfigurationException, match="only supports CUDA devices"):
        WithDropout().to_tensorrt(default_device="cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ValueError, match="only supports output format 'torchscript'"):
        WithDropout().to_tensorrt("file", ir="ts")


def test_tensorrt_compiles_in_eval_mode_and_leaves_the_module_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    engine = SimpleNamespace(
        compile=lambda module, ir, inputs, **options: (
            calls.append((module.training, ir, len(inputs), options)) or "made"
        ),
        save=lambda made, path, inputs, **options: calls.append((made, path, options)),
    )
    monkeypatch.setitem(sys.modules, "torch_tensorrt", engine)  # type: ignore[arg-type]
    monkeypatch.setattr(export, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    moves: list[Any] = []
    monkeypatch.setattr(WithDropout, "to", lambda self, device: moves.append(device) or self)
    model = WithDropout().train()
    assert model.to_tensorrt(Path("m.ep"), enabled_precisions="half") == "made"
    options = {"output_format": "exported_program", "retrace": False}
    assert calls == [(False, "default", 1, {"enabled_precisions": "half"}), ("made", "m.ep", options)]
    assert model.training and moves == [torch.device("cuda"), torch.device("cpu")]


@pytest.mark.filterwarnings("ignore:.*TorchScript:DeprecationWarning")
@pytest.mark.parametrize("method", ["script", "trace"])
def test_torchscript_gives_what_the_module_gives(tmp_path: Path, method: str) -> None:
    model = WithDropout().train()
    with pytest.warns(DeprecationWarning, match="has been deprecated in v2.7"):
        script = model.to_torchscript(tmp_path / "m.pt", method=method)
    assert model.training and not script.training
    x = model.example_input_array
    torch.testing.assert_close(torch.jit.load(tmp_path / "m.pt")(x), model.eval()(x))


@pytest.mark.parametrize("method", ["script", "trace"])
def test_torchscript_after_a_run(tmp_path: Path, method: str) -> None:
    model = WithDropout()
    trainer(tmp_path, max_epochs=1).fit(model)
    with pytest.warns(DeprecationWarning):
        assert isinstance(model.to_torchscript(method=method), torch.jit.ScriptModule)


def test_torchscript_refuses_other_methods_and_tracing_without_input() -> None:
    model = WithDropout()
    model.example_input_array = None
    with pytest.warns(DeprecationWarning), pytest.raises(ValueError, match="only supports 'script' or 'trace'"):
        model.to_torchscript(method="compile")
    with pytest.warns(DeprecationWarning), pytest.raises(ValueError, match="requires either `example_inputs`"):
        model.to_torchscript(method="trace")


class Nested(L.LightningModule):
    def __init__(self, example: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.ReLU(), nn.Dropout(0.5)))
        self.head = nn.Linear(8, 2)
        self.scale = nn.Parameter(torch.ones(3))
        self.unused = nn.Linear(1, 1)
        self.unused.requires_grad_(False)
        if example:
            self.example_input_array = torch.zeros(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


@pytest.mark.parametrize(
    ("depth", "names"),
    [
        (0, []),
        (1, ["body", "head", "unused"]),
        (2, ["body", "body.0", "body.1", "head", "unused"]),
        (-1, ["body", "body.0", "body.1", "body.1.0", "body.1.1", "head", "unused"]),
    ],
)
def test_depth(depth: int, names: list[str]) -> None:
    assert summarize(Nested(), max_depth=depth).layer_names == names


def test_numbers_of_a_summary() -> None:
    model = Nested()
    model.unused.eval()
    random = torch.get_rng_state()
    summary = summarize(model)
    assert summary.param_nums == [40, 18, 2]
    assert (summary.total_parameters, summary.trainable_parameters) == (63, 61)
    assert summary.in_sizes == [[5, 4], [5, 8], "?"] and summary.out_sizes == [[5, 8], [5, 2], "?"]
    assert summary.total_flops == 2 * 5 * 4 * 8 + 2 * 5 * 8 * 2
    assert summary.model_size == pytest.approx(63 * 4e-6)
    assert summary.total_training_modes == {"train": 6, "eval": 1}
    assert model.training and not model.unused.training  # as they were
    assert torch.equal(torch.get_rng_state(), random)
    table = str(summary)
    assert "other params" in table and "n/a" in table and "[5, 4]" in table
    assert "In sizes" not in str(summarize(Nested(example=False)))


@pytest.mark.parametrize("wrong", [-2, "all", 1.5])
def test_a_wrong_depth_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="`max_depth` can be -1, 0 or > 0"):
        summarize(Nested(), max_depth=wrong)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0  "), (123, "123  "), (1234, "1.2 K"), (2e6, "2.0 M"), (3e9, "3.0 B"), (4e14, "400 T"), (5e15, "5,000 T")],
)
def test_human_readable_counts(number: float, text: str) -> None:
    assert get_human_readable_count(number) == text


@pytest.mark.parametrize("callback", [ModelSummary, RichModelSummary])
def test_the_callbacks_print_it_when_fit_starts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: Any, callback: Any
) -> None:
    with caplog.at_level("INFO"):
        trainer(tmp_path, callback(max_depth=1), max_epochs=1, enable_model_summary=True).fit(WithDropout())
    captured = capfd.readouterr()
    shown = captured.out + captured.err + caplog.text
    assert "layer" in shown and "Linear" in shown and "Trainable params" in shown
