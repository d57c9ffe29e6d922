"""DNS over UDP and TCP (RFC 1035), multicast DNS (RFC 6762) and LLMNR (RFC 4795).

A message is yielded in parts: its :class:`Header`, its :class:`Question` entries, its :class:`Record` entries.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item
from analyzer.safetext import SafeText, decode_text
from analyzer.wire import UNBOUNDED, Reader

NAME = "dns"

A, NS, CNAME, NULL, PTR, MX, TXT, AAAA, SRV, DNAME, OPT = 1, 2, 5, 10, 12, 15, 16, 28, 33, 39, 41
"""Record types (RFC 1035, RFC 3596, RFC 2782, RFC 6672, RFC 6891)."""
MAX_NAME_BYTES = 255
"""Length of a name on the wire, root included (RFC 1035, section 2.3.4)."""
MAX_POINTERS = 127
"""Compression pointers in one name: it has at most 127 labels, so no valid name needs more."""
MAX_NAMES = 50
"""Distinct names in the facts; further ones are counted together as :data:`OTHERS`."""
MAX_NAMES_PER_ADDRESS = 8
"""Names of one address in the facts."""
OTHERS = "…"

MULTICAST_PORTS = frozenset({5353, 5355})
"""Multicast DNS (RFC 6762) and LLMNR (RFC 4795): any host on the link answers."""
DNS_PORTS = frozenset({53}) | MULTICAST_PORTS
NETBIOS_PORT = 137
"""NetBIOS name service: the format of DNS, but another protocol (RFC 1002)."""
OPCODES = frozenset({0, 1, 2, 4, 5, 6})
"""Assigned opcodes (RFC 6895, section 2.2; RFC 8490)."""
CLASSES = frozenset({1, 3, 4, 254, 255})
"""IN, CH, HS, NONE and ANY (RFC 6895, section 3.2)."""
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
"""Names of record types (RFC 6895, section 3.1, and its registry)."""
NAME_TYPES = frozenset({NS, CNAME, PTR, DNAME})
"""Types of records whose data is one domain name."""
STRUCTURED_TYPES = NAME_TYPES | {MX, TXT, SRV, OPT}
"""Types of records whose data is parsed; the data of others stays bytes."""
ADDRESS_TYPES = frozenset({A, AAAA})
ORDINARY_TYPES = ADDRESS_TYPES | {NS, 6, PTR, SRV, OPT, 43, 46, 47, 48, 50, 51, 64, 65}
"""Types of records that lookups of a host bring: addresses, delegations, SOA, signatures of DNSSEC, SVCB and HTTPS."""

HEADER = struct.Struct(">6H")
QUESTION = struct.Struct(">HH")
RECORD = struct.Struct(">HHIH")
MIN_QUESTION_BYTES, MIN_RECORD_BYTES = 5, 11
"""With the root as name, and without data."""
RESPONSE, TRUNCATED = 0x8000, 0x0200
"""The flags QR and TC in the second word of the header."""


ORDINARY_OPTIONS = 96
"""Bytes of EDNS options that a message may need: a cookie of 44 (RFC 7873, section 4), a client's subnet of 24 (RFC
7871, section 6), a name server's identifier or the code of an error."""


class Header(NamedTuple):
    """RFC 1035, section 4.1.1."""

    id: int
    flags: int
    """The second 16-bit word."""
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
        return self.flags & TRUNCATED != 0

    @property
    def rcode(self) -> int:
        return self.flags & 15


class Question(NamedTuple):
    """RFC 1035, section 4.1.2."""

    header: Header
    """Header of its message."""
    name: str
    """Labels joined by dots, without the last dot; ``.`` is the root."""
    type: int
    class_: int


class Record(NamedTuple):
    """A resource record of any section (RFC 1035, section 4.1.3)."""

    header: Header
    """Header of its message."""
    name: str
    type: int
    class_: int
    ttl: int
    """Seconds."""
    length: int
    """Bytes of its data on the wire (RDLENGTH)."""
    data: str | bytes
    """An address, domain name or text; otherwise bytes."""


