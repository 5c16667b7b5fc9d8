"""Model cards for people: docs/models/*.md, generated from the cards that the service reads.

Nothing is measured here. A test writes the pages anew and fails where the folder differs.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from studies.model import Region
from training.suite import ModelFile, newest_models
from worker.cards import Card, Figure, Kind

NOT_A_DEVICE = (
    "**Not a medical device.** It has no clearance anywhere and no radiologist has approved it. "
    "It must not decide whether a patient is treated, sent home or read later."
)

NAMES: Mapping[Region, str] = {
    Region.HAND_WRIST: "hand and wrist",
    Region.FOREARM: "forearm",
    Region.ELBOW: "elbow",
    Region.HUMERUS: "humerus",
    Region.SHOULDER: "shoulder",
    Region.HIP: "hip",
    Region.THIGH: "thigh",
    Region.KNEE: "knee",
    Region.LEG: "lower leg",
    Region.ANKLE: "ankle",
    Region.FOOT: "foot",
}

METRICS: Mapping[str, str] = {
    "auc": "AUC",
    "auc_other_bones_sound": "AUC, images with another bone broken left out",
    "average_precision": "average precision",
    "image_auc": "AUC of whole images, all bones pooled",
    "macro_auc": "macro AUC over the regions",
    "top1": "likeliest region is right",
    "top1_in_view": "likeliest region is in view",
    "top1_primary": "likeliest region is the one centred on",
    "ece": "expected calibration error",
    "positives": "fractured images",
    "sensitivity_at_sensitive": "sensitivity at the sensitive threshold",
    "specificity_at_sensitive": "specificity at the sensitive threshold",
    "sensitivity_at_specific": "sensitivity at the specific threshold",
    "specificity_at_specific": "specificity at the specific threshold",
    "sensitivity_sensitive": "sensitivity at the sensitive threshold",
    "specificity_sensitive": "specificity at the sensitive threshold",
    "sensitivity_specific": "sensitivity at the specific threshold",
    "specificity_specific": "specificity at the specific threshold",
    "limb_accepted": "limb radiographs let in",
    "limbs_refused": "limb radiographs refused",
    "refused": "pictures out of scope that are refused",
    "pointing": "heat map is hottest inside a true box",
    "occlusion_drop": "fall of the logit when the fracture is hidden",
    "occlusion_drop_elsewhere": "fall of the logit when as much is hidden elsewhere",
    "occlusion_finds": "images in which hiding the fracture takes more away",
    "box_hits": "fractured images with a box centred in a true one",
    "box_hits_at_0.3": "the same at 0.3 false boxes per sound image",
    "false_boxes_per_normal": "false boxes per sound image",
    "map50_fractured_only": "mAP50, fractured images only",
    "fractured_not_negative": "fractured images not called negative",
    "fractured_positive": "fractured images called positive",
    "sound_negative": "sound images called negative",
    "sound_not_positive": "sound images not called positive",
}
"""What a metric's key means; a key that is not here is printed as it stands."""

ENOUGH = 30
"""Fractured images in the test split below which the page warns."""

COLUMNS = 4
"""Sets side by side in one table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A way to be wrong that a reader can see, with our drawing of it."""

    picture: str
    title: str
    text: str


FAILURES: Mapping[str, Failure] = {
    "growth_plate": Failure(
        picture="growth-plate.svg",
        title="Open growth plates",
        text=(
            "In children a growth plate is a dark line through the end of a bone, as a fracture "
            "is. It is called one at times; a fracture that runs along it is missed at times."
        ),
    ),
    "cast": Failure(
        picture="cast.svg",
        title="Casts",
        text=(
            "Most limbs in a cast are broken, so a cast alone raises the probability. Its texture "
            "hides fine lines: a healed bone in a cast may be called positive."
        ),
    ),
    "implant": Failure(
        picture="implant.svg",
        title="Plates, nails and wires",
        text=(
            "Nearly every image with metal in the training data is of a fracture. Metal is taken "
            "as a sign of one, also when the bone has long healed. Read the figures without "
            "implants."
        ),
    ),
    "undisplaced": Failure(
        picture="undisplaced.svg",
        title="Fine lines without a step",
        text=(
            "The image is reduced to the model's input before it is read. A line finer than a "
            "pixel there leaves no trace, and most misses are of this kind. A negative reading "
            "does not exclude an undisplaced fracture."
        ),
    ),
    "second": Failure(
        picture="second-fracture.svg",
        title="The second fracture",
        text=(
            "Beside an obvious fracture a small one is boxed less often, and a fracture next to "
            "the region may raise the region's own probability."
        ),
    ),
}

