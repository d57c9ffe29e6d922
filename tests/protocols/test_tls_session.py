"""The facts of TLS conversations."""

from __future__ import annotations

import pytest

from analyzer.messages import to_json
from analyzer.protocols import tls
from analyzer.protocols.tls import EncryptedRecord
from analyzer.protocols.tls.registry import cipher_suite_name, group_name, version_name
from tests.protocols.tls_messages import (
    BASICS_STATION,
    CHANGE_CIPHER_SPEC,
    DATA,
    FINISHED,
    LNS,
    RESUMED,
    SSL2,
    STATION,
    TLS13,
    certificate,
    client_hello,
    client_only,
    extension,
    facts_of,
    head_of,
    listed,
    message,
    messages_of,
    read_head,
    record,
    server_hello,
    server_name,
    version_chosen,
    versions_offered,
)


def test_handshake_of_a_basics_station() -> None:
    assert tls.probe(BASICS_STATION)
    assert not read_head(BASICS_STATION).parse_errors
    assert to_json(facts_of(BASICS_STATION)) == {
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
    assert isinstance(messages_of(BASICS_STATION)[-1], EncryptedRecord)


@pytest.mark.parametrize(
    ("number", "name"),
    [(0x0300, "SSL 3.0"), (0x0301, "TLS 1.0"), (0x0302, "TLS 1.1"), (0x0303, "TLS 1.2"), (0x7F1C, "TLS 1.3 draft 28")],
)
def test_version_names(number: int, name: str) -> None:
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


def test_version_of_an_unreadable_server_hello_is_unknown() -> None:
    """The versions in record headers are no choice: TLS 1.3 writes that of TLS 1.0 there."""
    hello = record(22, b"\2\0\0\4\x03\x03\0\0")
    head = head_of(record(22, client_hello()), hello + record(23, bytes(40), 0x0301))
    assert facts_of(head).version is None
    assert facts_of(head_of(b"", record(23, bytes(40), 0x0301))).version == "TLS 1.0", "its handshake is not captured"
    client = record(22, client_hello()) + record(23, bytes(40), 0x0301)
    assert facts_of(head_of(client, hello)).version is None


def test_version_that_nobody_knows_keeps_its_number() -> None:
    assert facts_of(head_of(b"", record(22, server_hello(version_chosen(0xFB1A))))).version == "0xfb1a"


def test_ssl_2_shows_the_cipher_kind_that_the_client_chose() -> None:
    assert tls.probe(SSL2)
    facts = facts_of(SSL2)
    assert not read_head(SSL2).parse_errors
    assert (facts.version, facts.cipher_suite) == ("SSL 2.0", "SSL_CK_DES_192_EDE3_CBC_WITH_MD5")
    assert facts.certificates[0].problem is not None


def test_unknown_code_points_are_shown_as_numbers() -> None:
    head = head_of(b"", record(22, server_hello(None, suite=0xFAFB)) + record(21, b"\x02\xee"))
    facts = facts_of(head)
    assert (facts.cipher_suite, facts.alerts) == ("0xfafb", ("fatal 238 from server",))
    assert (version_name(0x0999), group_name(0x9999)) == ("0x0999", "0x9999")
    assert cipher_suite_name(0x1303) == "TLS_CHACHA20_POLY1305_SHA256"


def test_alpn_is_the_servers_choice_or_else_the_offer() -> None:
    offer = extension(16, listed(2, b"\x02h2\x08http/1.1"))
    client = record(22, client_hello(offer))
    assert facts_of(client_only(client)).alpn == ("h2", "http/1.1")
    assert facts_of(head_of(client, record(22, server_hello(extension(16, listed(2, b"\x02h2")))))).alpn == ("h2",)
    assert (facts_of(client_only(client)).ja4 or "")[8:10] == "h2"


def test_server_name_is_safe_to_print() -> None:
    assert facts_of(client_only(record(22, client_hello(server_name(b"a\x1b[31m\n"))))).server_name == "a\\x1b[31m\\n"


def test_key_exchange_shows_the_size_of_the_prime() -> None:
    parameters = listed(2, b"\x80" + b"p" * 63) + listed(2, b"\x02") + listed(2, b"y" * 64) + b"signature"
    server = record(22, server_hello(None, suite=0x0033) + message(12, parameters) + message(14, b""))
    assert facts_of(head_of(b"", server)).key_exchange == "DH 512"


# -- certificates -------------------------------------------------------------------------------------------------


def test_tls_13_hides_the_certificates() -> None:
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


def test_an_unreadable_certificate_is_a_fact() -> None:
    head = head_of(STATION[:306], record(22, server_hello(None)) + record(22, certificate(b"no certificate", b"")))
    first, second = facts_of(head).certificates
    assert first.problem and second.problem
    assert (first.subject, first.key) == (None, None)
    assert not read_head(head).parse_errors


def test_client_certificates_are_told_from_the_servers() -> None:
    client = STATION[:306] + record(22, certificate(b"client")) + record(22, message(16, b"k"))
    facts = facts_of(head_of(client, LNS))
    assert facts.client_certificate is True
    assert len(facts.certificates) == 1
    empty = STATION[:306] + record(22, certificate()) + record(22, message(16, b"k"))
    assert facts_of(head_of(empty, LNS)).client_certificate is False


def test_ocsp_stapling() -> None:
    server = record(22, server_hello(None) + certificate(b"x") + message(22, b"\x01\0\0\x01r") + message(14, b""))
    assert facts_of(head_of(b"", server)).ocsp_stapled is True
    assert facts_of(BASICS_STATION).ocsp_stapled is None


# -- resumption ---------------------------------------------------------------------------------------------------


def test_change_cipher_spec_after_the_server_hello_resumes_a_session() -> None:
    facts = facts_of(RESUMED)
    assert (facts.version, facts.resumed, facts.certificates) == ("TLS 1.2", True, ())


def test_a_selected_pre_shared_key_resumes_a_session() -> None:
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
def test_resumed_by(offered: bytes, repeated: bytes, ticket: bytes, by: str | None) -> None:
    def with_id(hello: bytes, session_id: bytes) -> bytes:
        return message(hello[0], hello[4:38] + listed(1, session_id) + hello[39:])

    client = record(22, with_id(client_hello(extension(35, ticket)), offered)) + CHANGE_CIPHER_SPEC
    server = record(22, with_id(server_hello(), repeated)) + CHANGE_CIPHER_SPEC + FINISHED
    for _ in range(2):  # what is remembered says the same
        assert facts_of(head_of(client, server)).resumed_by == by
    assert facts_of(head_of(client, server)).resumed is True


# -- alerts -------------------------------------------------------------------------------------------------------


def test_alerts_in_clear_name_their_sender() -> None:
    refused = head_of(STATION[:306] + record(21, b"\x02\x2d"), LNS[:74])
    assert facts_of(refused).alerts == ("fatal certificate_expired from client",)
    warned = head_of(STATION[:306], LNS[:74] + record(21, b"\x01\x00"))
    assert facts_of(warned).alerts == ("warning close_notify from server",)


def test_an_encrypted_alert_names_its_sender_only() -> None:
    head = head_of(STATION[:306] + record(21, b"\x02\x2d" * 12), b"")
    assert facts_of(head).alerts == ()
    assert facts_of(head).encrypted_alerts == ("client",)
    assert isinstance(messages_of(head)[-1], EncryptedRecord)
