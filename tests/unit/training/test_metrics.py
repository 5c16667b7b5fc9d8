"""Figures of merit against scikit-learn and against cases worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from training.metrics import (
    Calibration,
    ImageBoxes,
    Thresholds,
    accuracy_at,
    auc,
    average_precision,
    bootstrap_interval,
    box_threshold,
    centre_hit_rate,
    centre_hits,
    choose_thresholds,
    expected_calibration_error,
    f1_at,
    false_boxes_per_normal,
    fit_calibration,
    iou,
    macro_auc,
    map50,
    precision_at,
    precision_recall,
    reliability,
    roc,
    sensitivity_at,
    sigmoid,
    specificity_at,
    top_one_accuracy,
)

EMPTY = np.empty((0, 4))


def answers(seed: int, size: int = 200, levels: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Truth and informative scores with many ties."""
    generator = np.random.default_rng(seed)
    y = generator.random(size) < 0.3
    p = np.clip(generator.random(size) * 0.7 + 0.3 * y, 0, 1)
    return y, np.round(p * levels) / levels


def image(true=(), found=(), scores=()) -> ImageBoxes:
    return ImageBoxes(
        true=np.array(true, dtype=float).reshape(-1, 4),
        found=np.array(found, dtype=float).reshape(-1, 4),
        scores=np.array(scores, dtype=float),
    )


@pytest.mark.parametrize("seed", range(5))
def test_auc_and_average_precision_agree_with_scikit_learn(seed):
    """Ties are counted as everyone else counts them."""
    y, p = answers(seed)

    assert auc(y, p) == pytest.approx(reference.roc_auc_score(y, p))
    assert average_precision(y, p) == pytest.approx(reference.average_precision_score(y, p))


@pytest.mark.parametrize("seed", range(3))
def test_values_at_a_threshold_agree_with_scikit_learn(seed):
    """The same call, the same confusion matrix."""
    y, p = answers(seed)
    called = p >= 0.5

    assert sensitivity_at(y, p, 0.5) == pytest.approx(reference.recall_score(y, called))
    assert specificity_at(y, p, 0.5) == pytest.approx(reference.recall_score(~y, ~called))
    assert precision_at(y, p, 0.5) == pytest.approx(reference.precision_score(y, called))
    assert accuracy_at(y, p, 0.5) == pytest.approx(reference.accuracy_score(y, called))
    assert f1_at(y, p, 0.5) == pytest.approx(reference.f1_score(y, called))


def test_the_roc_curve_is_scikit_learns():
    """Every distinct score is one point of the curve."""
    y, p = answers(7)

    false_rate, sensitivity, thresholds = roc(y, p)

    expected = reference.roc_curve(y, p, drop_intermediate=False)
    assert false_rate == pytest.approx(expected[0])
    assert sensitivity == pytest.approx(expected[1])
    assert thresholds[1:] == pytest.approx(expected[2][1:])


def test_the_precision_recall_curve_is_scikit_learns():
    """Ours runs from the surest down; theirs is the same read backwards."""
    y, p = answers(8)

    precision, recall, thresholds = precision_recall(y, p)

    expected = reference.precision_recall_curve(y, p)
    assert precision == pytest.approx(expected[0][:-1][::-1])
    assert recall == pytest.approx(expected[1][:-1][::-1])
    assert thresholds == pytest.approx(expected[2][::-1])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=30))
def test_auc_is_the_share_of_pairs_in_the_right_order(rows):
    """The rank formula equals counting the pairs."""
    y = np.array([r[0] for r in rows])
    p = np.array([float(r[1]) for r in rows])
    pairs = [(a > b) + 0.5 * (a == b) for a in p[y] for b in p[~y]]

    value = auc(y, p)

    assert value == pytest.approx(np.mean(pairs)) if pairs else np.isnan(value)


def test_figures_without_meaning_are_nan():
    """One answer only gives no AUC, and not a zero."""
    assert np.isnan(auc([1, 1], [0.2, 0.4]))
    assert np.isnan(average_precision([0, 0], [0.2, 0.4]))
    assert np.isnan(sensitivity_at([0, 0], [0.2, 0.4], 0.3))
    assert np.isnan(specificity_at([1, 1], [0.2, 0.4], 0.3))
    assert np.isnan(precision_at([1, 1], [0.2, 0.4], 0.9))


def test_scores_that_are_not_numbers_are_refused():
    """A NaN would be ranked somewhere and the figure would be wrong in silence."""
    with pytest.raises(ValueError, match="NaN"):
        auc([1, 0], [0.2, float("nan")])
    with pytest.raises(ValueError, match="equal vectors"):
        auc([1, 0, 1], [0.2, 0.3])


