"""What belongs to a base station: its addresses, whatever comes from its MAC address, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyzer.findings import Finding, Kind, Severity
from analyzer.result import Audit
from tests.synthetic import HTTP, OTHER, STATION, TLS, TPE, Traffic, findings_of

MAC, ROUTER, NEIGHBOUR_MAC = "70:76:ff:00:aa:10", "00:00:5e:00:01:01", "02:00:00:00:00:66"
NEIGHBOUR = "10.0.0.66"
V6, PRIVATE_V6, OTHER_V6 = "2001:db8::2", "2001:db8::a1b2", "2001:db8:80::80"
ALIAS = "10.0.0.77"


def station(*addresses: str, hops: int = 64) -> Traffic:
    """A base station in mode tls, whose MAC address also uses these addresses; they are ``hops`` from their host."""
    own = {STATION: MAC, **dict.fromkeys(addresses, MAC)}
    traffic = Traffic({TPE: ROUTER, OTHER: ROUTER, OTHER_V6: ROUTER, **own}, dict.fromkeys(addresses, hops))
    traffic.times_to_live[TPE] = 63
    for port in (3001, 3002, 3003):
        traffic.tcp(STATION, 40000 + port, TPE, port, TLS)
    return traffic


def unexpected(result: Audit, address: str = STATION) -> list[Finding]:
    """The unexpected flows of a base station at medium and above."""
    return [
        finding
        for finding in result.findings
        if finding.kind is Kind.UNEXPECTED and finding.severity >= Severity.MEDIUM and finding.base_station == address
    ]


def names(findings: list[Finding], host: str) -> bool:
    """Whether one of the findings names a host."""
    return any(host in finding.summary for finding in findings)


# -- its own ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alias", [ALIAS, "192.168.77.7", "172.20.1.1"])
@pytest.mark.parametrize("vlan", [False, True])
def test_alias_is_an_address_of_the_station(tmp_path: Path, alias: str, vlan: bool) -> None:
    traffic = station(alias)
    before = len(traffic.packets)
    traffic.tcp(alias, 50000, OTHER, 8080, HTTP)
    if vlan:
        traffic.packets[before:] = [
            (time, frame[:12] + b"\x81\x00\x00\x07" + frame[12:]) for time, frame in traffic.packets[before:]
        ]
    result = traffic.audit(tmp_path)
    (found,) = result.base_stations
    assert found.station.addresses == tuple(
        sorted((STATION, alias), key=lambda text: [int(x) for x in text.split(".")])
    )
    assert found.station.address == STATION and found.station.mac == MAC
    assert names(unexpected(result), OTHER)


def test_ipv6_addresses_for_privacy_are_the_stations(tmp_path: Path) -> None:
    traffic = station(V6, PRIVATE_V6)
    traffic.tcp(V6, 50000, OTHER_V6, 8080, HTTP).tcp(PRIVATE_V6, 50000, OTHER_V6, 8080, HTTP)
    result = traffic.audit(tmp_path)
    assert [found.station.addresses for found in result.base_stations] == [(STATION, V6, PRIVATE_V6)]
    assert names(unexpected(result), OTHER_V6)


@pytest.mark.parametrize("source", ["10.0.0.99", "198.51.100.9", "0.0.0.0", TPE, NEIGHBOUR])
def test_whatever_its_mac_address_sends_is_the_stations(tmp_path: Path, source: str) -> None:
    traffic = station().tcp(NEIGHBOUR, 40000, OTHER, 443, TLS)
    traffic.macs[source], traffic.times_to_live[source] = MAC, 64
    traffic.udp(source, 5000, "255.255.255.255", 9999, (">", bytes(900)))
    traffic.udp(source, 5000, OTHER, 9999, (">", bytes(900)))
    found = unexpected(traffic.audit(tmp_path))
    assert names(found, "255.255.255.255") and names(found, OTHER) and len(found) == 2


def test_whatever_it_sends_from_the_unspecified_ipv6_address_is_the_stations(tmp_path: Path) -> None:
    traffic = station("::").udp("::", 5000, "ff02::99", 9999, (">", bytes(900)))
    assert names(unexpected(traffic.audit(tmp_path)), "ff02::99")


def test_whatever_arrives_at_its_mac_address_is_the_stations(tmp_path: Path) -> None:
    """An address of the station that never answers."""
    traffic = station(ALIAS).udp(OTHER, 5000, ALIAS, 9999, (">", bytes(900)))
    assert names(unexpected(traffic.audit(tmp_path)), OTHER)


def test_hosts_without_an_address_are_told_apart(tmp_path: Path) -> None:
    """A neighbour that sends the same from 0.0.0.0 before hides nothing."""
    traffic = station()
    for mac in (NEIGHBOUR_MAC, MAC):
        traffic.macs["0.0.0.0"] = mac
        traffic.udp("0.0.0.0", 5000, "255.255.255.255", 9999, (">", bytes(900)))
    (finding,) = unexpected(traffic.audit(tmp_path))
    assert finding.count == 1


@pytest.mark.parametrize("name", [MAC, MAC.upper().replace(":", "-")])
def test_named_mac_address_finds_all_that_it_uses(tmp_path: Path, name: str) -> None:
    traffic = Traffic({STATION: MAC, ALIAS: MAC, V6: MAC}, {ALIAS: 63})
    traffic.tcp(STATION, 50000, OTHER, 8080, HTTP).tcp(ALIAS, 50000, OTHER, 8080, HTTP)
    traffic.tcp(V6, 50000, OTHER_V6, 8080, HTTP)
    result = traffic.audit(tmp_path, base_stations=[name], mode="tls")
    assert [found.station.addresses for found in result.base_stations] == [(STATION, ALIAS, V6)]
    assert {finding.count for finding in unexpected(result)} == {2, 1}


def test_time_to_live_that_was_changed_hides_no_address(tmp_path: Path) -> None:
    """The MAC address is one of a vendor of base stations, and all of its packets have the same time to live."""
    traffic = station(ALIAS, hops=63)
    traffic.packets.clear()
    traffic.times_to_live[STATION] = 63
    traffic.tcp(STATION, 40000, TPE, 3001, TLS).tcp(ALIAS, 50000, OTHER, 8080, HTTP)
    result = traffic.audit(tmp_path)
    assert [found.station.addresses for found in result.base_stations] == [(STATION, ALIAS)]
    assert names(unexpected(result), OTHER)


def test_named_address_brings_its_other_addresses(tmp_path: Path) -> None:
    result = station(ALIAS, V6).tcp(ALIAS, 50000, OTHER, 8080, HTTP).tcp(V6, 50000, OTHER_V6, 8080, HTTP)
    result = result.audit(tmp_path, base_stations=[STATION])
    assert [found.station.addresses for found in result.base_stations] == [(STATION, ALIAS, V6)]
    assert names(unexpected(result), OTHER) and names(unexpected(result), OTHER_V6)


# -- rumours ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["10.0.0.99", "198.51.100.9", TPE])
@pytest.mark.parametrize("hops", [64, 63, 7])
def test_forged_broadcast_revokes_no_address(tmp_path: Path, source: str, hops: int) -> None:
    """Packets with its MAC address and anybody's address make no router of a base station, nor TPE part of it."""
    traffic = station(V6, PRIVATE_V6)
    for _ in range(40):
        forged = Traffic({source: MAC}, {source: hops}).udp(source, 1, "255.255.255.255", 9, (">", b"x"))
        traffic.packets.append((traffic.packets[-1][0] + 0.001, forged.packets[0][1]))
    traffic.at(2).tcp(V6, 50000, OTHER_V6, 8080, HTTP)
    result = traffic.audit(tmp_path)
    (found,) = result.base_stations
    assert {STATION, V6} <= set(found.station.addresses) and TPE not in found.station.addresses
    assert result.base_stations[0].tpe == (TPE,)
    assert names(unexpected(result), OTHER_V6)


