"""Status of rows: missing, blocked, malformed and present, and how certain it is."""

from __future__ import annotations

import json
import time
from pathlib import Path

import jsonschema
import pytest

from analyzer.expected import Deployment, load
from analyzer.findings import Severity
from analyzer.heads import Frame
from analyzer.matching import Match, StationMatches
from analyzer.reports import json as json_report
from analyzer.stations import Mode
from analyzer.timeline import Run, RunKind, Timeline
from analyzer.verdicts import Status, judge
from tests.checks.matches import base_station
from tests.protocols.ike_messages import encrypted
from tests.reports.audits import flow
from tests.synthetic import (
    DNS,
    ESP,
    HTTP,
    IEC104,
    IKE_AUTH,
    IKE_INIT,
    NTP,
    OTHER,
    STATION,
    TLS,
    TPE,
    Traffic,
    findings_of,
    ftp,
    reason,
    statuses,
)

HOUR = 3600
PAUSE = 250
"""Seconds without a packet, fewer than end a run of packets."""
RESOLVER = "192.0.2.53"


def tls(traffic: Traffic | None = None) -> Traffic:
    return (traffic or Traffic()).tcp(STATION, 40000, TPE, 3001, TLS)


def plain() -> Traffic:
    return Traffic().tcp(STATION, 40000, TPE, 2404, IEC104)


def tunnel() -> Traffic:
    traffic = Traffic().exchange(STATION, 500, TPE, 500, IKE_INIT)
    return traffic.udp(STATION, 4500, TPE, 4500, (">", IKE_AUTH), ("<", IKE_AUTH), (">", ESP), ("<", ESP))


def later(traffic: Traffic, seconds: float) -> Traffic:
    """The capture goes on for so long without a pause; other hosts keep talking."""
    while traffic.clock < seconds - PAUSE:
        traffic.at(traffic.clock + PAUSE).exchange("10.7.7.7", 123, OTHER, 123, NTP)
    return traffic.at(seconds).exchange("10.7.7.7", 123, OTHER, 123, NTP)


ENDLESS = Timeline([Run(0, 2**62, RunKind.FILE, Frame(0, 1))])


# -- missing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("watched", "expected"), [(100, "missing, weak"), (123, "missing, firm")])
def test_periodic_row_is_firmly_missing_after_two_periods(tmp_path: Path, watched: float, expected: str) -> None:
    result = later(tls(), watched).audit(tmp_path)
    assert statuses(result)["i3"] == expected
    assert "of its periods of 61 s" in reason(result, "i3")
    (finding,) = (finding for finding in findings_of(result, "TPE111") if finding.rows == ("i3",))
    assert finding.severity is (Severity.HIGH if "firm" in expected else Severity.LOW)


def test_station_is_watched_from_its_first_packet_on(tmp_path: Path) -> None:
    traffic = Traffic().exchange("10.7.7.7", 123, OTHER, 123, NTP).at(1000)
    assert statuses(tls(traffic).audit(tmp_path))["i3"] == "missing, weak"


def test_row_on_demand_is_never_firmly_missing(tmp_path: Path) -> None:
    result = later(tls(), 10 * HOUR).audit(tmp_path)
    assert [statuses(result)[row] for row in ("i4", "i5", "i39", "i40")] == ["missing, weak"] * 4


def test_established_tunnel_weakens_the_absence_of_other_rows(tmp_path: Path) -> None:
    result = later(tunnel(), HOUR).audit(tmp_path)
    assert statuses(result)["i1"] == statuses(result)["i2"] == "present"
    assert statuses(result)["i3"] == "missing, weak"
    assert "tunnel may carry it" in reason(result, "i3")


def test_without_a_tunnel_other_rows_are_firmly_missing(tmp_path: Path) -> None:
    traffic = later(Traffic().udp(STATION, 500, TPE, 500, (">", IKE_INIT[0])), HOUR)
    result = traffic.audit(tmp_path)
    assert (statuses(result)["i1"], statuses(result)["i2"]) == ("blocked, weak", "missing, firm")
    assert statuses(result)["i3"] == "missing, firm"


def test_missing_esp_points_to_the_failure_of_ike(tmp_path: Path) -> None:
    result = later(Traffic().udp(STATION, 500, TPE, 500, (">", IKE_INIT[0])), HOUR).audit(tmp_path)
    assert reason(result, "i2") == "there is no ESP without IKE, and row i1 is blocked"
    assert {finding.rows: finding.severity for finding in findings_of(result, "TPE111")}["i2",] is Severity.LOW


