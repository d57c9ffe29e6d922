"""Base stations: how they are recognised, which addresses are one device, their modes, and their TPE."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from analyzer import audit
from analyzer.expected import load
from analyzer.findings import Severity
from analyzer.scanner.columns import ACK, SYN
from analyzer.stations import Interfaces, NamedHosts, Station, find_stations
from tests import build
from tests.synthetic import (
    ESP,
    HTTP,
    IEC104,
    IKE_AUTH,
    IKE_INIT,
    NTP,
    OTHER,
    SSH,
    STATION,
    TLS,
    TPE,
    Traffic,
    findings_of,
    statuses,
)

SECOND = "10.0.0.3"
V6, TPE6 = "2001:db8::2", "2001:db8:9::1"
MAC, ROUTER = "70:76:ff:00:aa:10", "00:00:5e:00:01:01"


def stations(traffic: Traffic, folder: Path, *names: str, tpe: tuple[str, ...] = ()) -> tuple[Station, ...]:
    found, unjudged, *_ = find_stations(traffic.conversations(folder), load(), NamedHosts(names, tpe))
    assert not unjudged
    return found


def addresses(traffic: Traffic, folder: Path, *names: str, tpe: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    return [station.addresses for station in stations(traffic, folder, *names, tpe=tpe)]


def busy() -> Traffic:
    """Two base stations, their TPE, and a host that only asks for the time."""
    traffic = Traffic({STATION: MAC})
    traffic.tcp(STATION, 40000, TPE, 3001, TLS).tcp(SECOND, 40000, TPE, 3001, TLS)
    return traffic.exchange("10.0.0.9", 123, OTHER, 123, NTP)


# -- named by the user ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (STATION, [STATION]),
        (MAC, [STATION]),
        (MAC.upper().replace(":", "-"), [STATION]),
        ("10.0.0.0/29", [STATION, SECOND]),
        ("10.0.0.9", ["10.0.0.9"]),
        ("10.7.7.7", []),
        ("02:00:00:00:00:99", []),
    ],
)
def test_named_hosts_are_the_only_base_stations(tmp_path: Path, name: str, expected: list[str]) -> None:
    found = stations(busy(), tmp_path, name)
    assert [station.address for station in found] == expected
    assert all(station.named and station.evidence == ("named by the user",) for station in found)


@pytest.mark.parametrize("name", ["", "bs1.example", "10.0.0", "10.0.0.2/33", "70:76:ff:00:aa", "10.0.0.2;rm"])
def test_invalid_name_is_a_usage_error(name: str) -> None:
    with pytest.raises(ValueError, match="no address, network or MAC address"):
        NamedHosts((name,))


def test_tpe_cannot_be_named_by_mac_address() -> None:
    with pytest.raises(ValueError, match="no address"):
        NamedHosts((), (MAC,))


# -- recognised by their flows -----------------------------------------------------------------------------------


def test_originator_of_a_signature_row_is_a_base_station(tmp_path: Path) -> None:
    found = stations(busy(), tmp_path)
    assert [station.address for station in found] == [STATION, SECOND]
    assert not found[0].named
    assert found[0].mac == MAC
    assert found[0].evidence == ("opens flow 1 of row i38 (ipsec)", "opens flow 1 of row i38 (tls)")[-1:]


@pytest.mark.parametrize("reset", [False, True])
def test_attempt_identifies_a_base_station(tmp_path: Path, reset: bool) -> None:
    assert addresses(Traffic().syn(STATION, 40000, TPE, 2404, reset), tmp_path) == [(STATION,)]


def test_ntp_ssh_and_ping_identify_no_base_station(tmp_path: Path) -> None:
    traffic = Traffic().exchange(STATION, 123, TPE, 123, NTP).tcp(STATION, 40000, TPE, 22, SSH).echo(STATION, TPE)
    assert addresses(traffic, tmp_path) == []


def test_tpe_that_opens_a_signature_row_is_no_base_station(tmp_path: Path) -> None:
    traffic = Traffic().tcp(TPE, 50000, STATION, 3001, HTTP)
    traffic.tcp(STATION, 40000, TPE, 3001, TLS).tcp(STATION, 40001, TPE, 3002, TLS)
    assert addresses(traffic, tmp_path) == [(STATION,)]


def test_scanner_of_a_base_station_is_no_base_station(tmp_path: Path) -> None:
    traffic = Traffic()
    for port in (443, 2404, 3001, 3002, 3003, 4443):
        traffic.syn("10.0.0.66", 50000, STATION, port, reset=True)
    traffic.tcp(STATION, 40000, TPE, 3001, TLS)
    assert addresses(traffic, tmp_path) == [(STATION,)]


def test_named_tpe_restricts_signatures_to_flows_towards_it(tmp_path: Path) -> None:
    traffic = Traffic().tcp(STATION, 40000, TPE, 3001, TLS).tcp("10.0.0.50", 40000, OTHER, 4443, TLS)
    assert addresses(traffic, tmp_path) == [(STATION,), ("10.0.0.50",)]
    assert addresses(traffic, tmp_path, tpe=("10.0.9.0/24",)) == [(STATION,)]


def test_ike_initiator_flag_identifies_the_base_station_midstream(tmp_path: Path) -> None:
    traffic = Traffic().udp(TPE, 4500, STATION, 4500, ("<", IKE_AUTH), (">", ESP))
    assert addresses(traffic, tmp_path) == [(STATION,)]


@pytest.mark.parametrize("names", [((STATION,), ()), ((), (TPE,))])
def test_named_hosts_decide_which_end_of_esp_is_the_base_station(
    tmp_path: Path, names: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    traffic = Traffic().packet(TPE, STATION, 50, ESP).packet(STATION, TPE, 50, ESP)
    ((found,), *_) = find_stations(traffic.conversations(tmp_path), load(), NamedHosts(*names))
    assert found.address == STATION
    assert {(signature.client, signature.server) for signature in found.signatures} == {(STATION, TPE)}


# -- strangers beside a base station -----------------------------------------------------------------------------


def strangers(traffic: Traffic, folder: Path) -> list[str]:
    return [stranger.address for stranger in find_stations(traffic.conversations(folder), load(), NamedHosts())[2]]


def attempts(traffic: Traffic, client: str, count: int, gap: float, port: int = 3001) -> Traffic:
    """Unanswered connections to TPE, ``gap`` seconds apart."""
    begin = traffic.clock
    for number in range(count):
        traffic.at(begin + number * gap).syn(client, 41000 + number, TPE, port)
    return traffic


def test_host_that_tries_once_beside_a_served_station_is_a_stranger(tmp_path: Path) -> None:
    traffic = attempts(busy(), "203.0.113.9", 1, 0)
    assert addresses(traffic, tmp_path) == [(STATION,), (SECOND,)]
    assert strangers(traffic, tmp_path) == ["203.0.113.9"]
    result = traffic.audit(tmp_path)
    (notice,) = findings_of(result, "TPE018")
    assert notice.severity is Severity.INFO
    assert "203.0.113.9" in notice.summary and "--base-station" in notice.summary
    assert not result.fails()


def test_station_that_keeps_trying_and_is_kept_out_does_not_vanish(tmp_path: Path) -> None:
    assert addresses(attempts(busy(), "10.0.5.5", 3, 20), tmp_path) == [(STATION,), (SECOND,), ("10.0.5.5",)]
    assert strangers(attempts(busy(), "10.0.5.5", 3, 5), tmp_path) == ["10.0.5.5"], "within ten seconds"
    scanner = attempts(busy(), "10.0.5.5", 3, 20).syn("10.0.5.5", 42000, TPE, 8080)
    assert strangers(scanner, tmp_path) == ["10.0.5.5"], "it also tries a port that no table lists"


def test_health_check_is_a_stranger(tmp_path: Path) -> None:
    """A load balancer connects again and again, and closes before it sends a byte."""
    traffic = busy()
    for number in range(5):
        traffic.at(10.0 + 20 * number).tcp("10.0.5.5", 41000 + number, TPE, 3001)
    assert strangers(traffic, tmp_path) == ["10.0.5.5"]


def test_device_of_the_same_vendor_and_network_is_a_base_station(tmp_path: Path) -> None:
    for mac, expected in (("70:76:ff:00:aa:11", []), ("00:1b:21:00:aa:11", ["10.0.0.77"])):
        traffic = Traffic({STATION: MAC, "10.0.0.77": mac}).tcp(STATION, 40000, TPE, 3001, TLS)
        assert strangers(traffic.syn("10.0.0.77", 41000, TPE, 3001), tmp_path) == expected


def test_https_alone_makes_a_base_station_only_without_any_other_candidate(tmp_path: Path) -> None:
    browsing = Traffic().tcp("10.0.0.77", 40000, OTHER, 443, TLS)
    assert addresses(browsing, tmp_path) == [("10.0.0.77",)]
    assert strangers(browsing.tcp(STATION, 40000, TPE, 3001, TLS), tmp_path) == ["10.0.0.77"]


# -- one device, several addresses ------------------------------------------------------------------------------


def test_addresses_with_one_mac_address_are_one_station(tmp_path: Path) -> None:
    traffic = Traffic({STATION: MAC, V6: MAC, "fe80::2": MAC})
    traffic.tcp(STATION, 40000, TPE, 3001, TLS).tcp(V6, 40000, TPE6, 3002, TLS).echo("fe80::2", "fe80::1")
    (found,) = stations(traffic, tmp_path)
    assert found.addresses == (STATION, V6, "fe80::2")
    assert found.address == STATION


def test_addresses_behind_a_router_are_separate_stations(tmp_path: Path) -> None:
    macs = {STATION: ROUTER, SECOND: ROUTER, V6: ROUTER}
    traffic = Traffic(macs, dict.fromkeys(macs, 63))
    traffic.tcp(STATION, 40000, TPE, 3001, TLS).tcp(SECOND, 40000, TPE, 3001, TLS).tcp(V6, 40000, TPE6, 3001, TLS)
    found = stations(traffic, tmp_path)
    assert [station.addresses for station in found] == [(STATION,), (SECOND,), (V6,)]
    assert [station.mac for station in found] == [None, None, None]
    assert ROUTER not in Interfaces(traffic.conversations(tmp_path)).owners.values()


def test_addresses_of_a_moved_ike_sa_are_one_station(tmp_path: Path) -> None:
    elsewhere = "172.16.0.2"
    traffic = Traffic().exchange(STATION, 500, TPE, 500, IKE_INIT)
    traffic.udp(STATION, 4500, TPE, 4500, (">", IKE_AUTH), ("<", IKE_AUTH))
    traffic.udp(elsewhere, 4500, TPE, 4500, (">", IKE_AUTH), ("<", IKE_AUTH), (">", ESP))
    assert addresses(traffic, tmp_path) == [(STATION, elsewhere)]
    assert addresses(traffic, tmp_path, STATION) == [(STATION, elsewhere)]


def test_addresses_of_a_moved_esp_sa_are_one_station(tmp_path: Path) -> None:
    """A NAT rebinds while no IKE passes. Without the SPI of the way back, somebody may only send old packets again."""
    elsewhere = "172.16.0.2"
    there, back = (struct.pack(">II", spi, 1) + bytes(range(64)) for spi in (0xC1000001, 0xC2000001))
    moved = Traffic()
    for address in (STATION, elsewhere):
        moved.udp(address, 4500, TPE, 4500, (">", there), ("<", back))
    assert addresses(moved, tmp_path) == [(STATION, elsewhere)]
    replayed = (
        Traffic().udp(STATION, 4500, TPE, 4500, (">", there), ("<", back)).udp(elsewhere, 4500, TPE, 4500, (">", there))
    )
    assert addresses(replayed, tmp_path) == [(STATION,)]


def test_stations_of_one_tpe_are_separate(tmp_path: Path) -> None:
    other = bytes(4) + b"another1" + IKE_AUTH[12:]
    traffic = Traffic().udp(STATION, 4500, TPE, 4500, (">", IKE_AUTH), ("<", IKE_AUTH))
    traffic.udp(SECOND, 4500, TPE, 4500, (">", other), ("<", other))
    assert addresses(traffic, tmp_path) == [(STATION,), (SECOND,)]


# -- modes ------------------------------------------------------------------------------------------------------


def mode(traffic: Traffic, folder: Path, **options: object) -> str:
    (station,) = traffic.audit(folder, **options).base_stations
    return station.mode


def tunnel(traffic: Traffic) -> Traffic:
    traffic.exchange(STATION, 500, TPE, 500, IKE_INIT)
    return traffic.udp(STATION, 4500, TPE, 4500, (">", IKE_AUTH), ("<", IKE_AUTH), (">", ESP), ("<", ESP))


def plain(traffic: Traffic) -> Traffic:
    return traffic.tcp(STATION, 40000, TPE, 2404, IEC104)


def tls(traffic: Traffic) -> Traffic:
    return traffic.tcp(STATION, 41000, TPE, 3001, TLS)


def basics(traffic: Traffic) -> Traffic:
    return traffic.tcp(STATION, 42000, TPE, 4443, TLS)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ((tunnel,), "ipsec"),
        ((tls,), "tls"),
        ((basics,), "basics"),
        ((plain,), "plain"),
        ((plain, basics, tls, tunnel), "ipsec"),
        ((plain, basics, tls), "tls"),
        ((plain, basics), "basics"),
    ],
)
def test_most_protected_mode_wins(
    tmp_path: Path, shown: tuple[Callable[[Traffic], Traffic], ...], expected: str
) -> None:
    traffic = Traffic()
    for add in shown:
        add(traffic)
    assert mode(traffic, tmp_path) == expected


def test_established_conversation_outranks_an_attempt(tmp_path: Path) -> None:
    traffic = plain(Traffic().syn(STATION, 40009, TPE, 3001).udp(STATION, 500, TPE, 500, (">", IKE_INIT[0])))
    assert mode(traffic, tmp_path) == "plain"


def test_most_protected_mode_wins_among_attempts(tmp_path: Path) -> None:
    assert mode(Traffic().syn(STATION, 1, TPE, 2404).syn(STATION, 2, TPE, 3001, reset=True), tmp_path) == "tls"


def test_content_does_not_change_the_mode(tmp_path: Path) -> None:
    assert mode(Traffic().tcp(STATION, 40000, TPE, 3001, HTTP), tmp_path) == "tls"


def test_tls_rows_of_the_ipsec_table_do_not_contradict_the_mode(tmp_path: Path) -> None:
    result = tls(tunnel(Traffic())).audit(tmp_path)
    assert [station.mode for station in result.base_stations] == ["ipsec"]
    assert statuses(result)["i38"] == "present"
    assert not findings_of(result, "TPE131") and not findings_of(result, "TPE104")


def test_cleartext_beside_a_tunnel_contradicts_the_mode(tmp_path: Path) -> None:
    result = plain(tunnel(Traffic())).audit(tmp_path)
    (notice,) = findings_of(result, "TPE131")
    assert "also shows flows of mode plain" in notice.summary
    (finding,) = findings_of(result, "TPE104")
    assert finding.severity is Severity.HIGH
    assert (finding.rows, finding.mismatch) == (("i6",), "mode")
    assert "row i6 of mode plain" in finding.summary and "its mode ipsec" in finding.summary


def test_https_to_a_stranger_is_no_evidence_of_mode_basics(tmp_path: Path) -> None:
    result = tls(Traffic()).tcp(STATION, 43000, OTHER, 443, TLS).audit(tmp_path)
    assert [station.mode for station in result.base_stations] == ["tls"]
    assert not findings_of(result, "TPE131") and not findings_of(result, "TPE104")
    assert [finding.severity for finding in findings_of(result, "TPE101")] == [Severity.MEDIUM]


def test_certificate_checks_beside_unanswered_ike_are_mode_ipsec(tmp_path: Path) -> None:
    """In mode ipsec an LRR checks certificates by short connections to 3001 to 3003."""
    traffic = Traffic().udp(STATION, 500, TPE, 500, (">", IKE_INIT[0]), (">", IKE_INIT[0]))
    result = tls(traffic).at(60).exchange("10.7.7.7", 123, OTHER, 123, NTP).audit(tmp_path)
    assert [station.mode for station in result.base_stations] == ["ipsec"]
    assert statuses(result)["i1"].startswith("blocked")


def test_link_that_lives_on_beside_unanswered_ike_is_mode_tls(tmp_path: Path) -> None:
    traffic = Traffic().udp(STATION, 500, TPE, 500, (">", IKE_INIT[0]))
    tls(traffic)
    for number in range(10):  # a record of application data every 20 s
        record = b"\x17\x03\x03\x00\x20" + bytes([number]) * 32
        seq = 1000 + len(TLS[0]) + number * len(record)
        traffic.at(20.0 * number + 20).segment(STATION, 41000, TPE, 3001, 0x18, seq, 5000 + len(TLS[1]), record)
    assert mode(traffic, tmp_path) == "tls"


def test_user_overrides_the_mode(tmp_path: Path) -> None:
    result = tls(Traffic()).audit(tmp_path, mode="plain")
    (station,) = result.base_stations
    assert (station.mode, station.mode_evidence, station.tpe) == ("plain", ("named by the user",), ())
    assert statuses(result)["i6"] == "missing, weak"
    assert [station.mode for station in tls(Traffic()).audit(tmp_path, mode="ipsec").base_stations] == ["ipsec"]


def test_overridden_mode_keeps_the_detected_tpe(tmp_path: Path) -> None:
    result = tls(Traffic()).echo(STATION, TPE).audit(tmp_path, mode="plain")
    assert statuses(result)["i3"] == "present"


def test_no_row_is_missing_in_mode_unknown(tmp_path: Path) -> None:
    traffic = Traffic().exchange(STATION, 123, OTHER, 123, NTP).tcp(STATION, 40000, OTHER, 8080, HTTP)
    result = traffic.audit(tmp_path, base_stations=[STATION])
    assert [station.mode for station in result.base_stations] == ["unknown"]
    assert set(statuses(result).values()) == {"present", "absent"}
    assert [finding.count for finding in findings_of(result, "TPE132")] == [1]
    assert not [finding for finding in result.findings if finding.kind.value == "missing"]
    (finding,) = findings_of(result, "TPE101")
    assert "tcp/8080" in finding.summary


# -- the inside of a tunnel -------------------------------------------------------------------------------------

TUNNEL = [
    build.cooked(build.ip(*ends, 50, struct.pack(">II", spi, number) + bytes(range(64))))
    for number in range(1, 4)
    for ends, spi in (((STATION, TPE), 0xC1), ((TPE, STATION), 0xC2))
]
"""ESP packets in both directions, with link-layer addresses."""


def bare(packet: bytes) -> bytes:
    """A packet of a virtual interface in a capture on all interfaces: LINKTYPE_LINUX_SLL without an address."""
    return struct.pack(">HHH", 0, 65534, 0) + bytes(8) + b"\x08\x00" + packet


def test_inside_of_a_tunnel_is_no_cleartext_beside_it(tmp_path: Path) -> None:
    """A capture on all interfaces of the base station shows the tunnel's inside on its virtual interface."""
    inner = [
        build.ip("10.250.0.1", "10.251.0.1", 6, build.tcp_header(40000, 2404, SYN, 1)),
        build.ip("10.251.0.1", "10.250.0.1", 6, build.tcp_header(2404, 40000, SYN | ACK, 1)),
        build.ip("10.250.0.1", "10.251.0.1", 6, build.tcp_header(40000, 2404, ACK, 2) + b"\x68\x04\x43\0\0\0"),
    ]
    seen = tmp_path / "any.pcap"
    seen.write_bytes(build.pcap(build.timed([*TUNNEL[:2], *map(bare, inner), *TUNNEL[2:]]), linktype=113))
    beside = tmp_path / "beside.pcap"
    beside.write_bytes(build.pcap(build.timed([*TUNNEL[:2], *map(build.cooked, inner), *TUNNEL[2:]]), linktype=113))
    inside, clear = audit(seen), audit(beside)
    assert [verdict.mode for verdict in inside.base_stations] == ["ipsec"]
    assert [finding.check for finding in inside.findings if finding.check == "TPE135"] == ["TPE135"]
    assert "plain" in [verdict.mode for verdict in clear.base_stations]
    assert not any(finding.check == "TPE135" for finding in clear.findings)


