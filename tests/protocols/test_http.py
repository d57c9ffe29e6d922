from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.heads import Direction, Head
from analyzer.messages import to_json
from analyzer.protocols import Dissection, dissect, dissect_as, http
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


def test_facts_of_an_upgrade() -> None:
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


def test_secrets_are_not_kept() -> None:
    request = (
        b"POST /update-info;a=hunter2?token=hunter2#hunter2 HTTP/1.1\r\nAuthorization: hunter2\r\nCookie: a=hunter2\r\n"
        b"Proxy-Authorization: hunter2\r\nX-Api-Key: hunter2\r\nReferer: http://h/?hunter2\r\n"
        b"hunter2: x\r\nHost: hunter2@cups.example\r\n\r\nhunter2"
    )
    answer = b"HTTP/1.1 302 Found\r\nSet-Cookie: hunter2\r\nLocation: /?hunter2\r\n\r\nhunter2"
    found = read(head_of(request, answer))
    assert not found.parse_errors and "hunter2" not in repr(found)
    read_facts = facts(head_of(request, answer))
    assert (read_facts.path, read_facts.host, read_facts.service) == (
        "/update-info",
        "cups.example",
        "CUPS update-info",
    )
    assert read_facts.credentials == ("Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-API-Key")


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"/traffic/NNSXS.IH3P7ZLDQH4AXDPRRWCPXBNTHC/0016c001ff10a235", "/traffic/…/0016c001ff10a235"),
        (b"/router-0016c001ff10a235", "/router-0016c001ff10a235"),
        (b"/a/" + b"b/" * 200, "/a/" + "b/" * 126 + "b…"),
    ],
)
def test_a_path_loses_possible_tokens(path: bytes, shown: str) -> None:
    assert facts(head_of(b"GET " + path + b" HTTP/1.1\r\n\r\n")).path == shown


def frame(opcode: int, payload: bytes = b"", key: bytes = b"", final: bool = True) -> bytes:
    """A WebSocket frame, masked with the key if there is one."""
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
def test_websocket_frames_round_trip(drawn: list[tuple[int, bytes, bytes]]) -> None:
    sent = [(opcode, payload[:125] if opcode >= 8 else payload, key) for opcode, payload, key in drawn]
    written = b"".join(frame(opcode, payload, key) for opcode, payload, key in sent)
    found = read(head_of(UPGRADE + written, SWITCHING + written, ends=True))
    assert found.parse_errors == ()
    for direction in Direction:
        shown = [item.message for item in found.items if item.direction is direction]
        shown = [message for message in shown if isinstance(message, WebSocketFrame)]
        assert [(message.opcode, message.length, message.masked) for message in shown] == [
            (opcode, len(payload), bool(key)) for opcode, payload, key in sent
        ]
        assert [message.close_code for message in shown] == [
            int.from_bytes(payload[:2], "big") if opcode == 8 and len(payload) > 1 else None
            for opcode, payload, _ in sent
        ]


def test_close_codes_of_a_websocket() -> None:
    actual = facts(head_of(UPGRADE + frame(8, b"\x03\xe8bye", b"\1\1\1\1"), SWITCHING + frame(8, b"\x03\xe8")))
    assert (actual.frames, actual.close_codes) == ({"close": 2}, (1000,))


@pytest.mark.parametrize(
    "wrong", [frame(9, bytes(126)), frame(8, final=False), b"\x82\x7f" + b"\xff" * 8], ids=["ping", "close", "length"]
)
def test_impossible_websocket_frames_are_malformed(wrong: bytes) -> None:
    (found,) = read(head_of(UPGRADE, SWITCHING + wrong)).parse_errors
    assert found.anomaly.cause is Cause.MALFORMED


def test_a_request_after_a_refused_upgrade_is_no_frame() -> None:
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
def test_path_of_every_form_of_target(line: bytes, path: str) -> None:
    (item,) = read(head_of(line + b"\r\n\r\n")).items
    assert isinstance(item.message, RequestLine) and item.message.path == path


