from __future__ import annotations

import base64
import json
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.conversations import Conversation, dissect_flows
from analyzer.flows import read
from analyzer.heads import Direction, Frame, Head, Mark, Stream
from analyzer.messages import to_json
from analyzer.protocols import Dissection, dissect_as, tls
from analyzer.protocols.tls import (
    Alert,
    ApplicationData,
    CertificateEntry,
    ClientHello,
    EncryptedRecord,
    Extensions,
    Handshake,
    ServerHello,
    TlsFacts,
    registry,
)
from analyzer.protocols.tls.handshake import HELLO_RETRY_RANDOM
from analyzer.protocols.tls.registry import cipher_suite_name, group_name, version_name
from analyzer.wire import Cause
from tests.tools import tls_cipher_suites

CORPUS = os.environ.get("TPE_PCAP_CORPUS")

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


def head_of(client: bytes, server: bytes, *, begins: bool = True, ends: bool = False, cut: int = 1 << 30) -> Head:
    """A conversation of two byte streams; the client's frames are odd, the server's even, ``cut`` bytes each."""
    streams = []
    for direction, data in zip(Direction, (client, server), strict=True):
        offsets = range(0, len(data), cut)
        marks = tuple(Mark(at, Frame(0, 1 + direction + 2 * n), NOVEMBER_2026 + n) for n, at in enumerate(offsets))
        streams.append(Stream(data, marks, begins, ends))
    return Head("tcp", (40000, 3001), (streams[0], streams[1]))


def record(content_type: int, content: bytes, version: int = 0x0303) -> bytes:
    return struct.pack(">BHH", content_type, version, len(content)) + content


def message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def listed(size: int, content: bytes) -> bytes:
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
    return message(11, listed(3, b"".join(listed(3, each) for each in entries)))


def versions_offered(*versions: int) -> bytes:
    return extension(43, listed(1, b"".join(struct.pack(">H", each) for each in versions)))


def version_chosen(version: int) -> bytes:
    return extension(43, struct.pack(">H", version))


CHANGE_CIPHER_SPEC = record(20, b"\x01")
FINISHED = record(22, b"\x93" * 40)
DATA = record(23, b"\x55" * 64)
KEY_SHARE = extension(51, listed(2, b"\x0a\x0a\0\x01\0" + struct.pack(">HH", 29, 32) + b"k" * 32))
SERVER_SHARE = extension(51, struct.pack(">HH", 29, 32) + b"k" * 32)

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
WHOLE = head_of(STATION, LNS)

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

EXAMPLES: list[Head] = [WHOLE, TLS13, RETRIED, RESUMED, SSL2, STAPLED]


def read_head(head: Head) -> Dissection:
    dissection = dissect_as(tls, head)
    assert not [each for each in dissection.parse_errors if each.anomaly.cause is Cause.DEFECT]
    return dissection


def facts_of(head: Head) -> TlsFacts:
    facts = read_head(head).facts
    assert isinstance(facts, TlsFacts)
    return facts


def said(head: Head, direction: Direction | None = None) -> list[object]:
    items = read_head(head).items
    return [item.message for item in items if direction is None or item.direction == direction]


def causes(head: Head) -> list[tuple[Cause, str]]:
    return [(each.anomaly.cause, each.anomaly.field) for each in read_head(head).parse_errors]


def clients(data: bytes) -> Head:
    return head_of(data, b"")


# -- what an auditor asks ---------------------------------------------------------------------------------


def test_a_real_base_station_is_read_to_where_encryption_begins() -> None:
    assert tls.probe(WHOLE)
    assert not read_head(WHOLE).parse_errors
    assert to_json(facts_of(WHOLE)) == {
        "offered_version": "TLS 1.2",
        "version": "TLS 1.2",
        "cipher_suite": "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "server_name": "lns.lab.example",
        "certificates": [
            {
                "subject": "O=Lab Core,CN=tpe.lab.example",
                "issuer": "CN=Lab Core Root CA,O=Lab Core",
                "not_before": "2026-11-02T00:00:00Z",
                "not_after": "2028-10-22T00:00:00Z",
                "key": "RSA 2048",
                "signature": "ecdsa-with-SHA256",
            }
        ],
        "client_certificate": False,
        "client_certificate_requested": False,
        "resumed": False,
        "key_exchange": "x25519",
        "ja3": "14a4b22e64580299d355a3a5449ef7be",
        "ja4": "t12d800700_ee0b5a6c69b8_cdbdbcd6f742",
        "client_hint": "Basics Station 2.0.6 with mbedTLS 2.28.0",
    }
    assert isinstance(said(WHOLE)[-1], EncryptedRecord)