def test_uplink_without_link_layer_addresses_hides_nothing(tmp_path: Path) -> None:
    """Cleartext to the tunnel's own end is beside the tunnel, whatever interface it takes."""
    clear = [
        bare(build.ip("10.0.0.2", "10.0.9.1", 6, build.tcp_header(40000, 2404, SYN, 1))),
        bare(build.ip("10.0.9.1", "10.0.0.2", 6, build.tcp_header(2404, 40000, SYN | ACK, 1))),
        bare(build.ip("10.0.0.2", "10.0.9.1", 6, build.tcp_header(40000, 2404, ACK, 2) + b"\x68\x04\x43\0\0\0")),
    ]
    capture = tmp_path / "cellular.pcap"
    capture.write_bytes(build.pcap(build.timed([*TUNNEL, *clear]), linktype=113))
    result = audit(capture)
    assert [verdict.mode for verdict in result.base_stations] == ["ipsec"]
    assert ("TPE104", ("i6",), Severity.HIGH) in [
        (finding.check, finding.rows, finding.severity) for finding in result.findings
    ]
    assert not any(finding.check == "TPE135" for finding in result.findings)


def handed_back(gap: float) -> Traffic:
    """A tunnel whose receiving kernel hands back an answer of a host behind it, ``gap`` seconds after each ESP
    packet."""
    inner = "10.251.0.1"
    traffic = Traffic({TPE: ROUTER, inner: ROUTER})
    for number in range(1, 31):
        for ends, spi in (((STATION, TPE), 0xC1), ((TPE, STATION), 0xC2)):
            traffic.at(number + spi / 1000).packet(*ends, 50, struct.pack(">II", spi, number) + bytes(128))
        if number in (3, 5, 28):
            traffic.at(number + 0xC2 / 1000 + gap).echo(STATION, inner, asked=False, number=number)
    return traffic


