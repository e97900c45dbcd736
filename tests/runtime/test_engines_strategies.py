"""Trainer arguments -> strategy, device, precision, environment; with pretended devices where there are none."""

from __future__ import annotations

import os
import pickle
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from lightify.runtime.accelerators import (
    Accelerator,
    AcceleratorRegistry,
    CPUAccelerator,
    CUDAAccelerator,
    MPSAccelerator,
    find_usable_cuda_devices,
    parse_indices,
)
from lightify.runtime.checkpoint_io import TorchCheckpointIO
from lightify.runtime.errors import MisconfigurationException
from lightify.runtime.precision import FSDPPrecision, HalfPrecision, MixedPrecision, Precision
from lightify.runtime.strategies import (
    DDPStrategy,
    FSDPStrategy,
    KubeflowEnvironment,
    LightningEnvironment,
    LSFEnvironment,
    ModelParallelStrategy,
    MPIEnvironment,
    SingleDeviceStrategy,
    SLURMEnvironment,
    SpawnLauncher,
    StrategyRegistry,
    SubprocessLauncher,
    TorchElasticEnvironment,
    TorchSyncBatchNorm,
    parallel,
    resolve_strategy,
)
from lightify.runtime.strategies.launch import first_raised, script_command
from torch.multiprocessing import ProcessRaisedException

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


CHOICES: list[tuple[dict[str, Any], type, int]] = [
    ({}, SingleDeviceStrategy, 1),
    ({"devices": "1"}, SingleDeviceStrategy, 1),
    ({"devices": 2}, DDPStrategy, 2),
    ({"devices": "3"}, DDPStrategy, 3),
    ({"num_nodes": 2}, DDPStrategy, 2),
    ({"devices": 2, "num_nodes": 2}, DDPStrategy, 4),
    ({"strategy": "ddp"}, DDPStrategy, 1),
    ({"strategy": "DDP_Spawn", "devices": 2}, DDPStrategy, 2),
    ({"strategy": "fsdp", "devices": 2}, FSDPStrategy, 2),
    ({"strategy": DDPStrategy(), "devices": 2}, DDPStrategy, 2),
    ({"strategy": DDPStrategy(parallel_devices=[CPU] * 3)}, DDPStrategy, 3),
    ({"strategy": SingleDeviceStrategy("cpu")}, SingleDeviceStrategy, 1),
    ({"strategy": ModelParallelStrategy(), "devices": 2}, ModelParallelStrategy, 2),
]


@pytest.mark.parametrize(("arguments", "kind", "world_size"), CHOICES)
def test_choices_on_the_cpu(arguments: dict[str, Any], kind: type, world_size: int) -> None:
    strategy = resolve_strategy(accelerator="cpu", **arguments) if "strategy" not in arguments or isinstance(
        arguments["strategy"], str
    ) else resolve_strategy(**arguments)  # fmt: skip
    assert type(strategy) is kind
    assert strategy.world_size == world_size and strategy.root_device == CPU
    assert strategy.is_global_zero


@pytest.mark.parametrize(
    ("arguments", "kind", "devices"),
    [
        ({}, DDPStrategy, [0, 1]),
        ({"devices": 1}, SingleDeviceStrategy, [0]),
        ({"devices": [1]}, SingleDeviceStrategy, [1]),
        ({"devices": "1,"}, SingleDeviceStrategy, [1]),
        ({"devices": "0, 1"}, DDPStrategy, [0, 1]),
        ({"devices": -1}, DDPStrategy, [0, 1]),
        ({"devices": "-1", "strategy": "fsdp"}, FSDPStrategy, [0, 1]),
        ({"devices": 2, "strategy": "ddp_find_unused_parameters_true"}, DDPStrategy, [0, 1]),
    ],
)
@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cuda"])
def test_choices_on_gpus(
    two_gpus: None, accelerator: str, arguments: dict[str, Any], kind: type, devices: list[int]
) -> None:
    strategy = resolve_strategy(accelerator=accelerator, **arguments)
    assert type(strategy) is kind and isinstance(strategy.accelerator, CUDAAccelerator)
    assert strategy.parallel_devices == [torch.device("cuda", index) for index in devices]


def test_apples_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    strategy = resolve_strategy()
    assert strategy.root_device == torch.device("mps", 0)
    with pytest.raises(ValueError, match="not supported on the MPS accelerator"):
        resolve_strategy(strategy="ddp")


