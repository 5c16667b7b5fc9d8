"""TLS contexts for both sides of an association (PS3.15 B.9 to B.11, BCP 195)."""

from __future__ import annotations

import ssl

from studies.errors import ConfigurationError
from studies.settings import TLSFiles


def server_context(files: TLSFiles) -> ssl.SSLContext:
    """For the listener: our certificate, and clients' certificates as the setting asks.

    Raises
    ------
    ConfigurationError
        Naming the file that cannot be used.
    """
    return _context(files, ssl.PROTOCOL_TLS_SERVER)


def client_context(files: TLSFiles) -> ssl.SSLContext:
    """For the sender: our certificate, and the peer's checked against our authorities.

    Raises
    ------
    ConfigurationError
        Naming the file that cannot be used.
    """
    return _context(files, ssl.PROTOCOL_TLS_CLIENT)


def _context(files: TLSFiles, protocol: ssl._SSLMethod) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # DICOM peers are known by their certificate's authority; their names are seldom in DNS.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if files.require_peer_certificate else ssl.CERT_NONE
    for what, path in (("certificate", files.certificate), ("key", files.key)):
        if not path.is_file():
            raise ConfigurationError(f"TLS {what} {path} is missing")
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(
            f"TLS certificate {files.certificate} with key {files.key}: {error}"
        ) from error
    try:
        context.load_verify_locations(files.authorities)
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(f"TLS authorities {files.authorities}: {error}") from error
    return context
