"""What several processes check among themselves; each function returns what it saw, in every process."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import lightify.runtime as L
import torch
import torch.distributed as dist
from lightify.runtime import checkpoints, shards
from lightify.runtime.loggers import CSVLogger
from lightify.runtime.strategies import FSDPStrategy
from torch import Tensor
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, Sampler, SequentialSampler, WeightedRandomSampler

from tests.runtime.engines_scripts import parts


def digest(module: torch.nn.Module) -> str:
    """Of this process's own weights, bit for bit."""
    content = hashlib.sha256()
    for value in module.state_dict().values():
        local = value.to_local() if hasattr(value, "to_local") else value
        content.update(local.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


# --- resume ----------------------------------------------------------------------------------------------------------


class Cut(Exception):
    """The power goes out, everywhere after the same batch."""


class SaveAndCut(L.Callback):
    def __init__(self, after: int, path: str) -> None:
        self.after, self.path = after, path

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
        if trainer.run.total_batches == self.after:
            trainer.save_checkpoint(self.path)
        if trainer.run.total_batches > self.after:
            raise Cut


class Accumulating(parts.Net):
    """Manual optimization whose gradients live on: a step every third batch, exchanged in its own backward only."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        optimizer = self.optimizers()
        steps = batch_idx % 3 == 2
        with optimizer.toggle_model(sync_grad=steps):
            self.manual_backward(torch.nn.functional.mse_loss(self(x), y))
        if steps:
            optimizer.step()
            optimizer.zero_grad()


class Crossed(parts.Net):
    """Uses its layers in another order than it makes them in, so that DDP forms its buckets anew."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.first = torch.nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.first(x).relu())


def cut(case: dict[str, Any]) -> dict[str, Any]:
    """A run saved after each of `case["cuts"]` batches and taken up again, against one that was not."""

    def fit(ckpt_path: str | None = None, after: int | None = None) -> str:
        path = str(Path(case["folder"], f"{after}.ckpt"))
        callbacks = [] if after is None else [SaveAndCut(after, path)]
        torch.manual_seed(0)
        own = Accumulating if case.get("accumulates_itself") else Crossed if case.get("crossed") else None
        module = parts.net(case) if own is None else own(dropout=0.3)
        torch.manual_seed(10 if ckpt_path is None else 77)  # a resumed process starts from anywhere
        train, _ = parts.loaders(case)
        trainer = parts.trainer(case, callbacks=callbacks)
        with contextlib.suppress(Cut):
            trainer.fit(module, train, ckpt_path=ckpt_path)
            assert after is None, "the run ended before the cut"
        return path if after is not None else digest(module)

    whole, path = fit(), None
    for after in case["cuts"]:
        path = fit(path, after)
    return {"whole": whole, "resumed": fit(path)}


# --- a loop written by hand ------------------------------------------------------------------------------------------


def by_hand(case: dict[str, Any]) -> dict[str, Any]:
    """The Trainer in the process group that the script made, against the script's own loop around torch's DDP."""
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    group = dist.group.WORLD
    options = case.get("ddp", {})

    def loaders() -> tuple[DataLoader, DataLoader]:
        samples = parts.data(60)
        train = DataLoader(samples, 4, sampler=DistributedSampler(samples, shuffle=True, seed=3))
        return train, DataLoader(samples, 8, sampler=DistributedSampler(samples, shuffle=False))

    def network() -> torch.nn.Module:
        torch.manual_seed(0)
        norm, dropout = torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.2)
        result = torch.nn.Sequential(torch.nn.Linear(8, 16), norm, torch.nn.ReLU(), dropout, torch.nn.Linear(16, 1))
        torch.manual_seed(dist.get_rank())  # other dropout in each process
        return result

    def written_by_hand() -> list[str]:
        seen: list[str] = []
        model = DistributedDataParallel(network(), **options)
        optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        train, validation = loaders()
        for epoch in range(2):
            train.sampler.set_epoch(epoch)
            model.train()
            for x, y in train:
                optimizer.zero_grad()
                loss = torch.nn.functional.mse_loss(model(x), y)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
                seen.append(f"{loss.item().hex()} {digest(model.module)}")
            scheduler.step()
            model.eval()
            with torch.no_grad():
                seen += [model(x).sum().item().hex() for x, _ in validation]
        return seen

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = network()
            self.seen: list[str] = []

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return torch.nn.functional.mse_loss(self.model(batch[0]), batch[1])

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.seen.append(f"{outputs['loss'].item().hex()} {digest(self.model)}")

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.seen.append(self.model(batch[0]).sum().item().hex())

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), 0.05, momentum=0.9)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]

    expected, module = written_by_hand(), Module()
    parts.trainer({**case, "strategy": "ddp", "ddp": options}, gradient_clip_val=0.5).fit(module, *loaders())
    return {"expected": expected, "seen": module.seen, "group kept": dist.group.WORLD is group}


