"""Evaluation of exported models whose answers are known beforehand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from studies.errors import ConfigurationError
from tests.unit.training.made_models import make_data, make_models
from training.cases import Case, read_cases
from training.evaluate import (
    POOLED,
    Readings,
    bands_of,
    card_figures,
    evaluate_models,
    image_boxes,
    main,
    print_figures,
    readings_of,
    suppress,
    write_figures,
)
from training.metrics import Interval
from training.predictions import predict, truth_of
from training.stress import Film
from training.suite import Suite, newest_models


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def figures(models, data):
    return evaluate_models(models, data, draws=30, per_kind=2, quiet=True)


def test_models_that_are_right_get_full_marks(figures):
    """The made-up lesions are found, and the regions told apart."""
    assert figures["router"]["test"]["macro_auc"].value == 1
    assert figures["router"]["test"]["top1_primary"].value == 1
    assert figures["bone-elbow"]["test"]["auc"].value == 1
    assert figures["bone-knee"]["test"]["sensitivity_at_specific"].value == 1
    assert figures[POOLED]["test"]["auc"].value == 1
    assert figures[POOLED]["test"]["fractured_positive"].value == 1
    assert figures[POOLED]["test"]["sound_negative"].value == 1


def test_boxes_and_heat_maps_are_judged_in_pixels_of_the_image(figures):
    """Model input and image differ in scale; the found cells are the lesions all the same."""
    assert figures[POOLED]["test"]["box_hits"].value == 1
    assert figures[POOLED]["test"]["box_hits_at_0.3"].value == 1
    assert figures[POOLED]["test"]["false_boxes_per_normal"].value == 0
    assert figures[POOLED]["test"]["map50_fractured_only"].value > 0.99
    assert figures["bone-elbow"]["test"]["pointing"].value == 1


def test_each_figure_says_on_how_many_it_stands(figures):
    """Elbows and knees are half of the set each, an image without implant is no image with one."""
    assert figures["bone-elbow"]["test"]["auc"].n == 12
    assert figures["bone-elbow"]["test"]["positives"].value == 4
    assert figures[POOLED]["test"]["auc"].n == 24
    assert figures[POOLED]["test_without_implants"]["auc"].n == 22
    assert figures[POOLED]["test_frontal"]["auc"].n == 12
    assert "test_oblique" not in figures[POOLED]
    assert figures[POOLED]["test_site_patella"]["fractured_positive"].n == 4


def test_refusal_is_measured_on_pictures_that_are_no_limbs(figures):
    """Kind by kind, and together."""
    found = figures["router"]["out_of_scope"]

    assert found["refused"].n == 12
    assert set(found) >= {"refused_photographs", "refused_chests", "refused_noise"}
    assert 0 <= found["refused"].value <= 1
    assert figures["router"]["test"]["limbs_refused"].value == 0


def test_the_publications_own_list_is_measured_apart(tmp_path, models):
    """With and without the images that are in our train split."""
    root = make_data(tmp_path / "set")
    table = (root / "images.csv").read_text()
    table = table.replace("000.png,128,128,test", "000.png,128,128,train")
    (root / "images.csv").write_text(table)
    (root / "fracatlas_test.csv").write_text("file\n000.png\n003.png\n006.png\nheld_back.png\n")

    figures = evaluate_models(models, root, draws=5, per_kind=0, quiet=True)

    assert figures[POOLED]["published"]["map50_fractured_only"].n == 3
    assert figures[POOLED]["published_unseen"]["map50_fractured_only"].n == 2
    assert figures[POOLED]["published"]["map50_fractured_only"].value > 0.99


def test_models_that_read_pixels_give_the_same_figures(tmp_path, data, figures):
    """A whole network and a trunk with heads are both first class."""
    whole = evaluate_models(
        make_models(tmp_path, through_trunk=False), data, draws=30, per_kind=2, quiet=True
    )

    assert whole == figures


def test_the_stressed_split_is_measured_beside_the_plain_one(models, data):
    """Inverted, the lesion is black, and these models must fail."""
    figures = evaluate_models(
        models, data, "test", True, variants=["inverted"], draws=10, per_kind=0, quiet=True
    )

    assert figures["router"].keys() >= {"test", "test_stressed", "test_inverted"}
    assert figures[POOLED]["test_inverted"]["auc"].value < 0.7
    assert figures[POOLED]["test"]["auc"].value == 1


def test_answers_are_kept_and_used_again(tmp_path, models, data, monkeypatch):
    """The second run asks no network; another variant does."""
    cases = read_cases(data, "test")
    suite = Suite(models)
    first = predict(suite, cases, "zoomed", cache_dir=tmp_path, quiet=True)
    monkeypatch.setattr(suite, "run", None)

    again = predict(suite, cases, "zoomed", cache_dir=tmp_path, quiet=True)

    assert np.array_equal(again.answers.boxes, first.answers.boxes)
    assert np.array_equal(again.truth.fractured_regions, first.truth.fractured_regions, True)
    assert all(map(np.array_equal, again.truth.boxes, first.truth.boxes))
    with pytest.raises(TypeError):
        predict(suite, cases, "dark", cache_dir=tmp_path, quiet=True)


def test_answers_of_other_models_are_not_used(tmp_path, models, data):
    """A retrained network under the same name is asked anew."""
    cases = read_cases(data, "test")
    predict(Suite(models), cases, cache_dir=tmp_path / "cache", quiet=True)
    predict(
        Suite(make_models(tmp_path / "other", through_trunk=False)),
        cases,
        cache_dir=tmp_path / "cache",
        quiet=True,
    )

    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_the_model_is_asked_whose_region_is_in_view(models, data):
    """Bright pictures are elbows: the knee's model is not asked about them."""
    suite = Suite(models)
    cases = read_cases(data, "test")
    predictions = predict(suite, cases, quiet=True)

    readings = readings_of(suite.panel, predictions.answers)

    names = [bone.name for bone in suite.panel.bones]
    elbows = [case.primary == "elbow" for case in cases]
    assert readings.asked[:, names.index("bone-elbow")].tolist() == elbows
    assert (readings.asked.sum(axis=1) == 1).all()


