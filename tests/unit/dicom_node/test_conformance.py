"""The conformance statement says what the code does."""

from __future__ import annotations

import pytest

from dicom_node.admission import Rejection
from dicom_node.conformance import main, rendered, tables
from dicom_node.contexts import STORAGE_SOP_CLASSES, STORAGE_SYNTAXES
from dicom_node.statuses import StoreStatus
from tests.support.shared import PROJECT_ROOT

STATEMENT = PROJECT_ROOT / "docs" / "conformance.md"


def test_the_statement_is_in_step_with_the_code():
    """Run `python -m dicom_node.conformance docs/conformance.md` when this fails."""
    text = STATEMENT.read_text(encoding="utf-8")

    assert rendered(text) == text


def test_every_class_syntax_status_and_rejection_is_in_it():
    """A table that forgets a row would be in step with itself."""
    text = STATEMENT.read_text(encoding="utf-8")

    for uid in (*STORAGE_SOP_CLASSES, *STORAGE_SYNTAXES):
        assert f"`{uid}`" in text
    for status in StoreStatus:
        assert f"`0x{status:04X}`" in text
    assert len(tables()["association rejections"].splitlines()) == len(Rejection) + 2


def test_a_statement_that_is_behind_is_brought_up_to_date(tmp_path):
    """What stands between the markers is replaced, and nothing else."""
    text = STATEMENT.read_text(encoding="utf-8")
    copy = tmp_path / "conformance.md"
    copy.write_text(text.replace("`0xA700`", "`0xFFFF`"), encoding="utf-8")

    main(copy)

    assert copy.read_text(encoding="utf-8") == text


def test_a_statement_without_a_table_s_markers_is_an_error():
    """A table cannot get lost in an edit."""
    with pytest.raises(ValueError, match="markers"):
        rendered("# nothing")