def test_answers_straight_after_esp_are_the_inside_of_the_tunnel(tmp_path: Path) -> None:
    """The last one comes after the ESP packets whose times are kept."""
    result = handed_back(0.00003).audit(tmp_path)
    (notice,) = findings_of(result, "TPE135")
    assert notice.summary.startswith("3 conversations")
    assert not findings_of(handed_back(0.3).audit(tmp_path), "TPE135")


# -- TPE --------------------------------------------------------------------------------------------------------


def test_several_tpe_addresses_in_a_standalone_deployment_are_reported(tmp_path: Path) -> None:
    traffic = tls(Traffic()).tcp(STATION, 41001, "10.0.9.2", 3002, TLS)
    result = traffic.audit(tmp_path)
    assert [station.tpe for station in result.base_stations] == [(TPE, "10.0.9.2")]
    (notice,) = findings_of(result, "TPE133")
    assert "10.0.9.1 serves i38; 10.0.9.2 serves i39" in notice.summary
    (normal,) = findings_of(traffic.audit(tmp_path, deployment="ha"), "TPE133")
    assert normal.severity is Severity.INFO
    assert not findings_of(traffic.audit(tmp_path, tpe=["10.0.9.0/28"]), "TPE133")


def test_host_that_never_answers_is_no_tpe_if_another_one_does(tmp_path: Path) -> None:
    """A forged IKE REDIRECT or DNS answer makes no TPE. In a HA deployment, one of several nodes may be down."""
    traffic = Traffic().tcp(STATION, 40000, TPE, 3001, TLS).syn(STATION, 40001, OTHER, 3001)
    result = traffic.audit(tmp_path)
    assert result.base_stations[0].tpe == (TPE,)
    (finding,) = findings_of(result, "TPE101")
    assert (finding.rows, finding.mismatch) == (("i38",), "destination")
    assert set(traffic.audit(tmp_path, deployment="ha").base_stations[0].tpe) == {TPE, OTHER}
    alone = Traffic().syn(STATION, 40001, OTHER, 3001).audit(tmp_path)
    assert alone.base_stations[0].tpe == (OTHER,)