def test_where_no_region_is_in_view_the_likeliest_is_asked(models, data):
    """No image goes unread because every region was a little too unlikely."""
    suite = Suite(models)
    answers = predict(suite, read_cases(data, "test"), quiet=True).answers
    unsure = replace(answers, region_logits=np.tile(np.array([-3, -2], np.float32), (24, 1)))

    asked = readings_of(suite.panel, unsure).asked

    assert asked.sum(axis=1).tolist() == [1] * 24
    assert asked[:, [b.name for b in suite.panel.bones].index("bone-knee")].all()


def test_the_most_urgent_band_of_the_models_asked_counts(models):
    """0.3 and 0.7 are the cards' thresholds; a model that is not asked has no say."""
    panel = Suite(models).panel
    readings = Readings(
        regions=np.zeros((4, 2)),
        limb=np.ones(4),
        fractures=np.array([[0.2, 0.9], [0.2, 0.9], [0.5, 0.1], [0.7, 0.3]]),
        asked=np.array([[True, False], [True, True], [True, True], [True, True]]),
    )

    assert bands_of(panel, readings).tolist() == [0, 2, 1, 2]
    assert readings.pooled.tolist() == [0.2, 0.9, 0.5, 0.7]


def test_a_box_that_two_models_find_is_kept_once(models, data):
    """Bone models with one box head between them repeat each other."""
    suite = Suite(models)
    predictions = predict(suite, read_cases(data, "test"), quiet=True)

    both = image_boxes(suite.panel, predictions, np.ones((24, 2), bool))

    assert max(int((image.scores >= 0.5).sum()) for image in both) == 1


def test_overlapping_boxes_give_way_to_the_surest():
    """Half of the union is the limit; what touches less stays."""
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [9, 0, 19, 10], [40, 40, 50, 50]], float)

    kept = suppress(boxes, np.array([0.5, 0.9, 0.6, 0.1]), 0.5)

    assert kept.tolist() == [1, 2, 3]
    assert suppress(np.empty((0, 4)), np.empty(0), 0.5).tolist() == []


# Truth -------------------------------------------------------------------------------------------


def case(**values) -> Case:
    return Case(**{"name": "a", "path": Path("a"), "block": "0", "fractured": False, **values})


def film(**values) -> Film:
    return Film(
        pixels=np.zeros((1, 1), np.float32),
        **{"boxes": np.empty((0, 4)), "regions": frozenset({"elbow", "knee"}), **values},
    )


BOX = np.array([[0.0, 0, 1, 1]])
SEEN = frozenset({"elbow", "knee"})


