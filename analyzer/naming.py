"""Names of protocols and services in sentences. Services by port are data: ``rules/services.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from analyzer.expected import rules_folder
from analyzer.messages import Facts
from analyzer.protocols.coap import CoapFacts
from analyzer.protocols.http import HttpFacts
from analyzer.protocols.tls import TlsFacts

PROTOCOL_NAMES = {
    "ftp-data": "FTP data",
    "http": "HTTP in clear",
    "iec104": "IEC 104 in clear",
    "ike-tcp": "IKE and ESP inside TCP (RFC 9329)",
    "mqtt": "MQTT in clear",
    "openvpn": "OpenVPN",
    "semtech-udp": "Semtech's UDP packet forwarder protocol",
    "syslog": "syslog in clear",
    "coap": "CoAP in clear",
    "wireguard": "WireGuard",
}
"""Protocols whose name in sentences is not their own in upper case."""
APPLICATIONS = {
    "ntske/1": "NTS key establishment",
    "dot": "DNS over TLS",
    "h2": "HTTPS",
    "http/1.1": "HTTPS",
    "mqtt": "MQTT over TLS",
    "x-amzn-mqtt-ca": "MQTT over TLS",
}
"""Application protocol that a client offered or a server selected (ALPN, IANA registry) → what TLS then carries."""


@dataclass(frozen=True, slots=True)
class NamedService:
    """A service by its port."""

    name: str | None
    """Name of traffic whose content is not known."""
    tls: str | None
    """Name of TLS on the port."""
    hint: bool
    """The port is a convention only."""


@cache
def named_services() -> Mapping[tuple[str, int], NamedService]:
    """The services of ``rules/services.toml``, by transport and port."""
    content = tomllib.loads((rules_folder() / "services.toml").read_text(encoding="utf-8"))
    return {
        (entry["transport"], entry["port"]): NamedService(entry.get("name"), entry.get("tls"), entry.get("hint", False))
        for entry in content["service"]
    }


def protocol_name(protocol: str) -> str:
    """The name of a protocol in sentences: ``TLS``, ``HTTP in clear``."""
    return PROTOCOL_NAMES.get(protocol, protocol.upper())


def service_name(protocol: str | None, transport: str, port: int | None, facts: Facts | None = None) -> str:
    """A service in sentences: ``HTTP in clear on tcp/80``, ``HTTPS on tcp/443 (server name x)``, ``tcp/8883``."""
    place = transport if port is None else f"{transport}/{port}"
    known = named_services().get((transport, port or 0))
    if protocol is None:
        if known is None or known.name is None:
            return place
        return f"{place}, {'a port often used for' if known.hint else 'the port of'} {known.name}"
    if isinstance(facts, TlsFacts):
        agreed = next((APPLICATIONS[name] for name in facts.alpn if name in APPLICATIONS), None)
        name = agreed or (known.tls if known else None) or protocol_name(protocol)
        return f"{name} on {place}" + (f" (server name {facts.server_name})" if facts.server_name else "")
    name = protocol_name(protocol)
    detail = facts.service if isinstance(facts, (HttpFacts, CoapFacts)) else None
    return f"{name} on {place}" + (f" ({detail})" if detail else "")