def test_tls_13_hides_certificates_and_says_so() -> None:
    facts = facts_of(TLS13)
    assert (facts.offered_version, facts.version, facts.cipher_suite) == (
        "TLS 1.3",
        "TLS 1.3",
        "TLS_AES_128_GCM_SHA256",
    )
    assert (facts.certificates_hidden, facts.resumed, facts.certificates) == (True, False, ())
    assert facts.client_certificate is None
    assert facts.key_exchange == "x25519"
    assert facts.ja4 is not None and facts.ja4.startswith("t13d0203")


def test_both_hellos_after_a_hello_retry_request_are_read() -> None:
    hellos = [each for each in said(RETRIED) if isinstance(each, (ClientHello, ServerHello))]
    assert len(hellos) == 4
    assert facts_of(RETRIED).hello_retry is True and facts_of(TLS13).hello_retry is None
    assert not read_head(RETRIED).parse_errors
    assert facts_of(RETRIED).version == "TLS 1.3"
    assert isinstance(said(RETRIED)[-1], ApplicationData)


def test_a_selected_pre_shared_key_is_a_resumption() -> None:
    hello = server_hello(version_chosen(0x0304) + extension(41, b"\0\0"), suite=0x1301)
    facts = facts_of(head_of(record(22, client_hello(versions_offered(0x0304))), record(22, hello) + DATA))
    assert (facts.resumed, facts.resumed_by) == (True, "pre-shared key")
    assert facts.certificates_hidden is None


@pytest.mark.parametrize(
    ("offered", "repeated", "ticket", "by"),
    [
        (b"i" * 32, b"i" * 32, b"", "session id"),
        (b"i" * 32, b"n" * 32, b"", None),
        (b"", b"", b"t" * 96, "session ticket"),
    ],
)
def test_what_a_session_is_resumed_by(offered: bytes, repeated: bytes, ticket: bytes, by: str | None) -> None:
    def with_id(hello: bytes, session_id: bytes) -> bytes:
        return message(hello[0], hello[4:38] + listed(1, session_id) + hello[39:])

    client = record(22, with_id(client_hello(extension(35, ticket)), offered)) + CHANGE_CIPHER_SPEC
    server = record(22, with_id(server_hello(), repeated)) + CHANGE_CIPHER_SPEC + FINISHED
    for _ in range(2):  # what is remembered says the same
        assert facts_of(head_of(client, server)).resumed_by == by
    assert facts_of(head_of(client, server)).resumed is True


def test_the_status_of_a_certificate_sent_along() -> None:
    server = record(22, server_hello(None) + certificate(b"x") + message(22, b"\x01\0\0\x01r") + message(14, b""))
    assert facts_of(head_of(b"", server)).ocsp_stapled is True
    assert facts_of(WHOLE).ocsp_stapled is None


def test_a_server_that_encrypts_right_after_its_hello_resumes() -> None:
    facts = facts_of(RESUMED)
    assert (facts.version, facts.resumed, facts.certificates) == ("TLS 1.2", True, ())


@pytest.mark.parametrize(
    ("number", "name"),
    [(0x0300, "SSL 3.0"), (0x0301, "TLS 1.0"), (0x0302, "TLS 1.1"), (0x0303, "TLS 1.2"), (0x7F1C, "TLS 1.3 draft 28")],
)
def test_versions_have_names(number: int, name: str) -> None:
    facts = facts_of(
        head_of(
            b"",
            record(
                22,
                server_hello(version=min(number, 0x0303)) if number < 0x7F00 else server_hello(version_chosen(number)),
                0x0301,
            ),
        )
    )
    assert facts.version == name


def test_ssl_2_is_named_with_the_cipher_that_the_client_chose() -> None:
    assert tls.probe(SSL2)
    facts = facts_of(SSL2)
    assert not read_head(SSL2).parse_errors
    assert (facts.version, facts.cipher_suite) == ("SSL 2.0", "SSL_CK_DES_192_EDE3_CBC_WITH_MD5")
    assert facts.certificates[0].problem is not None


