"""The names that `Trainer(strategy=...)` knows; open for registration."""

from __future__ import annotations

from ..accelerators import Registry
from .absent import DeepSpeedStrategy, SingleDeviceXLAStrategy, XLAStrategy
from .ddp import DDPStrategy
from .fsdp import FSDPStrategy
from .single_device import SingleDeviceStrategy


class _Strategies(Registry):
    def available_strategies(self) -> list[str]:
        return list(self)


StrategyRegistry = _Strategies("strategy", ValueError)

for _name, _start_method in (("ddp", "popen"), ("ddp_spawn", "spawn"), ("ddp_fork", "fork"), ("ddp_notebook", "fork")):
    StrategyRegistry.register(_name, DDPStrategy, start_method=_start_method)
    for _finds in (False, True):
        StrategyRegistry.register(
            f"{_name}_find_unused_parameters_{str(_finds).lower()}",
            DDPStrategy,
            find_unused_parameters=_finds,
            start_method=_start_method,
        )
StrategyRegistry.register("fsdp", FSDPStrategy, description="Fully sharded data parallel (FSDP2)")
StrategyRegistry.register("fsdp_cpu_offload", FSDPStrategy, description="FSDP, parameters on the CPU", cpu_offload=True)
StrategyRegistry.register("single_device", SingleDeviceStrategy)
StrategyRegistry.register("deepspeed", DeepSpeedStrategy)
StrategyRegistry.register("deepspeed_stage_1", DeepSpeedStrategy, stage=1)
StrategyRegistry.register("deepspeed_stage_1_offload", DeepSpeedStrategy, stage=1, offload_optimizer=True)
StrategyRegistry.register("deepspeed_stage_2", DeepSpeedStrategy, stage=2)
StrategyRegistry.register("deepspeed_stage_2_offload", DeepSpeedStrategy, stage=2, offload_optimizer=True)
StrategyRegistry.register("deepspeed_stage_3", DeepSpeedStrategy, stage=3)
StrategyRegistry.register(
    "deepspeed_stage_3_offload", DeepSpeedStrategy, stage=3, offload_parameters=True, offload_optimizer=True
)
StrategyRegistry.register("xla", XLAStrategy)
StrategyRegistry.register("xla_debug", XLAStrategy, debug=True)
StrategyRegistry.register("single_xla", SingleDeviceXLAStrategy)