class Trailer(NamedTuple):
    """Bytes after the message in a datagram, which resolvers ignore."""

    length: int


def probe(head: Head) -> bool:
    """On DNS ports a plausible header is enough; on other ports a well-formed question must follow."""
    if NETBIOS_PORT in head.ports or head.transport not in ("udp", "tcp"):
        return False
    on_dns_port = not DNS_PORTS.isdisjoint(head.ports)
    for message, length in first_messages(head, on_dns_port):
        if is_plausible(message, length) and (on_dns_port or has_question(message)):
            return True
    return False


def first_messages(head: Head, any_datagram: bool) -> Iterator[tuple[bytes, int]]:
    """What may be a message, with its length: the first of each direction; over UDP, any datagram if asked for."""
    if head.transport == "tcp":
        for stream in head.streams:
            yield stream.data[2:], int.from_bytes(stream.data[:2], "big")
        return
    seen = set()
    for datagram in head.datagrams:
        if any_datagram or datagram.direction not in seen:
            seen.add(datagram.direction)
            yield datagram.data, datagram.length


def is_plausible(message: bytes, length: int) -> bool:
    """Whether bytes begin with a header that is possible for a message of ``length`` bytes."""
    if len(message) < HEADER.size:
        return False
    _, flags, questions, *records = HEADER.unpack_from(message)
    least = HEADER.size + questions * MIN_QUESTION_BYTES + sum(records) * MIN_RECORD_BYTES
    fits = least <= length or flags & TRUNCATED != 0  # a truncated response may count the records that it omits
    return fits and flags >> 11 & 15 in OPCODES and (flags & RESPONSE != 0 or flags & 15 == 0)


def has_question(message: bytes) -> bool:
    """Whether exactly one well-formed question of an existing class follows the header."""
    if message[4:6] != b"\0\1":
        return False
    position = HEADER.size
    while position < len(message) and 0 < message[position] < 64:
        position += 1 + message[position]
    question = message[position : position + MIN_QUESTION_BYTES]
    if len(question) < MIN_QUESTION_BYTES or question[0] or int.from_bytes(question[3:], "big") not in CLASSES:
        return False
    has_records = any(message[6 : HEADER.size])
    return has_records or position + MIN_QUESTION_BYTES == len(message)


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    if is_framed(reader):
        return framed_messages(reader)
    start = reader.peek(HEADER.size)
    if len(start) == HEADER.size and start[2] & 2 and is_plausible(start, reader.fence):
        reader.fence = UNBOUNDED  # TC: the message is longer than its datagram, by the sender's own word
    return chain(read_message(reader), trailer(reader))


def framed_messages(reader: Reader) -> Iterator[object]:
    """Messages after their lengths, as over TCP (RFC 1035, section 4.2.2)."""
    while reader.has_more:
        with reader.block(reader.u16("length"), "message") as message:
            yield from read_message(message)


def trailer(reader: Reader) -> Iterator[object]:
    if reader.fence != UNBOUNDED and reader.has_more:
        yield Trailer(len(reader.rest("trailer")))


def is_framed(reader: Reader) -> bool:
    """Whether a length precedes each message, as over TCP.

    A reader without a fence reads a stream. Otherwise the bytes decide: where a framed message has its flags, a bare
    message has its number of questions, and the numbers 1, 2, 3, … are flags of a query with an error code. A bare
    message without questions would need an identifier below its own length. A stream that ends within a message does
    not count as framed.
    """
    if reader.fence == UNBOUNDED:
        return True
    start = reader.peek(2 + HEADER.size)
    if len(start) > 5 and start[4] < 0x80 and start[5] & 15:
        return False  # the usual case
    length = int.from_bytes(start[:2], "big")
    return is_plausible(start[2:], length) and (length + 2 <= reader.fence or not is_plausible(start, reader.fence))