@pytest.mark.parametrize("hops", [64, 63])
def test_forged_sender_makes_no_neighbour_part_of_the_station(tmp_path: Path, hops: int) -> None:
    traffic = station()
    forged = Traffic({STATION: NEIGHBOUR_MAC}, {STATION: hops}).udp(STATION, 1, OTHER, 9, *[(">", b"x")] * 300)
    traffic.packets += [(time + 1, frame) for time, frame in forged.packets]
    traffic.macs[NEIGHBOUR] = NEIGHBOUR_MAC
    traffic.at(5).tcp(NEIGHBOUR, 50000, OTHER, 8080, HTTP)
    result = traffic.audit(tmp_path)
    (found,) = result.base_stations
    assert found.station.addresses == (STATION,) and found.station.mac == MAC
    assert not names(unexpected(result), "8080")


# -- routers ------------------------------------------------------------------------------------------------------


def test_station_that_forwards_is_told(tmp_path: Path) -> None:
    """A time to live that was decremented makes it another host's packet, or one in the guise of another host's."""
    result = station(ALIAS, hops=63).tcp(ALIAS, 50000, OTHER, 8080, HTTP).audit(tmp_path)
    (finding,) = findings_of(result, "TPE110")
    assert finding.severity is Severity.MEDIUM and finding.base_station == STATION
    assert finding.summary == f"{STATION} forwards packets of {ALIAS} to {OTHER} in 1 flow."
    assert finding.filter == f"eth.addr == {MAC} && (ip.addr == {ALIAS})"


