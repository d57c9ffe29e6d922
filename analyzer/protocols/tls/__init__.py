"""TLS 1.0 to 1.3, SSL 2.0 and SSL 3.0 over TCP: the handshake, as far as it is in clear.

``records`` reads the record layer, ``handshake`` its messages, ``certificates`` and ``chain`` X.509 certificates;
``registry`` names code points, ``fingerprints`` computes JA3 and JA4, ``session`` states the facts, ``recall``
recognises handshakes that repeat.
"""

from __future__ import annotations

from typing import Final

from analyzer.protocols.tls.certificates import X509Certificate
from analyzer.protocols.tls.chain import Link
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
    read_decrypted,
)
from analyzer.protocols.tls.recall import Recall
from analyzer.protocols.tls.records import (
    Alert,
    ApplicationData,
    ChangeCipherSpec,
    EncryptedRecord,
    Heartbeat,
    anomalies,
    dissect,
    probe,
)
from analyzer.protocols.tls.session import TlsFacts, disorders, facts

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
    "anomalies",
    "disorders",
    "dissect",
    "facts",
    "probe",
    "read_decrypted",
]

NAME: Final = "tls"
