from __future__ import annotations

import datetime
import ipaddress
from dataclasses import replace
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.checks import tls as checks
from analyzer.conversations import Conversation, Endpoint, State
from analyzer.expected import ExpectedFlow, load
from analyzer.findings import Issue, Kind, Severity
from analyzer.heads import Direction, Frame, Head, Mark, Stream
from analyzer.matching import Match
from analyzer.protocols import dissect_as, tls
from tests.checks.matches import base_station
from tests.protocols.test_tls import (
    CHANGE_CIPHER_SPEC,
    DATA,
    FINISHED,
    LNS,
    NOVEMBER_2026,
    RESUMED,
    RETRIED,
    SSL2,
    STATION,
    TLS13,
    certificate,
    client_hello,
    extension,
    head_of,
    listed,
    message,
    record,
    server_hello,
    server_name,
)

KeyPair = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
TODAY = datetime.datetime.fromtimestamp(NOVEMBER_2026 / 1e9, datetime.UTC)
DAY = datetime.timedelta(days=1)

I38 = load()["tls"].flow("i38")
I43 = load()["basics"].flow("i43")


@cache
def key(bits: int = 0) -> KeyPair:
    """An RSA key, or an elliptic curve's without a size."""
    return rsa.generate_private_key(65537, bits) if bits else ec.generate_private_key(ec.SECP256R1())


@cache
def authority(name: str) -> ec.EllipticCurvePrivateKey:
    """The key with which whoever has this name signs."""
    return ec.generate_private_key(ec.SECP256R1())


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


