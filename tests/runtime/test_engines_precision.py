"""Precisions: spellings, types, loss scale. On the CPU autocast and the scaler are real, only slower."""

from __future__ import annotations

import dataclasses
from typing import Any

import lightify.runtime as L
import pytest
import torch
from lightify.runtime.errors import MisconfigurationException
from lightify.runtime.precision import (
    DeepSpeedPrecision,
    DoublePrecision,
    FSDPPrecision,
    HalfPrecision,
    MixedPrecision,
    Precision,
    resolve_precision,
)
from torch import nn

SPELLINGS: list[tuple[Any, str, type[Precision], str]] = [
    (None, "cpu", Precision, "32-true"),
    (32, "cpu", Precision, "32-true"),
    ("32", "cuda", Precision, "32-true"),
    ("32-true", "cpu", Precision, "32-true"),
    (64, "cpu", DoublePrecision, "64-true"),
    ("64-true", "cuda", DoublePrecision, "64-true"),
    (16, "cuda", MixedPrecision, "16-mixed"),
    ("16", "cuda", MixedPrecision, "16-mixed"),
    ("16-mixed", "cuda", MixedPrecision, "16-mixed"),
    ("16-mixed", "cpu", MixedPrecision, "bf16-mixed"),
    ("bf16", "cpu", MixedPrecision, "bf16-mixed"),
    ("bf16-mixed", "cuda", MixedPrecision, "bf16-mixed"),
    ("16-true", "cpu", HalfPrecision, "16-true"),
    ("bf16-true", "cpu", HalfPrecision, "bf16-true"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("spelling", "device", "kind", "name"), SPELLINGS)
def test_spellings(spelling: Any, device: str, kind: type[Precision], name: str) -> None:
    precision = resolve_precision(spelling, device)
    assert type(precision) is kind and precision.precision == name
    assert (precision.scaler is not None) == (name == "16-mixed")


@pytest.mark.parametrize("name", ["8", "mixed", 128, "transformer-engine"])
def test_unknown_precisions(name: Any) -> None:
    with pytest.raises((ValueError, MisconfigurationException), match=r"precision|Precision"):
        resolve_precision(name, "cpu")


def test_mps_has_no_64_bits() -> None:
    with pytest.raises(MisconfigurationException, match="not supported on MPS"):
        resolve_precision("64-true", "mps")


@pytest.mark.parametrize(
    ("precision", "weight", "computed"),
    [
        (Precision(), torch.float32, torch.float32),
        (MixedPrecision("bf16-mixed", "cpu"), torch.float32, torch.bfloat16),
        (MixedPrecision("16-mixed", "cpu"), torch.float32, torch.float16),
        (HalfPrecision("bf16-true"), torch.bfloat16, torch.bfloat16),
        (HalfPrecision("16-true"), torch.float16, torch.float16),
        (DoublePrecision(), torch.float64, torch.float64),
        (DeepSpeedPrecision("bf16-true"), torch.bfloat16, torch.bfloat16),
    ],
    ids=lambda value: value.precision if isinstance(value, Precision) else str(value),
)
def test_types_of_weights_inputs_and_computation(
    precision: Precision, weight: torch.dtype, computed: torch.dtype
) -> None:
    module = precision.convert_module(nn.Linear(2, 2))
    batch = precision.convert_input({"x": torch.ones(1, 2), "label": torch.ones(1, dtype=torch.int64), "name": "a"})
    assert batch["label"].dtype == torch.int64 and batch["name"] == "a"
    with precision.forward_context():
        output = module(batch["x"])
    assert module.weight.dtype == weight and output.dtype == computed
    assert torch.get_default_dtype() == torch.float32
    with precision.module_init_context():
        assert nn.Linear(2, 2).weight.dtype == weight


@dataclasses.dataclass(frozen=True)
class Batch:
    x: torch.Tensor
    label: int = 1


def test_inputs_are_converted_in_the_fields_of_a_dataclass() -> None:
    assert DoublePrecision().convert_input([Batch(torch.ones(1))]) == [Batch(torch.ones(1, dtype=torch.float64))]
    assert DoublePrecision().convert_input(Batch(torch.ones(1))).x.dtype == torch.float64


@pytest.mark.parametrize(
    ("precision", "gathered"),
    [("32-true", None), ("bf16-true", None), ("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16)],
)
def test_sharded_modules_are_cast_by_fsdp(precision: str, gathered: torch.dtype | None) -> None:
    assert FSDPPrecision(precision).policy.param_dtype == gathered


def test_batch_normalisation_keeps_its_statistics_type_under_fsdp() -> None:
    seen: dict[str, torch.dtype] = {}

    class Watched(nn.BatchNorm1d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen["input"], seen["weight"] = x.dtype, self.weight.dtype
            return super().forward(x)

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm, self.last = nn.Linear(2, 4), Watched(4), nn.Linear(4, 1)

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            normed = self.norm(self.first(batch))
            seen["output"] = normed.dtype
            return self.last(normed).mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(accelerator="cpu", devices=1, strategy="fsdp", precision="bf16-mixed", max_epochs=1, **quiet)
    module = Module()
    trainer.fit(module, torch.utils.data.DataLoader(torch.randn(8, 2), batch_size=4))
    torch.distributed.destroy_process_group()
    assert seen == {"input": torch.float32, "weight": torch.float32, "output": torch.bfloat16}
    assert module.norm.running_mean.dtype == torch.float32 and module.norm.num_batches_tracked == 2


def one_step(precision: Precision, scale_gradient: float = 1.0) -> tuple[nn.Module, torch.Tensor]:
    """A clipped step of gradient 10 times `scale_gradient`."""
    torch.manual_seed(0)
    module = nn.Linear(1, 1, bias=False)
    nn.init.ones_(module.weight)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    loss = (module(torch.ones(1, 1)) * 10.0 * scale_gradient).sum()
    precision.scale_loss(loss).backward()
    precision.unscale(optimizer)
    seen = module.weight.grad.clone()
    precision.clip_gradients(optimizer, 0.5, "norm")
    precision.step(optimizer)
    return module, seen


def test_gradients_are_clipped_after_unscaling() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    module, seen = one_step(MixedPrecision("16-mixed", "cpu", scaler))
    assert seen.item() == 10.0  # what hooks see is unscaled
    assert module.weight.item() == pytest.approx(0.5)
    plain, _ = one_step(Precision())
    assert plain.weight.item() == pytest.approx(module.weight.item())


def test_a_step_that_overflows_is_skipped_and_halves_the_scale() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    precision = MixedPrecision("16-mixed", "cpu", scaler)
    module, _ = one_step(precision, scale_gradient=100.0)
    assert module.weight.item() == 1.0
    assert scaler.get_scale() == 2.0**126


def test_the_scaler_is_part_of_the_state() -> None:
    precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1))
    one_step(precision)
    state = precision.state_dict()
    assert state["scale"] == 16.0
    fresh = MixedPrecision("16-mixed", "cpu")
    fresh.load_state_dict(state)
    assert fresh.state_dict() == state
    assert MixedPrecision("bf16-mixed", "cpu").state_dict() == Precision().state_dict() == {}
    assert precision.state_key == "MixedPrecision"


def test_an_optimizer_without_gradients_is_not_stepped_by_the_scaler() -> None:
    precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    precision.unscale(optimizer)
    assert precision.step(optimizer) is None


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (lambda: MixedPrecision("16", "cpu"), ValueError, "Precision must be '16-mixed' or 'bf16-mixed'"),
        (lambda: HalfPrecision("16"), ValueError, "'16-true' or 'bf16-true'"),
        (lambda: DeepSpeedPrecision("64-true"), ValueError, "is not supported. `precision` must be one of"),
        (
            lambda: L.Trainer(plugins=DeepSpeedPrecision("16-mixed"), logger=False),
            MisconfigurationException,
            "needs DeepSpeed's engine. Use `strategy='fsdp'`",
        ),
        (lambda: FSDPPrecision("64-true"), ValueError, "not supported in FSDP"),
        (
            lambda: MixedPrecision("bf16-mixed", "cpu", torch.amp.GradScaler("cpu")),
            MisconfigurationException,
            "does not use a scaler",
        ),
        (
            lambda: MixedPrecision("16-mixed", "cpu").step(torch.optim.LBFGS(nn.Linear(1, 1).parameters())),
            MisconfigurationException,
            "LBFGS optimizer are not compatible",
        ),
    ],
)
def test_wrong_uses(action: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        action()


def test_an_optimizer_that_unscales_itself_cannot_be_clipped() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    optimizer._step_supports_amp_scaling = True  # what fused optimizers say of themselves
    with pytest.raises(RuntimeError, match="does not allow for gradient clipping"):
        MixedPrecision("16-mixed", "cpu").clip_gradients(optimizer, 1.0)
    MixedPrecision("bf16-mixed", "cpu").clip_gradients(optimizer, 1.0)


def test_complex_weights_keep_both_parts() -> None:
    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1)
            self.register_buffer("phase", torch.tensor([1 + 2j]))

    module = DoublePrecision().convert_module(Module())
    assert module.layer.weight.dtype == torch.float64
    assert module.phase.dtype == torch.complex64 and module.phase.item() == 1 + 2j


