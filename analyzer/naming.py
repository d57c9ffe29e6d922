"""Names of protocols and services in sentences."""

from __future__ import annotations

PROTOCOL_NAMES = {"ftp-data": "FTP data", "http": "HTTP in clear", "iec104": "IEC 104 in clear"}
"""Protocols whose name in sentences is not their own in upper case."""


def protocol_name(protocol: str) -> str:
    """The name of a protocol in sentences: ``TLS``, ``HTTP in clear``."""
    return PROTOCOL_NAMES.get(protocol, protocol.upper())
