"""FTP sessions through the whole program: data connections find their commands, and passwords are nowhere."""

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

    def say(self, who: str, line: str) -> Session:
        ends = (*self.client, *self.server) if who == "C" else (*self.server, *self.client)
        data = line.encode() + b"\r\n"
        self.frames.append(build.tcp(*ends, ACK, self.position[who], data))
        self.position[who] += len(data)
        return self

    def login(self) -> Session:
        self.say("S", "220 ready").say("C", "USER ftp-lrc").say("S", "331 ok")
        return self.say("C", f"PASS {CANARY}").say("S", "230 ok")

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

    def carried(self) -> list[tuple[int | None, str | None, str | None]]:
        """Control, verb and path of every flow but the control connection."""
        return [
            (each.control, said.verb, said.path)
            if isinstance(said := each.dissection.facts, FtpDataFacts)
            else (None, None, None)
            for each in self.conversations()[1:]
        ]

    def conversations(self) -> tuple[Conversation, ...]:
        return tuple(identify_data_connections(dissect_flows(build.read(self.frames))).expand())


def six(address: str, port: int) -> str:
    return ",".join([*address.split("."), str(port >> 8), str(port & 255)])


@pytest.mark.parametrize("hosts", [HOSTS4, HOSTS6], ids=["IPv4", "IPv6"])
def test_passive_and_active_connections_are_tied_to_their_commands(hosts: tuple[str, str]) -> None:
    station, server = hosts
    session = Session(hosts).login()
    session.say("C", "EPSV").say("S", "229 ok (|||50010|)").data((station, 41000), (server, 50010))
    session.say("C", "RETR lrr.tar.gz").say("S", "150 ok").say("S", "226 ok")
    protocol = 2 if ":" in station else 1
    session.say("C", f"EPRT |{protocol}|{station}|41001|").say("S", "200 ok")
    session.say("C", "STOR scan.csv").data((server, 20), (station, 41001)).say("S", "150 ok").say("S", "226 ok")
    expected: list[tuple[int | None, str | None, str | None]] = [(1, "RETR", "lrr.tar.gz"), (1, "STOR", "scan.csv")]
    if protocol == 1:
        session.say("C", "PASV").say("S", f"227 ok ({six(server, 50011)})").data((station, 41002), (server, 50011))
        session.say("C", "APPE log").say("S", "150 ok").say("S", "226 ok")
        session.say("C", f"PORT {six(station, 41003)}").say("S", "200 ok")
        session.say("C", "LIST /").data((server, 20), (station, 41003)).say("S", "150 ok").say("S", "226 ok")
        expected += [(1, "APPE", "log"), (1, "LIST", "/")]
    assert session.carried() == expected


def test_a_data_connection_may_be_captured_before_the_reply_that_named_it() -> None:
    session = Session().login().say("C", "EPSV").data((build.STATION, 41000), (build.SERVER, 50010))
    session.say("S", "229 ok (|||50010|)").say("C", "RETR x").say("S", "150 ok").say("S", "226 ok")
    assert session.carried() == [(1, "RETR", "x")]


def test_a_port_that_serves_again_belongs_to_its_newest_command() -> None:
    session = Session().login()
    for number, path in enumerate(("x", "y", "z")):
        session.say("C", "EPSV").say("S", "229 ok (|||50010|)")
        session.say("C", f"RETR {path}").data((build.STATION, 41000 + number), (build.SERVER, 50010))
        session.say("S", "150 ok").say("S", "226 ok")
    assert session.carried() == [(1, "RETR", "x"), (1, "RETR", "y"), (1, "RETR", "z")]


def test_a_client_may_ignore_the_address_that_a_server_behind_a_nat_names() -> None:
    session = Session().login().say("C", "PASV").say("S", f"227 ok ({six('10.1.2.3', 50010)})")
    session.say("C", "RETR x").data((build.STATION, 41000), (build.SERVER, 50010)).say("S", "226 ok")
    assert session.carried() == [(1, "RETR", "x")]


def test_a_lost_reply_leaves_its_data_connection_to_be_known_by_its_time() -> None:
    """One for each lost reply: the first that the client opens to the server afterwards."""
    session = Session().login().data((build.STATION, 40900), (build.SERVER, 50009)).say("C", "EPSV")
    session.position["S"] += len("229 ok (|||50010|)\r\n")
    session.data((build.SERVER, 41000), (build.STATION, 50010)).data((build.STATION, 41000), (build.SERVER, 50010))
    session.data((build.STATION, 41001), (build.SERVER, 50011)).say("C", "RETR x").say("S", "150 ok").say("S", "226 ok")
    nobody: tuple[None, None, None] = (None, None, None)
    assert session.carried() == [nobody, nobody, (1, "RETR", "x"), nobody]


def test_a_refusal_opens_no_data_connection() -> None:
    session = Session().login().say("C", "EPSV").say("S", "502 no").data((build.STATION, 41000), (build.SERVER, 50010))
    assert session.say("C", "RETR x").say("S", "425 no").carried() == [(None, None, None)]


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    """Sessions in which a password stands wherever one may: a good login, typos, refusals that quote it."""
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
        session.say("S", "220 ready").say("C", "USER ftp").say("S", "331 ok")
        for who, line in lines:
            session.say(who, line)
        frames += session.frames
    path = tmp_path / "sessions.pcap"
    path.write_bytes(build.pcap([Packet(frame, SECOND + n * 1_000_000) for n, frame in enumerate(frames)]))
    return path


def test_passwords_are_in_no_report(sessions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--mode", "plain", "--base-station", build.STATION, "--tpe", build.SERVER]
    formats = [each for each in reports.FORMATS if not each.binary]
    assert "json" in [each.name for each in formats]
    for command, each in itertools.product((("audit", *options), ("flows",)), formats):
        if command == ("flows",) and not each.lists_flows:
            continue
        assert main([*command, str(sessions), "--format", each.name]) in (0, 1)
        said = capsys.readouterr()
        assert "ftp" in said.out.lower()
        assert CANARY not in said.out and CANARY not in said.err


def test_passwords_are_in_no_item_and_no_frame(sessions: Path) -> None:
    result = audit(sessions, base_stations=[build.STATION])
    assert CANARY not in repr(result.findings)
    for each in result.conversations:
        assert each.protocol == "ftp"
        assert CANARY not in repr(tuple(each.dissection.items)) + repr(each.dissection)
    for frame in (result.flows_frame(), result.findings_frame(), result.rows_frame()):
        assert CANARY not in json.dumps(frame.astype(str).to_dict())
