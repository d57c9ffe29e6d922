from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.heads import Direction, Frame, Head, Mark, Stream
from analyzer.messages import to_json
from analyzer.protocols import Dissection, dissect, dissect_as, ftp
from analyzer.protocols.ftp import Command, DataConnection, Endpoint, FtpFacts, Reply
from analyzer.wire import Cause
from tests import samples
from tests.protocols.test_ssh import CORPUS, conversations, head_of, one_side

Line = tuple[str, str]


def talk(*lines: Line, ports: tuple[int, int] = (40000, 21), begins: bool = True, ends: bool = False) -> Head:
    """A dialogue with one frame per line: ``C`` client, ``S`` server."""
    data: dict[str, bytes] = {"C": b"", "S": b""}
    marks: dict[str, list[Mark]] = {"C": [], "S": []}
    for number, (who, line) in enumerate(lines, 1):
        marks[who].append(Mark(len(data[who]), Frame(0, number), number * 10**6))
        data[who] += line.encode() + b"\r\n"
    client, server = (Stream(data[who], tuple(marks[who]), begins, ends) for who in "CS")
    return Head("tcp", ports, (client, server))


LOGIN: tuple[Line, ...] = (
    ("S", "220 (vsFTPd 3.0.3)"),
    ("C", "USER ftp-lrc"),
    ("S", "331 Please specify the password."),
    ("C", "PASS s3cr3t words"),
    ("S", "230 Login successful."),
)
DOWNLOAD: tuple[Line, ...] = (
    ("C", "PWD"),
    ("S", '257 "/" is the current directory'),
    ("C", "CWD lrr"),
    ("S", "250 Directory successfully changed."),
    ("C", "EPSV"),
    ("S", "229 Entering Extended Passive Mode (|||50010|)"),
    ("C", "TYPE I"),
    ("S", "200 Switching to Binary mode."),
    ("C", "RETR lrr-2.8.41.tar.gz"),
    ("S", "150 Opening BINARY mode data connection."),
    ("S", "226 Transfer complete."),
)
UPLOAD: tuple[Line, ...] = (
    ("C", "PASV"),
    ("S", "227 Entering Passive Mode (172,16,40,10,195,127)."),
    ("C", "STOR /UPLOAD_LRR/RFSCAN/rfscan_1.csv.gz"),
    ("S", "150 Ok to send data."),
    ("S", "226 Transfer complete."),
    ("C", "QUIT"),
    ("S", "221-You have transferred 1 file.\r\n221-\r\n 221 is not the end\r\n221 Goodbye."),
)

EXAMPLES: list[Head] = [
    talk(*LOGIN, *DOWNLOAD, *UPLOAD),
    talk(*LOGIN[:4], ("S", "530 Login incorrect."), ends=True),
]


def read(head: Head) -> Dissection:
    return dissect_as(ftp, head)


def facts(head: Head) -> FtpFacts:
    found = read(head).facts
    assert isinstance(found, FtpFacts)
    return found


def test_facts_of_a_session() -> None:
    head = talk(*LOGIN, *DOWNLOAD, *UPLOAD)
    assert not read(head).parse_errors
    actual = facts(head)
    assert to_json(actual) == {
        "commands": dict.fromkeys(("USER", "PASS", "PWD", "CWD", "EPSV", "TYPE", "RETR", "PASV", "STOR", "QUIT"), 1),
        "replies": {
            "220": 1,
            "331": 1,
            "230": 1,
            "257": 1,
            "250": 1,
            "229": 1,
            "200": 1,
            "150": 2,
            "226": 2,
            "227": 1,
            "221": 1,
        },
        "transfers": [
            {"verb": "RETR", "path": "/lrr/lrr-2.8.41.tar.gz", "reply": 226},
            {"verb": "STOR", "path": "/UPLOAD_LRR/RFSCAN/rfscan_1.csv.gz", "reply": 226},
        ],
        "greeting": "(vsFTPd 3.0.3)",
        "user": "ftp-lrc",
        "login": "accepted",
        "refusals": 0,
        "auth_tls": False,
    }
    first, second = actual._transfers
    assert (first.passive, first.endpoint, first.verb, first.reply) == (True, Endpoint(None, 50010), "RETR", 226)
    assert first.frame == Frame(0, 11)
    assert (second.endpoint, second.path) == (
        Endpoint("172.16.40.10", 50047),
        "/UPLOAD_LRR/RFSCAN/rfscan_1.csv.gz",
    )


