"""LightningCLI: objects from the command line, and the run that it asks for."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cached_property, partial, reduce, update_wrapper
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import yaml
from jsonargparse import ActionConfigFile, Namespace, class_from_function  # type: ignore[attr-defined]
from torch.optim import Optimizer

from ..datamodule import LightningDataModule
from ..errors import MisconfigurationException, rank_zero_warn
from ..hooks import is_overridden
from ..hparams import given_hyperparameters
from ..instantiation import INSTANTIATOR
from ..module import LightningModule
from ..randomness import seed_everything
from ..snapshot import LIGHTNING_VERSION
from ..trainer import Trainer
from .parser import AUTOMATIC, ArgsType, Classes, LightningArgumentParser, ReduceLROnPlateau
from .save_config import SaveConfigCallback


class LightningCLI:
    """Makes the module, the data module and the Trainer from the command line, and runs what it asks for.

    Args:
        model_class: Class, or function returning a module; None lets the user choose: ``--model=MyModel``.
        datamodule_class: The same for the data module; it may be left out.
        save_config_callback: Writes the configuration beside the logs; None writes nothing.
        save_config_kwargs: Its arguments.
        trainer_class: A Trainer class, or a function returning one.
        trainer_defaults: Other defaults than the Trainer's; ``callbacks`` in it are always added.
        seed_everything_default: A seed, True for any, False for none.
        parser_kwargs: For the parser; under a subcommand's name, for that one's.
        parser_class: The parser.
        subclass_mode_model: Lets the user choose a subclass of the module.
        subclass_mode_data: Lets the user choose a subclass of the data module.
        args: Arguments instead of the command line's: a list of words, or a dictionary.
        run: False only makes the objects.
        load_from_checkpoint_support: Lets `save_hyperparameters` keep the configuration, from which
            `load_from_checkpoint` makes arguments that are objects again.
        auto_configure_optimizers: Adds ``--optimizer`` and ``--lr_scheduler``, which then replace the module's own.
    """

    def __init__(
        self,
        model_class: Callable[..., LightningModule] | None = None,
        datamodule_class: Callable[..., LightningDataModule] | None = None,
        save_config_callback: type[SaveConfigCallback] | None = SaveConfigCallback,
        save_config_kwargs: dict[str, Any] | None = None,
        trainer_class: Callable[..., Trainer] = Trainer,
        trainer_defaults: dict[str, Any] | None = None,
        seed_everything_default: bool | int = True,
        parser_kwargs: dict[str, Any] | None = None,
        parser_class: type[LightningArgumentParser] = LightningArgumentParser,
        subclass_mode_model: bool = False,
        subclass_mode_data: bool = False,
        args: ArgsType = None,
        run: bool = True,
        auto_configure_optimizers: bool = True,
        load_from_checkpoint_support: bool = True,
    ) -> None:
        self.save_config_callback = save_config_callback
        self.save_config_kwargs = save_config_kwargs or {}
        self.trainer_class = trainer_class
        self.trainer_defaults = trainer_defaults or {}
        self.seed_everything_default = seed_everything_default
        self.parser_kwargs = parser_kwargs or {}
        self.parser_class = parser_class
        self.auto_configure_optimizers = auto_configure_optimizers
        self.model_class = model_class
        self.subclass_mode_model = model_class is None or subclass_mode_model
        self.datamodule_class = datamodule_class
        self.subclass_mode_data = datamodule_class is None or subclass_mode_data

        names = self.subcommands()
        main_kwargs = {name: value for name, value in self.parser_kwargs.items() if name not in names}
        sub_kwargs = {name: value for name, value in self.parser_kwargs.items() if name in names}
        self.setup_parser(run, main_kwargs, sub_kwargs)
        self.parse_arguments(self.parser, args)
        self.subcommand: str | None = self.config["subcommand"] if run else None
        self._take_hyperparameters_of_checkpoint()
        self._set_seed()
        if load_from_checkpoint_support:
            self._add_instantiators()
        self.before_instantiate_classes()
        self.instantiate_classes()
        self.after_instantiate_classes()
        if self.subcommand is not None:
            self._run_subcommand(self.subcommand)

    # -- the parser -----------------------------------------------------------------------------------------------

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Makes a parser, with ``--config``; a configuration that is written says whose names it holds."""
        runtime = __name__.rpartition(".cli.")[0]
        kwargs.setdefault("dump_header", [f"{runtime}, with the arguments of lightning.pytorch=={LIGHTNING_VERSION}"])
        parser = self.parser_class(**kwargs)
        parser.add_argument(
            "-c", "--config", action=ActionConfigFile, help="Path to a configuration file in json or yaml format."
        )
        return parser

    def setup_parser(
        self, add_subcommands: bool, main_kwargs: dict[str, Any], subparser_kwargs: dict[str, Any]
    ) -> None:
        """Makes the parser and, with ``add_subcommands``, one below it for each of `subcommands`."""
        self.parser = self.init_parser(**main_kwargs)
        self._subcommand_parsers: dict[str, LightningArgumentParser] = {}
        self._subcommand_method_arguments: dict[str, list[str]] = {}
        if not add_subcommands:
            self._add_arguments(self.parser)
            return
        commands = self.parser.add_subcommands()
        cls = self.trainer_class if isinstance(self.trainer_class, type) else class_from_function(self.trainer_class)
        for name, skip in self.subcommands().items():
            description = (inspect.getdoc(getattr(cls, name)) or "").partition("\n")[0]
            parser = self.init_parser(**{"description": description, **subparser_kwargs.get(name, {})})
            self._add_arguments(parser)
            self._subcommand_method_arguments[name] = parser.add_method_arguments(cls, name, skip=set(skip))
            self._subcommand_parsers[name] = parser
            commands.add_subcommand(name, parser, help=description)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Returns the Trainer's methods that can be run, each with the arguments that do not come from outside."""
        evaluation = {"model", "dataloaders", "datamodule"}
        return {
            "fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule"},
            "validate": evaluation,
            "test": evaluation,
            "predict": evaluation,
        }

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds ``--seed_everything``."""
        parser.add_argument(
            "--seed_everything",
            type=bool | int,
            default=self.seed_everything_default,
            help="An int is the seed, set before anything is made; true takes any seed, false none.",
        )

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the arguments of the Trainer, the module and the data module."""
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        own = {f"trainer.{name}": value for name, value in self.trainer_defaults.items() if name != "callbacks"}
        parser.set_defaults(own)
        parser.add_lightning_class_args(
            self.model_class or LightningModule, "model", subclass_mode=self.subclass_mode_model
        )
        parser.add_lightning_class_args(
            self.datamodule_class or LightningDataModule,
            "data",
            subclass_mode=self.subclass_mode_data,
            required=self.datamodule_class is not None,  # a module may have loaders of its own
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Override it to add arguments, or to link one to another."""

    def _add_arguments(self, parser: LightningArgumentParser) -> None:
        self.add_default_arguments_to_parser(parser)
        self.add_core_arguments_to_parser(parser)
        self.add_arguments_to_parser(parser)
        if self.auto_configure_optimizers:
            if not parser._optimizers:
                parser.add_optimizer_args()
            if not parser._lr_schedulers:
                parser.add_lr_scheduler_args()
        self.link_optimizers_and_lr_schedulers(parser)

    @staticmethod
    def link_optimizers_and_lr_schedulers(parser: LightningArgumentParser) -> None:
        """Links the optimizers and schedulers that were added with ``link_to``."""
        for key, (cls, link_to) in {**parser._optimizers, **parser._lr_schedulers}.items():
            if link_to == AUTOMATIC:
                continue
            if isinstance(cls, tuple):
                parser.link_arguments(key, link_to)
            else:
                parser.link_arguments(key, link_to, compute_fn=partial(_described, cls))

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses the arguments into ``self.config``."""
        if args is not None and len(sys.argv) > 1:
            rank_zero_warn(
                "LightningCLI's args parameter is intended to run from within Python like if it were from the command "
                "line. To prevent mistakes it is not recommended to provide both args and command line arguments, got: "
                f"sys.argv[1:]={sys.argv[1:]}, args={args}."
            )
        self.config = parser.parse_object(args) if isinstance(args, (dict, Namespace)) else parser.parse_args(args)

    def _take_hyperparameters_of_checkpoint(self) -> None:
        if self.subcommand is None:
            return
        path = self.config[self.subcommand].get("ckpt_path")
        if not path or not Path(path).is_file():
            return
        hparams = dict(torch.load(path, weights_only=True, map_location="cpu").get("hyper_parameters") or {})
        hparams.pop("_instantiator", None)
        if not hparams:
            return
        if "_class_path" in hparams:
            hparams = {"class_path": hparams.pop("_class_path"), "dict_kwargs": hparams}
        try:
            self.config = self.parser.parse_object({self.subcommand: {"model": hparams}}, self.config)
        except SystemExit:
            sys.stderr.write("Parsing of ckpt_path hyperparameters failed!\n")
            raise

    def _add_instantiators(self) -> None:
        """Has the module and the data module made with their configuration at hand."""
        for key, given, base, subclasses in (
            ("model", self.model_class, LightningModule, self.subclass_mode_model),
            ("data", self.datamodule_class, LightningDataModule, self.subclass_mode_data),
        ):
            made: Any = given or base
            cls = made if isinstance(made, type) else inspect.signature(made).return_annotation
            self.parser.add_instantiator(partial(self._instantiate, key), cls, subclasses=subclasses)

    def _instantiate(
        self, key: str, cls: Callable[..., Any], *args: Any, applied_instantiation_links: dict[str, Any], **kwargs: Any
    ) -> Any:
        described = self._described_config.get(key, {})
        if "class_path" in described:
            own = {**described.get("init_args", {}), **described.get("dict_kwargs", {})}
            described = {"_class_path": described["class_path"], **own}
        described = {**deepcopy(described), "_instantiator": INSTANTIATOR}
        for target, value in applied_instantiation_links.items():
            owner, _, name = target.partition(".")
            if owner == key:
                *parents, last = name.removeprefix("init_args.").split(".")
                reduce(lambda inner, parent: inner[parent], parents, described)[last] = value
        with given_hyperparameters(described):
            return cls(*args, **kwargs)

    @cached_property
    def _described_config(self) -> dict[str, Any]:
        text = self.parser.dump(self.config, skip_link_targets=False, skip_none=False, format="yaml")
        described: dict[str, Any] = yaml.safe_load(text)
        return described if self.subcommand is None else described[self.subcommand]

    # -- the objects ----------------------------------------------------------------------------------------------

    def before_instantiate_classes(self) -> None:
        """Override it to do something before the objects are made."""

    def instantiate_classes(self) -> None:
        """Makes the data module, the module and the Trainer."""
        self.config_init = self.parser.instantiate_classes(self.config)
        self.datamodule = self._get(self.config_init, "data")
        self.model = self._get(self.config_init, "model")
        self._set_configure_optimizers()
        self.trainer = self.instantiate_trainer()

    def after_instantiate_classes(self) -> None:
        """Override it to do something with the objects before the run."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Makes the Trainer; ``kwargs`` win over the configuration."""
        config = {**self._get(self.config_init, "trainer", default={}), **kwargs}
        if "callbacks" not in config:
            rank_zero_warn(
                f"The `{getattr(self.trainer_class, '__qualname__', self.trainer_class)}` class does not expose the"
                " `callbacks` argument so they will not be included."
            )
            return self.trainer_class(**config)
        parser = self._parser
        config["callbacks"] = [
            *_as_list(config["callbacks"]),
            *(self._get(self.config_init, key) for key in parser.callback_keys),
            *(
                instantiate_class((), callback) if isinstance(callback, dict) else callback
                for callback in _as_list(self.trainer_defaults.get("callbacks"))
            ),
        ]
        if self.save_config_callback is not None and not config.get("fast_dev_run", False):
            own_config = self.config.get(str(self.subcommand), self.config)
            config["callbacks"].append(self.save_config_callback(parser, own_config, **self.save_config_kwargs))
        return self.trainer_class(**config)

    @property
    def _parser(self) -> LightningArgumentParser:
        return self.parser if self.subcommand is None else self._subcommand_parsers[self.subcommand]

    @staticmethod
    def configure_optimizers(lightning_module: LightningModule, optimizer: Optimizer, lr_scheduler: Any = None) -> Any:
        """Returns what the module's ``configure_optimizers`` returns; override it to change that."""
        if lr_scheduler is None:
            return optimizer
        if isinstance(lr_scheduler, ReduceLROnPlateau):
            scheduler = {"scheduler": lr_scheduler, "monitor": lr_scheduler.monitor}
            return {"optimizer": optimizer, "lr_scheduler": scheduler}
        return [optimizer], [lr_scheduler]

    def _set_configure_optimizers(self) -> None:
        if not self.auto_configure_optimizers:
            return
        parser = self._parser
        optimizers = [key for key, (_, link_to) in parser._optimizers.items() if link_to == AUTOMATIC]
        schedulers = [key for key, (_, link_to) in parser._lr_schedulers.items() if link_to == AUTOMATIC]
        if not optimizers:
            return
        if len(optimizers) > 1 or len(schedulers) > 1:
            raise MisconfigurationException(
                f"`{type(self).__name__}` expects at most one optimizer and one lr_scheduler to be 'AUTOMATIC', but"
                f" found {optimizers + schedulers}. Link the others with `link_to` and write `configure_optimizers`."
            )
        optimizer_init = self._initializer(optimizers[0], parser._optimizers)
        if not optimizer_init:
            return
        if is_overridden("configure_optimizers", self.model, LightningModule):
            rank_zero_warn(
                f"`{type(self.model).__name__}.configure_optimizers` will be overridden by "
                f"`{type(self).__name__}.configure_optimizers`."
            )
        optimizer = instantiate_class(self.model.parameters(), optimizer_init)
        scheduler_init = self._initializer(schedulers[0], parser._lr_schedulers) if schedulers else None
        scheduler = instantiate_class(optimizer, scheduler_init) if scheduler_init else None
        configure = partial(self.configure_optimizers, optimizer=optimizer, lr_scheduler=scheduler)
        update_wrapper(configure, self.configure_optimizers)
        self.model.configure_optimizers = MethodType(configure, self.model)

    def _initializer(self, key: str, register: Mapping[str, tuple[Classes, str]]) -> dict[str, Any] | None:
        cls, init = register[key][0], self._get(self.config_init, key)
        return init if isinstance(cls, tuple) else _described(cls, init)

    def _get(self, config: Namespace, key: str, default: Any = None) -> Any:
        return config.get(str(self.subcommand), config).get(key, default)

    # -- the run --------------------------------------------------------------------------------------------------

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs ``before_<subcommand>``, the subcommand (the CLI's own or the Trainer's) and ``after_<subcommand>``."""
        getattr(self, f"before_{subcommand}", _nothing)()
        run = getattr(self, subcommand, None) or getattr(self.trainer, subcommand)
        wanted = self._subcommand_method_arguments[subcommand]
        kwargs = {name: value for name, value in self.config_init[subcommand].items() if name in wanted}
        kwargs["model"] = self.model
        if self.datamodule is not None:
            kwargs["datamodule"] = self.datamodule
        run(**kwargs)
        getattr(self, f"after_{subcommand}", _nothing)()

    def _set_seed(self) -> None:
        seed = self._get(self.config, "seed_everything")
        if seed is False:
            return
        seed = seed_everything(None if seed is True else seed, workers=True)
        config = self.config if self.subcommand is None else self.config[self.subcommand]
        config["seed_everything"] = seed  # the saved configuration repeats this run


def instantiate_class(args: Any, init: Mapping[str, Any]) -> Any:
    """Makes ``{"class_path": ..., "init_args": ...}`` with ``args`` (one, or a tuple) before its own arguments."""
    module, _, name = init["class_path"].rpartition(".")
    cls = getattr(__import__(module, fromlist=[name]), name)
    return cls(*(args if isinstance(args, tuple) else (args,)), **init.get("init_args", {}))


def _described(cls: type, init_args: Namespace | dict[str, Any] | None) -> dict[str, Any]:
    values = init_args.as_dict() if isinstance(init_args, Namespace) else init_args or {}
    return {"class_path": f"{cls.__module__}.{cls.__name__}", "init_args": values}


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _nothing() -> None:
    pass
