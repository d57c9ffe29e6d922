"""Preambles: what proxies, load balancers and STARTTLS put before a protocol."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.heads import Direction, Head
from analyzer.protocols import RereadItems, dissect
from analyzer.protocols.preambles import Preamble, find_preamble
from tests.protocols.test_ssh import head_of
from tests.synthetic import SSH, TLS

CONNECT = b"CONNECT tpe.example:3001 HTTP/1.1\r\nHost: tpe.example:3001\r\nProxy-Authorization: Basic hunter2\r\n\r\n"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\nVia: proxy\r\n\r\n"
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nnever"
PROXY_V1 = b"PROXY TCP4 203.0.113.7 172.16.40.10 50872 3001\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n"
PROXY_V2 = (
    V2 + b"\x21\x11" + struct.pack(">H4s4sHH", 15, bytes([203, 0, 113, 7]), bytes([172, 16, 40, 10]), 50872, 3001)
    + b"\4\0\0"
)  # fmt: skip
SOCKS4A = b"\4\1" + struct.pack(">H4s", 3001, b"\0\0\0\1") + b"hunter2\0tpe.example\0"
SOCKS5 = b"\5\1\2" + b"\1\4user\7hunter2" + b"\5\1\0\3\x0btpe.example" + struct.pack(">H", 3001)
SOCKS5_OK = b"\5\2" + b"\1\0" + b"\5\0\0\1\0\0\0\0\0\0"
SMTP = (b"EHLO a\r\nSTARTTLS\r\n", b"220 mail ESMTP\r\n250-mail\r\n250 STARTTLS\r\n220 go ahead\r\n")
EXTENDED = b"0\x1d\2\1\1\x77\x18\x80\x16" + b"1.3.6.1.4.1.1466.20037"
LDAP = (b"0\5\2\1\1\x42\0" + EXTENDED, b"0\x0c\2\1\1\x78\7\n\1\0\4\0\4\0")
LDAP_REFUSED = b"0\x0c\2\1\1\x78\7\n\1\x34\4\0\4\0"
XMPP = (
    b"<?xml version='1.0'?><stream:stream to='a'><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    b"<stream:features/><proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
)
SSL_REQUEST = bytes.fromhex("0000000804d2162f")
GSS_REQUEST = bytes.fromhex("0000000804d21630")
IMAP = (b"a1 STARTTLS\r\n", b"* OK ready\r\na1 OK begin\r\n")

PREAMBLES = [
    (CONNECT, ESTABLISHED, ("HTTP CONNECT", "tpe.example", 3001, None, "accepted")),
    (CONNECT + CONNECT, FORBIDDEN + ESTABLISHED, ("HTTP CONNECT", "tpe.example", 3001, None, "accepted")),
    (PROXY_V1, b"", ("PROXY protocol v1", "172.16.40.10", 3001, "203.0.113.7", "accepted")),
    (b"PROXY UNKNOWN\r\n", b"", ("PROXY protocol v1", None, None, None, "accepted")),
    (PROXY_V2, b"", ("PROXY protocol v2", "172.16.40.10", 3001, "203.0.113.7", "accepted")),
    (V2 + b"\x20\0\0\0", b"", ("PROXY protocol v2", None, None, None, "accepted")),
    (SOCKS4A, b"\0\x5a" + bytes(6), ("SOCKS 4", "tpe.example", 3001, None, "accepted")),
    (SOCKS5, SOCKS5_OK, ("SOCKS 5", "tpe.example", 3001, None, "accepted")),
    (*SMTP, ("STARTTLS", None, None, None, "accepted")),
    (*IMAP, ("STARTTLS", None, None, None, "accepted")),
    (*LDAP, ("StartTLS of LDAP", None, None, None, "accepted")),
    (*XMPP, ("STARTTLS of XMPP", None, None, None, "accepted")),
    (SSL_REQUEST, b"S", ("SSLRequest of PostgreSQL", None, None, None, "accepted")),
    (GSS_REQUEST + SSL_REQUEST, b"NS", ("SSLRequest of PostgreSQL", None, None, None, "accepted")),
    (PROXY_V1 + CONNECT, ESTABLISHED, ("PROXY protocol v1", "172.16.40.10", 3001, "203.0.113.7", "accepted")),
    (CONNECT + SMTP[0], ESTABLISHED + SMTP[1], ("HTTP CONNECT", "tpe.example", 3001, None, "accepted")),
]


def preamble_of(client: bytes, server: bytes) -> Preamble:
    found = find_preamble(head_of(client, server, (40000, 3001)))
    assert found is not None
    return found


@pytest.mark.parametrize(("client", "server", "expected"), PREAMBLES, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("cut", [7, 1400])
def test_what_follows_a_preamble_is_dissected(
    client: bytes, server: bytes, expected: tuple[object, ...], cut: int
) -> None:
    head = head_of(client + TLS[0], server + TLS[1], (40000, 3128), cut=cut)
    found, alone = dissect(head), dissect(head_of(*TLS, (40000, 3128)))
    assert found.preamble is not None
    assert found.preamble[:5] == expected
    assert (found.protocol, found.facts) == ("tls", alone.facts)
    assert not found.parse_errors


@pytest.mark.parametrize(("client", "server", "expected"), PREAMBLES, ids=lambda value: str(value)[:20])
def test_offsets_and_frames_are_those_of_the_whole_stream(
    client: bytes, server: bytes, expected: tuple[object, ...]
) -> None:
    head = head_of(client + TLS[0], server + TLS[1], (40000, 3128), cut=7)
    found = dissect(head)
    for item in found.items:
        assert item.offset >= (len(client), len(server))[item.direction]
        assert item.frame == head.streams[item.direction].mark_at(item.offset).frame
    assert tuple(RereadItems(head)) == tuple(found.items)


def test_a_preamble_before_ssh() -> None:
    found = dissect(head_of(PROXY_V1 + SSH[0], SSH[1], (40000, 22)))
    assert (found.protocol, found.preamble and found.preamble.name) == ("ssh", "PROXY protocol v1")


@pytest.mark.parametrize(
    ("client", "server", "outcome"),
    [
        (CONNECT, FORBIDDEN, "refused: HTTP 403"),
        (CONNECT, b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "refused: HTTP 407"),
        (CONNECT, b"", "unanswered"),
        (SOCKS4A, b"\0\x5b" + bytes(6), "refused: SOCKS code 91"),
        (b"\5\1\0", b"\5\xff", "refused: no acceptable method"),
        (SOCKS5[:15], b"\5\2\1\1", "refused: authentication failed"),
        (SOCKS5, b"\5\2\1\0\5\2\0\1\0\0\0\0\0\0", "refused: not allowed by the ruleset"),
        (LDAP[0], LDAP_REFUSED, "refused: LDAP error"),
        (LDAP[0], b"", "unanswered"),
        (XMPP[0], b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "refused: failure"),
        (SSL_REQUEST, b"N", "refused: no TLS"),
        (SSL_REQUEST, b"", "unanswered"),
    ],
)
def test_outcome_of_a_request_to_a_proxy(client: bytes, server: bytes, outcome: str) -> None:
    assert preamble_of(client, server).outcome == outcome


def test_preambles_follow_each_other() -> None:
    client, server = PROXY_V1 + CONNECT + SMTP[0], ESTABLISHED + SMTP[1]
    chain = preamble_of(client + TLS[0], server + TLS[1]).chain
    assert [part.name for part in chain] == ["PROXY protocol v1", "HTTP CONNECT", "STARTTLS"]
    assert chain[-1].sizes == (len(client), len(server))


def test_content_before_a_refused_preamble_is_read() -> None:
    """What follows the load balancer's header is a request to a proxy, which refuses it."""
    found = dissect(head_of(PROXY_V1 + CONNECT, FORBIDDEN, (40000, 3128)))
    assert found.protocol == "http"
    assert found.preamble and [part.outcome for part in found.preamble.chain] == ["accepted", "refused: HTTP 403"]


