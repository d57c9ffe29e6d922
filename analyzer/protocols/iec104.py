"""IEC 60870-5-104 in the dialect of ThingPark's base stations.

The framing (APCI) is the standard's with two additions of the LRR, the base station's software: start byte 0x69 with a
length of two bytes, and I frames with an empty ASDU. An I frame carries the LRR's own payload or a standard ASDU; its
first bytes tell which.

The messages are those of the head. Beyond it the scanner reads on with the same grammar
(:func:`analyzer.scanner.apdu.check_apdu`) and counts, so that facts and parse errors are those of the whole stream.
Sources: IEC 60870-5-104, clauses 5 to 7; ThingPark LRR behaviour, framing and payload header.
"""

from __future__ import annotations

import enum
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from operator import itemgetter
from typing import NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import DIRECTIONS, Direction, Event, Frame, Head, Iec104Link
from analyzer.messages import Facts, Item, messages
from analyzer.safetext import SafeText
from analyzer.scanner import columns
from analyzer.wire import Anomaly, Cause, Reader

NAME = "iec104"

PORTS = (2404, 2504)
SHORT, LONG = 0x68, 0x69
"""Start bytes."""
SHORT_LENGTHS = range(4, 253 + 1)
LONG_LENGTHS = range(254, 16 * 1024 + 1)

FT12_STARTS = (0x10, 0xE5)
"""Start of a frame of fixed length, and the single character that acknowledges (IEC 60870-5-1, section 6.2.4)."""
APCI = struct.Struct("<BBHH")
"""Short APDU: start byte, length, and the two halves of the control field."""
LRR_HEADER = struct.Struct("<BHHHIIHBB")
"""After the version: zero, header size, flags, type, LRR-ID, delay, ID extension, ID prefix, more flags."""
LRR_HEADER_SIZE = 1 + LRR_HEADER.size
IDENTIFIER_SIZE = 6
"""Bytes of the data unit identifier of a standard ASDU."""

LRR_TYPES: Mapping[int, str] = {
    0: "radio",
    1: "LRR-ID",
    2: "GPS",
    3: "capabilities",
    5: "statistics",
    6: "upgrade",
    7: "upgrade",
    8: "upgrade",
    10: "shell command",
    11: "RF cell",
    12: "configuration/WAN",
    13: "configuration/WAN",
    14: "configuration/WAN",
    15: "configuration/WAN",
    20: "command reply",
    24: "sent indication",
    30: "versions",
    31: "UUID query",
    32: "UUID answer",
    44: "timers",
}

TYPES: Mapping[int, tuple[str, int | None]] = {
    1: ("M_SP_NA_1", 1),
    2: ("M_SP_TA_1", 4),
    3: ("M_DP_NA_1", 1),
    4: ("M_DP_TA_1", 4),
    5: ("M_ST_NA_1", 2),
    6: ("M_ST_TA_1", 5),
    7: ("M_BO_NA_1", 5),
    8: ("M_BO_TA_1", 8),
    9: ("M_ME_NA_1", 3),
    10: ("M_ME_TA_1", 6),
    11: ("M_ME_NB_1", 3),
    12: ("M_ME_TB_1", 6),
    13: ("M_ME_NC_1", 5),
    14: ("M_ME_TC_1", 8),
    15: ("M_IT_NA_1", 5),
    16: ("M_IT_TA_1", 8),
    17: ("M_EP_TA_1", 6),
    18: ("M_EP_TB_1", 7),
    19: ("M_EP_TC_1", 7),
    20: ("M_PS_NA_1", 5),
    21: ("M_ME_ND_1", 2),
    30: ("M_SP_TB_1", 8),
    31: ("M_DP_TB_1", 8),
    32: ("M_ST_TB_1", 9),
    33: ("M_BO_TB_1", 12),
    34: ("M_ME_TD_1", 10),
    35: ("M_ME_TE_1", 10),
    36: ("M_ME_TF_1", 12),
    37: ("M_IT_TB_1", 12),
    38: ("M_EP_TD_1", 10),
    39: ("M_EP_TE_1", 11),
    40: ("M_EP_TF_1", 11),
    45: ("C_SC_NA_1", 1),
    46: ("C_DC_NA_1", 1),
    47: ("C_RC_NA_1", 1),
    48: ("C_SE_NA_1", 3),
    49: ("C_SE_NB_1", 3),
    50: ("C_SE_NC_1", 5),
    51: ("C_BO_NA_1", 4),
    58: ("C_SC_TA_1", 8),
    59: ("C_DC_TA_1", 8),
    60: ("C_RC_TA_1", 8),
    61: ("C_SE_TA_1", 10),
    62: ("C_SE_TB_1", 10),
    63: ("C_SE_TC_1", 12),
    64: ("C_BO_TA_1", 11),
    70: ("M_EI_NA_1", 1),
    100: ("C_IC_NA_1", 1),
    101: ("C_CI_NA_1", 1),
    102: ("C_RD_NA_1", 0),
    103: ("C_CS_NA_1", 7),
    104: ("C_TS_NA_1", 2),
    105: ("C_RP_NA_1", 1),
    106: ("C_CD_NA_1", 2),
    107: ("C_TS_TA_1", 9),
    110: ("P_ME_NA_1", 3),
    111: ("P_ME_NB_1", 3),
    112: ("P_ME_NC_1", 5),
    113: ("P_AC_NA_1", 1),
    120: ("F_FR_NA_1", None),
    121: ("F_SR_NA_1", None),
    122: ("F_SC_NA_1", None),
    123: ("F_LS_NA_1", None),
    124: ("F_AF_NA_1", None),
    125: ("F_SG_NA_1", None),
    126: ("F_DR_TA_1", None),
    127: ("F_SC_NB_1", None),
}
"""Type identification → name, and bytes of one information element set (``None``: variable)."""
PRIVATE_TYPES = range(128, 256)