def dns_answer(address: str) -> bytes:
    """An answer that gives an address to ``tpe.example``."""
    kind = 28 if ":" in address else 1
    packed = socket.inet_pton(socket.AF_INET6 if kind == 28 else socket.AF_INET, address)
    question = b"\x03tpe\x07example\x00" + struct.pack(">HH", kind, 1)
    record = b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(packed)) + packed
    return struct.pack(">HHHHHH", kind, 0x8180, 1, 1, 0, 0) + question + record


def test_other_address_of_the_name_of_tpe_is_tpe_and_its_silence_is_told(tmp_path: Path) -> None:
    traffic = Traffic({STATION: MAC, V6: MAC})
    for address in (TPE, TPE6):
        traffic.udp(STATION, 5353 + len(address), "10.0.0.1", 53, ("<", dns_answer(address)))
    tls(traffic).syn(V6, 40000, TPE6, 3001).syn(V6, 40001, TPE6, 3001)
    result = traffic.audit(tmp_path)
    (station,) = result.base_stations
    assert set(station.tpe) == {TPE, TPE6}
    assert not findings_of(result, "TPE101")
    (notice,) = findings_of(result, "TPE019")
    assert f"IPv6 address {TPE6} of TPE, given for tpe.example, never answered 2 attempts" in notice.summary
    assert notice.severity is Severity.LOW