def test_a_hello_in_the_format_of_ssl_2_may_offer_and_get_more() -> None:
    hello = b"\x80\x1c\x01\x03\x01\x00\x03\x00\x00\x00\x10\x00\x00\x2f" + b"c" * 16
    key = record(22, message(16, b"k" * 20), 0x0301)
    head = head_of(hello + key + CHANGE_CIPHER_SPEC, record(22, server_hello(None, 0x0301, 0x2F), 0x0301))
    assert tls.probe(head)
    facts = facts_of(head)
    assert (facts.offered_version, facts.version) == ("TLS 1.0", "TLS 1.0")
    assert facts.cipher_suite == "TLS_RSA_WITH_AES_128_CBC_SHA"
    assert Handshake(16, 20) in said(head)


def test_alerts_in_clear_name_their_sender() -> None:
    refused = head_of(STATION[:306] + record(21, b"\x02\x2d"), LNS[:74])
    assert facts_of(refused).alerts == ("fatal certificate_expired from client",)
    warned = head_of(STATION[:306], LNS[:74] + record(21, b"\x01\x00"))
    assert facts_of(warned).alerts == ("warning close_notify from server",)


def test_an_encrypted_alert_is_not_read_as_one() -> None:
    head = head_of(STATION[:306] + record(21, b"\x02\x2d" * 12), b"")
    assert facts_of(head).alerts == ()
    assert facts_of(head).encrypted_alerts == ("client",)
    assert isinstance(said(head)[-1], EncryptedRecord)


def test_what_follows_the_change_to_encryption_is_told_up_to_application_data() -> None:
    client = said(RESUMED, Direction.ORIGINATOR)[-3:]
    assert [type(each).__name__ for each in client] == ["ChangeCipherSpec", "EncryptedRecord", "ApplicationData"]
    cut = RESUMED.streams[0].data[: -len(DATA) - 5]
    assert causes(clients(cut)) == []


# Vectors that the inventors published: github.com/salesforce/ja3, README; github.com/FoxIO-LLC/ja4, technical details.
@pytest.mark.parametrize(
    ("version", "suites", "extensions", "groups", "formats", "digest"),
    [
        (
            769,
            (47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4),
            (0, 10, 11),
            (23, 24, 25),
            (0,),
            "ada70206e40642a3e4461f35503241d5",
        ),
        (769, (4, 5, 10, 9, 100, 98, 3, 6, 19, 18, 99), (), (), (), "de350869b8c85de67a350c8d186f11e6"),
    ],
)
def test_ja3_as_published(
    version: int,
    suites: tuple[int, ...],
    extensions: tuple[int, ...],
    groups: tuple[int, ...],
    formats: tuple[int, ...],
    digest: str,
) -> None:
    bodies = {
        0: listed(2, b"\0" + listed(2, b"a.example")),
        10: listed(2, b"".join(struct.pack(">H", each) for each in groups)),
        11: listed(1, bytes(formats)),
    }
    hello = client_hello(
        b"".join(extension(kind, bodies[kind]) for kind in extensions),
        version,
        b"".join(struct.pack(">H", each) for each in suites),
    )
    assert facts_of(clients(record(22, hello, 0x0301))).ja3 == digest


def test_ja4_as_published() -> None:
    numbers = "1301 1302 1303 c02b c02f c02c c030 cca9 cca8 c013 c014 009c 009d 002f 0035"
    algorithms = bytes.fromhex("04030804040105030805050108060601")
    kinds = (0x1B, 0, 0x33, 0x10, 0x4469, 0x17, 0x2D, 0x0D, 5, 0x23, 0x12, 0x2B, 0xFF01, 0x0B, 0x0A, 0x15)
    bodies = {
        0: listed(2, b"\0" + listed(2, b"a.example")),
        5: b"\1\0\0\0\0",
        10: listed(2, b"\0\x1d"),
        11: listed(1, b"\0"),
        0x0D: listed(2, algorithms),
        0x10: listed(2, listed(1, b"h2") + listed(1, b"http/1.1")),
        0x2B: listed(1, bytes.fromhex("2a2a03040303")),
        0x33: listed(2, b"\0\x1d" + listed(2, b"k" * 32)),
    }
    grease = extension(0x5A5A, b"")
    hello = client_hello(
        grease + b"".join(extension(kind, bodies.get(kind, b"")) for kind in kinds) + extension(0x6A6A, b"\0"),
        suites=bytes.fromhex("3a3a" + numbers.replace(" ", "")),
    )
    assert facts_of(clients(record(22, hello, 0x0301))).ja4 == "t13d1516h2_8daaf6152771_e5627efa2ab1"