class Abacus(Accelerator):
    """Somebody else's device."""

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        return int(devices)

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [torch.device("meta")] * devices

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True


def test_other_accelerators_can_be_registered() -> None:
    AcceleratorRegistry.register("abacus", Abacus, description="beads")
    try:
        for accelerator in ("abacus", Abacus()):
            strategy = resolve_strategy(accelerator=accelerator)
            assert isinstance(strategy.accelerator, Abacus) and strategy.root_device == torch.device("meta")
        with pytest.raises(MisconfigurationException, match="already present"):
            AcceleratorRegistry.register("abacus", Abacus)
    finally:
        AcceleratorRegistry.remove("abacus")


def test_other_strategies_can_be_registered() -> None:
    @StrategyRegistry.register("mine", description="my own", device="cpu")
    class Mine(SingleDeviceStrategy):
        pass

    try:
        assert type(resolve_strategy(strategy="mine", accelerator="cpu")) is Mine
        with pytest.raises(ValueError, match="already present"):
            StrategyRegistry.register("mine", Mine)
    finally:
        StrategyRegistry.remove("mine")


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"accelerator": "quantum"}, ValueError, "invalid accelerator name: `accelerator='quantum'`"),
    ({"accelerator": "cuda"}, MisconfigurationException, r"`CUDAAccelerator` can not run on your system.*\['cpu'\]"),
    ({"accelerator": "gpu"}, MisconfigurationException, "No supported gpu backend found"),
    ({"accelerator": "tpu"}, MisconfigurationException, "no TPU engine"),
    ({"strategy": "magic"}, ValueError, "invalid strategy name: `strategy='magic'`"),
    ({"strategy": 3}, ValueError, "invalid strategy name"),
    ({"strategy": "deepspeed"}, MisconfigurationException, "not part of this runtime. Use `strategy='fsdp'`"),
    ({"devices": 0, "accelerator": "cpu"}, MisconfigurationException, r"`Trainer\(devices=0\)` value is not a valid"),
    ({"devices": [], "accelerator": "cpu"}, MisconfigurationException, "not a valid input using cpu"),
    ({"devices": -1, "accelerator": "cpu"}, TypeError, "should be an int > 0"),
    ({"devices": [0], "accelerator": "cpu"}, TypeError, "should be an int > 0"),
    ({"num_nodes": 0}, ValueError, "`num_nodes` must be a positive integer"),
    ({"precision": "17"}, ValueError, "Precision '17' is invalid"),
    ({"plugins": [3]}, MisconfigurationException, "Found invalid type for plugin 3"),
    ({"plugins": [Precision(), Precision()]}, MisconfigurationException, "multiple values for Precision"),
    ({"plugins": [Precision()], "precision": 16}, ValueError, "Received both `precision=16` and `plugins="),
    (
        {"strategy": SingleDeviceStrategy("cpu", accelerator=CPUAccelerator()), "accelerator": "cpu"},
        MisconfigurationException,
        "both strategy class and accelerator flag",
    ),
    (
        {"strategy": DDPStrategy(precision_plugin=Precision()), "plugins": Precision()},
        MisconfigurationException,
        "precision set through both",
    ),
    (
        {"strategy": DDPStrategy(parallel_devices=[CPU] * 2), "accelerator": "cuda"},
        MisconfigurationException,
        "CPU parallel_devices set through DDPStrategy class",
    ),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("arguments", "error", "message"), WRONG)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        resolve_strategy(**arguments)


