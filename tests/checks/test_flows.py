"""Checks of unexpected, missing and malformed flows."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from analyzer.findings import Finding, Kind, Severity
from analyzer.result import Audit
from tests.protocols import test_dns
from tests.synthetic import (
    DISCOVER,
    DNS,
    HTTP,
    IEC104,
    NTP,
    OFFER,
    OTHER,
    RIVAL_OFFER,
    SSH,
    STATION,
    TLS,
    TPE,
    Traffic,
    findings_of,
    statuses,
)

ATTACKER = "10.0.0.66"
MAC = "70:76:ff:00:aa:10"
V6, OTHER_V6 = "2001:db8::2", "2001:db8:80::80"


NETBIOS_QUERY = bytes.fromhex("000101100001000000000000") + b"\x20" + b"CA" * 16 + bytes.fromhex("0000200001")


def tls() -> Traffic:
    return Traffic({STATION: MAC, V6: MAC}).tcp(STATION, 40000, TPE, 3001, TLS)


def unexpected(result: Audit) -> list[Finding]:
    """The findings about unexpected flows."""
    return [finding for finding in result.findings if finding.kind is Kind.UNEXPECTED]


# -- unexpected -------------------------------------------------------------------------------------------------


def test_one_finding_per_peer_service_and_direction(tmp_path: Path) -> None:
    traffic = tls()
    for number in range(3):
        traffic.tcp(STATION, 41000 + number, OTHER, 8080, HTTP)
    traffic.tcp(STATION, 42000, OTHER, 8081, HTTP).tcp(STATION, 42001, "192.0.2.81", 8080, HTTP)
    traffic.exchange(STATION, 5000, OTHER, 8080, (b"a", b"b")).tcp(OTHER, 5000, STATION, 8080, HTTP)
    result = traffic.audit(tmp_path)
    outbound = {finding.summary.rpartition(" (")[0]: finding.count for finding in findings_of(result, "TPE101")}
    assert outbound == {
        "10.0.0.2 talks to 192.0.2.80, HTTP in clear on tcp/8080 (host a), in 3 flows": 3,
        "10.0.0.2 talks to 192.0.2.80, HTTP in clear on tcp/8081 (host a), once": 1,
        "10.0.0.2 talks to 192.0.2.81, HTTP in clear on tcp/8080 (host a), once": 1,
        "10.0.0.2 talks to 192.0.2.80, udp/8080, once": 1,
    }
    assert [finding.count for finding in findings_of(result, "TPE102")] == [1]


def test_unexpected_finding_has_its_evidence(tmp_path: Path) -> None:
    result = tls().tcp(STATION, 41000, TPE, 8080, HTTP).tcp(STATION, 41001, TPE, 8080, HTTP).audit(tmp_path)
    (finding,) = findings_of(result, "TPE101")
    first, second = (flow for flow in result.flows if flow.responder.port == 8080)
    assert (finding.kind, finding.severity) == (Kind.UNEXPECTED, Severity.MEDIUM)
    assert (finding.base_station, finding.flow, finding.time) == (STATION, first.id, first.first)
    assert finding.frames == (first.first_frame, second.first_frame)
    assert finding.mismatch == "port"
    assert finding.filter == f"ip.addr == {STATION} && ip.addr == {TPE} && tcp.port == 8080"
    assert finding.remedy.endswith(".")


@pytest.mark.parametrize(
    ("traffic", "rows", "mismatch"),
    [
        (tls().tcp(STATION, 41000, TPE, 8080, HTTP), None, "port"),
        (tls().tcp(STATION, 41000, OTHER, 3002, TLS).echo(STATION, OTHER), ("i3",), "destination"),
        (tls().udp(STATION, 41000, TPE, 3002, (">", b"x")), ("i39",), "transport"),
        (tls().packet(STATION, OTHER, 47, b"\0\0\x88\xb5" + bytes(20)), (), None),
    ],
)
def test_nearest_row_and_mismatch(
    tmp_path: Path, traffic: Traffic, rows: tuple[str, ...] | None, mismatch: str | None
) -> None:
    finding = findings_of(traffic.audit(tmp_path, tpe=[TPE]), "TPE101")[-1]
    assert finding.mismatch == mismatch
    assert rows is None or finding.rows == rows


@pytest.mark.parametrize("ports", [200, 5])
def test_port_scan_is_one_finding(tmp_path: Path, ports: int) -> None:
    traffic = tls()
    for port in range(1, ports + 1):
        traffic.syn(ATTACKER, 50000, STATION, port, reset=True)
    result = traffic.audit(tmp_path)
    (finding,) = (finding for finding in result.findings if finding.kind is Kind.UNEXPECTED)
    assert (finding.check, finding.severity, finding.count) == ("TPE103", Severity.HIGH, ports)
    assert f"tried {ports} TCP ports of 10.0.0.2" in finding.summary
    assert len(finding.frames) <= 16
    assert finding.filter == f"ip.addr == {ATTACKER} && ip.addr == {STATION} && tcp"


def test_answered_port_of_a_scan_is_its_own_finding(tmp_path: Path) -> None:
    traffic = tls()
    for port in range(101, 130):
        traffic.syn(ATTACKER, 50000, STATION, port, reset=True)
    traffic.tcp(ATTACKER, 50001, STATION, 22, (SSH[1], SSH[0]))
    result = traffic.audit(tmp_path)
    assert [finding.count for finding in findings_of(result, "TPE103")] == [29]
    (open_port,) = findings_of(result, "TPE102")
    assert open_port.severity is Severity.HIGH
    assert "SSH on tcp/22" in open_port.summary


def test_few_ports_are_no_scan(tmp_path: Path) -> None:
    traffic = tls()
    for port in range(1, 5):
        traffic.syn(ATTACKER, 50000, STATION, port)
    result = traffic.audit(tmp_path)
    assert [finding.severity for finding in findings_of(result, "TPE102")] == [Severity.MEDIUM] * 4
    assert not findings_of(result, "TPE103")


def test_scan_by_the_base_station_is_one_finding(tmp_path: Path) -> None:
    traffic = tls()
    for port in range(5001, 5030):
        traffic.syn(STATION, 50000, OTHER, port)
    result = traffic.audit(tmp_path)
    (finding,) = findings_of(result, "TPE103")
    assert "10.0.0.2 tried 29 TCP ports of 192.0.2.80" in finding.summary
    assert not findings_of(result, "TPE101")


@pytest.mark.parametrize("port", [22, 80, 443, 700, 3389])
@pytest.mark.parametrize("first", [STATION, ATTACKER])
def test_flow_that_fits_no_row_either_way_is_medium(tmp_path: Path, port: int, first: str) -> None:
    """Whatever the ports make of its direction."""
    ends = ((STATION, port), (ATTACKER, 45555))
    (one, source), (other, target) = ends if first == STATION else ends[::-1]
    traffic = tls().tcp(one, source, other, target, (b"uid=0(root) ", b"ls -l "), begins=False)
    (finding,) = unexpected(traffic.audit(tmp_path))
    assert finding.severity is Severity.MEDIUM and ATTACKER in finding.summary and "opened" not in finding.summary


@pytest.mark.parametrize("port", [53, 123, 137, 500, 1000, 1900, 4500, 5353])
@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize(("station", "stranger"), [(STATION, OTHER), (V6, OTHER_V6)])
def test_datagrams_from_a_well_known_port_are_outbound(
    tmp_path: Path, port: int, answered: bool, station: str, stranger: str
) -> None:
    noise = bytes(range(7, 207))
    traffic = tls().udp(station, port, stranger, 40000, *[(">", noise), ("<", noise)][: 1 + answered])
    (finding,) = unexpected(traffic.audit(tmp_path))
    assert (finding.check, finding.severity) == ("TPE101", Severity.MEDIUM)
    assert f"talks to {stranger}" in finding.summary and "200 bytes sent" in finding.summary


def test_scan_that_fits_no_row_either_way_is_medium(tmp_path: Path) -> None:
    traffic = tls()
    for port in range(701, 710):
        traffic.segment(ATTACKER, 40000, STATION, port, 0x10)
    (finding,) = findings_of(traffic.audit(tmp_path), "TPE103")
    assert finding.severity is Severity.MEDIUM


def test_flow_that_would_fit_the_other_way_is_low(tmp_path: Path) -> None:
    """From NTP's port to NTP's port: the server's answer was captured first."""
    traffic = tls().udp(OTHER, 123, STATION, 123, (">", NTP[1]), ("<", NTP[0]))
    assert [finding.severity for finding in unexpected(traffic.audit(tmp_path))] == [Severity.LOW]