def by_hand_in_shards(case: dict[str, Any]) -> dict[str, Any]:
    """The Trainer's FSDP against a loop around torch's `fully_shard`, with its own policy of types and clipping."""
    reduced = torch.float32 if case["types"] else None
    policy = MixedPrecisionPolicy(torch.bfloat16 if case["types"] else None, reduced)
    clip = {"norm": torch.nn.utils.clip_grad_norm_, "value": torch.nn.utils.clip_grad_value_}[case["clips"]]
    strategy = FSDPStrategy(mixed_precision=policy, auto_wrap_policy={torch.nn.Linear})
    trainer = parts.trainer(
        case, strategy=strategy, gradient_clip_val=0.1, gradient_clip_algorithm=case["clips"], max_epochs=2
    )
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    samples = parts.data(40)

    def loader() -> DataLoader:
        return DataLoader(samples, 4, sampler=DistributedSampler(samples, shuffle=False))

    def network() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))

    model, expected = network(), []
    for part in (model[2], model[0], model):
        fully_shard(part, mp_policy=policy)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for x, y in [*loader(), *loader()]:
        optimizer.zero_grad()
        y = y.to(policy.param_dtype) if policy.param_dtype else y  # the batch of a step is cast as a whole
        loss = torch.nn.functional.mse_loss(model(x).float(), y)
        loss.backward()
        clip(model.parameters(), 0.1)
        optimizer.step()
        expected.append(f"{loss.item().hex()} {digest(model)}")

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = network()
            self.seen: list[str] = []

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return torch.nn.functional.mse_loss(self.model(batch[0]).float(), batch[1])

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.seen.append(f"{outputs['loss'].item().hex()} {digest(self.model)}")

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), 0.01)

    module = Module()
    trainer.fit(module, loader())
    return {"expected": expected, "seen": module.seen}


# --- samplers and epochs ---------------------------------------------------------------------------------------------


class Backwards(Sampler[int]):
    """Of the user's own."""

    def __len__(self) -> int:
        return 12

    def __iter__(self) -> Iterator[int]:
        return iter(range(11, -1, -1))


class Remembering(DistributedSampler):
    """The user's own share; notes which epochs it was told."""

    def __iter__(self) -> Iterator[int]:
        self.__dict__.setdefault("epochs", []).append(self.epoch)
        return super().__iter__()


SAMPLERS: dict[str, Any] = {
    "shuffled": lambda indices: None,
    "backwards": lambda indices: Backwards(),
    "weighted": lambda indices: WeightedRandomSampler([1.0] * 12, 12),
    "sequential": lambda indices: SequentialSampler(indices),
    "distributed": lambda indices: Remembering(indices, shuffle=True, seed=5),
}


def samplers(case: dict[str, Any]) -> dict[str, Any]:
    """Which indices each kind of sampler gives this process in two epochs."""

    class Collector(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.epochs: list[list[int]] = [[], []]

        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            self.epochs[self.current_epoch] += batch.tolist()
            return self.layer(batch[:, None].float()).sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 1e-3)

    seen: dict[str, Any] = {}
    if not dist.is_initialized():
        parts.trainer(case).strategy.setup_environment()
    for name, make in SAMPLERS.items():
        indices = torch.arange(12)
        sampler = make(indices)
        module = Collector()
        parts.trainer(case).fit(module, DataLoader(indices, 2, shuffle=sampler is None, sampler=sampler))
        seen[name] = module.epochs
        if name == "distributed":
            seen["epochs told"] = sampler.epochs
    return seen


# --- talk ------------------------------------------------------------------------------------------------------------


