"""The pages and the health of the node, on a real database; what a sender writes stays text."""

from __future__ import annotations

import json
import re
import socket
import threading
import urllib.request
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from studies.clock import utc_now
from studies.database import Database
from studies.errors import ConfigurationError
from studies.model import Region
from studies.presence import living
from studies.settings import Settings
from tests.support.domain import NOON, empty_database
from tests.support.made_studies import Studies, announce, made_up, region_read
from tests.support.peers import free_port
from tests.support.waiting import wait_until
from worklist.app import make_app
from worklist.server import run_web

KINDS = ("listener", "worker", "sweep", "sender")
ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'{{7*7}}"


@pytest.fixture
def database(tmp_path):
    with empty_database(tmp_path) as made:
        yield made


def client(settings: Settings, database: Database, now=NOON) -> TestClient:
    return TestClient(make_app(settings, database, lambda: now), base_url="http://127.0.0.1")


def settings(tmp_path, **changed) -> Settings:
    # Nothing listens on port 1: a broker that is away.
    values = {"data_dir": tmp_path, "broker_url": "redis://127.0.0.1:1/0", "reserve_bytes": 0}
    return Settings.model_validate({**values, **changed})


class Page(HTMLParser):
    """What a browser would make of a page: its elements with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_list_shows_the_most_urgent_first(tmp_path, database):
    """Positive, doubtful, what nobody has read, negative: each with region, certainty and age."""
    made_up(database, NOON)

    page = client(settings(tmp_path), database).get("/")

    marks = re.findall(r'<span class="mark ([a-z-]+)">', page.text)
    names = re.findall(r'<a href="/studies/[0-9.]+">([^<]+)</a>', page.text)
    assert page.status_code == 200
    assert marks[:4] == ["positive", "positive", "doubtful", "not-analysed"]
    assert marks[-1] == "negative"
    assert names[0] == "EXAMPLE Anna"
    for text in ("93 %", "hand or wrist, forearm", "fracture likely", "XRAY_ROOM_1", "3 h"):
        assert text in page.text


def test_a_study_shows_each_image_with_its_regions_and_its_timeline(tmp_path, database):
    """Which image, which region, where, by which model; what was sent; every step."""
    studies = made_up(database, NOON)
    http = client(settings(tmp_path), database)
    uid = re.findall(r'href="/studies/([0-9.]+)"', http.get("/").text)[0]

    text = Page(http.get(f"/studies/{uid}").text).text

    assert studies.database is database
    for part in (
        "93 %, columns 812 to 1090, rows 1180 to 1416",
        "bone-forearm 1.0.0",
        "WindowWidth 0: percentiles used",
        "refused for good (dead letter)",
        "0x0122",
        "1958-03-12",
        "received",
        "claimed",
    ):
        assert part in text


def test_an_image_that_was_not_analysed_says_why(tmp_path, database):
    """And never looks like a negative one."""
    studies = Studies(database, NOON)
    uid = studies.receive(images=2)
    studies.complete(uid)
    studies.read(uid, (region_read(Region.KNEE, 0.01),), "it is in colour")

    page = client(settings(tmp_path), database).get(f"/studies/{uid}").text

    rows = [row for row in page.split("<tr>") if "Image 2" in row]
    assert len(rows) == 1
    assert "mark not-analysed" in rows[0]
    assert "because it is in colour" in rows[0]


@pytest.mark.parametrize(
    "keyword",
    ["PatientName", "StudyDescription", "AccessionNumber", "BodyPartExamined", "StudyDate"],
)
def test_what_a_sender_writes_is_text_and_nothing_else(tmp_path, database, keyword):
    """Markup, quotes and template code in a DICOM text are shown as they stand."""
    studies = Studies(database, NOON)
    values: dict[str, Any] = {keyword: ATTACK[:18] if keyword == "StudyDate" else ATTACK}
    uid = studies.receive(**values)
    http = client(settings(tmp_path), database)

    for path in ("/", f"/studies/{uid}"):
        page = Page(http.get(path).text)

        assert page.named("script") == []
        assert [image["src"] for image in page.named("img")] == ["/static/osteon.svg"]
        assert not any(key.startswith("on") for _, found in page.elements for key in found)
        assert "49" not in page.text.replace(uid, "")
    shown = Page(http.get(f"/studies/{uid}").text).text
    assert ATTACK[:18].replace("^", " ") in shown


def test_what_was_searched_for_is_text_too(tmp_path, database):
    """A reflected script is as bad as a stored one."""
    made_up(database, NOON)
    http = client(settings(tmp_path), database)

    page = Page(http.get("/", params={"q": '"><script>x</script>'}).text)
    found = http.get("/", params={"q": "MADE-UP-02"}).text

    assert page.named("script") == []
    assert page.named("input")[0]["value"] == '"><script>x</script>'
    assert "MUSTER" in found
    assert "EXAMPLE" not in found


def test_no_page_holds_script_or_style_and_every_answer_forbids_them(tmp_path, database):
    """The policy and the pages agree, for errors and files as well."""
    made_up(database, NOON)
    http = client(settings(tmp_path), database)
    uid = re.findall(r'href="/studies/([0-9.]+)"', http.get("/").text)[0]
    paths = ("/", f"/studies/{uid}", "/studies/1.2.3", "/nowhere", "/static/osteon.css")

    for path in (*paths, "/health/live", "/health/ready"):
        answer = http.get(path)
        page = Page(answer.text)

        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert page.named("script") == page.named("style") == []
        assert not any("style" in found for _, found in page.elements)
        assert not any(found.get("http-equiv") for found in page.named("meta"))
        is_file = path.startswith("/static")
        assert answer.headers["cache-control"] == ("max-age=3600" if is_file else "no-store")


def test_pages_can_be_used_without_eyes_or_mouse(tmp_path, database):
    """Language, skip link, captions, scopes, labels; headings that skip no level."""
    made_up(database, NOON)
    http = client(settings(tmp_path), database)
    uid = re.findall(r'href="/studies/([0-9.]+)"', http.get("/").text)[0]

    for path in ("/", f"/studies/{uid}"):
        page = Page(http.get(path).text)
        identifiers = [found["id"] for _, found in page.elements if "id" in found]

        assert page.named("html")[0]["lang"] == "en"
        assert page.named("a")[0]["href"] == "#main"
        assert len(page.named("caption")) == len(page.named("table")) > 0
        assert all(found.get("scope") in {"col", "row"} for found in page.named("th"))
        assert len(page.named("h1")) == 1
        assert len(identifiers) == len(set(identifiers))
        for found in page.named("label"):
            assert found["for"] in identifiers
        for _, found in page.elements:
            if "aria-labelledby" in found:
                assert found["aria-labelledby"] in identifiers


def test_an_unknown_study_is_a_page_that_says_so(tmp_path, database):
    """With the status that a program understands."""
    answer = client(settings(tmp_path), database).get("/studies/1.2.3")

    assert answer.status_code == 404
    assert "No study of that UID is held" in answer.text


def test_a_request_is_logged_without_its_query(tmp_path, database):
    """A Patient ID that was searched for is not for the log."""
    with capture_logs() as logs:
        client(settings(tmp_path), database).get("/", params={"q": "SECRET-ID"})

    pages = [entry for entry in logs if entry["event"] == "page"]
    assert [entry["path"] for entry in pages] == ["/"]
    assert "SECRET-ID" not in json.dumps(logs, default=str)


def test_another_host_name_is_refused(tmp_path, database):
    """A web page that points its own name at 127.0.0.1 reads nothing."""
    http = client(settings(tmp_path), database)

    assert http.get("/", headers={"host": "evil.example"}).status_code == 400
    for host in ("localhost:8080", "127.0.0.1:8080", "[::1]:8080"):
        assert http.get("/", headers={"host": host}).status_code == 200


def test_ready_is_said_when_every_part_is_well(tmp_path, database, broker):
    """Broker, database, disk, the processes, and the provider that is configured."""
    announce(database, NOON, *KINDS, device="cpu", provider="CPUExecutionProvider")

    answer = client(settings(tmp_path, broker_url=broker.url), database).get("/health/ready")

    assert answer.status_code == 200
    assert answer.json()["ready"] is True
    assert all(part["ok"] for part in answer.json()["parts"])


def unwell(answer) -> list[str]:
    assert answer.status_code == 503
    assert answer.json()["ready"] is False
    return [part["name"] for part in answer.json()["parts"] if not part["ok"]]


def test_ready_says_that_the_broker_is_away(tmp_path, database, broker):
    """From the moment it goes, and no longer than until it is back."""
    announce(database, NOON, *KINDS, provider="CPUExecutionProvider")
    http = client(settings(tmp_path, broker_url=broker.url), database)

    broker.kill()
    away = http.get("/health/ready")
    broker.start()
    back = http.get("/health/ready")

    assert unwell(away) == ["broker"]
    assert back.status_code == 200
    assert http.get("/health/live").status_code == 200


def test_ready_says_which_process_is_missing(tmp_path, database, broker):
    """A worker that has shown no life for half a minute is not alive."""
    announce(database, NOON, "listener", "sweep", "sender")
    announce(database, NOON - timedelta(minutes=2), "worker", provider="CPUExecutionProvider")

    answer = client(settings(tmp_path, broker_url=broker.url), database).get("/health/ready")

    assert unwell(answer) == ["worker", "provider"]


def test_ready_says_that_a_gpu_is_not_used(tmp_path, database, broker):
    """A worker that is set to cuda and runs on the CPU is not what the site asked for."""
    announce(database, NOON, *KINDS, device="cuda", provider="CPUExecutionProvider")

    answer = client(settings(tmp_path, broker_url=broker.url), database).get("/health/ready")

    assert unwell(answer) == ["provider"]


def test_ready_says_that_the_disk_is_full(tmp_path, database, broker):
    """The reserve is what receiving leaves for work in flight."""
    announce(database, NOON, *KINDS, provider="CPUExecutionProvider")
    full = settings(tmp_path, broker_url=broker.url, reserve_bytes=10**18)

    assert unwell(client(full, database).get("/health/ready")) == ["disk"]


def test_without_a_database_the_pages_say_so(tmp_path):
    """Neither a traceback nor an empty worklist, which would read as "nothing to do"."""
    with Database(f"sqlite:///{tmp_path / 'nowhere' / 'x.sqlite'}") as lost:
        http = client(settings(tmp_path), lost)
        page, ready = http.get("/"), http.get("/health/ready")

    assert page.status_code == 503
    assert "database cannot be reached" in page.text
    assert "database" in unwell(ready)


def test_the_list_says_what_is_not_well(tmp_path, database):
    """Whoever reads the worklist sees that something does not come."""
    page = client(settings(tmp_path), database).get("/").text

    assert "The node is not well" in page
    assert "broker" in page


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "osteon.example"])
def test_without_login_only_this_machine_is_served(tmp_path, host):
    """The error names the setting and what to do."""
    with pytest.raises(ConfigurationError, match="web_host") as told:
        run_web(settings(tmp_path, web_host=host), threading.Event())

    assert "loopback" in str(told.value)


def test_it_serves_until_it_is_told_to_stop(tmp_path):
    """It shows itself among the living, answers, and is gone afterwards."""
    with empty_database(tmp_path) as database:
        port, stop = free_port(), threading.Event()
        url = str(database.engine.url)
        chosen = settings(tmp_path, web_port=port, database_url=url)
        thread = threading.Thread(target=run_web, args=(chosen, stop))
        thread.start()

        def alive() -> list[str]:
            return [p.kind for p in living(database, now=utc_now())]

        try:
            wait_until(lambda: alive() == ["web"], 20, "the web to show itself")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live") as answer:
                body = json.load(answer)
        finally:
            stop.set()
            thread.join(20)

        assert body == {"status": "alive"}
        assert not thread.is_alive()
        assert alive() == []


def test_an_address_in_use_is_an_error_that_names_it(tmp_path):
    """A second web on the same port ends, and says which setting to change."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"web_port: 127.0.0.1:{port}"):
            run_web(settings(tmp_path, web_port=port), threading.Event())