@pytest.mark.parametrize(
    "line",
    [
        *("PASS hunter2", "pass hunter2", "ACCT hunter2", " PASS  hunter2", "PASS\thunter2", "hunter2"),
        *("PSAS hunter2", "PASSWORD hunter2", "hunter", "USER", "XSHA hunter2"),
    ],
)
def test_passwords_are_not_kept(line: str) -> None:
    found = read(talk(*LOGIN[:3], ("C", line), ("S", "230 ok")))
    assert "hunter" not in repr(found).lower()


def test_negative_replies_keep_no_text() -> None:
    quoting = ("S", "500-'PAS hunter2':\r\n500 command not understood: PAS hunter2")
    found = read(talk(*LOGIN[:3], ("C", "PAS hunter2"), quoting))
    assert "hunter2" not in repr(found)
    assert found.facts is not None and found.items[-1].message == Reply(500, ())


def test_pipelined_commands_are_paired_in_order() -> None:
    head = talk(
        *LOGIN,
        *(("C", "CWD a"), ("C", "EPSV"), ("C", "RETR x"), ("C", "EPSV"), ("C", "RETR y")),
        *(("S", "250 ok"), ("S", "229 ok (|||7001|)"), ("S", "150 ok"), ("S", "226 done")),
        *(("S", "229 ok (|||7002|)"), ("S", "550 No such file.")),
    )
    actual = [(transfer.endpoint, transfer.path, transfer.reply) for transfer in facts(head)._transfers]
    assert actual == [(Endpoint(None, 7001), "a/x", 226), (Endpoint(None, 7002), "a/y", 550)]
    assert [transfer.reply for transfer in facts(head).transfers] == [226, 550]


def test_a_missing_reply_does_not_shift_the_following_ones() -> None:
    head = talk(
        *LOGIN[:3], ("C", "NOOP"), ("C", "PASV"), ("S", "227 ok (10,0,0,1,4,1)"), ("C", "RETR x"), ("S", "226 ok")
    )
    (transfer,) = facts(head)._transfers
    assert (transfer.endpoint, transfer.verb, transfer.reply) == (Endpoint("10.0.0.1", 1025), "RETR", 226)


def test_stou_has_the_file_name_of_the_server() -> None:
    head = talk(
        *LOGIN, ("C", "EPSV"), ("S", "229 ok (|||7|)"), ("C", "STOU"), ("S", "150 FILE: log.7"), ("S", "226 ok")
    )
    assert [(transfer.verb, transfer.path) for transfer in facts(head).transfers] == [("STOU", "log.7")]


def test_listings_lose_their_options() -> None:
    head = talk(*LOGIN, ("C", "LIST -la"), ("S", "226 ok"), ("C", "NLST /UPLOAD_LRR"), ("S", "226 ok"))
    assert facts(head).listings == (".", "/UPLOAD_LRR")


def test_facts_of_a_refused_login() -> None:
    refused = talk(*LOGIN[:4], ("S", "530 Login incorrect."))
    assert facts(refused).login == "refused"
    assert facts(talk(*LOGIN[:4], ("S", "530 Login incorrect."), *LOGIN[1:])).login == "accepted"
    too_early = talk(LOGIN[0], ("C", "SYST"), ("S", "530 Please login with USER and PASS."))
    assert facts(too_early).login is None