@pytest.mark.parametrize("port", [53, 123])
def test_other_content_at_the_port_of_a_row_is_not_excused(tmp_path: Path, port: int) -> None:
    noise = bytes(range(7, 207))
    traffic = tls().udp(OTHER, port, STATION, port, (">", noise), *[("<", noise)] * 20)
    (finding,) = unexpected(traffic.audit(tmp_path))
    assert finding.severity is Severity.MEDIUM


def test_reply_without_captured_request_is_low_at_most(tmp_path: Path) -> None:
    result = tls().echo(STATION, TPE, asked=False).audit(tmp_path)
    unexpected = [finding for finding in result.findings if finding.kind is Kind.UNEXPECTED]
    assert all(finding.severity <= Severity.LOW for finding in unexpected)


def test_equal_ports_leave_the_originator_uncertain(tmp_path: Path) -> None:
    traffic = Traffic().udp(STATION, 123, OTHER, 123, ("<", NTP[1]), (">", NTP[0]), ("<", NTP[1]))
    result = traffic.tcp(STATION, 40000, TPE, 3001, TLS).audit(tmp_path)
    assert [finding.severity for finding in findings_of(result, "TPE102")] == [Severity.LOW]


def test_inbound_ping_is_medium(tmp_path: Path) -> None:
    (finding,) = findings_of(tls().echo(TPE, STATION).audit(tmp_path), "TPE102")
    assert (finding.rows, finding.mismatch, finding.severity) == (("i3",), "direction", Severity.MEDIUM)
    assert f"{TPE} pinged {STATION} once" in finding.summary


