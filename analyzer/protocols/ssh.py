"""SSH before encryption (RFC 4253): identification strings, key exchange, the algorithms that both sides settled on."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item
from analyzer.safetext import SafeText, decode_text
from analyzer.wire import Reader

NAME = "ssh"

IDENTIFICATION = re.compile(rb"SSH-([0-9]{1,3}\.[0-9]{1,3})-([^ ]*) ?(.*)", re.DOTALL)
IDENTIFICATION_LIMIT = 255
"""Bytes with CR LF (RFC 4253, section 4.2)."""
LINE_LIMIT = 8192
LINES_LIMIT = 1024
"""A client of OpenSSH hears no more lines, and none longer, before the server's identification string."""
PACKET_MINIMUM = 12
"""``packet_length`` of the shortest packet (RFC 4253, section 6)."""
PACKET_LIMIT = 256 * 1024
"""OpenSSH's; RFC 4253 obliges nobody to more than 35000 bytes."""

DISCONNECT = 1
OUT_OF_PLACE = (2, 3, 4)
"""IGNORE, UNIMPLEMENTED and DEBUG, which no strict key exchange allows (draft-miller-sshm-strict-kex, section 3)."""
KEXINIT = 20
NEWKEYS = 21
NEWKEYS_LENGTH = 16
"""Bytes of its packet, padded as no cipher demands otherwise."""
REPLIES = (31, 33)
"""KEXDH_REPLY, KEX_ECDH_REPLY (both 31) and KEX_DH_GEX_REPLY; 31 is also KEX_DH_GEX_GROUP (RFC 4419)."""

