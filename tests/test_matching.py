"""Flows and rows: rows that share a port, DNS over TCP, FTP data, and flows that need no row."""

from __future__ import annotations

from hashlib import shake_256
from pathlib import Path

import pytest

from analyzer.findings import Finding, Kind, Severity
from analyzer.result import Audit
from tests.synthetic import (
    DNS,
    DNS_CUT,
    DNS_TCP,
    HTTP,
    IEC104,
    NTP,
    OTHER,
    SSH,
    STATION,
    TLS,
    TPE,
    Traffic,
    findings_of,
    ftp,
    reason,
    statuses,
)

RESOLVER = "192.0.2.53"


def tls(traffic: Traffic | None = None) -> Traffic:
    return (traffic or Traffic()).tcp(STATION, 40000, TPE, 3001, TLS)


def plain() -> Traffic:
    return Traffic().tcp(STATION, 40000, TPE, 2404, IEC104)


def unexpected(result: Audit) -> list[Finding]:
    return [finding for finding in result.findings if finding.kind is Kind.UNEXPECTED]


# -- rows that share a port -------------------------------------------------------------------------------------


LOGIN = ((">", bytes(360)), ("<", bytes(420)))
"""What both sides encrypt up to a remote forward."""


def ssh_session(tmp_path: Path, *said: tuple[float, str, bytes], login: bool = True, duration: float = 1) -> str:
    """Status of i4 and i5 after one session: what is said so many seconds after what came before."""
    traffic = tls()
    told = [(0.0, *message) for message in ((">", SSH[0]), ("<", SSH[1]), *(LOGIN if login else ()))] + list(said)
    traffic.segment(STATION, 40001, TPE, 22, 0x02, seq=999)
    traffic.segment(TPE, 22, STATION, 40001, 0x12, seq=4999, ack=1000)
    traffic.segment(STATION, 40001, TPE, 22, 0x10, ack=5000)
    sent = {">": 1000, "<": 5000}
    for pause, direction, payload in told:
        traffic.clock += pause
        ends = (STATION, 40001, TPE, 22) if direction == ">" else (TPE, 22, STATION, 40001)
        ciphertext = payload if any(payload) else shake_256(b"ciphertext").digest(len(payload))
        for at in range(0, len(payload), 1400):
            part = ciphertext[at : at + 1400]
            ack = sent["<" if direction == ">" else ">"]
            traffic.segment(*ends, 0x18, seq=sent[direction], ack=ack, payload=part)
            sent[direction] += len(part)
    traffic.clock += duration
    traffic.segment(STATION, 40001, TPE, 22, 0x11, seq=sent[">"], ack=sent["<"])
    result = statuses(traffic.audit(tmp_path))
    return f"{result['i4']}; {result['i5']}"


REVERSE, UNDECIDED = "missing, weak; present", "undecided; undecided"


def test_long_silent_ssh_session_is_reverse_ssh(tmp_path: Path) -> None:
    assert ssh_session(tmp_path, duration=90) == REVERSE
    assert ssh_session(tmp_path, (3000, ">", bytes(64)), duration=1) == REVERSE  # a last word of goodbye


def test_long_ssh_session_with_bursts_begun_by_the_server_is_reverse_ssh(tmp_path: Path) -> None:
    burst = ((40, "<", bytes(100)), (0, ">", bytes(5000)), (30, "<", bytes(100)), (0, ">", bytes(90_000)))
    assert ssh_session(tmp_path, *burst) == REVERSE
    both = ((40, "<", bytes(100)), (0, ">", bytes(100)), (20, ">", bytes(100)), (1, "<", bytes(100)))
    assert ssh_session(tmp_path, *both) == REVERSE


def test_long_ssh_session_of_another_shape_is_undecided(tmp_path: Path) -> None:
    asked = ((40, ">", bytes(100)), (0, "<", bytes(5000)), (30, ">", bytes(100)), (0, "<", bytes(5000)))
    assert ssh_session(tmp_path, *asked) == UNDECIDED
    assert ssh_session(tmp_path, *[(5, "<", bytes(9000))] * 20) == UNDECIDED  # a download that goes on and on


def test_long_ssh_session_without_login_is_undecided(tmp_path: Path) -> None:
    assert ssh_session(tmp_path, login=False, duration=120) == UNDECIDED


def test_short_ssh_session_is_undecided(tmp_path: Path) -> None:
    result = tls().tcp(STATION, 40001, TPE, 22, SSH, duration=2).audit(tmp_path)
    assert statuses(result)["i4"] == statuses(result)["i5"] == "undecided"
    assert reason(result, "i4") == "the packets cannot tell whether this is row i4 or i5"
    assert not [finding for finding in findings_of(result, "TPE111") if set(finding.rows) & {"i4", "i5"}]


