"""The runtime's errors and warnings, and the one place that knows which process may speak."""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger("lightify.runtime")
if not log.handlers:
    # Messages of the runtime are for people: shown at INFO without the script configuring logging.
    log.addHandler(logging.StreamHandler())
    log.setLevel(logging.INFO)
    log.propagate = False


class MisconfigurationException(Exception):
    """A wrong argument, or a combination of arguments and code that cannot work. Says what to write instead."""


class NoLoaderError(MisconfigurationException, TypeError):
    """Nobody gives the data that a run needs; Lightning raises the one or the other."""


class SIGTERMException(SystemExit):
    """Raised at the next safe point after the process was asked to end by SIGTERM; ends it with status 143."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        if self.code is None:
            self.code = 143


class Interrupted(KeyboardInterrupt, SystemExit):
    """Ctrl-C, after the run was closed in order.

    A script's own ``except KeyboardInterrupt`` catches it; uncaught, the process ends with status 130 and no traceback.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.code = 130


class TunerExit(Exception):
    """Ends a tuning run early; the trainer closes the run and swallows it."""


class PossibleUserWarning(UserWarning):
    """Something that is probably, not surely, a mistake in the script."""


class LightningDeprecationWarning(DeprecationWarning):
    """An older spelling was used; names the new one."""


warnings.simplefilter("default", category=LightningDeprecationWarning)


def disable_possible_user_warnings(module: str = "") -> None:
    """Switches off warnings of the kind `PossibleUserWarning`, from one module or from all."""
    warnings.filterwarnings("ignore", module=module, category=PossibleUserWarning)


if os.environ.get("POSSIBLE_USER_WARNINGS", "").lower() in ("0", "off"):
    disable_possible_user_warnings()


def _process_rank() -> int:
    """The rank that the launcher announced, before a strategy knows better."""
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


class _RankZeroOnly:
    """Decorator: the function runs on rank zero only. Strategies set `rank_zero_only.rank`."""

    def __init__(self) -> None:
        self.rank = _process_rank()

    def __call__(self, fn: Callable[..., T], default: T | None = None) -> Callable[..., T | None]:
        @functools.wraps(fn)
        def on_rank_zero(*args: Any, **kwargs: Any) -> T | None:
            return fn(*args, **kwargs) if self.rank == 0 else default

        return on_rank_zero


rank_zero_only = _RankZeroOnly()


def rank_prefixed_message(message: str, rank: int | None) -> str:
    """Puts the rank in front of a message, when there is one."""
    return message if rank is None else f"[rank: {rank}] {message}"


def rank_zero_warn(message: str | Warning, stacklevel: int = 4, category: type[Warning] = UserWarning) -> None:
    """Warns on rank zero; `stacklevel` 4 points at the caller of the function that warns."""
    if rank_zero_only.rank == 0:
        warnings.warn(message, stacklevel=stacklevel - 1, category=category)


def rank_zero_deprecation(message: str | Warning, stacklevel: int = 5) -> None:
    rank_zero_warn(message, stacklevel=stacklevel, category=LightningDeprecationWarning)


def rank_zero_info(message: object, *args: object, **kwargs: Any) -> None:
    if rank_zero_only.rank == 0:
        log.info(message, *args, **kwargs)


def rank_zero_debug(message: object, *args: object, **kwargs: Any) -> None:
    if rank_zero_only.rank == 0:
        log.debug(message, *args, **kwargs)


class WarningCache(set[str]):
    """Says each message once."""

    def warn(self, message: str, stacklevel: int = 5, **kwargs: Any) -> None:
        if message not in self:
            self.add(message)
            rank_zero_warn(message, stacklevel=stacklevel, **kwargs)

    def deprecation(self, message: str, stacklevel: int = 6) -> None:
        if message not in self:
            self.add(message)
            rank_zero_deprecation(message, stacklevel=stacklevel)

    def info(self, message: str, *args: object, **kwargs: Any) -> None:
        if message not in self:
            self.add(message)
            rank_zero_info(message, *args, **kwargs)
