"""SSH: protocol version, negotiated algorithms, and completion of the key exchange.

rules/ssh-algorithms.toml lists the algorithms that are considered broken.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from analyzer.dataclass import dataclass
from analyzer.expected import Row, RuleError, rules_folder
from analyzer.findings import Issue, Kind, Severity, check, cited_frames
from analyzer.heads import Direction, Frame
from analyzer.matching import Match
from analyzer.messages import messages
from analyzer.protocols.ssh import (
    OUT_OF_PLACE,
    Disconnect,
    GexGroup,
    Identification,
    KexInit,
    KexReply,
    NewKeys,
    Packet,
    PrefaceLine,
    SshFacts,
    disorders,
)
from analyzer.scanner import columns

KIND_NAMES = ("key exchange method", "cipher", "MAC", "host key algorithm")
"""Kinds of algorithms that the policy covers, as its file and the sentences name them."""


class Objection(NamedTuple):
    """Why an algorithm is considered broken."""

    severity: Severity
    reason: str
    """One clause."""
    source: str
    """Document that says so, with its section."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The algorithms that are considered broken: the content of rules/ssh-algorithms.toml."""

    date: str
    """Month of the last comparison with the sources: ``2026-11``."""
    shortest_prime: int
    """Minimum length of a Diffie-Hellman group exchange's prime, bits."""
    shortest_rsa_key: int
    """Minimum length of an RSA host key, bits."""
    objections: Mapping[tuple[str, str], Objection]
    """By kind and name; a name that ends with ``*`` is a prefix."""

    def objection(self, kind: str, name: str) -> Objection | None:
        """Why an algorithm is considered broken; ``None``: it is not."""
        exact = self.objections.get((kind, name))
        if exact is not None:
            return exact
        for (listed_kind, pattern), objection in self.objections.items():
            if listed_kind == kind and pattern.endswith("*") and name.startswith(pattern[:-1]):
                return objection
        return None


def read_policy(path: Path) -> Policy:
    """Read a policy from a file. Raises :class:`RuleError`, whose line names the file and the entry."""
    shown = f"rules/{path.name}"
    try:
        content = tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise RuleError(f"{shown}: {error.strerror}") from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise RuleError(f"{shown}: not TOML: {' '.join(str(error).split())}") from error
    table = Row(content, shown)
    date = table.pattern("date", r"20\d\d-(0[1-9]|1[0-2])")
    limits = Row(table.table("shortest"), f"{shown}: 'shortest'")
    prime, rsa_key = read_bits(limits, "prime"), read_bits(limits, "rsa_key")
    limits.finish()
    objections: dict[tuple[str, str], Objection] = {}
    for number, values in enumerate(table.tables("algorithm"), 1):
        row = Row(values, f"{shown}: algorithm {number}")
        kind = row.choice("kind", KIND_NAMES)
        severity = Severity[row.choice("severity", ("high", "medium", "low")).upper()]
        objection = Objection(severity, row.text("reason"), row.text("source"))
        names = row.take("names")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
            row.fail(f"'names' must be a list of names, not {names!r}")
        for name in names:
            if (kind, name) in objections:
                row.fail(f"{name!r} stands in the table twice")
            objections[kind, name] = objection
        row.finish()
    table.finish()
    return Policy(date, prime, rsa_key, objections)


def read_bits(limits: Row, name: str) -> int:
    """Read a length in bits; its source must be there, too."""
    value = limits.take(name)
    limits.text(f"{name}_source")
    if type(value) is not int or not 0 < value <= 1 << 16:
        limits.fail(f"{name!r} must be a number of bits, not {value!r}")
    return value


@cache
def policy() -> Policy:
    """The policy that comes with the program, read when the first SSH session is checked."""
    return read_policy(rules_folder() / "ssh-algorithms.toml")


NEGOTIATED = {"kex_algorithms": "key exchange method", "server_host_key_algorithms": "host key algorithm"} | {
    f"{kind}_algorithms_{way}": name
    for kind, name in (("encryption", "cipher"), ("mac", "MAC"), ("compression", "compression method"))
    for way in ("client_to_server", "server_to_client")
}
"""Name-lists of a KEXINIT on which both sides must agree (RFC 4253 section 7.1), with the name of what they list."""