@cache
def issued(
    subject: str = "tpe.example",
    issuer: str = "Root",
    names: tuple[str, ...] = ("tpe.example", "*.lab.example", "192.0.2.10", "2001:db8::10"),
    begins: int = -10,
    ends: int = 10,
    bits: int = 0,
    own: bool = False,
) -> bytes:
    """A DER certificate; days relative to the capture's."""
    pair = authority(subject) if own else key(bits)
    builder = x509.CertificateBuilder(
        named(issuer), named(subject), pair.public_key(), 7, TODAY + begins * DAY, TODAY + ends * DAY
    )
    if names:
        alternatives: list[x509.GeneralName] = []
        for name in names:
            try:
                alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                alternatives.append(x509.DNSName(name))
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), False)
    return builder.sign(authority(issuer), hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def signed_with_sha1(der: bytes) -> bytes:
    """The same certificate claiming ecdsa-with-SHA1, which today's libraries refuse to make."""
    sha256, sha1 = bytes.fromhex("300a06082a8648ce3d040302"), bytes.fromhex("300906072a8648ce3d0401")
    signed, rest = split(split(der)[0])
    return wrapped(wrapped(signed.replace(sha256, sha1)) + rest.replace(sha256, sha1))


def split(der: bytes) -> tuple[bytes, bytes]:
    """Content of the first DER value, and what follows it."""
    more = der[1] & 0x7F if der[1] & 0x80 else 0
    size = int.from_bytes(der[2 : 2 + more], "big") if more else der[1]
    return der[2 + more : 2 + more + size], der[2 + more + size :]


def wrapped(content: bytes) -> bytes:
    """A DER SEQUENCE of 128 bytes or more."""
    size = len(content).to_bytes(2, "big").lstrip(b"\0")
    return bytes([0x30, 0x80 | len(size)]) + size + content


def handshake(
    *chain: bytes, suite: int = 0xC02F, version: int = 0x0303, sni: bytes | None = None, answer: bytes | None = None
) -> Head:
    """A full handshake before TLS 1.3; ``answer``: what the client does after the server's flight."""
    extensions = server_name(sni) if sni is not None else b""
    client = record(22, client_hello(extensions, version), 0x0301)
    client += record(22, message(16, b"k" * 32), version) + CHANGE_CIPHER_SPEC + FINISHED if answer is None else answer
    server = server_hello(None, version, suite) + certificate(*(chain or (issued(),))) + message(14, b"")
    return head_of(client, record(22, server, version) + (CHANGE_CIPHER_SPEC + FINISHED if answer is None else b""))


def fit(head: Head, row: ExpectedFlow = I38) -> Match:
    conversation = Conversation(
        id=1,
        transport="tcp",
        originator=Endpoint("192.0.2.1", 40000),
        responder=Endpoint("192.0.2.10", row.ports[0]),
        originator_certain=True,
        state=State.ESTABLISHED,
        packets=(5, 5),
        bytes=(500, 500),
        payload=(400, 400),
        first=NOVEMBER_2026,
        last=NOVEMBER_2026,
        first_frame=Frame(0, 1),
        last_frame=Frame(0, 9),
        macs=(None, None),
        head=head,
        dissection=dissect_as(tls, head),
    )
    return Match(base_station("192.0.2.1"), conversation, (row,))


def judged(head: Head, row: ExpectedFlow = I38) -> dict[str, list[Issue]]:
    """Remarks by the slug of their check."""
    remarks = {check.slug: list(check.run(fit(head, row))) for check in checks.CHECKS}
    return {slug: found for slug, found in remarks.items() if found}


def only(head: Head, slug: str, row: ExpectedFlow = I38) -> Issue:
    """The one remark of a check, which is the only one that speaks."""
    found = judged(head, row)
    assert list(found) == [slug]
    (remark,) = found[slug]
    assert remark.sentence[0].isupper() and remark.sentence.endswith(".")
    assert remark.frames
    return remark


@pytest.mark.parametrize(
    "head", [head_of(STATION, LNS), handshake(), handshake(sni=b"tpe.example"), handshake(sni=b"192.0.2.10")]
)
def test_a_sound_handshake_is_left_alone(head: Head) -> None:
    assert judged(head) == {}
    assert judged(head, I43) == {}


@pytest.mark.parametrize(("version", "severity"), [(0x0300, Severity.HIGH), (0x0301, Severity.MEDIUM)])
def test_an_obsolete_version(version: int, severity: Severity) -> None:
    assert only(handshake(version=version), "tls-obsolete-version").severity is severity


def test_the_version_of_a_conversation_whose_beginning_is_not_seen() -> None:
    found = judged(head_of(record(23, b"x" * 40, 0x0302), b"", begins=False))
    assert list(found) == ["tls-obsolete-version", "tls-handshake-not-seen"]
    assert "TLS 1.1" in found["tls-obsolete-version"][0].sentence
    assert list(judged(head_of(DATA, DATA, begins=False))) == ["tls-handshake-not-seen"]


def test_ssl_2() -> None:
    found = judged(SSL2)
    assert "SSL 2.0" in found["tls-obsolete-version"][0].sentence
    assert "3DES" in found["tls-small-block-cipher-suite"][0].sentence


def test_a_row_may_ask_for_more_than_is_spoken() -> None:
    strict = replace(I38, tls_floor="TLS 1.3")
    assert "TLS 1.3" in only(handshake(), "tls-version-below-row", strict).sentence
    assert "tls-version-below-row" not in judged(TLS13, strict)


def test_tls_13_is_fine_and_hides_the_certificates() -> None:
    for head in (TLS13, RETRIED):
        assert list(judged(head)) == ["tls-certificates-hidden"]
        assert list(judged(head, I43)) == ["tls-version-above-row", "tls-certificates-hidden"]
    assert "hidden" in judged(TLS13)["tls-certificates-hidden"][0].sentence


def test_a_resumed_session_shows_no_certificate() -> None:
    only(RESUMED, "tls-session-resumed")


@pytest.mark.parametrize(
    ("alert", "word"), [(45, "expired"), (48, "not trusted"), (40, "handshake_failure"), (116, "certificate_required")]
)
def test_a_refusal_says_who_and_why(alert: int, word: str) -> None:
    remark = only(handshake(answer=record(21, bytes([2, alert]))), "tls-handshake-refused")
    assert word in remark.sentence
    assert remark.sentence.startswith("The client")


@pytest.mark.parametrize("alert", [b"\x01\x00", b"\x02\x00", b"\x01\x70"])
def test_an_orderly_close_or_a_warning_is_no_refusal(alert: bytes) -> None:
    assert "tls-handshake-refused" not in judged(handshake(answer=record(21, alert)))


def test_a_handshake_that_both_sides_left() -> None:
    left = handshake(answer=b"")
    assert judged(left) == {}  # the capture may have ended
    client, server = (stream._replace(ends=True) for stream in left.streams)
    closed = left._replace(streams=(client, server))
    assert only(closed, "tls-handshake-abandoned").severity is Severity.LOW
    hello = record(22, client_hello())
    marks = (Mark(0, Frame(0, 1), NOVEMBER_2026),)
    unanswered = Head("tcp", (1, 2), (Stream(hello, marks, True, True), Stream(b"", (), True, True)))
    assert only(unanswered, "tls-handshake-abandoned").severity is Severity.MEDIUM


@pytest.mark.parametrize(
    ("suite", "word"),
    [
        (0x0002, "does not encrypt"),
        (0xC0B4, "does not encrypt"),
        (0x0003, "export"),
        (0xC018, "authenticate"),
        (0x0005, "RC4"),
        (0x0009, "DES"),
        (0xFEFE, "DES"),
    ],
)
def test_a_broken_cipher_suite(suite: int, word: str) -> None:
    found = judged(handshake(suite=suite))
    assert list(found) == ["tls-broken-cipher-suite"]
    assert word in found["tls-broken-cipher-suite"][0].sentence


def test_3des_is_less_bad() -> None:
    assert "3DES" in only(handshake(suite=0xC012), "tls-small-block-cipher-suite").sentence
    assert checks.small_block_cipher_suite.severity is Severity.MEDIUM


@pytest.mark.parametrize("suite", [0x1301, 0x009E, 0xCCA8, 0xC0AC, 0x003D, 0xEEEE])
def test_a_cipher_suite_that_is_not_broken(suite: int) -> None:
    assert "tls-broken-cipher-suite" not in judged(handshake(suite=suite))
    assert "tls-small-block-cipher-suite" not in judged(handshake(suite=suite))


@pytest.mark.parametrize(("size", "severity"), [(64, Severity.MEDIUM), (128, Severity.LOW), (256, None)])
def test_a_small_diffie_hellman_group(size: int, severity: Severity | None) -> None:
    prime = listed(2, b"\xff" * size) + listed(2, b"\x02") + listed(2, b"y" * size) + b"signature"
    server = server_hello(None, suite=0x009E) + certificate(issued()) + message(12, prime) + message(14, b"")
    found = judged(head_of(record(22, client_hello()), record(22, server)))
    assert [remark.severity for remark in found.get("tls-small-dh-group", [])] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("begins", "ends", "slug"), [(-10, -1, "tls-certificate-expired"), (1, 10, "tls-certificate-not-yet-valid")]
)
def test_a_certificate_out_of_its_time(begins: int, ends: int, slug: str) -> None:
    stale = issued(begins=begins, ends=ends)
    careless = only(handshake(stale), slug)
    assert careless.severity is Severity.HIGH
    assert "went on all the same" in careless.sentence
    refused = judged(handshake(stale, answer=record(21, b"\x02\x2d")))
    assert list(refused) == ["tls-handshake-refused", slug]
    assert refused[slug][0].severity is Severity.MEDIUM