def test_an_unknown_code_point_stays_a_number() -> None:
    head = head_of(b"", record(22, server_hello(None, suite=0xFAFB)) + record(21, b"\x02\xee"))
    facts = facts_of(head)
    assert (facts.cipher_suite, facts.alerts) == ("0xfafb", ("fatal 238 from server",))
    assert (version_name(0x0999), group_name(0x9999)) == ("0x0999", "0x9999")
    assert cipher_suite_name(0x1303) == "TLS_CHACHA20_POLY1305_SHA256"


def test_alpn_is_the_servers_choice_once_it_chose() -> None:
    offer = extension(16, listed(2, b"\x02h2\x08http/1.1"))
    client = record(22, client_hello(offer))
    assert facts_of(clients(client)).alpn == ("h2", "http/1.1")
    assert facts_of(head_of(client, record(22, server_hello(extension(16, listed(2, b"\x02h2")))))).alpn == ("h2",)
    assert (facts_of(clients(client)).ja4 or "")[8:10] == "h2"


def test_a_hostile_server_name_cannot_write_on_the_terminal() -> None:
    assert facts_of(clients(record(22, client_hello(server_name(b"a\x1b[31m\n"))))).server_name == "a\\x1b[31m\\n"


def test_a_certificate_that_is_none_becomes_a_fact() -> None:
    head = head_of(STATION[:306], record(22, server_hello(None)) + record(22, certificate(b"no certificate", b"")))
    first, second = facts_of(head).certificates
    assert first.problem and second.problem
    assert (first.subject, first.key) == (None, None)
    assert not read_head(head).parse_errors


def test_a_client_certificate_is_told_from_the_servers() -> None:
    client = STATION[:306] + record(22, certificate(b"client")) + record(22, message(16, b"k"))
    facts = facts_of(head_of(client, LNS))
    assert facts.client_certificate is True
    assert len(facts.certificates) == 1
    empty = STATION[:306] + record(22, certificate()) + record(22, message(16, b"k"))
    assert facts_of(head_of(empty, LNS)).client_certificate is False


def test_the_size_of_a_diffie_hellman_prime_is_seen() -> None:
    parameters = listed(2, b"\x80" + b"p" * 63) + listed(2, b"\x02") + listed(2, b"y" * 64) + b"signature"
    server = record(22, server_hello(None, suite=0x0033) + message(12, parameters) + message(14, b""))
    assert facts_of(head_of(b"", server)).key_exchange == "DH 512"


def test_extensions_are_told_in_their_order() -> None:
    (offer,) = [each for each in said(WHOLE, Direction.ORIGINATOR) if isinstance(each, Extensions)]
    assert offer.types == (0, 13, 10, 11, 22, 23, 35)


def test_a_heartbeat_before_encryption_does_not_end_the_reading() -> None:
    head = clients(record(22, client_hello()) + record(24, b"\x01\x40\x00") + record(21, b"\x02\x28"))
    assert Alert(2, 40) in said(head)


# -- records and messages do not keep step ----------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5, 50, 300, 400])
def test_a_flight_split_over_records_says_the_same(size: int) -> None:
    flight = LNS[5:74] + LNS[79 : 79 + 761]
    whole = head_of(STATION, record(22, flight) + DATA)
    pieces = b"".join(record(22, flight[at : at + size]) for at in range(0, len(flight), size))
    split = head_of(STATION, pieces + DATA)
    assert said(split, Direction.RESPONDER) == said(whole, Direction.RESPONDER)
    assert len(said(split, Direction.RESPONDER)) == 5
    assert facts_of(split) == facts_of(whole)


def test_evidence_is_the_frame_where_the_message_begins() -> None:
    items = read_head(head_of(STATION, LNS, cut=74)).items
    (entry,) = [item for item in items if isinstance(item.message, CertificateEntry)]
    (hello,) = [item for item in items if isinstance(item.message, ServerHello)]
    assert (hello.frame.number, entry.frame.number) == (2, 4)
    assert entry.offset == 74


def test_another_record_within_a_handshake_message_is_malformed() -> None:
    head = clients(record(22, client_hello()[:20]) + record(21, b"\x01\x00"))
    assert causes(head) == [(Cause.MALFORMED, "handshake message")]


def test_what_a_cut_capture_still_shows_is_kept() -> None:
    parts = [LNS[74:600], LNS[600:]]
    cut = head_of(STATION, LNS[:74] + parts[0][: len(parts[0]) - 1])
    assert facts_of(cut).version == "TLS 1.2"
    assert causes(cut) == [(Cause.TRUNCATED, "certificate")]
    hello = record(22, server_hello(SERVER_SHARE + version_chosen(0x0304), suite=0xC02F))
    facts = facts_of(head_of(b"", hello[:-8]))
    assert facts.cipher_suite is not None
    assert facts.version is None  # an extension that was cut off may have chosen TLS 1.3


