"""The settings as tables for docs/operations.md, made from studies.settings and its docstrings.

``python -m osteon.settings_doc docs/operations.md`` puts them in, between the two comments that
mark their place.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from studies.errors import ConfigurationError
from studies.settings import PREFIX, Destination, Settings, Source, TLSFiles

BEGIN: Final = "<!-- settings: made by osteon.settings_doc -->"
END: Final = "<!-- end of settings -->"
SECTIONS: Final[tuple[tuple[type[BaseModel], str], ...]] = (
    (Source, "`[[sources]]`: who may send"),
    (Destination, "`[[destinations]]`: where results go"),
    (TLSFiles, "`[listener_tls]`, and `[destinations.tls]` below a destination"),
)


def settings_tables() -> str:
    """Every setting with its variable, its default and what it does, as Markdown.

    Raises
    ------
    ConfigurationError
        Naming the setting that its class does not describe.
    """
    parts = [_table(Settings, with_variables=True)]
    for section, title in SECTIONS:
        parts += ["", f"### {title}", "", _table(section, with_variables=False)]
    return "\n".join(parts)


def described(section: type[BaseModel]) -> dict[str, str]:
    """What a class says of its fields in the Attributes of its docstring, by field."""
    text = inspect.cleandoc(section.__doc__ or "")
    _, _, attributes = text.partition("Attributes\n----------\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in attributes.splitlines():
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.split(",")]
        elif line.strip():
            for name in names:
                found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return found


def put_into(document: str) -> str:
    """A document with the tables between its two comments.

    Raises
    ------
    ConfigurationError
        If the comments are missing.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigurationError(f"the document lacks {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{settings_tables()}\n\n{END}{after}"


def _table(section: type[BaseModel], *, with_variables: bool) -> str:
    heads = ["key", "variable", "default", "what it does"]
    rows = [heads, ["---"] * 4]
    texts = described(section)
    for key, field in section.model_fields.items():
        if key not in texts:
            raise ConfigurationError(f"{section.__name__}: {key} is not described")
        told = f"{texts[key]}{_limits(field)}"
        rows.append([f"`{key}`", f"`{PREFIX}{key.upper()}`", _default(field), told])
    for row in rows:
        if not with_variables:
            del row[1]
    return "\n".join(f"| {' | '.join(cell.replace('|', '∣') for cell in row)} |" for row in rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.default
    assert field.default_factory is None  # no setting is made by a function
    if value is None or value in ("", ()):
        return "–"
    if isinstance(value, tuple):
        return "see below"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def _limits(field: FieldInfo) -> str:
    """The choices of a setting, or between which numbers it must lie."""
    choices = _choices(field.annotation)
    if choices:
        return f" One of {', '.join(f'`{choice}`' for choice in choices)}."
    bounds = {}
    for rule in field.metadata:
        for name in ("gt", "ge", "lt", "le"):
            bound = getattr(rule, name, None)
            if bound is not None:
                bounds[name] = bound
    if not bounds:
        return ""
    words = {"gt": "above", "ge": "from", "lt": "below", "le": "up to"}
    return f" ({', '.join(f'{words[name]} {bound}' for name, bound in bounds.items())})"


def _choices(annotation: Any) -> Sequence[str]:
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return [choice for part in get_args(annotation) for choice in _choices(part)]
    return []


def main(arguments: Sequence[str]) -> int:
    """Put the tables into the named document."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m osteon.settings_doc docs/operations.md\n")
        return 2
    path = Path(arguments[0])
    path.write_text(put_into(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