class Function(enum.IntEnum):
    """Function of a U frame: its first control byte."""

    STARTDT_ACT = 0x07
    STARTDT_CON = 0x0B
    STOPDT_ACT = 0x13
    STOPDT_CON = 0x23
    TESTFR_ACT = 0x43
    TESTFR_CON = 0x83


class UFrame(NamedTuple):
    """Unnumbered control function."""

    function: Function


FUNCTION_NAMES = tuple(
    function.name.replace("_", " ").replace("ACT", "act").replace("CON", "con") for function in Function
)
"""In the standard's notation, in the order of the scanner's counters."""

FUNCTIONS = {int(function): UFrame(function) for function in Function}
"""First control byte → U frame."""


class SFrame(NamedTuple):
    """Numbered supervisory function: an acknowledgement."""

    receive_sequence_number: int


class LrrPayload(NamedTuple):
    """The header of an LRR payload (ThingPark LRR behaviour, payload header)."""

    header_size: int
    """In bytes, with the structure of its type."""
    flags: int
    """0x8000 infrastructure, 1 uplink, 2 downlink."""
    type: int
    lrr_id: int
    lrr_id_extension: int
    lrr_id_prefix: int


class Asdu(NamedTuple):
    """The data unit identifier of a standard application service data unit (IEC 60870-5-101, clause 7.2)."""

    type_identification: int
    number_of_objects: int
    cause_of_transmission: int
    common_address: int


class IFrame(NamedTuple):
    """Numbered information transfer."""

    send_sequence_number: int
    receive_sequence_number: int
    payload: LrrPayload | Asdu | None
    """``None``: an empty ASDU, the LRR's forced acknowledgement."""
    long: bool
    """Framed with 0x69."""


@dataclass(frozen=True, slots=True)
class Keepalives(Facts):
    """TESTFR exchanges, which test an idle link (IEC 60870-5-104, clause 5.2)."""

    sent: int
    """Number of TESTFR act of both sides."""
    answered: int
    longest_wait: float
    """Longest time from act to con, in seconds."""


