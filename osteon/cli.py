"""The command `osteon`: each of its words, its options, and the module that does the work."""

# Every import of ours is inside a function: `osteon --help` must not wait for pydicom or torch.
from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from osteon.console import errors_told, say

commands = typer.Typer(
    name="osteon",
    help="A DICOM node that reads radiographs for fractures and reports them as DICOM SR.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
studies = typer.Typer(help="Studies: what is held, what became of it.", no_args_is_help=True)
deadletters = typer.Typer(help="Objects that a destination refused.", no_args_is_help=True)
models = typer.Typer(help="Models: which there are, whether they work.", no_args_is_help=True)
commands.add_typer(studies, name="studies", rich_help_panel="Look and mend")
commands.add_typer(deadletters, name="deadletters", rich_help_panel="Look and mend")
commands.add_typer(models, name="models", rich_help_panel="Look and mend")

_RUN = "Run"
_FILES = "Files"
_MEND = "Look and mend"
_PARTS = "The parts, one process each"
_TRAIN = "Train (extra `train`)"

Json = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
StudyUID = Annotated[str, typer.Argument(metavar="STUDY", help="Study Instance UID.")]


def app(arguments: list[str] | None = None, prog_name: str = "osteon") -> None:
    """Run the command; its errors are told in one line."""
    with errors_told():
        commands(args=arguments, prog_name=prog_name)


@commands.callback()
def _main(
    config: Annotated[
        Path | None, typer.Option(help="The TOML file of settings (else osteon.toml).")
    ] = None,
) -> None:
    if config is not None:
        # In the environment, so that every process we start reads the same file.
        os.environ["OSTEON_CONFIG"] = str(config.resolve())


@commands.command(rich_help_panel=_RUN)
def up() -> None:
    """Start the whole node on this machine; Ctrl-C stops it."""
    from osteon.foreground import stop_on_signal
    from osteon.up import run_up
    from studies.settings import load_settings

    run_up(load_settings(), stop_on_signal(), say)


@commands.command(rich_help_panel=_RUN)
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End when every report has come back; 0 if all did.")
    ] = False,
) -> None:
    """Start a node and a small PACS, send sample radiographs, show what comes back."""
    from osteon.demo import run_demo
    from osteon.foreground import stop_on_signal

    raise typer.Exit(run_demo(stop_on_signal(), once=once))


@commands.command(rich_help_panel=_RUN)
def doctor(json: Json = False) -> None:
    """Look for what is missing or wrong; each with its remedy. 1 if there is a problem."""
    from osteon.doctor import run_doctor

    raise typer.Exit(run_doctor(json=json))


@commands.command(rich_help_panel=_FILES)
def scan(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE|DIR…")],
    json: Json = False,
    save: Annotated[
        Path | None,
        typer.Option(help="Write report (DICOM images) and picture with boxes here."),
    ] = None,
) -> None:
    """Read DICOM, PNG and JPEG files without a network."""
    from osteon.scan import run_scan

    raise typer.Exit(run_scan(paths, json=json, save=save))


@commands.command(rich_help_panel=_FILES)
def send(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE|DIR…")],
    to: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where to; this node if not given.")
    ] = None,
    called: Annotated[
        str | None, typer.Option(metavar="AE", help="AE title of the receiver; ours if not given.")
    ] = None,
    calling: Annotated[str, typer.Option(metavar="AE", help="Our AE title.")] = "OSTEON_SEND",
) -> None:
    """Send DICOM files by C-STORE; 1 if one of them was not accepted."""
    from osteon.send_command import run_send

    raise typer.Exit(run_send(paths, to=to, called=called, calling=calling))


@commands.command(rich_help_panel=_PARTS)
def migrate() -> None:
    """Bring the database's schema up to date."""
    from osteon import migrations
    from studies.database import Database
    from studies.settings import load_settings

    with Database(load_settings().resolved_database_url) as database:
        before, after = migrations.migrate(database)
    say(f"schema {after}" + ("" if before == after else f" (was {before or 'empty'})"))


@commands.command(rich_help_panel=_PARTS)
def listener() -> None:
    """Receive by C-STORE."""
    from dicom_node.listener import run_listener
    from osteon.foreground import run_part

    run_part(run_listener)