def test_active_mode_announces_the_clients_endpoint() -> None:
    head = talk(
        *LOGIN,
        ("C", "PORT 10,20,30,10,198,55"),
        ("S", "200 PORT command successful."),
        ("C", "RETR a"),
        ("S", "150 ok"),
        ("S", "226 ok"),
        ("C", "EPRT |2|2001:DB8:0::1|5282|"),
        ("S", "200 EPRT command successful."),
        ("C", "LIST"),
        ("C", "PORT 10,20,30,10,1,1"),
        ("S", "500 Illegal PORT command."),
    )
    # The 500 answers LIST, and PORT has no reply: pairs follow the order of the commands.
    endpoints = [(transfer.endpoint, transfer.verb, transfer.passive) for transfer in facts(head)._transfers[:2]]
    assert endpoints == [
        (Endpoint("10.20.30.10", 50743), "RETR", False),
        (Endpoint("2001:db8::1", 5282), "LIST", False),
    ]


def test_a_refused_port_announces_no_connection() -> None:
    head = talk(*LOGIN, ("C", "PORT 1,2,3,4,5,6"), ("S", "500 Illegal PORT command."))
    assert facts(head)._transfers == ()


def test_an_unused_endpoint_is_kept() -> None:
    (unused,) = facts(talk(*LOGIN, ("C", "EPSV"), ("S", "229 ok (|||50011|)")))._transfers
    assert unused == DataConnection(True, Frame(0, 7), 7 * 10**6, Endpoint(None, 50011))


def test_one_direction_is_enough_for_transfers_or_endpoints() -> None:
    lines = (*LOGIN, *DOWNLOAD, *UPLOAD)
    client_only = facts(talk(*(line for line in lines if line[0] == "C")))
    assert [(transfer.verb, transfer.path) for transfer in client_only.transfers] == [
        ("RETR", "lrr/lrr-2.8.41.tar.gz"),
        ("STOR", "/UPLOAD_LRR/RFSCAN/rfscan_1.csv.gz"),
    ]
    server_only = facts(talk(*(line for line in lines if line[0] == "S")))
    assert [transfer.endpoint for transfer in server_only._transfers] == [
        Endpoint(None, 50010),
        Endpoint("172.16.40.10", 50047),
    ]
    assert server_only.login == "accepted"


def test_nothing_is_read_after_auth_tls() -> None:
    plain = talk(("S", "220 ready"), ("C", "AUTH TLS"), ("S", "234 Proceed with negotiation."))
    client, server = plain.streams
    hello = b"\x16\x03\x01\x02\0\x01" + bytes(range(200))
    head = head_of(client.data + hello, server.data + hello, (40000, 21))
    found = read(head)
    assert not found.parse_errors
    assert facts(head).auth_tls and facts(head).commands == {"AUTH": 1}
    refused = talk(("S", "220 ready"), ("C", "AUTH TLS"), ("S", "502 Not implemented."), ("C", "USER x"))
    assert not facts(refused).auth_tls and facts(refused).user == "x"


def test_telnet_synch_before_abor_is_skipped() -> None:
    found = read(head_of(b"RETR x\r\n\xff\xf4\xff\xf2ABOR\r\n", b"", (40000, 21)))
    assert [item.message for item in found.items] == [Command("RETR", "x"), Command("ABOR", "")]


def test_the_working_directory_follows_the_replies() -> None:
    head = talk(
        *LOGIN,
        *(("C", "CWD a"), ("S", "250 ok"), ("C", "CWD nowhere"), ("S", "550 no"), ("C", "STOR 1"), ("S", "226 ok")),
        *(("C", "CDUP"), ("S", "250 ok"), ("C", "CWD /b"), ("S", "250 ok"), ("C", "APPE 2"), ("S", "226 ok")),
    )
    assert [transfer.path for transfer in facts(head).transfers] == ["a/1", "/b/2"]