# --- against loops by hand -------------------------------------------------------------------------------------------


class Twice(nn.Module):
    """Uses a weight twice, and before that under no_grad."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inside, self.out = nn.Linear(16, 16), nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            shift = self.inside(x).mean()
        return self.out(self.inside(torch.relu(self.inside(x))) + shift)


def batches(dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 16, generator=generator).to(dtype) for _ in range(6)]


def trained_by_hand(
    module: nn.Module, dtype: torch.dtype, mixed: torch.dtype | None, scaler: torch.amp.GradScaler
) -> list[torch.Tensor]:
    optimizer = torch.optim.AdamW(module.parameters(), 0.01)
    for batch in batches(dtype):
        optimizer.zero_grad()
        with torch.autocast("cpu", mixed or torch.bfloat16, enabled=mixed is not None):
            loss = module(batch).square().mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(module.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()
    return list(module.parameters())


def test_a_weight_first_used_under_no_grad_gets_its_gradient() -> None:
    layer, batch = nn.Linear(4, 4), torch.ones(1, 4)
    with MixedPrecision("bf16-mixed", "cpu").forward_context():
        with torch.no_grad():
            layer(batch)
        loss = layer(batch).sum()
    loss.backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0


HALF, FLOAT, DOUBLE = torch.bfloat16, torch.float32, torch.float64


def overflowing(enabled: bool) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=2.0**18, growth_interval=2, enabled=enabled)


@pytest.mark.parametrize(
    ("precision", "dtype", "mixed"),
    [
        ("bf16-mixed", FLOAT, torch.bfloat16),
        (lambda: MixedPrecision("16-mixed", "cpu", overflowing(True)), FLOAT, torch.float16),
        ("bf16-true", HALF, None),
        ("64-true", DOUBLE, None),
        ("32-true", FLOAT, None),
    ],
    ids=["bf16-mixed", "16-mixed, the first steps overflow", "bf16-true", "64-true", "32-true"],
)
@pytest.mark.filterwarnings("ignore")
def test_each_precision_trains_as_a_loop_by_hand(precision: Any, dtype: torch.dtype, mixed: torch.dtype | None) -> None:
    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Twice()

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            return self.net(batch).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), 0.01)

    expected = trained_by_hand(Twice().to(dtype), dtype, mixed, overflowing(mixed is torch.float16))
    module = Module()
    options = {"plugins": precision()} if callable(precision) else {"precision": precision}
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=1, gradient_clip_val=0.5, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(module, Tensors(FLOAT))
    ours = list(module.parameters())
    assert [value.dtype for value in ours] == [dtype] * 4
    assert all(map(torch.equal, ours, expected))
    assert not torch.equal(ours[0], Twice().inside.weight.to(dtype))


class Tensors:
    """A loader of plain tensors: a list of them would be several loaders."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.batches = batches(dtype)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        return iter(self.batches)
