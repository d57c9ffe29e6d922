"""MQTT 3.1, 3.1.1 and 5.0 in clear: control packets without their payload (OASIS MQTT 5.0, section 2).

User names, passwords, wills and messages are skipped and never kept; of topics the first levels only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item, messages
from analyzer.safetext import SafeText, decode_text
from analyzer.wire import Reader

NAME = "mqtt"

CONNECT, CONNACK, PUBLISH, SUBSCRIBE = 1, 2, 3, 8
PACKETS = (
    "", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK", "UNSUBSCRIBE",
    "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
)  # fmt: skip
PROTOCOLS = {b"\0\4MQTT": (4, 5), b"\0\6MQIsdp": (3,)}
"""Protocol name with its length → levels."""
LEVELS = {3: "3.1", 4: "3.1.1", 5: "5.0"}
USER_NAME, PASSWORD = 0x80, 0x40
"""Connect flags."""
MAX_PACKETS = 1024
"""Control packets that are read per direction."""
TOPIC_LEVELS = 2
"""Levels of a topic that are kept; the others may name devices."""
MAX_SHOWN = 20
"""Topic prefixes in the facts."""


class ControlPacket(NamedTuple):
    """A control packet without its content."""

    type: int
    level: int
    """Protocol level of a CONNECT; else 0."""
    client_id: str
    """Of a CONNECT."""
    credentials: bool
    """Whether a CONNECT carries a user name or password."""
    topic: str
    """First levels of the topic of a PUBLISH, or of the first topic filter of a SUBSCRIBE."""
    code: int | None
    """Return code of a CONNACK; 0: accepted."""


@dataclass(frozen=True, slots=True)
class MqttFacts(Facts):
    """Facts of an MQTT connection."""

    version: SafeText | None
    client_id: str | None
    credentials: bool | None
    """The client sent a user name or password in clear."""
    return_code: int | None
    """Of the first CONNACK; 0: accepted."""
    packets: Mapping[SafeText, int]
    """Type → number of control packets, in the order of the capture."""
    topics: tuple[str, ...]
    """First levels of the topics."""


def probe(head: Head) -> bool:
    """A CONNECT of the client."""
    if head.transport != "tcp":
        return False
    data = head.streams[Direction.ORIGINATOR].data
    if data[:1] != b"\x10":
        return False
    size = next((at for at in range(1, min(5, len(data))) if data[at] < 0x80), 0)
    return any(
        data.startswith(name, size + 1) and data[size + 1 + len(name) : size + 2 + len(name)] in map(level_byte, levels)
        for name, levels in PROTOCOLS.items()
        if size
    )


def level_byte(level: int) -> bytes:
    return bytes((level,))


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    level = 4
    for _ in range(MAX_PACKETS):
        if not reader.has_more:
            return
        start = reader.pos
        kind = reader.u8("packet type") >> 4
        if not kind:
            reader.malformed("packet type", "0 is reserved", start)
        with reader.block(variable_integer(reader, "remaining length"), PACKETS[kind]) as body:
            packet = read_packet(body, kind, level)
            level = packet.level or level
            body.rest(PACKETS[kind])
        yield packet


def read_packet(body: Reader, kind: int, level: int) -> ControlPacket:
    client_id, topic, credentials, code, own_level = "", "", False, None, 0
    if kind == CONNECT:
        body.take(body.u16("protocol name length"), "protocol name")
        own_level, flags = body.u8("protocol level"), body.u8("connect flags")
        credentials = bool(flags & (USER_NAME | PASSWORD))
        body.u16("keep alive")
        skip_properties(body, own_level)
        client_id = decode_text(body.take(body.u16("client identifier length"), "client identifier"))
    elif kind == CONNACK:
        body.u8("acknowledge flags")
        code = body.u8("return code")
    elif kind == PUBLISH:
        topic = topic_prefix(body)
    elif kind == SUBSCRIBE:
        body.u16("packet identifier")
        skip_properties(body, level)
        topic = topic_prefix(body)
    return ControlPacket(kind, own_level, client_id, credentials, topic, code)


def skip_properties(body: Reader, level: int) -> None:
    """MQTT 5.0, section 2.2.2."""
    if level == 5:
        body.take(variable_integer(body, "property length"), "properties")


def topic_prefix(body: Reader) -> str:
    levels = body.take(body.u16("topic length"), "topic").split(b"/")
    shown = decode_text(b"/".join(levels[:TOPIC_LEVELS]), 64)
    return shown + "/…" if len(levels) > TOPIC_LEVELS else shown


def variable_integer(reader: Reader, field: str) -> int:
    """Up to four bytes of seven bits each, the lowest first (MQTT 5.0, section 1.5.5)."""
    value = 0
    for shift in (0, 7, 14, 21):
        byte = reader.u8(field)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    else:
        reader.malformed(field, "more than four bytes", reader.pos - 4)
    return value


def facts(items: Sequence[Item]) -> MqttFacts:
    packets = [packet for _, packet in messages(items, ControlPacket)]
    counts: dict[str, int] = {}
    for packet in packets:
        counts[PACKETS[packet.type]] = counts.get(PACKETS[packet.type], 0) + 1
    connect = next((packet for packet in packets if packet.type == CONNECT), None)
    return MqttFacts(
        version=LEVELS.get(connect.level) if connect else None,
        client_id=(connect.client_id or None) if connect else None,
        credentials=True if connect and connect.credentials else None,
        return_code=next((packet.code for packet in packets if packet.code is not None), None),
        packets=counts,
        topics=tuple(dict.fromkeys(packet.topic for packet in packets if packet.topic))[:MAX_SHOWN],
    )
