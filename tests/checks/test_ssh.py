from __future__ import annotations

import struct
from pathlib import Path

import pytest

from analyzer.checks import ssh as checks
from analyzer.conversations import Conversation, Endpoint, State
from analyzer.expected import RuleError, rules_folder
from analyzer.findings import Check, Issue, Severity
from analyzer.heads import Frame, Head
from analyzer.matching import Match
from analyzer.protocols import ProtocolModule, dissect_as, ssh
from tests.protocols.test_ssh import BANNER, MODERN, NEWKEYS, STRICT, head_of, kexinit, packet, session, string


def fit_of(module: ProtocolModule, head: Head, client: str = "10.20.30.10", server: str = "172.16.40.10") -> Match:
    """A conversation of a base station with TPE, as matching hands it to the checks."""
    conversation = Conversation(
        id=1,
        transport="tcp",
        originator=Endpoint(client, head.ports[0]),
        responder=Endpoint(server, head.ports[1]),
        originator_certain=True,
        state=State.ESTABLISHED,
        packets=(9, 9),
        bytes=(900, 900),
        payload=(len(head.streams[0].data), len(head.streams[1].data)),
        first=0,
        last=10**9,
        first_frame=Frame(0, 1),
        last_frame=Frame(0, 99),
        macs=(None, None),
        head=head,
        dissection=dissect_as(module, head),
    )
    return Match(client, conversation, ())


def remarks(check: Check, fit: Match) -> list[tuple[Severity, str]]:
    """What a check says, with the severity that counts."""
    found: list[Issue] = list(check.run(fit))
    for remark in found:
        assert remark.sentence[0].isupper() and remark.sentence.endswith(".")
        assert remark.frames == tuple(sorted(set(remark.frames))) and 0 < len(remark.frames) <= 8
    return [(check.severity if each.severity is None else each.severity, each.sentence) for each in found]


def said(check: Check, head: Head) -> list[tuple[Severity, str]]:
    return remarks(check, fit_of(ssh, head))


def both(
    kex: str = "curve25519-sha256", key: str = "ssh-ed25519", cipher: str = "aes128-ctr", mac: str = "hmac-sha2-256"
) -> Head:
    lists = (kex, key, cipher, mac, "none")
    return session(lists, lists)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.id)
def test_a_modern_session_is_fine(check: Check) -> None:
    assert said(check, session(ends=True)) == []
    assert said(check, head_of(BANNER, BANNER)) == []
    assert said(check, head_of(b"", BANNER)) == []


def test_old_protocol_versions() -> None:
    old = head_of(b"SSH-1.5-OpenSSH_6.2\n", b"SSH-1.99-OpenSSH_3.9p1\n")
    assert said(checks.protocol_below_2, old) == [
        (Severity.HIGH, "SSH protocol below 2.0: the client announces 1.5 and the server announces 1.99."),
    ]
    both_offered = head_of(BANNER, b"SSH-1.99-OpenSSH_3.9p1\n")
    assert [each[0] for each in said(checks.protocol_below_2, both_offered)] == [Severity.MEDIUM]


@pytest.mark.parametrize(
    ("check", "head", "severity"),
    [
        (checks.key_exchange_broken, both(kex="diffie-hellman-group1-sha1"), Severity.MEDIUM),
        (checks.key_exchange_broken, both(kex="diffie-hellman-group-exchange-sha1"), Severity.LOW),
        (checks.cipher_broken, both(cipher="arcfour128"), Severity.HIGH),
        (checks.cipher_broken, both(cipher="none"), Severity.HIGH),
        (checks.cipher_broken, both(cipher="3des-cbc"), Severity.MEDIUM),
        (checks.mac_broken, both(mac="hmac-md5"), Severity.MEDIUM),
        (checks.mac_broken, both(mac="none"), Severity.HIGH),
        (checks.key_exchange_broken, both(kex="gss-group1-sha1-toWM5Slw5Ew8Mqkay+al2g=="), Severity.MEDIUM),
        (checks.cipher_broken, both(cipher="aes256-cbc"), Severity.LOW),
        (checks.host_key_broken, both(key="ssh-dss"), Severity.MEDIUM),
        (checks.host_key_broken, both(key="ssh-rsa"), Severity.LOW),
    ],
)
def test_broken_algorithms_once_each(check: Check, head: Head, severity: Severity) -> None:
    assert [each[0] for each in said(check, head)] == [severity]
    others = [other for other in checks.CHECKS if other is not check]
    assert [said(other, head) for other in others] == [[] for _ in others]


def test_an_algorithm_only_offered_is_no_defect() -> None:
    assert said(checks.cipher_broken, session(("k", "h", "aes128-ctr,3des-cbc", "m", "none"), MODERN)) == []


def test_short_keys_and_groups() -> None:
    rsa = string(b"ssh-rsa") + string(b"\1\0\1") + string(b"\0" + b"\xff" * 128)
    lists = ("curve25519-sha256", "rsa-sha2-256", "aes128-ctr", "hmac-sha2-256", "none")
    assert said(checks.host_key_broken, session(lists, lists, rsa)) == [
        (Severity.MEDIUM, "The server's RSA host key has 1024 bits; 2048 are needed."),
    ]
    group = packet(b"\x1f" + string(b"\0" + b"\xc0" * 128) + string(b"\x02"))
    assert [each[0] for each in said(checks.key_exchange_broken, head_of(BANNER, BANNER + group))] == [Severity.MEDIUM]