@pytest.mark.parametrize(
    ("client", "server", "service"),
    [
        (*HTTP, "HTTP in clear on tcp/8080 (host a)"),
        (*SSH, "SSH on tcp/8080 (server SSH-2.0-"),
        (b"ls\r\n", b"\xff\xfd\x18login: ", "Telnet on tcp/8080"),
        (b"EHLO a\r\n", b"220 mail ESMTP\r\n", "SMTP or FTP on tcp/8080"),
    ],
    ids=["host", "banner", "Telnet", "mail"],
)
def test_unexpected_flow_names_service_and_peer(client: bytes, server: bytes, service: str, tmp_path: Path) -> None:
    """The name of the peer is that which DNS in the capture gives."""
    asked = test_dns.message(question=test_dns.NAME + b"\0\1\0\1", flags=0x0100)
    answer = test_dns.message(test_dns.record(1, socket.inet_aton(OTHER)))
    traffic = tls().exchange(STATION, 5555, "192.0.2.53", 53, (asked, answer))
    traffic.tcp(STATION, 41000, OTHER, 8080, (client, server))
    (finding,) = findings_of(traffic.audit(tmp_path), "TPE101")
    assert finding.summary.startswith(f"{STATION} talks to {OTHER} (lns.lab.example), {service}")


def test_scan_names_the_ports_that_accepted(tmp_path: Path) -> None:
    traffic = tls()
    for port in range(101, 130):
        traffic.syn(ATTACKER, 50000, STATION, port, reset=True)
    (finding,) = findings_of(traffic.tcp(ATTACKER, 50001, STATION, 22).audit(tmp_path), "TPE103")
    assert finding.summary.endswith("; open: 22.")