@pytest.mark.parametrize(
    ("devices", "error", "message"),
    [
        ([0, 0], MisconfigurationException, "must be unique"),
        ([0, 5], MisconfigurationException, r"requested gpu: \[0, 5\]\n But your machine only has: \[0, 1\]"),
        (3, MisconfigurationException, "only has"),
        ("a", MisconfigurationException, "must be a count, a list of indices or -1"),
        (True, TypeError, "must be an int, a string, a sequence of ints"),
        ([0.5], TypeError, "must be an int"),
        (None, TypeError, "must be an int"),
    ],
)
def test_wrong_indices(devices: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        parse_indices(devices, [0, 1])


def test_parts_come_together() -> None:
    writer, environment = TorchCheckpointIO(), LightningEnvironment()
    strategy = resolve_strategy(
        "cpu", "ddp", 2, plugins=[writer, environment, MixedPrecision("bf16-mixed", "cpu")], sync_batchnorm=True
    )
    assert isinstance(strategy, DDPStrategy)
    assert strategy.checkpoint_io is writer and strategy.cluster_environment is environment
    assert isinstance(strategy.precision_plugin, MixedPrecision)
    assert isinstance(strategy._layer_sync, TorchSyncBatchNorm)
    assert isinstance(resolve_strategy("cpu", "fsdp", precision="bf16-mixed").precision_plugin, FSDPPrecision)
    assert isinstance(resolve_strategy("cpu", precision="16-true").precision_plugin, HalfPrecision)


def test_samplers_are_shared_out_only_if_wanted() -> None:
    assert resolve_strategy("cpu", "ddp", 2).distributed_sampler_kwargs == {"num_replicas": 2, "rank": 0}
    assert resolve_strategy("cpu", "ddp", 2, use_distributed_sampler=False).distributed_sampler_kwargs is None
    assert resolve_strategy("cpu").distributed_sampler_kwargs is None


# --- environments ----------------------------------------------------------------------------------------------------

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "GROUP_RANK": "1",
    "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234",
}  # fmt: skip
SLURM = {
    "SLURM_JOB_ID": "1234", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1",
    "SLURM_NODELIST": "node[05-09],other",
}  # fmt: skip
MPI = {
    "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "MASTER_ADDR": "10.0.0.1",
}  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "kind", "address"),
    [
        (TORCHRUN, TorchElasticEnvironment, "10.0.0.1"),
        (SLURM, SLURMEnvironment, "node05"),
        (MPI, MPIEnvironment, "10.0.0.1"),
    ],
)
def test_processes_started_by_others(variables: dict[str, str], kind: type, address: str) -> None:
    with mock.patch.dict("os.environ", variables):
        strategy = resolve_strategy("cpu", "ddp", devices=2, num_nodes=2)
        assert isinstance(strategy, DDPStrategy) and type(strategy.environment) is kind
        ranks = strategy.world_size, strategy.global_rank, strategy.local_rank, strategy.node_rank
        assert ranks == (4, 3, 1, 1)
        assert strategy.environment.main_address == address
        assert strategy.launcher is None and not strategy.is_global_zero
    resolve_strategy("cpu")  # this process is the first one again


def test_torchrun_decides_how_many_when_devices_are_automatic() -> None:
    with mock.patch.dict("os.environ", TORCHRUN):
        assert resolve_strategy("cpu", "ddp", num_nodes=2).world_size == 4
    resolve_strategy("cpu")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (TORCHRUN, r"product\n? ?\(3 \* 1\) does not match the world size \(4\)"),
        ({**SLURM, "SLURM_NTASKS_PER_NODE": "2"}, "`--ntasks-per-node=2` does not match. HINT: Set `devices=2`"),
        ({**SLURM, "SLURM_NNODES": "2"}, "`--nodes=2` does not match. HINT: Set `num_nodes=2`"),
    ],
)
def test_arguments_that_contradict_the_environment(variables: dict[str, str], message: str) -> None:
    with mock.patch.dict("os.environ", variables):
        strategy = resolve_strategy("cpu", "ddp", devices=3)
        with pytest.raises(ValueError, match=message):
            strategy.setup_environment()


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("alpha,beta,gamma", "alpha"),
        ("alpha beta gamma", "alpha"),
        ("1.2.3.[100-110]", "1.2.3.100"),
        ("host[22]", "host22"),
        ("a[05-09,12],b1", "a05"),
        ("omega[2,5-7]", "omega2"),
    ],
)
def test_first_host_of_a_slurm_list(nodes: str, first: str) -> None:
    assert SLURMEnvironment.first_host(nodes) == first


