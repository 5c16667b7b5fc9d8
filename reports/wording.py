"""What we say to people, in one place so that all objects say the same. No DICOM."""

from __future__ import annotations

from reports.findings import Evaluation
from studies.model import Band, Laterality

UNVERIFIED = "AI result, not verified by a physician."
NOTHING_ANALYSED = "No image of this study was analysed."
SIDE_NAMES = {Laterality.RIGHT: "right", Laterality.LEFT: "left", Laterality.BOTH: "both sides"}
EXPERIMENTAL = "This model is experimental: the evidence for it is too thin to rely on its result."
BAND_NAMES = {
    Band.POSITIVE: "fracture likely",
    Band.DOUBTFUL: "undetermined",
    Band.NEGATIVE: "no fracture seen",
}


def percent(probability: float) -> str:
    """Return a probability of 0 to 1 as "0.0" to "100.0", which is a DS as well."""
    return f"{100 * probability:.1f}"


def place_name(evaluation: Evaluation) -> str:
    """Return part and side: "Elbow, left"."""
    return evaluation.part.name.capitalize() + side_of(evaluation.laterality)


def side_of(laterality: Laterality | None) -> str:
    """Return the side as it follows a part, ", left", and nothing where it is unknown."""
    return "" if laterality is None else f", {SIDE_NAMES[laterality]}"


def score_sentences(evaluation: Evaluation) -> str:
    """Return score, thresholds, doubt, model and its standing."""
    seen = evaluation.reading
    images = "1 image" if evaluation.images == 1 else f"the highest of {evaluation.images} images"
    sentences = [
        f"{place_name(evaluation)}: fracture probability {percent(seen.probability)} % ({images}).",
        f"Present from {percent(seen.specific)} %, absent below {percent(seen.sensitive)} %, "
        "undetermined between them.",
        f"Model {seen.model.name} {seen.model.version}.",
    ]
    if seen.band is Band.DOUBTFUL:
        sentences.insert(1, "Undetermined: the probability lies between the two thresholds.")
    if seen.experimental:
        sentences.append(EXPERIMENTAL)
    return " ".join(sentences)
