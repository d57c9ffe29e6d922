"""What of a packet may leave in a report, and what must not."""

from __future__ import annotations

import base64
from pathlib import Path

from analyzer.conversations import Conversation
from analyzer.export.excerpts import FIELD, FRAMES, HEADERS, MESSAGES, Excerpt, decoded, dump, excerpts, told
from analyzer.heads import Direction, Frame
from analyzer.protocols import dns, esp, ftp, http, icmp, ike, ntp, ssh, tls
from analyzer.result import Audit
from tests.synthetic import HTTP, IKE_INIT, NTP, STATION, TLS, TPE, Traffic
from tests.synthetic import ftp as dialogue

SECRET = "s3cr3t-w0rds"


def shown(result: Audit, check: str) -> list[Excerpt]:
    """The excerpts of a check's first finding."""
    finding = next(each for each in result.findings if each.check == check)
    return list(excerpts(flow(result, finding.flow), finding.frames))


def flow(result: Audit, number: int | None) -> Conversation:
    return next(each for each in result.conversations if each.id == number)


def every(result: Audit) -> list[Excerpt]:
    """Excerpts of all frames that any conversation knows."""
    found: list[Excerpt] = []
    for each in result.conversations:
        marks = [mark.frame for stream in each.head.streams for mark in stream.marks]
        for frame in [*marks, *(datagram.frame for datagram in each.head.datagrams)]:
            found += excerpts(each, (frame,))
    return found


def test_of_a_hello_the_fixed_part_is_shown(tmp_path: Path) -> None:
    result = Traffic().tcp(STATION, 40000, TPE, 3001, TLS, duration=10).audit(tmp_path)
    hello, answer, *_ = every(result)
    assert hello.header == TLS[0][:43] and hello.direction is Direction.ORIGINATOR
    assert answer.header == TLS[1][:43] and answer.direction is Direction.RESPONDER
    assert hello.payload == len(TLS[0])
    assert hello.messages[0].name == "ClientHello"


def test_of_ike_the_header_is_shown_and_the_rest_is_read(tmp_path: Path) -> None:
    traffic = Traffic().udp(STATION, 500, TPE, 500, (">", IKE_INIT[0]), ("<", IKE_INIT[1]))
    asked = every(traffic.audit(tmp_path))[0]
    assert asked.header == IKE_INIT[0][:28]
    assert [message.name for message in asked.messages][:2] == ["IkeHeader", "Proposal"]


def test_http_loses_its_credentials_and_shows_no_byte(tmp_path: Path) -> None:
    token = base64.b64encode(f"admin:{SECRET}".encode()).decode()
    request = (
        f"POST /status?key={SECRET} HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {token}\r\n"
        f"Cookie: id={SECRET}\r\nX-Own: {SECRET}\r\n\r\npassword={SECRET}"
    ).encode()
    result = Traffic().tcp(STATION, 40000, TPE, 3001, (request, HTTP[1]), duration=10).audit(tmp_path)
    first = shown(result, "TPE121")[0]
    assert first.header == b""
    said = str(first)
    assert "POST" in said and "authorization" in said
    assert SECRET not in said and token not in said


def test_ftp_shows_verbs_and_codes_only(tmp_path: Path) -> None:
    traffic = Traffic().dialogue(
        STATION, 40000, TPE, 21, *dialogue(("C", f"SITE {SECRET}"), ("S", f"500 '{SECRET}' not understood")), duration=9
    )
    found = every(traffic.audit(tmp_path))
    said = str(found)
    assert all(each.header == b"" for each in found)
    assert "PASS" in said and "500" in said
    assert SECRET not in said and "s3cr3t words" not in said and "ftp-lrc" not in said


def test_content_that_nobody_read_shows_no_byte(tmp_path: Path) -> None:
    said = (f"root\r\n{SECRET}\r\n".encode(), f"login: {SECRET}".encode())
    found = every(Traffic().tcp(STATION, 40000, TPE, 22, said, duration=10).audit(tmp_path))
    assert found and all(each.header == b"" and each.messages == () for each in found)
    assert SECRET not in str(found)


def test_a_tunnel_in_pings_is_not_shown(tmp_path: Path) -> None:
    data = SECRET.encode() * 4
    traffic = Traffic().packet(STATION, TPE, 1, bytes((8, 0, 0, 0, 0, 7, 0, 1)) + data)
    (found,) = every(traffic.audit(tmp_path, base_stations=[STATION]))
    assert found.header == bytes((8, 0, 0, 0, 0, 7, 0, 1))
    assert [(each.name, each.withheld) for each in found.messages] == [("Echo", False), ("EchoData", True)]
    assert SECRET not in str(found)