@pytest.mark.parametrize(
    ("known", "shown", "there"),
    [
        (case(regions=SEEN), film(), [0, 0]),
        (
            case(regions=SEEN, fractured=True, boxes=BOX, box_regions=("knee",)),
            film(boxes=BOX, box_regions=("knee",)),
            [0, 1],
        ),
        (case(regions=SEEN, fractured=True), film(), [np.nan, np.nan]),
        (
            case(regions=frozenset({"knee"}), fractured=True),
            film(regions=frozenset({"knee"})),
            [np.nan, 1],
        ),
        (case(regions=SEEN, fractured=None), film(), [np.nan, np.nan]),
        (case(regions=None), film(regions=frozenset()), [np.nan, np.nan]),
        (case(regions=SEEN), film(regions=frozenset(), uncertain=SEEN), [0, 0]),
        (
            case(regions=SEEN, fractured=True, boxes=BOX, box_regions=("knee",)),
            film(
                boxes=BOX,
                box_regions=("knee",),
                regions=frozenset({"knee"}),
                uncertain=frozenset({"elbow"}),
            ),
            [np.nan, 1],
        ),
    ],
)
def test_what_is_unknown_is_not_taken_for_sound(known, shown, there):
    """A region counts as sound only if somebody looked, and on a broken film if it is in view."""
    truth = truth_of([known], [shown], ["elbow", "knee"])

    assert truth.fractured_regions[0].tolist() == pytest.approx(there, nan_ok=True)


def test_a_set_without_regions_and_boxes_is_still_measured(tmp_path, models, data):
    """Own folders say fractured or not; what follows from that is printed, the rest is not."""
    root = tmp_path / "own"
    for row in read_cases(data, "test"):
        target = root / ("fractured" if row.fractured else "normal") / row.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(row.path.read_bytes())

    figures = evaluate_models(models, root, draws=10, per_kind=0, quiet=True)

    assert figures[POOLED]["test"]["auc"].value == 1
    assert figures[POOLED]["test"]["auc"].n == 24
    assert np.isnan(figures["router"]["test"]["macro_auc"].value)
    assert "macro_auc" not in card_figures(figures["router"])["test"]


def test_a_split_without_images_is_told(data):
    """A misspelt split is no figure of nothing."""
    with pytest.raises(ValueError, match="no image is in the split 'holdout'"):
        read_cases(data, "holdout")


def test_a_folder_without_a_router_is_told(tmp_path):
    """With what was found."""
    with pytest.raises(ConfigurationError, match="0 routers and 0 bone models"):
        Suite(tmp_path)


# Out ---------------------------------------------------------------------------------------------


def test_figures_are_printed_and_written(models, data, tmp_path, capsys):
    """The command prints a table and writes the same numbers as JSON."""
    path = tmp_path / "figures.json"

    main([str(models), "--data", str(data), "--draws", "5", "--json", str(path)])

    assert "bone-elbow" in capsys.readouterr().out
    written = json.loads(path.read_text())
    assert written["pooled"]["test"]["auc"]["value"] == 1


def test_figures_are_written_into_the_cards(tmp_path, figures):
    """Read back by the same code that the service reads cards with; nothing else changes."""
    folder = make_models(tmp_path)
    before = {model.name: model.card for model in newest_models(folder)}

    written = write_figures(folder, figures, data="made_up")

    after = {model.name: model.card for model in newest_models(folder)}
    assert len(written) == 3
    assert after["bone-elbow"].figures["made_up_test"]["auc"].value == 1
    assert after["router"].figures["made_up_test_all_bones"]["auc"].n == 24
    assert "val" not in after["router"].figures
    assert (
        after["router"].model_copy(update={"figures": before["router"].figures})
        == (before["router"])
    )


def test_a_card_holds_the_value_inside_its_interval():
    """Of few blocks the bootstrap may miss the value; the card's interval does not."""
    beside = Interval(value=0.5, low=0.6, high=0.7, n=3)

    figure = card_figures({"test": {"auc": beside}})["test"]["auc"]

    assert (figure.low, figure.value, figure.high) == (0.5, 0.5, 0.7)


def test_a_figure_without_meaning_is_printed_as_unknown(capsys):
    """Not as zero, and not as nan."""
    nothing = Interval(value=float("nan"), low=float("nan"), high=float("nan"), n=3)
    print_figures({"router": {"test": {"auc": nothing}}})

    assert "–" in capsys.readouterr().out
