"""What the pages say of a study, in words."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from studies.model import Band, Sender, Status, Study, StudyDescription
from tests.support.domain import NOON, STUDY, reading
from worklist import words
from worklist.shown import Mark, date, person, regions_of, result_of, row_of


def a_study(**changed) -> Study:
    study = Study(
        id=1,
        StudyInstanceUID=STUDY,
        status=Status.READ,
        reason=None,
        description=StudyDescription(PatientName="DOE^JANE"),
        PatientID="P1",
        instances=1,
        revision=1,
        read_revision=1,
        readings=1,
        band=Band.POSITIVE,
        certainty=0.9,
        attempts=0,
        first_received_at=NOON,
        last_received_at=NOON,
        changed_at=NOON,
        sender=Sender(ae_title="CR1", address="127.0.0.1"),
    )
    return replace(study, **changed)


@pytest.mark.parametrize("status", list(Status))
def test_without_a_reading_nothing_looks_negative(status):
    """Whatever state a study is in, no result is no result."""
    result = result_of(a_study(status=status, band=None, certainty=None))

    assert result.mark not in {Mark.NEGATIVE, Mark.POSITIVE, Mark.DOUBTFUL}
    assert result.certainty == ""


def test_a_late_image_is_said_beside_the_result():
    """The result stands, and the reader knows that it does not cover everything."""
    row = row_of(a_study(status=Status.RECEIVING, revision=2), reading(), NOON)

    assert row.result.mark is Mark.POSITIVE
    assert row.remark == "an image has come since"


def test_a_row_names_region_and_age():
    """What was read, and for how long it has waited."""
    row = row_of(a_study(), reading(), NOON + timedelta(minutes=5))

    assert (row.regions, row.age, row.patient) == ("lower leg", "5 min", "DOE JANE")
    assert regions_of(None) == ""


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("DOE^JANE^^Dr.", "DOE JANE Dr."),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada Tarou (山田 太郎, やまだ たろう)"),
        ("=山田^太郎", "山田 太郎"),
        ("^^^^", ""),
        ("", ""),
    ],
)
def test_a_person_name_is_readable(name, shown):
    """Components by spaces, further groups in brackets."""
    assert person(name) == shown


def test_a_date_is_readable_and_what_is_none_stays_as_it_came():
    """Senders write all kinds of things into dates."""
    assert [date(text) for text in ("20260301", "01.03.26", "")] == ["2026-03-01", "01.03.26", ""]


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(0.914, "91 %"), (1.0, "> 99 %"), (0.996, "> 99 %"), (0.0, "< 1 %"), (0.01, "1 %")],
)
def test_a_probability_is_never_a_certainty(probability, shown):
    """No model is sure, and no page says so."""
    assert words.percent(probability) == shown


@pytest.mark.parametrize(
    ("passed", "shown"),
    [(59, "59 s"), (60, "1 min"), (3599, "59 min"), (7200, "2 h"), (90000, "1 d"), (-5, "0 s")],
)
def test_an_age_is_in_its_largest_unit(passed, shown):
    """A clock that runs ahead gives no negative age."""
    assert words.age(timedelta(seconds=passed)) == shown


def test_every_term_has_its_words():
    """A band, state, region or delivery that is added without words is noticed here."""
    from studies.model import DeliveryState, Region

    assert set(words.BANDS) == set(Band)
    assert set(words.STATUSES) == set(Status)
    assert set(words.REGIONS) == set(Region)
    assert set(words.DELIVERIES) == set(DeliveryState)