@pytest.mark.parametrize("hops", [63, 57, 127])
def test_stations_behind_one_router_are_many(tmp_path: Path, hops: int) -> None:
    addresses = [f"10.0.0.{number}" for number in range(2, 32)]
    traffic = Traffic(dict.fromkeys(addresses, ROUTER), dict.fromkeys([*addresses, "10.0.0.200"], hops))
    traffic.macs["10.0.0.200"] = ROUTER
    for address in addresses:
        traffic.tcp(address, 40000, TPE, 3001, TLS)
    result = traffic.tcp("10.0.0.200", 50000, OTHER, 8080, HTTP).audit(tmp_path)
    assert [found.station.addresses for found in result.base_stations] == [(address,) for address in addresses]
    assert not any(found.station.mac for found in result.base_stations)
    assert not findings_of(result, "TPE110") and not names(result.findings, OTHER)


@pytest.mark.parametrize("count", [2, 3, 30])
def test_links_to_one_service_at_the_same_time_tell_stations_apart(tmp_path: Path, count: int) -> None:
    """Behind a bridge that leaves the time to live as it is."""
    addresses = [f"10.0.0.{number}" for number in range(2, 2 + count)]
    traffic = Traffic(dict.fromkeys(addresses, ROUTER))
    for address in addresses:
        traffic.tcp(address, 40000, TPE, 3001, TLS)
    for address in addresses:
        for direction, source, port, target, service in (
            (0, address, 40000, TPE, 3001),
            (1, TPE, 3001, address, 40000),
        ):
            record = b"\x17\x03\x03\x00\x20" + bytes(range(32))
            sequence = (1000, 5000)[direction] + len(TLS[direction])
            traffic.segment(source, port, target, service, 0x18, seq=sequence, ack=1, payload=record)
    found = [station.station.addresses for station in traffic.audit(tmp_path).base_stations]
    assert found == [(address,) for address in addresses]


def test_many_addresses_that_use_tpe_are_many_stations(tmp_path: Path) -> None:
    """One after another, with the time to live of hosts."""
    addresses = [f"10.0.0.{number}" for number in range(2, 32)]
    traffic = Traffic(dict.fromkeys(addresses, ROUTER))
    for address in addresses:
        traffic.tcp(address, 40000, TPE, 3001, TLS, duration=1)
    assert len(traffic.audit(tmp_path).base_stations) == 30


def test_addresses_of_one_link_behind_one_mac_address_are_one_station(tmp_path: Path) -> None:
    """One link after another: the station took another address."""
    traffic = Traffic({STATION: MAC, ALIAS: MAC})
    traffic.tcp(STATION, 40000, TPE, 3001, TLS, duration=1).at(10).tcp(ALIAS, 40000, TPE, 3001, TLS)
    assert [found.station.addresses for found in traffic.audit(tmp_path).base_stations] == [(STATION, ALIAS)]