def test_macro_auc_leaves_out_labels_without_both_answers():
    """A region that the split does not show says nothing about the router."""
    y = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    p = np.array([[0.9, 0.1, 0.5], [0.2, 0.8, 0.5], [0.8, 0.05, 0.5]])

    assert macro_auc(y, p) == pytest.approx((1.0 + 0.5) / 2)


def test_top_one_accuracy_takes_any_true_label():
    """An elbow view that also shows the forearm is right with either."""
    y = [[1, 1, 0], [0, 0, 1]]
    p = [[0.1, 0.9, 0.0], [0.6, 0.1, 0.3]]

    assert top_one_accuracy(y, p) == pytest.approx(0.5)


def test_calibration_error_by_hand():
    """Two bins: 0.1 stated and 0.5 seen; 0.9 stated and 1.0 seen."""
    y = [0, 1, 1, 1]
    p = [0.1, 0.1, 0.9, 0.9]

    assert expected_calibration_error(y, p) == pytest.approx((2 * 0.4 + 2 * 0.1) / 4)
    assert reliability(y, p).tolist() == pytest.approx(np.array([[0.1, 0.5, 2], [0.9, 1.0, 2]]))


def test_a_probability_of_one_is_in_the_last_bin():
    """The upper edge belongs to the last bin, not to one beyond it."""
    assert expected_calibration_error([1, 1], [1.0, 0.95]) == pytest.approx(0.025)


