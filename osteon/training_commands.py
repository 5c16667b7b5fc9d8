"""`osteon train`, `evaluate`, `export` and `compare`: handed on to the training package."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from studies.errors import ConfigurationError

COMMANDS = ("train", "evaluate", "export", "compare")
_OURS = ("training", "worker", "studies", "osteon")


def run_training_command(name: str, arguments: Sequence[str]) -> None:
    """Run one of `COMMANDS`; its own parser reads the arguments.

    Raises
    ------
    ConfigurationError
        If the extra `train` is not installed.
    """
    try:
        module = import_module(f"training.{name}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OURS:
            raise
        raise ConfigurationError(
            f"`osteon {name}` needs the extra `train` ({missing} is not installed): "
            f"./run --extra train {name} …, or pip install 'osteon[train]'"
        ) from error
    module.main(list(arguments))
