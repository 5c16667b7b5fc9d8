"""`osteon doctor`: each part that is wrong is found, with what to do; nothing is changed."""

from __future__ import annotations

import io
import json
import shutil
import socket
import threading
from collections.abc import Iterable

import pytest
from sqlalchemy import text

from osteon import checks, migrations
from osteon.checks import Check, State
from osteon.doctor import examine, run_doctor
from studies.clock import utc_now
from studies.database import Database
from studies.presence import living
from studies.settings import Destination, Settings, Source
from tests.support.listening import running_node
from tests.support.made_studies import announce, made_up
from tests.support.pacs import running_pacs
from tests.support.peers import free_port
from worker.models import models_folder

# pynetdicom forgets a socket whose connection was refused without closing it.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)
EVERY_KIND = ("listener", "worker", "sweep", "sender", "web")


@pytest.fixture
def settings(tmp_path):
    """A node of its own: nothing runs, and nothing is there."""
    return Settings(
        data_dir=tmp_path / "data",
        dicom_port=free_port(),
        web_port=free_port(),
        device="cpu",
        reserve_bytes=1,
    )


@pytest.fixture
def database(settings):
    """The node's database, with its tables."""
    settings.data_dir.mkdir()
    with Database(settings.resolved_database_url) as made:
        migrations.migrate(made)
        yield made


def alive(database):
    return living(database, now=utc_now())


def only(found: Iterable[Check]) -> Check:
    (check,) = found
    return check


def named(found: Iterable[Check], name: str) -> Check:
    return next(check for check in found if check.name == name)


def test_a_fresh_installation_has_no_problem(settings):
    """What is not there yet is said with how to make it; and is not made by asking."""
    found = list(examine(settings))

    assert [check for check in found if check.state is State.PROBLEM] == []
    assert "osteon migrate" in (named(found, "database").remedy or "")
    assert named(found, "processes").remedy == "start the node: osteon up"
    assert named(found, "dicom port").message.endswith("is free")
    assert named(found, "models").state is State.OK
    assert not settings.data_dir.exists()


def test_a_remedy_belongs_to_what_is_wrong():
    """A complaint without a way out cannot be made."""
    with pytest.raises(ValueError, match="remedy"):
        Check(name="x", state=State.PROBLEM, message="bad")
    with pytest.raises(ValueError, match="remedy"):
        Check(name="x", state=State.OK, message="good", remedy="none")


def test_json_is_a_line_for_each_check_and_the_status_tells(tmp_path, monkeypatch):
    """A script needs neither the table nor the words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OSTEON_DEVICE", "gramophone")
    out = io.StringIO()

    status = run_doctor(json=True, out=out)

    (line,) = [json.loads(row) for row in out.getvalue().splitlines()]
    assert status == 1
    assert set(line) == {"name", "state", "message", "remedy"}
    assert (line["name"], line["state"]) == ("settings", "problem")
    assert "OSTEON_DEVICE" in line["message"]


def test_people_read_the_remedy_below_what_is_wrong(tmp_path, monkeypatch):
    """And a warning alone is no failure."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OSTEON_DICOM_PORT", str(free_port()))
    monkeypatch.setenv("OSTEON_WEB_PORT", str(free_port()))
    out = io.StringIO()

    status = run_doctor(out=out)

    told = out.getvalue()
    assert status == 0
    assert "→ start the node: osteon up" in told
    assert told.splitlines()[-1].startswith("0 problems, ")


def test_an_open_node_is_warned_of(settings):
    """It may be meant, and should never be forgotten."""
    opened = settings.model_copy(update={"open_node": True, "web_without_login": True})

    found = list(checks.check_settings(opened))

    assert [check.name for check in found] == ["senders", "web login"]
    assert {check.state for check in found} == {State.WARNING}
    assert list(checks.check_settings(settings)) == []


def test_a_disk_is_judged_by_the_reserve(settings):
    """Beyond it images are refused; near it somebody should know."""
    free = shutil.disk_usage(settings.data_dir.parent).free

    def state(reserve: int) -> State:
        return checks.check_disk(settings.model_copy(update={"reserve_bytes": reserve})).state

    assert state(2 * free) is State.PROBLEM
    assert state(free // 2) is State.WARNING
    assert state(1) is State.OK


def test_a_data_directory_below_a_file_is_a_problem(settings, tmp_path):
    """Where nothing can be written, nothing will be received."""
    (tmp_path / "file").write_text("")
    wrong = settings.model_copy(update={"data_dir": tmp_path / "file" / "data"})

    assert checks.check_disk(wrong).state is State.PROBLEM


def test_a_database_that_is_away_is_named_without_its_password(settings):
    """The address helps, the password does not."""
    url = f"postgresql+psycopg://osteon:secret@127.0.0.1:{free_port()}/osteon?connect_timeout=2"

    check = checks.check_schema(settings.model_copy(update={"database_url": url}))

    assert check.state is State.PROBLEM
    assert "127.0.0.1" in check.message
    assert "secret" not in check.message


@pytest.mark.parametrize(
    ("revision", "state", "remedy"),
    [
        (None, State.PROBLEM, "make them: osteon migrate"),
        ("9999", State.WARNING, "update this installation too"),
    ],
)
def test_a_schema_of_another_version_is_noticed(settings, database, revision, state, remedy):
    """Missing tables are made; a newer schema still serves the version before it."""
    assert checks.check_schema(settings).state is State.OK

    with database.writing() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
        if revision is not None:
            connection.execute(
                text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision}
            )
    check = checks.check_schema(settings)

    assert (check.state, check.remedy) == (state, remedy)


