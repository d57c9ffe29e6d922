"""What is encrypted, opened with keys that the user gives: IKE_AUTH and what follows it, and the handshake of TLS 1.3.

tshark decrypts, and nothing else: the plain text is read by the same dissectors as all other bytes, so that it becomes
messages and facts like theirs, and the same checks judge it. Keys go to tshark's own process in files that only this
user can read; no text of this program repeats any part of them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from analyzer import tshark
from analyzer.capture import CaptureFile
from analyzer.conversations import Conversation, Conversations, KeyUse
from analyzer.expected import UsageError
from analyzer.heads import DIRECTIONS, Direction, Frame
from analyzer.messages import Item
from analyzer.protocols import Dissection, ike, tls
from analyzer.wire import Reader, StopParsing

SOURCE = "tshark"
"""Who decrypts, as the facts say it."""

KEY_FILE = 16 << 20
"""Bytes of a file with keys that are read."""

MAX_PORTS = 64
"""Ports of which tshark is told what they carry."""
MAX_MESSAGES = 64
"""Decrypted messages of a TLS connection that are read; a handshake has seven."""

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
"""Kinds of keys that are known and open nothing that is judged."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What the user gave to decrypt with. The secrets themselves are in no text."""

    tls_keylog: str | None = None
    """Path, as given."""
    ike: str | None = None
    """Path, as given."""
    embedded: bool = False
    """Also those that pcapng files carry."""


@dataclass(frozen=True, slots=True)
class Opened:
    """Conversations with what was decrypted of them, each flow a conversation of its own; and which keys served."""

    conversations: Conversations
    uses: tuple[KeyUse, ...]


Plain = Mapping[Frame, bytes]
"""Decrypted payload of IKE, padding taken off, by the frame that carries it."""

Ends = tuple[str, int, str, int]
"""Source and destination of a TCP segment, address and port."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A handshake message (``kind`` >= 0) or an alert (-1) of TLS 1.3 that was decrypted."""

    kind: int
    data: bytes
    """Its body."""
    frame: Frame


def open_with(keys: Keys, captures: Sequence[CaptureFile], conversations: Conversations) -> Opened:
    """Decrypt what the keys open.

    :class:`UsageError` for a file that holds no keys, :class:`CaptureError` if tshark fails.
    """
    files: dict[str, str] = {}
    kinds: dict[str, str] = {}
    if keys.tls_keylog is not None:
        files["keylog"] = key_lines(keys.tls_keylog, "an SSLKEYLOGFILE", (TLS_SECRET,))[0]
        kinds["TLS"] = keys.tls_keylog
    if keys.ike is not None:
        wanted = "Wireshark's ikev2_decryption_table or esp_sa"
        opening, *others = key_lines(keys.ike, wanted, (IKE_KEYS, IKE_1_KEYS, ESP_KEYS))
        if opening:
            files["ikev2_decryption_table"] = opening
            kinds["IKE"] = keys.ike
        kinds |= {kind: keys.ike for kind, table in zip(UNUSED, others, strict=True) if table}
    # Flows whose clear parts are alike may differ in what is hidden.
    found = list(conversations.expand())
    plain: dict[Frame, bytes] = {}
    secrets: defaultdict[Ends, list[Secret]] = defaultdict(list)
    question = question_for(found, files, keys.embedded)
    if question is not None:
        for index, capture in enumerate(captures):
            for layers in tshark.ask(capture.path, question):
                frame = Frame(index, int(fields(layers, "frame", "frame.number")[0]))
                plain.update((frame, text) for text in inside_isakmp(layers))
                for ends, secret in inside_tls(layers, frame):
                    secrets[ends].append(secret)
    result = []
    flows: defaultdict[str, list[int]] = defaultdict(list)
    counts: defaultdict[str, int] = defaultdict(int)
    for each in found:
        opened, count = each.dissection, 0
        if each.protocol == ike.NAME and plain:
            opened, count = open_ike(each.dissection, plain)
        elif each.protocol == tls.NAME and secrets:
            opened, count = open_tls(each, secrets)
        if count:
            kind = "IKE" if each.protocol == ike.NAME else "TLS"
            flows[kind].append(each.id)
            counts[kind] += count
        result.append(each._replace(dissection=opened) if count else each)
    if keys.embedded and "TLS" not in kinds:
        kinds["TLS"] = "the capture itself"
    uses = tuple(KeyUse(source, kind, counts[kind], tuple(flows[kind])) for kind, source in kinds.items())
    return Opened(Conversations(result), uses)