@dataclass(frozen=True, slots=True)
class Iec104Facts(Facts):
    """Facts of a link, over the whole stream."""

    apdus: int
    dialect: SafeText | None = None
    """``lrr`` or ``standard``; ``None``: no I frame carries a payload."""
    i_frames: int = 0
    s_frames: int = 0
    u_frames: int = 0
    functions: Mapping[SafeText, int] = field(default_factory=dict)
    """Function → number of U frames."""
    long_apdus: int = 0
    """I frames with start byte 0x69."""
    startdt_by: SafeText | None = None
    """Sender of the first STARTDT act: ``originator`` or ``responder``."""
    lrr_types: Mapping[SafeText, int] = field(default_factory=dict)
    """Type → number of LRR payloads."""
    lrr_ids: tuple[str, ...] = ()
    """As eight hexadecimal digits, in the order of the capture."""
    type_ids: Mapping[SafeText, int] = field(default_factory=dict)
    """Type identification → number of standard ASDUs."""
    asdu_bytes: int | None = None
    """Bytes of payload. This and the following fields are known of whole streams only."""
    other_types: int | None = None
    """Payloads of further types, which are not counted one by one."""
    sequence_modulus: int | None = None
    """Value at which send sequence numbers wrap: 32767 (LRR) or 32768 (standard)."""
    sequence_numbers: Mapping[SafeText, tuple[int, int]] = field(default_factory=dict)
    """``originator`` and ``responder`` → send sequence numbers of the first and last I frame."""
    sequence_jumps: int | None = None
    """Send sequence numbers that do not follow the one before, with no byte missing between."""
    sequence_repeats: int | None = None
    """Jumps to the same number as before."""
    forced_acknowledgements: int | None = None
    """I frames without ASDU."""
    most_outstanding: int | None = None
    """Most unacknowledged I frames of one side at a time."""
    keepalives: Keepalives | None = None
    longest_silence: float | None = None
    """Longest time without an APDU of either side, in seconds."""
    breaks: int | None = None
    """Places where the sender breaks the framing."""
    gaps: int | None = None
    """Places where the capture lacks the beginning of an APDU."""
    missing_bytes: int | None = None
    """Bytes of both streams that the capture lacks."""
    unread_bytes: int | None = None
    """Bytes of both streams in which no APDU was found."""
    resynchronisations: int | None = None
    """Times that an APDU was found again after a gap or break, or after the beginning of the capture."""


def probe(head: Head) -> bool:
    """On its ports one side that begins with an APDU is enough; on other ports both sides must be consistent."""
    if head.transport != "tcp":
        return False
    streams = [stream.data for stream in head.streams if stream.data]
    if head.ports[1] in PORTS or head.ports[0] in PORTS:
        return any(apdu_length(data) is not None for data in streams)
    return bool(streams) and all(is_consistent(data) for data in streams)


def apdu_length(data: bytes) -> int | None:
    """Length in bytes of the APDU at the beginning of ``data``; ``None``: its APCI is invalid."""
    if data[:1] == b"\x68" and len(data) >= 6 and data[1] in SHORT_LENGTHS:
        length, control = data[1], data[2:6]
        if control[0] & 1 and (length != 4 or not (control[0] in FUNCTIONS or control[:2] == b"\x01\x00")):
            return None
        return None if control[2] & 1 else length + 2
    if data[:1] == b"\x69" and len(data) >= 7 and int.from_bytes(data[1:3], "big") in LONG_LENGTHS:
        return None if data[3] & 1 or data[5] & 1 else int.from_bytes(data[1:3], "big") + 3
    return None


def is_consistent(data: bytes) -> bool:
    """Whether bytes can only be this protocol: an APDU with a payload of either dialect, and another APDU after it."""
    length = apdu_length(data)
    if length is None or data[length : length + 1] not in (b"", b"\x68", b"\x69"):
        return False
    asdu = data[6 if data[0] == SHORT else 7 : length]
    return not asdu or asdu[:2] == b"\x01\x00" or (asdu[0] in TYPES and 1 <= int.from_bytes(asdu[2:3], "big") & 63 < 48)


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    """The APDUs of one direction."""
    while reader.has_more:
        yield common_apdu(reader) or read_apdu(reader)


def common_apdu(reader: Reader) -> UFrame | SFrame | IFrame | None:
    """The fast path for nearly all APDUs: short, complete, and with an LRR payload or none.

    ``None``: the APDU is another one, or malformed; then :func:`read_apdu` reads it field by field.
    """
    data, at = reader.data, reader.pos
    if at + APCI.size > reader.limit:
        return None
    start, length, first, second = APCI.unpack_from(data, at)
    end = at + 2 + length
    if start != SHORT or length not in SHORT_LENGTHS or end > reader.limit:
        return None
    frame: UFrame | SFrame | IFrame | None = None
    if (first | second) & 1 == 0:
        if length == 4:
            frame = IFrame(first >> 1, second >> 1, None, False)
        elif length >= 4 + LRR_HEADER_SIZE and data.startswith(b"\x01\x00", at + 6):
            payload = lrr_header(data[at + 7 : at + 6 + LRR_HEADER_SIZE])
            if LRR_HEADER_SIZE <= payload.header_size <= length - 4:
                frame = IFrame(first >> 1, second >> 1, payload, False)
    elif length == 4:
        frame = SFrame(second >> 1) if first & 3 == 1 else FUNCTIONS.get(first & 0xFF)
    if frame is not None:
        reader.pos = end
    return frame


