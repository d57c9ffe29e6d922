"""Excerpts of packets in reports: useful, and without secrets."""

from __future__ import annotations

import base64
from pathlib import Path

from analyzer.export.excerpts import FIELD, FRAMES, HEADERS, MESSAGES, Excerpt, describe, dump, excerpts, value_text
from analyzer.heads import Direction, Frame
from analyzer.protocols import dns, esp, ftp, http, icmp, ike, ntp, ssh, tls
from analyzer.result import Audit
from tests.synthetic import HTTP, IKE_INIT, NTP, STATION, TLS, TPE, Traffic
from tests.synthetic import ftp as dialogue

SECRET = "s3cr3t-w0rds"


def finding_excerpts(result: Audit, check: str) -> list[Excerpt]:
    """The excerpts of a check's first finding."""
    finding = next(finding for finding in result.findings if finding.check == check)
    flow = next(conversation for conversation in result.conversations if conversation.id == finding.flow)
    return list(excerpts(flow, finding.frames))


def all_excerpts(result: Audit) -> list[Excerpt]:
    """Excerpts of all frames that any conversation knows."""
    found: list[Excerpt] = []
    for conversation in result.conversations:
        marks = [mark.frame for stream in conversation.head.streams for mark in stream.marks]
        for frame in [*marks, *(datagram.frame for datagram in conversation.head.datagrams)]:
            found += excerpts(conversation, (frame,))
    return found


def test_tls_hello_shows_its_fixed_part(tmp_path: Path) -> None:
    result = Traffic().tcp(STATION, 40000, TPE, 3001, TLS, duration=10).audit(tmp_path)
    client, server, *_ = all_excerpts(result)
    assert client.header == TLS[0][:43] and client.direction is Direction.ORIGINATOR
    assert server.header == TLS[1][:43] and server.direction is Direction.RESPONDER
    assert client.payload == len(TLS[0])
    assert client.messages[0].name == "ClientHello"


def test_ike_shows_its_header_and_payloads(tmp_path: Path) -> None:
    traffic = Traffic().udp(STATION, 500, TPE, 500, (">", IKE_INIT[0]), ("<", IKE_INIT[1]))
    request = all_excerpts(traffic.audit(tmp_path))[0]
    assert request.header == IKE_INIT[0][:28]
    assert [message.name for message in request.messages][:2] == ["IkeHeader", "Proposal"]


def test_http_shows_no_credentials_and_no_bytes(tmp_path: Path) -> None:
    token = base64.b64encode(f"admin:{SECRET}".encode()).decode()
    request = (
        f"POST /status?key={SECRET} HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {token}\r\n"
        f"Cookie: id={SECRET}\r\nX-Own: {SECRET}\r\n\r\npassword={SECRET}"
    ).encode()
    result = Traffic().tcp(STATION, 40000, TPE, 3001, (request, HTTP[1]), duration=10).audit(tmp_path)
    excerpt = finding_excerpts(result, "TPE121")[0]
    assert excerpt.header == b""
    text = str(excerpt)
    assert "POST" in text and "authorization" in text
    assert SECRET not in text and token not in text


def test_ftp_shows_only_verbs_and_codes(tmp_path: Path) -> None:
    traffic = Traffic().dialogue(
        STATION, 40000, TPE, 21, *dialogue(("C", f"SITE {SECRET}"), ("S", f"500 '{SECRET}' not understood")), duration=9
    )
    found = all_excerpts(traffic.audit(tmp_path))
    text = str(found)
    assert all(excerpt.header == b"" for excerpt in found)
    assert "PASS" in text and "500" in text
    assert SECRET not in text and "s3cr3t words" not in text and "ftp-lrc" not in text


def test_unrecognised_content_shows_nothing(tmp_path: Path) -> None:
    login = (f"root\r\n{SECRET}\r\n".encode(), f"login: {SECRET}".encode())
    found = all_excerpts(Traffic().tcp(STATION, 40000, TPE, 22, login, duration=10).audit(tmp_path))
    assert found and all(excerpt.header == b"" and excerpt.messages == () for excerpt in found)
    assert SECRET not in str(found)


