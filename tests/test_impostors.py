"""Who is base station and who is TPE, where others pretend to be either."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from analyzer.findings import Finding, Kind, Severity
from analyzer.result import Audit
from tests.protocols import test_dns
from tests.synthetic import (
    ESP,
    HTTP,
    IEC104,
    IKE_AUTH,
    IKE_INIT,
    SSH,
    STATION,
    TLS,
    TPE,
    Traffic,
    findings_of,
    statuses,
)

EVIL, NEIGHBOUR = "203.0.113.66", "10.0.0.99"
V6 = {STATION: "2001:db8::2", TPE: "2001:db8:9::1", EVIL: "2001:db8:66::66", NEIGHBOUR: "2001:db8::99"}
TLS_PORTS = (3001, 3002, 3003)


def serve(traffic: Traffic, client: str, server: str, *ports: int, first: int = 40000) -> Traffic:
    """Served TLS conversations."""
    for port in ports:
        traffic.tcp(client, first + port, server, port, TLS)
    return traffic


def tunnel(traffic: Traffic, client: str, server: str) -> Traffic:
    """A served tunnel: IKE, and ESP in UDP both ways."""
    traffic.exchange(client, 500, server, 500, IKE_INIT)
    traffic.udp(client, 4500, server, 4500, (">", IKE_AUTH), ("<", IKE_AUTH))
    return traffic.udp(client, 4500, server, 4500, (">", ESP), ("<", ESP))


def unexpected(result: Audit, host: str) -> list[Finding]:
    """The unexpected flows of medium severity and above that name a host."""
    return [
        finding
        for finding in result.findings
        if finding.kind is Kind.UNEXPECTED and finding.severity >= Severity.MEDIUM and host in finding.summary
    ]


# -- base station or core ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("reached", ["tls", "ipsec", "plain", "all"])
@pytest.mark.parametrize("six", [True, False])
@pytest.mark.parametrize("clients", [1, 3])
def test_client_of_a_base_station_takes_no_place(
    tmp_path: Path, before: bool, reached: str, six: bool, clients: int
) -> None:
    """Whoever is served by a base station, in whatever mode, before or after, is no base station, and it no TPE."""
    station, tpe, evil, neighbour = (V6[host] if six else host for host in (STATION, TPE, EVIL, NEIGHBOUR))
    traffic = Traffic()
    for own in (False, True) if before else (True, False):
        if own:
            serve(traffic, station, tpe, *TLS_PORTS)
        for number in () if own else range(clients):
            client = f"{neighbour[:-1]}{number}"
            if reached in ("tls", "all"):
                serve(traffic, client, station, *TLS_PORTS)
            if reached in ("ipsec", "all"):
                tunnel(traffic, client, station)
            if reached in ("plain", "all"):
                traffic.tcp(client, 41000, station, 2404, IEC104)
    result = traffic.tcp(station, 50000, evil, 8080, HTTP).audit(tmp_path)
    (found,) = result.base_stations
    assert (found.station.address, found.mode, found.tpe) == (station, "tls", (tpe,))
    assert {"i38": "present", "i39": "present", "i40": "present"}.items() <= statuses(result, station).items()
    assert unexpected(result, evil) and unexpected(result, neighbour[:-1])


def test_copy_of_a_tunnel_towards_a_base_station_is_not_its_own(tmp_path: Path) -> None:
    """The same SPIs between other hosts, before the tunnel: no MOBIKE."""
    traffic = tunnel(serve(tunnel(Traffic(), NEIGHBOUR, STATION), STATION, TPE, *TLS_PORTS), STATION, TPE)
    result = traffic.tcp(STATION, 50000, EVIL, 8080, HTTP).audit(tmp_path)
    assert [found.station.addresses for found in result.base_stations] == [(STATION,)]
    assert unexpected(result, EVIL) and unexpected(result, NEIGHBOUR)


def test_client_that_reaches_tpe_too_takes_no_place(tmp_path: Path) -> None:
    traffic = serve(serve(Traffic(), NEIGHBOUR, STATION, *TLS_PORTS), NEIGHBOUR, TPE, *TLS_PORTS, first=50000)
    result = serve(traffic, STATION, TPE, *TLS_PORTS).tcp(STATION, 50000, EVIL, 8080, HTTP).audit(tmp_path)
    assert {found.station.address for found in result.base_stations} == {STATION, NEIGHBOUR}
    assert unexpected(result, EVIL)


def test_proxy_in_front_of_tpe_is_no_base_station(tmp_path: Path) -> None:
    """What comes in by TLS from elsewhere and goes out in clear; but nobody knows it for certain."""
    proxy, lrc = "192.0.2.10", "192.0.2.20"
    traffic = serve(Traffic(), STATION, proxy, 3001).tcp(proxy, 50000, lrc, 2404, IEC104)
    result = traffic.audit(tmp_path)
    assert [(found.station.address, found.tpe) for found in result.base_stations] == [(STATION, (proxy,))]
    (finding,) = findings_of(result, "TPE026")
    assert finding.severity is Severity.MEDIUM and proxy in finding.summary and lrc in finding.summary
    assert not findings_of(traffic.audit(tmp_path, tpe=[proxy]), "TPE026")


# -- more than one TPE ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("door", ["tls", "ipsec"])
def test_impostor_serves_no_more_than_the_modes_protocol(tmp_path: Path, before: bool, door: str) -> None:
    traffic = Traffic()
    for own in (False, True) if before else (True, False):
        if own:
            serve(traffic, STATION, TPE, *TLS_PORTS).tcp(STATION, 41000, TPE, 22, SSH).echo(STATION, TPE)
        elif door == "ipsec":
            tunnel(traffic, STATION, EVIL)
        else:
            serve(traffic, STATION, EVIL, 3001)
    traffic.tcp(STATION, 42000, EVIL, 22, SSH).echo(STATION, EVIL, number=9)
    result = traffic.audit(tmp_path)
    (found,) = result.base_stations
    assert TPE in found.tpe
    assert sorted(finding.rows for finding in unexpected(result, EVIL)) == [("i3",), ("i4",)]
    assert not unexpected(result, TPE)
    assert all(f"--tpe {EVIL}" in finding.summary for finding in unexpected(result, EVIL))
    assert EVIL in findings_of(result, "TPE133")[0].summary
    assert not unexpected(traffic.audit(tmp_path, tpe=[TPE, EVIL]), EVIL)


def test_several_tpe_are_normal_in_high_availability(tmp_path: Path) -> None:
    traffic = serve(serve(Traffic(), STATION, TPE, *TLS_PORTS), STATION, EVIL, 3001).tcp(STATION, 42000, EVIL, 22, SSH)
    result = traffic.audit(tmp_path, deployment="ha")
    assert not unexpected(result, EVIL)
    (notice,) = findings_of(result, "TPE133")
    assert notice.severity is Severity.INFO and EVIL in notice.summary


def test_esp_of_a_stranger_makes_no_other_host_unexpected(tmp_path: Path) -> None:
    traffic = serve(Traffic(), STATION, TPE, *TLS_PORTS).tcp(STATION, 41000, TPE, 22, SSH).echo(STATION, TPE)
    for source, target in [(STATION, EVIL), (EVIL, STATION)] * 8:
        traffic.packet(source, target, 50, ESP)
    result = traffic.audit(tmp_path)
    assert not unexpected(result, TPE) and TPE in result.base_stations[0].tpe
    assert any(EVIL in finding.summary for finding in result.findings)


@pytest.mark.parametrize("six", [False, True])
def test_dns_makes_no_impostor_tpe(tmp_path: Path, six: bool) -> None:
    """A second address of TPE's name may be tried, as its rows are, but serves nothing else; of the other IP version it
    is the same node."""
    name, evil = test_dns.NAME, V6[EVIL] if six else EVIL
    kind, data = (28, socket.inet_pton(socket.AF_INET6, evil)) if six else (1, socket.inet_aton(evil))
    own = "2001:db8::2" if six else STATION
    mac = "70:76:ff:00:aa:10"
    traffic = Traffic({STATION: mac, own: mac})
    for number, (record, address) in enumerate(((1, socket.inet_aton(TPE)), (kind, data))):
        asked = test_dns.message(question=name + struct.pack(">HH", record, 1), flags=0x0100)
        answer = test_dns.message(test_dns.record(record, address), question=name + struct.pack(">HH", record, 1))
        traffic.exchange(STATION, 5000 + number, "192.0.2.53", 53, (asked, answer))
    serve(traffic, STATION, TPE, *TLS_PORTS).tcp(own, 41000, evil, 22, SSH)
    result = traffic.audit(tmp_path)
    (found,) = result.base_stations
    assert bool(unexpected(result, evil)) is not six and TPE in found.tpe
    assert evil in findings_of(result, "TPE133")[0].summary


@pytest.mark.parametrize("ports", [(4443,), (443, 4443)])
@pytest.mark.parametrize("content", [TLS, (b"uid=0(root)", b"ls -l")])
def test_stranger_on_other_modes_ports_changes_no_mode(
    tmp_path: Path, ports: tuple[int, ...], content: tuple[bytes, bytes]
) -> None:
    traffic = serve(Traffic(), STATION, TPE, 3001)
    for port in ports:
        traffic.tcp(STATION, 45555, EVIL, port, content, begins=False)
    result = traffic.audit(tmp_path)
    (found,) = result.base_stations
    assert (found.mode, found.tpe) == ("tls", (TPE,))
    assert unexpected(result, EVIL) and not unexpected(result, TPE)