def test_an_expired_issuer_is_another_matter() -> None:
    chain = (issued(), issued("Root", "Root", (), -10, -1, own=True))
    assert "Root" in only(handshake(*chain), "tls-issuer-certificate-expired").sentence


def test_a_self_signed_certificate() -> None:
    only(handshake(issued("tpe.example", "tpe.example", own=True)), "tls-certificate-self-signed")


def test_a_root_in_the_chain_or_a_namesake_is_not_self_signed() -> None:
    assert judged(handshake(issued(), issued("Root", "Root", (), own=True))) == {}
    assert judged(handshake(issued("tpe.example", "tpe.example", own=False))) == {}


def test_a_small_key() -> None:
    assert "RSA 1024" in only(handshake(issued(bits=1024)), "tls-certificate-weak-key").sentence
    assert judged(handshake(issued(bits=2048))) == {}


def test_a_weak_signature_counts_except_on_a_root() -> None:
    assert "SHA-1" in only(handshake(signed_with_sha1(issued())), "tls-certificate-weak-signature").sentence
    root = signed_with_sha1(issued("Root", "Root", (), own=True))
    assert judged(handshake(issued(), root)) == {}


@pytest.mark.parametrize(
    ("asked", "names", "fits"),
    [
        ("TPE.example", ("tpe.example",), True),
        ("tpe.example.", ("tpe.example",), True),
        ("a.lab.example", ("*.lab.example",), True),
        ("a.b.lab.example", ("*.lab.example",), False),
        ("lab.example", ("*.lab.example",), False),
        ("evil.example", ("tpe.example",), False),
        ("a.example", ("*.example",), True),
        ("example", ("*",), False),
        ("192.0.2.10", ("192.0.2.10",), True),
        ("192.0.2.10", ("tpe.example", "192.0.2.11"), False),
        ("2001:DB8:0::10", ("2001:db8::10",), True),
        ("tpe.example", (), True),
        ("other.example", (), False),
        ("other.example", ("192.0.2.10",), False),
        ("tpe.example", ("other.example",), False),
    ],
)
def test_the_certificate_must_be_for_the_name_asked_for(asked: str, names: tuple[str, ...], fits: bool) -> None:
    head = handshake(issued("tpe.example", names=names), sni=asked.encode())
    if fits:
        assert list(judged(head)) == (["tls-server-name-malformed"] if asked.endswith(".") else [])
    else:
        assert asked in only(head, "tls-certificate-name-mismatch").sentence