# -- streams without their beginning, and other protocols ---------------------------------------------------


def test_application_data_of_a_stream_without_beginning_is_tls() -> None:
    head = head_of(DATA * 2, b"", begins=False)
    assert tls.probe(head)
    assert to_json(facts_of(head)) == {}
    old = head_of(b"", record(23, b"x" * 30, 0x0301), begins=False)
    assert tls.probe(old)
    assert facts_of(old).version == "TLS 1.0"


@pytest.mark.parametrize(
    ("client", "server"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", record(21, b"\x02\x0a")),
        (b"SSH-2.0-OpenSSH_9.2\r\n", b""),
        (b"\x68\x04\x43\x00\x00\x00", b""),
        (b"\x16\x03", b""),
        (record(22, b"\x77" + b"x" * 40), b""),
        (record(23, b"x" * 20) + b"no record follows", b""),
        (b"\x80\x1d" + SSL2_HELLO[2:], b""),
        (b"\x16\x03\x01\xff\xff\x01\x00", b""),
        (b"", b""),
    ],
)
def test_other_content_is_not_tls(client: bytes, server: bytes) -> None:
    assert not tls.probe(head_of(client, server))


def test_tls_that_is_answered_by_something_else_is_still_tls() -> None:
    head = head_of(STATION[:306], b"HTTP/1.1 400 Bad Request\r\n")
    assert tls.probe(head)
    assert causes(head) == [(Cause.MALFORMED, "content type")]


# -- lengths that lie ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [-1, 1])
@pytest.mark.parametrize(
    ("follows", "back", "size"),
    [
        (b"example.local", 5, 2),  # server_name_list
        (b"example.local", 2, 2),  # server_name
        (b"\x03\x04\x03\x03\x03\x02", 1, 1),  # versions
        (b"\x0a\x0a\0\x01", 2, 2),  # client_shares
        (b"\x02h2", 2, 2),  # protocol_name_list
    ],
)
def test_a_length_that_is_off_by_one_is_malformed(follows: bytes, back: int, size: int, delta: int) -> None:
    alpn = extension(16, listed(2, b"\x02h2"))
    hello = client_hello(server_name(b"example.local") + versions_offered(0x0304, 0x0303, 0x0302) + KEY_SHARE + alpn)
    at = hello.index(follows) - back
    length = int.from_bytes(hello[at : at + size], "big") + delta
    wrong = hello[:at] + length.to_bytes(size, "big") + hello[at + size :]
    found = causes(clients(record(22, wrong) + DATA))
    assert [cause for cause, _ in found] == [Cause.MALFORMED]


@pytest.mark.parametrize(
    "data",
    [
        record(22, client_hello() + b"\x01"),
        record(22, message(1, client_hello()[4:] + b"!")),
        record(22, client_hello())[:3] + b"\x48\x01" + b"x" * 20000,
        record(20, b"\x01\x01"),
        record(20, b"\x02"),
        record(22, b""),
        record(22, client_hello(suites=b"\x13\x01\xc0")),
        record(22, client_hello()) + b"\x19\x03\x03\x00\x01x",
        record(22, client_hello()) + b"\x16\x04\x03\x00\x01x",
    ],
)
def test_a_sender_that_contradicts_itself_is_malformed(data: bytes) -> None:
    assert Cause.MALFORMED in [cause for cause, _ in causes(head_of(data + DATA, b"", ends=True))]


@given(st.binary(max_size=200), st.binary(max_size=200), st.booleans(), st.booleans())
def test_any_bytes_are_survived(client: bytes, server: bytes, begins: bool, ends: bool) -> None:
    head = head_of(client, server, begins=begins, ends=ends)
    tls.probe(head)
    read_head(head)


@settings(max_examples=200)
@given(st.sampled_from(EXAMPLES), st.sampled_from(list(Direction)), st.data())
def test_a_changed_byte_is_survived(head: Head, direction: Direction, data: st.DataObject) -> None:
    whole = head.streams[direction].data
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    read_head(head_of(changed, b""))
    read_head(head_of(b"", changed, ends=True))


