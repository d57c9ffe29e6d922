"""Checks of TLS."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.checks import tls as checks
from analyzer.conversations import Conversation, Endpoint, State
from analyzer.expected import ExpectedFlow, load
from analyzer.findings import Issue, Kind, Severity
from analyzer.heads import Direction, Frame, Head, Mark, Stream
from analyzer.matching import Match
from analyzer.protocols import dissect_as, tls
from tests.checks.certificates import ROOT, issued, issued_authority, signed_with_sha1
from tests.checks.matches import base_station
from tests.protocols.tls_messages import (
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

I38 = load()["tls"].flow("i38")
I43 = load()["basics"].flow("i43")


def handshake(
    *chain: bytes, suite: int = 0xC02F, version: int = 0x0303, sni: bytes | None = None, answer: bytes | None = None
) -> Head:
    """A full handshake before TLS 1.3. ``answer``: what the client sends after the server's flight."""
    extensions = server_name(sni) if sni is not None else b""
    client = record(22, client_hello(extensions, version), 0x0301)
    client += record(22, message(16, b"k" * 32), version) + CHANGE_CIPHER_SPEC + FINISHED if answer is None else answer
    server = server_hello(None, version, suite) + certificate(*(chain or (issued(),))) + message(14, b"")
    return head_of(client, record(22, server, version) + (CHANGE_CIPHER_SPEC + FINISHED if answer is None else b""))


def match_of(head: Head, row: ExpectedFlow = I38) -> Match:
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


def issues_of(head: Head, row: ExpectedFlow = I38) -> dict[str, list[Issue]]:
    """Issues by the slug of the check."""
    issues = {check.slug: list(check.run(match_of(head, row))) for check in checks.CHECKS}
    return {slug: found for slug, found in issues.items() if found}


def only_issue(head: Head, slug: str, row: ExpectedFlow = I38) -> Issue:
    """The only issue of the only check that reports any."""
    found = issues_of(head, row)
    assert list(found) == [slug]
    (issue,) = found[slug]
    assert issue.sentence[0].isupper() and issue.sentence.endswith(".")
    assert issue.frames
    return issue


@pytest.mark.parametrize(
    "head", [head_of(STATION, LNS), handshake(), handshake(sni=b"tpe.example"), handshake(sni=b"192.0.2.10")]
)
def test_no_issue_with_sound_handshake(head: Head) -> None:
    assert issues_of(head) == {}
    assert issues_of(head, I43) == {}


@pytest.mark.parametrize(("version", "severity"), [(0x0300, Severity.HIGH), (0x0301, Severity.MEDIUM)])
def test_obsolete_version(version: int, severity: Severity) -> None:
    assert only_issue(handshake(version=version), "tls-obsolete-version").severity is severity


def test_obsolete_version_without_handshake() -> None:
    found = issues_of(head_of(record(23, b"x" * 40, 0x0302), b"", begins=False))
    assert list(found) == ["tls-obsolete-version", "tls-handshake-not-seen"]
    assert "TLS 1.1" in found["tls-obsolete-version"][0].sentence
    assert list(issues_of(head_of(DATA, DATA, begins=False))) == ["tls-handshake-not-seen"]


def test_ssl_2_is_obsolete() -> None:
    found = issues_of(SSL2)
    assert "SSL 2.0" in found["tls-obsolete-version"][0].sentence
    assert "3DES" in found["tls-small-block-cipher-suite"][0].sentence


def test_version_below_row() -> None:
    strict = replace(I38, tls_floor="TLS 1.3")
    assert "TLS 1.3" in only_issue(handshake(), "tls-version-below-row", strict).sentence
    assert "tls-version-below-row" not in issues_of(TLS13, strict)


def test_tls_13_hides_the_certificates() -> None:
    for head in (TLS13, RETRIED):
        assert list(issues_of(head)) == ["tls-certificates-hidden"]
        assert list(issues_of(head, I43)) == ["tls-version-above-row", "tls-certificates-hidden"]
    assert "hidden" in issues_of(TLS13)["tls-certificates-hidden"][0].sentence


def test_session_resumed() -> None:
    only_issue(RESUMED, "tls-session-resumed")


@pytest.mark.parametrize(
    ("alert", "word"), [(45, "expired"), (48, "not trusted"), (40, "handshake_failure"), (116, "certificate_required")]
)
def test_handshake_refused_names_sender_and_reason(alert: int, word: str) -> None:
    issue = only_issue(handshake(answer=record(21, bytes([2, alert]))), "tls-handshake-refused")
    assert word in issue.sentence
    assert issue.sentence.startswith("The client")