def read_message(reader: Reader) -> Iterator[object]:
    start = reader.pos
    names: dict[int, Name] = {}
    header = Header(*HEADER.unpack(reader.take(HEADER.size, "header")))
    yield header
    for _ in range(header.qdcount):
        name = domain_name(reader, start, names)
        yield Question(header, name, *QUESTION.unpack(reader.take(QUESTION.size, "question")))
    for _ in range(header.ancount + header.nscount + header.arcount):
        name = domain_name(reader, start, names)
        kind, class_, ttl, length = RECORD.unpack(reader.take(RECORD.size, "resource record"))
        # An update without data deletes all records of the name (RFC 2136, section 2.5).
        data = record_data(reader, kind, length, start, names) if length or not header.opcode else b""
        yield Record(header, name, kind, class_, ttl, length, data)


Name = tuple[Sequence[bytes], str]
"""Labels, and text."""


def domain_name(reader: Reader, start: int, names: dict[int, Name]) -> str:
    """A name in the message that begins at ``start``. ``names``: the names read before, by position.

    Every pointer must lead to an earlier position than the one before it, so that pointers form no loop (RFC 1035,
    section 4.1.4).
    """
    data, limit = reader.data, reader.limit
    begin = floor = position = reader.pos
    if begin + 1 < limit and data[begin] >= 192:  # only a pointer, mostly to the beginning of a name
        known = names.get(start + ((data[begin] & 63) << 8) + data[begin + 1])
        if known is not None:
            reader.pos = begin + 2
            names[begin] = known
            return known[1]
    after = pointers = size = 0
    labels: list[bytes] = []
    while position < limit and (length := data[position]):
        if length < 64:
            end = position + 1 + length
            labels.append(data[position + 1 : end])
            size += 1 + length
            position = end
        elif length < 192:
            reader.malformed("name", f"a label begins with 0x{length:02x}", position)
        elif position + 1 == limit:
            position = limit
        else:
            target = start + ((length & 63) << 8) + data[position + 1]
            after = after or position + 2
            pointers += 1
            if not start + HEADER.size <= target < floor or pointers > MAX_POINTERS:
                reader.malformed("name", f"a compression pointer leads to byte {target - start}", position)
            if target in names:
                labels += names[target][0]
                size = sum(map(len, labels)) + len(labels)
                break
            position = floor = target
        if size >= MAX_NAME_BYTES:
            break
    if size >= MAX_NAME_BYTES:
        reader.malformed("name", f"it is longer than {MAX_NAME_BYTES} bytes", begin)
    if position >= limit:
        reader.take(max(position, limit) + 1 - begin, "name")
    reader.pos = after or position + 1
    name = join_labels(labels)
    names[begin] = labels, name
    return name


def join_labels(labels: Sequence[bytes]) -> str:
    """Labels joined by dots; a dot within a label is escaped (RFC 1035, section 5.1)."""
    joined = b".".join(labels)
    if joined.count(b".") >= max(1, len(labels)):
        joined = b".".join(label.replace(b".", rb"\.") for label in labels)
    return decode_text(joined, 2 * MAX_NAME_BYTES) or "."


def record_data(reader: Reader, kind: int, length: int, start: int, names: dict[int, Name]) -> str | bytes:
    """The data of a record (RDATA); see :func:`domain_name`."""
    if kind in ADDRESS_TYPES:
        raw = reader.take(length, "rdata")
        if length == 4 and kind == A:
            return socket.inet_ntop(socket.AF_INET, raw)
        if length == 16 and kind == AAAA:
            return socket.inet_ntop(socket.AF_INET6, raw)
        reader.malformed("rdata", f"an address of {length} bytes", reader.pos - length)
    if kind not in STRUCTURED_TYPES or not length:
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
    """Facts of a DNS conversation."""

    queries: Mapping[str, int]
    """Name → number of queries, in the order of the capture; names as written."""
    types: Mapping[SafeText, int]
    """Record type → number of queries."""
    answers: Mapping[str, str]
    """Address → the name that was queried; the record's owner if the question is not in the capture."""
    response_codes: Mapping[SafeText, int]
    """Response code → number of responses."""
    truncated: tuple[str, ...]
    """Names whose response was truncated (TC), so that a retry over TCP is correct."""
    _names: Mapping[str, tuple[str, ...]]
    """Address → its names: the one queried, then its aliases; and those of PTR records."""
    _texts: int
    """Bytes of TXT records, and of others than :data:`ORDINARY_TYPES`."""
    _options: int
    """Bytes of EDNS options beyond :data:`ORDINARY_OPTIONS` in a message."""