@pytest.mark.parametrize(
    ("server", "client", "field"),
    [
        (b"220 ok\r\nHello there\r\n", b"USER x\r\n", "reply"),
        (b"220 ok\r\n22 ok\r\n", b"", "reply"),
        (b"220 ok\r\n731 ok\r\n", b"", "reply"),
        (b"220 ok\r\n331x ok\r\n", b"", "reply"),
        (b"220 " + b"x" * 5000, b"", "reply"),
        (b"220 ok\r\n", b"\x16\x03\x01\0\x05hello\n", "command"),
        (b"220 ok\r\n", b"USER " + b"x" * 5000, "command"),
        (b"220 ok\r\n", b"Host: example.org\r\n", "command"),
    ],
)
def test_malformed_lines_name_the_field(server: bytes, client: bytes, field: str) -> None:
    found = read(head_of(client, server, (40000, 21)))
    assert [(error.anomaly.cause, error.anomaly.field) for error in found.parse_errors] == [(Cause.MALFORMED, field)]


def test_an_incomplete_line_is_truncated() -> None:
    found = read(head_of(b"USER ftp\r\nPAS", b"220-Welcome\r\nto", (40000, 21)))
    assert [error.anomaly.cause for error in found.parse_errors] == [Cause.TRUNCATED] * 2
    assert [item.message for item in found.items] == [Command("USER", "ftp")]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (talk(*LOGIN), True),
        (talk(*LOGIN, ports=(40000, 2121)), True),
        (head_of(b"", b"220 (vsFTPd 3.0.3)\r\n", (40000, 2121)), True),
        (head_of(b"", b"220 ready\r\n", (40000, 21)), True),
        (head_of(b"", b"220 ready\r\n", (40000, 2121)), False),
        (head_of(b"", b"220 mail.example.org ESMTP\r\n", (40000, 25)), False),
        (head_of(b"EHLO x\r\n", b"220 mail.example.org ESMTP\r\n", (40000, 21)), False),
        (head_of(b"USER x\r\n", b"+OK POP3 ready\r\n", (40000, 110)), False),
        (head_of(b"USER x\r\n", b"", (40000, 21)), True),
        (head_of(b"USER x\r\n", b"", (40000, 110)), False),
        (head_of(b"GET / HTTP/1.1\r\n", b"220 (vsFTPd 3.0.3)\r\n", (40000, 21)), True),
        (head_of(b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n", (40000, 21)), False),
        (head_of(b"EPSV\r\n", b"229 ok (|||1|)\r\n", (40000, 2121), begins=False), True),
        (head_of(b"\x16\x03\x01\0\5hello", b"", (40000, 21)), False),
        (head_of(), False),
    ],
)
def test_probe(head: Head, expected: bool) -> None:
    assert ftp.probe(head) is expected


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200), st.booleans())
def test_any_bytes_cause_no_defect(client: bytes, server: bytes, ends: bool) -> None:
    for start in (b"", b"EPRT |2|", b"PORT 1,2,3,"):
        found = read(head_of(start + client, b"229 (|||" + server, (40000, 21), ends=ends))
        assert all(error.anomaly.cause is not Cause.DEFECT for error in found.parse_errors)


VERBS = st.sampled_from(
    ["USER a", "PASS b", "PWD", "CWD x", "CDUP", "PASV", "EPSV", "PORT 1,2,3,4,5,6", "RETR f", "LIST", "REIN"]
)
CODES = st.sampled_from(
    ["220 x", "230 x", "530 x", '257 "/d"', "227 (1,2,3,4,5,6)", "229 (|||7|)", "150 x", "226 x", "500 x"]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.tuples(st.just("C"), VERBS), st.tuples(st.just("S"), CODES)), max_size=30))
