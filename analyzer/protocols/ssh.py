"""SSH before encryption (RFC 4253): identification strings, key exchange, negotiated algorithms."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item
from analyzer.safetext import SafeText, decode_text
from analyzer.wire import Reader

NAME = "ssh"

IDENTIFICATION = re.compile(rb"SSH-([0-9]{1,3}\.[0-9]{1,3})-([^ ]*) ?(.*)", re.DOTALL)
MAX_IDENTIFICATION_BYTES = 255
"""With CR LF (RFC 4253, section 4.2)."""
MAX_LINE_BYTES = 8192
MAX_PREFACE_LINES = 1024
"""Limits of OpenSSH's client for the lines before the server's identification string."""
MIN_PACKET_BYTES = 12
"""``packet_length`` of the shortest packet (RFC 4253, section 6)."""
MAX_PACKET_BYTES = 256 * 1024
"""OpenSSH's limit; RFC 4253 requires support of 35000 bytes only."""

DISCONNECT = 1
TRANSPORT = range(1, 5)
"""DISCONNECT, IGNORE, UNIMPLEMENTED and DEBUG, which either side may send at any time (RFC 4253, section 11)."""
KEY_EXCHANGE = range(30, 50)
"""Messages of the key exchange method (RFC 4250, section 4.1.2)."""
OUT_OF_PLACE = (2, 3, 4)
"""IGNORE, UNIMPLEMENTED and DEBUG, which a strict key exchange forbids (draft-miller-sshm-strict-kex, section 3)."""
KEXINIT = 20
NEWKEYS = 21
NEWKEYS_LENGTH = 16
"""Bytes of its packet with the minimum padding."""
REPLIES = (31, 33)
"""KEXDH_REPLY and KEX_ECDH_REPLY (31), KEX_DH_GEX_REPLY (33); 31 is also KEX_DH_GEX_GROUP (RFC 4419)."""

