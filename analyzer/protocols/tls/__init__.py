"""TLS 1.0 to 1.3 and SSL 2.0 and 3.0 over TCP: what the handshake shows before encryption hides the rest.

``records`` walks the record layer, ``handshake`` reads the messages, ``certificates`` the certificates, ``registry``
knows the names, ``facts`` draws the conclusions, ``recall`` remembers handshakes that repeat.
"""

from __future__ import annotations

from typing import Final

from analyzer.protocols.tls.certificates import X509Certificate
from analyzer.protocols.tls.facts import Link, TlsFacts, facts
from analyzer.protocols.tls.handshake import (
    ApplicationProtocols,
    Certificate,
    CertificateEntry,
    ClientHello,
    ClientMasterKey,
    Extensions,
    Handshake,
    ServerHello,
    ServerKeyExchange,
    ServerName,
    SessionTicket,
    SupportedVersions,
    opened,
)
from analyzer.protocols.tls.recall import Recall
from analyzer.protocols.tls.records import (
    Alert,
    ApplicationData,
    ChangeCipherSpec,
    EncryptedRecord,
    Heartbeat,
    dissect,
    probe,
)

__all__ = [
    "NAME",
    "Alert",
    "ApplicationData",
    "ApplicationProtocols",
    "Certificate",
    "CertificateEntry",
    "ChangeCipherSpec",
    "ClientHello",
    "ClientMasterKey",
    "EncryptedRecord",
    "Extensions",
    "Handshake",
    "Heartbeat",
    "Link",
    "Recall",
    "ServerHello",
    "ServerKeyExchange",
    "ServerName",
    "SessionTicket",
    "SupportedVersions",
    "TlsFacts",
    "X509Certificate",
    "dissect",
    "facts",
    "opened",
    "probe",
]

NAME: Final = "tls"