def read_apdu(reader: Reader) -> UFrame | SFrame | IFrame:
    """One APDU (IEC 60870-5-104, clause 5)."""
    at = reader.pos
    start = reader.u8("start byte")
    if start == SHORT:
        length = reader.u8("APDU length")
        if length not in SHORT_LENGTHS:
            reader.malformed("APDU length", bad_length(length, False), at + 1)
    elif start == LONG:
        length = reader.u16("APDU length")
        if length not in LONG_LENGTHS:
            reader.malformed("APDU length", bad_length(length, True), at + 1)
    else:
        reader.malformed("start byte", bad_start(start), at)
    body = reader.fenced(length, "APDU")
    one, two, three, four = body.take(4, "control field")
    frame: UFrame | SFrame | IFrame
    if one & 1 == 0:
        if three & 1:
            body.malformed("control field", "the lowest bit of octet 3 of an I frame is set", body.pos - 2)
        frame = IFrame((one | two << 8) >> 1, (three | four << 8) >> 1, read_payload(body), start == LONG)
    else:
        if length != 4:
            body.malformed("APDU length", f"{length} for an S or U frame, which always has 4", at + 1)
        if one & 2 == 0:
            frame = SFrame((three | four << 8) >> 1)
        elif one in FUNCTIONS:
            frame = FUNCTIONS[one]
        else:
            body.malformed("control field", f"0x{one:02x} is no function of a U frame", body.pos - 4)
    reader.pos = body.fence  # all frames are read up to their end
    return frame


def read_payload(body: Reader) -> LrrPayload | Asdu | None:
    """The payload of an I frame. An LRR payload begins with 1, 0: as a standard ASDU it would have no objects."""
    if not body.has_more:
        return None
    start = body.pos
    first = body.u8("payload")
    if body.has_more and not body.left:
        body.take(1, "payload")  # truncated before the byte that tells the dialect
    if first in (0, 1) and body.peek(1) in (b"\x00", b""):
        return read_lrr_payload(body, first, start)
    return read_asdu(body, first, start)


def read_lrr_payload(body: Reader, version: int, start: int) -> LrrPayload:
    """An LRR payload after its version; ``start``: where the payload begins."""
    if version != 1:
        body.malformed("LRR version", f"{version} is not 1", start)
    declared = body.fence - start
    if declared < LRR_HEADER_SIZE:
        body.malformed("LRR header", f"takes {LRR_HEADER_SIZE} bytes, {declared} are declared", start)
    header = lrr_header(body.take(LRR_HEADER.size, "LRR header"))
    size = header.header_size
    if not LRR_HEADER_SIZE <= size <= declared:
        reason = f"{size} is not between {LRR_HEADER_SIZE} and the {declared} bytes"
        body.malformed("LRR header size", reason, start + 2)
    body.rest("LRR payload")
    return header


def lrr_header(raw: bytes) -> LrrPayload:
    """The LRR header after its version."""
    _, size, flags, kind, lrr_id, _, extension, prefix, _ = LRR_HEADER.unpack(raw)
    return LrrPayload(size, flags, kind, lrr_id, extension, prefix)


def read_asdu(body: Reader, kind: int, start: int) -> Asdu:
    """A standard ASDU after its type identification; ``start``: where the ASDU begins."""
    if kind not in TYPES and kind not in PRIVATE_TYPES:
        body.malformed("payload", f"first byte {kind} is neither an LRR payload's nor a standard ASDU's", start)
    if body.fence - start < IDENTIFIER_SIZE:
        reason = f"takes {IDENTIFIER_SIZE} bytes, {body.fence - start} are declared"
        body.malformed("data unit identifier", reason, start)
    qualifier, cause, _ = body.take(3, "data unit identifier")
    address = int.from_bytes(body.take(2, "common address"), "little")
    if cause & 63 == 0:
        body.malformed("cause of transmission", "0 is not used", start + 2)
    count = qualifier & 0x7F
    size = TYPES.get(kind, ("", None))[1]
    declared = body.fence - body.pos
    if size is not None:
        needed = count * (3 + size) if qualifier < 0x80 or count == 0 else 3 + count * size
        if needed != declared:
            name = TYPES[kind][0]
            reason = f"{count} of {name} take {needed} bytes, {declared} are declared"
            body.malformed("information objects", reason, start + 1)
    body.rest("information objects")
    return Asdu(kind, count, cause & 63, address)