def test_unexpected_flow_says_how_far_it_came(tmp_path: Path) -> None:
    traffic = tls().tcp(STATION, 41000, OTHER, 8080, HTTP).tcp(STATION, 41001, OTHER, 8081)
    traffic.syn(STATION, 41002, OTHER, 8082).syn(STATION, 41003, OTHER, 8083, reset=True)
    summaries = [finding.summary for finding in findings_of(traffic.audit(tmp_path), "TPE101")]
    assert [summary.rpartition(" (")[2].partition(")")[0] for summary in summaries] == [
        *("33 bytes sent, 38 bytes answered", "accepted, without content", "no answer", "refused"),
    ]


def test_attempt_at_another_modes_row_is_medium(tmp_path: Path) -> None:
    (finding,) = findings_of(tls().syn(STATION, 41000, TPE, 2404).audit(tmp_path), "TPE104")
    assert finding.severity is Severity.MEDIUM
    assert "tried" in finding.summary and "no answer" in finding.summary


@pytest.mark.parametrize(
    ("group", "port", "name", "content"),
    [
        ("224.0.0.251", 5353, "mDNS", DNS[0]),
        ("239.255.255.250", 1900, "SSDP", b"M-SEARCH * HTTP/1.1\r\n\r\n"),
        ("224.0.0.252", 5355, "LLMNR", DNS[0]),
        ("10.0.0.255", 137, "NetBIOS", NETBIOS_QUERY),
        ("10.0.0.255", 138, "NetBIOS", b"\x11" + bytes(100)),
    ],
)
def test_name_discovery_is_low(tmp_path: Path, group: str, port: int, name: str, content: bytes) -> None:
    traffic = tls()
    for number in range(3):
        traffic.udp(STATION, 40000 + number, group, port, (">", content))
    result = traffic.audit(tmp_path)
    (finding,) = (finding for finding in result.findings if finding.kind is Kind.UNEXPECTED)
    assert (finding.check, finding.severity, finding.count) == ("TPE105", Severity.LOW, 3)
    assert name in finding.summary


@pytest.mark.parametrize("port", [137, 138, 1900, 5353, 5355])
@pytest.mark.parametrize("peer", ["224.0.0.251", "10.0.0.66"])
def test_anything_else_on_a_port_of_name_discovery_is_unexpected(tmp_path: Path, port: int, peer: str) -> None:
    traffic = tls().exchange(STATION, 40000, peer, port, (b"id;uname -a", b"uid=0(root)"))
    (finding,) = (finding for finding in traffic.audit(tmp_path).findings if finding.kind is Kind.UNEXPECTED)
    assert (finding.check, finding.severity) == ("TPE101", Severity.MEDIUM)
    assert peer in finding.summary


@pytest.mark.parametrize(("asks", "check"), [(True, "TPE105"), (False, "TPE101")])
def test_a_unicast_answer_of_name_discovery_needs_a_question(tmp_path: Path, asks: bool, check: str) -> None:
    traffic = tls()
    if asks:
        traffic.udp("10.0.0.66", 5353, "224.0.0.251", 5353, (">", DNS[0]))
    traffic.udp(STATION, 5353, "10.0.0.66", 5353, (">", DNS[1]))
    (finding,) = (finding for finding in traffic.audit(tmp_path).findings if finding.kind is Kind.UNEXPECTED)
    assert finding.check == check


def test_discovery_port_towards_the_internet_is_unexpected(tmp_path: Path) -> None:
    traffic = tls().udp(STATION, 40000, "8.8.8.8", 5353, (">", b"hello"))
    assert [finding.severity for finding in findings_of(traffic.audit(tmp_path), "TPE101")] == [Severity.MEDIUM]


def test_findings_name_their_base_station(tmp_path: Path) -> None:
    traffic = tls().tcp("10.0.0.3", 40000, TPE, 3001, TLS).tcp("10.0.0.3", 41000, OTHER, 8080, HTTP)
    (finding,) = findings_of(traffic.audit(tmp_path), "TPE101")
    assert finding.base_station == "10.0.0.3"


def test_flow_between_base_stations_is_found_at_both(tmp_path: Path) -> None:
    traffic = tls().tcp("10.0.0.3", 40000, TPE, 3001, TLS).tcp("10.0.0.3", 41000, STATION, 8080, HTTP)
    result = traffic.audit(tmp_path)
    assert [finding.base_station for finding in findings_of(result, "TPE101")] == ["10.0.0.3"]
    assert [finding.base_station for finding in findings_of(result, "TPE102")] == [STATION]