def test_esp_in_both_directions_proves_that_ike_came_before(tmp_path: Path) -> None:
    traffic = Traffic().packet(STATION, TPE, 50, ESP).packet(TPE, STATION, 50, ESP)
    result = later(traffic, HOUR).audit(tmp_path)
    assert statuses(result)["i1"] == "missing, weak"
    assert "IKE set up the tunnel before the capture" in reason(result, "i1")


def test_rows_that_the_tunnel_may_carry_are_one_finding(tmp_path: Path) -> None:
    result = later(tunnel(), HOUR).audit(tmp_path)
    (finding,) = findings_of(result, "TPE111")
    assert (finding.severity, finding.rows) == (Severity.LOW, ("i3", "i4", "i5", "i38", "i39", "i40"))
    assert finding.filter == (
        f"ip.addr == {STATION} && (icmp || tcp.port == 22 || tcp.port == 3001 || tcp.port == 3002 || tcp.port == 3003)"
    )


def test_lost_link_says_until_when_it_was_served(tmp_path: Path) -> None:
    """Frames and filter show the attempts since, not what worked before."""
    traffic = Traffic().tcp(STATION, 40000, TPE, 2404, IEC104, duration=5)
    for number in range(4):
        traffic.at(20 + 10 * number).syn(STATION, 40001 + number, TPE, 2404, reset=True)
    result = traffic.audit(tmp_path)
    report = json.loads(json_report.render(result))
    (row,) = (row for row in report["base_stations"][0]["rows"] if row["id"] == "i6")
    assert (row["status"], row["served_until"]) == ("blocked", "2026-11-22T06:37:05.050000Z")
    jsonschema.Draft202012Validator(json_report.schema()).validate(report)
    (finding,) = (finding for finding in findings_of(result, "TPE112") if "i6" in finding.rows)
    assert min(finding.frames).number == 7


def test_blocked_ike_cites_the_exchange_that_failed(tmp_path: Path) -> None:
    """IKE_SA_INIT worked on port 500, and IKE_AUTH fails on port 4500: one negotiation in two flows."""
    traffic = Traffic().exchange(STATION, 500, TPE, 500, IKE_INIT)
    traffic.udp(STATION, 4500, TPE, 4500, *[(">", IKE_AUTH)] * 3)
    (finding,) = findings_of(later(traffic, HOUR).audit(tmp_path), "TPE112")
    assert "udp.port == 4500" in (finding.filter or "")
    assert "times" not in finding.summary


@pytest.mark.parametrize(
    ("version", "expected"),
    [(None, "missing, weak"), ("2.7", "absent"), ("2.7.99", "absent"), ("2.8", "missing, weak")],
)
def test_lrr_version_decides_rows_of_newer_stations(tmp_path: Path, version: str | None, expected: str) -> None:
    traffic = later(Traffic().udp(STATION, 500, TPE, 500, (">", IKE_INIT[0])), HOUR)
    result = traffic.audit(tmp_path, lrr_version=version)
    assert [statuses(result)[row] for row in ("i38", "i39", "i40")] == [expected] * 3
    assert ("2.8 and later" in reason(result, "i38")) is (version is None)


def test_lrr_version_changes_nothing_in_mode_tls(tmp_path: Path) -> None:
    assert statuses(tls().audit(tmp_path, lrr_version="2.7"))["i39"] == "missing, weak"


@pytest.mark.parametrize("deployment", ["standalone", "ha"])
def test_requirements_are_those_of_the_deployment(tmp_path: Path, deployment: str) -> None:
    result = tls().audit(tmp_path, deployment=deployment)
    assert result.deployment.value == deployment
    for row in result.base_stations[0].rows:
        assert row.requirement is (row.row.ha if deployment == "ha" else row.row.standalone)


# -- blocked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reset", "why"), [(False, "no answer to the SYN"), (True, "10.0.9.1 reset the connection")])
def test_failed_attempts_block_a_row(tmp_path: Path, reset: bool, why: str) -> None:
    traffic = tls().syn(STATION, 40001, TPE, 3002, reset).syn(STATION, 40002, TPE, 3002, reset)
    result = later(traffic, 60).audit(tmp_path)
    assert statuses(result)["i39"] == "blocked, weak"
    assert reason(result, "i39").startswith(why)
    (finding,) = findings_of(result, "TPE112")
    assert (finding.rows, finding.count, finding.severity) == (("i39",), 2, Severity.MEDIUM)
    assert len(finding.frames) == (4 if reset else 2)