def facts(items: Sequence[Item]) -> Iec104Facts:
    """The facts of the head alone; see :func:`facts_of_link`."""
    frames = [item.message for item in items]
    kinds = Counter(map(type, frames))
    i_frames = [frame for frame in frames if isinstance(frame, IFrame)]
    lrr_payloads = [frame.payload for frame in i_frames if isinstance(frame.payload, LrrPayload)]
    lrr_types = Counter(payload.type for payload in lrr_payloads)
    type_ids = Counter(frame.payload.type_identification for frame in i_frames if isinstance(frame.payload, Asdu))
    functions = Counter(frame.function for _, frame in messages(items, UFrame))
    started = (item.direction for item, frame in messages(items, UFrame) if frame.function is Function.STARTDT_ACT)
    return Iec104Facts(
        apdus=len(items),
        dialect=dialect(lrr_types.total(), type_ids.total()),
        i_frames=kinds[IFrame],
        s_frames=kinds[SFrame],
        u_frames=kinds[UFrame],
        functions=function_counts([functions[function] for function in Function]),
        long_apdus=sum(frame.long for frame in i_frames),
        startdt_by=side_name(next(started, None)),
        lrr_types=lrr_type_counts(sorted(lrr_types.items())),
        lrr_ids=tuple(map(format_lrr_id, dict.fromkeys(payload.lrr_id for payload in lrr_payloads))),
        type_ids=type_counts(sorted(type_ids.items())),
    )


def facts_of_link(head: Iec104Facts, link: Iec104Link) -> Iec104Facts:
    """The facts of a link over the whole stream; ``head``: the facts of its head."""
    one, two = link.directions
    if one.apdus + two.apdus < head.apdus:  # the scanner recognised the link only later
        return head
    functions = [sum(pair) for pair in zip(one.functions, two.functions, strict=True)]
    sent = functions[FUNCTION_NAMES.index("TESTFR act")]
    longest_wait = max(one.longest_wait, two.longest_wait) / 1e9
    return Iec104Facts(
        apdus=one.apdus + two.apdus,
        dialect=dialect(one.lrr + two.lrr, one.standard + two.standard),
        i_frames=one.i_frames + two.i_frames,
        s_frames=one.s_frames + two.s_frames,
        u_frames=sum(functions),
        functions=function_counts(functions),
        long_apdus=one.long + two.long,
        startdt_by=side_name(link.startdt),
        lrr_types=lrr_type_counts(link.lrr_types),
        lrr_ids=tuple(map(format_lrr_id, link.lrr_ids)),
        type_ids=type_counts(link.type_ids),
        asdu_bytes=one.asdu_bytes + two.asdu_bytes,
        other_types=link.other_kinds or None,
        sequence_modulus=max(one.modulus, two.modulus) or None,
        sequence_numbers={
            direction.name.lower(): (line.first, line.sent)
            for direction, line in zip(DIRECTIONS, link.directions, strict=True)
            if line.first >= 0 and line.sent >= 0
        },
        sequence_jumps=one.jumps + two.jumps,
        sequence_repeats=one.repeats + two.repeats,
        forced_acknowledgements=one.empty + two.empty,
        most_outstanding=max(one.outstanding, two.outstanding),
        keepalives=Keepalives(sent, one.answered + two.answered, round(longest_wait, 3)) if sent else None,
        longest_silence=round(link.silence / 1e9, 3),
        breaks=one.breaks + two.breaks + one.incomplete + two.incomplete,
        gaps=one.gaps + two.gaps,
        missing_bytes=one.missing + two.missing,
        unread_bytes=one.unread + two.unread,
        resynchronisations=one.resynchronised + two.resynchronised,
    )