def test_a_connection_closed_before_its_keys() -> None:
    assert said(checks.key_exchange_not_completed, head_of(BANNER, BANNER, ends=True)) == [
        (Severity.MEDIUM, "The connection was closed before the key exchange was completed."),
    ]
    nothing_shared = head_of(
        BANNER + kexinit("k", "h", "aes128-ctr", "m", "none"),
        BANNER + kexinit("k", "h", "3des-cbc", "m", "none"),
        ends=True,
    )
    ((_, sentence),) = said(checks.key_exchange_not_completed, nothing_shared)
    assert sentence.endswith("completed: the two sides have no cipher in common.")
    bye = packet(b"\x01" + struct.pack(">I", 11) + string(b"Too many authentication failures") + string(b""))
    ((_, sentence),) = said(checks.key_exchange_not_completed, head_of(BANNER, BANNER + bye, ends=True))
    assert sentence.endswith("; the server gave reason 11, Too many authentication failures.")


def test_what_the_capture_cannot_show_is_not_blamed() -> None:
    check = checks.key_exchange_not_completed
    assert said(check, head_of(BANNER, BANNER, ends=False)) == []
    assert said(check, head_of(BANNER, b"", ends=True)) == []
    assert said(check, head_of(b"SSH-1.5-x\n", b"SSH-1.5-y\n", ends=True)) == []


CHACHA, CBC = "chacha20-poly1305@openssh.com", "aes128-cbc"
ETM = "hmac-sha2-256-etm@openssh.com"


@pytest.mark.parametrize(
    ("cipher", "mac", "exposed"),
    [
        (CHACHA, "hmac-sha2-256", CHACHA),
        (CBC, ETM, f"{CBC} with {ETM}"),
        (CBC, "hmac-sha2-256", None),
        ("aes128-ctr", ETM, None),
    ],
)
def test_terrapin_needs_a_cipher_and_a_side_without_strict_key_exchange(
    cipher: str, mac: str, exposed: str | None
) -> None:
    def lists(kex: str) -> tuple[str, str, str, str, str]:
        return kex, "ssh-ed25519", cipher, mac, "none"

    for client, server in ((MODERN[0], MODERN[0]), (STRICT[0], MODERN[0]), (MODERN[0], STRICT[1])):
        found = said(checks.terrapin, session(lists(client), lists(server)))
        wanted = f"Negotiated cipher {exposed} without strict key exchange."
        assert found == ([(Severity.LOW, wanted)] if exposed else [])
    assert said(checks.terrapin, session(lists(STRICT[0]), lists(STRICT[1]))) == []


def test_a_message_inserted_into_a_strict_key_exchange() -> None:
    client, server = (STRICT[0], *MODERN[1:]), (STRICT[1], *MODERN[1:])
    ignore = packet(b"\x02" + string(b"noise"))
    inserted = head_of(BANNER + kexinit(*client), BANNER + kexinit(*server) + ignore + NEWKEYS)
    assert said(checks.strict_key_exchange_broken, inserted) == [
        (Severity.MEDIUM, "Message 2 of the server breaks a strict key exchange."),
    ]
    loose = head_of(BANNER + kexinit(*MODERN), BANNER + kexinit(*server) + ignore + NEWKEYS)
    assert said(checks.strict_key_exchange_broken, loose) == []


def test_lines_before_the_banner_are_shown() -> None:
    assert said(checks.preface_lines, head_of(BANNER, b"Go \x07 away\r\nnow\r\n" + BANNER)) == [
        (Severity.INFO, "The server sent 2 lines before its identification string: 'Go \\\\x07 away'."),
    ]


def test_the_policy_names_its_sources() -> None:
    policy = checks.policy()
    assert {kind for kind, _ in policy.objections} == set(checks.KIND_NAMES)
    assert all(each.reason and each.source for each in policy.objections.values())
    assert policy.objection("cipher", "aes128-ctr") is None
    assert policy.objection("MAC", "arcfour") is None


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('date = "2026-11"', 'date = "soon"', "'date' cannot be 'soon'"),
        ("prime = 2048", "prime = -1", "'prime' must be a number of bits"),
        ('severity = "medium"', 'severity = "awful"', "algorithm 1: 'severity' cannot be 'awful'"),
        ('kind = "key exchange method"', 'kind = "kex"', "algorithm 1: 'kind' cannot be 'kex'"),
        (
            '["rsa1024-sha1"]',
            '["rsa1024-sha1", "rsa1024-sha1"]',
            "algorithm 2: 'rsa1024-sha1' stands in the table twice",
        ),
        ('["rsa1024-sha1"]', "[]", "algorithm 2: 'names' must be a list of names"),
        ('source = "RFC 9142 section 4: MUST NOT"', 'from = "RFC 9142"', "algorithm 2: no key 'source'"),
        ('source = "RFC 9142 section 4: MUST NOT"', 'source = "x"\nsince = 1', "algorithm 2: unknown key 'since'"),
        ("[shortest]", "[shortest", "not TOML"),
        ("[shortest]", "wrong = 1\n[shortest]", "unknown key 'wrong'"),
    ],
)
def test_a_policy_that_is_none_says_where(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    text = (rules_folder() / "ssh-algorithms.toml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "ssh-algorithms.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(RuleError) as raised:
        checks.read_policy(path)
    assert str(raised.value).startswith("rules/ssh-algorithms.toml: ")
    assert complaint in str(raised.value) and "\n" not in str(raised.value)
    with pytest.raises(RuleError, match="No such file"):
        checks.read_policy(tmp_path / "none.toml")


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.id)
def test_documentation_has_its_four_paragraphs(check: Check) -> None:
    paragraphs = [part.strip() for part in check.documentation.strip().split("\n\n")]
    assert [part.split(":")[0] for part in paragraphs] == ["Flags", "Why", "Evidence", "Remedy"]