@pytest.mark.parametrize("alert", [40, 70, 71])
def test_server_that_accepts_no_offer_says_what_was_offered(alert: int) -> None:
    refused = head_of(record(22, client_hello()), record(21, bytes([2, alert])))
    sentence = only_issue(refused, "tls-handshake-refused").sentence
    assert (
        sentence.startswith("The server refuses the handshake") and "; the client offered TLS 1.2 at most" in sentence
    )
    unknown_name = head_of(record(22, client_hello()), record(21, bytes([2, 112])))
    assert "offered" not in only_issue(unknown_name, "tls-handshake-refused").sentence


@pytest.mark.parametrize("alert", [b"\x01\x00", b"\x02\x00", b"\x01\x70"])
def test_close_notify_and_warnings_are_no_refusal(alert: bytes) -> None:
    assert "tls-handshake-refused" not in issues_of(handshake(answer=record(21, alert)))


def test_handshake_abandoned() -> None:
    left = handshake(answer=b"")
    assert issues_of(left) == {}  # the capture may have ended
    client, server = (stream._replace(ends=True) for stream in left.streams)
    closed = left._replace(streams=(client, server))
    assert only_issue(closed, "tls-handshake-abandoned").severity is Severity.LOW
    hello = record(22, client_hello())
    marks = (Mark(0, Frame(0, 1), NOVEMBER_2026),)
    unanswered = Head("tcp", (1, 2), (Stream(hello, marks, True, True), Stream(b"", (), True, True)))
    assert only_issue(unanswered, "tls-handshake-abandoned").severity is Severity.MEDIUM


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
def test_broken_cipher_suite(suite: int, word: str) -> None:
    found = issues_of(handshake(suite=suite))
    assert list(found) == ["tls-broken-cipher-suite"]
    assert word in found["tls-broken-cipher-suite"][0].sentence


def test_small_block_cipher_suite() -> None:
    assert "3DES" in only_issue(handshake(suite=0xC012), "tls-small-block-cipher-suite").sentence
    assert checks.small_block_cipher_suite.severity is Severity.MEDIUM


@pytest.mark.parametrize("suite", [0x1301, 0x009E, 0xCCA8, 0xC0AC, 0x003D, 0xEEEE])
def test_no_issue_with_other_cipher_suites(suite: int) -> None:
    assert "tls-broken-cipher-suite" not in issues_of(handshake(suite=suite))
    assert "tls-small-block-cipher-suite" not in issues_of(handshake(suite=suite))


@pytest.mark.parametrize(("size", "severity"), [(64, Severity.MEDIUM), (128, Severity.LOW), (256, None)])
def test_small_dh_group(size: int, severity: Severity | None) -> None:
    prime = listed(2, b"\xff" * size) + listed(2, b"\x02") + listed(2, b"y" * size) + b"signature"
    server = server_hello(None, suite=0x009E) + certificate(issued()) + message(12, prime) + message(14, b"")
    found = issues_of(head_of(record(22, client_hello()), record(22, server)))
    assert [issue.severity for issue in found.get("tls-small-dh-group", [])] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("begins", "ends", "slug"), [(-10, -1, "tls-certificate-expired"), (1, 10, "tls-certificate-not-yet-valid")]
)
def test_certificate_outside_its_validity(begins: int, ends: int, slug: str) -> None:
    stale = issued(begins=begins, ends=ends)
    accepted = only_issue(handshake(stale), slug)
    assert accepted.severity is Severity.HIGH
    assert "went on all the same" in accepted.sentence
    refused = issues_of(handshake(stale, answer=record(21, b"\x02\x2d")))
    assert list(refused) == ["tls-handshake-refused", slug]
    assert refused[slug][0].severity is Severity.MEDIUM


