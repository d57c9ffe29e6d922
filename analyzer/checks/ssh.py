"""SSH: the protocol's version, what both sides settled on, and whether the key exchange ended."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from analyzer.findings import Remark, Severity, content_check
from analyzer.heads import Direction, Frame
from analyzer.matching import Fit
from analyzer.messages import messages
from analyzer.protocols.ssh import (
    Disconnect,
    GexGroup,
    Identification,
    KexInit,
    KexReply,
    SshFacts,
)

Policy = Mapping[str, tuple[Severity, str]]

POLICY_DATE = "2026-01"
"""When the tables below were last held against RFC 9142, RFC 8758, RFC 8270, RFC 8332 and OpenSSH's defaults."""

BROKEN_KEX: Policy = {
    "diffie-hellman-group1-sha1": (Severity.MEDIUM, "its 1024-bit group is within reach of precomputation"),
    "rsa1024-sha1": (Severity.MEDIUM, "its RSA key of 1024 bits can be factored"),
    "gss-group1-sha1": (Severity.MEDIUM, "its 1024-bit group is within reach of precomputation"),
    "diffie-hellman-group-exchange-sha1": (Severity.LOW, "SHA-1 no longer resists collisions"),
}
SHORT_GROUP = 2048
"""Shortest prime of a group exchange, in bits (RFC 8270)."""

BROKEN_CIPHERS: Policy = {
    "none": (Severity.HIGH, "nothing is encrypted"),
    "des-cbc": (Severity.HIGH, "keys of 56 bits can be searched"),
    "des-cbc@ssh.com": (Severity.HIGH, "keys of 56 bits can be searched"),
    "arcfour": (Severity.HIGH, "RC4's key stream leaks plain text"),
    "arcfour128": (Severity.HIGH, "RC4's key stream leaks plain text"),
    "arcfour256": (Severity.HIGH, "RC4's key stream leaks plain text"),
    "3des-cbc": (Severity.MEDIUM, "blocks of 64 bits collide in long sessions"),
    "3des-ctr": (Severity.MEDIUM, "blocks of 64 bits collide in long sessions"),
    "blowfish-cbc": (Severity.MEDIUM, "blocks of 64 bits collide in long sessions"),
    "cast128-cbc": (Severity.MEDIUM, "blocks of 64 bits collide in long sessions"),
    "idea-cbc": (Severity.MEDIUM, "blocks of 64 bits collide in long sessions"),
}

BROKEN_MACS: Policy = {
    "none": (Severity.HIGH, "nothing protects against changes on the way"),
    "hmac-md5": (Severity.MEDIUM, "MD5 is broken"),
    "hmac-md5-96": (Severity.MEDIUM, "MD5 is broken"),
    "hmac-md5-etm@openssh.com": (Severity.MEDIUM, "MD5 is broken"),
    "hmac-md5-96-etm@openssh.com": (Severity.MEDIUM, "MD5 is broken"),
}

BROKEN_HOST_KEYS: Policy = {
    "null": (Severity.HIGH, "the server proves nothing"),
    "ssh-dss": (Severity.MEDIUM, "DSA with 1024 bits and SHA-1 can be forged with enough effort"),
    "ssh-dss-cert-v01@openssh.com": (Severity.MEDIUM, "DSA with 1024 bits and SHA-1 can be forged with enough effort"),
    "x509v3-sign-dss": (Severity.MEDIUM, "DSA with 1024 bits and SHA-1 can be forged with enough effort"),
    "ssh-rsa": (Severity.LOW, "it signs with SHA-1, which no longer resists collisions"),
    "ssh-rsa-cert-v01@openssh.com": (Severity.LOW, "it signs with SHA-1, which no longer resists collisions"),
    "x509v3-sign-rsa": (Severity.LOW, "it signs with SHA-1, which no longer resists collisions"),
}
SHORT_RSA_KEY = 2048
"""In bits."""

