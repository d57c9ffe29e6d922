"""TLS streams to test with: a real handshake, and builders."""

from __future__ import annotations

import base64
import struct
from hashlib import shake_256

from analyzer.heads import Direction, Frame, Head, Mark, Stream
from analyzer.protocols import Dissection, dissect_as, tls
from analyzer.protocols.tls import TlsFacts
from analyzer.protocols.tls.handshake import HELLO_RETRY_RANDOM
from analyzer.wire import Cause

# The handshake of a Basics Station 2.0.6 (mbedTLS 2.28) with its LNS, up to both Finished messages.
STATION = base64.b64decode(
    "FgMBAS0BAAEpAwNrAphHsNP3Kec/O1oaToI9rUuRE34qHBCO83/JBDfcnAAAoMyozKnMqsAswDAAn8CtwJ/AJMAoAGvACsAUADnAr8CjwIfAi8"
    "B9wHPAdwDEAIjAK8AvAJ7ArMCewCPAJwBnwAnAEwAzwK7AosCGwIrAfMBywHYAvgBFAJ3AnQA9ADXAMsAqwA/ALsAmwAXAocB7AMAAhMCNwHnA"
    "icB1AJzAnAA8AC/AMcApwA7ALcAlwATAoMB6ALoAQcCMwHjAiMB0AP8BAABgAAAAFAASAAAPbG5zLmxhYi5leGFtcGxlAA0AEgAQBgMGAQUDBQ"
    "EEAwQBAwMDAQAKABwAGgAZABwAGAAbABcAFgAaABUAFAATABIAHQAeAAsAAgEAABYAAAAXAAAAIwAAFgMDACUQAAAhID82BSqoQegRVhW3UfLx"
    "ANR4FC+oAJ4lhGHakATcuP1iFAMDAAEBFgMDACCG5IkoBoLWJE0f9zQ8vFq13J3R1RUVP0HUrZx7PkxZtA=="
)
LNS = base64.b64decode(
    "FgMDAEUCAABBAwOjNyyLhsomhqb8vmCWLY2Gl8uq3kGLkKJET1dOR1JEAQDMqAAAGf8BAAEAAAAAAAALAAQDAAECACMAAAAXAAAWAwMC+QsAAv"
    "UAAvIAAu8wggLrMIICkKADAgECAgIQADAKBggqhkjOPQQDAjAuMREwDwYDVQQKDAhMYWIgQ29yZTEZMBcGA1UEAwwQTGFiIENvcmUgUm9vdCBD"
    "QTAeFw0yNjExMDIwMDAwMDBaFw0yODEwMjIwMDAwMDBaMC0xGDAWBgNVBAMMD3RwZS5sYWIuZXhhbXBsZTERMA8GA1UECgwITGFiIENvcmUwgg"
    "EiMA0GCSqGSIb3DQEBAQUAA4IBDwAwggEKAoIBAQCuVNg7KgPvMHW3WkUElB8StvRgnSq9KyFOG//7mlDVDw1W422EzmTmo49E1c/h/h/nlSl6"
    "VikGCKAT3NOajSVFXGeEy4Pxh3Jbkr1kHIbhWmib1G2yRnpYcjz3+gbreWKX0oY5AY4LyHFXksNgjeae9ZA9WY/qvEt/6xFgWHTPa11DIWCH2P"
    "wVQ8DEAkavmDU81hKc4S2oxfZfFZ8OC9RdJYc0N3x3BfVbXc47IrsI1kvlMYmX0esgFMtU1i9c3264arLmIUDb7DMkRis9bXKM1FWB4gs+YQ8t"
    "57ehAqEjU0MWlzSq+JgoR8hUmUmDGceuklGaqQAbRT6z99IHGx8ZAgMBAAGjgdMwgdAwgY0GA1UdEQSBhTCBgoIPdHBlLmxhYi5leGFtcGxlgh"
    "BscmMxLmxhYi5leGFtcGxlghBscmMyLmxhYi5leGFtcGxlgg9sbnMubGFiLmV4YW1wbGWCEGN1cHMubGFiLmV4YW1wbGWHBKwQKAqHBKwQKAuH"
    "BKwQKAyHBAoIABSHEP1AAAAAAAAAAAAAAAAAABAwHQYDVR0OBBYEFGY+mBp61GgK3RTJPD++L2bHXddDMB8GA1UdIwQYMBaAFBbVW7mtdwHkVb"
    "txm+Qz8NrRRAYhMAoGCCqGSM49BAMCA0kAMEYCIQDpoFKl/75Z4S+WzyWTfpr4SItB9cTQLhtNGyuiVaSk+wIhAPj7Golgf6nc8K/eyCeof4mJ"
    "3/pORaqtsn2jBZA9w6h8FgMDASwMAAEoAwAdIBBhJkDQDWRteBcyx9EyPZycfw7UBIAiXW/SbpXX92BEBAEBAAhnpoCBgo22BwyCa7jyfL1P5n"
    "fWPUWUB2YlyUv2640V8ZSBuUAffFnkCHVEJSBgX6IPGI6xuhetpT+IHvIpL8UPFJZnB8WerQjJESR4thJ8ZY9K//oU3OjNnyc3Aevnvm/Y4QGP"
    "1nAq7E2H9n2DZTHH4Hbm/fC+a9UfWHx1RHNA6wiFxov+Qc0ztIvn07k8LcK609ANiw1joRpraFZERG2V/SBSFzAd6lMttUd72MaxXxMbRH8E/Z"
    "hZaB8pcZVOGWv+Eh0FJJxGg7HuL7f6JnX77sASr/fgu3xC/nMKYJxe339FMU9jwZxhJ0F3JwihDdauxoNFmbJLCh3flyj0t1oWAwMABA4AAAAW"
    "AwMAygQAAMYAABwgAMB7wW8UlQoOCFJjRm3t4l6WM6GTE7EB9W2sB5xnD/Wzz3lkzl+R0e32rHVwU9Ql08155u9PTrZgRuFEVKFN/GK++oZBgC"
    "3ukzszKLMXyvM4IZxkNutHY38DDlSjRB6TIoe6QEMRmyTD7KRhlF+0dCMs5PD9ECS9zCTc5jVaIc+5s1qwP4kLO1fvdhR+ftG4TmosBAlW476L"
    "3jqcVES20yg6wDOnX1PfT2rmhL2OFpFm0P3l37XAQWrziPerlGub198UAwMAAQEWAwMAIJSBkXorTLn6ov5RaW9NAiW4jxQl6Hex6OQm/LB4R1"
    "wX"
)

