"""Checks of SSH."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from analyzer.checks import ssh as checks
from analyzer.expected import RuleError, rules_folder
from analyzer.findings import Check, Severity
from analyzer.heads import Head
from analyzer.protocols import ssh
from tests.checks.matches import issues, match_of
from tests.protocols.test_ssh import BANNER, MODERN, NEWKEYS, STRICT, head_of, kexinit, packet, session, string


def issues_of(check: Check, head: Head) -> list[tuple[Severity, str]]:
    return issues(check, match_of(ssh, head))


def negotiated(
    kex: str = "curve25519-sha256", key: str = "ssh-ed25519", cipher: str = "aes128-ctr", mac: str = "hmac-sha2-256"
) -> Head:
    lists = (kex, key, cipher, mac, "none")
    return session(lists, lists)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.id)
def test_no_issue_with_modern_session(check: Check) -> None:
    assert issues_of(check, session(ends=True)) == []
    assert issues_of(check, head_of(BANNER, BANNER)) == []
    assert issues_of(check, head_of(b"", BANNER)) == []


def test_protocol_below_2() -> None:
    old = head_of(b"SSH-1.5-OpenSSH_6.2\n", b"SSH-1.99-OpenSSH_3.9p1\n")
    assert issues_of(checks.protocol_below_2, old) == [
        (Severity.HIGH, "SSH protocol below 2.0: the client announces 1.5 and the server announces 1.99."),
    ]
    both_offered = head_of(BANNER, b"SSH-1.99-OpenSSH_3.9p1\n")
    assert [severity for severity, _ in issues_of(checks.protocol_below_2, both_offered)] == [Severity.MEDIUM]


@pytest.mark.parametrize(
    ("check", "head", "severity"),
    [
        (checks.key_exchange_broken, negotiated(kex="diffie-hellman-group1-sha1"), Severity.MEDIUM),
        (checks.key_exchange_broken, negotiated(kex="diffie-hellman-group-exchange-sha1"), Severity.LOW),
        (checks.cipher_broken, negotiated(cipher="arcfour128"), Severity.HIGH),
        (checks.cipher_broken, negotiated(cipher="none"), Severity.HIGH),
        (checks.cipher_broken, negotiated(cipher="3des-cbc"), Severity.MEDIUM),
        (checks.mac_broken, negotiated(mac="hmac-md5"), Severity.MEDIUM),
        (checks.mac_broken, negotiated(mac="none"), Severity.HIGH),
        (checks.key_exchange_broken, negotiated(kex="gss-group1-sha1-toWM5Slw5Ew8Mqkay+al2g=="), Severity.MEDIUM),
        (checks.cipher_broken, negotiated(cipher="aes256-cbc"), Severity.LOW),
        (checks.host_key_broken, negotiated(key="ssh-dss"), Severity.MEDIUM),
        (checks.host_key_broken, negotiated(key="ssh-rsa"), Severity.LOW),
    ],
)
def test_broken_algorithm_fires_its_check_only(check: Check, head: Head, severity: Severity) -> None:
    assert [severity for severity, _ in issues_of(check, head)] == [severity]
    others = [other for other in checks.CHECKS if other is not check]
    assert [issues_of(other, head) for other in others] == [[] for _ in others]


def test_offered_algorithm_is_no_issue() -> None:
    assert issues_of(checks.cipher_broken, session(("k", "h", "aes128-ctr,3des-cbc", "m", "none"), MODERN)) == []


def test_short_key_and_group() -> None:
    rsa = string(b"ssh-rsa") + string(b"\1\0\1") + string(b"\0" + b"\xff" * 128)
    lists = ("curve25519-sha256", "rsa-sha2-256", "aes128-ctr", "hmac-sha2-256", "none")
    assert issues_of(checks.host_key_broken, session(lists, lists, rsa)) == [
        (Severity.MEDIUM, "The server's RSA host key has 1024 bits; 2048 are needed."),
    ]
    group = packet(b"\x1f" + string(b"\0" + b"\xc0" * 128) + string(b"\x02"))
    assert [severity for severity, _ in issues_of(checks.key_exchange_broken, head_of(BANNER, BANNER + group))] == [
        Severity.MEDIUM
    ]


def test_key_exchange_not_completed() -> None:
    assert issues_of(checks.key_exchange_not_completed, head_of(BANNER, BANNER, ends=True)) == [
        (Severity.MEDIUM, "The connection was closed before the key exchange was completed."),
    ]
    nothing_shared = head_of(
        BANNER + kexinit("k", "h", "aes128-ctr", "m", "none"),
        BANNER + kexinit("k", "h", "3des-cbc", "m", "none"),
        ends=True,
    )
    ((_, sentence),) = issues_of(checks.key_exchange_not_completed, nothing_shared)
    assert sentence.endswith("completed: the two sides have no cipher in common.")
    bye = packet(b"\x01" + struct.pack(">I", 11) + string(b"Too many authentication failures") + string(b""))
    ((_, sentence),) = issues_of(checks.key_exchange_not_completed, head_of(BANNER, BANNER + bye, ends=True))
    assert sentence.endswith("; the server gave reason 11, Too many authentication failures.")


def test_key_exchange_beyond_the_capture_is_no_issue() -> None:
    check = checks.key_exchange_not_completed
    assert issues_of(check, head_of(BANNER, BANNER, ends=False)) == []
    assert issues_of(check, head_of(BANNER, b"", ends=True)) == []
    assert issues_of(check, head_of(b"SSH-1.5-x\n", b"SSH-1.5-y\n", ends=True)) == []


CHACHA, CBC = "chacha20-poly1305@openssh.com", "aes128-cbc"
ETM = "hmac-sha2-256-etm@openssh.com"


@pytest.mark.parametrize(
    ("cipher", "mac", "expected"),
    [
        (CHACHA, "hmac-sha2-256", CHACHA),
        (CBC, ETM, f"{CBC} with {ETM}"),
        (CBC, "hmac-sha2-256", None),
        ("aes128-ctr", ETM, None),
    ],
)
def test_terrapin_needs_cipher_and_no_strict_key_exchange(cipher: str, mac: str, expected: str | None) -> None:
    def lists(kex: str) -> tuple[str, str, str, str, str]:
        return kex, "ssh-ed25519", cipher, mac, "none"

    for client, server in ((MODERN[0], MODERN[0]), (STRICT[0], MODERN[0]), (MODERN[0], STRICT[1])):
        found = issues_of(checks.terrapin, session(lists(client), lists(server)))
        wanted = f"Negotiated cipher {expected} without strict key exchange."
        assert found == ([(Severity.LOW, wanted)] if expected else [])
    assert issues_of(checks.terrapin, session(lists(STRICT[0]), lists(STRICT[1]))) == []


def test_strict_key_exchange_broken() -> None:
    client, server = (STRICT[0], *MODERN[1:]), (STRICT[1], *MODERN[1:])
    ignore = packet(b"\x02" + string(b"noise"))
    inserted = head_of(BANNER + kexinit(*client), BANNER + kexinit(*server) + ignore + NEWKEYS)
    assert issues_of(checks.strict_key_exchange_broken, inserted) == [
        (Severity.MEDIUM, "Message 2 of the server breaks a strict key exchange."),
    ]
    loose = head_of(BANNER + kexinit(*MODERN), BANNER + kexinit(*server) + ignore + NEWKEYS)
    assert issues_of(checks.strict_key_exchange_broken, loose) == []


def test_preface_lines() -> None:
    assert issues_of(checks.preface_lines, head_of(BANNER, b"Go \x07 away\r\nnow\r\n" + BANNER)) == [
        (Severity.INFO, "The server sent 2 lines before its identification string: 'Go \\\\x07 away'."),
    ]


def test_policy_names_its_sources() -> None:
    policy = checks.policy()
    assert {kind for kind, _ in policy.objections} == set(checks.KIND_NAMES)
    assert all(objection.reason and objection.source for objection in policy.objections.values())
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
def test_invalid_policy_names_the_place(tmp_path: Path, old: str, new: str, complaint: str) -> None:
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