KINDS = {"kex_algorithms": "key exchange method", "server_host_key_algorithms": "host key algorithm"} | {
    f"{kind}_algorithms_{way}": name
    for kind, name in (("encryption", "cipher"), ("mac", "MAC"), ("compression", "compression method"))
    for way in ("client_to_server", "server_to_client")
}
"""What must be agreed upon, in plain words."""


@content_check("TPE251", "ssh-protocol-below-2", Severity.HIGH, "ssh")
def protocol_below_2(fit: Fit) -> Iterator[Remark]:
    """Flags: an identification string with a protocol version below 2.0; 1.99 (both versions offered) is medium.

    Why: SSH 1 protects integrity with a CRC and has known ways to decrypt and insert; the row demands SSH version 2.

    Evidence: the frames of the identification strings.

    Remedy: Disable SSH protocol version 1 on the side that announces it.
    """
    old = [
        (item, said)
        for item, said in messages(fit.conversation.dissection.items, Identification)
        if said.protoversion != "2.0"
    ]
    if old:
        frames = shown(item.frame for item, _ in old)
        who = " and ".join(f"the {side(item.direction)} announces {said.protoversion}" for item, said in old)
        both = all(said.protoversion == "1.99" for _, said in old)
        yield Remark(f"SSH protocol below 2.0: {who}.", frames, Severity.MEDIUM if both else None)


@content_check("TPE252", "ssh-key-exchange-broken", Severity.MEDIUM, "ssh")
def key_exchange_broken(fit: Fit) -> Iterator[Remark]:
    """Flags: a negotiated key exchange method that is broken today, or a group exchange with a prime below 2048 bits.

    Why: who records the session can compute its keys and read all of it later, passwords included.

    Evidence: the two KEXINIT messages; for a short prime, the message that carries it.

    Remedy: Remove SHA-1 and 1024-bit key exchange methods on both sides and offer curve25519-sha256 or better.
    """
    facts = facts_of(fit)
    yield from judged("key exchange method", (facts.kex,), BROKEN_KEX, fit)
    if facts.group_bits is not None and facts.group_bits < SHORT_GROUP:
        frames = shown(item.frame for item, _ in messages(fit.conversation.dissection.items, GexGroup))
        yield Remark(f"The server picked a Diffie-Hellman group of {facts.group_bits} bits; 2048 are needed.", frames)


@content_check("TPE253", "ssh-cipher-broken", Severity.HIGH, "ssh")
def cipher_broken(fit: Fit) -> Iterator[Remark]:
    """Flags: a negotiated cipher that is broken today (none, DES, RC4; 64-bit blocks are medium).

    Why: the session can be read, at once or with recorded volume.

    Evidence: the two KEXINIT messages.

    Remedy: Allow only AES in CTR or GCM mode and ChaCha20-Poly1305 as SSH ciphers.
    """
    facts = facts_of(fit)
    yield from judged("cipher", (facts.cipher_client_to_server, facts.cipher_server_to_client), BROKEN_CIPHERS, fit)


@content_check("TPE254", "ssh-mac-broken", Severity.MEDIUM, "ssh")
def mac_broken(fit: Fit) -> Iterator[Remark]:
    """Flags: a negotiated MAC that is broken today (none is high, MD5 medium).

    Why: packets can be changed or inserted without notice.

    Evidence: the two KEXINIT messages.

    Remedy: Allow only HMAC with SHA-2, or ciphers that authenticate by themselves, as SSH MACs.
    """
    facts = facts_of(fit)
    yield from judged("MAC", (facts.mac_client_to_server, facts.mac_server_to_client), BROKEN_MACS, fit)


