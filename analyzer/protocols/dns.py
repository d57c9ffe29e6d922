"""DNS: the Domain Name System over UDP and TCP (RFC 1035), and its multicast kin on ports 5353 and 5355.

A message is yielded in parts, each as soon as it is read: its :class:`Header`, its :class:`Question` entries, its
:class:`Record` entries. Over TCP two bytes before each message tell its length (RFC 1035, section 4.2.2).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from analyzer.heads import DIRECTIONS, Direction, Head
from analyzer.messages import Facts, Item
from analyzer.safetext import SafeText, decode_text
from analyzer.wire import UNBOUNDED, Reader

NAME = "dns"

A, NS, CNAME, NULL, PTR, MX, TXT, AAAA, SRV, DNAME, OPT = 1, 2, 5, 10, 12, 15, 16, 28, 33, 39, 41
"""Types of records (RFC 1035, 3596, 2782, 6672, 6891)."""
LONGEST_NAME = 255
"""Bytes on the wire, root included (RFC 1035, section 2.3.4)."""
MOST_POINTERS = 127
"""A name has at most 127 labels, so an honest one is never pieced together from more places."""
NAMES_SHOWN = 50
"""Distinct names in the facts; what is beyond is counted under an ellipsis."""
NAMES_EACH = 8
"""Names of one address in the facts."""
OTHERS = "…"
"""What is counted under it are the names that are not shown."""

MULTICAST_PORTS = frozenset({5353, 5355})
"""Multicast DNS (RFC 6762) and LLMNR (RFC 4795): any host on the link answers."""
CLEAR_PORTS = frozenset({53}) | MULTICAST_PORTS
NETBIOS = 137
"""NetBIOS names wear the same format, but are no DNS (RFC 1002)."""
OPCODES = frozenset({0, 1, 2, 4, 5, 6})
CLASSES = frozenset({1, 3, 4, 254, 255})
RESPONSE_CODES = {
    0: "NOERROR",
    1: "FORMERR",
    2: "SERVFAIL",
    3: "NXDOMAIN",
    4: "NOTIMP",
    5: "REFUSED",
    6: "YXDOMAIN",
    7: "YXRRSET",
    8: "NXRRSET",
    9: "NOTAUTH",
    10: "NOTZONE",
}
"""RFC 6895, section 2.3."""
TYPES = {
    A: "A",
    NS: "NS",
    CNAME: "CNAME",
    6: "SOA",
    NULL: "NULL",
    PTR: "PTR",
    MX: "MX",
    TXT: "TXT",
    AAAA: "AAAA",
    SRV: "SRV",
    35: "NAPTR",
    DNAME: "DNAME",
    43: "DS",
    48: "DNSKEY",
    64: "SVCB",
    65: "HTTPS",
    252: "AXFR",
    255: "ANY",
}
"""Names of types that are asked for (RFC 6895, section 3.1, and its registry)."""
NAME_TYPES = frozenset({NS, CNAME, PTR, DNAME})
"""Records whose data is one domain name."""
STRUCTURED = NAME_TYPES | {MX, TXT, SRV, OPT}
"""Records whose data is read; that of others is taken as it is."""
ADDRESS_TYPES = frozenset({A, AAAA})

HEADER = struct.Struct(">6H")
QUESTION = struct.Struct(">HH")
RECORD = struct.Struct(">HHIH")
QUESTION_MINIMUM, RECORD_MINIMUM = 5, 11
RESPONSE = 0x8000
"""The flag QR in the second word of the header."""


class Header(NamedTuple):
    """RFC 1035, section 4.1.1."""

    id: int
    flags: int
    """The second 16-bit word as it stands; the properties take it apart."""
    qdcount: int
    ancount: int
    nscount: int
    arcount: int

    @property
    def response(self) -> bool:
        return self.flags & RESPONSE != 0

    @property
    def opcode(self) -> int:
        return self.flags >> 11 & 15

    @property
    def truncated(self) -> bool:
        return self.flags & 0x0200 != 0

    @property
    def rcode(self) -> int:
        return self.flags & 15


class Question(NamedTuple):
    """RFC 1035, section 4.1.2."""

    header: Header
    """Of the message that it belongs to."""
    name: str
    """Labels joined by dots, without the last dot; ``.`` is the root."""
    type: int
    class_: int


class Record(NamedTuple):
    """A resource record of any section (RFC 1035, section 4.1.3)."""

    header: Header
    """Of the message that it belongs to."""
    name: str
    type: int
    class_: int
    ttl: int
    """Seconds."""
    length: int
    """Bytes of its data on the wire (RDLENGTH)."""
    data: str | bytes
    """An address, a domain name or a text as such; anything else as its bytes."""


class Trailer(NamedTuple):
    """Bytes of a datagram behind its message, which no reader of DNS ever looks at."""

    length: int


def probe(head: Head) -> bool:
    if NETBIOS in head.ports or head.transport not in ("udp", "tcp"):
        return False
    clear = not CLEAR_PORTS.isdisjoint(head.ports)
    for direction in DIRECTIONS:
        if head.transport == "tcp":
            data = head.streams[direction].data
            message, length = data[2:], int.from_bytes(data[:2], "big")
        else:
            first = next((each for each in head.datagrams if each.direction == direction), None)
            message, length = (first.data, first.length) if first else (b"", 0)
        if plausible(message, length) and (clear or asks(message)):
            return True
    return False


def plausible(message: bytes, length: int) -> bool:
    """Whether bytes begin with a header that a message of ``length`` bytes can have."""
    if len(message) < HEADER.size:
        return False
    _, flags, questions, *records = HEADER.unpack_from(message)
    least = HEADER.size + questions * QUESTION_MINIMUM + sum(records) * RECORD_MINIMUM
    fits = least <= length or flags & 0x0200 != 0  # a truncated answer may count what it left out
    return fits and flags >> 11 & 15 in OPCODES and (flags & 0x8000 != 0 or flags & 15 == 0)


def asks(message: bytes) -> bool:
    """Whether exactly one question follows the header, well-formed, and some class that exists."""
    if message[4:6] != b"\0\1":
        return False
    position = HEADER.size
    while position < len(message) and 0 < message[position] < 64:
        position += 1 + message[position]
    question = message[position : position + QUESTION_MINIMUM]
    if len(question) < QUESTION_MINIMUM or question[0] or int.from_bytes(question[3:], "big") not in CLASSES:
        return False
    records = any(message[6 : HEADER.size])
    return records or position + QUESTION_MINIMUM == len(message)


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    if framed(reader):
        return framed_messages(reader)
    start = reader.peek(HEADER.size)
    if len(start) == HEADER.size and start[2] & 2 and plausible(start, reader.fence):
        reader.fence = UNBOUNDED  # TC: the sender itself says that the message goes on behind the datagram
    return chain(read_message(reader), trailer(reader))


def framed_messages(reader: Reader) -> Iterator[object]:
    while reader.has_more:
        with reader.block(reader.u16("length"), "message") as message:
            yield from read_message(message)


def trailer(reader: Reader) -> Iterator[object]:
    if reader.fence != UNBOUNDED and reader.has_more:
        yield Trailer(len(reader.rest("trailer")))


def framed(reader: Reader) -> bool:
    """Whether a length stands before each message, as on TCP.

    Only a stream has no fence. Otherwise the bytes decide: where a framed message has its flags a bare one has the
    number of its questions, and 1, 2, 3 … read as flags are an error code in a query. A bare message without any
    question would have to carry an identifier below its own length. A stream that ended within a message is none.
    """
    if reader.fence == UNBOUNDED:
        return True
    start = reader.peek(2 + HEADER.size)
    if len(start) > 5 and start[4] < 0x80 and start[5] & 15:
        return False  # most messages end here
    length = int.from_bytes(start[:2], "big")
    return plausible(start[2:], length) and (length + 2 <= reader.fence or not plausible(start, reader.fence))


def read_message(reader: Reader) -> Iterator[object]:
    start = reader.pos
    names: Names = {}
    header = Header(*HEADER.unpack(reader.take(HEADER.size, "header")))
    yield header
    for _ in range(header.qdcount):
        name = domain_name(reader, start, names)
        yield Question(header, name, *QUESTION.unpack(reader.take(QUESTION.size, "question")))
    for _ in range(header.ancount + header.nscount + header.arcount):
        name = domain_name(reader, start, names)
        kind, class_, ttl, length = RECORD.unpack(reader.take(RECORD.size, "resource record"))
        # An update leaves the data out to delete whatever has the name (RFC 2136, section 2.5).
        data = record_data(reader, kind, length, start, names) if length or not header.opcode else b""
        yield Record(header, name, kind, class_, ttl, length, data)


Name = tuple[list[bytes], str]
"""Labels and text."""
Names = dict[int, Name]
"""The names of a message by the place where each begins."""
KNOWN_NAMES = 1 << 14
known_names: dict[bytes, Name] = {}
"""Names without pointers, as they stand in a message: the same ones are read again and again."""


def domain_name(reader: Reader, start: int, names: Names) -> str:
    """A name in a message that begins at ``start``, where ``names`` stand before it.

    Every pointer must lead to an earlier place than the last one, so no chain of them can be a loop
    (RFC 1035, section 4.1.4).
    """
    data, seen = reader.data, reader.limit
    began = floor = position = reader.pos
    if position + 1 < seen and data[position] >= 192:  # nothing but a pointer, most often to the beginning of a name
        whole = names.get(start + ((data[position] & 63) << 8) + data[position + 1])
        if whole is not None:
            reader.pos = position + 2
            names[began] = whole
            return whole[1]
    ending = data.find(0, began, seen) + 1
    plain = data[began:ending]
    if plain in known_names:
        reader.pos = ending
        whole = names[began] = known_names[plain]
        return whole[1]
    after = pointers = size = 0
    labels: list[bytes] = []
    while position < seen and (length := data[position]):
        if length < 64:
            end = position + 1 + length
            labels.append(data[position + 1 : end])
            size += 1 + length
            position = end
        elif length < 192:
            reader.malformed("name", f"a label begins with 0x{length:02x}", position)
        elif position + 1 == seen:
            position = seen
        else:
            target = start + ((length & 63) << 8) + data[position + 1]
            after = after or position + 2
            pointers += 1
            if not start + HEADER.size <= target < floor or pointers > MOST_POINTERS:
                reader.malformed("name", f"a compression pointer leads to byte {target - start}", position)
            if target in names:
                labels += names[target][0]
                size = sum(map(len, labels)) + len(labels)
                break
            position = floor = target
        if size >= LONGEST_NAME:
            break
    if size >= LONGEST_NAME:
        reader.malformed("name", f"it is longer than {LONGEST_NAME} bytes", began)
    if position >= seen:
        reader.take(max(position, seen) + 1 - began, "name")
    reader.pos = after or position + 1
    whole = names[began] = labels, shown(labels)
    if not pointers and reader.pos == ending:
        if len(known_names) == KNOWN_NAMES:
            known_names.clear()
        known_names[plain] = whole
    return whole[1]


def shown(labels: Sequence[bytes]) -> str:
    """Labels joined by dots; a dot within a label is escaped (RFC 1035, section 5.1)."""
    joined = b".".join(labels)
    if joined.count(b".") >= max(1, len(labels)):
        joined = b".".join(label.replace(b".", rb"\.") for label in labels)
    return decode_text(joined, 2 * LONGEST_NAME) or "."


def record_data(reader: Reader, kind: int, length: int, start: int, names: Names) -> str | bytes:
    if kind in ADDRESS_TYPES:
        raw = reader.take(length, "rdata")
        if length == 4 and kind == A:
            return socket.inet_ntop(socket.AF_INET, raw)
        if length == 16 and kind == AAAA:
            return socket.inet_ntop(socket.AF_INET6, raw)
        reader.malformed("rdata", f"an address of {length} bytes", reader.pos - length)
    if kind not in STRUCTURED or not length:
        return reader.take(length, "rdata")
    with reader.block(length, "rdata") as inner:
        if kind in NAME_TYPES:
            return domain_name(inner, start, names)
        if kind == MX:
            preference = inner.u16("preference")
            return f"{preference} {domain_name(inner, start, names)}"
        if kind == SRV:
            inner.take(4, "priority and weight")
            port = inner.u16("port")
            return f"{domain_name(inner, start, names)}:{port}"
        parts = []
        while inner.has_more:
            if kind == OPT:
                inner.u16("option code")
                inner.take(inner.u16("option length"), "option")
            else:
                parts.append(inner.take(inner.u8("character-string"), "character-string"))
        return decode_text(b"".join(parts))


@dataclass(frozen=True, slots=True)
class DnsFacts(Facts):
    """What a conversation in DNS shows."""

    queries: Mapping[str, int]
    """How often each name was asked for, as it was written, in the order of the capture."""
    types: Mapping[SafeText, int]
    """How many questions asked for each type of record."""
    answers: Mapping[str, str]
    """Address → the name that was asked for, or its owner where the question was not seen."""
    response_codes: Mapping[SafeText, int]
    """How often each was answered."""
    truncated: tuple[str, ...]
    """Names whose answer was cut (TC), so that asking again over TCP is right."""
    _names: Mapping[str, tuple[str, ...]]
    """Address → all of its names: the one asked for, then its aliases; also those that a PTR record tells."""
    _texts: int
    """Bytes of text records."""


def facts(items: Sequence[Item]) -> DnsFacts:
    queries: dict[str, int] = {}
    types: dict[str, int] = {}
    answers: dict[str, str] = {}
    codes: dict[str, int] = {}
    truncated: dict[str, None] = {}
    names: dict[str, dict[str, None]] = {}
    asked: dict[int, str] = {}
    left = [0, 0]
    """Records of the answer section that are still to come, by direction."""
    chains: list[dict[str, None]] = [{}, {}]
    """The name asked for and its aliases in the message that is being read, by direction."""
    texts = 0
    for item in items:
        message = item.message
        if type(message) is Question:
            header = message.header
            asked[header.id] = message.name
            if not header.flags & RESPONSE:
                count(queries, message.name)
                count(types, TYPES.get(message.type) or str(message.type))
            elif header.truncated and len(truncated) < NAMES_SHOWN:
                truncated[message.name] = None
        elif type(message) is Record:
            if message.type == TXT:
                texts += message.length
            direction = item.direction
            if not message.header.flags & RESPONSE or left[direction] <= 0:
                continue
            left[direction] -= 1
            chain = chains[direction]
            name = asked.get(message.header.id, message.name)
            if message.type == CNAME:
                if len(chain) < NAMES_EACH:
                    chain |= {name: None, message.name: None, str(message.data): None}
            elif message.type in ADDRESS_TYPES:
                if len(answers) < NAMES_SHOWN:
                    answers[str(message.data)] = name
                call(names, str(message.data), (name, *chain, message.name))
            elif message.type == PTR and (address := reversed_address(message.name)):
                call(names, address, (str(message.data),))
        elif type(message) is Header:
            left[item.direction] = message.ancount
            chains[item.direction] = {}
            if message.flags & RESPONSE:
                count(codes, RESPONSE_CODES.get(message.rcode) or str(message.rcode))
    told = {address: tuple(known) for address, known in names.items()}
    return DnsFacts(queries, types, answers, codes, tuple(truncated), told, texts)


def count(counts: dict[str, int], name: str) -> None:
    """One more of a name; of any name beyond the shown ones, one more of the rest."""
    if name not in counts and len(counts) >= NAMES_SHOWN:
        name = OTHERS
    counts[name] = counts.get(name, 0) + 1


def call(names: dict[str, dict[str, None]], address: str, known: Iterable[str]) -> None:
    """Add names of an address, within the limits of the facts; capital letters make no other name (RFC 4343)."""
    if address not in names and len(names) >= NAMES_SHOWN:
        return
    own = names.setdefault(address, {})
    for name in known:
        if name not in own and len(own) < NAMES_EACH and name.lower() not in map(str.lower, own):
            own[name] = None


def reversed_address(name: str) -> str | None:
    """The address whose name a PTR record tells: ``1.9.0.10.in-addr.arpa`` (RFC 1035, section 3.5; RFC 3596)."""
    labels = name.lower().split(".")
    try:
        if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
            octets = bytes(int(label) for label in labels[3::-1] if label.isdecimal() and label.isascii())
            return socket.inet_ntop(socket.AF_INET, octets)
        if labels[-2:] == ["ip6", "arpa"] and len(labels) == 34:
            return socket.inet_ntop(socket.AF_INET6, bytes.fromhex("".join(labels[31::-1])))
    except ValueError:
        pass
    return None