@check("TPE251", "ssh-protocol-below-2", Severity.HIGH, protocol="ssh")
def protocol_below_2(match: Match) -> Iterator[Issue]:
    """Flags: an identification string with a protocol version below 2.0.

    Severity: medium for 1.99 (both versions offered), high for anything older.

    Why: SSH 1 protects integrity with a CRC and has known ways to decrypt and insert; the row demands SSH version 2.

    Evidence: the frames of the identification strings.

    Remedy: Disable SSH protocol version 1 on the side that announces it.
    """
    old = [
        (item, identification)
        for item, identification in messages(match.conversation.dissection.items, Identification)
        if identification.protoversion != "2.0"
    ]
    if old:
        announced = " and ".join(
            f"the {role(item.direction)} announces {identification.protoversion}" for item, identification in old
        )
        both_offered = all(identification.protoversion == "1.99" for _, identification in old)
        yield Issue(
            f"SSH protocol below 2.0: {announced}.",
            cited_frames(item.frame for item, _ in old),
            Severity.MEDIUM if both_offered else None,
        )


@check("TPE252", "ssh-key-exchange-broken", Severity.MEDIUM, protocol="ssh")
def key_exchange_broken(match: Match) -> Iterator[Issue]:
    """Flags: a negotiated key exchange method that is broken today, or a group exchange with a prime below 2048 bits.

    Severity: medium for a group of 1024 bits, an RSA key of 1024 bits and a short prime; low for a group exchange with
    SHA-1.

    Why: who records the session can compute its keys and read all of it later, passwords included.

    Evidence: the two KEXINIT messages; for a short prime, the message that carries it.

    Remedy: Remove SHA-1 and 1024-bit key exchange methods on both sides and offer curve25519-sha256 or better.
    """
    facts = facts_of(match)
    yield from broken_algorithms("key exchange method", (facts.kex,), match)
    minimum = policy().shortest_prime
    if facts.group_bits is not None and facts.group_bits < minimum:
        groups = messages(match.conversation.dissection.items, GexGroup)
        yield Issue(
            f"The server picked a Diffie-Hellman group of {facts.group_bits} bits; {minimum} are needed.",
            cited_frames(item.frame for item, _ in groups),
        )


@check("TPE253", "ssh-cipher-broken", Severity.HIGH, protocol="ssh")
def cipher_broken(match: Match) -> Iterator[Issue]:
    """Flags: a negotiated cipher that is broken today: none, DES, RC4, blocks of 64 bits, CBC mode.

    Severity: high for none, DES and RC4; medium for blocks of 64 bits; low for CBC mode.

    Why: the session can be read, at once or with recorded volume.

    Evidence: the two KEXINIT messages.

    Remedy: Allow only AES in CTR or GCM mode and ChaCha20-Poly1305 as SSH ciphers.
    """
    facts = facts_of(match)
    yield from broken_algorithms("cipher", (facts.cipher_client_to_server, facts.cipher_server_to_client), match)


@check("TPE254", "ssh-mac-broken", Severity.MEDIUM, protocol="ssh")
def mac_broken(match: Match) -> Iterator[Issue]:
    """Flags: a negotiated MAC that is broken today: none, or MD5.

    Severity: high for none, medium for MD5.

    Why: packets can be changed or inserted without notice.

    Evidence: the two KEXINIT messages.

    Remedy: Allow only HMAC with SHA-2, or ciphers that authenticate by themselves, as SSH MACs.
    """
    facts = facts_of(match)
    yield from broken_algorithms("MAC", (facts.mac_client_to_server, facts.mac_server_to_client), match)


@check("TPE255", "ssh-host-key-broken", Severity.MEDIUM, protocol="ssh")
def host_key_broken(match: Match) -> Iterator[Issue]:
    """Flags: a negotiated host key algorithm that is broken today, or an RSA host key below 2048 bits.

    Severity: high for none, medium for DSA and a short RSA key, low for signatures with SHA-1.

    Why: an impostor can forge the server's proof and stand in the middle.

    Evidence: the two KEXINIT messages; for a short key, the message that carries it.

    Remedy: Give the server an Ed25519, ECDSA or RSA host key of at least 2048 bits and disable ssh-dss and ssh-rsa.
    """
    facts = facts_of(match)
    yield from broken_algorithms("host key algorithm", (facts.host_key,), match)
    minimum = policy().shortest_rsa_key
    if facts.host_key_bits is not None and facts.host_key_bits < minimum:
        replies = messages(match.conversation.dissection.items, KexReply)
        yield Issue(
            f"The server's RSA host key has {facts.host_key_bits} bits; {minimum} are needed.",
            cited_frames(item.frame for item, _ in replies),
        )