@content_check("TPE255", "ssh-host-key-broken", Severity.MEDIUM, "ssh")
def host_key_broken(fit: Fit) -> Iterator[Remark]:
    """Flags: a negotiated host key algorithm that is broken today, or an RSA host key below 2048 bits.

    Why: an impostor can forge the server's proof and stand in the middle.

    Evidence: the two KEXINIT messages; for a short key, the message that carries it.

    Remedy: Give the server an Ed25519, ECDSA or RSA host key of at least 2048 bits and disable ssh-dss and ssh-rsa.
    """
    facts = facts_of(fit)
    yield from judged("host key algorithm", (facts.host_key,), BROKEN_HOST_KEYS, fit)
    if facts.host_key_bits is not None and facts.host_key_bits < SHORT_RSA_KEY:
        frames = shown(item.frame for item, _ in messages(fit.conversation.dissection.items, KexReply))
        yield Remark(f"The server's RSA host key has {facts.host_key_bits} bits; 2048 are needed.", frames)


@content_check("TPE256", "ssh-key-exchange-not-completed", Severity.MEDIUM, "ssh")
def key_exchange_not_completed(fit: Fit) -> Iterator[Remark]:
    """Flags: a connection that was closed after both identification strings and before any NEWKEYS.

    Why: without a key exchange there is no session, so the row does not do its work.

    Evidence: the last frame with data of each side that closed; a capture that merely ends is not flagged.

    Remedy: Compare the algorithms that both sides offer and read the SSH server's log for the refusal.
    """
    conversation, facts = fit.conversation, facts_of(fit)
    if facts.key_exchange_completed or not (facts.client_banner and facts.server_banner):
        return
    items = conversation.dissection.items
    old = any(said.protoversion not in ("2.0", "1.99") for _, said in messages(items, Identification))
    if old or conversation.dissection.malformed:
        return  # SSH 1 has no NEWKEYS; broken packets are a finding of their own
    closed = [stream.marks[-1].frame for stream in conversation.head.streams if stream.ends]
    if closed:
        sentence = f"The connection was closed before the key exchange was completed{why_not(fit)}."
        yield Remark(sentence, shown(closed))


CHECKS = (
    protocol_below_2,
    key_exchange_broken,
    cipher_broken,
    mac_broken,
    host_key_broken,
    key_exchange_not_completed,
)


def facts_of(fit: Fit) -> SshFacts:
    """The conversation's facts; empty if they could not be made."""
    facts = fit.conversation.dissection.facts
    return facts if isinstance(facts, SshFacts) else SshFacts()


def judged(noun: str, names: Collection[str | None], policy: Policy, fit: Fit) -> Iterator[Remark]:
    """One remark on the algorithms that a policy rejects, of the worst one's severity."""
    found = dict.fromkeys(name for name in names if name is not None and name in policy)
    if found:
        severity = max(policy[name][0] for name in found)
        reasons = " and ".join(f"{name} ({policy[name][1]})" for name in found)
        yield Remark(f"Negotiated {noun} {reasons}.", offers(fit), severity)


def offers(fit: Fit) -> tuple[Frame, ...]:
    """The frames of the KEXINIT messages."""
    return shown(item.frame for item, _ in messages(fit.conversation.dissection.items, KexInit))


def why_not(fit: Fit) -> str:
    """What the packets say about a key exchange that came to nothing, as the end of a sentence."""
    facts = facts_of(fit)
    for item, said in messages(fit.conversation.dissection.items, Disconnect):
        return f"; the {side(item.direction)} gave reason {said.reason_code}, {said.description or 'no description'}"
    if facts._client and facts._server:
        for field, name in KINDS.items():
            theirs = frozenset(getattr(facts._server, field))
            if not any(algorithm in theirs for algorithm in getattr(facts._client, field)):
                return f": the two sides have no {name} in common"
    return ""


def side(direction: Direction) -> str:
    return "client" if direction is Direction.ORIGINATOR else "server"


def shown(frames: Iterable[Frame]) -> tuple[Frame, ...]:
    """The first few frames, ascending."""
    return tuple(sorted(set(frames))[:8])