def test_a_refused_request_is_still_http() -> None:
    found = dissect(head_of(CONNECT, FORBIDDEN, (40000, 3128)))
    assert found.protocol == "http"
    assert found.preamble and found.preamble.refused


def test_tls_follows_where_one_direction_is_missing() -> None:
    assert dissect(head_of(CONNECT + TLS[0], b"", (40000, 3128))).protocol == "tls"
    found = dissect(head_of(b"", ESTABLISHED + TLS[1], (40000, 3128)))
    assert (found.protocol, found.preamble and found.preamble.name) == ("tls", "HTTP CONNECT")


def test_content_of_unknown_protocol_after_a_preamble_has_none() -> None:
    found = dissect(head_of(CONNECT + b"\1\2\3\4\5\6", ESTABLISHED, (40000, 3128)))
    assert found.protocol is None
    assert found.preamble


@pytest.mark.parametrize(
    ("client", "server"),
    [
        TLS,
        SSH,
        (b"GET / HTTP/1.1\r\n\r\n", ESTABLISHED),
        (b"PROXY me\r\n", b""),
        (b"\5\1\0", b"\7\0"),
        (b"\4\1" + bytes(30), b""),
        (b"EHLO a\r\nMAIL FROM:<a>\r\n", b"220 mail\r\n250 ok\r\n"),
        (b"\5", b""),
        (b"0\5\2\1\1\x42\0", b"0\5\2\1\1\x42\0"),
        (b"0" * 40, b""),
        (b"<?xml?><stream:stream>", b"<stream:features/>"),
        (SSL_REQUEST, b"E"),
        (b"", b""),
    ],
)
def test_other_content_has_no_preamble(client: bytes, server: bytes) -> None:
    assert find_preamble(head_of(client, server, (40000, 3001))) is None


def test_user_names_and_passwords_are_not_kept() -> None:
    for client, server, _ in PREAMBLES:
        for end in range(len(client) + 1):
            for rest in (b"", TLS[0]):
                found = dissect(head_of(client[:end] + rest, server, (40000, 3128)))
                assert "hunter2" not in repr((found.preamble, found.facts, found.items))
    assert "secret" not in repr(preamble_of(b"CONNECT a:secret@tpe:1 HTTP/1.1\r\n\r\n", b""))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PREAMBLES), st.integers(0, 400), st.integers(0, 400), st.binary(max_size=40))
def test_any_cut_or_damage_is_read_without_an_error(
    preamble: tuple[bytes, bytes, object], sent: int, received: int, damage: bytes
) -> None:
    head: Head = head_of(preamble[0][:sent] + damage, preamble[1][:received] + damage, (40000, 3001))
    found = find_preamble(head)
    if found is not None:
        assert all(0 <= size <= len(head.streams[end].data) for end, size in zip(Direction, found.sizes, strict=True))


def test_addresses_of_ipv6() -> None:
    body = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    header = V2 + b"\x21\x21" + struct.pack(">H", 36) + body + struct.pack(">HH", 1, 3001)
    assert preamble_of(header, b"")[1:4] == ("2001:db8::1", 3001, "2001:db8::7")
    line = b"CONNECT [2001:db8::1]:3001 HTTP/1.1\r\n\r\n"
    assert preamble_of(line, b"")[1:3] == ("2001:db8::1", 3001)