AEAD = ("chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
"""Ciphers with authentication of their own: no MAC is negotiated with them."""

EXT_INFO = ("ext-info-c", "ext-info-s")
"""Indicators of client and server: it supports SSH_MSG_EXT_INFO (RFC 8308, section 2.1)."""
STRICT = (
    frozenset(("kex-strict-c-v00@openssh.com", "kex-strict-c")),
    frozenset(("kex-strict-s-v00@openssh.com", "kex-strict-s")),
)
"""Indicators of client and server: it supports strict key exchange, the remedy for Terrapin
(draft-miller-sshm-strict-kex, section 2)."""
INDICATORS = frozenset((*EXT_INFO, *STRICT[0], *STRICT[1]))
"""Names in the list of key exchange methods that are indicators and never negotiated."""


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
    """SSH_MSG_KEXINIT (RFC 4253, section 7.1): the algorithms that one side offers, preferred ones first."""

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
    """The server's key exchange reply with its host key K_S (RFC 4253, section 8; RFC 4419; RFC 5656)."""

    message_number: int
    key_format: str
    """First string of K_S: ``ssh-ed25519``."""
    fingerprint: str
    """As ``ssh-keygen -l`` prints it: ``SHA256:…``."""
    bits: int | None
    """Length of an RSA modulus; ``None`` for other keys."""


class GexGroup(NamedTuple):
    """SSH_MSG_KEX_DH_GEX_GROUP (RFC 4419, section 3): the group that the server chose."""

    bits: int
    """Length of the prime."""


class Disconnect(NamedTuple):
    """SSH_MSG_DISCONNECT (RFC 4253, section 11.1)."""

    reason_code: int
    description: str


class NewKeys(NamedTuple):
    """SSH_MSG_NEWKEYS (RFC 4253, section 7.3): all that follows is encrypted."""

    readable: bool = False
    """Text follows instead, as far as the head of the stream was kept."""


READABLE = re.compile(rb"[\t\n\r -~]{48}")
"""Text of a length that no ciphertext holds by chance: one byte in three is printable."""


class Packet(NamedTuple):
    """Any other message in clear."""

    message_number: int


@dataclass(frozen=True, slots=True)
class SshFacts(Facts):
    """Facts of an SSH connection before encryption. Algorithms: as negotiated (RFC 4253, section 7.1)."""

    client_banner: SafeText | None = None
    server_banner: SafeText | None = None
    kex: SafeText | None = None
    host_key: SafeText | None = None
    cipher_client_to_server: SafeText | None = None
    cipher_server_to_client: SafeText | None = None
    mac_client_to_server: SafeText | None = None
    """``None`` also if the cipher needs no MAC."""
    mac_server_to_client: SafeText | None = None
    compression_client_to_server: SafeText | None = None
    compression_server_to_client: SafeText | None = None
    host_key_fingerprint: str | None = None
    host_key_bits: int | None = None
    """Length of an RSA key; ``None`` for other keys."""
    group_bits: int | None = None
    """Length of the prime that the server chose (group exchange)."""
    kex_guess: SafeText | None = None
    """Whether the guess of a side that sent its first key exchange packet before it had the other's offer
    (first_kex_packet_follows) was ``right`` or ``wrong``; a packet after a wrong guess is ignored."""
    strict_kex: bool | None = None
    """Both sides support strict key exchange; ``None``: the capture lacks an offer."""
    ext_info: tuple[SafeText, ...] = ()
    """Sides that support SSH_MSG_EXT_INFO: ``client``, ``server``."""
    preface_lines: int | None = None
    """Lines that the server sent before its identification string."""
    key_exchange_completed: bool | None = None
    """``True``: NEWKEYS is in the capture. ``None``: it is not, possibly because the capture is incomplete."""
    _client: KexInit | None = None
    _server: KexInit | None = None


def probe(head: Head) -> bool:
    """An identification string on either side; the server may send other lines first."""
    if head.transport != "tcp":
        return False
    client, server = head.streams[Direction.ORIGINATOR].data, head.streams[Direction.RESPONDER].data
    return client.startswith(b"SSH-") or server.startswith(b"SSH-") or (not client and b"\nSSH-" in server[:4096])


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    """One side up to its NEWKEYS; of SSH 1 the identification string only."""
    lines = 0
    start = reader.pos
    while not (line := reader.line(MAX_LINE_BYTES, "identification string")).startswith(b"SSH-"):
        if direction is Direction.ORIGINATOR:
            reader.malformed("identification string", "a client's first line does not begin with SSH-", start)
        lines += 1
        if lines > MAX_PREFACE_LINES:
            reader.malformed("identification string", f"more than {MAX_PREFACE_LINES} lines stand before it", start)
        yield PrefaceLine(decode_text(line))
        start = reader.pos
    match = IDENTIFICATION.fullmatch(line)
    if match is None:
        reader.malformed("identification string", "is not SSH-protoversion-softwareversion", start)
    if reader.pos - start > MAX_IDENTIFICATION_BYTES:
        reader.malformed("identification string", f"takes more than {MAX_IDENTIFICATION_BYTES} bytes", start)
    protoversion = match[1].decode("ascii")
    yield Identification(decode_text(line), protoversion, decode_text(match[2]), decode_text(match[3]))

    if protoversion not in ("2.0", "1.99"):
        return
    if protoversion == "1.99" and reader.peek(6)[5:] not in (b"", bytes([KEXINIT])):
        return  # the client wants SSH 1, whose packets have another format
    while reader.has_more:
        message = read_packet(reader)
        if isinstance(message, NewKeys):
            yield NewKeys(READABLE.search(reader.peek(reader.left)) is not None)
            return
        yield message


def read_packet(reader: Reader) -> object:
    """The message of one unencrypted binary packet (RFC 4253, section 6)."""
    start = reader.pos
    length = reader.u32("packet_length")
    if not MIN_PACKET_BYTES <= length <= MAX_PACKET_BYTES:
        reader.malformed("packet_length", f"{length} is not between {MIN_PACKET_BYTES} and {MAX_PACKET_BYTES}", start)
    with reader.block(length, "packet") as body:
        padding = body.u8("padding_length")
        if not 4 <= padding <= length - 2:
            body.malformed("padding_length", f"{padding} does not fit a packet of {length} bytes", start + 4)
        with body.block(length - 1 - padding, "payload") as payload:
            message = read_message(payload)
        body.take(padding, "random padding")
    return message


def read_message(payload: Reader) -> object:
    """The message in the payload of a packet."""
    number = payload.u8("message number")
    if number == KEXINIT:
        payload.take(16, "cookie")
        return read_kexinit(payload)
    if number == NEWKEYS:
        return NewKeys()
    if number == DISCONNECT:
        reason = payload.u32("reason code")
        description = decode_text(read_string(payload, "description"))
        payload.rest("language tag")
        return Disconnect(reason, description)
    if number in REPLIES:
        return read_reply(payload, number)
    payload.rest("payload")
    return Packet(number)


def read_kexinit(payload: Reader) -> KexInit:
    """SSH_MSG_KEXINIT after its cookie (RFC 4253, section 7.1)."""
    lists = [read_name_list(payload, field) for field in NAME_LISTS]
    follows = payload.u8("first_kex_packet_follows") != 0
    payload.take(4, "reserved")
    return KexInit._make((*lists, follows))


NAME_LISTS = KexInit._fields[:10]
NEGOTIATED = KexInit._fields[:8]
"""Name lists that negotiate one algorithm each."""


def read_string(reader: Reader, field: str) -> bytes:
    """A ``string`` (RFC 4251, section 5)."""
    return reader.take(reader.u32(field), field)


def read_name_list(reader: Reader, field: str) -> tuple[str, ...]:
    """A ``name-list`` (RFC 4251, section 5)."""
    raw = read_string(reader, field)
    return tuple(decode_text(raw, len(raw)).split(",")) if raw else ()


def read_reply(payload: Reader, number: int) -> object:
    """A key exchange reply, which holds a host key; or the group of a group exchange, which shares its number."""
    start = payload.peek(8)
    outer, inner = int.from_bytes(start[:4], "big"), int.from_bytes(start[4:], "big")
    if number == 31 and not 4 <= inner + 4 <= outer:  # a host key begins with a string, a prime does not
        prime = read_string(payload, "p")
        if not payload.has_more:  # GSS-API key exchange (RFC 4462) or RSA key exchange (RFC 4432)
            return Packet(number)
        payload.rest("g")
        return GexGroup(int.from_bytes(prime, "big").bit_length())
    with payload.block(payload.u32("K_S"), "K_S") as key:
        blob = key.peek(key.left)
        key_format = read_string(key, "host key format")
        bits = None
        if key_format == b"ssh-rsa":
            read_string(key, "e")
            bits = int.from_bytes(read_string(key, "n"), "big").bit_length()
        key.rest("K_S")
    payload.rest("key exchange reply")
    fingerprint = "SHA256:" + b64encode(sha256(blob).digest()).decode("ascii").rstrip("=")
    return KexReply(number, decode_text(key_format), fingerprint, bits)


def facts(items: Sequence[Item]) -> SshFacts:
    banners: dict[Direction, str] = {}
    offers: dict[Direction, KexInit] = {}
    for item in items:
        if isinstance(item.message, KexInit):
            offers.setdefault(item.direction, item.message)
    client, server = offers.get(Direction.ORIGINATOR), offers.get(Direction.RESPONDER)
    guesses = [offer for offer in offers.values() if offer.first_kex_packet_follows]
    right = client is not None and server is not None and same_guess(client, server)
    # The packet after a wrong guess is ignored (RFC 4253, section 7).
    ignored = {
        direction
        for direction, offer in offers.items()
        if offer.first_kex_packet_follows and len(offers) == 2 and not right
    }
    reply: KexReply | None = None
    group: GexGroup | None = None
    completed = False
    lines = 0
    for item in items:
        message = item.message
        if item.direction in ignored and isinstance(message, (KexReply, GexGroup, Packet)):
            ignored.remove(item.direction)
        elif isinstance(message, Identification):
            banners.setdefault(item.direction, message.text)
        elif isinstance(message, PrefaceLine):
            lines += 1
        elif isinstance(message, KexReply):
            reply = reply or message
        elif isinstance(message, GexGroup):
            group = group or message
        elif isinstance(message, NewKeys):
            completed = True
    chosen = negotiate(client, server)
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
        host_key_fingerprint=reply.fingerprint if reply else None,
        host_key_bits=reply.bits if reply else None,
        group_bits=group.bits if group else None,
        kex_guess=None if not guesses or len(offers) < 2 else "right" if right else "wrong",
        strict_kex=is_strict(client, server),
        ext_info=tuple(
            side
            for side, indicator, offer in zip(("client", "server"), EXT_INFO, (client, server), strict=True)
            if offer is not None and indicator in offer.kex_algorithms
        ),
        preface_lines=lines or None,
        key_exchange_completed=completed or None,
        _client=client,
        _server=server,
    )