def key_lines(path: str | PathLike[str], wanted: str, kinds: Sequence[re.Pattern[str]]) -> list[str]:
    """The lines of a file of keys, by kind. Of a line that is none of them only its number is told."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(KEY_FILE + 1)
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if len(content) > KEY_FILE:
        raise UsageError(f"{path}: is larger than {KEY_FILE >> 20} MiB, so it is not {wanted}")
    found: list[list[str]] = [[] for _ in kinds]
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        line = line.strip("\x00 \t\r")
        if not line or line.startswith("#"):
            continue
        fitting = next((lines for kind, lines in zip(kinds, found, strict=True) if kind.fullmatch(line)), None)
        if fitting is None:
            raise UsageError(f"{path}: line {number} is no line of {wanted}")
        fitting.append(line)
    if not any(found):
        raise UsageError(f"{path}: holds no keys: it should be {wanted}")
    return ["".join(f"{line}\n" for line in lines) for lines in found]


def question_for(found: Iterable[Conversation], files: Mapping[str, str], embedded: bool) -> tshark.Question | None:
    """What to ask tshark; ``None``: there is nothing that such keys could open."""
    kinds = {each.protocol for each in found}
    filters, layers = [], ["frame", "ip", "ipv6", "tcp"]
    preferences = {"tcp.reassemble_out_of_order": "TRUE"}
    decode_as: dict[str, str] = {}
    if ike.NAME in kinds and "ikev2_decryption_table" in files:
        filters.append("(isakmp.enc.decrypted && !isakmp.ikev2.integrity_checksum)")
        layers.append("isakmp")
    if tls.NAME in kinds and ("keylog" in files or embedded):
        filters.append("(tls.record.opaque_type && (tls.handshake || tls.alert_message))")
        layers.append("tls")
        if "keylog" in files:
            preferences["tls.keylog_file"] = "profile/keylog"
        ports = dict.fromkeys(each.responder.port for each in found if each.protocol == tls.NAME)
        decode_as = {f"tcp.port=={port}": "tls" for port in list(ports)[:MAX_PORTS]}
    if not filters:
        return None
    return tshark.Question(
        layers=tuple(layers),
        display_filter=" || ".join(filters),
        decode_as=decode_as,
        preferences=preferences,
        files=files,
    )


# -- what tshark says -------------------------------------------------------------------------------------------


def fields(layers: tshark.Layers, layer: str, name: str) -> list[str]:
    """All values of a field in all layers of a kind, outermost first."""
    found: list[str] = []
    told = layers.get(layer)
    for part in told if isinstance(told, list) else [told]:
        value: Any = part.get(f"{layer}_{name.replace('.', '_')}") if isinstance(part, dict) else None
        if value is not None:
            found += [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]
    return found


def inside_isakmp(layers: tshark.Layers) -> Iterator[bytes]:
    """The plain text of an encrypted payload, without padding and its length (RFC 7296, 3.14)."""
    for raw in fields(layers, "isakmp", "isakmp.enc.decrypted_raw")[:1]:
        text = bytes.fromhex(raw)
        padding = text[-1] + 1 if text else 0
        if 0 < padding <= len(text):
            yield text[:-padding]


def inside_tls(layers: tshark.Layers, frame: Frame) -> Iterator[tuple[Ends, Secret]]:
    """The handshake messages and alerts of a frame that TLS 1.3 encrypts."""
    address = "ip" if "ip" in layers else "ipv6"
    places = ((address, f"{address}.src"), ("tcp", "tcp.srcport"), (address, f"{address}.dst"), ("tcp", "tcp.dstport"))
    told = [fields(layers, *place)[-1:] for place in places]
    if not all(told) or not fields(layers, "tls", "tls.record.opaque_type"):
        return  # TLS in something else than TCP
    ends = told[0][0], int(told[1][0]), told[2][0], int(told[3][0])
    for raw in fields(layers, "tls", "tls.handshake_raw"):
        message = bytes.fromhex(raw)
        if len(message) >= 4 and message[0] in READ and int.from_bytes(message[1:4], "big") == len(message) - 4:
            yield ends, Secret(message[0], message[4:], frame)
    for raw in fields(layers, "tls", "tls.alert_message_raw"):
        yield ends, Secret(-1, bytes.fromhex(raw), frame)


READ = (8, 11, 13, 15, 20)
"""Kinds of handshake messages that TLS 1.3 encrypts and that say something to an auditor."""


# -- what becomes of a conversation -----------------------------------------------------------------------------


def open_ike(dissection: Dissection, plain: Plain) -> tuple[Dissection, int]:
    """An IKE conversation with the payloads inside of its encrypted ones, behind these; and of how many of them."""
    items: list[Item] = []
    count = 0
    pieces: dict[tuple[bytes, int, int, Direction], dict[int, tuple[bytes, int]]] = {}
    header: ike.IkeHeader | None = None
    for item in dissection.items:
        items.append(item)
        message = item.message
        if isinstance(message, ike.IkeHeader):
            header = message
        text = plain.get(item.frame)
        if header is None or text is None:
            continue
        if isinstance(message, ike.Encrypted) and header.major == 2:
            count += 1
            items += payloads(item, text, message.next_payload)
        elif isinstance(message, ike.EncryptedFragment):
            count += 1
            key = (header.initiator_spi, header.exchange, header.message_id, item.direction)
            known = pieces.setdefault(key, {})
            known[message.number] = text, message.next_payload
            if len(known) == message.total and set(known) == set(range(1, message.total + 1)):
                whole = b"".join(known[number][0] for number in sorted(known))
                items += payloads(item, whole, known[1][1])
    if not count:
        return dissection, 0
    facts = replace(ike.facts(items), decrypted=SOURCE)
    return replace(dissection, items=tuple(items), facts=facts), count


def payloads(item: Item, text: bytes, first: int) -> list[Item]:
    """The payloads in a plain text; none if it makes no sense, for then its key was wrong and nobody is to blame."""
    try:
        return [item._replace(message=message) for message in ike.opened(text, first)]
    except StopParsing:
        return []


def open_tls(each: Conversation, secrets: Mapping[Ends, Sequence[Secret]]) -> tuple[Dissection, int]:
    """A TLS 1.3 conversation with the messages that it encrypts, each where tshark shows it; and how many they are."""
    told: list[Item] = []
    count = 0
    ends = (each.originator, each.responder)
    for direction in DIRECTIONS:
        sender, receiver = ends[direction], ends[1 - direction]
        key = (sender.address, sender.port or 0, receiver.address, receiver.port or 0)
        own = [one for one in secrets.get(key, ()) if each.first_frame <= one.frame <= each.last_frame]
        for secret in own[:MAX_MESSAGES]:
            count += 1
            told += messages(secret, direction, each.first)
    if not told:
        return each.dissection, 0
    items = list(each.dissection.items)
    times = {item.frame: item.time for item in items}
    for item in told:
        at = len(items)
        while at and items[at - 1].frame > item.frame:
            at -= 1
        items.insert(at, item._replace(time=times.get(item.frame, items[at - 1].time if at else item.time)))
    return replace(each.dissection, items=tuple(items), facts=replace(tls.facts(items), decrypted=SOURCE)), count


def messages(secret: Secret, direction: Direction, time: int) -> list[Item]:
    """The messages in one that was decrypted; as far as it can be read."""
    if secret.kind < 0:
        if len(secret.data) != 2:
            return []
        return [Item(tls.Alert(secret.data[0], secret.data[1]), direction, secret.frame, time, 0)]
    found: list[Item] = []
    try:
        for message in tls.opened(Reader(secret.data, 0, len(secret.data)), secret.kind):
            found.append(Item(message, direction, secret.frame, time, 0))
    except StopParsing:
        pass
    return found
