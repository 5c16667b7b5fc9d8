"""The settings of a node, read once at start from a TOML file and the environment."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from studies.errors import ConfigurationError

PREFIX = "OSTEON_"
CONFIG_VARIABLE = "OSTEON_CONFIG"
TEST_PREFIX = "OSTEON_TEST_"  # read by our tests only, never by the node
_LONGEST_SOCKET_FOLDER = 80  # bytes; leaves room for a name and a process id


def _ae_title(value: str) -> str:
    """An AE title is 1 to 16 printable ASCII characters without backslash (PS3.5 Table 6.2-1)."""
    stripped = value.strip(" ")
    if not re.fullmatch(r"[\x20-\x5b\x5d-\x7e]{1,16}", stripped):
        raise ValueError(f"{value!r} is not an AE title: 1 to 16 ASCII characters, no backslash")
    return stripped


def _network(value: str) -> str:
    """A host name, an address, or a network in CIDR notation."""
    if "/" in value:
        ipaddress.ip_network(value, strict=False)
    return value


AETitle = Annotated[str, AfterValidator(_ae_title)]
Host = Annotated[str, AfterValidator(_network)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TLSFiles(_Section):
    """Certificates for one side of a TLS connection (PS3.15 B.9, BCP 195).

    Attributes
    ----------
    certificate, key
        Our own, PEM files.
    authorities
        PEM file of the authorities that we trust for the other side.
    require_peer_certificate
        Whether a peer must show a certificate of those authorities.
    """

    certificate: Path
    key: Path
    authorities: Path
    require_peer_certificate: bool = True


class Source(_Section):
    """Who may send to us.

    Attributes
    ----------
    ae_title
        Calling AE title, or "*" for any.
    host
        Address, host name or network ("10.1.0.0/16") that the association comes from.
    charset
        Specific Character Set to assume when this sender states none but sends 8-bit text.
    """

    ae_title: str = "*"
    host: Host = "127.0.0.1"
    charset: str | None = None


class Destination(_Section):
    """Where results are sent.

    Attributes
    ----------
    ae_title, host, port
        The storage SCP.
    name
        How we call it; the AE title unless given. Unique.
    tls
        Connect by TLS, with these certificates; plain TCP if not given.
    connectathon
        Report the strict procedure code that PixelMed's validator knows, not the real one.
    """

    ae_title: AETitle
    host: str
    port: Port
    name: str = ""
    tls: TLSFiles | None = None
    connectathon: bool = False

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("name"):
            data = {**data, "name": data.get("ae_title", "")}
        return data


LOOPBACK = (Source(ae_title="*", host="127.0.0.0/8"), Source(ae_title="*", host="::1"))


class Settings(_Section):
    """Everything that a site can set. An unknown key is an error.

    Attributes
    ----------
    data_dir
        Holds received files, produced objects, the embedded database and broker.
    ae_title
        Ours; associations that call another one are rejected.
    dicom_host, dicom_port, web_host, web_port
        Where we listen. All loopback until the site says otherwise.
    web_without_login
        Let the web listen beyond loopback though it has no login: whoever reaches it sees patients.
    database_url
        SQLAlchemy URL; SQLite in `data_dir` if not given.
    broker_url
        Celery broker; an embedded Valkey in `data_dir` if not given.
    quiet_seconds
        A study is complete when nothing came for so long after the association's release.
    open_association_seconds
        The same for a sender that never releases its association.
    device
        "cuda" must be used or the worker does not start; "auto" takes what is there.
    worker_processes
        Processes that read studies; 0 is one per core on a CPU, one on a GPU.
    models_dir
        Model folders; those we ship if not given.
    experimental_regions
        Regions whose experimental model may speak.
    sources
        Who may send. Loopback only if not given.
    open_node
        Accept any sender from anywhere. Loudly warned of.
    max_associations
        Associations at once; further ones are rejected with a reason (PS3.8 9.3.4).
    max_pdu
        Largest PDU that we receive, bytes.
    network_seconds
        A peer that is silent for so long within an association is aborted.
    listener_tls
        Serve TLS only, with these certificates.
    fast_receive
        Write data sets from the socket to the disk as they come. Without it, pynetdicom collects
        each in memory first: slower, but by its public interface alone.
    reserve_bytes
        Room on the disk that receiving leaves for work in flight.
    max_instance_bytes
        Largest data set that is accepted.
    default_charset
        Assumed for 8-bit text without Specific Character Set, and flagged.
    lease_seconds
        A worker that shows no life for so long loses its study to another one.
    max_attempts
        Tries before a study that kills its workers, or keeps failing, is FAILED.
    destinations
        Where results go.
    inverted_devices
        "Manufacturer/ManufacturerModelName" of devices whose Photometric Interpretation lies.
    """

    data_dir: Path = Path("data")
    ae_title: AETitle = "OSTEON"
    dicom_host: str = "127.0.0.1"
    dicom_port: Port = 11112
    web_host: str = "127.0.0.1"
    web_port: Port = 8080
    web_without_login: bool = False
    database_url: str | None = None
    broker_url: str | None = None
    quiet_seconds: Annotated[float, Field(gt=0, le=3600)] = 5.0
    open_association_seconds: Annotated[float, Field(gt=0, le=86400)] = 60.0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    worker_processes: Annotated[int, Field(ge=0, le=256)] = 0
    models_dir: Path | None = None
    experimental_regions: tuple[str, ...] = ()
    sources: tuple[Source, ...] = LOOPBACK
    open_node: bool = False
    max_associations: Annotated[int, Field(ge=1, le=1000)] = 64
    max_pdu: Annotated[int, Field(ge=4096, le=1 << 20)] = 131072
    network_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    listener_tls: TLSFiles | None = None
    fast_receive: bool = True
    reserve_bytes: Annotated[int, Field(ge=0)] = 1024**3
    max_instance_bytes: Annotated[int, Field(ge=1024)] = 1024**3
    default_charset: str = "ISO_IR 100"
    lease_seconds: Annotated[float, Field(ge=2, le=3600)] = 15.0
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    destinations: tuple[Destination, ...] = ()
    inverted_devices: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _destinations_have_names_of_their_own(self) -> Settings:
        names = [destination.name for destination in self.destinations]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"two destinations are called {', '.join(doubled)}")
        return self

    @property
    def resolved_database_url(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'osteon.sqlite'}"

    @property
    def socket_folder(self) -> Path:
        """Folder of our unix sockets: in `data_dir`, or a short one of its own if that is too deep.

        The path of a unix socket has 107 bytes at most (103 on macOS).
        """
        folder = self.data_dir.resolve() / "run"
        if len(os.fsencode(folder)) <= _LONGEST_SOCKET_FOLDER:
            return folder
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        # Made for its owner alone, and refused if it is somebody else's (osteon.lock).
        return Path(f"/tmp/osteon-{os.getuid()}-{digest}")  # noqa: S108

    @property
    def embedded_broker_socket(self) -> Path:
        """Unix socket of the embedded Valkey."""
        return self.socket_folder / "valkey.sock"

    @property
    def resolved_broker_url(self) -> str:
        """The broker URL in force, as Celery reads it."""
        if self.broker_url:
            return self.broker_url
        return f"redis+socket://{quote(str(self.embedded_broker_socket))}?virtual_host=0"

    def destination(self, name: str) -> Destination | None:
        """The destination of that name, or None if it is no longer configured."""
        return next((d for d in self.destinations if d.name == name), None)


def load_settings(
    environment: Mapping[str, str] | None = None, *, config: Path | None = None
) -> Settings:
    """Read the settings: the TOML file first, the environment over it.

    Parameters
    ----------
    environment
        Usually os.environ. `OSTEON_CONFIG` names the TOML file; without it, osteon.toml in the
        current directory is read if it is there. Lists and tables in variables are TOML values:
        ``OSTEON_SOURCES='[{ae_title = "*", host = "10.0.0.0/8"}]'``.
    config
        The TOML file, over `OSTEON_CONFIG`.

    Raises
    ------
    ConfigurationError
        Naming the file or variable, and the key.
    """
    variables = os.environ if environment is None else environment
    path, values = _from_file(variables, config)
    where = dict.fromkeys(values, str(path))
    for variable in sorted(variables):
        if not variable.startswith(PREFIX) or variable.startswith(TEST_PREFIX):
            continue
        if variable == CONFIG_VARIABLE:
            continue
        key = variable.removeprefix(PREFIX).lower()
        if key not in Settings.model_fields:
            raise ConfigurationError(f"{variable} is not a setting of Osteon")
        values[key] = _from_variable(key, variables[variable], variable)
        where[key] = variable
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(_told(error, where)) from error


def _from_file(
    variables: Mapping[str, str], config: Path | None
) -> tuple[Path | None, dict[str, Any]]:
    named = config or (Path(variables[CONFIG_VARIABLE]) if CONFIG_VARIABLE in variables else None)
    path = named or Path("osteon.toml")
    if named is None and not path.is_file():
        return None, {}
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error


def _from_variable(key: str, text: str, variable: str) -> Any:
    """A variable's value: plain text, or TOML where the setting is a list or a table."""
    if key not in _STRUCTURED:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{variable} is not a TOML value: {error}") from error


_STRUCTURED = frozenset(
    {"sources", "destinations", "listener_tls", "experimental_regions", "inverted_devices"}
)


def _told(error: ValidationError, where: Mapping[str, str]) -> str:
    """One line per problem: where it stands, the key, what is wrong."""
    lines = []
    for problem in error.errors():
        keys = ".".join(str(part) for part in problem["loc"]) or "settings"
        origin = where.get(str(problem["loc"][0])) if problem["loc"] else None
        lines.append(f"{origin + ': ' if origin else ''}{keys}: {problem['msg']}")
    return "\n".join(lines)