def test_echo_data_is_withheld(tmp_path: Path) -> None:
    data = SECRET.encode() * 4
    traffic = Traffic().packet(STATION, TPE, 1, bytes((8, 0, 0, 0, 0, 7, 0, 1)) + data)
    (excerpt,) = all_excerpts(traffic.audit(tmp_path, base_stations=[STATION]))
    assert excerpt.header == bytes((8, 0, 0, 0, 0, 7, 0, 1))
    assert [(message.name, message.withheld) for message in excerpt.messages] == [("Echo", False), ("EchoData", True)]
    assert SECRET not in str(excerpt)


def test_headers_are_too_short_for_a_name_and_a_password() -> None:
    assert max(HEADERS.values()) <= 48
    assert not {http.RequestLine, http.FieldLine, ftp.Command, ftp.Reply, ssh.PrefaceLine, icmp.EchoData} & set(HEADERS)


def test_header_is_shown_only_if_the_frame_begins_with_its_message(tmp_path: Path) -> None:
    traffic = Traffic().dialogue(STATION, 40000, TPE, 3001, (">", TLS[0][:50]), (">", TLS[0][50:]), ("<", TLS[1]))
    first, second, *_ = all_excerpts(traffic.audit(tmp_path))
    assert first.header == TLS[0][:43]
    assert second.header == b"" and second.payload == len(TLS[0]) - 50


def test_attempt_and_reset_have_notes(tmp_path: Path) -> None:
    result = Traffic().syn(STATION, 40000, TPE, 3001, reset=True).audit(tmp_path)
    opened, refused = excerpts(result.conversations[0], (Frame(0, 1), Frame(0, 2)))
    assert opened.notes == ("opens a connection",) and opened.direction is Direction.ORIGINATOR
    assert refused.notes == ("refuses the connection (reset)",) and refused.direction is None


def test_parse_error_is_a_note_with_its_offset(tmp_path: Path) -> None:
    traffic = Traffic().udp(STATION, 123, TPE, 123, (">", NTP[0]), (">", NTP[0][:20]))
    result = traffic.audit(tmp_path, base_stations=[STATION])
    last = all_excerpts(result)[-1]
    assert any(note.startswith("malformed at byte") for note in last.notes)


def test_frames_of_other_flows_have_no_excerpt(tmp_path: Path) -> None:
    result = Traffic().tcp(STATION, 40000, TPE, 3001, TLS, duration=10).audit(tmp_path)
    assert list(excerpts(result.conversations[0], (Frame(0, 99), Frame(1, 4)))) == []


def test_frames_and_messages_are_limited(tmp_path: Path) -> None:
    fields = b"".join(b"X-%d: 1\r\n" % number for number in range(40))
    request = b"GET / HTTP/1.1\r\n" + fields + b"\r\n"
    result = Traffic().tcp(STATION, 40000, TPE, 3001, (request, HTTP[1]), duration=10).audit(tmp_path)
    first = all_excerpts(result)[0]
    assert len(first.messages) == MESSAGES and first.more == 41 - MESSAGES
    frames = tuple(Frame(0, number) for number in range(1, 20))
    traffic = Traffic().udp(STATION, 123, TPE, 123, *((">", NTP[0]) for _ in frames))
    (conversation,) = traffic.audit(tmp_path).conversations
    assert len(list(excerpts(conversation, frames))) == FRAMES


def test_long_values_are_shortened() -> None:
    name = "x" * 300
    (pair,) = describe(tls.ServerName((name,))).fields
    assert len(pair[1]) == FIELD + 1 and pair[1].endswith("…")
    assert value_text(b"\x01\x02") == "0102" and value_text(bytes(20)) == "20 bytes"
    assert value_text(tuple(range(20))).endswith("and 8 more")
    assert value_text(True) == "yes"


def test_header_in_a_message_is_not_repeated() -> None:
    header = dns.Header(1, 256, 1, 0, 0, 0)
    assert [name for name, _ in describe(dns.Question(header, "a.example", 1, 1)).fields] == ["name", "type", "class"]


def test_messages_have_the_names_and_fields_of_their_protocol() -> None:
    assert describe(esp.EspPacket(1, 2, 96, True)).fields[0] == ("spi", "1")
    assert describe(ike.Nonce(32)).fields == (("length", "32"),)
    assert describe(ntp.Extension(4, 8)).name == "Extension"


def test_hex_dump_is_like_wiresharks() -> None:
    assert list(dump(b"GET / HTTP/1.1\r\n\x00")) == [
        "0000  47 45 54 20 2f 20 48 54 54 50 2f 31 2e 31 0d 0a  GET / HTTP/1.1..",
        "0010  00                                               .",
    ]