AEAD = ("chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
"""Ciphers that authenticate by themselves: no MAC is negotiated with them."""

EXT_INFO = ("ext-info-c", "ext-info-s")
"""Of client and server: it understands SSH_MSG_EXT_INFO (RFC 8308, section 2.1)."""
STRICT = (
    frozenset(("kex-strict-c-v00@openssh.com", "kex-strict-c")),
    frozenset(("kex-strict-s-v00@openssh.com", "kex-strict-s")),
)
"""Of client and server: it follows the rules that came with Terrapin (draft-miller-sshm-strict-kex, section 2)."""
INDICATORS = frozenset((*EXT_INFO, *STRICT[0], *STRICT[1]))
"""Names among the key exchange methods that are none and never agreed upon."""


class PrefaceLine(NamedTuple):
    """A line that a server sent before its identification string (RFC 4253, section 4.2)."""

    text: str


class Identification(NamedTuple):
    """The identification string (RFC 4253, section 4.2)."""

    text: str
    """The whole line: ``SSH-2.0-OpenSSH_9.2p1 Debian-2``."""
    protoversion: str
    softwareversion: str
    comments: str


class KexInit(NamedTuple):
    """SSH_MSG_KEXINIT (RFC 4253, section 7.1): what one side offers, best first."""

    kex_algorithms: tuple[str, ...]
    server_host_key_algorithms: tuple[str, ...]
    encryption_algorithms_client_to_server: tuple[str, ...]
    encryption_algorithms_server_to_client: tuple[str, ...]
    mac_algorithms_client_to_server: tuple[str, ...]
    mac_algorithms_server_to_client: tuple[str, ...]
    compression_algorithms_client_to_server: tuple[str, ...]
    compression_algorithms_server_to_client: tuple[str, ...]
    languages_client_to_server: tuple[str, ...]
    languages_server_to_client: tuple[str, ...]
    first_kex_packet_follows: bool


class KexReply(NamedTuple):
    """The server's half of a key exchange, with its host key K_S (RFC 4253, section 8; RFC 4419; RFC 5656)."""

    message_number: int
    key_format: str
    """First string of K_S: ``ssh-ed25519``."""
    fingerprint: str
    """As ``ssh-keygen -l`` prints it: ``SHA256:…``."""
    bits: int | None
    """Length of an RSA modulus; ``None`` for other keys."""


class GexGroup(NamedTuple):
    """SSH_MSG_KEX_DH_GEX_GROUP (RFC 4419, section 3): the group that the server picked."""

    bits: int
    """Length of the prime."""


class Disconnect(NamedTuple):
    """SSH_MSG_DISCONNECT (RFC 4253, section 11.1)."""

    reason_code: int
    description: str


class NewKeys(NamedTuple):
    """SSH_MSG_NEWKEYS (RFC 4253, section 7.3): all that follows is encrypted."""


class Packet(NamedTuple):
    """Any other message in clear."""

    message_number: int


@dataclass(frozen=True, slots=True)
class SshFacts(Facts):
    """What both sides showed before encryption. Algorithms are those negotiated (RFC 4253, section 7.1)."""

    client_banner: SafeText | None = None
    server_banner: SafeText | None = None
    kex: SafeText | None = None
    host_key: SafeText | None = None
    cipher_client_to_server: SafeText | None = None
    cipher_server_to_client: SafeText | None = None
    mac_client_to_server: SafeText | None = None
    """``None`` too where the cipher needs no MAC."""
    mac_server_to_client: SafeText | None = None
    compression_client_to_server: SafeText | None = None
    compression_server_to_client: SafeText | None = None
    host_key_fingerprint: str | None = None
    host_key_bits: int | None = None
    """Of an RSA key."""
    group_bits: int | None = None
    """Of the prime, where the server picked one (group exchange)."""
    kex_guess: SafeText | None = None
    """A side sent its first key exchange packet before it knew the other's offer (first_kex_packet_follows): ``right``
    or, and then that packet does not count, ``wrong``."""
    strict_kex: bool | None = None
    """Both sides demand that nothing but the key exchange stands before NEWKEYS; ``None``: an offer was not seen."""
    ext_info: tuple[SafeText, ...] = ()
    """Who understands SSH_MSG_EXT_INFO: ``client``, ``server``."""
    preface_lines: int | None = None
    """Lines that the server sent before its identification string."""
    key_exchange_completed: bool | None = None
    """``True``: NEWKEYS was seen. ``None``: it was not; whether the capture should have shown it is another matter."""
    _client: KexInit | None = None
    _server: KexInit | None = None


def probe(head: Head) -> bool:
    """An identification string on either side, the server's possibly after other lines."""
    if head.transport != "tcp":
        return False
    client, server = head.streams[Direction.ORIGINATOR].data, head.streams[Direction.RESPONDER].data
    return client.startswith(b"SSH-") or server.startswith(b"SSH-") or (not client and b"\nSSH-" in server[:4096])


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    """One side up to its NEWKEYS; of SSH 1 the identification string only."""
    lines = 0
    start = reader.pos
    while not (line := reader.line(LINE_LIMIT, "identification string")).startswith(b"SSH-"):
        if direction is Direction.ORIGINATOR:
            reader.malformed("identification string", "a client's first line does not begin with SSH-", start)
        lines += 1
        if lines > LINES_LIMIT:
            reader.malformed("identification string", f"more than {LINES_LIMIT} lines stand before it", start)
        yield PrefaceLine(decode_text(line))
        start = reader.pos
    found = IDENTIFICATION.fullmatch(line)
    if found is None:
        reader.malformed("identification string", "is not SSH-protoversion-softwareversion", start)
    if reader.pos - start > IDENTIFICATION_LIMIT:
        reader.malformed("identification string", f"takes more than {IDENTIFICATION_LIMIT} bytes", start)
    protoversion = found[1].decode("ascii")
    yield Identification(decode_text(line), protoversion, decode_text(found[2]), decode_text(found[3]))

    if protoversion not in ("2.0", "1.99"):
        return
    if protoversion == "1.99" and reader.peek(6)[5:] not in (b"", bytes([KEXINIT])):
        return  # this server was asked for SSH 1 and answers in its packet format
    while reader.has_more:
        message = packet(reader)
        yield message
        if isinstance(message, NewKeys):
            return


def packet(reader: Reader) -> object:
    """One unencrypted binary packet (RFC 4253, section 6)."""
    start = reader.pos
    length = reader.u32("packet_length")
    if not PACKET_MINIMUM <= length <= PACKET_LIMIT:
        reader.malformed("packet_length", f"{length} is not between {PACKET_MINIMUM} and {PACKET_LIMIT}", start)
    with reader.block(length, "packet") as body:
        padding = body.u8("padding_length")
        if not 4 <= padding <= length - 2:
            body.malformed("padding_length", f"{padding} does not fit a packet of {length} bytes", start + 4)
        with body.block(length - 1 - padding, "payload") as payload:
            found = message(payload)
        body.take(padding, "random padding")
    return found


def message(payload: Reader) -> object:
    """The message in a packet's payload."""
    number = payload.u8("message number")
    if number == KEXINIT:
        payload.take(16, "cookie")
        return offer(payload)
    if number == NEWKEYS:
        return NewKeys()
    if number == DISCONNECT:
        reason = payload.u32("reason code")
        description = decode_text(string(payload, "description"))
        payload.rest("language tag")
        return Disconnect(reason, description)
    if number in REPLIES:
        return reply(payload, number)
    payload.rest("payload")
    return Packet(number)


def offer(payload: Reader) -> KexInit:
    """SSH_MSG_KEXINIT behind its cookie (RFC 4253, section 7.1)."""
    found = KexInit(
        name_list(payload, "kex_algorithms"),
        name_list(payload, "server_host_key_algorithms"),
        name_list(payload, "encryption_algorithms_client_to_server"),
        name_list(payload, "encryption_algorithms_server_to_client"),
        name_list(payload, "mac_algorithms_client_to_server"),
        name_list(payload, "mac_algorithms_server_to_client"),
        name_list(payload, "compression_algorithms_client_to_server"),
        name_list(payload, "compression_algorithms_server_to_client"),
        name_list(payload, "languages_client_to_server"),
        name_list(payload, "languages_server_to_client"),
        payload.u8("first_kex_packet_follows") != 0,
    )
    payload.take(4, "reserved")
    return found


NEGOTIATED = KexInit._fields[:8]
"""The lists of which one algorithm each is agreed upon."""


def string(reader: Reader, field: str) -> bytes:
    """A ``string`` (RFC 4251, section 5)."""
    return reader.take(reader.u32(field), field)


def name_list(reader: Reader, field: str) -> tuple[str, ...]:
    """A ``name-list`` (RFC 4251, section 5)."""
    raw = string(reader, field)
    return tuple(decode_text(raw, len(raw)).split(",")) if raw else ()


def reply(payload: Reader, number: int) -> object:
    """A key exchange reply if it holds a host key; the group of a group exchange shares its number."""
    start = payload.peek(8)
    outer, inner = int.from_bytes(start[:4], "big"), int.from_bytes(start[4:], "big")
    if number == 31 and not 4 <= inner + 4 <= outer:  # the first bytes of a prime are no length
        prime = string(payload, "p")
        if not payload.has_more:  # a token of a GSS-API key exchange (RFC 4462) or a secret of an RSA one (RFC 4432)
            return Packet(number)
        payload.rest("g")
        return GexGroup(int.from_bytes(prime, "big").bit_length())
    with payload.block(payload.u32("K_S"), "K_S") as key:
        blob = key.peek(key.left)
        key_format = string(key, "host key format")
        bits = None
        if key_format == b"ssh-rsa":
            string(key, "e")
            bits = int.from_bytes(string(key, "n"), "big").bit_length()
        key.rest("K_S")
    payload.rest("key exchange reply")
    fingerprint = "SHA256:" + b64encode(sha256(blob).digest()).decode("ascii").rstrip("=")
    return KexReply(number, decode_text(key_format), fingerprint, bits)


def facts(items: Sequence[Item]) -> SshFacts:
    """Banners, and what the two offers lead to."""
    banners: dict[Direction, str] = {}
    offers: dict[Direction, KexInit] = {}
    for item in items:
        if isinstance(item.message, KexInit):
            offers.setdefault(item.direction, item.message)
    client, server = offers.get(Direction.ORIGINATOR), offers.get(Direction.RESPONDER)
    guessed = [side for side in (client, server) if side is not None and side.first_kex_packet_follows]
    right = client is not None and server is not None and same_guess(client, server)
    # A wrong guess is followed by one packet that does not count (RFC 4253, section 7).
    ignored = {way for way, side in offers.items() if side.first_kex_packet_follows and len(offers) == 2 and not right}
    key: KexReply | None = None
    group: GexGroup | None = None
    completed = False
    lines = 0
    for item in items:
        said = item.message
        if item.direction in ignored and isinstance(said, (KexReply, GexGroup, Packet)):
            ignored.remove(item.direction)
        elif isinstance(said, Identification):
            banners.setdefault(item.direction, said.text)
        elif isinstance(said, PrefaceLine):
            lines += 1
        elif isinstance(said, KexReply):
            key = key or said
        elif isinstance(said, GexGroup):
            group = group or said
        elif isinstance(said, NewKeys):
            completed = True
    chosen = dict[str, str | None]()
    strict = None
    if client is not None and server is not None:
        chosen = {field: agreed(getattr(client, field), getattr(server, field)) for field in NEGOTIATED}
        for way in ("client_to_server", "server_to_client"):
            if chosen[f"encryption_algorithms_{way}"] in AEAD:
                chosen[f"mac_algorithms_{way}"] = None
        strict = all(
            not demands.isdisjoint(side.kex_algorithms) for demands, side in zip(STRICT, (client, server), strict=True)
        )
    return SshFacts(
        client_banner=banners.get(Direction.ORIGINATOR),
        server_banner=banners.get(Direction.RESPONDER),
        kex=chosen.get("kex_algorithms"),
        host_key=chosen.get("server_host_key_algorithms"),
        cipher_client_to_server=chosen.get("encryption_algorithms_client_to_server"),
        cipher_server_to_client=chosen.get("encryption_algorithms_server_to_client"),
        mac_client_to_server=chosen.get("mac_algorithms_client_to_server"),
        mac_server_to_client=chosen.get("mac_algorithms_server_to_client"),
        compression_client_to_server=chosen.get("compression_algorithms_client_to_server"),
        compression_server_to_client=chosen.get("compression_algorithms_server_to_client"),
        host_key_fingerprint=key.fingerprint if key else None,
        host_key_bits=key.bits if key else None,
        group_bits=group.bits if group else None,
        kex_guess=None if not guessed or len(offers) < 2 else "right" if right else "wrong",
        strict_kex=strict,
        ext_info=tuple(
            name
            for name, indicator, side in zip(("client", "server"), EXT_INFO, (client, server), strict=True)
            if side is not None and indicator in side.kex_algorithms
        ),
        preface_lines=lines or None,
        key_exchange_completed=completed or None,
        _client=client,
        _server=server,
    )


def same_guess(client: KexInit, server: KexInit) -> bool:
    """Whether both prefer the same key exchange method and host key algorithm (RFC 4253, section 7)."""
    fields = ("kex_algorithms", "server_host_key_algorithms")
    return all(getattr(client, field)[:1] == getattr(server, field)[:1] for field in fields)


def agreed(client: Sequence[str], server: Sequence[str]) -> str | None:
    """The first of the client's algorithms that the server has too (RFC 4253, section 7.1)."""
    known = frozenset(server) - INDICATORS
    return next((name for name in client if name in known), None)
