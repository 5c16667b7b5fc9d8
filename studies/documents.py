"""A reading as JSON, and back; the form in which the database keeps it."""

from __future__ import annotations

from pydantic import TypeAdapter

from studies.model import Reading

_reading: TypeAdapter[Reading] = TypeAdapter(Reading)


def reading_to_json(reading: Reading) -> str:
    """The reading as JSON text; every value of studies.model.Reading is in it."""
    return _reading.dump_json(reading).decode("utf-8")


def reading_from_json(text: str) -> Reading:
    """The reading of such a text, validated.

    Raises
    ------
    pydantic.ValidationError
        If the text is not a reading.
    """
    return _reading.validate_json(text)
