"""Names of services in sentences."""

from __future__ import annotations

import tomllib

import pytest

from analyzer.expected import rules_folder
from analyzer.messages import Facts
from analyzer.naming import named_services, protocol_name, service_name
from analyzer.protocols.coap import CoapFacts
from analyzer.protocols.http import HttpFacts
from analyzer.protocols.tls import TlsFacts


@pytest.mark.parametrize(
    ("protocol", "transport", "port", "facts", "name"),
    [
        ("tls", "tcp", 853, TlsFacts(), "DNS over TLS on tcp/853"),
        ("tls", "tcp", 4460, TlsFacts(), "NTS key establishment on tcp/4460"),
        ("tls", "tcp", 14460, TlsFacts(alpn=("ntske/1",)), "NTS key establishment on tcp/14460"),
        ("tls", "tcp", 443, TlsFacts(server_name="a.example"), "HTTPS on tcp/443 (server name a.example)"),
        ("tls", "tcp", 8443, TlsFacts(alpn=("h2", "http/1.1")), "HTTPS on tcp/8443"),
        ("tls", "tcp", 3001, TlsFacts(), "TLS on tcp/3001"),
        ("http", "tcp", 7547, HttpFacts(service="TR-069 (CWMP)"), "HTTP in clear on tcp/7547 (TR-069 (CWMP))"),
        ("http", "tcp", 80, HttpFacts(), "HTTP in clear on tcp/80"),
        ("coap", "udp", 5683, CoapFacts({}, {}, (), "LwM2M bootstrap"), "CoAP in clear on udp/5683 (LwM2M bootstrap)"),
        ("semtech-udp", "udp", 1700, None, "Semtech's UDP packet forwarder protocol on udp/1700"),
        ("icmp", "icmp", None, None, "ICMP on icmp"),
        (None, "tcp", 8291, None, "tcp/8291, a port often used for MikroTik's Winbox"),
        (None, "udp", 5684, None, "udp/5684, the port of CoAP over DTLS"),
        (None, "udp", 40000, None, "udp/40000"),
        ("dtls", "udp", 5684, None, "CoAP over DTLS on udp/5684"),
        ("dtls", "udp", 853, None, "DTLS on udp/853"),
        (
            "tls",
            "tcp",
            8887,
            TlsFacts(server_name="lns.example", client_hint="Basics Station 2.0.6 with mbedTLS 2.28.0"),
            "Basics Station's LNS of The Things Stack over TLS on tcp/8887 "
            "(hello of Basics Station 2.0.6 with mbedTLS 2.28.0, server name lns.example)",
        ),
    ],
)
def test_service_name(protocol: str | None, transport: str, port: int | None, facts: Facts | None, name: str) -> None:
    assert service_name(protocol, transport, port, facts) == name


def test_protocol_name() -> None:
    assert [protocol_name(name) for name in ("tls", "iec104", "wireguard")] == ["TLS", "IEC 104 in clear", "WireGuard"]


def test_every_service_has_a_name_and_a_source() -> None:
    entries = tomllib.loads((rules_folder() / "services.toml").read_text(encoding="utf-8"))["service"]
    assert len(named_services()) == len(entries)
    for entry in entries:
        assert entry["source"] and (entry.get("name") or entry.get("tls"))
        assert entry.keys() <= {"transport", "port", "name", "tls", "hint", "source"}
