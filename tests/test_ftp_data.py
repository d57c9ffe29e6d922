"""FTP sessions: data connections have their commands, and passwords are in no output."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from analyzer import audit, reports
from analyzer.cli import main
from analyzer.conversations import Conversation, dissect_flows
from analyzer.ftp_data import FtpDataFacts, identify_data_connections
from tests import build
from tests.build import ACK, FIN, SECOND, SYN, Packet

CANARY = "tr0ub4dor-and-3"
HOSTS4, HOSTS6 = (build.STATION, build.SERVER), (build.STATION6, build.SERVER6)


class Session:
    """Packets of a control connection and of its data connections, a millisecond apart."""

    def __init__(self, hosts: tuple[str, str] = HOSTS4) -> None:
        self.client, self.server = (hosts[0], 40000), (hosts[1], 21)
        self.position = {"C": 100, "S": 100}
        self.frames = [
            build.tcp(*self.client, *self.server, SYN, 99),
            build.tcp(*self.server, *self.client, SYN | ACK, 99),
            build.tcp(*self.client, *self.server, ACK, 100),
        ]

    def send(self, sender: str, line: str) -> Session:
        """A line of the control connection, from ``C`` (client) or ``S`` (server)."""
        ends = (*self.client, *self.server) if sender == "C" else (*self.server, *self.client)
        data = line.encode() + b"\r\n"
        self.frames.append(build.tcp(*ends, ACK, self.position[sender], data))
        self.position[sender] += len(data)
        return self

    def login(self) -> Session:
        self.send("S", "220 ready").send("C", "USER ftp-lrc").send("S", "331 ok")
        return self.send("C", f"PASS {CANARY}").send("S", "230 ok")

    def data(self, one: tuple[str, int], two: tuple[str, int], content: bytes = b"\x1f\x8bcontent") -> Session:
        """A data connection that ``one`` opens; the server's side sends the content."""
        sender, other = (one, two) if one[0] == self.server[0] else (two, one)
        self.frames += [
            build.tcp(*one, *two, SYN, 999),
            build.tcp(*two, *one, SYN | ACK, 999),
            build.tcp(*one, *two, ACK, 1000),
            build.tcp(*sender, *other, ACK, 1000, content),
            build.tcp(*sender, *other, ACK | FIN, 1000 + len(content)),
            build.tcp(*other, *sender, ACK | FIN, 1000),
        ]
        return self

    def data_facts(self) -> list[tuple[int | None, str | None, str | None]]:
        """Control connection, verb and path of every flow but the first."""
        return [
            (conversation.control, facts.verb, facts.path)
            if isinstance(facts := conversation.dissection.facts, FtpDataFacts)
            else (None, None, None)
            for conversation in self.conversations()[1:]
        ]

    def conversations(self) -> tuple[Conversation, ...]:
        return tuple(identify_data_connections(dissect_flows(build.read(self.frames))).expand())


def host_port(address: str, port: int) -> str:
    """The six numbers of PORT and PASV (RFC 959)."""
    return ",".join([*address.split("."), str(port >> 8), str(port & 255)])


@pytest.mark.parametrize("hosts", [HOSTS4, HOSTS6], ids=["IPv4", "IPv6"])
def test_passive_and_active_connections_have_their_command(hosts: tuple[str, str]) -> None:
    station, server = hosts
    session = Session(hosts).login()
    session.send("C", "EPSV").send("S", "229 ok (|||50010|)").data((station, 41000), (server, 50010))
    session.send("C", "RETR lrr.tar.gz").send("S", "150 ok").send("S", "226 ok")
    protocol = 2 if ":" in station else 1
    session.send("C", f"EPRT |{protocol}|{station}|41001|").send("S", "200 ok")
    session.send("C", "STOR scan.csv").data((server, 20), (station, 41001)).send("S", "150 ok").send("S", "226 ok")
    expected: list[tuple[int | None, str | None, str | None]] = [(1, "RETR", "lrr.tar.gz"), (1, "STOR", "scan.csv")]
    if protocol == 1:
        session.send("C", "PASV").send("S", f"227 ok ({host_port(server, 50011)})").data(
            (station, 41002), (server, 50011)
        )
        session.send("C", "APPE log").send("S", "150 ok").send("S", "226 ok")
        session.send("C", f"PORT {host_port(station, 41003)}").send("S", "200 ok")
        session.send("C", "LIST /").data((server, 20), (station, 41003)).send("S", "150 ok").send("S", "226 ok")
        expected += [(1, "APPE", "log"), (1, "LIST", "/")]
    assert session.data_facts() == expected