@pytest.mark.parametrize(
    ("shown", "slug"),
    [
        (issued("tpe.example", "tpe.example", own=True), "tls-certificate-self-signed"),
        (issued(bits=1024), "tls-certificate-weak-key"),
        (signed_with_sha1(issued()), "tls-certificate-weak-signature"),
        (issued("tpe.example", names=("other.example",)), "tls-certificate-name-mismatch"),
    ],
)
def test_certificate_that_a_client_should_refuse(shown: bytes, slug: str) -> None:
    accepted = issues_of(handshake(shown, sni=b"tpe.example"))[slug][0]
    assert accepted.severity is Severity.HIGH
    assert accepted.sentence.endswith("; the client went on all the same.")
    refused = issues_of(handshake(shown, sni=b"tpe.example", answer=record(21, b"\x02\x2a")))[slug][0]
    assert refused.severity is Severity.MEDIUM
    assert refused.sentence.endswith("; the client refused the handshake.")
    silent = issues_of(handshake(shown, sni=b"tpe.example", answer=b""))[slug][0]
    assert silent.severity is Severity.MEDIUM
    assert silent.sentence.endswith("; the client did not go on.")


def test_expired_certificate_has_one_sentence_for_all_retries() -> None:
    sentences = {
        only_issue(handshake(issued(begins=-10, ends=-1)), "tls-certificate-expired").sentence for _ in range(2)
    }
    assert len(sentences) == 1 and "was shown on" not in sentences.pop()


def test_issuer_certificate_not_valid() -> None:
    chain = (issued(), issued("Root", "Root", (), -10, -1, own=True))
    assert "Root" in only_issue(handshake(*chain), "tls-issuer-certificate-not-valid").sentence


def test_certificate_self_signed() -> None:
    only_issue(handshake(issued("tpe.example", "tpe.example", own=True)), "tls-certificate-self-signed")


def test_root_or_namesake_is_not_self_signed() -> None:
    assert issues_of(handshake(issued(), issued("Root", "Root", (), own=True))) == {}
    assert issues_of(handshake(issued("tpe.example", "tpe.example", own=False))) == {}


def test_certificate_weak_key() -> None:
    assert "RSA 1024" in only_issue(handshake(issued(bits=1024)), "tls-certificate-weak-key").sentence
    assert issues_of(handshake(issued(bits=2048))) == {}


def test_certificate_weak_signature_except_of_a_root() -> None:
    assert "SHA-1" in only_issue(handshake(signed_with_sha1(issued())), "tls-certificate-weak-signature").sentence
    root = signed_with_sha1(issued("Root", "Root", (), own=True))
    assert issues_of(handshake(issued(), root)) == {}


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
def test_certificate_name_mismatch(asked: str, names: tuple[str, ...], fits: bool) -> None:
    head = handshake(issued("tpe.example", names=names), sni=asked.encode())
    if fits:
        assert list(issues_of(head)) == (["tls-server-name-malformed"] if asked.endswith(".") else [])
    else:
        assert asked in only_issue(head, "tls-certificate-name-mismatch").sentence


def test_unreadable_certificate_fires_one_check_only() -> None:
    assert only_issue(handshake(issued()[:-3], sni=b"tpe.example"), "tls-certificate-unreadable")


def test_client_certificate_is_not_checked() -> None:
    weak = record(22, certificate(issued("lrr", bits=1024, ends=-1)))
    assert issues_of(handshake(answer=weak + record(22, message(16, b"k")))) == {}


def chain_of(*chain: bytes) -> tuple[str | None, list[str]]:
    """The fact about a chain, and the slugs of the checks that report an issue."""
    head = handshake(*chain)
    facts = dissect_as(tls, head).facts
    assert isinstance(facts, tls.TlsFacts)
    return facts.chain, list(issues_of(head))


def test_chain_out_of_order() -> None:
    own, intermediate = issued(issuer="Sub"), issued_authority("Sub")
    assert chain_of(own) == (None, [])
    assert chain_of(own, intermediate) == ("ordered", [])
    assert chain_of(own, intermediate, ROOT) == ("ordered", [])
    assert chain_of(own, ROOT, intermediate) == ("unordered", ["tls-chain-out-of-order"])
    assert chain_of(own, ROOT) == ("broken", ["tls-chain-out-of-order"])
    assert chain_of(own, intermediate, issued_authority("Stranger")) == ("broken", ["tls-chain-out-of-order"])
    assert "Sub" in only_issue(handshake(own, ROOT), "tls-chain-out-of-order").sentence
    root = only_issue(
        handshake(own, intermediate, ROOT, issued_authority("Stranger")), "tls-chain-out-of-order"
    ).sentence
    assert root.startswith("The issuer certificate") and "names itself as issuer" in root