def test_interim_responses_are_skipped() -> None:
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nServer: x\r\n folded\r\n\r\nbody"
    found = facts(head_of(b"PUT /f HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", answer))
    assert (found.status, found.server) == (201, "x")


@pytest.mark.parametrize(
    ("client", "server", "field"),
    [
        (b"\x68\x04\x07\0\0\0\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", "request line"),
        (b"GET\r\n", b"", "request line"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"", "field line"),
        (b"GET / HTTP/1.1\r\nbad name: x\r\n\r\n", b"", "field line"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 300, b"", "field line"),
        (b"GET /" + b"a" * 20000, b"", "request line"),
        (b"GET / HTTP/1.1\r\n\r\n", b"ICY 200 OK\r\n", "status line"),
    ],
)
def test_malformed_messages_name_the_field(client: bytes, server: bytes, field: str) -> None:
    found = read(head_of(client, server))
    assert [(error.anomaly.cause, error.anomaly.field) for error in found.parse_errors] == [(Cause.MALFORMED, field)]


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
def test_probe(head: Head, expected: bool) -> None:
    assert http.probe(head) is expected


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200), st.booleans())
def test_any_bytes_cause_no_defect(client: bytes, server: bytes, ends: bool) -> None:
    for start in (b"", b"GET / HTTP/1.1\r\n"):
        found = read(head_of(start + client, b"HTTP/1.1 100 \r\n" + server, ends=ends))
        assert all(error.anomaly.cause is not Cause.DEFECT for error in found.parse_errors)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), st.sampled_from(list(Direction)))
def test_a_prefix_gives_a_prefix_of_the_messages(size: int, direction: Direction) -> None:
    data = EXAMPLES[0].streams[direction].data
    full, part = read(one_side(direction, data)).items, read(one_side(direction, data[:size]))
    assert part.items == full[: len(part.items)]
    assert all(error.anomaly.cause is Cause.TRUNCATED for error in part.parse_errors)


def test_facts_of_recorded_cleartext() -> None:
    found = [flow for flow in conversations(samples.capture("tls-http-on-3001")) if flow.protocol == "http"]
    actual = [flow.dissection.facts for flow in found]
    assert [(fact.method, fact.path, fact.status) for fact in actual if isinstance(fact, HttpFacts)] == [
        ("GET", "/", 200),
        ("POST", "/lrc", 501),
    ]
    stations = [flow for flow in conversations(samples.capture("basics-ws-plain-4443")) if flow.protocol == "http"]
    assert len(stations) == 2
    for flow in stations:
        assert isinstance(flow.dissection.facts, HttpFacts)
        assert flow.dissection.facts.upgrade == "websocket" and not flow.dissection.parse_errors


@pytest.mark.parametrize(
    ("client", "path", "version"),
    [
        (b"GET /cgi-bin/a file HTTP/1.1\r\nHost: a\r\n\r\n", "/cgi-bin/a file", "1.1"),
        (b"GET /index.html\r\n", "/index.html", "0.9"),
    ],
)
def test_blanks_in_the_target_and_requests_without_a_version(client: bytes, path: str, version: str) -> None:
    found = dissect(head_of(client, b"", (40000, 443)))
    assert isinstance(found.facts, HttpFacts)
    assert (found.protocol, found.facts.path, found.facts.version) == ("http", path, version)
    assert not found.parse_errors


def test_tr069_is_named() -> None:
    body = b'<soap:Envelope xmlns:cwmp="urn:dslforum-org:cwmp-1-0"><Password>hunter2</Password>'
    request = b"POST /acs HTTP/1.1\r\nHost: acs\r\nSOAPAction: \r\n\r\n" + body
    found = dissect(head_of(request, b"", (40000, 7547)))
    assert isinstance(found.facts, HttpFacts)
    assert found.facts.service == "TR-069 (CWMP)"
    assert "hunter2" not in repr((found.items, found.facts))