class Late(CSVLogger):
    """Writes everything at the end."""

    ended = False

    def save(self) -> None:
        if self.ended:
            super().save()

    def finalize(self, status: str) -> None:
        time.sleep(0.5)
        self.ended = True
        super().finalize(status)


def talk(case: dict[str, Any]) -> dict[str, Any]:
    """What the strategy's and the module's collective calls answer."""
    logger = Late(case["folder"], name="", version="")
    trainer = parts.trainer(case, max_epochs=1, limit_train_batches=1, logger=logger)
    module = parts.net(case)
    answers: dict[str, Any] = {}

    def ask(*_: Any) -> None:
        strategy, rank = trainer.strategy, trainer.global_rank
        own = torch.tensor([1.0, 2.0]) + rank
        for name in ("mean", "sum", "min", "max", "product"):
            answers[name] = strategy.reduce(own, reduce_op=name).tolist()
        answers["mean of whole numbers"] = strategy.reduce(torch.tensor(rank)).item()
        answers["own"] = own.tolist()
        answers["broadcast"] = strategy.broadcast({"from": rank}, src=1)
        answers["all"] = strategy.reduce_boolean_decision(rank == 0)
        answers["any"] = strategy.reduce_boolean_decision(rank == 0, all=False)
        leaf = own.clone().requires_grad_()
        gathered = module.all_gather({"x": leaf, "text": "kept"}, sync_grads=True)
        gathered["x"].pow(2).sum().backward()
        answers["gathered"], answers["kept"] = gathered["x"].tolist(), gathered["text"]
        answers["gradient"] = leaf.grad.tolist()
        strategy.barrier("asked")
        for reduce_fx in ("mean", "sum", "min", "max"):
            module.log(f"log_{reduce_fx}", float(rank + 1), reduce_fx=reduce_fx, sync_dist=True, on_epoch=True)
        module.log("log_own", float(rank + 1), on_epoch=True)
        alone = [dist.new_group([each]) for each in range(trainer.world_size)]
        module.log("log_alone", float(rank + 1), sync_dist=True, sync_dist_group=alone[rank])
        module.log("log_first", float(rank + 1), sync_dist=True, rank_zero_only=True)

    module.on_train_epoch_end = ask
    trainer.fit(module, parts.loaders(case)[0])
    file = Path(case["folder"], "metrics.csv")
    answers["last row"] = file.exists() and "log_mean" in file.read_text()
    answers |= {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("log_")}
    path = Path(case["folder"], f"by{trainer.global_rank}.ckpt")
    trainer.save_checkpoint(path)
    answers["wrote"] = path.exists()
    torch.nn.init.constant_(next(module.parameters()), trainer.global_rank)
    trainer.validate(module, parts.loaders(case)[1], verbose=False)
    answers["validated with"] = next(module.parameters()).max().item()
    return answers


# --- folders of shards -----------------------------------------------------------------------------------------------


class Bare(L.LightningModule):
    """Nothing to save."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.batches = 0

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.batches += 1

    def configure_optimizers(self) -> None: ...


def folders(case: dict[str, Any]) -> dict[str, Any]:
    """A module without a state, in shards; and a file that takes a folder's name, but fails at first."""
    path, train, answers = Path(case["folder"], "a.ckpt"), parts.loaders(case)[0], {}
    bare = parts.trainer(case, max_epochs=1)
    bare.fit(Bare(), train)
    bare.save_checkpoint(path)
    again = Bare()
    parts.trainer(case, max_epochs=2).fit(again, train, ckpt_path=path)
    answers["batches after the first epoch"] = again.batches
    answers["one process reads"] = len(shards.load_any(path)["state_dict"])

    whole = parts.trainer({**case, "state_dict_type": "full"}, max_epochs=1)
    whole.fit(parts.net(case), train)
    content = {"state_dict": whole.strategy.lightning_module_state_dict()}
    with mock.patch.object(checkpoints, "damage", return_value="it is not"), contextlib.suppress(OSError):
        whole.strategy.save_checkpoint(content, path)
    answers["still read"] = len(shards.load_any(path)["state_dict"])
    dist.barrier()
    whole.save_checkpoint(path)
    answers["a file"], answers["then read"] = path.is_file(), len(shards.load_any(path)["state_dict"])
    return answers
