"""docs/operations.md against the code: every setting, every state, only commands that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

from osteon.cli import commands
from osteon.scanned import Outcome
from osteon.settings_doc import SECTIONS, described, put_into
from studies.errors import ConfigurationError
from studies.model import Band, Status
from studies.settings import Settings, load_settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.parametrize("section", [Settings, *(section for section, _ in SECTIONS)])
def test_every_setting_is_described_and_nothing_else_is(section):
    """A new setting without its sentence, or a sentence without its setting, fails here."""
    assert set(described(section)) == set(section.model_fields)


def test_the_tables_are_those_of_the_code():
    """Made anew, the document is the same: python -m osteon.settings_doc docs/operations.md."""
    assert put_into(TEXT) == TEXT


def test_a_setting_that_is_not_described_is_refused(monkeypatch):
    """The test of the tables leans on it."""

    class Section(BaseModel):
        """One setting.

        Attributes
        ----------
        known
            It is described.
        """

        known: int = 1
        unknown: int = 2

    monkeypatch.setattr("osteon.settings_doc.SECTIONS", ((Section, "made up"),))

    with pytest.raises(ConfigurationError, match="unknown is not described"):
        put_into(TEXT)


def test_limits_choices_and_defaults_are_in_the_tables():
    """Who sets a value need not look into the code."""
    assert "One of `auto`, `cpu`, `cuda`." in TEXT
    assert "| `quiet_seconds` | `OSTEON_QUIET_SECONDS` | `5.0` |" in TEXT
    assert "(above 0, up to 3600)" in TEXT
    assert "| `port` | must be given |" in TEXT


def test_every_state_is_explained():
    """And no state that does not exist."""
    section = TEXT.partition("## States of a study")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([a-z_]+) \|", section, re.MULTILINE)

    assert [row for row in rows if row != "state"] == [status.value for status in Status]


def test_every_word_of_a_scan_is_explained():
    """Statuses and bands as a script reads them."""
    for word in (*Outcome, *Band):
        assert f"`{word}`" in TEXT


def test_every_command_that_is_named_exists():
    """A remedy that cannot be typed is none."""
    root = typer.main.get_command(commands)
    names = set(root.commands)  # type: ignore[attr-defined]  # the root is a group
    named = set(re.findall(r"`osteon ([a-z]+)(?: ([a-z]+))?[^`]*`", TEXT))

    assert len(named) > 8
    for first, second in named:
        assert first in names
        below = getattr(root.commands[first], "commands", None)  # type: ignore[attr-defined]
        if below is not None:
            assert second in below


def test_the_examples_are_settings(tmp_path, monkeypatch):
    """What people copy is accepted as it stands."""
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    whole = "\n".join(sorted(examples, key=lambda text: text.lstrip().startswith("[")))
    (tmp_path / "osteon.toml").write_text(whole, encoding="utf-8")

    settings = load_settings({})

    assert len(examples) == 3
    assert tomllib.loads(whole)["sources"][0]["ae_title"] == "XRAY_ROOM_1"
    assert [source.host for source in settings.sources] == ["10.20.0.0/16", "pacs.example.org"]
    assert settings.destination("pacs") is not None
    assert settings.listener_tls is not None


def test_the_example_file_is_a_set_of_settings():
    """docs/osteon.example.toml as it stands, and with every line that it offers."""
    example = DOCUMENT.with_name("osteon.example.toml").read_text(encoding="utf-8")
    offered = re.sub(r"^# (?=\[\[|[a-z_]+ = )", "", example, flags=re.MULTILINE)

    for text in (example, offered):
        Settings.model_validate(tomllib.loads(text))
    assert Settings.model_validate(tomllib.loads(offered)).destinations


def test_links_lead_somewhere():
    """Files beside the document."""
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (DOCUMENT.parent / target).exists(), target
