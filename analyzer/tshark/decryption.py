"""Decrypts IKE_AUTH and later IKE messages, and TLS 1.3 handshakes, with keys that the user provides.

tshark only decrypts. The plaintext goes through the same dissectors as all other bytes, so it yields the same messages
and facts, and the same checks apply. Keys reach tshark's process in files that only this user can read, and never
appear in any output.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from os import PathLike
from pathlib import Path
from typing import Any

from analyzer.capture import CaptureFile
from analyzer.conversations import Conversation, Conversations, KeyUse
from analyzer.dataclass import dataclass
from analyzer.expected import UsageError
from analyzer.heads import DIRECTIONS, Direction, Frame
from analyzer.messages import Item
from analyzer.protocols import Dissection, ike, tls
from analyzer.tshark import client
from analyzer.wire import Reader, StopParsing

SOURCE = "tshark"
"""Value of the fact ``decrypted``."""

KEY_FILE = 16 << 20
"""Maximum size of a key file in bytes."""

MAX_PORTS = 64
"""Maximum ports that tshark is told to decode as TLS."""
MAX_MESSAGES = 64
"""Maximum decrypted messages read per direction of a TLS connection; a handshake has seven."""

TLS_SECRET = re.compile("[A-Z][A-Z0-9_]* [0-9A-Fa-f]{32,} [0-9A-Fa-f]{32,}")
"""A line of an SSLKEYLOGFILE (draft-ietf-tls-keylogfile)."""
HEX, NAMED = '"?[0-9A-Fa-f]*"?', '"[^"\\\\]+"'
SPI = '"?[0-9A-Fa-f]{16}"?'
IKE_KEYS = re.compile(",".join((SPI, SPI, HEX, HEX, NAMED, HEX, HEX, NAMED)))
"""A line of Wireshark's ikev2_decryption_table: SPIs, keys, algorithms."""
IKE_1_KEYS = re.compile('"?[0-9A-Fa-f]{16}"?,"?[0-9A-Fa-f]+"?')
"""A line of Wireshark's ikev1_decryption_table: initiator's cookie, key."""
ESP_KEYS = re.compile(r'"(IPv4|IPv6|ANY)"(,"[^"\\]*"){7,8}')
"""A line of Wireshark's esp_sa."""


UNUSED = ("IKEv1", "ESP")
"""Kinds of keys that are recognised but decrypt nothing that is judged."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Where the user's keys are. The secrets themselves are never part of a ``repr``."""

    tls_keylog: str | None = None
    """Path, as given."""
    ike: str | None = None
    """Path, as given."""
    embedded: bool = False
    """Also use the keys that pcapng files carry."""


@dataclass(frozen=True, slots=True)
class Decrypted:
    """The flows, one conversation each, with their decrypted messages; and what each source of keys decrypted."""

    conversations: Conversations
    uses: tuple[KeyUse, ...]


IkePlaintext = Mapping[Frame, bytes]
"""Frame → decrypted IKE payload without padding."""

Ends = tuple[str, int, str, int]
"""Source address and port, destination address and port of a TCP segment."""


@dataclass(frozen=True, slots=True)
class TlsPlaintext:
    """A decrypted TLS 1.3 handshake message, or an alert (``kind`` -1)."""

    kind: int
    """HandshakeType (RFC 8446, section 4)."""
    data: bytes
    """Body."""
    frame: Frame


@dataclass(frozen=True, slots=True)
class Plaintext:
    """Everything that tshark decrypted."""

    ike: dict[Frame, bytes] = field(default_factory=dict)
    tls: defaultdict[Ends, list[TlsPlaintext]] = field(default_factory=lambda: defaultdict(list))


def decrypt(keys: Keys, captures: Sequence[CaptureFile], conversations: Conversations) -> Decrypted:
    """Add to the conversations what the keys decrypt.

    Raises :class:`UsageError` for a file without keys, :class:`CaptureError` if tshark fails.
    """
    files, sources = read_keys(keys)
    # Flows whose clear parts are equal may differ in their encrypted parts.
    flows = list(conversations.expand())
    query = query_for(flows, files, keys.embedded)
    plaintext = Plaintext() if query is None else run_tshark(captures, query)
    result = []
    decrypted: defaultdict[str, list[int]] = defaultdict(list)
    counts: defaultdict[str, int] = defaultdict(int)
    for flow in flows:
        dissection, count = flow.dissection, 0
        if flow.protocol == ike.NAME and plaintext.ike:
            dissection, count = add_ike(flow.dissection, plaintext.ike)
        elif flow.protocol == tls.NAME and plaintext.tls:
            dissection, count = add_tls(flow, plaintext.tls)
        if count:
            kind = "IKE" if flow.protocol == ike.NAME else "TLS"
            decrypted[kind].append(flow.id)
            counts[kind] += count
        result.append(flow._replace(dissection=dissection) if count else flow)
    uses = tuple(KeyUse(source, kind, counts[kind], tuple(decrypted[kind])) for kind, source in sources.items())
    return Decrypted(Conversations(result), uses)