# -- malformed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "severity", "words"),
    [
        (HTTP, Severity.HIGH, "HTTP in clear"),
        (IEC104, Severity.HIGH, "IEC 104 in clear"),
        (SSH, Severity.MEDIUM, "SSH"),
        ((b"\x00\x9f\x92\x96" * 8, b"\xfe" * 9), Severity.MEDIUM, "looks like binary data"),
        ((b"HELO box\r\n", b"\x1b[2J\x9b\r\n"), Severity.MEDIUM, "no protocol known here: it looks like text"),
        ((b"USER bs\r\n", b"+OK ready\r\n"), Severity.MEDIUM, "looks like POP3"),
        ((b"a login bs pw\r\n", b"* OK ready\r\n"), Severity.MEDIUM, "looks like IMAP"),
        ((b"\xff\xfd\x03", b"\xff\xfb\x01login: "), Severity.MEDIUM, "looks like Telnet"),
        ((b"", b"RFB 003.008\n"), Severity.MEDIUM, "looks like VNC"),
        ((b"", b"220 mail ESMTP\r\n"), Severity.MEDIUM, "looks like SMTP or FTP"),
    ],
)
def test_wrong_protocol_names_the_content(
    tmp_path: Path, content: tuple[bytes, bytes], severity: Severity, words: str
) -> None:
    result = Traffic().tcp(STATION, 40000, TPE, 3001, content).audit(tmp_path)
    (finding,) = findings_of(result, "TPE121")
    assert (finding.severity, finding.rows) == (severity, ("i38",))
    assert words in finding.summary
    assert finding.summary.isprintable()


def test_wrong_protocol_of_rows_that_share_a_port_is_one_finding(tmp_path: Path) -> None:
    result = tls().tcp(STATION, 41000, TPE, 22, HTTP).audit(tmp_path)
    (finding,) = findings_of(result, "TPE121")
    assert finding.rows == ("i4", "i5")
    assert finding.summary.startswith("Rows i4 and i5 expect SSH on tcp/22")
    assert statuses(result)["i4"] == statuses(result)["i5"] == "malformed"


def test_connection_without_content_is_no_wrong_protocol(tmp_path: Path) -> None:
    result = tls().tcp(STATION, 41000, TPE, 3002).audit(tmp_path)
    assert statuses(result)["i39"] != "present"
    assert not findings_of(result, "TPE121")


def test_broken_protocol_names_sender_and_field(tmp_path: Path) -> None:
    """However often it is retried, from whatever port, it is one finding."""
    hello = bytearray(TLS[0])
    hello[6:9] = (len(hello) + 99).to_bytes(3, "big")
    traffic = Traffic()
    for port in range(40000, 40003):
        traffic.tcp(STATION, port, TPE, 3001, (bytes(hello), TLS[1]))
    result = traffic.audit(tmp_path)
    (finding,) = findings_of(result, "TPE122")
    assert finding.summary.startswith("TLS from 10.0.0.2 is broken at handshake message: ")
    assert finding.count == 3
    assert statuses(result)["i38"] == "malformed"


def test_each_sides_break_is_a_finding(tmp_path: Path) -> None:
    ft12, text = bytes.fromhex("1049014a16"), b"\x68\4\7\0\0\0HELO"
    result = Traffic().tcp(STATION, 40000, TPE, 2404, (ft12, text)).audit(tmp_path)
    assert {finding.summary for finding in findings_of(result, "TPE122")} == {
        "IEC 104 in clear from 10.0.0.2 is broken at start byte: 0x10 is neither 0x68 nor 0x69, but begins a frame of "
        "FT 1.2, as of IEC 60870-5-101.",
        "IEC 104 in clear from 10.0.9.1 is broken at start byte: 0x48 is neither 0x68 nor 0x69, and may begin text.",
    }