@check("TPE256", "ssh-key-exchange-not-completed", Severity.MEDIUM, protocol="ssh")
def key_exchange_not_completed(match: Match) -> Iterator[Issue]:
    """Flags: a connection that was closed after both identification strings and before any NEWKEYS.

    Why: without a key exchange there is no session, so the row does not do its work.

    Evidence: the last frame with data of each side that closed; a capture that merely ends is not flagged.

    Remedy: Compare the algorithms that both sides offer and read the SSH server's log for the refusal.
    """
    conversation, facts = match.conversation, facts_of(match)
    if facts.key_exchange_completed or not (facts.client_banner and facts.server_banner):
        return
    identifications = messages(conversation.dissection.items, Identification)
    ssh1 = any(identification.protoversion not in ("2.0", "1.99") for _, identification in identifications)
    if ssh1 or conversation.dissection.malformed:
        return  # SSH 1 has no NEWKEYS; broken packets are a finding of their own
    closing_frames = [stream.marks[-1].frame for stream in conversation.head.streams if stream.ends]
    if closing_frames:
        reason = failure_reason(match)
        yield Issue(
            f"The connection was closed before the key exchange was completed{reason}.", cited_frames(closing_frames)
        )


@check("TPE257", "ssh-terrapin", Severity.LOW, protocol="ssh", aggregated=True)
def terrapin(match: Match) -> Iterator[Issue]:
    """Flags: ChaCha20-Poly1305, or CBC with encrypt-then-MAC, without strict key exchange on both sides.

    Why: who sits on the path can drop the first encrypted messages unnoticed, and with them protections that the two
    sides would have agreed upon (Terrapin, CVE-2023-48795).

    Evidence: the two KEXINIT messages: cipher and MAC agreed upon, and who lists a kex-strict name; and how many base
    stations are concerned.

    Remedy: Update the SSH software of the side without strict key exchange, or allow only AES-GCM and AES-CTR.
    """
    facts = facts_of(match)
    negotiated = (
        (facts.cipher_client_to_server, facts.mac_client_to_server),
        (facts.cipher_server_to_client, facts.mac_server_to_client),
    )
    exposed = dict.fromkeys(
        cipher if cipher.startswith("chacha20-poly1305") else f"{cipher} with {mac}"
        for cipher, mac in negotiated
        if cipher and (cipher.startswith("chacha20-poly1305") or ("-cbc" in cipher and "-etm@" in (mac or "")))
    )
    if facts.strict_kex is False and exposed:
        yield Issue(f"Negotiated cipher {' and '.join(exposed)} without strict key exchange.", kexinit_frames(match))


@check("TPE258", "ssh-strict-key-exchange-broken", Severity.MEDIUM, protocol="ssh")
def strict_key_exchange_broken(match: Match) -> Iterator[Issue]:
    """Flags: a message that does not belong into a key exchange which both sides want to be strict.

    Why: both sides must end such a session; the message is what an attacker inserts for Terrapin (CVE-2023-48795).

    Evidence: an IGNORE, UNIMPLEMENTED or DEBUG message before NEWKEYS.

    Remedy: Look for who sits between the base station and TPE and changes what is sent.
    """
    if facts_of(match).strict_kex:
        for item, packet in messages(match.conversation.dissection.items, Packet):
            if packet.message_number in OUT_OF_PLACE:
                sender = role(item.direction)
                yield Issue(
                    f"Message {packet.message_number} of the {sender} breaks a strict key exchange.", (item.frame,)
                )


@check("TPE259", "ssh-preface-lines", Severity.INFO, protocol="ssh", kind=Kind.NOTICE)
def preface_lines(match: Match) -> Iterator[Issue]:
    """Flags: lines that the server sent before its identification string.

    Why: they are allowed (RFC 4253 section 4.2), but servers seldom send them, and proxies or wrappers do.

    Evidence: the lines themselves.

    Remedy: Make sure that the SSH server itself answers, and nothing in its place.
    """
    lines = messages(match.conversation.dissection.items, PrefaceLine)
    if lines:
        count = f"{len(lines)} lines" if len(lines) > 1 else "a line"
        sentence = f"The server sent {count} before its identification string: {lines[0][1].text[:80]!a}."
        yield Issue(sentence, cited_frames(item.frame for item, _ in lines))