def test_chain_signature_wrong() -> None:
    own, impostor = issued(issuer="Sub"), issued("Sub", "Root", ())  # another key under the same name
    assert chain_of(own, impostor) == ("broken", ["tls-chain-signature-wrong"])
    assert only_issue(handshake(own, impostor), "tls-chain-signature-wrong").severity is None


def test_no_chain_issue_with_unreadable_issuer() -> None:
    assert chain_of(issued(), ROOT[:-3])[1] == ["tls-certificate-unreadable"]


@settings(max_examples=60)
@given(st.permutations(range(4)), st.integers(2, 4))
def test_only_the_ordered_chain_is_ordered(order: list[int], length: int) -> None:
    path = [issued(issuer="A"), *[issued_authority("A", "B"), issued_authority("B", "Root"), ROOT]][:length]
    sent = [position for position in order if position < length]
    fact, slugs = chain_of(*(path[position] for position in sent))
    assert fact == ("ordered" if sent == sorted(sent) else "unordered" if length == 4 else fact)
    assert (fact == "ordered") == (sent == sorted(sent))
    assert ("tls-chain-out-of-order" in slugs) == (fact != "ordered")


@pytest.mark.parametrize(
    "name", [b"", b"tpe.example.", b"a b", b"-a.example", b"a..b", b"x" * 64, b"\xff.example", b"a.example/" + b"x"]
)
def test_server_name_that_is_no_host_name(name: bytes) -> None:
    assert "tls-server-name-malformed" in issues_of(handshake(sni=name))


def test_server_name_extension_with_no_or_two_names() -> None:
    none, two = extension(0, listed(2, b"")), extension(0, listed(2, (b"\0" + listed(2, b"tpe.example")) * 2))
    for names, word in ((none, "no host names"), (two, "2 host names")):
        head = head_of(record(22, client_hello(names)), b"")
        assert word in only_issue(head, "tls-server-name-malformed").sentence


def test_encrypted_alert() -> None:
    head = handshake(answer=record(22, message(16, b"k")) + CHANGE_CIPHER_SPEC + FINISHED + record(21, b"\x99" * 26))
    issue = only_issue(head, "tls-encrypted-alert")
    assert "from the client" in issue.sentence
    assert issues_of(handshake(answer=record(22, message(16, b"k")) + CHANGE_CIPHER_SPEC + FINISHED + DATA)) == {}


def test_server_without_certificate() -> None:
    server = record(22, server_hello(None, suite=0x00A8) + message(14, b""))
    assert "PSK" in only_issue(head_of(record(22, client_hello()), server), "tls-server-without-certificate").sentence


def test_client_certificate_withheld() -> None:
    def asked(answer: bytes) -> Head:
        server = server_hello(None) + certificate(issued()) + message(13, b"\x01\x01\0\0\0\0") + message(14, b"")
        return head_of(record(22, client_hello()) + answer, record(22, server))

    key_exchange = message(16, b"k")
    only_issue(asked(record(22, certificate() + key_exchange)), "tls-client-certificate-withheld")
    assert issues_of(asked(record(22, certificate(issued("lrr")) + key_exchange))) == {}
    assert issues_of(asked(b"")) == {}


def test_no_forward_secrecy() -> None:
    assert "TLS_RSA_WITH_AES" in only_issue(handshake(suite=0x009C), "tls-no-forward-secrecy").sentence
    for suite in (0xC02F, 0x009E, 0x1301, 0x00A8):
        assert "tls-no-forward-secrecy" not in issues_of(handshake(suite=suite))


def test_compression() -> None:
    hello = server_hello(None)
    squeezed = record(22, hello[:-1] + b"\x01" + certificate(issued()) + message(14, b""))
    only_issue(head_of(record(22, client_hello()), squeezed), "tls-compression")


def test_server_may_be_the_originator_of_the_flow() -> None:
    head = handshake(issued(ends=-1))
    swapped = head._replace(streams=(head.streams[Direction.RESPONDER], head.streams[Direction.ORIGINATOR]))
    assert "tls-certificate-expired" in issues_of(swapped)


def test_check_ids_ascend_and_notices_are_info() -> None:
    numbers = [int(check.id.removeprefix("TPE")) for check in checks.CHECKS]
    assert numbers == sorted(set(numbers)) and numbers[0] >= 261 and numbers[-1] <= 299
    for check in checks.CHECKS:
        assert check.protocol == tls.NAME
        assert (check.kind is Kind.NOTICE) == (check.severity is Severity.INFO)