NOVEMBER_2026 = 1_795_332_167_000_000_000


# -- builders -----------------------------------------------------------------------------------------------------


def head_of(client: bytes, server: bytes, *, begins: bool = True, ends: bool = False, cut: int = 1 << 30) -> Head:
    """A conversation in frames of ``cut`` bytes; the client's have odd numbers, the server's even ones."""
    streams = []
    for direction, data in zip(Direction, (client, server), strict=True):
        offsets = range(0, len(data), cut)
        marks = tuple(Mark(at, Frame(0, 1 + direction + 2 * n), NOVEMBER_2026 + n) for n, at in enumerate(offsets))
        streams.append(Stream(data, marks, begins, ends))
    return Head("tcp", (40000, 3001), (streams[0], streams[1]))


def client_only(data: bytes) -> Head:
    """A conversation in which only the client sends."""
    return head_of(data, b"")


def record(content_type: int, content: bytes, version: int = 0x0303) -> bytes:
    """A record; content types: 20 change_cipher_spec, 21 alert, 22 handshake, 23 application_data."""
    return struct.pack(">BHH", content_type, version, len(content)) + content


def message(kind: int, body: bytes) -> bytes:
    """A handshake message."""
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def listed(size: int, content: bytes) -> bytes:
    """A list after its length of ``size`` bytes."""
    return len(content).to_bytes(size, "big") + content


def extension(kind: int, content: bytes) -> bytes:
    return struct.pack(">H", kind) + listed(2, content)


def server_name(name: bytes) -> bytes:
    return extension(0, listed(2, b"\0" + listed(2, name)))


def client_hello(extensions: bytes | None = b"", version: int = 0x0303, suites: bytes = b"\x13\x01\xc0\x2f") -> bytes:
    start = struct.pack(">H", version) + b"r" * 32 + listed(1, b"") + listed(2, suites) + listed(1, b"\0")
    return message(1, start if extensions is None else start + listed(2, extensions))


def server_hello(
    extensions: bytes | None = b"", version: int = 0x0303, suite: int = 0xC02F, random: bytes = b"s" * 32
) -> bytes:
    start = struct.pack(">H", version) + random + listed(1, b"") + struct.pack(">HB", suite, 0)
    return message(2, start if extensions is None else start + listed(2, extensions))