def test_an_interactive_slurm_job_is_no_srun() -> None:
    with mock.patch.dict("os.environ", {**SLURM, "SLURM_JOB_NAME": "bash"}):
        assert not SLURMEnvironment.detect()
    array = {**SLURM, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
    with mock.patch.dict("os.environ", array):
        assert SLURMEnvironment.job_label() == "7_3"


def test_lsf_and_kubeflow(tmp_path: Any) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("launcher\nn1\nn1\nn2\n")
    lsf = {
        "LSB_JOBID": "1234", "LSB_DJOB_RANKFILE": str(hosts), "JSM_NAMESPACE_LOCAL_RANK": "1",
        "JSM_NAMESPACE_SIZE": "4", "JSM_NAMESPACE_RANK": "3",
    }  # fmt: skip
    with mock.patch.dict("os.environ", lsf), mock.patch("socket.gethostname", lambda: "n2"):
        environment = LSFEnvironment()
        assert environment.detect() and environment.main_address == "n1"
        assert (environment.global_rank(), environment.local_rank(), environment.node_rank()) == (3, 1, 1)
    with mock.patch.dict("os.environ", {"MASTER_ADDR": "a", "MASTER_PORT": "1", "WORLD_SIZE": "2", "RANK": "1"}):
        kubeflow = KubeflowEnvironment()
        assert (kubeflow.main_address, kubeflow.main_port, kubeflow.world_size()) == ("a", 1, 2)
        assert (kubeflow.global_rank(), kubeflow.local_rank(), kubeflow.node_rank()) == (1, 0, 1)


# --- launching -------------------------------------------------------------------------------------------------------


def test_who_starts_the_processes() -> None:
    assert resolve_strategy("cpu").launcher is None
    assert isinstance(resolve_strategy("cpu", "ddp", 2).launcher, SubprocessLauncher)
    assert isinstance(resolve_strategy("cpu", "ddp_spawn", 2).launcher, SpawnLauncher)
    with mock.patch.dict("os.environ", {"LOCAL_RANK": "1"}):
        child = resolve_strategy("cpu", "ddp", 2)
        assert child.launcher is None and child.global_rank == 1
    resolve_strategy("cpu")


def test_the_script_is_started_again_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    main = SimpleNamespace(__spec__=None, __file__="/a/train.py")
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", ["train.py", "--lr", "1"])
    assert script_command() == [sys.executable, "/a/train.py", "--lr", "1"]
    for name, started in (("package.__main__", "package"), ("package.train", "package.train")):
        main.__spec__ = SimpleNamespace(name=name, parent="package")
        assert script_command() == [sys.executable, "-m", started, "--lr", "1"]
    main.__spec__, main.__file__ = None, None
    with pytest.raises(MisconfigurationException, match="no script: you are in an interactive session"):
        script_command()


def test_prompts_need_a_launcher_that_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    with pytest.raises(MisconfigurationException, match="ddp_notebook"):
        resolve_strategy("cpu", "ddp", 2)
    launcher = resolve_strategy("cpu", devices=2).launcher
    assert isinstance(launcher, SpawnLauncher) and launcher.start_method == "fork"


# --- one process -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [SingleDeviceStrategy("cpu"), DDPStrategy(parallel_devices=[CPU])])
def test_collective_calls_of_one_process_change_nothing(strategy: Any) -> None:
    tensor = torch.ones(2)
    assert strategy.reduce(tensor) is tensor and strategy.all_gather(tensor) is tensor
    assert strategy.broadcast("a") == "a" and strategy.gather_object("a") == ["a"]
    strategy.barrier()


def test_a_group_of_another_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    with pytest.raises(MisconfigurationException, match=r"A process group of 3 exists, but .*needs one of 2"):
        resolve_strategy("cpu", "ddp", 2).setup_environment()


def test_layers_are_made_on_the_device_and_not_filled() -> None:
    strategy = SingleDeviceStrategy("meta", precision_plugin=HalfPrecision("bf16-true"))
    with strategy.tensor_init_context():
        layer = torch.nn.Linear(2, 2)
    assert layer.weight.device.type == "meta" and layer.weight.dtype == torch.bfloat16
    with mock.patch.object(torch.Tensor, "uniform_") as fill, SingleDeviceStrategy("cpu").tensor_init_context(True):
        torch.nn.Linear(2, 2)
    fill.assert_not_called()


def test_batch_normalisation_is_synchronised_and_set_back() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    model(torch.rand(4, 2))
    model.eval()
    x, sync = torch.rand(4, 2), TorchSyncBatchNorm()
    expected = model(x)
    synchronised = sync.apply(model)
    assert isinstance(synchronised[1], torch.nn.SyncBatchNorm)
    restored = sync.revert(synchronised)
    assert not any(isinstance(layer, torch.nn.SyncBatchNorm) for layer in restored.modules())
    assert torch.equal(restored(x), expected)


def test_devices_that_do_not_answer_are_not_usable(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: Any, device: torch.device) -> torch.Tensor:
        if device.index == 0:
            raise RuntimeError("busy")
        return torch.empty(())

    monkeypatch.setattr(torch, "tensor", taken)
    assert find_usable_cuda_devices() == [1]
    with pytest.raises(RuntimeError, match="requested to find 2 devices but only 1"):
        find_usable_cuda_devices(2)


@pytest.mark.parametrize(
    ("accelerator", "device"),
    [(CPUAccelerator(), "cuda:0"), (CUDAAccelerator(), "cpu"), (MPSAccelerator(), "cpu")],
)
def test_an_accelerator_takes_its_own_kind_only(accelerator: Accelerator, device: str) -> None:
    with pytest.raises(MisconfigurationException, match="Device should be"):
        accelerator.setup_device(torch.device(device))


def test_arguments_of_torchs_ddp_are_checked_at_once() -> None:
    arguments = {"find_unused_parameters": True, "gradient_as_bucket_view": True, "static_graph": False}
    assert DDPStrategy(**arguments, timeout=timedelta(seconds=9)).ddp_arguments == arguments  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got find_unused, which neither"):
        DDPStrategy(find_unused=True)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sharding_strategy": "HALF_SHARD"}, MisconfigurationException, "is not one of FULL_SHARD"),
        ({"sharding_strategy": "HYBRID_SHARD"}, MisconfigurationException, "needs `FSDPStrategy.device_mesh="),
        ({"process_group": object()}, MisconfigurationException, r"does not know \['process_group'\].*FSDP2"),
        ({"state_dict_type": "half"}, ValueError, "'full' or 'sharded'"),
    ],
)
def test_wrong_fsdp_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        FSDPStrategy(**arguments)