def test_one_success_outweighs_failed_attempts(tmp_path: Path) -> None:
    traffic = tls(Traffic().syn(STATION, 39999, TPE, 3001, reset=True))
    assert statuses(later(traffic, 60).audit(tmp_path))["i38"] == "present"


def test_icmp_error_is_the_reason_of_a_blocked_row(tmp_path: Path) -> None:
    traffic = tls().syn(STATION, 40001, TPE, 3002)
    quoted = traffic.packets[-1][1][14:][:28]
    traffic.packet("10.0.0.1", STATION, 1, bytes((3, 13, 0, 0, 0, 0, 0, 0)) + quoted)
    result = traffic.audit(tmp_path)
    assert statuses(result)["i39"] == "blocked, weak"
    assert "10.0.0.1 answered with ICMP destination unreachable, administratively prohibited" in reason(result, "i39")


def test_pings_without_replies_block_their_row(tmp_path: Path) -> None:
    traffic = tls()
    for number in range(4):
        traffic.at(61 * number + 1).echo(STATION, TPE, answered=False, number=number)
    assert statuses(traffic.audit(tmp_path))["i3"] == "blocked, firm"


def test_blocked_rows_that_share_an_attempt_are_one_finding(tmp_path: Path) -> None:
    result = later(tls().syn(STATION, 40001, TPE, 22), 60).audit(tmp_path)
    assert statuses(result)["i4"] == statuses(result)["i5"] == "blocked, weak"
    (finding,) = findings_of(result, "TPE112")
    assert finding.rows == ("i4", "i5")


def test_unanswered_ike_auth_blocks_the_tunnel(tmp_path: Path) -> None:
    traffic = Traffic().exchange(STATION, 500, TPE, 500, IKE_INIT)
    for _ in range(3):
        traffic.udp(STATION, 4500, TPE, 4500, (">", IKE_AUTH))
    result = later(traffic, 60).audit(tmp_path)
    assert statuses(result)["i1"] == "blocked, weak"
    assert "IKE_AUTH was never answered" in reason(result, "i1")


def test_esp_outweighs_an_unanswered_ike_auth(tmp_path: Path) -> None:
    traffic = Traffic().exchange(STATION, 500, TPE, 500, IKE_INIT).udp(STATION, 4500, TPE, 4500, (">", IKE_AUTH))
    traffic.packet(STATION, TPE, 50, ESP).packet(TPE, STATION, 50, ESP)
    assert statuses(traffic.audit(tmp_path))["i1"] == "present"


def test_ike_intermediate_is_no_authentication(tmp_path: Path) -> None:
    traffic = Traffic().exchange(STATION, 500, TPE, 500, IKE_INIT)
    traffic.udp(
        STATION, 4500, TPE, 4500, (">", encrypted(43, 1)), ("<", encrypted(43, 1, flags=0x20)), (">", encrypted(35, 2))
    )
    result = later(traffic, 60).audit(tmp_path)
    assert statuses(result)["i1"].startswith("blocked") and "IKE_AUTH was never answered" in reason(result, "i1")
    traffic.udp(STATION, 4500, TPE, 4500, ("<", encrypted(35, 2, flags=0x20)))
    assert statuses(traffic.audit(tmp_path))["i1"] == "present"


@pytest.mark.parametrize(("exchange", "how"), [(37, "kept alive"), (36, "rekeyed")])
def test_tunnel_older_than_the_capture_is_present_with_unknown_proposal(
    tmp_path: Path, exchange: int, how: str
) -> None:
    both = (">", encrypted(exchange, 4)), ("<", encrypted(exchange, 4, flags=0x20))
    result = Traffic().udp(STATION, 4500, TPE, 4500, *both, (">", ESP), ("<", ESP)).audit(tmp_path)
    assert statuses(result)["i1"] == "present"
    assert reason(result, "i1") == (
        f"set up before the capture, only {how} in it: which proposal protects the tunnel is not known"
    )


