"""`osteon models` and `osteon version`: which models there are, and whether they still work."""

from __future__ import annotations

import json as json_text
import sys

from rich.console import Console
from rich.table import Table

from osteon.console import say
from studies.settings import load_settings
from studies.version import VERSION
from worker.cards import Card
from worker.models import find_cards, load_models, models_folder


def list_models(*, json: bool) -> None:
    """Print every model of the node, with the figure that its card puts first.

    Raises
    ------
    ConfigurationError
        If a card or a digest is not as it should be.
    """
    settings = load_settings()
    cards = [card for _, card in find_cards(models_folder(settings))]
    if json:
        for card in cards:
            values = card.model_dump(mode="json", exclude_none=True)
            sys.stdout.write(json_text.dumps(values, ensure_ascii=False) + "\n")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("Model", "Version", "Reads", "Figure (95 % interval)", "Remark"):
        table.add_column(title, overflow="fold")
    for card in cards:
        regions = "pixels" if not card.regions else ", ".join(card.regions)
        remark = "experimental: off unless experimental_regions names it"
        table.add_row(
            card.name, card.version, regions, _figure(card), remark if card.experimental else ""
        )
    console = Console(file=sys.stdout)
    (console if console.is_terminal else Console(file=sys.stdout, width=200)).print(table)


def check_models() -> None:
    """Open every active model and let it read its golden image.

    Raises
    ------
    ConfigurationError
        Naming the model, its file and what it said.
    """
    models = load_models(load_settings())
    for model in models.all:
        say(f"{model.card.name} {model.card.version}: as its card says")
    say(f"{len(models.all)} models are in order, on {models.provider}")
    if models.inactive:
        say(f"no active model reads: {', '.join(sorted(models.inactive))}")


def show_version() -> None:
    """Print the version of Osteon and of the schema that it needs."""
    from osteon.migrations import newest_revision

    sys.stdout.write(f"osteon {VERSION}\nschema {newest_revision()}\n")


def _figure(card: Card) -> str:
    for name, figures in card.figures.items():
        for metric in ("auc", "macro_auc"):
            if metric in figures:
                figure = figures[metric]
                interval = f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"
                return f"{metric} {interval}, n = {figure.n}, {name}"
    return ""
