"""The web application: health, the list of studies, one study whole. Only reads."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import structlog
from fastapi import FastAPI, Query, Request, Response
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy.exc import SQLAlchemyError

from studies.catalogue import Catalogue
from studies.clock import Clock, utc_now
from studies.database import Database
from studies.errors import UnknownStudy
from studies.outbox import Outbox
from studies.settings import Settings
from worklist import words
from worklist.health import Part, is_ready, parts
from worklist.shown import date, image_rows, regions_of, result_of, row_of

_HERE: Final = Path(__file__).parent
_ROWS: Final = 100
_HEADERS: Final = {
    # Neither script nor style inside a page: what a sender writes into a name stays text.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_log = structlog.get_logger()


def make_app(settings: Settings, database: Database, clock: Clock = utc_now) -> FastAPI:
    """The application on one database; whoever serves it decides on which address."""
    app = FastAPI(title="Osteon", docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")
    if not settings.web_without_login:
        # A page of the internet that names itself 127.0.0.1 must not read ours (DNS rebinding).
        app.add_middleware(
            TrustedHostMiddleware,
            allowed_hosts=["localhost", "127.0.0.1", "::1", "[::1]", settings.web_host],
            www_redirect=False,
        )
    app.middleware("http")(_observed)
    pages = Jinja2Templates(env=_environment(clock))
    _add_health(app, settings, database, clock)
    _add_pages(app, settings, database, clock, pages)
    _add_errors(app, pages)
    return app


def _add_health(app: FastAPI, settings: Settings, database: Database, clock: Clock) -> None:
    @app.api_route("/health/live", methods=["GET", "HEAD"])
    def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    @app.api_route("/health/ready", methods=["GET", "HEAD"])
    def ready() -> JSONResponse:
        """Every part of the node; 503 if one of them is not well."""
        found = parts(settings, database, clock)
        well = is_ready(found)
        content = {"ready": well, "parts": [asdict(part) for part in found]}
        return JSONResponse(content, status_code=200 if well else 503)


def _add_pages(
    app: FastAPI,
    settings: Settings,
    database: Database,
    clock: Clock,
    pages: Jinja2Templates,
) -> None:
    catalogue, outbox = Catalogue(database), Outbox(database)

    @app.get("/", response_class=HTMLResponse)
    def worklist(request: Request, q: Annotated[str, Query(max_length=64)] = "") -> Response:
        """The list of studies, the most urgent first."""
        studies = catalogue.studies(text=q.strip(), limit=_ROWS)
        readings = catalogue.newest_readings(studies)
        now = clock()
        context = {
            "rows": [row_of(s, readings.get(s.StudyInstanceUID), now) for s in studies],
            "ledger": [(words.STATUSES[s], n) for s, n in catalogue.ledger().items() if n],
            "quarantined": catalogue.quarantined(),
            "troubles": _troubles(parts(settings, database, clock)),
            "most": _ROWS,
            "q": q,
            "now": now,
        }
        return pages.TemplateResponse(request, "worklist.html", context)

    @app.get("/studies/{StudyInstanceUID}", response_class=HTMLResponse)
    def study(request: Request, StudyInstanceUID: str) -> Response:
        """One study: what was read, what was sent, and every step with its time."""
        found = catalogue.study(StudyInstanceUID)
        readings = catalogue.readings(found)
        newest = readings[-1] if readings else None
        context = {
            "study": found,
            "row": row_of(found, newest, clock()),
            "result": result_of(found),
            "regions": regions_of(newest),
            "images": image_rows(newest) if newest is not None else (),
            "reading": newest,
            "deliveries": outbox.of_study(StudyInstanceUID),
            "events": catalogue.timeline(found),
            "now": clock(),
        }
        return pages.TemplateResponse(request, "study.html", context)


def _add_errors(app: FastAPI, pages: Jinja2Templates) -> None:
    @app.exception_handler(UnknownStudy)
    def unknown(request: Request, _error: Exception) -> Response:
        context = {"title": "Unknown study", "text": "No study of that UID is held."}
        return pages.TemplateResponse(request, "message.html", context, status_code=404)

    @app.exception_handler(404)
    def nowhere(request: Request, _error: Exception) -> Response:
        context = {"title": "No such page", "text": "Nothing is shown under that address."}
        return pages.TemplateResponse(request, "message.html", context, status_code=404)

    @app.exception_handler(SQLAlchemyError)
    def away(request: Request, error: Exception) -> Response:
        _log.warning("database away", error=type(error).__name__, path=request.url.path)
        context = {
            "title": "The database cannot be reached",
            "text": "Receiving has stopped with it; senders keep their images. Ask the "
            "administrator to run “osteon doctor”.",
        }
        return pages.TemplateResponse(request, "message.html", context, status_code=503)


def _troubles(found: tuple[Part, ...]) -> list[Part]:
    return [part for part in found if not part.ok]


async def _observed(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Add the headers that every answer bears, and log one line without the query's text."""
    begun = time.perf_counter()
    response = await call_next(request)
    response.headers.update(_HEADERS)
    is_static = request.url.path.startswith("/static/")
    # Pages are about patients: they stay out of shared and disk caches.
    response.headers["Cache-Control"] = "max-age=3600" if is_static else "no-store"
    if not is_static and not request.url.path.startswith("/health/"):
        _log.info(
            "page",
            method=request.method,
            path=request.url.path,
            status=response.status_code,
            milliseconds=round((time.perf_counter() - begun) * 1000, 1),
        )
    return response


def _environment(clock: Clock) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        age=lambda at: words.age(clock() - at),
        moment=lambda at: f"{at:%Y-%m-%d %H:%M:%S}",
        seconds=words.seconds,
        date=date,
        delivery=lambda state: words.DELIVERIES[state],
    )
    environment.globals.update(unverified=words.UNVERIFIED)
    return environment