def test_short_download_before_any_protected_flow_is_the_key_installer(tmp_path: Path) -> None:
    keys = (SSH[0], SSH[1] + bytes(8192))
    result = tls(Traffic().tcp(STATION, 40001, TPE, 22, keys, duration=2)).audit(tmp_path)
    assert (statuses(result)["i4"], statuses(result)["i5"]) == ("present", "missing, weak")


RETR, STOR, LIST = (
    [("C", f"{command} x"), ("S", "150 Here it comes."), ("S", "226 Transfer complete.")]
    for command in ("RETR", "STOR", "LIST")
)
PASSIVE = [("C", "PASV"), ("S", "227 Entering Passive Mode (10,0,9,1,195,127).")]
SECOND = "10.0.9.2"
ACTIVE = [("C", "PORT 10,0,0,2,195,127"), ("S", "200 PORT command successful.")]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([*RETR], ("present", "missing, weak")),
        ([*STOR], ("missing, weak", "present")),
        ([*RETR, *STOR], ("present", "present")),
        ([*LIST], ("undecided", "undecided")),
        ([], ("undecided", "undecided")),
    ],
)
def test_commands_distinguish_ftp_rows(tmp_path: Path, said: list[tuple[str, str]], expected: tuple[str, str]) -> None:
    result = plain().dialogue(STATION, 40001, TPE, 21, *ftp(*said)).audit(tmp_path)
    assert (statuses(result)["i7"], statuses(result)["i8"]) == expected


@pytest.mark.parametrize("opening", [PASSIVE, ACTIVE], ids=["passive", "active"])
@pytest.mark.parametrize(("command", "rows"), [(RETR, ("i7",)), (STOR, ("i8",)), (LIST, ("i7", "i8"))])
def test_ftp_data_takes_the_row_of_its_command(
    tmp_path: Path, opening: list[tuple[str, str]], command: list[tuple[str, str]], rows: tuple[str, ...]
) -> None:
    traffic = plain().dialogue(STATION, 40001, TPE, 21, *ftp(*opening, *command), duration=5)
    traffic.at(traffic.clock - 4)
    if opening is PASSIVE:
        traffic.tcp(STATION, 40002, TPE, 50047, (b"", b"data"))
    else:
        traffic.tcp(TPE, 20, STATION, 50047, (b"data", b""))
    result = traffic.audit(tmp_path)
    assert not unexpected(result)
    (data,) = (flow for flow in result.flows if flow.protocol == "ftp-data")
    assert result.flow_rows[data.id] == rows
    if len(rows) > 1:
        assert statuses(result)["i7"] == statuses(result)["i8"] == "undecided"


@pytest.mark.parametrize("server", [SECOND, TPE], ids=["the named address", "the address that the client knows"])
def test_ftp_data_of_a_server_that_announces_another_address(tmp_path: Path, server: str) -> None:
    elsewhere = [(who, line.replace("10,0,9,1", "10,0,9,2")) for who, line in PASSIVE]
    traffic = plain().dialogue(STATION, 40001, TPE, 21, *ftp(*elsewhere, *RETR), duration=5)
    traffic.at(traffic.clock - 4).tcp(STATION, 40002, server, 50047, (b"", b"data"))
    result = traffic.audit(tmp_path)
    assert not unexpected(result)
    assert statuses(result)["i7"] == "present"
    stranger = plain().dialogue(STATION, 40001, TPE, 21, *ftp(*elsewhere, *RETR), duration=5)
    stranger.at(stranger.clock - 4).tcp(STATION, 40002, OTHER, 50047, (b"", b"data"))
    assert findings_of(stranger.audit(tmp_path), "TPE101")


@pytest.mark.parametrize(("server", "expected"), [(OTHER, ("present", "absent")), (TPE, ("absent", "present"))])
def test_server_distinguishes_ntp_rows(tmp_path: Path, server: str, expected: tuple[str, str]) -> None:
    result = tls().exchange(STATION, 123, server, 123, NTP).audit(tmp_path)
    assert (statuses(result)["n1"], statuses(result)["n3"]) == expected


# -- DNS over TCP -----------------------------------------------------------------------------------------------


CUT_OTHER_NAME = (DNS_CUT[0].replace(b"example", b"exemple"), DNS_CUT[1].replace(b"example", b"exemple"))
"""A question for another name, and its truncated answer."""
AAAA_TCP = (DNS_TCP[0].replace(b"example\0\0\1", b"example\0\0\x1c"), DNS_TCP[1])
TXT_TCP = (DNS_TCP[0].replace(b"example\0\0\1", b"example\0\0\x10"), DNS_TCP[1])


def late() -> Traffic:
    """Traffic that goes on two seconds after the beginning of the capture."""
    return tls().at(2)