def test_a_process_that_is_missing_is_a_problem_once_others_live(settings, database):
    """A node that is half there is not a node that has not been started."""
    announce(database, utc_now(), "listener", "sweep", "sender", "web")

    found = {check.name: check for check in checks.check_processes(alive(database))}

    assert set(found) == set(EVERY_KIND)
    assert [name for name, check in found.items() if check.state is State.PROBLEM] == ["worker"]
    assert "osteon worker" in (found["worker"].remedy or "")


def test_the_broker_is_asked(settings, database, broker):
    """Away it is a problem, but for a node that has not been started."""
    configured = settings.model_copy(update={"broker_url": broker.url})
    answers = checks.check_broker(configured, ())
    broker.kill()
    away = checks.check_broker(configured, ())
    announce(database, utc_now(), *EVERY_KIND)

    assert answers.state is State.OK
    assert away.state is State.PROBLEM
    assert checks.check_broker(settings, ()).state is State.WARNING
    assert checks.check_broker(settings, alive(database)).state is State.PROBLEM


def test_our_listener_answers_a_c_echo(tmp_path):
    """By its AE title, from this machine; or a connection where this machine may not ask."""
    with running_node(tmp_path) as node:
        there = node.settings.model_copy(update={"dicom_port": node.port})
        found = checks.check_listener(there, ())
        other = checks.check_listener(there.model_copy(update={"ae_title": "OTHER"}), ())
        elsewhere = (Source(ae_title="*", host="10.0.0.0/8"),)
        unasked = checks.check_listener(there.model_copy(update={"sources": elsewhere}), ())

    assert (found.state, "C-ECHO" in found.message) == (State.OK, True)
    assert other.state is State.PROBLEM
    assert (unasked.state, "no source" in unasked.message) == (State.OK, True)


def test_a_port_that_somebody_else_holds_is_a_problem(settings):
    """Of the web as of the listener; the remedy says how to find out who."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        # It hangs up at once: neither DICOM nor HTTP.
        def hang_up() -> None:
            while True:
                try:
                    connection, _ = other.accept()
                except OSError:
                    return
                connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        taken = settings.model_copy(update={"dicom_port": port, "web_port": port})
        found = [checks.check_listener(taken, ()), checks.check_web(taken, ())]
        other.shutdown(socket.SHUT_RDWR)
        thread.join()

    for check in found:
        assert check.state is State.PROBLEM
        assert "ss -ltnp" in (check.remedy or "")


def test_a_listener_that_lives_and_cannot_be_reached_is_a_problem(settings, database):
    """Its heartbeat says that it is there, and its port says that it is not."""
    announce(database, utc_now(), "listener", "web")

    assert checks.check_listener(settings, alive(database)).state is State.PROBLEM
    assert checks.check_web(settings, alive(database)).state is State.PROBLEM


def test_a_model_that_is_not_what_its_card_says_is_a_problem(settings, tmp_path):
    """Digests are compared, and the file is named."""
    folder = tmp_path / "models"
    shutil.copytree(models_folder(settings), folder)
    broken = next(folder.glob("router/*/model.onnx"))
    broken.write_bytes(broken.read_bytes() + b"\0")

    check = only(checks.check_models(settings.model_copy(update={"models_dir": folder}), ()))

    assert check.state is State.PROBLEM
    assert "router" in check.message
    assert "sha256" in check.message


def test_a_worker_without_its_gpu_is_a_problem(settings, database):
    """It says itself what it really uses."""
    announce(database, utc_now(), "worker", device="cuda", provider="CPUExecutionProvider")

    found = list(checks.check_models(settings, alive(database)))

    assert named(found, "workers").state is State.PROBLEM
    assert named(found, "models").state is State.OK


def test_a_worker_with_other_models_should_be_restarted(settings, database):
    """New models on the disk read nothing until the worker has opened them."""
    facts = {"provider": "CPUExecutionProvider", "models": ["router 0.0.1"]}
    announce(database, utc_now(), "worker", **facts)

    check = named(checks.check_models(settings, alive(database)), "workers")

    assert (check.state, check.remedy) == (State.WARNING, "restart the worker")


def test_each_destination_is_asked_by_c_echo(settings):
    """One that answers, and one that is away."""
    with running_pacs() as pacs:
        gone = Destination(ae_title="GONE", host="127.0.0.1", port=free_port())
        chosen = settings.model_copy(update={"destinations": (pacs.destination(), gone)})
        found = list(checks.check_destinations(chosen))

    assert [check.state for check in found] == [State.OK, State.PROBLEM]
    assert "GONE" in found[1].message
    assert only(checks.check_destinations(settings)).state is State.WARNING


def test_what_waits_for_a_person_is_said(settings, database):
    """Failed studies, dead letters, and reports for a destination that is no more."""
    assert only(checks.check_studies(settings, database)).state is State.OK

    made_up(database, utc_now())
    found = {check.name: check for check in checks.check_studies(settings, database)}

    assert set(found) == {"studies", "dead letters", "outbox"}
    assert {check.state for check in found.values()} == {State.WARNING}
    assert "1 failed" in found["studies"].message
    assert "1 for archive" in found["dead letters"].message


def test_no_patient_is_named(settings, database):
    """What the doctor says may be sent to somebody who may not know."""
    made_up(database, utc_now())

    told = "\n".join(f"{c.message} {c.remedy}" for c in examine(settings))

    assert "EXAMPLE" not in told
    assert "MADE-UP" not in told
