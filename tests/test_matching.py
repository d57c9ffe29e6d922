"""What becomes of each row of the table: statuses, how sure they are, and rows that share a port."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyzer.findings import Kind, Severity
from analyzer.result import Audit
from tests.protocols.ike_messages import encrypted
from tests.synthetic import (
    DNS,
    DNS_CUT,
    DNS_TCP,
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
    Scene,
    found,
    ftp,
    statuses,
)

HOUR = 3600
RESOLVER = "192.0.2.53"


def tls(scene: Scene | None = None) -> Scene:
    return (scene or Scene()).tcp(STATION, 40000, TPE, 3001, TLS)


def plain() -> Scene:
    return Scene().tcp(STATION, 40000, TPE, 2404, IEC104)


def tunnel() -> Scene:
    scene = Scene().ask(STATION, 500, TPE, 500, IKE_INIT)
    return scene.udp(STATION, 4500, TPE, 4500, (">", IKE_AUTH), ("<", IKE_AUTH), (">", ESP), ("<", ESP))


def later(scene: Scene, seconds: float) -> Scene:
    """The capture goes on for so long; what is said then is out of scope."""
    return scene.at(seconds).ask("10.7.7.7", 123, OTHER, 123, NTP)


def reason(result: Audit, row: str) -> str:
    return next(each.reason or "" for station in result.base_stations for each in station.rows if each.row.id == row)


# -- how sure a row is missing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("watched", "expected"), [(100, "missing, weak"), (123, "missing, firm")])
def test_a_periodic_row_is_firmly_missing_after_two_of_its_periods(
    tmp_path: Path, watched: float, expected: str
) -> None:
    result = later(tls(), watched).audited(tmp_path)
    assert statuses(result)["i3"] == expected
    assert "of its periods of 61 s" in reason(result, "i3")
    (finding,) = (each for each in found(result, "TPE111") if each.rows == ("i3",))
    assert finding.severity is (Severity.HIGH if "firm" in expected else Severity.LOW)


def test_the_station_is_watched_from_its_own_first_packet_on(tmp_path: Path) -> None:
    scene = Scene().ask("10.7.7.7", 123, OTHER, 123, NTP).at(1000)
    assert statuses(tls(scene).audited(tmp_path))["i3"] == "missing, weak"


def test_what_is_used_on_demand_is_never_firmly_missing(tmp_path: Path) -> None:
    result = later(tls(), 10 * HOUR).audited(tmp_path)
    assert [statuses(result)[row] for row in ("i4", "i5", "i39", "i40")] == ["missing, weak"] * 4


def test_an_established_tunnel_may_carry_all_else(tmp_path: Path) -> None:
    result = later(tunnel(), HOUR).audited(tmp_path)
    assert statuses(result)["i1"] == statuses(result)["i2"] == "present"
    assert statuses(result)["i3"] == "missing, weak"
    assert "tunnel may carry it" in reason(result, "i3")


def test_without_a_tunnel_the_ping_is_firmly_missing(tmp_path: Path) -> None:
    scene = later(Scene().udp(STATION, 500, TPE, 500, (">", IKE_INIT[0])), HOUR)
    result = scene.audited(tmp_path)
    assert (statuses(result)["i1"], statuses(result)["i2"]) == ("blocked, weak", "missing, firm")
    assert statuses(result)["i3"] == "missing, firm"


@pytest.mark.parametrize(
    ("version", "expected"),
    [(None, "missing, weak"), ("2.7", "absent"), ("2.7.99", "absent"), ("2.8", "missing, weak")],
)
def test_the_lrr_version_settles_rows_of_newer_stations(tmp_path: Path, version: str | None, expected: str) -> None:
    scene = later(Scene().udp(STATION, 500, TPE, 500, (">", IKE_INIT[0])), HOUR)
    result = scene.audited(tmp_path, lrr_version=version)
    assert [statuses(result)[row] for row in ("i38", "i39", "i40")] == [expected] * 3
    assert ("2.8 and later" in reason(result, "i38")) is (version is None)


def test_the_lrr_version_changes_nothing_in_mode_tls(tmp_path: Path) -> None:
    assert statuses(tls().audited(tmp_path, lrr_version="2.7"))["i39"] == "missing, weak"


@pytest.mark.parametrize("deployment", ["standalone", "ha"])
def test_requirements_are_those_of_the_deployment(tmp_path: Path, deployment: str) -> None:
    result = tls().audited(tmp_path, deployment=deployment)
    assert result.deployment.value == deployment
    for row in result.base_stations[0].rows:
        assert row.requirement is (row.row.ha if deployment == "ha" else row.row.standalone)


# -- blocked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reset", "why"), [(False, "no answer to the SYN"), (True, "10.0.9.1 reset the connection")])
def test_attempts_that_come_to_nothing(tmp_path: Path, reset: bool, why: str) -> None:
    result = tls().syn(STATION, 40001, TPE, 3002, reset).syn(STATION, 40002, TPE, 3002, reset).audited(tmp_path)
    assert statuses(result)["i39"] == "blocked, weak"
    assert reason(result, "i39").startswith(why)
    (finding,) = found(result, "TPE112")
    assert (finding.rows, finding.count, finding.severity) == (("i39",), 2, Severity.MEDIUM)
    assert len(finding.frames) == (4 if reset else 2)


def test_one_success_outweighs_failed_attempts(tmp_path: Path) -> None:
    scene = tls(Scene().syn(STATION, 39999, TPE, 3001, reset=True))
    assert statuses(scene.audited(tmp_path))["i38"] == "present"


def test_an_icmp_error_is_why(tmp_path: Path) -> None:
    scene = tls().syn(STATION, 40001, TPE, 3002)
    quoted = scene.packets[-1][1][14:][:28]
    scene.packet("10.0.0.1", STATION, 1, bytes((3, 13, 0, 0, 0, 0, 0, 0)) + quoted)
    result = scene.audited(tmp_path)
    assert statuses(result)["i39"] == "blocked, weak"
    assert "10.0.0.1 answered with ICMP type 3 code 13 (administratively prohibited)" in reason(result, "i39")


def test_pings_without_replies(tmp_path: Path) -> None:
    scene = tls()
    for number in range(4):
        scene.at(61 * number + 1).echo(STATION, TPE, answered=False, number=number)
    assert statuses(scene.audited(tmp_path))["i3"] == "blocked, firm"


def test_one_session_that_two_rows_share_is_one_finding(tmp_path: Path) -> None:
    result = tls().syn(STATION, 40001, TPE, 22).audited(tmp_path)
    assert statuses(result)["i4"] == statuses(result)["i5"] == "blocked, weak"
    (finding,) = found(result, "TPE112")
    assert finding.rows == ("i4", "i5")


def test_a_tunnel_whose_authentication_is_never_answered(tmp_path: Path) -> None:
    scene = Scene().ask(STATION, 500, TPE, 500, IKE_INIT)
    for _ in range(3):
        scene.udp(STATION, 4500, TPE, 4500, (">", IKE_AUTH))
    result = scene.audited(tmp_path)
    assert statuses(result)["i1"] == "blocked, weak"
    assert "IKE_AUTH was never answered" in reason(result, "i1")


def test_a_failed_first_authentication_is_forgiven_once_there_is_a_tunnel(tmp_path: Path) -> None:
    scene = Scene().ask(STATION, 500, TPE, 500, IKE_INIT).udp(STATION, 4500, TPE, 4500, (">", IKE_AUTH))
    scene.packet(STATION, TPE, 50, ESP).packet(TPE, STATION, 50, ESP)
    assert statuses(scene.audited(tmp_path))["i1"] == "present"


def test_an_intermediate_exchange_is_no_authentication(tmp_path: Path) -> None:
    scene = Scene().ask(STATION, 500, TPE, 500, IKE_INIT)
    scene.udp(
        STATION, 4500, TPE, 4500, (">", encrypted(43, 1)), ("<", encrypted(43, 1, flags=0x20)), (">", encrypted(35, 2))
    )
    result = scene.audited(tmp_path)
    assert statuses(result)["i1"].startswith("blocked") and "IKE_AUTH was never answered" in reason(result, "i1")
    scene.udp(STATION, 4500, TPE, 4500, ("<", encrypted(35, 2, flags=0x20)))
    assert statuses(scene.audited(tmp_path))["i1"] == "present"


@pytest.mark.parametrize(("exchange", "how"), [(37, "kept alive"), (36, "rekeyed")])
def test_a_tunnel_older_than_the_capture_is_present_and_its_proposal_unknown(
    tmp_path: Path, exchange: int, how: str
) -> None:
    both = (">", encrypted(exchange, 4)), ("<", encrypted(exchange, 4, flags=0x20))
    result = Scene().udp(STATION, 4500, TPE, 4500, *both, (">", ESP), ("<", ESP)).audited(tmp_path)
    assert statuses(result)["i1"] == "present"
    assert reason(result, "i1") == (
        f"set up before the capture, only {how} in it: which proposal protects the tunnel is not known"
    )


def test_a_tunnel_whose_first_exchange_is_missing_is_present_and_its_proposal_unknown(tmp_path: Path) -> None:
    auth = (">", encrypted(35, 1)), ("<", encrypted(35, 1, flags=0x20))
    result = Scene().udp(STATION, 4500, TPE, 4500, *auth, (">", ESP), ("<", ESP)).audited(tmp_path)
    assert statuses(result)["i1"] == "present"
    assert reason(result, "i1").startswith("IKE_SA_INIT is not in the capture: which proposal")


def test_a_tunnel_that_moves_on_is_present_and_the_move_is_said(tmp_path: Path) -> None:
    elsewhere = "10.0.0.77"
    auth = (">", encrypted(35, 1)), ("<", encrypted(35, 1, flags=0x20))
    update = (">", encrypted(37, 2)), ("<", encrypted(37, 2, flags=0x20))
    scene = Scene().ask(STATION, 500, TPE, 500, IKE_INIT).udp(STATION, 4500, TPE, 4500, *auth, (">", ESP), ("<", ESP))
    result = scene.udp(elsewhere, 4500, TPE, 4500, *update, (">", ESP), ("<", ESP)).audited(tmp_path)
    assert statuses(result)["i1"] == "present"
    assert reason(result, "i1") == f"the IKE SA moved on to another address (MOBIKE): {STATION}, then {elsewhere}"


@pytest.mark.parametrize("bare", [True, False])
def test_esp_in_one_direction_only(tmp_path: Path, bare: bool) -> None:
    scene = Scene().ask(STATION, 500, TPE, 500, IKE_INIT)
    scene.udp(STATION, 4500, TPE, 4500, (">", IKE_AUTH), ("<", IKE_AUTH))
    for _ in range(3):
        if bare:
            scene.packet(STATION, TPE, 50, ESP)
        else:
            scene.udp(STATION, 4500, TPE, 4500, (">", ESP))
    result = scene.audited(tmp_path)
    assert statuses(result)["i2"].startswith("blocked")
    assert "one direction only" in reason(result, "i2")


def test_an_optional_row_is_blocked_at_low_severity(tmp_path: Path) -> None:
    result = tls().udp(STATION, 5555, RESOLVER, 53, (">", DNS[0])).audited(tmp_path)
    assert statuses(result)["n2"] == "blocked, weak"
    (finding,) = found(result, "TPE112")
    assert (finding.rows, finding.severity) == (("n2",), Severity.LOW)


def test_a_refused_login(tmp_path: Path) -> None:
    refused = [*ftp()[:4], ("<", b"530 Login incorrect.\r\n")]
    result = plain().dialogue(STATION, 40001, TPE, 21, *refused).audited(tmp_path)
    assert statuses(result)["i7"] == statuses(result)["i8"] == "blocked, weak"
    (finding,) = found(result, "TPE112")
    assert finding.rows == ("i7", "i8")
    assert "the server refused the login" in finding.summary


# -- malformed and present --------------------------------------------------------------------------------------


def test_other_content_on_the_port_is_malformed(tmp_path: Path) -> None:
    result = Scene().tcp(STATION, 40000, TPE, 3001, HTTP).audited(tmp_path)
    assert statuses(result)["i38"] == "malformed"
    (finding,) = found(result, "TPE121")
    assert finding.severity is Severity.HIGH
    assert "HTTP in clear" in finding.summary


def test_ah_instead_of_esp_is_malformed(tmp_path: Path) -> None:
    scene = Scene().ask(STATION, 500, TPE, 500, IKE_INIT)
    scene.packet(STATION, TPE, 51, bytes(40)).packet(TPE, STATION, 51, bytes(40))
    result = scene.audited(tmp_path)
    assert statuses(result)["i2"] == "malformed"
    (finding,) = found(result, "TPE121")
    assert finding.severity is Severity.HIGH
    assert "AH instead of ESP" in finding.summary


def test_what_began_before_the_capture_is_present_and_said(tmp_path: Path) -> None:
    record = b"\x17\x03\x03\x00\x20" + bytes(32)
    result = Scene().tcp(STATION, 40000, TPE, 3001, (record, record), begins=False).audited(tmp_path)
    assert statuses(result)["i38"] == "present"
    assert "beginning is not in the capture" in reason(result, "i38")
    (notice,) = found(result, "TPE134")
    assert notice.severity is Severity.INFO


def test_what_a_present_row_does_not_show_is_said(tmp_path: Path) -> None:
    result = Scene().tcp(STATION, 40000, TPE, 3001, (b"\x99" * 100, b"\x98" * 100), begins=False).audited(tmp_path)
    assert statuses(result)["i38"] == "present"
    assert "what its content is cannot be told" in reason(result, "i38")
    result = Scene().ask(STATION, 500, TPE, 500, IKE_INIT).audited(tmp_path)
    assert statuses(result)["i1"] == "present"
    assert "whether there is a tunnel cannot be told" in reason(result, "i1")


# -- rows that share a port -------------------------------------------------------------------------------------


LOGIN = ((">", bytes(360)), ("<", bytes(420)))
"""What both sides encrypt up to a remote forward."""


def ssh_session(tmp_path: Path, *said: tuple[float, str, bytes], login: bool = True, lasting: float = 1) -> str:
    """Status of i4 and i5 after one session: what is said so many seconds after what came before."""
    scene = tls()
    told = [(0.0, *each) for each in ((">", SSH[0]), ("<", SSH[1]), *(LOGIN if login else ()))] + list(said)
    scene.segment(STATION, 40001, TPE, 22, 0x02, seq=999)
    scene.segment(TPE, 22, STATION, 40001, 0x12, seq=4999, ack=1000)
    scene.segment(STATION, 40001, TPE, 22, 0x10, ack=5000)
    sent = {">": 1000, "<": 5000}
    for pause, direction, payload in told:
        scene.clock += pause
        ends = (STATION, 40001, TPE, 22) if direction == ">" else (TPE, 22, STATION, 40001)
        for at in range(0, len(payload), 1400):
            part = payload[at : at + 1400]
            ack = sent["<" if direction == ">" else ">"]
            scene.segment(*ends, 0x18, seq=sent[direction], ack=ack, payload=part)
            sent[direction] += len(part)
    scene.clock += lasting
    scene.segment(STATION, 40001, TPE, 22, 0x11, seq=sent[">"], ack=sent["<"])
    result = statuses(scene.audited(tmp_path))
    return f"{result['i4']}; {result['i5']}"


REVERSE, UNDECIDED = "missing, weak; present", "undecided; undecided"


def test_a_long_silent_ssh_session_is_the_reverse_one(tmp_path: Path) -> None:
    assert ssh_session(tmp_path, lasting=90) == REVERSE
    assert ssh_session(tmp_path, (3000, ">", bytes(64)), lasting=1) == REVERSE  # a last word of goodbye


def test_a_long_ssh_session_in_bursts_that_the_server_begins_is_the_reverse_one(tmp_path: Path) -> None:
    burst = ((40, "<", bytes(100)), (0, ">", bytes(5000)), (30, "<", bytes(100)), (0, ">", bytes(90_000)))
    assert ssh_session(tmp_path, *burst) == REVERSE
    both = ((40, "<", bytes(100)), (0, ">", bytes(100)), (20, ">", bytes(100)), (1, "<", bytes(100)))
    assert ssh_session(tmp_path, *both) == REVERSE


def test_a_long_ssh_session_of_another_shape_is_undecided(tmp_path: Path) -> None:
    asked = ((40, ">", bytes(100)), (0, "<", bytes(5000)), (30, ">", bytes(100)), (0, "<", bytes(5000)))
    assert ssh_session(tmp_path, *asked) == UNDECIDED
    assert ssh_session(tmp_path, *[(5, "<", bytes(9000))] * 20) == UNDECIDED  # a download that goes on and on


def test_a_long_ssh_session_without_a_login_is_undecided(tmp_path: Path) -> None:
    assert ssh_session(tmp_path, login=False, lasting=120) == UNDECIDED


def test_a_short_ssh_session_is_undecided(tmp_path: Path) -> None:
    result = tls().tcp(STATION, 40001, TPE, 22, SSH, lasting=2).audited(tmp_path)
    assert statuses(result)["i4"] == statuses(result)["i5"] == "undecided"
    assert "i4 or i5" in reason(result, "i4") or "row i4 or i5" in reason(result, "i4")
    assert not [each for each in found(result, "TPE111") if set(each.rows) & {"i4", "i5"}]


def test_a_short_download_before_all_protection_is_the_key_installer(tmp_path: Path) -> None:
    keys = (SSH[0], SSH[1] + bytes(8192))
    result = tls(Scene().tcp(STATION, 40001, TPE, 22, keys, lasting=2)).audited(tmp_path)
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
def test_downloads_and_uploads_tell_ftp_rows_apart(
    tmp_path: Path, said: list[tuple[str, str]], expected: tuple[str, str]
) -> None:
    result = plain().dialogue(STATION, 40001, TPE, 21, *ftp(*said)).audited(tmp_path)
    assert (statuses(result)["i7"], statuses(result)["i8"]) == expected


@pytest.mark.parametrize("opening", [PASSIVE, ACTIVE], ids=["passive", "active"])
@pytest.mark.parametrize(("command", "rows"), [(RETR, ("i7",)), (STOR, ("i8",)), (LIST, ("i7", "i8"))])
def test_a_data_connection_takes_the_row_of_its_command(
    tmp_path: Path, opening: list[tuple[str, str]], command: list[tuple[str, str]], rows: tuple[str, ...]
) -> None:
    scene = plain().dialogue(STATION, 40001, TPE, 21, *ftp(*opening, *command), lasting=5)
    scene.at(scene.clock - 4)
    if opening is PASSIVE:
        scene.tcp(STATION, 40002, TPE, 50047, (b"", b"data"))
    else:
        scene.tcp(TPE, 20, STATION, 50047, (b"data", b""))
    result = scene.audited(tmp_path)
    assert [each.kind.value for each in result.findings if each.kind.value == "unexpected"] == []
    (data,) = (each for each in result.flows if each.protocol == "ftp-data")
    assert result.flow_rows[data.id] == rows
    if len(rows) > 1:
        assert statuses(result)["i7"] == statuses(result)["i8"] == "undecided"


@pytest.mark.parametrize("server", [SECOND, TPE], ids=["the named address", "the address that the client knows"])
def test_data_connections_of_a_server_that_names_another_address(tmp_path: Path, server: str) -> None:
    elsewhere = [(who, line.replace("10,0,9,1", "10,0,9,2")) for who, line in PASSIVE]
    scene = plain().dialogue(STATION, 40001, TPE, 21, *ftp(*elsewhere, *RETR), lasting=5)
    scene.at(scene.clock - 4).tcp(STATION, 40002, server, 50047, (b"", b"data"))
    result = scene.audited(tmp_path)
    assert [each.kind.value for each in result.findings if each.kind.value == "unexpected"] == []
    assert statuses(result)["i7"] == "present"
    stranger = plain().dialogue(STATION, 40001, TPE, 21, *ftp(*elsewhere, *RETR), lasting=5)
    stranger.at(stranger.clock - 4).tcp(STATION, 40002, OTHER, 50047, (b"", b"data"))
    assert found(stranger.audited(tmp_path), "TPE101")


@pytest.mark.parametrize(("server", "expected"), [(OTHER, ("present", "absent")), (TPE, ("absent", "present"))])
def test_whether_tpe_is_the_time_server_tells_ntp_rows_apart(
    tmp_path: Path, server: str, expected: tuple[str, str]
) -> None:
    result = tls().ask(STATION, 123, server, 123, NTP).audited(tmp_path)
    assert (statuses(result)["n1"], statuses(result)["n3"]) == expected


# -- DNS over TCP -----------------------------------------------------------------------------------------------


def test_dns_over_tcp_after_a_cut_answer_is_a_retry(tmp_path: Path) -> None:
    scene = tls().ask(STATION, 5555, RESOLVER, 53, DNS_CUT).tcp(STATION, 40001, RESOLVER, 53, DNS_TCP)
    result = scene.audited(tmp_path)
    assert not found(result, "TPE101") and not found(result, "TPE338")
    assert statuses(result)["n2"] == "present"
    assert [result.flow_rows.get(each.id) for each in result.flows if each.responder.port == 53] == [("n2",)] * 2


@pytest.mark.parametrize(
    "scene",
    [
        tls().tcp(STATION, 40001, RESOLVER, 53, DNS_TCP),
        tls().ask(STATION, 5555, RESOLVER, 53, DNS).tcp(STATION, 40001, RESOLVER, 53, DNS_TCP),
        tls().ask(STATION, 5555, OTHER, 53, DNS_CUT).tcp(STATION, 40001, RESOLVER, 53, DNS_TCP),
        tls().ask("10.0.0.9", 5555, RESOLVER, 53, DNS_CUT).tcp(STATION, 40001, RESOLVER, 53, DNS_TCP),
        tls().tcp(STATION, 40001, RESOLVER, 53, DNS_TCP).ask(STATION, 5555, RESOLVER, 53, DNS_CUT),
    ],
    ids=["alone", "whole answer", "another server", "another client", "before the answer"],
)
def test_any_other_dns_over_tcp_breaks_the_row(tmp_path: Path, scene: Scene) -> None:
    result = scene.audited(tmp_path)
    (finding,) = found(result, "TPE338")
    assert (finding.kind, finding.rows, finding.mismatch) == (Kind.MALFORMED, ("n2",), "transport")
    assert statuses(result)["n2"] == "malformed"
    assert not found(result, "TPE101")


def test_what_is_no_dns_on_its_port_over_tcp_is_unexpected(tmp_path: Path) -> None:
    for scene in (tls().tcp(STATION, 40001, RESOLVER, 53, TLS), tls().syn(STATION, 40001, RESOLVER, 53)):
        result = scene.audited(tmp_path)
        (finding,) = found(result, "TPE101")
        assert (finding.rows, finding.mismatch) == (("n2",), "transport")
        assert statuses(result)["n2"] == "absent"


# -- what needs no row ------------------------------------------------------------------------------------------


def test_link_local_housekeeping_is_counted_and_not_judged(tmp_path: Path) -> None:
    scene = tls(Scene({STATION: "02:00:00:00:00:aa", "fe80::2": "02:00:00:00:00:aa"}))
    scene.packet("fe80::2", "ff02::1:ff00:1", 58, bytes((135, 0)) + bytes(22))
    scene.packet("fe80::2", "ff02::16", 58, bytes((143, 0)) + bytes(26))
    scene.packet(STATION, "224.0.0.22", 2, bytes((0x22, 0)) + bytes(14))
    result = scene.audited(tmp_path)
    assert len(result.flow_stations) == 4
    assert [each for each in result.findings if each.kind.value == "unexpected"] == []


def test_traffic_of_others_is_out_of_scope(tmp_path: Path) -> None:
    result = tls().ask("10.7.7.7", 123, OTHER, 123, NTP).tcp("10.7.7.7", 1, OTHER, 8080, HTTP).audited(tmp_path)
    assert result.totals.flows_out_of_scope == 2
    assert result.totals.packets_of_base_stations + result.totals.packets_out_of_scope == result.totals.packets