def test_every_header_is_that_of_a_message_and_short() -> None:
    """None may hold a name and a password."""
    assert max(HEADERS.values()) <= 48
    assert not {http.RequestLine, http.FieldLine, ftp.Command, ftp.Reply, ssh.PrefaceLine, icmp.EchoData} & set(HEADERS)


def test_a_header_is_shown_only_where_the_frame_begins_with_its_message(tmp_path: Path) -> None:
    traffic = Traffic().dialogue(STATION, 40000, TPE, 3001, (">", TLS[0][:50]), (">", TLS[0][50:]), ("<", TLS[1]))
    first, second, *_ = every(traffic.audit(tmp_path))
    assert first.header == TLS[0][:43]
    assert second.header == b"" and second.payload == len(TLS[0]) - 50


def test_an_attempt_and_its_refusal_are_told(tmp_path: Path) -> None:
    result = Traffic().syn(STATION, 40000, TPE, 3001, reset=True).audit(tmp_path)
    (each,) = result.conversations
    opened, refused = excerpts(each, (Frame(0, 1), Frame(0, 2)))
    assert opened.notes == ("opens a connection",) and opened.direction is Direction.ORIGINATOR
    assert refused.notes == ("refuses the connection (reset)",) and refused.direction is None


def test_a_break_is_told_with_its_place(tmp_path: Path) -> None:
    cut = NTP[0][:20]
    result = Traffic().udp(STATION, 123, TPE, 123, (">", NTP[0]), (">", cut)).audit(tmp_path, base_stations=[STATION])
    last = every(result)[-1]
    assert any(note.startswith("malformed at byte") for note in last.notes)


def test_frames_of_other_flows_are_left_out(tmp_path: Path) -> None:
    result = Traffic().tcp(STATION, 40000, TPE, 3001, TLS, duration=10).audit(tmp_path)
    assert list(excerpts(result.conversations[0], (Frame(0, 99), Frame(1, 4)))) == []


def test_of_many_frames_and_messages_the_first_are_shown(tmp_path: Path) -> None:
    fields = b"".join(b"X-%d: 1\r\n" % number for number in range(40))
    request = b"GET / HTTP/1.1\r\n" + fields + b"\r\n"
    result = Traffic().tcp(STATION, 40000, TPE, 3001, (request, HTTP[1]), duration=10).audit(tmp_path)
    first = every(result)[0]
    assert len(first.messages) == MESSAGES and first.more == 41 - MESSAGES
    frames = tuple(Frame(0, number) for number in range(1, 20))
    traffic = Traffic().udp(STATION, 123, TPE, 123, *((">", NTP[0]) for _ in frames))
    (each,) = traffic.audit(tmp_path).conversations
    assert len(list(excerpts(each, frames))) == FRAMES


def test_long_texts_and_byte_strings_are_shortened() -> None:
    name = "x" * 300
    (pair,) = decoded(tls.ServerName((name,))).fields
    assert len(pair[1]) == FIELD + 1 and pair[1].endswith("…")
    assert told(b"\x01\x02") == "0102" and told(bytes(20)) == "20 bytes"
    assert told(tuple(range(20))).endswith("and 8 more")
    assert told(True) == "yes"


def test_what_a_message_carries_of_its_header_is_told_once() -> None:
    header = dns.Header(1, 256, 1, 0, 0, 0)
    assert [name for name, _ in decoded(dns.Question(header, "a.example", 1, 1)).fields] == ["name", "type", "class"]


def test_other_protocols_are_told_in_their_own_words() -> None:
    assert decoded(esp.EspPacket(1, 2, 96, True)).fields[0] == ("spi", "1")
    assert decoded(ike.Nonce(32)).fields == (("length", "32"),)
    assert decoded(ntp.Extension(4, 8)).name == "Extension"


def test_a_dump_is_as_wireshark_has_it() -> None:
    assert list(dump(b"GET / HTTP/1.1\r\n\x00")) == [
        "0000  47 45 54 20 2f 20 48 54 54 50 2f 31 2e 31 0d 0a  GET / HTTP/1.1..",
        "0010  00                                               .",
    ]