def test_a_certificate_that_cannot_be_read_is_not_judged_further() -> None:
    assert only(handshake(issued()[:-3], sni=b"tpe.example"), "tls-certificate-unreadable")


def test_a_clients_certificate_is_not_the_servers() -> None:
    weak = record(22, certificate(issued("lrr", bits=1024, ends=-1)))
    assert judged(handshake(answer=weak + record(22, message(16, b"k")))) == {}


INTERMEDIATE = issued("Sub", "Root", ())
ROOT = issued("Root", "Root", (), own=True)


def sub(name: str = "Sub") -> bytes:
    """The certificate of an authority below the root, whose key is its own."""
    builder = x509.CertificateBuilder(named("Root"), named(name), authority(name).public_key(), 8, TODAY, TODAY + DAY)
    return builder.sign(authority("Root"), hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def chain_of(*chain: bytes) -> tuple[str | None, list[str]]:
    """The fact on a chain, and the slugs of the checks that speak."""
    head = handshake(*chain)
    facts = dissect_as(tls, head).facts
    assert isinstance(facts, tls.TlsFacts)
    return facts.chain, list(judged(head))


def test_the_order_of_a_chain() -> None:
    own, intermediate = issued(issuer="Sub"), sub()
    assert chain_of(own) == (None, [])
    assert chain_of(own, intermediate) == ("ordered", [])
    assert chain_of(own, intermediate, ROOT) == ("ordered", [])
    assert chain_of(own, ROOT, intermediate) == ("unordered", ["tls-chain-out-of-order"])
    assert chain_of(own, ROOT) == ("broken", ["tls-chain-out-of-order"])
    assert chain_of(own, intermediate, sub("Stranger")) == ("broken", ["tls-chain-out-of-order"])
    assert "Sub" in only(handshake(own, ROOT), "tls-chain-out-of-order").sentence
    root = only(handshake(own, intermediate, ROOT, sub("Stranger")), "tls-chain-out-of-order").sentence
    assert root.startswith("The issuer certificate") and "names itself as issuer" in root


def test_a_namesake_of_the_issuer_that_did_not_sign() -> None:
    own, impostor = issued(issuer="Sub"), INTERMEDIATE  # another key under the same name
    assert chain_of(own, impostor) == ("broken", ["tls-chain-signature-wrong"])
    assert only(handshake(own, impostor), "tls-chain-signature-wrong").severity is None


def test_an_issuer_that_cannot_be_read_is_no_reason_for_blame() -> None:
    assert chain_of(issued(), ROOT[:-3])[1] == ["tls-certificate-unreadable"]


@settings(max_examples=60)
@given(st.permutations(range(4)), st.integers(2, 4))
def test_only_one_order_of_a_chain_is_right(order: list[int], length: int) -> None:
    path = [issued(issuer="A"), *[issued_sub("A", "B"), issued_sub("B", "Root"), ROOT]][:length]
    sent = [each for each in order if each < length]
    fact, slugs = chain_of(*(path[each] for each in sent))
    assert fact == ("ordered" if sent == sorted(sent) else "unordered" if length == 4 else fact)
    assert (fact == "ordered") == (sent == sorted(sent))
    assert ("tls-chain-out-of-order" in slugs) == (fact != "ordered")


@cache
def issued_sub(name: str, issuer: str) -> bytes:
    """The certificate of an authority with its own key."""
    builder = x509.CertificateBuilder(named(issuer), named(name), authority(name).public_key(), 9, TODAY, TODAY + DAY)
    return builder.sign(authority(issuer), hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    "name", [b"", b"tpe.example.", b"a b", b"-a.example", b"a..b", b"x" * 64, b"\xff.example", b"a.example/" + b"x"]
)
def test_a_server_name_that_no_host_can_have(name: bytes) -> None:
    assert "tls-server-name-malformed" in judged(handshake(sni=name))


def test_a_server_name_extension_that_lists_none_or_two() -> None:
    none, two = extension(0, listed(2, b"")), extension(0, listed(2, (b"\0" + listed(2, b"tpe.example")) * 2))
    for names, word in ((none, "no host names"), (two, "2 host names")):
        head = head_of(record(22, client_hello(names)), b"")
        assert word in only(head, "tls-server-name-malformed").sentence


def test_an_encrypted_alert_is_said_to_be_one() -> None:
    head = handshake(answer=record(22, message(16, b"k")) + CHANGE_CIPHER_SPEC + FINISHED + record(21, b"\x99" * 26))
    remark = only(head, "tls-encrypted-alert")
    assert "from the client" in remark.sentence
    assert judged(handshake(answer=record(22, message(16, b"k")) + CHANGE_CIPHER_SPEC + FINISHED + DATA)) == {}


def test_a_shared_key_needs_no_certificate() -> None:
    server = record(22, server_hello(None, suite=0x00A8) + message(14, b""))
    assert "PSK" in only(head_of(record(22, client_hello()), server), "tls-server-without-certificate").sentence


def test_a_client_certificate_that_was_asked_for() -> None:
    def asked(answer: bytes) -> Head:
        server = server_hello(None) + certificate(issued()) + message(13, b"\x01\x01\0\0\0\0") + message(14, b"")
        return head_of(record(22, client_hello()) + answer, record(22, server))

    key_exchange = message(16, b"k")
    only(asked(record(22, certificate() + key_exchange)), "tls-client-certificate-withheld")
    assert judged(asked(record(22, certificate(issued("lrr")) + key_exchange))) == {}
    assert judged(asked(b"")) == {}


def test_a_key_exchange_without_forward_secrecy() -> None:
    assert "TLS_RSA_WITH_AES" in only(handshake(suite=0x009C), "tls-no-forward-secrecy").sentence
    for suite in (0xC02F, 0x009E, 0x1301, 0x00A8):
        assert "tls-no-forward-secrecy" not in judged(handshake(suite=suite))


def test_compression() -> None:
    hello = server_hello(None)
    squeezed = record(22, hello[:-1] + b"\x01" + certificate(issued()) + message(14, b""))
    only(head_of(record(22, client_hello()), squeezed), "tls-compression")


def test_every_check_is_documented_and_numbered() -> None:
    numbers = [int(check.id.removeprefix("TPE")) for check in checks.CHECKS]
    assert numbers == sorted(set(numbers)) and numbers[0] >= 261 and numbers[-1] <= 299
    for check in checks.CHECKS:
        paragraphs = [paragraph.strip() for paragraph in check.documentation.split("\n\n")]
        assert [each.split(":")[0] for each in paragraphs] == ["Flags", "Why", "Evidence", "Remedy"]
        assert check.protocol == tls.NAME
        assert (check.kind is Kind.NOTICE) == (check.severity is Severity.INFO)


def test_direction_does_not_matter_where_the_beginning_is_unknown() -> None:
    head = handshake(issued(ends=-1))
    swapped = head._replace(streams=(head.streams[Direction.RESPONDER], head.streams[Direction.ORIGINATOR]))
    assert "tls-certificate-expired" in judged(swapped)