def test_fsdp_takes_the_settings_of_its_older_form() -> None:
    from lightify.runtime.strategies.fsdp import _policy
    from torch.distributed.fsdp import MixedPrecision, MixedPrecisionPolicy, ShardingStrategy

    for given in ("shard_grad_op", "SHARD_GRAD_OP", ShardingStrategy.SHARD_GRAD_OP):
        strategy = FSDPStrategy(sharding_strategy=given, use_orig_params=True, limit_all_gathers=True)
        assert strategy.sharding_strategy is ShardingStrategy.SHARD_GRAD_OP
    old = MixedPrecision(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    assert FSDPStrategy(mixed_precision=old).mixed_precision_config is old
    assert _policy(old) == MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    with pytest.raises(TypeError, match="can only work with the `FSDPPrecision` plugin"):
        FSDPStrategy(precision_plugin=HalfPrecision("bf16-true"))


def test_the_error_that_came_first_is_raised(tmp_path: Path) -> None:
    paths = [tmp_path / f"error{rank}" for rank in range(3)]
    for rank, moment in ((0, 2), (2, 1)):  # the first process ended first, and had only lost its connection
        paths[rank].write_bytes(pickle.dumps(f"error of {rank}"))
        os.utime(paths[rank], (moment, moment))
    processes = SimpleNamespace(error_files=paths, processes=[SimpleNamespace(pid=rank) for rank in range(3)])
    found = first_raised(processes, ProcessRaisedException("connection closed", 0, 0))
    assert (found.error_index, found.error_pid) == (2, 2) and "error of 2" in str(found)
    assert first_raised(processes, found) is found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux shows them")
def test_threads_of_a_group_end_with_it_before_python_does(tmp_path: Path) -> None:
    """Wrapped modules hold their group in circles; a thread that lives on aborts the process when Python has ended."""

    def exchanging() -> set[str]:
        threads = Path("/proc/self/task").glob("*")
        return {each.name for each in threads if "gloo" in _text(each / "comm")}

    before = exchanging()
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    circle: list[Any] = [dist.group.WORLD]
    circle.append(circle)
    del circle
    deadline = time.monotonic() + 20
    while not (threads := exchanging() - before) and time.monotonic() < deadline:
        time.sleep(0.01)  # a thread gives itself its name
    assert threads
    parallel._leave()
    parallel._let_threads_end()
    assert not threads & exchanging()


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # a thread of an earlier test that has just ended
        return ""
