"""Checks of frames beside the rows: tunnels, ICMP errors, housekeeping, odd packets, frames without IP."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from analyzer.findings import Finding, Kind, Severity
from analyzer.result import Audit
from tests import build
from tests.protocols import test_ntp
from tests.synthetic import OTHER, START, STATION, TICK, TLS, TPE, Traffic, findings_of, statuses

OTHER6, STATION6 = "2001:db8:66::66", "2001:db8:1::10"
MAC, ROUTER = Traffic().mac(STATION), Traffic().mac(OTHER)
ROUTER_ADDRESS = "10.0.0.1"


def tls() -> Traffic:
    """A link of a base station, long enough for the capture to have watched what follows."""
    return Traffic().tcp(STATION, 40000, TPE, 3001, TLS).at(30)


def ethernet(packet: bytes, ethertype: int | None = None, destination: bytes = ROUTER, source: bytes = MAC) -> bytes:
    return build.ethernet(packet, ethertype, source=source.hex(":"), destination=destination.hex(":"))


def with_frames(frames: Sequence[bytes], traffic: Traffic | None = None) -> Traffic:
    traffic = traffic or tls()
    for frame in frames:
        traffic.packets.append((START + traffic.clock, frame))
        traffic.clock += TICK
    return traffic


def deviations(result: Audit) -> list[Finding]:
    """Findings of medium severity or above that are not about missing rows."""
    return [
        finding
        for finding in result.findings
        if finding.severity >= Severity.MEDIUM and finding.kind is not Kind.MISSING
    ]


def only(frames: Sequence[bytes], folder: Path) -> Finding:
    """The only deviation that frames of a base station make."""
    (finding,) = deviations(with_frames(frames).audit(folder))
    return finding


# -- tunnels ----------------------------------------------------------------------------------------------------

PING = build.ip4(STATION, TPE, 1, b"\x08\0\0\0\0\7\0\1" + bytes(56))
OUTSIDE = build.ip4("192.0.2.1", "192.0.2.2", 17, build.udp_datagram(1, 2, b"x"))
LINK = build.ip4(STATION, TPE, 6, build.tcp_header(40000, 3001, 0x18, 1100, 5200) + b"exfil" * 100)
INSIDES = {"ping": PING, "others": OUTSIDE, "link": LINK}


def udp(port: int, payload: bytes) -> tuple[int, bytes]:
    return 17, build.udp_datagram(50000, port, payload)


TUNNELS = {
    "ip-in-ip": lambda packet: (4, packet),
    "gre": lambda packet: (47, b"\0\0\x08\0" + packet),
    "gre-ethernet": lambda packet: (47, b"\0\0\x65\x58" + build.ethernet(packet)),
    "ethernet-in-ip": lambda packet: (97, b"\x30\0" + ethernet(packet)),
    "vxlan": lambda packet: udp(4789, b"\x08\0\0\0\0\0\x2a\0" + build.ethernet(packet)),
    "gtp": lambda packet: udp(2152, b"\x30\xff" + struct.pack(">HI", len(packet), 7) + packet),
    "geneve": lambda packet: udp(6081, b"\0\0\x65\x58\0\0\x2a\0" + build.ethernet(packet)),
    "l2tp": lambda packet: udp(1701, b"\0\2\0\1\0\1\xff\3\0\x21" + packet),
    "gre-in-udp": lambda packet: udp(4754, b"\0\0\x08\0" + packet),
    "mirror": lambda packet: udp(37008, b"\1\0\0\1\1" + build.ethernet(packet)),
    "mpls-in-udp": lambda packet: udp(6635, b"\0\1\1\x40" + packet),
}


@pytest.mark.parametrize("inside", INSIDES)
@pytest.mark.parametrize("tunnel", TUNNELS)
def test_a_tunnel_of_a_base_station_is_named_by_its_other_end(tmp_path: Path, tunnel: str, inside: str) -> None:
    protocol, payload = TUNNELS[tunnel](INSIDES[inside])
    finding = only([ethernet(build.ip4(STATION, OTHER, protocol, payload))] * 5, tmp_path)
    assert (finding.check, finding.severity, finding.peer) == ("TPE101", Severity.MEDIUM, OTHER)


@pytest.mark.parametrize("tunnel", ["gre", "vxlan"])
def test_a_tunnel_in_fragments_and_towards_a_base_station_is_named(tmp_path: Path, tunnel: str) -> None:
    protocol, payload = TUNNELS[tunnel](LINK)
    parts = build.fragments(build.ip4(OTHER, STATION, protocol, payload), 256)
    finding = only([ethernet(part, source=ROUTER, destination=MAC) for part in parts], tmp_path)
    assert finding.peer == OTHER


def test_a_tunnel_over_ipv6_is_named(tmp_path: Path) -> None:
    frames = [SOUND["neighbour-advertisement-on-the-link"], ethernet(build.ip6(STATION6, OTHER6, 4, PING))]
    assert only(frames, tmp_path).peer == OTHER6


def test_what_a_tunnel_carries_leaves_the_flows_outside_alone(tmp_path: Path) -> None:
    """Segments with the addresses and ports of the link to TPE, inside GRE to a stranger, are no part of the link."""
    frames = [ethernet(build.ip4(STATION, OTHER, 47, b"\0\0\x08\0" + LINK))] * 3
    result = with_frames(frames).audit(tmp_path)
    plain = tls().audit(tmp_path)
    assert statuses(result) == statuses(plain)
    frames_before, frames_after = (found.station_frames[STATION] for found in (plain, result))
    assert frames_after.unexpected == frames_before.unexpected + 3
    assert frames_after.sent + frames_after.received == frames_before.sent + frames_before.received + 3


@pytest.mark.parametrize("tunnel", ["gre", "gre-ethernet", "vxlan", "geneve", "mirror"])
def test_a_tunnel_between_capture_points_is_peeled_without_a_word(tmp_path: Path, tunnel: str) -> None:
    plain = tls().tcp(STATION, 41000, OTHER, 8080, (b"GET /", b"HTTP/1.1 200 OK"))
    mirrored = Traffic()
    for time, frame in plain.packets:
        protocol, payload = TUNNELS[tunnel](frame[14:])
        mirrored.packets.append((time, ethernet(build.ip4("172.31.0.1", "172.31.0.2", protocol, payload))))
    one, two = plain.audit(tmp_path), mirrored.audit(tmp_path)
    assert [finding.summary for finding in deviations(one)] == [finding.summary for finding in deviations(two)]
    assert "172.31.0" not in str([flow.originator for flow in two.flows])
    assert statuses(one) == statuses(two)


def test_a_mirror_that_a_base_station_makes_itself_is_judged_inside(tmp_path: Path) -> None:
    mirrored = Traffic()
    for time, frame in tls().packets:
        protocol, payload = TUNNELS["mirror"](frame[14:])
        mirrored.packets.append((time, ethernet(build.ip4(STATION, OTHER, protocol, payload))))
    result = mirrored.audit(tmp_path)
    assert statuses(result)["i38"] == "present"
    assert [finding.peer for finding in deviations(result)] == [OTHER]


# -- ICMP errors ------------------------------------------------------------------------------------------------

SENT = build.ip4(STATION, TPE, 6, build.tcp_header(40000, 3001, 0x18, 1000, 5000) + TLS[0])
"""The segment of the link that :func:`tls` begins with."""


def error(source: str, destination: str, quoted: bytes, kind: int = 3, rest: int = 0) -> bytes:
    message = struct.pack(">BBHI", kind, 1, 0, rest) + quoted
    return ethernet(build.ip4(source, destination, 1, message))


def test_an_error_about_a_packet_of_the_capture_is_no_deviation(tmp_path: Path) -> None:
    result = with_frames([error(ROUTER_ADDRESS, STATION, SENT[:28]), error(OTHER, STATION, SENT)]).audit(tmp_path)
    assert not deviations(result)
    assert result.station_frames[STATION].icmp_error == result.totals.icmp_errors == 2


def test_an_error_with_an_extension_structure_is_no_deviation(tmp_path: Path) -> None:
    """RFC 4884 and RFC 4950: the quotation is padded to 128 bytes, and a label stack follows."""
    quoted = build.ip4(STATION, TPE, 6, build.tcp_header(40000, 3001, 0x10, 1000, 5000))
    structure = b"\x20\0\0\0" + struct.pack(">HBBI", 8, 1, 1, 17 << 12 | 0x101)
    extended = error(ROUTER_ADDRESS, STATION, quoted.ljust(128, b"\0") + structure, 11, 32 << 16)
    assert not deviations(with_frames([extended]).audit(tmp_path))


UNSENT = build.ip4(STATION, TPE, 6, build.tcp_header(40000, 3001, 0x18, 900_000, 5000) + bytes(40))
UNKNOWN = build.ip4(STATION, TPE, 17, build.udp_datagram(50000, 7777, bytes(40)))
UNFOUNDED = {
    "to-another-host": [error(STATION, OTHER, SENT[:28])],
    "to-another-host-with-all-of-it": [error(STATION, OTHER, SENT)],
    "more-than-the-packet": [error(OTHER, STATION, SENT + bytes(400))],
    "more-behind-a-padding": [error(OTHER, STATION, SENT[:40] + b"\1" * 1400, 11, 32 << 16)],
    "bytes-not-sent": [error(OTHER, STATION, UNSENT)],
    "flow-not-seen": [error(OTHER, STATION, UNKNOWN)],
    "more-errors-than-packets": [error(OTHER, STATION, SENT[:28])] * 200,
}


@pytest.mark.parametrize("kind", UNFOUNDED)
def test_an_error_that_no_packet_explains_is_unexpected(tmp_path: Path, kind: str) -> None:
    finding = only(UNFOUNDED[kind], tmp_path)
    assert (finding.check, finding.severity, finding.peer) == ("TPE109", Severity.MEDIUM, OTHER)


def test_a_datagram_that_is_quoted_longer_than_any_that_was_sent_is_unexpected(tmp_path: Path) -> None:
    traffic = tls().exchange(STATION, 123, OTHER, 123, (test_ntp.REQUEST, test_ntp.ANSWER))
    forged = build.ip4(OTHER, STATION, 17, build.udp_datagram(123, 123, bytes(1200)))
    (finding,) = deviations(with_frames([error(STATION, OTHER, forged)] * 3, traffic).audit(tmp_path))
    assert (finding.check, finding.peer) == ("TPE109", OTHER)


# -- housekeeping -----------------------------------------------------------------------------------------------


def ipv4(destination: str, payload: bytes, ttl: int = 1, protocol: int = 2) -> bytes:
    return ethernet(build.ip4(STATION, destination, protocol, payload, ttl=ttl))


def ipv6(source: str, destination: str, payload: bytes, ttl: int = 255) -> bytes:
    return ethernet(build.ip6(source, destination, 58, payload, ttl=ttl))


REPORT = b"\x22\0\0\0\0\0\0\1" + b"\4\0\0\0\xef\xff\xff\xfa"
ADVERTISEMENT = b"\x88\0\0\0\x60\0\0\0" + bytes(16)
ARP = b"\0\1\x08\0\6\4\0\1" + MAC + bytes(4) + bytes(6) + bytes(4)
LLDP = b"\2\7\4" + MAC + b"\4\7\3" + MAC + b"\6\2\0\x78\0\0"
GROUP = bytes.fromhex("0180c200000e")
BRIDGES = bytes.fromhex("0180c2000000")
STP = b"\x42\x42\3" + bytes(35)

SOUND = {
    "igmp-report": ipv4("224.0.0.22", REPORT),
    "igmp-leave": ipv4("224.0.0.2", b"\x17\0\0\0\xef\xff\xff\xfa"),
    "neighbour-advertisement": ipv6("fe80::2", "fe80::1", ADVERTISEMENT),
    "neighbour-advertisement-on-the-link": ipv6(STATION6, "2001:db8:1::1", ADVERTISEMENT),
    "listener-report": ipv6("fe80::2", "ff02::16", b"\x8f\0" + bytes(26), 1),
    "arp": ethernet(ARP, 0x0806, b"\xff" * 6),
    "arp-padded": ethernet(ARP + bytes(18), 0x0806),
    "lldp": ethernet(LLDP, 0x88CC, GROUP),
    "spanning-tree": ethernet(STP + bytes(8), 38, BRIDGES),
    "802.1x": ethernet(b"\1\1\0\0" + bytes(42), 0x888E, bytes.fromhex("0180c2000003")),
}
COVERS = {
    "igmp-to-a-stranger": (ipv4(OTHER, REPORT), "TPE101"),
    "igmp-beyond-the-link": (ipv4("239.255.255.250", REPORT, 64), "TPE101"),
    "igmp-with-data": (ipv4("224.0.0.22", REPORT + bytes(100)), "TPE101"),
    "igmp-of-a-router": (ipv4("224.0.0.2", b"\x13" + bytes(60)), "TPE101"),
    "neighbour-discovery-to-a-stranger": (ipv6(STATION6, OTHER6, ADVERTISEMENT), "TPE101"),
    "neighbour-discovery-beyond-the-link": (ipv6("fe80::2", "fe80::1", ADVERTISEMENT, 64), "TPE101"),
    "neighbour-discovery-with-data": (ipv6("fe80::2", "fe80::1", ADVERTISEMENT + bytes(200)), "TPE101"),
    "listener-report-to-a-stranger": (ipv6(STATION6, OTHER6, b"\x8f\0" + bytes(26), 1), "TPE101"),
    "arp-with-data": (ethernet(ARP + bytes(200), 0x0806), "TPE107"),
    "arp-of-another-kind": (ethernet(b"data" * 7, 0x0806), "TPE107"),
    "lldp-to-a-host": (ethernet(LLDP, 0x88CC), "TPE107"),
    "802.1x-with-data": (ethernet(b"\1\1\0\0" + bytes(200), 0x888E), "TPE107"),
}


@pytest.mark.parametrize("kind", SOUND)
def test_sound_housekeeping_is_counted_and_not_judged(tmp_path: Path, kind: str) -> None:
    result = with_frames([SOUND[kind]] * 2).audit(tmp_path)
    assert not [finding for finding in result.findings if finding.kind is Kind.UNEXPECTED]
    assert result.station_frames[STATION].housekeeping == 2


@pytest.mark.parametrize("kind", COVERS)
def test_anything_else_under_the_name_of_housekeeping_is_unexpected(tmp_path: Path, kind: str) -> None:
    frame, check = COVERS[kind]
    finding = only([SOUND["arp"], frame], tmp_path)
    assert (finding.check, finding.severity) == (check, Severity.MEDIUM)


def test_harmless_housekeeping_before_it_hides_nothing(tmp_path: Path) -> None:
    frames = [SOUND["igmp-report"]] * 300 + [COVERS["igmp-with-data"][0]]
    assert only(frames, tmp_path).check == "TPE101"


@pytest.mark.parametrize(("ethertype", "destination"), [(0x88B5, ROUTER), (0x9000, MAC[::-1]), (0x22F0, b"\xff" * 6)])
def test_frames_of_another_type_are_named_at_the_station(tmp_path: Path, ethertype: int, destination: bytes) -> None:
    result = with_frames([ethernet(bytes(1000), ethertype, destination)] * 3).audit(tmp_path)
    (finding,) = findings_of(result, "TPE107")
    assert (finding.severity, finding.base_station) == (Severity.LOW, STATION)
    assert f"3 of Ethernet type 0x{ethertype:04x}" in finding.summary


# -- unreadable frames and odd packets --------------------------------------------------------------------------

BROKEN = build.ip4(STATION, OTHER, 17, build.udp_datagram(1, 2, bytes(600)))
UNREADABLE = {
    "version-5": b"\x55" + bytes(800),
    "header-of-16-bytes": b"\x44" + BROKEN[1:],
    "shorter-than-its-header": BROKEN[:2] + b"\0\x0a" + BROKEN[4:],
    "endless-extensions": build.ip6(STATION6, OTHER6, 60, (b"\x3c\0\1\4" + bytes(4)) * 60),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_unreadable_frames_are_named_at_the_station(tmp_path: Path, kind: str) -> None:
    packet = UNREADABLE[kind]
    ethertype = 0x86DD if kind == "endless-extensions" else 0x0800
    result = with_frames([ethernet(packet, ethertype)] * 4).audit(tmp_path)
    (finding,) = findings_of(result, "TPE023")
    assert (finding.severity, finding.base_station) == (Severity.MEDIUM, STATION)
    assert result.station_frames[STATION].unread == 4


def test_unreadable_frames_are_named_by_address_behind_a_router(tmp_path: Path) -> None:
    result = with_frames([ethernet(UNREADABLE["header-of-16-bytes"], 0x0800, source=ROUTER)] * 4).audit(tmp_path)
    assert [finding.base_station for finding in findings_of(result, "TPE023")] == [STATION]


def options(*content: bytes) -> bytes:
    joined = b"".join(content)
    return joined + b"\0" * (-len(joined) % 4)


def ntp(options4: bytes = b"", payload: bytes = test_ntp.REQUEST, behind: bytes = b"", tail: bytes = b"") -> bytes:
    """An NTP request to a stranger, with options of IPv4, bytes behind the datagram, and bytes behind the packet."""
    datagram = build.udp_datagram(123, 123, payload) + behind
    return ethernet(build.ip4(STATION, OTHER, 17, datagram, options=options4) + tail)


def ntp6(following: int, extension: bytes) -> bytes:
    datagram = build.udp_datagram(123, 123, test_ntp.REQUEST)
    return ethernet(build.ip6(STATION6, OTHER6, following, b"\x11" + extension[1:] + datagram))


ADDRESS = bytes((192, 0, 2, 9))
ODD = {
    "loose-source-route": ntp(options(b"\x83\7\4" + ADDRESS)),
    "strict-source-route": ntp(options(b"\x89\7\4" + ADDRESS)),
    "record-route": ntp(options(b"\7\x0b\4" + bytes(8))),
    "unknown-option": ntp(options(b"\x9e\x14" + b"x" * 18)),
    "bytes-behind-the-last-option": ntp(b"\0" + b"x" * 35),
    "bytes-behind-the-datagram": ntp(behind=b"x" * 900),
    "one-byte-behind-the-datagram": ntp(behind=b"x"),
    "bytes-behind-the-packet": ntp(tail=b"x" * 60),
    "routing-header": ntp6(43, b"\0\2\0\1" + bytes(20)),
    "destination-option": ntp6(60, b"\0\3\x1e\x1c" + b"x" * 28),
    "padding-with-data": ntp6(60, b"\0\3\1\x1c" + b"x" * 28),
}
PLAIN = {
    "no-operation": ntp(b"\1\1\1\0"),
    "router-alert": ntp(b"\x94\4\0\0"),
    "frame-check": ntp(tail=b"abcd"),
    "padding": ntp6(60, b"\0\0\1\4" + bytes(4)),
    "router-alert-6": ntp6(0, b"\0\0\5\2\0\0\1\0"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_no_packet_needs_is_named_with_the_peer(tmp_path: Path, kind: str) -> None:
    result = with_frames([SOUND["neighbour-advertisement-on-the-link"], *[ODD[kind]] * 3]).audit(tmp_path)
    (finding,) = findings_of(result, "TPE106")
    assert finding.severity is Severity.MEDIUM
    assert (OTHER6 if "2001" in finding.summary else OTHER) in finding.summary


@pytest.mark.parametrize("kind", PLAIN)
def test_what_packets_may_have_is_no_deviation(tmp_path: Path, kind: str) -> None:
    result = with_frames([SOUND["neighbour-advertisement-on-the-link"], PLAIN[kind]]).audit(tmp_path)
    assert not findings_of(result, "TPE106")


def test_copies_do_not_hide_bytes_behind_the_datagram(tmp_path: Path) -> None:
    """A copy by way of another router differs in its time to live; its surplus is not compared."""
    harmless = build.ip4(STATION, OTHER, 17, build.udp_datagram(123, 123, test_ntp.REQUEST), identification=7)
    surplus = build.udp_datagram(123, 123, test_ntp.REQUEST) + b"x" * 900
    copy = build.ip4(STATION, OTHER, 17, surplus, identification=7, ttl=63)
    (finding,) = findings_of(with_frames([ethernet(harmless), ethernet(copy)]).audit(tmp_path), "TPE106")
    assert "900 bytes" in finding.summary


def test_tails_of_the_capturing_equipment_are_no_deviation(tmp_path: Path) -> None:
    traffic = tls()
    for number in range(3):
        traffic.exchange(f"10.7.7.{number + 1}", 123, OTHER, 123, (test_ntp.REQUEST, test_ntp.ANSWER))
    traffic.packets = [(time, frame + b"tail" * 5) for time, frame in traffic.packets]
    assert not findings_of(traffic.audit(tmp_path), "TPE106")


def test_a_few_bytes_behind_each_packet_are_low(tmp_path: Path) -> None:
    (finding,) = findings_of(with_frames([ntp(tail=bytes(8))] * 3).audit(tmp_path), "TPE106")
    assert finding.severity is Severity.LOW


# -- fragments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "named"), [(2, False), (8, True)])
def test_many_headless_fragments_are_lost_by_nobody(tmp_path: Path, count: int, named: bool) -> None:
    traffic = tls().exchange(STATION, 123, OTHER, 123, (test_ntp.REQUEST, test_ntp.ANSWER))
    frames = [
        ethernet(build.ip4(STATION, OTHER, 17, bytes(600), identification=number, fragment=1 << 13 | 100))
        for number in range(1, 1 + count)
    ]
    result = with_frames(frames, traffic).audit(tmp_path)
    assert [finding.peer for finding in findings_of(result, "TPE108")] == [OTHER] * named
    found = result.station_frames[STATION]
    assert (found.unexpected if named else found.unread) == count


def test_a_capture_may_begin_within_a_datagram(tmp_path: Path) -> None:
    rest = ethernet(build.ip4(STATION, OTHER, 17, bytes(600), identification=1, fragment=100))
    traffic = tls()
    traffic.packets.insert(0, (traffic.packets[0][0] - 1, rest))
    assert not findings_of(traffic.audit(tmp_path), "TPE108")