def test_tunnel_without_its_first_exchange_is_present_with_unknown_proposal(tmp_path: Path) -> None:
    auth = (">", encrypted(35, 1)), ("<", encrypted(35, 1, flags=0x20))
    result = Traffic().udp(STATION, 4500, TPE, 4500, *auth, (">", ESP), ("<", ESP)).audit(tmp_path)
    assert statuses(result)["i1"] == "present"
    assert reason(result, "i1").startswith("IKE_SA_INIT is not in the capture: which proposal")


def test_moved_tunnel_is_present_with_its_addresses(tmp_path: Path) -> None:
    elsewhere = "10.0.0.77"
    auth = (">", encrypted(35, 1)), ("<", encrypted(35, 1, flags=0x20))
    update = (">", encrypted(37, 2)), ("<", encrypted(37, 2, flags=0x20))
    traffic = (
        Traffic()
        .exchange(STATION, 500, TPE, 500, IKE_INIT)
        .udp(STATION, 4500, TPE, 4500, *auth, (">", ESP), ("<", ESP))
    )
    result = traffic.udp(elsewhere, 4500, TPE, 4500, *update, (">", ESP), ("<", ESP)).audit(tmp_path)
    assert statuses(result)["i1"] == "present"
    assert reason(result, "i1") == f"the IKE SA moved on to another address (MOBIKE): {STATION}, then {elsewhere}"


@pytest.mark.parametrize("bare", [True, False])
def test_esp_in_one_direction_blocks_its_row(tmp_path: Path, bare: bool) -> None:
    traffic = Traffic().exchange(STATION, 500, TPE, 500, IKE_INIT)
    traffic.udp(STATION, 4500, TPE, 4500, (">", IKE_AUTH), ("<", IKE_AUTH))
    for _ in range(3):
        if bare:
            traffic.packet(STATION, TPE, 50, ESP)
        else:
            traffic.udp(STATION, 4500, TPE, 4500, (">", ESP))
    result = later(traffic, 60).audit(tmp_path)
    assert statuses(result)["i2"].startswith("blocked")
    assert "one direction only" in reason(result, "i2")


def test_blocked_optional_row_has_low_severity(tmp_path: Path) -> None:
    result = later(tls().udp(STATION, 5555, RESOLVER, 53, (">", DNS[0])), 60).audit(tmp_path)
    assert statuses(result)["n2"] == "blocked, weak"
    (finding,) = findings_of(result, "TPE112")
    assert (finding.rows, finding.severity) == (("n2",), Severity.LOW)


def test_refused_login_blocks_its_rows(tmp_path: Path) -> None:
    refused = [*ftp()[:4], ("<", b"530 Login incorrect.\r\n")]
    result = plain().dialogue(STATION, 40001, TPE, 21, *refused).audit(tmp_path)
    assert statuses(result)["i7"] == statuses(result)["i8"] == "blocked, weak"
    (finding,) = findings_of(result, "TPE112")
    assert finding.rows == ("i7", "i8")
    assert "the server refused the login" in finding.summary


# -- malformed and present --------------------------------------------------------------------------------------


def test_other_protocol_makes_a_row_malformed(tmp_path: Path) -> None:
    result = Traffic().tcp(STATION, 40000, TPE, 3001, HTTP).audit(tmp_path)
    assert statuses(result)["i38"] == "malformed"
    (finding,) = findings_of(result, "TPE121")
    assert finding.severity is Severity.HIGH
    assert "HTTP in clear" in finding.summary


def test_malformed_flow_outweighs_a_good_one_in_any_order(tmp_path: Path) -> None:
    good_first = Traffic().tcp(STATION, 40000, TPE, 3001, TLS).tcp(STATION, 40001, TPE, 3001, HTTP)
    bad_first = Traffic().tcp(STATION, 40000, TPE, 3001, HTTP).tcp(STATION, 40001, TPE, 3001, TLS)
    assert statuses(good_first.audit(tmp_path))["i38"] == "malformed"
    assert statuses(bad_first.audit(tmp_path))["i38"] == "malformed"


def test_ah_instead_of_esp_is_malformed(tmp_path: Path) -> None:
    traffic = Traffic().exchange(STATION, 500, TPE, 500, IKE_INIT)
    traffic.packet(STATION, TPE, 51, bytes(40)).packet(TPE, STATION, 51, bytes(40))
    result = traffic.audit(tmp_path)
    assert statuses(result)["i2"] == "malformed"
    (finding,) = findings_of(result, "TPE121")
    assert finding.severity is Severity.HIGH
    assert "AH instead of ESP" in finding.summary