OF_REGION: Mapping[Region, tuple[str, ...]] = {
    Region.HAND_WRIST: ("growth_plate", "undisplaced", "cast"),
    Region.FOREARM: ("second", "cast", "implant"),
    Region.ELBOW: ("growth_plate", "undisplaced", "second"),
    Region.HUMERUS: ("implant", "second"),
    Region.SHOULDER: ("undisplaced", "implant"),
    Region.HIP: ("undisplaced", "implant"),
    Region.THIGH: ("implant", "second"),
    Region.KNEE: ("undisplaced", "growth_plate"),
    Region.LEG: ("second", "cast", "implant"),
    Region.ANKLE: ("undisplaced", "cast", "second"),
    Region.FOOT: ("undisplaced", "growth_plate"),
}
"""What to expect first of a bone's model, the likeliest first."""


def model_page(card: Card, *, curves: str | None = None) -> str:
    """Markdown page of one card.

    Parameters
    ----------
    curves
        Path of the curves' picture from the page; None if there is none.
    """
    parts = [
        f"# {card.name} {card.version}",
        _opening(card),
        NOT_A_DEVICE,
        "## What it is",
        _what_it_is(card),
        "## What it is for",
        _intended(card),
        "## What it must not be used for",
        _misuse(card),
        "## How it was made",
        _made(card),
    ]
    if card.figures:
        parts += ["## Figures", _figures(card)]
    if curves is not None:
        parts += ["## Curves", f"![ROC, precision-recall and reliability of {card.name}]({curves})"]
    if card.kind is Kind.BONE:
        parts += ["## How it fails", _failures(card)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _opening(card: Card) -> str:
    if card.experimental:
        return (
            f"{_sentence(card.summary)} **Experimental:** the evidence is too thin to rely on; it "
            "is off unless a site switches it on."
        )
    return _sentence(card.summary)


def _what_it_is(card: Card) -> str:
    reads = (
        "the preprocessed image"
        if card.input.trunk is None
        else f"the features of [{card.input.trunk}]({card.input.trunk}.md) "
        f"{card.input.trunk_version}"
    )
    rows = [
        ("kind", str(card.kind)),
        ("regions", ", ".join(NAMES[region] for region in card.regions) or "–"),
        ("reads", f"{reads}, {card.input.size} × {card.input.size} pixels"),
        ("preprocessing", f"`{card.input.preprocessing}`"),
        ("licence", card.licence),
        ("SHA-256 of model.onnx", f"`{card.sha256}`"),
    ]
    return _table(("", ""), rows) + _operating_points(card)


def _operating_points(card: Card) -> str:
    if not card.labels:
        return ""
    if card.kind is Kind.BONE:
        label = card.labels[0]
        return (
            f"\n\nA probability of {label.specific:.3f} or more is called **positive**, one below "
            f"{label.sensitive:.3f} **negative**, and what lies between is **doubtful**: a person "
            "has to decide. Both points were chosen on the validation split."
        )
    rows = [
        (label.name, f"{label.sensitive:.3f}", f"{label.specific:.3f}") for label in card.labels
    ]
    return "\n\n" + _table(("label", "in view from", "beyond doubt from"), rows)


def _intended(card: Card) -> str:
    if card.kind is Kind.TRUNK:
        return "It judges nothing by itself: the router and the bone models read its features."
    if card.kind is Kind.ROUTER:
        return (
            "It says which regions of a limb an image shows, so that the right bone models are "
            "asked, and whether it is a radiograph of a limb at all: what is not is not analysed."
        )
    where = " or ".join(NAMES[region] for region in card.regions)
    return (
        f"It says how likely a radiograph of the {where} shows a fracture and where, to sort a "
        "work list and as a second look beside a person's own reading; for research, teaching and "
        "trials of the software."
    )


def _misuse(card: Card) -> str:
    if card.kind is not Kind.BONE:
        return "As a reading. It finds no fractures."
    where = " or ".join(NAMES[region] for region in card.regions)
    return "\n".join(
        (
            "- To exclude a fracture: a negative reading is no all-clear.",
            f"- On anything but plain radiographs of the {where}: no CT, no MR, no photographs of "
            "a film or a screen.",
            "- To find dislocations, tumours, infections or arthrosis: it was never shown any as "
            "such.",
            "- To follow healing, to tell old fractures from new ones, or to say that a fracture "
            "is open.",
            "- In a hospital whose films differ from the training data, without measuring it there "
            "first.",
        )
    )


def _made(card: Card) -> str:
    training = card.training
    rows = [
        ("data", training.data),
        ("split", training.split),
        ("seed", str(training.seed)),
        ("commit", f"`{training.commit}`"),
    ]
    recipe = training.recipe.strip()
    text = _table(("", ""), rows)
    if "\n" in recipe:
        return f"{text}\n\nThe recipe:\n\n```toml\n{recipe}\n```"
    return f"{text}\n\nThe recipe: `{recipe}`"


def _figures(card: Card) -> str:
    names = list(card.figures)
    tables = [
        _figure_table({name: card.figures[name] for name in names[begin : begin + COLUMNS]})
        for begin in range(0, len(names), COLUMNS)
    ]
    note = (
        "Each with its 95 % interval, by a bootstrap that draws whole blocks of neighbouring "
        "images, since they are views of one patient; n is the number of images."
    )
    if any("stressed" in name for name in names):
        note += (
            " Sets named *stressed* are the same images as other hospitals send them: cut to one "
            "joint, turned, dark, framed, lettered, compressed."
        )
    return "\n\n".join(part for part in (_evidence(card), note, *tables) if part)


def _evidence(card: Card) -> str:
    """How few fractures the figures rest on, where they are few."""
    counts = [figures["positives"] for figures in card.figures.values() if "positives" in figures]
    if card.kind is not Kind.BONE or not counts or counts[0].value >= ENOUGH:
        return ""
    return (
        f"**Thin evidence:** these figures rest on {counts[0].value:g} fractured images. The "
        "intervals say how little that is."
    )


def _figure_table(sets: Mapping[str, Mapping[str, Figure]]) -> str:
    metrics = list(dict.fromkeys(metric for figures in sets.values() for metric in figures))
    rows = [
        (_metric(metric), *(_figure(figures.get(metric)) for figures in sets.values()))
        for metric in metrics
    ]
    return _table(("", *(name.replace("_", " ") for name in sets)), rows)


def _metric(key: str) -> str:
    if key in METRICS:
        return METRICS[key]
    if key.startswith("auc_") and key.removeprefix("auc_") in set(Region):
        return f"AUC, {NAMES[Region(key.removeprefix('auc_'))]} in view"
    if key.startswith("refused_"):
        return f"{key.removeprefix('refused_').replace('_', ' ')} refused"
    return f"`{key}`"


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    if figure.low == figure.value == figure.high and figure.value > 1:
        return f"{figure.value:g} of {figure.n}"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f}), n = {figure.n}"