def test_probabilities_outside_their_range_are_refused():
    """Logits given for probabilities are a mistake of the caller."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        expected_calibration_error([1, 0], [2.0, -1.0])


def test_the_interval_holds_the_value_and_is_reproducible():
    """The same seed draws the same blocks."""
    y, p = answers(3)
    blocks = np.arange(200) // 4

    first = bootstrap_interval(auc, y, p, blocks, n=200, seed=1)

    assert first.low < first.value < first.high
    assert first.n == 200
    assert first.value == auc(y, p)
    assert bootstrap_interval(auc, y, p, blocks, n=200, seed=1) == first
    assert bootstrap_interval(auc, y, p, blocks, n=200, seed=2) != first


def test_copies_of_an_image_do_not_narrow_the_interval():
    """Ten views of each patient are worth no more than one when drawn by block."""
    y, p = answers(4, size=60)
    single = bootstrap_interval(auc, y, p, np.arange(60), n=300)

    copied = bootstrap_interval(
        auc, np.repeat(y, 10), np.repeat(p, 10), np.arange(600) // 10, n=300
    )
    by_image = bootstrap_interval(auc, np.repeat(y, 10), np.repeat(p, 10), n=300)

    assert copied.high - copied.low == pytest.approx(single.high - single.low)
    assert by_image.high - by_image.low < 0.5 * (single.high - single.low)


def test_the_interval_of_a_figure_without_meaning_is_nan():
    """Regions without positives are printed as unknown, not as zero."""
    interval = bootstrap_interval(auc, [0, 0, 0], [0.1, 0.2, 0.3], [0, 1, 2])

    assert np.isnan([interval.value, interval.low, interval.high]).all()
    assert interval.n == 3
    assert bootstrap_interval(auc, [], [], []).n == 0


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says():
    """Of many samples, about 95 % of the intervals hold the true mean."""
    covered = 0
    for seed in range(100):
        x = np.random.default_rng(seed).normal(size=60)
        interval = bootstrap_interval(lambda y, p: float(np.mean(p)), x, x, n=200, seed=seed)
        covered += interval.low <= 0 <= interval.high

    assert 86 <= covered <= 100


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000))
def test_thresholds_reach_what_was_wished(seed):
    """Each operating point keeps its promise on the examples that it was chosen by."""
    y, p = answers(seed, size=80)
    chosen = choose_thresholds(y, p)

    assert chosen.sensitive <= chosen.specific
    assert sensitivity_at(y, p, chosen.sensitive) >= 0.95
    assert specificity_at(y, p, chosen.specific) >= 0.95


def test_thresholds_by_hand():
    """One of two positives may not be missed; one of four negatives may not be called."""
    y = [0, 0, 0, 1, 0, 1]
    p = [0.1, 0.2, 0.3, 0.4, 0.6, 0.8]

    chosen = choose_thresholds(y, p)

    assert chosen.sensitive == pytest.approx(0.35)
    assert chosen.specific == pytest.approx(0.7)


def test_separable_scores_leave_no_doubtful_band():
    """Where one point serves both wishes there is nothing between them."""
    chosen = choose_thresholds([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])

    assert chosen.sensitive == chosen.specific == pytest.approx(0.5)


def test_thresholds_that_cross_cannot_be_made():
    """A probability in two bands at once has no meaning."""
    with pytest.raises(ValueError, match="cross"):
        Thresholds(sensitive=0.6, specific=0.4)


def test_calibration_finds_the_temperature_that_made_the_answers():
    """Logits that were multiplied by three come back with a temperature near three."""
    generator = np.random.default_rng(0)
    true_logit = generator.normal(0, 2, 20_000)
    y = generator.random(20_000) < sigmoid(true_logit)

    found = fit_calibration(y, 3 * true_logit - 1.5)

    assert found.temperature == pytest.approx(3, rel=0.06)
    assert found.bias == pytest.approx(1.5, abs=0.15)
    assert expected_calibration_error(y, found(3 * true_logit - 1.5)) < 0.01


def test_calibration_of_separable_examples_stays_finite():
    """A few easy images do not buy certainty without limit."""
    found = fit_calibration([0, 0, 1, 1], [-1.0, -2.0, 1.0, 2.0])

    assert 0.05 <= found.temperature <= 20
    assert np.isfinite(found([-1e4, 1e4])).all()


def test_calibration_needs_both_answers():
    """There is nothing to fit on one answer."""
    with pytest.raises(ValueError, match="positives and negatives"):
        fit_calibration([1, 1], [0.1, 0.2])


def test_a_calibration_keeps_the_order_of_the_images():
    """Neither temperature nor bias changes the AUC."""
    y, p = answers(5)

    assert auc(y, Calibration(temperature=2.5, bias=-0.7)(p)) == pytest.approx(auc(y, p))


def test_iou_by_hand():
    """Half a box shared with an equal one is a third of the union."""
    assert iou([[0, 0, 2, 2]], [[1, 0, 3, 2], [0, 0, 2, 2], [5, 5, 6, 6]])[0] == pytest.approx(
        [1 / 3, 1, 0]
    )


def test_a_hit_is_a_centre_in_any_true_box():
    """The edge belongs to the box."""
    true = [[0, 0, 10, 10], [20, 20, 30, 30]]
    found = [[8, 8, 12, 12], [9, 9, 15, 15], [20, 20, 40, 24]]

    assert centre_hits(true, found).tolist() == [True, False, True]
    assert centre_hits(EMPTY, found).tolist() == [False, False, False]


def test_the_hit_rate_is_read_where_normal_images_carry_few_boxes():
    """With one false box allowed on two normal images, the cut lies above the second one."""
    images = [
        image(),
        image(found=[[0, 0, 1, 1], [0, 0, 2, 2]], scores=[0.9, 0.5]),
        image(true=[[0, 0, 10, 10]], found=[[4, 4, 6, 6]], scores=[0.6]),
        image(true=[[0, 0, 10, 10]], found=[[4, 4, 6, 6]], scores=[0.5]),
        image(true=[[0, 0, 10, 10]], found=[[40, 40, 60, 60]], scores=[0.99]),
    ]

    rate, threshold = centre_hit_rate(images, false_per_normal=0.5)

    assert rate == pytest.approx(1 / 3)
    assert 0.5 < threshold <= 0.6
    assert false_boxes_per_normal(images, threshold) == 0.5
    assert centre_hit_rate(images, false_per_normal=1.0)[0] == pytest.approx(2 / 3)


def test_the_box_threshold_needs_normal_images():
    """The mission counts false boxes per normal image, so there must be one."""
    with pytest.raises(ValueError, match="without fracture"):
        box_threshold([image(true=[[0, 0, 1, 1]])])


def test_map50_of_perfect_boxes_is_one_and_of_none_is_zero():
    """The ends of the scale."""
    perfect = image(true=[[0, 0, 4, 4], [8, 8, 12, 12]], scores=[0.9, 0.2])
    perfect = image(true=perfect.true, found=perfect.true, scores=perfect.scores)

    assert map50([perfect]) == pytest.approx(1.0)
    assert map50([image(true=[[0, 0, 4, 4]])]) == 0.0
    assert np.isnan(map50([image()]))


def test_map50_by_hand():
    """A hit, a miss and a hit: precision 1 up to recall a half, two thirds beyond."""
    images = [
        image(true=[[0, 0, 4, 4]], found=[[0, 0, 4, 4], [9, 9, 12, 12]], scores=[0.9, 0.8]),
        image(true=[[0, 0, 4, 4]], found=[[0, 0, 4, 3]], scores=[0.7]),
    ]

    assert map50(images) == pytest.approx((51 * 1.0 + 50 * 2 / 3) / 101)


def test_two_boxes_cannot_share_one_true_box():
    """The second box on the same fracture is a false one."""
    twice = image(
        true=[[0, 0, 4, 4], [20, 20, 24, 24]],
        found=[[0, 0, 4, 4], [0, 0, 4, 4], [20, 20, 24, 24]],
        scores=[0.9, 0.8, 0.7],
    )

    assert map50([twice]) == pytest.approx((51 * 1.0 + 50 * 2 / 3) / 101)