def test_midstream_flow_makes_a_row_present_with_a_reason(tmp_path: Path) -> None:
    record = b"\x17\x03\x03\x00\x20" + bytes(32)
    result = Traffic().tcp(STATION, 40000, TPE, 3001, (record, record), begins=False).audit(tmp_path)
    assert statuses(result)["i38"] == "present"
    assert "beginning is not in the capture" in reason(result, "i38")


def test_present_row_names_the_limits_of_its_evidence(tmp_path: Path) -> None:
    result = Traffic().tcp(STATION, 40000, TPE, 3001, (b"\x99" * 100, b"\x98" * 100), begins=False).audit(tmp_path)
    assert statuses(result)["i38"] == "present"
    assert "what its content is cannot be told" in reason(result, "i38")


def test_ike_sa_init_alone_is_no_tunnel(tmp_path: Path) -> None:
    traffic = Traffic().exchange(STATION, 500, TPE, 500, IKE_INIT)
    assert statuses(traffic.audit(tmp_path))["i1"] == "undecided"
    assert statuses(later(traffic, 60).audit(tmp_path))["i1"] == "blocked, weak"


# -- the beginning and the end of the capture -------------------------------------------------------------------


@pytest.mark.parametrize("flags", [0x11, 0x14], ids=["FIN", "RST"])
def test_the_end_of_a_connection_blocks_no_row(tmp_path: Path, flags: int) -> None:
    traffic = tls().segment(TPE, 3002, STATION, 40001, flags, seq=5000, ack=1000)
    traffic.segment(STATION, 40001, TPE, 3002, 0x10, seq=1000, ack=5001)
    assert statuses(later(traffic, 60).audit(tmp_path))["i39"] == "undecided"


@pytest.mark.parametrize(("closed", "expected"), [(0, "undecided"), (1, "malformed")], ids=["open", "closed"])
def test_ssh_server_may_send_lines_before_its_banner(tmp_path: Path, closed: float, expected: str) -> None:
    """RFC 4253, section 4.2. A connection that ends with them alone was no SSH."""
    traffic = tls().dialogue(STATION, 40001, TPE, 22, ("<", b"Authorised use only.\r\n"), duration=closed)
    assert statuses(later(traffic, 5).audit(tmp_path))["i4"] == expected


# -- frames that could not be read ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unread", "expected"),
    [
        (0, ("missing, firm", "blocked, weak")),
        (1, ("missing, firm", "blocked, weak")),
        (9, ("missing, weak", "undecided")),
    ],
)
def test_unread_frames_prove_no_absence(tmp_path: Path, unread: int, expected: tuple[str, str]) -> None:
    """Frames of the station with another IP version than their type says; the rest of them is read."""
    traffic = tls().syn(STATION, 40001, TPE, 3002)
    for number in range(40):
        traffic.exchange(STATION, 41000 + number, OTHER, 123, NTP)
    for _ in range(unread):
        traffic.packet(STATION, TPE, 17, bytes(40))
        time_stamp, frame = traffic.packets.pop()
        traffic.packets.append((time_stamp, frame[:14] + b"\x75" + frame[15:]))
    result = later(traffic, HOUR).audit(tmp_path)
    assert (statuses(result)["i3"], statuses(result)["i39"]) == expected


# -- time -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("row", "packets"), [("n4", (1, 0)), ("i1", (1, 1))], ids=["DHCP", "IKE"])
def test_time_to_judge_a_row_is_linear_in_its_flows(row: str, packets: tuple[int, int]) -> None:
    """16,000 flows take below a second; a scan of all of them for each one takes two minutes."""
    table, station = load()["ipsec"], base_station(STATION)
    flows = (flow(number, transport="udp", protocol=None)._replace(packets=packets) for number in range(1, 16_001))
    matches = tuple(Match(station, conversation, (table.flow(row),)) for conversation in flows)
    began = time.process_time()
    (verdict,) = judge(
        [StationMatches(station, Mode("ipsec", (), ()), table.flows, matches, (), ENDLESS)],
        *(Deployment.STANDALONE, {}, None, (), {}),
    )
    assert time.process_time() - began < 5
    (judged,) = (judged for judged in verdict.rows if judged.row.id == row)
    assert judged.status is (Status.BLOCKED if row == "n4" else Status.PRESENT)
    assert len(judged.flows) == 16_000