@check("TPE260", "ssh-out-of-order", Severity.MEDIUM, protocol="ssh")
def out_of_order(match: Match) -> Iterator[Issue]:
    """Flags: a session whose beginning is in the capture, and which skips a step of the key exchange: NEWKEYS without
    KEXINIT or without the messages of a key exchange method, requests in clear.

    Why: no SSH software sends that; something else uses the port and only looks like SSH.

    Evidence: the first message of each side that is out of order (RFC 4253, section 7).

    Remedy: Find out which program opened the connection on the base station, and what answers it.
    """
    streams = match.conversation.head.streams
    found = [
        (item.frame, f"the {role(item.direction)} sends {clause}")
        for item, clause in disorders(match.conversation.dissection.items)
        if streams[item.direction].begins
    ]
    if found:
        sentence = f"The key exchange skips a step: {' and '.join(clause for _, clause in found)}."
        yield Issue(sentence, cited_frames(frame for frame, _ in found))


@check("TPE250", "ssh-not-encrypted", Severity.HIGH, protocol="ssh")
def not_encrypted(match: Match) -> Iterator[Issue]:
    """Flags: readable content after NEWKEYS, where SSH encrypts. The cipher "none" is a finding of its own, TPE253.

    Why: what the row is to protect goes in clear, after packets that look like SSH.

    Evidence: samples of the whole session: half of the bytes of ciphertext have the highest bit set, and 32 bytes of it
    in a row are text once in 10**13. No byte of the content is repeated here.

    Remedy: Find out which program opened the connection on the base station, and what it sends.
    """
    facts, secure = facts_of(match), match.conversation.head.secure
    found = [
        (item.frame, item.direction)
        for item, message in messages(match.conversation.dissection.items, NewKeys)
        if message.readable
    ]
    if secure is not None:
        found += [(event.frame, event.direction) for event in secure.events if event.kind == columns.CLEAR_CONTENT]
    ciphers = facts.cipher_client_to_server, facts.cipher_server_to_client
    found = [(frame, direction) for frame, direction in found if ciphers[direction] != "none"]
    if found:
        senders = " and ".join(f"the {role(side)}" for side in dict.fromkeys(direction for _, direction in found))
        sentence = f"Readable content from {senders} after NEWKEYS, where SSH encrypts."
        yield Issue(sentence, cited_frames(frame for frame, _ in found))


CHECKS = (
    protocol_below_2,
    key_exchange_broken,
    cipher_broken,
    mac_broken,
    host_key_broken,
    key_exchange_not_completed,
    terrapin,
    strict_key_exchange_broken,
    preface_lines,
    out_of_order,
    not_encrypted,
)


def facts_of(match: Match) -> SshFacts:
    """The facts of a conversation; empty where there are none."""
    facts = match.conversation.dissection.facts
    return facts if isinstance(facts, SshFacts) else SshFacts()


def broken_algorithms(kind: str, names: Collection[str | None], match: Match) -> Iterator[Issue]:
    """One issue for all negotiated algorithms of a kind that are considered broken; the worst sets its severity."""
    objections = {name: policy().objection(kind, name) for name in names if name is not None}
    broken = {name: objection for name, objection in objections.items() if objection is not None}
    if broken:
        severity = max(objection.severity for objection in broken.values())
        reasons = " and ".join(f"{name} ({objection.reason})" for name, objection in broken.items())
        yield Issue(f"Negotiated {kind} {reasons}.", kexinit_frames(match), severity)


def kexinit_frames(match: Match) -> tuple[Frame, ...]:
    """The frames of the KEXINIT messages."""
    return cited_frames(item.frame for item, _ in messages(match.conversation.dissection.items, KexInit))


def failure_reason(match: Match) -> str:
    """Why a key exchange failed, as the end of a sentence; empty where the packets do not tell."""
    facts = facts_of(match)
    for item, disconnect in messages(match.conversation.dissection.items, Disconnect):
        description = disconnect.description or "no description"
        return f"; the {role(item.direction)} gave reason {disconnect.reason_code}, {description}"
    if facts._client and facts._server:
        for field, name in NEGOTIATED.items():
            offered_by_server = frozenset(getattr(facts._server, field))
            if offered_by_server.isdisjoint(getattr(facts._client, field)):
                return f": the two sides have no {name} in common"
    return ""


def role(direction: Direction) -> str:
    """Name of the side that sends in a direction."""
    return "client" if direction is Direction.ORIGINATOR else "server"