@pytest.mark.parametrize("head", EXAMPLES)
def test_a_prefix_says_a_prefix(head: Head) -> None:
    for direction in Direction:
        whole = said(head, direction)
        data = head.streams[direction].data
        for size in range(1, len(data), 1 if len(data) < 400 else 7):
            cut = head_of(data[:size], b"") if direction is Direction.ORIGINATOR else head_of(b"", data[:size])
            found = said(cut)
            assert found == whole[: len(found)]
            assert {cause for cause, _ in causes(cut)} <= {Cause.TRUNCATED}


def test_hostile_fragments_do_not_take_long() -> None:
    fragments = b"".join(record(22, b"\x00") for _ in range(20_000))
    nested = record(22, client_hello(extension(0xFFFF, b"") * 3900))
    began = time.perf_counter()
    read_head(clients(fragments))
    read_head(clients(nested * 6))
    read_head(clients(record(20, b"\x01") + record(22, b"\x01\xff\xff\xff" + b"x" * 16000) * 6))
    assert time.perf_counter() - began < 3


@pytest.mark.tshark
def test_the_table_of_cipher_suites_is_what_its_script_makes_of_tshark() -> None:
    """A newer tshark may know more; what both know, they know by the same name."""
    ours, theirs = registry.cipher_suites(), tls_cipher_suites.suites()
    assert {value: ours[value] for value in ours.keys() & theirs.keys()} == {
        value: theirs[value] for value in ours.keys() & theirs.keys()
    }
    assert len(ours.keys() & theirs.keys()) > 350


# -- real captures --------------------------------------------------------------------------------------------

VERSIONS = {
    "SSLv2": "SSL 2.0",
    "SSLv3": "SSL 3.0",
    "TLSv1.0": "TLS 1.0",
    "TLSv1.1": "TLS 1.1",
    "TLSv1.2": "TLS 1.2",
    "TLSv1.3": "TLS 1.3",
}
BEGINS_OTHERWISE = {
    "zeek_ftp-auth-tls.pcap": "begins as FTP",
    "zeek_tls-12-amazon-rds.pcap": "begins as MySQL",
}


def truth() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    if CORPUS:
        for line in (Path(CORPUS) / "truth.jsonl").read_text().splitlines():
            entry = json.loads(line)
            streams = [each for each in entry.get("tls") or () if each["kind"] == "tls" and each["handshake_seen"]]
            if streams and entry["name"] not in BEGINS_OTHERWISE:
                yield entry["name"], streams


def version_of(shown: str | None) -> str | None:
    if shown is None:
        return None
    return f"TLS 1.3 draft {shown.split('-draft')[1]}" if "-draft" in shown else VERSIONS[shown]


def port(endpoint: str) -> int:
    return int(endpoint.rsplit(":", 1)[1])


@pytest.mark.skipif(not CORPUS, reason="TPE_PCAP_CORPUS names no folder of captures")
@pytest.mark.parametrize(("name", "streams"), list(truth()))
def test_real_handshakes_agree_with_tshark(name: str, streams: list[dict[str, Any]]) -> None:
    assert CORPUS
    found: dict[tuple[int | None, int | None], list[Conversation]] = {}
    for conversation in dissect_flows(read([str(Path(CORPUS) / name)])).expand():
        if conversation.protocol == tls.NAME:
            found.setdefault((conversation.originator.port, conversation.responder.port), []).append(conversation)
    for stream in streams:
        conversation = found[port(stream["client"]), port(stream["server"])].pop(0)
        facts = conversation.dissection.facts
        assert isinstance(facts, TlsFacts)
        assert facts.offered_version == version_of(stream["offered_max_version"])
        assert facts.version == version_of(stream.get("negotiated_version"))
        assert facts.server_name == stream["sni"]
        if facts.version != "SSL 2.0":  # whose cipher kinds tshark does not name
            assert facts.cipher_suite == stream.get("cipher_suite_name")
        if "alpn" in stream:
            assert facts.alpn == (stream["alpn"],)
        shown = [f"{each['level']} {each['name'].lower().replace(' ', '_')}" for each in stream.get("alerts", ())]
        assert [each.rsplit(" from ")[0] for each in facts.alerts] == shown
        assert bool(facts.client_certificate) == bool(stream.get("client_cert"))
        expected = stream.get("server_cert")
        assert bool(facts.certificates) == bool(expected)
        if expected and "not_before" in expected:
            own = facts.certificates[0]
            assert len(facts.certificates) == expected["chain_length"]
            assert own.not_before == expected["not_before"].replace(" ", "T")
            assert own.not_after == expected["not_after"].replace(" ", "T")
            assert own.signature == expected["signature_algorithm"]
            assert own._key_bits == expected["key_bits"]
