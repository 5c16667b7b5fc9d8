"""The pages on the models say what the cards say."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from studies.model import Region
from tests.unit.training.made_models import make_models
from training.model_docs import (
    FAILURES,
    METRICS,
    NAMES,
    OF_REGION,
    index_page,
    main,
    model_page,
    out_of_step,
    write_pages,
)
from training.suite import newest_models
from worker.cards import Card, Figure

ROOT = Path(__file__).parents[3]


@pytest.fixture
def models(tmp_path) -> Path:
    return make_models(tmp_path / "models")


def card_of(models: Path, name: str) -> Card:
    return next(model.card for model in newest_models(models) if model.name == name)


def test_the_pages_in_the_repository_are_in_step_with_the_cards():
    """Whoever changes a model writes its page anew: python -m training.model_docs."""
    if not any((ROOT / "models_onnx").glob("*/*/card.toml")):
        assert not list((ROOT / "docs" / "models").glob("*.md"))
        return

    assert out_of_step(ROOT / "models_onnx", ROOT / "docs" / "models") == []


def test_a_page_says_what_the_card_says(models):
    """Name, digest, thresholds, figures with interval, data and recipe."""
    card = card_of(models, "bone-elbow")

    page = model_page(card)

    assert "# bone-elbow 1.0" in page
    assert card.sha256 in page
    assert "0.700 or more is called **positive**" in page
    assert "one below 0.300 **negative**" in page
    assert "| AUC | 0.900 (0.800 to 1.000), n = 10 |" in page
    assert "Not a medical device" in page
    assert "must not be used for" in page


def test_a_router_page_lists_its_labels(models):
    """The threshold of every region, and of what is refused."""
    page = model_page(card_of(models, "router"))

    assert "| knee | 0.300 | 0.700 |" in page
    assert "| limb | 0.300 | 0.700 |" in page
    assert "How it fails" not in page


def test_an_experimental_model_says_so_first(models):
    """On its page, and in the list."""
    card = card_of(models, "bone-knee").model_copy(update={"experimental": True})

    assert "**Experimental:**" in model_page(card).split("##")[0]
    assert "Experimental." in index_page([card])


def test_sets_stand_side_by_side_and_absent_figures_are_dashes(models):
    """Plain and stressed in one row; what was not measured is not zero."""
    figure = Figure(value=0.5, low=0.25, high=0.75, n=8)
    card = card_of(models, "bone-knee").model_copy(
        update={
            "figures": {"test": {"auc": figure, "ece": figure}, "test_stressed": {"auc": figure}}
        }
    )

    page = model_page(card)

    assert "|  | test | test stressed |" in page
    row = next(line for line in page.splitlines() if line.startswith("| expected calibration"))
    assert row.endswith("n = 8 | – |")


def test_thin_evidence_is_said_before_the_figures(models):
    """Eight fractures are not thirty, and the reader learns it first."""
    few = Figure(value=8, low=8, high=8, n=118)
    card = card_of(models, "bone-elbow")
    thin = card.model_copy(update={"figures": {"test": {"positives": few}}})
    rich = card.model_copy(
        update={"figures": {"test": {"positives": few.model_copy(update={"value": 40})}}}
    )

    assert "rest on 8 fractured images" in model_page(thin)
    assert "| fractured images | 8 of 118 |" in model_page(thin)
    assert "Thin evidence" not in model_page(rich)


def test_pages_are_written_and_found_to_be_in_step(models, tmp_path):
    """Written, then changed, then removed: each is noticed."""
    docs = tmp_path / "docs"
    write_pages(models, docs)
    assert out_of_step(models, docs) == []

    (docs / "bone-knee.md").write_text("changed")
    (docs / "bone-wing.md").write_text("of a model that is gone")

    assert out_of_step(models, docs) == ["bone-knee.md", "bone-wing.md"]
    with pytest.raises(SystemExit):
        main(["--models", str(models), "--docs", str(docs), "--check"])
    main(["--models", str(models), "--docs", str(docs)])
    assert out_of_step(models, docs) == []
    assert not (docs / "bone-wing.md").exists()


def test_curves_are_shown_where_they_were_drawn(models, tmp_path):
    """A page does not show a picture that is not there."""
    (tmp_path / "curves").mkdir()
    (tmp_path / "curves" / "bone-elbow.svg").write_text("<svg/>")
    write_pages(models, tmp_path)

    assert "](curves/bone-elbow.svg)" in (tmp_path / "bone-elbow.md").read_text()
    assert "](curves/" not in (tmp_path / "bone-knee.md").read_text()


def test_every_link_of_a_page_leads_somewhere(models, tmp_path):
    """To another page, or to a drawing in the repository."""
    written = write_pages(models, tmp_path)

    for path in written:
        for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
            assert (tmp_path / target).exists() or (ROOT / "docs" / "models" / target).exists()


def test_every_region_has_a_name_and_its_failures():
    """A new region is not forgotten."""
    assert set(NAMES) == set(OF_REGION) == set(Region)
    assert {key for keys in OF_REGION.values() for key in keys} == set(FAILURES)
    assert len(set(METRICS)) == len(METRICS)


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_drawing_is_sound_and_says_what_it_shows(failure):
    """Well-formed, small, with words for those who cannot see it."""
    path = ROOT / "docs" / "models" / "failures" / failure.picture

    root = ET.parse(path).getroot()

    assert root.get("aria-label")
    assert path.stat().st_size < 3000