def _failures(card: Card) -> str:
    keys = dict.fromkeys(key for region in card.regions for key in OF_REGION[region])
    parts = [
        f"### {FAILURES[key].title}\n\n![{FAILURES[key].title}](failures/{FAILURES[key].picture})"
        f"\n\n{FAILURES[key].text}"
        for key in keys
    ]
    return "\n\n".join(("Drawn, not photographed: no patient is shown.", *parts))


def index_page(cards: Sequence[Card]) -> str:
    """Markdown page that lists the models."""
    order = [Kind.TRUNK, Kind.ROUTER, Kind.BONE]
    rows = [
        (
            f"[{card.name}]({card.name}.md)",
            card.version,
            ", ".join(NAMES[region] for region in card.regions) or "–",
            _sentence(card.summary) + (" Experimental." if card.experimental else ""),
        )
        for card in sorted(cards, key=lambda c: (order.index(c.kind), c.experimental, c.name))
    ]
    return (
        "\n\n".join(
            (
                "# The models",
                NOT_A_DEVICE,
                "Each page is generated from the card beside the model "
                "(`python -m training.model_docs`); do not edit it here.",
                _table(("model", "version", "regions", ""), rows),
            )
        )
        + "\n"
    )


def pages(models: Sequence[ModelFile], docs_dir: Path) -> dict[str, str]:
    """Text of every page by its file name in ``docs_dir``, where curves may lie already."""
    found = {"README.md": index_page([model.card for model in models])}
    for model in models:
        curves = f"curves/{model.name}.svg"
        there = (docs_dir / curves).is_file()
        found[f"{model.name}.md"] = model_page(model.card, curves=curves if there else None)
    return found


def write_pages(models_dir: Path, docs_dir: Path) -> list[Path]:
    """Write every page, and remove those of models that are gone."""
    wanted = pages(newest_models(models_dir), docs_dir)
    docs_dir.mkdir(parents=True, exist_ok=True)
    for path in docs_dir.glob("*.md"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (docs_dir / name).write_text(text, encoding="utf-8")
    return [docs_dir / name for name in wanted]


def out_of_step(models_dir: Path, docs_dir: Path) -> list[str]:
    """File names of pages that are missing, differ from their card, or have no card."""
    wanted = pages(newest_models(models_dir), docs_dir)
    held = {path.name: path.read_text(encoding="utf-8") for path in docs_dir.glob("*.md")}
    return sorted(
        name for name in wanted.keys() | held.keys() if wanted.get(name) != held.get(name)
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(c) for c in line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m training.model_docs [--check]``."""
    root = Path(__file__).parents[1]
    parser = argparse.ArgumentParser(prog="python -m training.model_docs", description=__doc__)
    parser.add_argument("--models", type=Path, default=root / "models_onnx")
    parser.add_argument("--docs", type=Path, default=root / "docs" / "models")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if out of step")
    given = parser.parse_args(arguments)
    if given.check:
        stale = out_of_step(given.models, given.docs)
        if stale:
            parser.exit(1, f"out of step with the cards: {', '.join(stale)}\n")
        return
    for path in write_pages(given.models, given.docs):
        print(path)


if __name__ == "__main__":
    main()