@pytest.mark.parametrize("retried", [DNS_TCP, AAAA_TCP], ids=["same type", "the other type of addresses"])
def test_dns_over_tcp_after_a_truncated_answer_is_a_retry(tmp_path: Path, retried: tuple[bytes, bytes]) -> None:
    traffic = late().exchange(STATION, 5555, RESOLVER, 53, DNS_CUT).tcp(STATION, 40001, RESOLVER, 53, retried)
    result = traffic.audit(tmp_path)
    assert not findings_of(result, "TPE101") and not findings_of(result, "TPE338")
    assert statuses(result)["n2"] == "present"
    assert [result.flow_rows.get(flow.id) for flow in result.flows if flow.responder.port == 53] == [("n2",)] * 2


@pytest.mark.parametrize(
    "traffic",
    [
        late().tcp(STATION, 40001, RESOLVER, 53, DNS_TCP),
        late().exchange(STATION, 5555, RESOLVER, 53, DNS).tcp(STATION, 40001, RESOLVER, 53, DNS_TCP),
        late().exchange(STATION, 5555, OTHER, 53, DNS_CUT).tcp(STATION, 40001, RESOLVER, 53, DNS_TCP),
        late().exchange("10.0.0.9", 5555, RESOLVER, 53, DNS_CUT).tcp(STATION, 40001, RESOLVER, 53, DNS_TCP),
        late().tcp(STATION, 40001, RESOLVER, 53, DNS_TCP).exchange(STATION, 5555, RESOLVER, 53, DNS_CUT),
        late().exchange(STATION, 5555, RESOLVER, 53, DNS_CUT).tcp(STATION, 40001, RESOLVER, 53, TXT_TCP),
        late().exchange(STATION, 5555, RESOLVER, 53, CUT_OTHER_NAME).tcp(STATION, 40001, RESOLVER, 53, DNS_TCP),
        late()
        .exchange(STATION, 5555, RESOLVER, 53, DNS_CUT)
        .tcp(STATION, 40001, RESOLVER, 53, (DNS_TCP[0] + TXT_TCP[0], DNS_TCP[1])),
    ],
    ids=[
        "alone",
        "whole answer",
        "another server",
        "another client",
        "before the answer",
        "another type",
        "another name",
        "another question behind the retry",
    ],
)
def test_any_other_dns_over_tcp_makes_the_row_malformed(tmp_path: Path, traffic: Traffic) -> None:
    result = traffic.audit(tmp_path)
    (finding,) = findings_of(result, "TPE338")
    assert (finding.kind, finding.rows, finding.mismatch) == (Kind.MALFORMED, ("n2",), "transport")
    assert (finding.severity, statuses(result)["n2"]) == (Severity.MEDIUM, "malformed")
    assert not findings_of(result, "TPE101")


def test_dns_over_tcp_whose_truncated_answer_the_capture_may_lack(tmp_path: Path) -> None:
    result = tls().tcp(STATION, 40001, RESOLVER, 53, DNS_TCP).audit(tmp_path)
    (finding,) = findings_of(result, "TPE338")
    assert (finding.severity, statuses(result)["n2"]) == (Severity.LOW, "present")


def test_other_content_on_tcp_53_is_unexpected(tmp_path: Path) -> None:
    for traffic in (tls().tcp(STATION, 40001, RESOLVER, 53, TLS), tls().syn(STATION, 40001, RESOLVER, 53)):
        result = traffic.audit(tmp_path)
        (finding,) = findings_of(result, "TPE101")
        assert (finding.rows, finding.mismatch) == (("n2",), "transport")
        assert statuses(result)["n2"] == "absent"


# -- flows that need no row ------------------------------------------------------------------------------------------


def test_link_local_housekeeping_is_not_judged(tmp_path: Path) -> None:
    traffic = tls(Traffic({STATION: "02:00:00:00:00:aa", "fe80::2": "02:00:00:00:00:aa"}))
    traffic.packet("fe80::2", "ff02::1:ff00:1", 58, bytes((135, 0)) + bytes(22), ttl=255)
    traffic.packet("fe80::2", "ff02::16", 58, bytes((143, 0)) + bytes(26), ttl=1)
    traffic.packet(STATION, "224.0.0.22", 2, bytes((0x22, 0, 0, 0, 0, 0, 0, 1)) + bytes(8), ttl=1)
    result = traffic.audit(tmp_path)
    assert len(result.flow_stations) == 4
    assert not unexpected(result)


def test_flows_of_other_hosts_are_out_of_scope(tmp_path: Path) -> None:
    result = tls().exchange("10.7.7.7", 123, OTHER, 123, NTP).tcp("10.7.7.7", 1, OTHER, 8080, HTTP).audit(tmp_path)
    assert result.totals.flows_out_of_scope == 2
    assert result.totals.packets_of_base_stations + result.totals.packets_out_of_scope == result.totals.packets
