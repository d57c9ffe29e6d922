from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.heads import Direction, Head
from analyzer.messages import to_json
from analyzer.protocols import Dissection, dissect_as, http
from analyzer.protocols.http import HttpFacts, RequestLine, WebSocketFrame
from analyzer.wire import Cause
from tests import samples
from tests.protocols.test_ssh import conversations, head_of, one_side

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
    assert not read(EXAMPLES[0]).parse_errors
    assert to_json(facts(EXAMPLES[0])) == {
        "method": "GET",
        "path": "/router-info",
        "upgrade": "websocket",
        "host": "172.16.40.10:4443",
        "status": 101,
        "server": "Python/3.11 websockets/17.4",
        "version": "1.1",
        "service": "LNS router-info",
        "frames": {"text": 2},
    }


def test_secrets_are_kept_nowhere() -> None:
    request = (
        b"POST /update-info;a=hunter2?token=hunter2#hunter2 HTTP/1.1\r\nAuthorization: hunter2\r\nCookie: a=hunter2\r\n"
        b"Proxy-Authorization: hunter2\r\nX-Api-Key: hunter2\r\nReferer: http://h/?hunter2\r\n"
        b"hunter2: x\r\nHost: hunter2@cups.example\r\n\r\nhunter2"
    )
    answer = b"HTTP/1.1 302 Found\r\nSet-Cookie: hunter2\r\nLocation: /?hunter2\r\n\r\nhunter2"
    found = read(head_of(request, answer))
    assert not found.parse_errors and "hunter2" not in repr(found)
    told = facts(head_of(request, answer))
    assert (told.path, told.host, told.service) == ("/update-info", "cups.example", "CUPS update-info")
    assert told.credentials == ("Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-API-Key")


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"/traffic/NNSXS.IH3P7ZLDQH4AXDPRRWCPXBNTHC/0016c001ff10a235", "/traffic/…/0016c001ff10a235"),
        (b"/router-0016c001ff10a235", "/router-0016c001ff10a235"),
        (b"/a/" + b"b/" * 200, "/a/" + "b/" * 126 + "b…"),
    ],
)
def test_a_path_without_what_may_be_a_token(path: bytes, shown: str) -> None:
    assert facts(head_of(b"GET " + path + b" HTTP/1.1\r\n\r\n")).path == shown


def frame(opcode: int, payload: bytes = b"", key: bytes = b"", final: bool = True) -> bytes:
    """A WebSocket frame; with a key it is masked."""
    size = len(payload)
    if size < 126:
        length = bytes((size,))
    else:
        length = b"\x7e" + size.to_bytes(2, "big") if size < 65536 else b"\x7f" + size.to_bytes(8, "big")
    masked = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload)) if key else payload
    return bytes((final << 7 | opcode, length[0] | bool(key) << 7)) + length[1:] + key + masked


frames = st.tuples(
    st.sampled_from([0, 1, 2, 3, 8, 9, 10, 15]),
    st.binary(max_size=125) | st.sampled_from([126, 127, 65535, 65536]).map(bytes),
    st.sampled_from([b"", b"\1\2\3\4"]),
)


@given(st.lists(frames, max_size=6))
def test_frames_are_read_as_they_were_written(told: list[tuple[int, bytes, bytes]]) -> None:
    told = [(opcode, payload[:125] if opcode >= 8 else payload, key) for opcode, payload, key in told]
    written = b"".join(frame(opcode, payload, key) for opcode, payload, key in told)
    found = read(head_of(UPGRADE + written, SWITCHING + written, ends=True))
    assert found.parse_errors == ()
    for direction in Direction:
        shown = [item.message for item in found.items if item.direction is direction]
        shown = [each for each in shown if isinstance(each, WebSocketFrame)]
        assert [(each.opcode, each.length, each.masked) for each in shown] == [
            (opcode, len(payload), bool(key)) for opcode, payload, key in told
        ]
        assert [each.close_code for each in shown] == [
            int.from_bytes(payload[:2], "big") if opcode == 8 and len(payload) > 1 else None
            for opcode, payload, _ in told
        ]


def test_a_websocket_that_ends_normally() -> None:
    said = facts(head_of(UPGRADE + frame(8, b"\x03\xe8bye", b"\1\1\1\1"), SWITCHING + frame(8, b"\x03\xe8")))
    assert (said.frames, said.close_codes) == ({"close": 2}, (1000,))


@pytest.mark.parametrize(
    "wrong", [frame(9, bytes(126)), frame(8, final=False), b"\x82\x7f" + b"\xff" * 8], ids=["ping", "close", "length"]
)
def test_frames_that_no_sender_makes_are_malformed(wrong: bytes) -> None:
    (found,) = read(head_of(UPGRADE, SWITCHING + wrong)).parse_errors
    assert found.anomaly.cause is Cause.MALFORMED


def test_what_follows_a_refused_switch_is_no_frame() -> None:
    found = read(head_of(UPGRADE + b"GET /again HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert found.parse_errors == () and not found.facts.frames


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
    assert [(each.anomaly.cause, each.anomaly.field) for each in found.parse_errors] == [(Cause.MALFORMED, field)]


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
        assert all(each.anomaly.cause is not Cause.DEFECT for each in found.parse_errors)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), st.sampled_from(list(Direction)))
def test_a_prefix_says_less_and_never_other_things(size: int, direction: Direction) -> None:
    data = EXAMPLES[0].streams[direction].data
    full, part = read(one_side(direction, data)).items, read(one_side(direction, data[:size]))
    assert part.items == full[: len(part.items)]
    assert all(each.anomaly.cause is Cause.TRUNCATED for each in part.parse_errors)


def test_recorded_cleartext_is_named() -> None:
    found = [each for each in conversations(samples.capture("tls-http-on-3001")) if each.protocol == "http"]
    said = [each.dissection.facts for each in found]
    assert [(each.method, each.path, each.status) for each in said if isinstance(each, HttpFacts)] == [
        ("GET", "/", 200),
        ("POST", "/lrc", 501),
    ]
    stations = [each for each in conversations(samples.capture("basics-ws-plain-4443")) if each.protocol == "http"]
    assert len(stations) == 2
    for each in stations:
        assert isinstance(each.dissection.facts, HttpFacts)
        assert each.dissection.facts.upgrade == "websocket" and not each.dissection.parse_errors