def facts(items: Sequence[Item]) -> DnsFacts:
    queries: dict[str, int] = {}
    types: dict[str, int] = {}
    answers: dict[str, str] = {}
    codes: dict[str, int] = {}
    truncated: dict[str, None] = {}
    names: dict[str, dict[str, None]] = {}
    questions: dict[int, str] = {}
    """Message ID → name of its last question."""
    answers_left = [0, 0]
    """By direction: records of the answer section that are still to come."""
    chains: list[dict[str, None]] = [{}, {}]
    """By direction: the name queried and its aliases in the current message."""
    texts = options = 0
    for item in items:
        message = item.message
        if type(message) is Question:
            header = message.header
            questions[header.id] = message.name
            if not header.flags & RESPONSE:
                count(queries, message.name)
                count(types, TYPES.get(message.type) or str(message.type))
            elif header.truncated and len(truncated) < MAX_NAMES:
                truncated[message.name] = None
        elif type(message) is Record:
            if message.type not in ORDINARY_TYPES:
                texts += message.length
            elif message.type == OPT:
                options += max(0, message.length - ORDINARY_OPTIONS)
            direction = item.direction
            if not message.header.flags & RESPONSE or answers_left[direction] <= 0:
                continue
            answers_left[direction] -= 1
            aliases = chains[direction]
            name = questions.get(message.header.id, message.name)
            if message.type == CNAME:
                if len(aliases) < MAX_NAMES_PER_ADDRESS:
                    aliases |= {name: None, message.name: None, str(message.data): None}
            elif message.type in ADDRESS_TYPES:
                if len(answers) < MAX_NAMES:
                    answers[str(message.data)] = name
                add_names(names, str(message.data), (name, *aliases, message.name))
            elif message.type == PTR and (address := reversed_address(message.name)):
                add_names(names, address, (str(message.data),))
        elif type(message) is Header:
            answers_left[item.direction] = message.ancount
            chains[item.direction] = {}
            if message.flags & RESPONSE:
                count(codes, RESPONSE_CODES.get(message.rcode) or str(message.rcode))
    known = {address: tuple(own) for address, own in names.items()}
    return DnsFacts(queries, types, answers, codes, tuple(truncated), known, texts, options)


def count(counts: dict[str, int], name: str) -> None:
    """Count a name; as :data:`OTHERS` if it is a new one beyond :data:`MAX_NAMES`."""
    if name not in counts and len(counts) >= MAX_NAMES:
        name = OTHERS
    counts[name] = counts.get(name, 0) + 1


def add_names(names: dict[str, dict[str, None]], address: str, added: Iterable[str]) -> None:
    """Add names of an address, up to the limits. Case is ignored (RFC 4343)."""
    if address not in names and len(names) >= MAX_NAMES:
        return
    own = names.setdefault(address, {})
    for name in added:
        if name not in own and len(own) < MAX_NAMES_PER_ADDRESS and name.lower() not in map(str.lower, own):
            own[name] = None


def reversed_address(name: str) -> str | None:
    """The address of a reverse lookup: ``1.9.0.10.in-addr.arpa`` → ``10.0.9.1`` (RFC 1035, section 3.5; RFC 3596)."""
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