def test_a_data_connection_may_precede_the_reply_that_announces_it() -> None:
    session = Session().login().send("C", "EPSV").data((build.STATION, 41000), (build.SERVER, 50010))
    session.send("S", "229 ok (|||50010|)").send("C", "RETR x").send("S", "150 ok").send("S", "226 ok")
    assert session.data_facts() == [(1, "RETR", "x")]


def test_a_reused_port_belongs_to_its_newest_command() -> None:
    session = Session().login()
    for number, path in enumerate(("x", "y", "z")):
        session.send("C", "EPSV").send("S", "229 ok (|||50010|)")
        session.send("C", f"RETR {path}").data((build.STATION, 41000 + number), (build.SERVER, 50010))
        session.send("S", "150 ok").send("S", "226 ok")
    assert session.data_facts() == [(1, "RETR", "x"), (1, "RETR", "y"), (1, "RETR", "z")]


def test_a_client_may_ignore_the_address_in_a_pasv_reply() -> None:
    session = Session().login().send("C", "PASV").send("S", f"227 ok ({host_port('10.1.2.3', 50010)})")
    session.send("C", "RETR x").data((build.STATION, 41000), (build.SERVER, 50010)).send("S", "226 ok")
    assert session.data_facts() == [(1, "RETR", "x")]


def test_a_data_connection_without_its_reply_is_identified_by_time() -> None:
    """It is the first connection that the client opens to the server after its command."""
    session = Session().login().data((build.STATION, 40900), (build.SERVER, 50009)).send("C", "EPSV")
    session.position["S"] += len("229 ok (|||50010|)\r\n")
    session.data((build.SERVER, 41000), (build.STATION, 50010)).data((build.STATION, 41000), (build.SERVER, 50010))
    session.data((build.STATION, 41001), (build.SERVER, 50011)).send("C", "RETR x").send("S", "150 ok").send(
        "S", "226 ok"
    )
    unknown: tuple[None, None, None] = (None, None, None)
    assert session.data_facts() == [unknown, unknown, (1, "RETR", "x"), unknown]


@pytest.mark.parametrize("last", [["PASV"], ["EPSV", "reply"]], ids=["command", "reply"])
def test_a_data_connection_may_be_the_last_thing_in_the_capture(last: list[str]) -> None:
    """The control connection is open, and silent while data flows; its last packet says nothing of its end."""
    session = Session().login().send("C", last[0])
    if last[1:]:
        session.send("S", "229 ok (|||50010|)")
    control, data = session.data((build.STATION, 41000), (build.SERVER, 50010)).conversations()
    assert control.last < data.first
    assert (data.protocol, data.control) == ("ftp-data", 1)


def test_only_the_announced_connection_is_ftp_data() -> None:
    session = Session().login().send("C", "PASV").send("S", f"227 ok ({host_port(build.SERVER, 50010)})")
    session.send("C", "STOR log.gz").data((build.STATION, 41000), (build.SERVER, 50010))
    session.data((build.STATION, 41001), (build.SERVER, 50011)).send("S", "226 ok")
    control, data, other = session.conversations()
    assert (control.protocol, control.control) == ("ftp", None)
    assert (data.protocol, data.control) == ("ftp-data", 1)
    assert (other.protocol, other.control) == (None, None)


def test_an_announcement_opens_one_connection_that_carries_data() -> None:
    session = Session().login().send("C", "EPSV").send("S", "229 ok (|||5000|)").send("C", "RETR f")
    server = session.server[0], 5000
    for port in (41000, 41001, 41002):
        session.data((session.client[0], port), server)
    assert session.data_facts() == [(1, "RETR", "f"), (None, None, None), (None, None, None)]