def test_rows_of_tpe_match_only_the_named_tpe(tmp_path: Path) -> None:
    traffic = tls(Traffic()).tcp(STATION, 41001, "10.0.9.2", 3002, TLS).tcp(STATION, 41002, "10.0.9.2", 22, SSH)
    result = traffic.audit(tmp_path, tpe=[TPE])
    assert statuses(result)["i39"] == "missing, weak"
    assert {(finding.rows, finding.mismatch) for finding in findings_of(result, "TPE101")} == {
        (("i39",), "destination"),
        (("i4",), "destination"),
    }


# -- both sides of a NAT ----------------------------------------------------------------------------------------


def both_sides(outer: str, offset: int) -> Traffic:
    """A connection of :data:`STATION`, and one of another address whose packets follow a millisecond later with the
    same payload, and sequence numbers that are higher by ``offset``."""
    traffic = Traffic()
    steps = [(">", SYN, b""), ("<", SYN | ACK, b""), (">", ACK, b""), (">", ACK, IEC104[0]), ("<", ACK, IEC104[1])]
    for client, shift, delay in ((STATION, 0, 0.0), (outer, offset, 0.001)):
        sent = {">": 1000 + shift, "<": 5000 + shift}
        for number, (direction, flags, payload) in enumerate(steps):
            ends = (client, 40000, TPE, 2404) if direction == ">" else (TPE, 2404, client, 40000)
            ack = sent["<" if direction == ">" else ">"]
            traffic.at(0.05 * number + delay).segment(*ends, flags, sent[direction], ack, payload)
            sent[direction] += len(payload) + bool(flags & SYN)
    return traffic


def test_both_sides_of_a_nat_are_one_station(tmp_path: Path) -> None:
    result = both_sides("198.51.100.7", 0).audit(tmp_path)
    assert [station.station.addresses for station in result.base_stations] == [(STATION, "198.51.100.7")]
    (notice,) = findings_of(result, "TPE022")
    assert notice.summary.startswith("1 flow of 198.51.100.7")


def test_equal_content_of_two_hosts_is_no_translation(tmp_path: Path) -> None:
    result = both_sides("198.51.100.7", 77).audit(tmp_path)
    assert [station.station.addresses for station in result.base_stations] == [(STATION,), ("198.51.100.7",)]
    assert not findings_of(result, "TPE022")