def certificate(*entries: bytes) -> bytes:
    return message(11, listed(3, b"".join(listed(3, entry) for entry in entries)))


def versions_offered(*versions: int) -> bytes:
    return extension(43, listed(1, b"".join(struct.pack(">H", version) for version in versions)))


def version_chosen(version: int) -> bytes:
    return extension(43, struct.pack(">H", version))


# -- streams ------------------------------------------------------------------------------------------------------

CHANGE_CIPHER_SPEC = record(20, b"\x01")
FINISHED = record(22, b"\x93" * 40)
DATA = record(23, shake_256(b"ciphertext").digest(64))
KEY_SHARE = extension(51, listed(2, b"\x0a\x0a\0\x01\0" + struct.pack(">HH", 29, 32) + b"k" * 32))
SERVER_SHARE = extension(51, struct.pack(">HH", 29, 32) + b"k" * 32)

BASICS_STATION = head_of(STATION, LNS)
TLS13 = head_of(
    record(
        22, client_hello(server_name(b"lrc1.example") + versions_offered(0x0A0A, 0x0304, 0x0303) + KEY_SHARE), 0x0301
    )
    + CHANGE_CIPHER_SPEC
    + DATA,
    record(22, server_hello(SERVER_SHARE + version_chosen(0x0304), suite=0x1301)) + CHANGE_CIPHER_SPEC + DATA * 3,
)
RETRIED = head_of(
    record(22, client_hello(versions_offered(0x0304)), 0x0301)
    + CHANGE_CIPHER_SPEC
    + record(22, client_hello(versions_offered(0x0304) + KEY_SHARE))
    + DATA,
    record(22, server_hello(version_chosen(0x0304) + extension(51, b"\0\x1d"), suite=0x1302, random=HELLO_RETRY_RANDOM))
    + CHANGE_CIPHER_SPEC
    + record(22, server_hello(version_chosen(0x0304) + SERVER_SHARE, suite=0x1302))
    + DATA,
)
RESUMED = head_of(
    record(22, client_hello(extension(35, b"t" * 96))) + CHANGE_CIPHER_SPEC + FINISHED + DATA,
    record(22, server_hello()) + CHANGE_CIPHER_SPEC + FINISHED + DATA,
)
SSL2_HELLO = b"\x80\x1c\x01\x00\x02\x00\x03\x00\x00\x00\x10\x07\x00\xc0" + b"c" * 16
SSL2 = head_of(
    SSL2_HELLO + b"\x80\x13\x02\x07\x00\xc0\x00\x00\x00\x09\x00\x00" + b"k" * 9 + b"\x00\x10" + b"e" * 16,
    b"\x80\x21\x04\x00\x01\x00\x02\x00\x03\x00\x03\x00\x10"
    + b"der"
    + b"\x07\x00\xc0"
    + b"i" * 16
    + b"\x80\x11"
    + b"e" * 17,
)
STAPLED = head_of(
    record(22, client_hello(extension(35, b"t" * 96) + extension(5, b"\1\0\0\0\0")))
    + record(22, certificate(b"client's") + message(16, b"k" * 40))
    + CHANGE_CIPHER_SPEC
    + FINISHED
    + record(21, b"\x99" * 26),
    record(
        22,
        server_hello(extension(5, b""))
        + certificate(b"own", b"issuer's")
        + message(22, b"\1\0\0\x08response")
        + message(12, b"\3\0\x1d\x20" + b"p" * 32 + b"signature")
        + message(13, b"\1\1\0\0")
        + message(14, b""),
    )
    + record(22, message(4, b"t" * 90))
    + CHANGE_CIPHER_SPEC
    + FINISHED,
)

EXAMPLES: list[Head] = [BASICS_STATION, TLS13, RETRIED, RESUMED, SSL2, STAPLED]


# -- reading ------------------------------------------------------------------------------------------------------


def read_head(head: Head) -> Dissection:
    dissection = dissect_as(tls, head)
    assert Cause.DEFECT not in [error.anomaly.cause for error in dissection.parse_errors]
    return dissection


def facts_of(head: Head) -> TlsFacts:
    facts = read_head(head).facts
    assert isinstance(facts, TlsFacts)
    return facts


def messages_of(head: Head, direction: Direction | None = None) -> list[object]:
    items = read_head(head).items
    return [item.message for item in items if direction is None or item.direction == direction]


def causes(head: Head) -> list[tuple[Cause, str]]:
    return [(error.anomaly.cause, error.anomaly.field) for error in read_head(head).parse_errors]