def test_every_line_of_any_dialogue_is_counted_once(lines: list[Line]) -> None:
    actual = facts(talk(*lines))
    assert sum(actual.commands.values()) == sum(who == "C" for who, _ in lines)
    assert sum(actual.replies.values()) == sum(who == "S" for who, _ in lines)
    used = [transfer.verb for transfer in actual._transfers if transfer.verb]
    assert Counter(used) == Counter(line.split()[0] for _, line in lines if line in ("RETR f", "LIST"))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 600), st.sampled_from(list(Direction)))
def test_a_prefix_gives_a_prefix_of_the_messages(size: int, direction: Direction) -> None:
    data = EXAMPLES[0].streams[direction].data
    full, part = read(one_side(direction, data)).items, read(one_side(direction, data[:size]))
    assert part.items == full[: len(part.items)]
    assert all(error.anomaly.cause is Cause.TRUNCATED for error in part.parse_errors)


def test_a_hostile_greeting_is_printable_and_bounded() -> None:
    banner = "220-\x1b]0;owned\x07\r\n" + "220-again\r\n" * 500 + "220 done"
    (item,) = read(talk(("S", banner))).items
    assert isinstance(item.message, Reply)
    assert item.message.lines[0] == "\\x1b]0;owned\\x07"
    assert len(item.message.lines) == 16


def test_facts_of_recorded_sessions() -> None:
    found = [flow for flow in conversations(samples.capture("plain-full-passive")) if flow.protocol == "ftp"]
    assert not any(flow.dissection.parse_errors for flow in found)
    paths = []
    for flow in found:
        actual = flow.dissection.facts
        assert isinstance(actual, FtpFacts) and actual.login == "accepted"
        paths += [(one.verb, one.path) for one in actual.transfers]
    assert paths == [
        ("RETR", "/lrr-2.8.41.ipk"),
        ("STOR", "/upload/rfscan_0.csv.gz"),
        ("RETR", "/key.tar"),
    ]


@pytest.mark.skipif(CORPUS is None, reason="TPE_PCAP_CORPUS names no folder of captures")
def test_corpus_commands_and_endpoints_agree_with_tshark() -> None:
    assert CORPUS is not None
    compared = 0
    for line in (Path(CORPUS) / "truth.jsonl").read_text().splitlines():
        truth = json.loads(line)
        if "ftp" not in truth or "malformed" in truth["tags"]:
            continue
        shown = {}
        for flow in conversations(Path(CORPUS) / truth["name"]):
            actual = flow.dissection.facts
            if isinstance(actual, FtpFacts):
                client, server = (f"{end.address}:{end.port}" for end in (flow.originator, flow.responder))
                endpoints = Counter(
                    f"{one.endpoint.address or flow.responder.address}:{one.endpoint.port}"
                    for one in actual._transfers
                    if one.endpoint
                )
                shown[client, server] = (dict(actual.commands), endpoints)
        for stream in truth["ftp"]:
            where = (truth["name"], stream["tcp_stream"])
            commands, endpoints = shown[stream["client"], stream["server"]]
            assert commands == stream["commands"], where
            wanted = Counter(one.split()[1] for one in stream["data_endpoints"])
            assert not endpoints - wanted, where
            compared += 1
    assert compared > 15


def test_nntp_is_not_ftp_and_a_lone_quit_is() -> None:
    news = head_of(b"MODE READER\r\nLIST\r\n", b"200 news ready\r\n200 reader\r\n", (40000, 119))
    assert dissect(news).protocol is None
    assert dissect(head_of(b"QUIT\r\n", b"", (40000, 21))).protocol == "ftp"
    assert dissect(head_of(b"QUIT\r\n", b"", (40000, 110))).protocol is None


def test_a_refusal_in_place_of_a_greeting() -> None:
    for greeting, code in ((b"421 Too many connections\r\n", 421), (b"220 ready\r\n", None)):
        facts = dissect(head_of(b"", greeting, (40000, 21))).facts
        assert isinstance(facts, FtpFacts)
        assert facts.greeting_code == code