def dialect(lrr: int, standard: int) -> str | None:
    """The dialect of a link, by its numbers of LRR payloads and standard ASDUs."""
    return None if lrr + standard == 0 else "lrr" if lrr >= standard else "standard"


def function_counts(counts: Sequence[int]) -> dict[str, int]:
    return {name: count for name, count in zip(FUNCTION_NAMES, counts, strict=True) if count}


def lrr_type_counts(counts: Iterable[tuple[int, int]]) -> dict[str, int]:
    """Name → number of LRR payloads, from numbers by type; several types share one name."""
    named = Counter[str]()
    for kind, count in counts:
        named[LRR_TYPES.get(kind, f"type {kind}")] += count
    return dict(named)


def type_counts(counts: Iterable[tuple[int, int]]) -> dict[str, int]:
    return {TYPES.get(kind, (f"type {kind}", None))[0]: count for kind, count in counts}


def format_lrr_id(number: int) -> str:
    return f"{number:08x}"


def side_name(direction: Direction | None) -> str | None:
    return None if direction is None else direction.name.lower()


def anomalies(link: Iec104Link) -> list[tuple[Anomaly, Direction, Frame, int]]:
    """The broken framing of a link, in the order of the capture: anomaly, sender, frame, and its time."""
    found = [
        (break_anomaly(event), event.direction, event.frame, event.time)
        for event in link.events
        if event.kind == columns.FRAMING_BREAK
    ]
    for direction, line in zip(DIRECTIONS, link.directions, strict=True):
        if line.incomplete:
            seen, size = line.offset - line.began, f" of {line.size}" if line.size > line.offset - line.began else ""
            reason = f"the stream ends after {seen}{size} bytes of it"
            anomaly = Anomaly(Cause.MALFORMED, "APDU", line.began, reason)
            found.append((anomaly, direction, line.began_frame, line.began_time))
    return sorted(found, key=itemgetter(2))


def break_anomaly(event: Event) -> Anomaly:
    """The anomaly of a break that the scanner found; worded as in :func:`read_apdu`."""
    reason, value, other = event.value & 0xFF, event.value >> 8, event.other
    field, text = {
        columns.BAD_START: ("start byte", bad_start(value)),
        columns.BAD_LENGTH: ("APDU length", bad_length(value, other == LONG)),
        columns.BAD_FIXED: ("APDU length", f"{value} for an S or U frame, which always has 4"),
        columns.BAD_FUNCTION: ("control field", f"0x{value:02x} is no function of a U frame"),
        columns.BAD_CONTROL: ("control field", "the lowest bit of octet 3 of an I frame is set"),
        columns.BAD_VERSION: ("LRR version", f"{value} is not 1"),
        columns.BAD_HEADER: ("LRR header", f"takes {LRR_HEADER_SIZE} bytes, {value} are declared"),
        columns.BAD_HEADER_SIZE: (
            "LRR header size",
            f"{value} is not between {LRR_HEADER_SIZE} and the {other} bytes",
        ),
        columns.BAD_TYPE: ("payload", f"first byte {value} is neither an LRR payload's nor a standard ASDU's"),
        columns.BAD_IDENTIFIER: ("data unit identifier", f"takes {IDENTIFIER_SIZE} bytes, {value} are declared"),
        columns.BAD_CAUSE: ("cause of transmission", "0 is not used"),
        columns.BAD_OBJECTS: (
            "information objects",
            f"{other & 0x7F} of {TYPES.get(value >> 16, ('',))[0]} take {value & 0xFFFF} bytes, "
            f"{other >> 8} are declared",
        ),
    }[reason]
    return Anomaly(Cause.MALFORMED, field, event.offset, text)


def bad_start(start: int) -> str:
    """What is wrong with a start byte, and what begins with it instead: a frame of FT 1.2 (IEC 60870-5-1), or text."""
    if start in FT12_STARTS:
        return f"0x{start:02x} is neither 0x68 nor 0x69, but begins a frame of FT 1.2, as of IEC 60870-5-101"
    return f"0x{start:02x} is neither 0x68 nor 0x69{', and may begin text' if 0x20 <= start < 0x7F else ''}"


def bad_length(length: int, long: bool) -> str:
    if long:
        return f"{length} is not between 254 and 16384 after start byte 0x69"
    return f"{length} is not between 4 and 253"