# -- key files --------------------------------------------------------------------------------------------------


def read_keys(keys: Keys) -> tuple[dict[str, str], dict[str, str]]:
    """The files of tshark's profile that hold the keys (name → content), and the source of each kind of keys."""
    files: dict[str, str] = {}
    sources: dict[str, str] = {}
    if keys.tls_keylog is not None:
        files["keylog"] = key_lines(keys.tls_keylog, "an SSLKEYLOGFILE", (TLS_SECRET,))[0]
        sources["TLS"] = keys.tls_keylog
    if keys.ike is not None:
        expected = "Wireshark's ikev2_decryption_table or esp_sa"
        table, *others = key_lines(keys.ike, expected, (IKE_KEYS, IKE_1_KEYS, ESP_KEYS))
        if table:
            files["ikev2_decryption_table"] = table
            sources["IKE"] = keys.ike
        sources |= {kind: keys.ike for kind, lines in zip(UNUSED, others, strict=True) if lines}
    if keys.embedded and "TLS" not in sources:
        sources["TLS"] = "the capture itself"
    return files, sources


def key_lines(path: str | PathLike[str], expected: str, kinds: Sequence[re.Pattern[str]]) -> list[str]:
    """The lines of a key file by kind. An error names the number of an invalid line, never its content."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(KEY_FILE + 1)
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if len(content) > KEY_FILE:
        raise UsageError(f"{path}: is larger than {KEY_FILE >> 20} MiB, so it is not {expected}")
    found: list[list[str]] = [[] for _ in kinds]
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        line = line.strip("\x00 \t\r")
        if not line or line.startswith("#"):
            continue
        lines = next((lines for kind, lines in zip(kinds, found, strict=True) if kind.fullmatch(line)), None)
        if lines is None:
            raise UsageError(f"{path}: line {number} is no line of {expected}")
        lines.append(line)
    if not any(found):
        raise UsageError(f"{path}: holds no keys: it should be {expected}")
    return ["".join(f"{line}\n" for line in lines) for lines in found]


# -- tshark's output --------------------------------------------------------------------------------------------


def query_for(flows: Sequence[Conversation], files: Mapping[str, str], embedded: bool) -> client.Query | None:
    """The query for tshark; ``None`` if the captures hold nothing that such keys could decrypt."""
    protocols = {flow.protocol for flow in flows}
    filters, layers = [], ["frame", "ip", "ipv6", "tcp"]
    preferences = {"tcp.reassemble_out_of_order": "TRUE"}
    decode_as: dict[str, str] = {}
    if ike.NAME in protocols and "ikev2_decryption_table" in files:
        filters.append("(isakmp.enc.decrypted && !isakmp.ikev2.integrity_checksum)")
        layers.append("isakmp")
    if tls.NAME in protocols and ("keylog" in files or embedded):
        filters.append("(tls.record.opaque_type && (tls.handshake || tls.alert_message))")
        layers.append("tls")
        if "keylog" in files:
            preferences["tls.keylog_file"] = "profile/keylog"
        ports = dict.fromkeys(flow.responder.port for flow in flows if flow.protocol == tls.NAME)
        decode_as = {f"tcp.port=={port}": "tls" for port in list(ports)[:MAX_PORTS]}
    if not filters:
        return None
    return client.Query(
        layers=tuple(layers),
        display_filter=" || ".join(filters),
        decode_as=decode_as,
        preferences=preferences,
        files=files,
    )


def run_tshark(captures: Sequence[CaptureFile], query: client.Query) -> Plaintext:
    """Everything that tshark decrypts in the captures."""
    found = Plaintext()
    for index, capture in enumerate(captures):
        for layers in client.run(capture.path, query):
            frame = Frame(index, int(field_values(layers, "frame", "frame.number")[0]))
            found.ike.update((frame, data) for data in ike_plaintext(layers))
            for ends, message in tls_plaintext(layers, frame):
                found.tls[ends].append(message)
    return found


def field_values(layers: client.Layers, layer: str, name: str) -> list[str]:
    """All values of a field in all layers of a kind, outermost first."""
    found: list[str] = []
    parts = layers.get(layer)
    for part in parts if isinstance(parts, list) else [parts]:
        value: Any = part.get(f"{layer}_{name.replace('.', '_')}") if isinstance(part, dict) else None
        if value is not None:
            values = value if isinstance(value, list) else [value]
            found += [text for text in values if isinstance(text, str)]
    return found


def ike_plaintext(layers: client.Layers) -> Iterator[bytes]:
    """Content of an Encrypted payload without padding and pad length (RFC 7296, section 3.14)."""
    for raw in field_values(layers, "isakmp", "isakmp.enc.decrypted_raw")[:1]:
        data = bytes.fromhex(raw)
        padding = data[-1] + 1 if data else 0
        if 0 < padding <= len(data):
            yield data[:-padding]


def tls_plaintext(layers: client.Layers, frame: Frame) -> Iterator[tuple[Ends, TlsPlaintext]]:
    """The encrypted TLS 1.3 handshake messages and alerts of a frame."""
    address = "ip" if "ip" in layers else "ipv6"
    names = ((address, f"{address}.src"), ("tcp", "tcp.srcport"), (address, f"{address}.dst"), ("tcp", "tcp.dstport"))
    values = [field_values(layers, *name)[-1:] for name in names]
    if not all(values) or not field_values(layers, "tls", "tls.record.opaque_type"):
        return  # TLS over something other than TCP
    ends = values[0][0], int(values[1][0]), values[2][0], int(values[3][0])
    for raw in field_values(layers, "tls", "tls.handshake_raw"):
        message = bytes.fromhex(raw)
        if len(message) >= 4 and message[0] in READ and int.from_bytes(message[1:4], "big") == len(message) - 4:
            yield ends, TlsPlaintext(message[0], message[4:], frame)
    for raw in field_values(layers, "tls", "tls.alert_message_raw"):
        yield ends, TlsPlaintext(-1, bytes.fromhex(raw), frame)


READ = (8, 11, 13, 15, 20)
"""Handshake messages that TLS 1.3 encrypts and that checks use: EncryptedExtensions, Certificate, CertificateRequest,
CertificateVerify, Finished (RFC 8446, section 4)."""


# -- dissection of the plaintext --------------------------------------------------------------------------------


def add_ike(dissection: Dissection, plaintext: IkePlaintext) -> tuple[Dissection, int]:
    """An IKE dissection with the payloads of each decrypted payload after it, and the number of decrypted payloads."""
    items: list[Item] = []
    count = 0
    fragments: dict[tuple[bytes, int, int, Direction], dict[int, tuple[bytes, int]]] = {}
    header: ike.IkeHeader | None = None
    for item in dissection.items:
        items.append(item)
        message = item.message
        if isinstance(message, ike.IkeHeader):
            header = message
        data = plaintext.get(item.frame)
        if header is None or data is None:
            continue
        if isinstance(message, ike.Encrypted) and header.major == 2:
            count += 1
            items += inner_payloads(item, data, message.next_payload)
        elif isinstance(message, ike.EncryptedFragment):
            count += 1
            key = (header.initiator_spi, header.exchange, header.message_id, item.direction)
            known = fragments.setdefault(key, {})
            known[message.number] = data, message.next_payload
            if len(known) == message.total and set(known) == set(range(1, message.total + 1)):
                whole = b"".join(known[number][0] for number in sorted(known))
                items += inner_payloads(item, whole, known[1][1])
    if not count:
        return dissection, 0
    facts = replace(ike.facts(items), decrypted=SOURCE)
    return replace(dissection, items=tuple(items), facts=facts), count


def inner_payloads(item: Item, data: bytes, first: int) -> list[Item]:
    """The payloads in a plaintext; none if it cannot be parsed, because then the key was wrong, not the sender."""
    try:
        return [item._replace(message=message) for message in ike.read_decrypted(data, first)]
    except StopParsing:
        return []


def add_tls(flow: Conversation, plaintext: Mapping[Ends, Sequence[TlsPlaintext]]) -> tuple[Dissection, int]:
    """The dissection of a TLS 1.3 flow with its decrypted messages in frame order, and their number."""
    added: list[Item] = []
    count = 0
    ends = (flow.originator, flow.responder)
    for direction in DIRECTIONS:
        sender, receiver = ends[direction], ends[1 - direction]
        key = (sender.address, sender.port or 0, receiver.address, receiver.port or 0)
        own = [message for message in plaintext.get(key, ()) if flow.first_frame <= message.frame <= flow.last_frame]
        for message in own[:MAX_MESSAGES]:
            count += 1
            added += tls_items(message, direction, flow.first)
    if not added:
        return flow.dissection, 0
    items = list(flow.dissection.items)
    times = {item.frame: item.time for item in items}
    for item in added:
        at = len(items)
        while at and items[at - 1].frame > item.frame:
            at -= 1
        items.insert(at, item._replace(time=times.get(item.frame, items[at - 1].time if at else item.time)))
    facts = replace(tls.facts(items), decrypted=SOURCE)
    return replace(flow.dissection, items=tuple(items), facts=facts), count


def tls_items(message: TlsPlaintext, direction: Direction, time: int) -> list[Item]:
    """The messages in a decrypted one, as far as they can be parsed."""
    if message.kind < 0:
        if len(message.data) != 2:
            return []
        return [Item(tls.Alert(message.data[0], message.data[1]), direction, message.frame, time, 0)]
    found: list[Item] = []
    try:
        for parsed in tls.read_decrypted(Reader(message.data, 0, len(message.data)), message.kind):
            found.append(Item(parsed, direction, message.frame, time, 0))
    except StopParsing:
        pass
    return found
