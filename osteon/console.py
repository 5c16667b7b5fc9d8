"""How the command speaks of what goes wrong: one line for people, and the exit status."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from studies.errors import ConfigurationError, OsteonError

FAILED = 1
WRONGLY_SET_UP = 2


def say(text: str) -> None:
    """Write a line for the person who watches; results go to stdout, this does not."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@contextmanager
def errors_told() -> Iterator[None]:
    """Tell an error in one line without a traceback, and end with its exit status.

    2 where the set-up is wrong, 1 where something else failed. What is neither ours nor the
    system's or the database's keeps its traceback: it is a mistake of the program.
    """
    try:
        yield
    except ConfigurationError as error:
        _end(str(error), WRONGLY_SET_UP)
    except OsteonError as error:
        _end(str(error), FAILED)
    except BrokenPipeError:
        # Who read our output has gone (`osteon … | head`); nobody is left to be told.
        sys.stderr.close()
        sys.exit(FAILED)
    except OSError as error:
        if error.errno is None:
            raise
        _end(_told(error), FAILED)
    except Exception as error:
        told = database_trouble(error)
        if told is None:
            raise
        _end(told, FAILED)


def database_trouble(error: Exception) -> str | None:
    """What to say of an error of the database; None if it is another error."""
    if not type(error).__module__.startswith("sqlalchemy."):
        return None
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    cause = lines[0] if lines else type(error).__name__
    if "no such table" in cause or "does not exist" in cause:
        return f"the database has no schema yet ({cause}): run `osteon migrate`"
    return f"the database cannot be used: {cause}"


def _end(text: str, status: int) -> None:
    say(f"osteon: {text}")
    sys.exit(status)


def _told(error: OSError) -> str:
    said = error.strerror or str(error)
    return f"{error.filename}: {said}" if error.filename else said
