from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.heads import Direction, Head
from analyzer.messages import to_json
from analyzer.protocols import Dissection, dissect_as, http
from analyzer.protocols.http import HttpFacts, RequestLine
from analyzer.wire import Cause
from tests.protocols.test_ssh import CAPTURES, conversations, head_of, one_side

UPGRADE = (
    b"GET /router-info HTTP/1.1\r\nHost: 172.16.40.10:4443\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: SLlw2s09mLB1OlQ8yOvhIQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nDate: Sun, 22 Nov 2026 07:31:02 GMT\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nServer: Python/3.11 websockets/17.4\r\n\r\n"
)

EXAMPLES: list[Head] = [
    head_of(UPGRADE + b"\x81\x85\1\1\1\1abcde", SWITCHING + b"\x81\x05hello", (40000, 4443), cut=60),
    head_of(b"HEAD / HTTP/1.0\r\n\r\n", b"HTTP/1.0 404 Not Found\r\n\r\n", (40000, 80), ends=True),
]


def read(head: Head) -> Dissection:
    return dissect_as(http, head)


def facts(head: Head) -> HttpFacts:
    found = read(head).facts
    assert isinstance(found, HttpFacts)
    return found


def test_an_upgrade_is_told() -> None:
    assert not read(EXAMPLES[0]).breaks
    assert to_json(facts(EXAMPLES[0])) == {
        "method": "GET",
        "path": "/router-info",
        "upgrade": "websocket",
        "host": "172.16.40.10:4443",
        "status": 101,
        "server": "Python/3.11 websockets/17.4",
        "version": "1.1",
    }


def test_secrets_are_kept_nowhere() -> None:
    request = (
        b"POST /update-info?token=hunter2#hunter2 HTTP/1.1\r\nAuthorization: hunter2\r\nCookie: a=hunter2\r\n"
        b"Proxy-Authorization: hunter2\r\nX-Api-Key: hunter2\r\nReferer: http://h/?hunter2\r\n\r\nhunter2"
    )
    answer = b"HTTP/1.1 302 Found\r\nSet-Cookie: hunter2\r\nLocation: /?hunter2\r\n\r\nhunter2"
    found = read(head_of(request, answer))
    assert not found.breaks and "hunter2" not in repr(found)
    assert facts(head_of(request, answer)).path == "/update-info"


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b"GET http://user:pw@host/a/b?q HTTP/1.1", "/a/b"),
        (b"GET http://host HTTP/1.1", "/"),
        (b"CONNECT user:pw@host:443 HTTP/1.1", "host:443"),
        (b"OPTIONS * HTTP/1.1", "*"),
        (b"GET /\xff\x1b[2J HTTP/1.1", "/\\xff\\x1b[2J"),
    ],
)
def test_forms_of_the_target(line: bytes, path: str) -> None:
    (item,) = read(head_of(line + b"\r\n\r\n")).items
    assert isinstance(item.message, RequestLine) and item.message.path == path


def test_an_interim_response_is_passed_over() -> None:
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nServer: x\r\n folded\r\n\r\nbody"
    found = facts(head_of(b"PUT /f HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", answer))
    assert (found.status, found.server) == (201, "x")


@pytest.mark.parametrize(
    ("client", "server", "field"),
    [
        (b"\x68\x04\x07\0\0\0\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", "request line"),
        (b"GET /\r\n", b"", "request line"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"", "field line"),
        (b"GET / HTTP/1.1\r\nbad name: x\r\n\r\n", b"", "field line"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 300, b"", "field line"),
        (b"GET /" + b"a" * 20000, b"", "request line"),
        (b"GET / HTTP/1.1\r\n\r\n", b"ICY 200 OK\r\n", "status line"),
    ],
)
def test_contradictions_are_malformed(client: bytes, server: bytes, field: str) -> None:
    found = read(head_of(client, server))
    assert [(each.anomaly.cause, each.anomaly.field) for each in found.breaks] == [(Cause.MALFORMED, field)]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (EXAMPLES[0], True),
        (head_of(UPGRADE, b"", (40000, 3001)), True),
        (head_of(b"", SWITCHING, (40000, 3001)), True),
        (head_of(b"GET /very/long", b"", (40000, 3001)), True),
        (head_of(b"\x68\x04\x07\0\0\0", b"HTTP/1.0 400 Bad Request\r\n\r\n", (40000, 3001)), True),
        (head_of(b"GET my name right\r\n", b"", (40000, 80)), False),
        (head_of(b"SSH-2.0-x\r\n", b"", (40000, 80)), False),
        (head_of(b"", b"<html>HTTP/1.1 200 OK", (40000, 80)), False),
        (head_of(), False),
    ],
)
def test_content_decides(head: Head, expected: bool) -> None:
    assert http.probe(head) is expected


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200), st.booleans())
def test_no_bytes_are_a_defect(client: bytes, server: bytes, ends: bool) -> None:
    for start in (b"", b"GET / HTTP/1.1\r\n"):
        found = read(head_of(start + client, b"HTTP/1.1 100 \r\n" + server, ends=ends))
        assert all(each.anomaly.cause is not Cause.DEFECT for each in found.breaks)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), st.sampled_from(list(Direction)))
def test_a_prefix_says_less_and_never_other_things(size: int, direction: Direction) -> None:
    data = EXAMPLES[0].streams[direction].data
    full, part = read(one_side(direction, data)).items, read(one_side(direction, data[:size]))
    assert part.items == full[: len(part.items)]
    assert all(each.anomaly.cause is Cause.TRUNCATED for each in part.breaks)


def test_recorded_cleartext_is_named() -> None:
    found = [each for each in conversations(CAPTURES / "tls-http-on-3001.pcap") if each.protocol == "http"]
    said = [each.dissection.facts for each in found]
    assert [(each.method, each.path, each.status) for each in said if isinstance(each, HttpFacts)] == [
        ("GET", "/", 200),
        ("POST", "/lrc", 501),
    ]
    stations = [each for each in conversations(CAPTURES / "bs-ws-plain-4443.pcap") if each.protocol == "http"]
    assert len(stations) == 2
    for each in stations:
        assert isinstance(each.dissection.facts, HttpFacts)
        assert each.dissection.facts.upgrade == "websocket" and not each.dissection.breaks
