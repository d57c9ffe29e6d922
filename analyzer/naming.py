"""Names of protocols and services in sentences. Services by port are data: ``rules/services.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from analyzer.conversations import Conversation
from analyzer.dataclass import dataclass
from analyzer.expected import rules_folder
from analyzer.messages import Facts
from analyzer.protocols import dtls
from analyzer.protocols.coap import CoapFacts
from analyzer.protocols.dns import MAX_NAMES_PER_ADDRESS, MULTICAST_PORTS, DnsFacts
from analyzer.protocols.ftp import FtpFacts
from analyzer.protocols.http import HttpFacts
from analyzer.protocols.mqtt import MqttFacts
from analyzer.protocols.semtech_udp import SemtechUdpFacts
from analyzer.protocols.ssh import SshFacts
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
TRANSPORT_NAMES = {
    "ip-2": "IGMP (ip-2)",
    "ip-4": "IP in IP (ip-4)",
    "ip-41": "IPv6 in IP (ip-41)",
    "ip-47": "GRE (ip-47)",
    "ip-97": "Ethernet in IP (ip-97)",
}
"""IP protocols that base stations' tables do not name."""
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
    place = TRANSPORT_NAMES.get(transport, transport) if port is None else f"{transport}/{port}"
    known = named_services().get((transport, port or 0))
    if protocol is None:
        if known is None or known.name is None:
            return place
        return f"{place}, {'a port often used for' if known.hint else 'the port of'} {known.name}"
    name = protocol_name(protocol)
    if isinstance(facts, TlsFacts):
        agreed = next((APPLICATIONS[offered] for offered in facts.alpn if offered in APPLICATIONS), None)
        name = agreed or (known.tls if known else None) or name
    elif protocol == dtls.NAME and known is not None and "DTLS" in (known.name or ""):
        name = known.name or name
    details = ", ".join(service_details(facts))
    return f"{name} on {place}" + (f" ({details})" if details else "")


PLAIN_TEXT = re.compile(r"[0-9A-Za-z_ .,:;=+/@*-]{1,80}", re.ASCII)
"""A name from packets that cannot be mistaken for a part of the sentence in which it stands."""
HOST_NAME = re.compile(r"[0-9A-Za-z_](?:[0-9A-Za-z_.-]{0,251}[0-9A-Za-z_])?", re.ASCII)
"""A host name (RFC 1123, section 2.1), with underscores as many hosts use them."""


def service_details(facts: Facts | None) -> list[str]:
    """What the content says of the service and of who offers or uses it: names, banners, identifiers."""
    known: Sequence[str | None] = ()
    if isinstance(facts, TlsFacts) and facts.client_hint is not None:
        known = (f"hello of {facts.client_hint}",)
    name: tuple[str, str | None] = ("", None)
    match facts:
        case TlsFacts(server_name=str(host)):
            name = "server name", host
        case TlsFacts(certificates=[certificate, *_]):
            name = "certificate of", certificate.subject
        case HttpFacts(service=service, host=host):
            known, name = (service,), ("host", host)
        case CoapFacts(service=service):
            known = (service,)
        case SshFacts(server_banner=banner):
            name = "server", banner
        case FtpFacts(greeting=greeting):
            name = "server", greeting and greeting.strip("()")
        case MqttFacts(client_id=client):
            name = "client", client
        case SemtechUdpFacts(gateways=[gateway, *_]):
            name = "gateway", gateway
    label, text = name
    details = [detail for detail in known if detail]
    return [*details, f"{label} {text}"] if text and PLAIN_TEXT.fullmatch(text) else details


# -- hosts ------------------------------------------------------------------------------------------------------


def resolved_names(conversations: Iterable[Conversation]) -> dict[str, dict[str, None]]:
    """Address → the names that DNS gives it in the captures, in their order; without multicast name discovery.

    At most :data:`~analyzer.protocols.dns.MAX_NAMES_PER_ADDRESS` names per address.
    """
    found: dict[str, dict[str, None]] = {}
    for conversation in conversations:
        facts = conversation.dissection.facts
        if isinstance(facts, DnsFacts) and conversation.responder.port not in MULTICAST_PORTS:
            for address, names in facts._names.items():
                add_names(found.setdefault(address, {}), names)
    return found


def add_names(known: dict[str, None], names: Iterable[str]) -> None:
    """Add names of one address, up to the limit."""
    known.update(dict.fromkeys(list(names)[: max(0, MAX_NAMES_PER_ADDRESS - len(known))]))


def host_name(names: Iterable[str]) -> str | None:
    """The first of an address's names that is a valid host name; others are shown in JSON only."""
    return next(filter(HOST_NAME.fullmatch, names), None)