def test_a_repeated_attempt_belongs_to_its_announcement() -> None:
    session = Session().login().send("C", "EPSV").send("S", "229 ok (|||5000|)").send("C", "RETR f")
    server = session.server[0], 5000
    session.frames.append(build.tcp(session.client[0], 41000, *server, SYN, 999))
    session.data((session.client[0], 41001), server)
    assert session.data_facts() == [(1, "RETR", "f")] * 2


def test_a_conversation_of_another_protocol_is_no_data_connection() -> None:
    session = Session().login().send("C", "EPSV").send("S", "229 ok (|||5000|)").send("C", "RETR f")
    client, server = (session.client[0], 41000), (session.server[0], 5000)
    session.data(client, server, b"SSH-2.0-OpenSSH_9.7\r\n")
    answer = build.tcp(*client, *server, ACK, 1000, b"SSH-2.0-dropbear_2022.83\r\n")
    session.frames.insert(-2, answer)
    assert session.data_facts() == [(None, None, None)]


def test_a_port_of_a_service_is_not_opened_by_an_announcement() -> None:
    session = Session().login()
    session.send("C", f"PORT {host_port(session.client[0], 22)}").send("S", "200 ok").send("C", "RETR f")
    session.data((session.server[0], 20), (session.client[0], 22))
    assert session.data_facts() == [(None, None, None)]


def test_a_refused_command_has_no_data_connection() -> None:
    session = (
        Session().login().send("C", "EPSV").send("S", "502 no").data((build.STATION, 41000), (build.SERVER, 50010))
    )
    assert session.send("C", "RETR x").send("S", "425 no").data_facts() == [(None, None, None)]


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    """Sessions with a password wherever one may occur: a good login, typos, refusals that quote it."""
    frames: list[bytes] = []
    for number, lines in enumerate(
        [
            [("C", f"PASS {CANARY}"), ("S", "230 ok"), ("C", "RETR a/../x"), ("S", "550 no")],
            [
                ("C", f"PAS {CANARY}"),
                ("S", f"500 'PAS {CANARY}' not understood"),
                ("C", f"{CANARY}"),
                ("S", "500 what"),
            ],
            [("C", f"PASS {CANARY}"), ("S", f"530 {CANARY} is wrong")] * 3,
            [("C", f"ACCT {CANARY}"), ("S", "230 ok"), ("C", f"PASSWORD {CANARY}"), ("S", f"999 {CANARY}")],
        ]
    ):
        session = Session()
        session.client = (build.STATION, 40000 + number)
        session.frames.clear()
        session.frames += [
            build.tcp(*session.client, *session.server, SYN, 99),
            build.tcp(*session.server, *session.client, SYN | ACK, 99),
        ]
        session.send("S", "220 ready").send("C", "USER ftp").send("S", "331 ok")
        for sender, line in lines:
            session.send(sender, line)
        frames += session.frames
    path = tmp_path / "sessions.pcap"
    path.write_bytes(build.pcap([Packet(frame, SECOND + n * 1_000_000) for n, frame in enumerate(frames)]))
    return path


def test_no_report_contains_passwords(sessions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--mode", "plain", "--base-station", build.STATION, "--tpe", build.SERVER]
    formats = [report for report in reports.FORMATS if not report.binary]
    assert "json" in [report.name for report in formats]
    for command, report in itertools.product((("audit", *options), ("flows",)), formats):
        if command == ("flows",) and not report.lists_flows:
            continue
        assert main([*command, str(sessions), "--format", report.name]) in (0, 1)
        output = capsys.readouterr()
        assert "ftp" in output.out.lower()
        assert CANARY not in output.out and CANARY not in output.err


def test_no_item_and_no_frame_contains_passwords(sessions: Path) -> None:
    result = audit(sessions, base_stations=[build.STATION])
    assert CANARY not in repr(result.findings)
    for conversation in result.conversations:
        assert conversation.protocol == "ftp"
        assert CANARY not in repr(tuple(conversation.dissection.items)) + repr(conversation.dissection)
    for frame in (result.flows_frame(), result.findings_frame(), result.rows_frame()):
        assert CANARY not in json.dumps(frame.astype(str).to_dict())