def test_truncated_content_is_not_broken(tmp_path: Path) -> None:
    result = Traffic().tcp(STATION, 40000, TPE, 3001, (TLS[0][:60], b"")).audit(tmp_path)
    assert not findings_of(result, "TPE122")
    assert statuses(result)["i38"] != "malformed"


# -- DHCP over several conversations ----------------------------------------------------------------------------


def test_rival_dhcp_servers_in_different_flows(tmp_path: Path) -> None:
    macs = {"10.20.30.10": "70:76:ff:00:aa:10", "0.0.0.0": "70:76:ff:00:aa:10"}
    station = "10.20.30.10"
    capture = Traffic(macs).udp("0.0.0.0", 68, "255.255.255.255", 67, (">", DISCOVER))
    capture.udp("10.20.30.2", 67, station, 68, (">", OFFER)).tcp(station, 40000, TPE, 3001, TLS)
    result = capture.audit(tmp_path)
    assert statuses(result, station)["n4"] == "present"
    assert not findings_of(result, "TPE344") and not findings_of(result, "TPE341")

    capture.udp("10.20.30.66", 67, station, 68, (">", RIVAL_OFFER))
    result = capture.audit(tmp_path)
    (finding,) = findings_of(result, "TPE344")
    assert (finding.kind, finding.severity, finding.count) == (Kind.MALFORMED, Severity.MEDIUM, 2)
    assert "10.20.30.2 offers" in finding.summary and "10.20.30.66 offers" in finding.summary
    assert finding.summary.endswith("none confirmed.")
    assert statuses(result, station)["n4"] == "malformed"


def test_several_time_servers_are_no_issue(tmp_path: Path) -> None:
    result = (
        tls().exchange(STATION, 123, OTHER, 123, NTP).exchange(STATION, 123, "192.0.2.81", 123, NTP).audit(tmp_path)
    )
    assert statuses(result)["n1"] == "present"
    assert not [finding for finding in result.findings if finding.severity >= Severity.MEDIUM]


def test_unanswered_flows_of_many_peers_are_one_finding(tmp_path: Path) -> None:
    """The senders may be forged."""
    traffic = tls()
    for number in range(300):
        traffic.udp(f"203.0.{113 + number // 250}.{number % 250}", 4000, STATION, 9, (">", b"x"))
    (finding,) = findings_of(traffic.audit(tmp_path), "TPE102")
    assert finding.count == 300
    assert "300 hosts, 203.0.113.0 the first of them, opened udp/9" in finding.summary
    assert finding.filter == f"ip.addr == {STATION} && udp.port == 9"


def test_data_of_an_encrypted_ftp_session_is_low(tmp_path: Path) -> None:
    control = (("<", b"220 ready\r\n"), (">", b"AUTH TLS\r\n"), ("<", b"234 go on\r\n"))
    traffic = Traffic().dialogue(STATION, 41000, TPE, 21, *control)
    traffic.tcp(STATION, 41001, TPE, 50123, (b"\x17\x03\x03\x00\x01x", b"ok"))
    traffic.segment(STATION, 41000, TPE, 21, 0x11, seq=1010, ack=5022)
    found = findings_of(traffic.audit(tmp_path, mode="plain", base_stations=[STATION], tpe=[TPE]), "TPE101")
    assert [finding.severity for finding in found] == [Severity.LOW]
    assert "probably the data channel of an FTP session" in found[0].summary


def test_data_of_an_unexpected_ftp_session_belongs_to_its_finding(tmp_path: Path) -> None:
    passive = (("<", b"220 ready\r\n"), (">", b"PASV\r\n"), ("<", b"227 Entering (192,0,2,80,200,1)\r\n"))
    traffic = tls().dialogue(STATION, 41000, OTHER, 21, *passive, (">", b"RETR a\r\n"))
    traffic.tcp(STATION, 41001, OTHER, 200 * 256 + 1, (b"", b"content"))
    traffic.segment(STATION, 41000, OTHER, 21, 0x11, seq=1014, ack=5100)
    (finding,) = findings_of(traffic.audit(tmp_path), "TPE101")
    assert finding.count == 2 and "FTP on tcp/21" in finding.summary