def disorders(items: Sequence[Item]) -> Iterator[tuple[Item, str]]:
    """The first message of each side that skips a step of RFC 4253, section 7, with a clause that says so."""
    for direction in Direction:
        offered = exchanged = False
        for item in items:
            message = item.message
            if item.direction is not direction or isinstance(message, (PrefaceLine, Identification, Disconnect)):
                continue
            if isinstance(message, KexInit):
                offered = True
            elif isinstance(message, (KexReply, GexGroup)) or (
                isinstance(message, Packet) and message.message_number in KEY_EXCHANGE
            ):
                exchanged = True
                if not offered:
                    yield item, "a key exchange without KEXINIT"
                    break
            elif isinstance(message, NewKeys):
                if not offered:
                    yield item, "NEWKEYS without KEXINIT"
                elif not exchanged:
                    yield item, "NEWKEYS without a key exchange"
                break
            elif isinstance(message, Packet) and message.message_number not in TRANSPORT:
                yield item, f"message {message.message_number} in clear, before NEWKEYS"
                break


def negotiate(client: KexInit | None, server: KexInit | None) -> dict[str, str | None]:
    """Name list → negotiated algorithm (RFC 4253, section 7.1); empty if an offer is missing."""
    if client is None or server is None:
        return {}
    chosen = {field: first_common(getattr(client, field), getattr(server, field)) for field in NEGOTIATED}
    for way in ("client_to_server", "server_to_client"):
        if chosen[f"encryption_algorithms_{way}"] in AEAD:
            chosen[f"mac_algorithms_{way}"] = None
    return chosen


def is_strict(client: KexInit | None, server: KexInit | None) -> bool | None:
    """Whether both sides support strict key exchange; ``None``: an offer is missing."""
    if client is None or server is None:
        return None
    return all(
        not indicators.isdisjoint(offer.kex_algorithms)
        for indicators, offer in zip(STRICT, (client, server), strict=True)
    )


def same_guess(client: KexInit, server: KexInit) -> bool:
    """Whether both sides prefer the same key exchange method and host key algorithm (RFC 4253, section 7)."""
    fields = ("kex_algorithms", "server_host_key_algorithms")
    return all(getattr(client, field)[:1] == getattr(server, field)[:1] for field in fields)


def first_common(client: Sequence[str], server: Sequence[str]) -> str | None:
    """The first of the client's algorithms that the server supports, too (RFC 4253, section 7.1)."""
    known = frozenset(server) - INDICATORS
    return next((name for name in client if name in known), None)