@commands.command(rich_help_panel=_PARTS)
def worker() -> None:
    """Read studies: Celery's worker with our models."""
    from osteon.logs import set_up_logs
    from studies.settings import load_settings
    from worker.app import run_worker

    settings = load_settings()
    set_up_logs()
    run_worker(settings)


@commands.command(rich_help_panel=_PARTS)
def sweep() -> None:
    """Find studies that are complete, and those that a worker has lost."""
    from osteon.foreground import run_part
    from worker.sweep import run_sweep

    run_part(run_sweep)


@commands.command(rich_help_panel=_PARTS)
def sender() -> None:
    """Deliver reports to the destinations."""
    from dicom_node.delivery import run_sender
    from osteon.foreground import run_part

    run_part(run_sender)


@commands.command(rich_help_panel=_PARTS)
def web() -> None:
    """Show the worklist and the node's health."""
    from osteon.foreground import run_part
    from worklist.server import run_web

    run_part(run_web)


@commands.command(rich_help_panel=_PARTS)
def broker() -> None:
    """Turn into the embedded Valkey."""
    from osteon.broker import become_broker
    from studies.settings import load_settings

    become_broker(load_settings())


@studies.command("list")
def studies_list(
    status: Annotated[
        list[str] | None, typer.Option(help="Only studies that stand there; may be repeated.")
    ] = None,
    text: Annotated[
        str, typer.Option(help="Start of a Study Instance UID, Patient ID or Accession Number.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1)] = 50,
    json: Json = False,
) -> None:
    """Studies, the most urgent first."""
    from osteon.listing import list_studies

    list_studies(statuses=status or [], text=text, limit=limit, json=json)


@studies.command("show")
def studies_show(study: StudyUID, json: Json = False) -> None:
    """One study: its timeline, readings and deliveries."""
    from osteon.listing import show_study

    show_study(study, json=json)


@studies.command("replay")
def studies_replay(study: StudyUID) -> None:
    """Read a study once more, as after a change of models."""
    from osteon.listing import replay_study

    replay_study(study)


@deadletters.command("list")
def deadletters_list(json: Json = False) -> None:
    """What was refused, and why."""
    from osteon.listing import list_dead_letters

    list_dead_letters(json=json)


@deadletters.command("retry")
def deadletters_retry(
    number: Annotated[int | None, typer.Argument(help="As `deadletters list` shows it.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """Send again what was refused."""
    from osteon.listing import retry_dead_letters

    retry_dead_letters(None if every else number, every=every)


@models.command("list")
def models_list(json: Json = False) -> None:
    """Every model with its card's figures."""
    from osteon.model_listing import list_models

    list_models(json=json)


@models.command("check")
def models_check() -> None:
    """Open every model and let it read its golden image."""
    from osteon.model_listing import check_models

    check_models()


_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@commands.command(rich_help_panel=_TRAIN, context_settings=_PASSED_ON)
def train(context: typer.Context) -> None:
    """Train router and fracture models; --help lists the options."""
    from osteon.training_commands import run_training_command

    run_training_command("train", context.args)


@commands.command(rich_help_panel=_TRAIN, context_settings=_PASSED_ON)
def evaluate(context: typer.Context) -> None:
    """Measure models on a test set; --help lists the options."""
    from osteon.training_commands import run_training_command

    run_training_command("evaluate", context.args)


@commands.command(rich_help_panel=_TRAIN, context_settings=_PASSED_ON)
def export(context: typer.Context) -> None:
    """Export a trained network to ONNX with its cards; --help lists the options."""
    from osteon.training_commands import run_training_command

    run_training_command("export", context.args)


@commands.command(rich_help_panel=_TRAIN, context_settings=_PASSED_ON)
def compare(context: typer.Context) -> None:
    """Train and measure the literature's networks beside ours; --help lists the options."""
    from osteon.training_commands import run_training_command

    run_training_command("compare", context.args)


@commands.command(rich_help_panel=_MEND)
def version() -> None:
    """The version of Osteon, its schema and what reads with it."""
    from osteon.model_listing import show_version

    show_version()
