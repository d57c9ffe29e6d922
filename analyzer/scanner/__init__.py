"""The scanner: the bytes of capture files → the flow table, in one pass over each packet, compiled.

One kernel, :func:`scan`, walks the records of a buffer, decodes link, network and transport headers, finds the
packet's flow and accounts for it. Laws of the module:

* Memory follows flows, never packets. A flow is one record of :data:`FLOW` and two of :data:`SIDE` (first sender,
  second sender); the payload that heads keep goes to an arena, and each kept piece is one record of :data:`PIECE`.
* Nothing allocates. Where an array is full the kernel stops *before* the packet, the caller makes room, and the
  kernel resumes at the same packet.
* What is rare (tunnels, fragments, unusual link types) is not decoded here: :func:`decode` ends with :data:`RARE`,
  and :mod:`analyzer.scanner.decapsulation` peels it.

All compiled code stands in this one file, because its machine code is kept on disk as long as this file does not
change (see :mod:`analyzer.scanner.jit`). Offsets are positions in the buffer that the kernel was given; lengths are
bytes; integers on the wire are big-endian except in the headers of the capture file itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner.jit import Library

# Outcomes of decoding one packet.
DECODED = 0
NOT_IP = 1
"""An Ethernet type that carries no IP (ARP, LLDP, …); ``port`` fields are unset, ``ethertype`` is."""
RARE = 2
"""For the slow path."""
CUT = 3
"""A header lies behind the captured bytes."""
BROKEN = 4
"""A header contradicts itself (IP version, header length)."""
ICMP_ERROR = 5
"""Decoded, and an ICMP error that quotes another packet at ``payload + 8``."""

# Ways in which the records of a file are framed.
PCAP = 0
PCAPNG = 1
SINGLE = 2
"""No framing: the buffer holds one packet, its IP header at ``packet.network``."""
SNOOP = 3

TCP, UDP, ICMP, ICMPV6, ESP = 6, 17, 1, 58, 50
FIN, SYN, RST, ACK = 1, 2, 4, 16
LARGEST_PACKET = 262144
"""Bytes of an IP packet that tells no length of its own."""

PACKET = np.dtype(
    [
        ("time", np.int64),  # nanoseconds since the epoch
        ("frame", np.int64),  # 1-based number in its file
        ("wire", np.int64),  # length of the frame on the wire
        ("start", np.int64),  # offset of the first captured byte
        ("end", np.int64),  # offset behind the last captured byte, the frame check sequence left out
        ("trailer", np.int64),  # bytes of frame check sequence in ``wire``
        ("network", np.int64),  # offset of the IP header
        ("source_high", np.uint64),  # IPv6 address, or IPv4 mapped into ::ffff:0:0/96
        ("source_low", np.uint64),
        ("destination_high", np.uint64),
        ("destination_low", np.uint64),
        ("payload", np.int64),  # offset of what is above the transport header
        ("length", np.int64),  # of the payload, as the headers declare it
        ("source_mac", np.int64),  # -1: the link layer has none
        ("destination_mac", np.int64),
        ("source_port", np.int32),  # ICMP echo: the identifier on both sides; -1: none; -2: see FOLDED
        ("destination_port", np.int32),
        ("linktype", np.int32),
        ("ethertype", np.int32),
        ("vlan", np.int32),  # outermost VLAN identifier, -1: untagged
        ("tag", np.int64),  # PPPoE session or MPLS label, and VLAN; 0: none
        ("sequence", np.uint32),  # TCP
        ("acknowledgement", np.uint32),
        ("protocol", np.uint8),  # IP protocol number behind all extension headers
        ("version", np.uint8),  # of IP: 4 or 6
        ("flags", np.uint8),  # TCP
        ("time_to_live", np.uint8),
        ("identification", np.uint16),  # of IPv4; 0 in IPv6
    ]
)

FOLDED = -2
"""Port of the client in a flow that stands for all that there was no room to keep apart."""

MAPPED = np.uint64(0x0000FFFF00000000)
"""Low half of ::ffff:0:0, under which IPv4 addresses are kept."""

FLOW = np.dtype(
    [
        # What every packet is compared with or changes comes first: few lines of the processor's cache.
        ("high0", np.uint64),  # address of side 0, the first sender (IPv4 mapped into IPv6)
        ("low0", np.uint64),
        ("high1", np.uint64),  # address of side 1
        ("low1", np.uint64),
        ("port0", np.int32),  # ICMP echo: identifier; -1: none; FOLDED
        ("port1", np.int32),
        ("protocol", np.uint8),
        ("version", np.uint8),
        ("content", np.uint8),  # see CONTENT_*: how much head is kept
        ("syn_side", np.int8),  # who sent the SYN; or received the SYN-ACK; -1: no handshake seen
        ("reset_side", np.int8),  # who sent the first reset
        ("closed", np.uint8),  # a reset was seen, or FINs of both sides
        ("account", np.int32),  # TCP: its LINK; ESP, also inside UDP: its newest ASSOCIATION; -1: none; UNFOLLOWED
        ("last_capture", np.int32),
        ("first", np.int64),  # nanoseconds since the epoch; earliest and latest, should time go backwards
        ("last", np.int64),
        ("last_frame", np.int64),
        ("first_frame", np.int64),
        ("reset_frame", np.int64),  # first TCP reset, 0: none
        ("first_capture", np.int32),
        ("reset_capture", np.int32),
        ("vlan", np.int32),  # -1: untagged
        ("note", np.int32),  # index into the notes of the slow path, -1: none
        ("errors", np.int32),  # ICMP errors that quote it
        ("controls", np.int32),  # those of them that tell its sender how to route or send
    ]
)

SIDE = np.dtype(
    [
        ("packets", np.int64),
        ("bytes", np.int64),  # frame lengths on the wire
        ("copies", np.int64),  # packets that were captured before: not in packets
        ("payload", np.int64),  # bytes above the transport header, retransmissions left out
        ("retransmitted", np.int64),  # packets
        ("mac", np.int64),  # source of the side's first frame, -1: none
        ("tag", np.int64),  # the newest packet's, which the flow's notes tell
        ("base", np.uint32),  # TCP sequence number of the first head byte
        ("initial", np.uint32),  # sequence number of the SYN
        ("next", np.uint32),  # highest sequence number seen, plus one
        ("hole", np.uint32),  # sequence number of the first byte that the newest gap below next lacks
        ("hole_end", np.uint32),  # behind its last; the same: nothing is missing
        ("contiguous", np.int32),  # head bytes without a gap
        ("kept", np.int32),  # bytes in the arena
        ("pieces", np.int32),
        ("ending", np.int64),  # head offset behind the last byte (a FIN told it), -1: unknown
        ("flags", np.uint8),  # all TCP flags
        ("based", np.uint8),  # base is set
        ("begins", np.uint8),  # base follows a SYN
        ("acknowledged", np.uint8),  # sent an ACK that is neither SYN nor RST
        ("closed", np.uint8),  # no more head is kept
        ("recent", np.uint64, 4),  # digests of the last packets, for copies
        ("recent_place", np.int64, 4),  # where each was captured: a mixture of source MAC, VLAN and time to live
        ("recent_time", np.int64, 4),
        ("recent_next", np.uint8),
        ("lengths", np.uint16, 4),  # ICMP: lengths of echoes that are kept, 0: room for one
    ]
)

PIECE = np.dtype(
    [
        ("frame", np.int64),
        ("time", np.int64),
        ("arena", np.int64),  # offset of the first kept byte
        ("flow", np.int32),
        ("capture", np.int32),
        ("offset", np.int32),  # TCP: in the head; ICMP error: length of the IP header that precedes
        ("length", np.int32),  # payload as declared; -1: the fragment that would tell it is missing
        ("kept", np.int32),
        ("side", np.uint8),  # ICMP error: the side that sent the quoted packet
        ("error", np.uint8),  # 1: an ICMP error that quotes the flow, from its IP header on
    ]
)

# What only some flows need is accounted for in tables of their own, to which ``account`` of the flow leads.

LINK = np.dtype(
    [
        ("flow", np.int32),
        ("startdt", np.int8),  # the side that sent the first STARTDT act, -1: none
        ("kinds", np.uint8),  # used entries of the next two
        ("kind", np.uint32, 64),  # LRR: the payload's type; standard: STANDARD + type identification
        ("kind_count", np.uint32, 64),
        ("other_kinds", np.int64),  # payloads of kinds for which there was no room
        ("ids", np.uint8),  # used entries of the next
        ("id", np.uint32, 4),  # LRR-IDs in the order of their appearance
        ("other_ids", np.int64),  # payloads with LRR-IDs for which there was no room
        ("last", np.int64),  # time of the newest APDU
        ("silence", np.int64),  # longest time without an APDU of either side, nanoseconds
        ("silence_frame", np.int64),  # the frame that ended it
        ("silence_capture", np.int32),
    ]
)
"""An IEC 104 link: a TCP flow with two records of :data:`LINE`."""

LINE = np.dtype(
    [
        ("next", np.uint32),  # TCP sequence number up to which the stream was read
        ("offset", np.int64),  # that as a position in the stream, which begins where the head does
        ("left", np.int64),  # bytes of the newest APDU that are still to come
        ("began", np.int64),  # where the newest APDU begins
        ("began_frame", np.int64),
        ("began_time", np.int64),
        ("size", np.int64),  # of the newest APDU with start byte and length
        ("reorder", np.int32),  # its REORDER + 1; 0: none
        ("began_capture", np.int32),
        ("based", np.uint8),  # next is set
        ("whole", np.uint8),  # it is read from the first byte that the sender sent
        ("synchronised", np.uint8),  # at ``next`` begins an APDU, or the part of one that is still to come
        ("doubt", np.uint8),  # APDUs to be read until a break is the sender's fault: what came before is unseen
        ("gathered", np.uint8),  # bytes of an incomplete APDU header that wait in REORDER
        ("apdus", np.int64),
        ("i_frames", np.int64),
        ("s_frames", np.int64),
        ("functions", np.int64, 6),  # U frames: STARTDT act and con, STOPDT act and con, TESTFR act and con
        ("long", np.int64),  # with start byte 0x69
        ("empty", np.int64),  # I frames without ASDU
        ("lrr", np.int64),  # I frames with an LRR's payload
        ("standard", np.int64),  # I frames with a standard ASDU
        ("asdu_bytes", np.int64),
        ("first", np.int32),  # send sequence number of the first and of the newest I frame, -1: none
        ("sent", np.int32),
        ("expected", np.int32),  # send sequence number of the next I frame, -1: unknown
        ("modulus", np.int32),  # where the send sequence number began anew: 32767 or 32768; 0: nowhere
        ("received", np.int32),  # newest receive sequence number, -1: unknown
        ("outstanding", np.int32),  # the most I frames at a time that were not acknowledged
        ("jumps", np.int64),  # send sequence numbers that do not follow the one before
        ("repeats", np.int64),  # those of them that are the one before
        ("wrong", np.int64),  # receive sequence numbers that go back, or acknowledge what was not sent
        ("excesses", np.int64),  # I frames sent though WINDOW of them were not acknowledged
        ("unknown", np.int64),  # LRR payloads of a type above the highest known
        ("breaks", np.int64),  # breaks of the framing
        ("gaps", np.int64),  # times that the capture lacks the beginning of an APDU
        ("resynchronised", np.int64),  # times that one was found after a gap, a break or an unseen beginning
        ("missing", np.int64),  # bytes that the capture lacks
        ("unread", np.int64),  # bytes in which no APDU was found
        ("testing", np.uint8),  # a TESTFR act is unanswered
        ("test_time", np.int64),  # of that
        ("answered", np.int64),  # TESTFR acts
        ("unanswered", np.int64),  # TESTFR acts before the next one
        ("longest_wait", np.int64),  # from TESTFR act to con, nanoseconds
    ]
)
"""One direction of a link, followed over the whole stream."""

HEADER = 3 + 4 + 20
"""Bytes of the longest APDU header that is judged: the long form with an LRR's payload header."""
EARLY = 16
EARLY_BYTES = 8192

REORDER = np.dtype(
    [
        ("header", np.int64),  # arena offset of the room for the beginning of an APDU that comes in parts
        ("frame", np.int64, HEADER),  # where each of its bytes was captured
        ("time", np.int64, HEADER),
        ("capture", np.int32, HEADER),
        ("room", np.int64),  # arena offset of EARLY_BYTES for segments that came early
        ("used", np.int32),
        ("count", np.int32),
        ("early_sequence", np.uint32, EARLY),
        ("early_length", np.int32, EARLY),
        ("early_kept", np.int32, EARLY),
        ("early_at", np.int64, EARLY),  # arena offset
        ("early_frame", np.int64, EARLY),
        ("early_time", np.int64, EARLY),
        ("early_capture", np.int32, EARLY),
    ]
)
"""What waits in one direction of a link, in the order of its arrival. Few directions ever need it."""

ASSOCIATION = np.dtype(
    [
        ("flow", np.int32),
        ("previous", np.int32),  # the flow's association before this one, -1: none
        ("spi", np.uint32),
        ("side", np.uint8),
        ("folded", np.uint8),  # it stands for all that there was no room to keep apart
        ("packets", np.int64),
        ("bytes", np.int64),  # of ESP packets, as declared
        ("first", np.uint32),  # sequence numbers
        ("last", np.uint32),
        ("highest", np.uint32),
        ("wraps", np.int32),
        ("seen", np.uint64),  # bit n: the packet ``highest - n`` came
        ("digest", np.uint64, 64),  # by sequence number modulo 64: of the newest packets
        ("time", np.int64, 64),
        ("copied", np.int64),  # packets that came twice within an instant
        ("reused", np.int64),  # sequence numbers that another packet had
        ("replayed", np.int64),  # packets that came again later
        ("late", np.int64),  # packets older than the window of 64
        ("remainders", np.int64, 16),  # packets by length modulo 16
        ("lengths", np.uint64, 8),  # bit n: a packet of 4 n to 4 n + 3 bytes came; the last one: or longer
        ("first_frame", np.int64),
        ("last_frame", np.int64),
        ("first_capture", np.int32),
        ("last_capture", np.int32),
        ("first_time", np.int64),
        ("last_time", np.int64),
    ]
)
"""ESP packets of one side under one SPI, over the whole flow."""

EVENT = np.dtype(
    [
        ("flow", np.int32),
        ("capture", np.int32),
        ("frame", np.int64),
        ("time", np.int64),
        ("offset", np.int64),  # IEC 104: in the stream; ESP: the SPI
        ("value", np.int64),
        ("other", np.int64),
        ("side", np.uint8),
        ("kind", np.uint8),
    ]
)
"""Where something happened that a check wants to show; of each kind the first few per side."""

# Kinds of events, and what ``value`` and ``other`` are. Of an IEC 104 link:
BREAK = 0  # reason (see BAD_*) | offending value << 8, and what it should agree with
JUMP = 1  # send sequence number, and the one before (-1: none)
WRONG = 2  # receive sequence number, and the one before or the newest one sent
EXCESS = 3  # I frames that are not acknowledged
UNKNOWN = 4  # type of the LRR payload
STANDARD_ASDU = 5  # type identification
STARTDT = 6
UNANSWERED = 7
GAP = 8  # the first APDU behind it
IDENTIFIED = 9  # LRR-ID that was not there before
# Of ESP:
REUSED, REPLAYED, LATE = 10, 11, 12  # sequence number, and the highest before
SHOWN = 8
"""Events of one kind that are kept per side."""
EVENTS = 96
"""Events that one packet may cause at the most."""

# What is to be done with a packet beside its flow; of its side 1 one more.
FOLLOW_APDUS, FOLLOW_ESP = 2, 4

# Why an APDU is broken.
GOOD, MORE = 0, -1
BAD_START = 1
BAD_LENGTH = 2
BAD_CONTROL = 3
BAD_FIXED = 4
BAD_FUNCTION = 5
BAD_VERSION = 6
BAD_HEADER = 7
BAD_HEADER_SIZE = 8
BAD_TYPE = 9
BAD_IDENTIFIER = 10
BAD_CAUSE = 11
BAD_OBJECTS = 12

STANDARD = 1 << 16
HIGHEST_LRR_TYPE = 47
WINDOW = 12
"""I frames that a side may send before an acknowledgement (k)."""
DOUBTS = 4
"""APDUs in a row after which a direction, once lost, is read with certainty again."""
LINKS = 1 << 14
"""Links that are followed at the most; of further ones their heads tell."""
ASSOCIATIONS = 64
"""SPIs of one flow, both directions, that are kept apart."""
ALL_ASSOCIATIONS = 1 << 16
"""SPIs of all flows that are kept; of further ones the heads tell."""
UNFOLLOWED = -2
"""Account of a link for which there was no room."""
ESP_COPY = 100_000_000
"""Nanoseconds within which an identical ESP packet is a second copy of the capture point, not a replay."""

ASDU_SIZES = np.full(256, -1, dtype=np.int64)
"""Bytes of one element set by type identification; -1: it varies, or nobody knows; -2: there is no such type."""
ASDU_SIZES[:128] = -2
ASDU_SIZES[120:128] = -1
ASDU_SIZES[102] = 0
ASDU_SIZES[[1, 3, 45, 46, 47, 70, 100, 101, 105, 113]] = 1
ASDU_SIZES[[5, 21, 104, 106]] = 2
ASDU_SIZES[[9, 11, 48, 49, 110, 111]] = 3
ASDU_SIZES[[2, 4, 51]] = 4
ASDU_SIZES[[6, 7, 13, 15, 20, 50, 112]] = 5
ASDU_SIZES[[10, 12, 17]] = 6
ASDU_SIZES[[18, 19, 103]] = 7
ASDU_SIZES[[8, 14, 16, 30, 31, 58, 59, 60]] = 8
ASDU_SIZES[[32, 107]] = 9
ASDU_SIZES[[34, 35, 38, 61, 62]] = 10
ASDU_SIZES[[39, 40, 64]] = 11
ASDU_SIZES[[33, 36, 37, 63]] = 12

INTERFACE = np.dtype(
    [
        ("linktype", np.int32),
        ("snaplen", np.int64),
        ("offset", np.int64),  # seconds to add
        ("multiplier", np.int64),  # ticks → ns: ticks * multiplier // divisor, or by bits if >= 0
        ("divisor", np.int64),
        ("bits", np.int32),
        ("trailer", np.int32),  # bytes of frame check sequence behind each frame
    ]
)

CLOCK = np.dtype(
    [
        ("position", np.int64),  # in: where to begin in the buffer; out: the first byte not consumed
        ("frame", np.int64),  # frames read of this file so far
        ("capture", np.int64),  # index of the file
        ("framing", np.int64),
        ("little", np.int64),
        ("record_header", np.int64),  # pcap: 16; 20, 24 or 28 in modified formats
        ("swapped", np.int64),  # pcap before version 2.4: the two lengths of a record may stand in either order
        ("fraction", np.int64),  # pcap: nanoseconds per unit of the second half of a time stamp
        ("linktype", np.int64),  # pcap and snoop
        ("trailer", np.int64),  # pcap
        ("largest", np.int64),  # captured length above which a record is damage
        ("interfaces", np.int64),
        ("flows", np.int64),  # records in use
        ("limit", np.int64),  # flows from which on those that differ in the client's port alone are folded
        ("pieces", np.int64),
        ("pieces_limit", np.int64),  # pieces and bytes of the arena from which on no more payload is kept
        ("arena_limit", np.int64),
        ("links", np.int64),
        ("reorders", np.int64),
        ("associations", np.int64),
        ("events", np.int64),
        ("arena", np.int64),  # offset of the first free byte
        ("secret", np.uint64, 3),  # odd factors of the flow hash
        ("first", np.int64),  # times of this file, nanoseconds since the epoch
        ("last", np.int64),
        ("flow", np.int64),  # SINGLE, out: the flow that it was accounted to
        ("lost", np.int64),  # snoop: packets that this file's capturing machine says it lost
        ("count_only", np.int64),  # SINGLE: account for the packet, but do not look into its payload
        ("in_flows", np.int64),  # packets by fate, over all files
        ("in_errors", np.int64),  # ICMP errors that belong to the flow that they quote
        ("copies", np.int64),
        ("unfollowed", np.int64),  # above the limit of folded flows, too: in no flow
        ("unkept", np.int64),  # packets in flows of which payload was left out because of these limits
        ("esp_unfollowed", np.int64),  # ESP packets in flows that are accounted for under no SPI
        ("not_ip", np.int64),
        ("cut", np.int64),
        ("broken", np.int64),
        ("snapped", np.int64),  # frames captured shorter than they were
    ]
)

# Why the kernel came back.
EMPTY = 0
"""The buffer holds no whole record any more."""
BLOCK = 1
"""A pcapng block that carries no packet stands at ``position``."""
SLOW = 2
"""The packet in ``packet`` is for the slow path; ``position`` is behind it and it is not yet accounted for."""
FLOWS_FULL = 3
PIECES_FULL = 4
ARENA_FULL = 5
DAMAGED = 6
"""The record at ``position`` is impossible."""
TABLES_FULL = 7
"""Of LINK (and LINE), REORDER, ASSOCIATION or EVENT."""

# What a flow's first payload looks like, by which the length of its head is chosen.
CONTENT_UNKNOWN, CONTENT_OTHER, CONTENT_TLS, CONTENT_SSH, CONTENT_IEC104, CONTENT_TEXT, CONTENT_FTP = range(7)
HEAD_LIMITS = np.array([4096, 4096, 24576, 8192, 2048, 8192, 262144], dtype=np.int64)
"""Bytes per direction that are kept of a TCP conversation, by content."""
HEAD_PIECES = 1024
"""Frames per direction that a TCP head is made of at the most; FTP control: eight times that."""
DATAGRAMS = 64
"""Datagrams per direction that are kept of anything but TCP and ESP."""
DATAGRAM_BYTES = 4096
DATAGRAMS_BYTES, DATAGRAMS_RESERVE = 65536, 16384
ESP_PACKETS = 16
ESP_BYTES = 64
NTP_REPETITIONS, NTP_VARIANTS = 4, 48
ECHO_REPETITIONS, ECHO_VARIANTS = 16, 48
"""Datagrams per direction up to which an ordinary time packet, an echo of a known length is kept; and up to which one
of another length is. The rest of DATAGRAMS, and DATAGRAMS_RESERVE bytes, are for what is no such packet at all: no
flood of them can hide it."""
COPY_ELSEWHERE, COPY_HERE = 20_000_000, 1_000_000
"""Nanoseconds within which the copies of a packet are captured: on its way, and at one place (two mirrors)."""
ERRORS = 8
"""ICMP errors that are kept per flow; and of source quenches and redirects as many again."""

# Numba types its functions' arguments itself; the arrays' dtypes are given where they are made.
Buffer = Any
Record = Any
Number = Any


LIBRARY = Library(__file__)
compiled = LIBRARY.part
"""A function that runs only inside compiled kernels."""


u16: Any = LIBRARY.word("u16", 2, big=True)
u32: Any = LIBRARY.word("u32", 4, big=True)
u64: Any = LIBRARY.word("u64", 8, big=True)
little16: Any = LIBRARY.word("little16", 2, big=False)
little32: Any = LIBRARY.word("little32", 4, big=False)


@compiled
def u48(b: Buffer, at: Number) -> Number:
    return u16(b, at) << 32 | u32(b, at + 2)


@compiled
def host16(b: Buffer, at: Number, little: bool) -> Number:
    """A 16-bit number of the file's own byte order."""
    return little16(b, at) if little else u16(b, at)


@compiled
def host32(b: Buffer, at: Number, little: bool) -> Number:
    """A 32-bit number of the file's own byte order."""
    return little32(b, at) if little else u32(b, at)


@compiled
def decode(b: Buffer, p: Record, tunnels: Any) -> Number:
    """Link, network and transport header of the packet in ``b[p.start:p.end]``."""
    p.source_mac = -1
    p.destination_mac = -1
    p.vlan = -1
    p.tag = 0
    at = p.start
    end = p.end
    linktype = p.linktype
    if linktype == 1:  # Ethernet
        if at + 14 > end:
            return CUT
        p.destination_mac = u48(b, at)
        p.source_mac = u48(b, at + 6)
        ethertype = u16(b, at + 12)
        at += 14
    elif linktype == 113:  # Linux cooked: packet type, device type, address length, address, protocol
        if at + 16 > end:
            return CUT
        if u16(b, at + 4) == 6:
            p.source_mac = u48(b, at + 6)
        if u16(b, at + 2) in (770, 801, 802, 803, 824):  # devices whose protocol is no Ethernet type
            return RARE
        ethertype = u16(b, at + 14)
        at += 16
    elif linktype == 276:  # Linux cooked, version 2: protocol first
        if at + 20 > end:
            return CUT
        if b[at + 11] == 6:
            p.source_mac = u48(b, at + 12)
        if u16(b, at + 8) in (770, 801, 802, 803, 824):
            return RARE
        ethertype = u16(b, at)
        at += 20
    elif linktype == 101 or linktype == 228 or linktype == 229 or linktype == 12 or linktype == 14:  # raw IP
        if at >= end:
            return CUT
        ethertype = 0x86DD if b[at] >> 4 == 6 else 0x0800
    elif linktype == 0 or linktype == 108:  # BSD loopback: address family in the byte order of who captured
        if at + 4 > end:
            return CUT
        family = min(host32(b, at, True), host32(b, at, False))
        ethertype = 0x0800 if family == 2 else 0x86DD if family in (10, 24, 28, 30) else 0
        at += 4
    else:
        return RARE
    if p.source_mac == 0:  # what loops back has no sender's address
        p.source_mac = -1
    while ethertype in (0x8100, 0x88A8, 0x9100, 0x9200):
        if at + 4 > end:
            return CUT
        if p.vlan < 0:
            p.vlan = u16(b, at) & 0xFFF
        ethertype = u16(b, at + 2)
        at += 4
    p.ethertype = ethertype
    p.network = at
    if ethertype == 0x0800 or ethertype == 0x86DD:
        return decode_ip(b, p, tunnels)
    if ethertype == 0x8847 or ethertype == 0x8848 or ethertype == 0x8864:
        return decode_tagged(b, p, tunnels)
    if ethertype < 1536 or ethertype == 0x88E5:  # 802.2, MACsec
        return RARE
    return NOT_IP


@compiled
def decode_tagged(b: Buffer, p: Record, tunnels: Any) -> Number:
    """IP right below the PPPoE session (RFC 2516) or MPLS label stack (RFC 3032) at ``p.network``; else it is rare."""
    at = p.network
    if p.ethertype == 0x8864:
        if at + 8 >= p.end or (u16(b, at + 6) != 0x21 and u16(b, at + 6) != 0x57):
            return RARE
        tag = np.int64(1) << 32 | u16(b, at + 2)
        at += 8
    else:
        while at + 4 < p.end and not b[at + 2] & 1:
            at += 4
        if at + 4 >= p.end:
            return RARE
        tag = u32(b, at) >> 12
        at += 4
    if b[at] >> 4 != 4 and b[at] >> 4 != 6:
        return RARE
    p.tag = tag << 13 | np.int64(p.vlan + 1) | np.int64(1) << 60
    p.network = at
    return DECODED if decode_ip(b, p, tunnels) == DECODED else RARE


@compiled
def decode_ip(b: Buffer, p: Record, tunnels: Any) -> Number:
    """IP header at ``p.network`` and the transport header behind it."""
    at = p.network
    if at >= p.end:
        return CUT
    version = b[at] >> 4
    p.version = version
    p.source_port = -1
    p.destination_port = -1
    p.flags = 0
    p.payload = at
    p.length = 0
    if version == 4:
        if at + 20 > p.end:
            return CUT
        header = (np.int64(b[at]) & 15) * 4
        total = u16(b, at + 2)
        if header < 20 or 0 < total < header:
            return BROKEN
        if at + header > p.end:
            return CUT
        # Offloaded frames have length 0: then the frame's end is the packet's.
        limit = at + total if total else min(p.start + p.wire - p.trailer, at + LARGEST_PACKET)
        p.source_high = np.uint64(0)
        p.source_low = MAPPED | np.uint64(u32(b, at + 12))
        p.destination_high = np.uint64(0)
        p.destination_low = MAPPED | np.uint64(u32(b, at + 16))
        p.protocol = b[at + 9]
        p.time_to_live = b[at + 8]
        p.identification = u16(b, at + 4)
        if u16(b, at + 6) & 0x3FFF:
            return RARE
        return decode_transport(b, p, at + header, limit, tunnels)
    if version == 6:
        if at + 40 > p.end:
            return CUT
        declared = u16(b, at + 4)
        limit = at + 40 + declared if declared else min(p.start + p.wire - p.trailer, at + LARGEST_PACKET)
        p.source_high = u64(b, at + 8)
        p.source_low = u64(b, at + 16)
        p.destination_high = u64(b, at + 24)
        p.destination_low = u64(b, at + 32)
        p.time_to_live = b[at + 7]
        p.identification = 0
        following, at = extensions(b, np.int64(b[at + 6]), at + 40, p.end)
        p.protocol = following
        if following in (0, 43, 44, 60, 135, 139, 140) and at + 8 > p.end:
            return CUT
        if following == 44 and u16(b, at + 2) & 0xFFF9:
            p.protocol = b[at]
            return RARE
        if following in (0, 43, 44, 60):
            return BROKEN
        return decode_transport(b, p, at, limit, tunnels)
    return BROKEN


@compiled
def extensions(b: Buffer, following: Number, at: Number, end: Number) -> Number:
    """Walk over IPv6 extension headers (RFC 8200 section 4): the number and the offset of what stands behind them.

    Stops at the header of a true fragment, at one that is cut and at the seventeenth. Mobility, HIP and shim6 headers
    are walked over only where they carry something.
    """
    for _ in range(16):
        if following not in (0, 43, 44, 60, 135, 139, 140) or at + 8 > end:
            break
        if following == 44 and u16(b, at + 2) & 0xFFF9:
            break
        if following >= 135 and b[at] == 59:
            break
        step = np.int64(8) if following == 44 else (np.int64(b[at + 1]) + 1) * 8
        following = np.int64(b[at])
        at += step
    return following, at


@compiled
def decode_transport(b: Buffer, p: Record, at: Number, limit: Number, tunnels: Any) -> Number:
    """Transport header at ``at``; ``limit`` is the end of the packet that the IP header declares."""
    p.source_port = -1
    p.destination_port = -1
    p.flags = 0
    p.payload = at
    p.length = max(0, limit - at)
    protocol = p.protocol
    if protocol == TCP:
        if at + 14 > p.end:
            return CUT
        p.source_port = u16(b, at)
        p.destination_port = u16(b, at + 2)
        p.sequence = u32(b, at + 4)
        p.acknowledgement = u32(b, at + 8)
        p.flags = b[at + 13]
        header = np.int64(b[at + 12] >> 4) * 4
        p.payload = at + max(header, 20)
        p.length = max(0, limit - p.payload) if header >= 20 else 0
    elif protocol == UDP:
        if at + 8 > p.end:
            return CUT
        p.source_port = u16(b, at)
        p.destination_port = u16(b, at + 2)
        declared = u16(b, at + 4)
        p.payload = at + 8
        p.length = max(0, limit - p.payload)
        if declared >= 8:
            p.length = min(p.length, declared - 8)
        if tunnels[256 + p.destination_port] or tunnels[256 + p.source_port]:
            return RARE
    elif protocol in (ICMP, ICMPV6):
        if at + 4 > p.end:
            return CUT
        kind = b[at]
        if protocol == ICMP:
            echo = kind == 8 or kind == 0
            error = 3 <= kind <= 5 or kind == 11 or kind == 12
        else:
            echo = kind == 128 or kind == 129
            error = 1 <= kind <= 4
        if error and p.length > 8:
            return ICMP_ERROR
        if echo and p.length >= 6:
            if at + 6 > p.end:
                return CUT
            p.source_port = u16(b, at + 4)
            p.destination_port = p.source_port
    elif tunnels[protocol]:
        return RARE
    return DECODED


@compiled
def quoted(b: Buffer, error: Record, inner: Record) -> Number:
    """Decode the packet that an ICMP error quotes, into ``inner``: addresses, protocol and ports.

    CUT: the capture holds too little of the quotation; NOT_IP: the error itself does, or quotes something else.
    """
    inner.start = error.payload + 8
    inner.end = error.end
    too_short = CUT if error.payload + error.length > error.end else NOT_IP
    inner.wire = error.end - inner.start
    inner.network = inner.start
    inner.source_port = -1
    inner.destination_port = -1
    at = inner.start
    if at + 20 > inner.end:
        return too_short
    if b[at] >> 4 == 4 and not u16(b, at + 6) & 0x1FFF:
        header = (np.int64(b[at]) & 15) * 4
        inner.protocol = b[at + 9]
        inner.source_high = np.uint64(0)
        inner.source_low = MAPPED | np.uint64(u32(b, at + 12))
        inner.destination_high = np.uint64(0)
        inner.destination_low = MAPPED | np.uint64(u32(b, at + 16))
        at += header
    elif b[at] >> 4 == 6:
        if at + 40 > inner.end:
            return too_short
        inner.source_high = u64(b, at + 8)
        inner.source_low = u64(b, at + 16)
        inner.destination_high = u64(b, at + 24)
        inner.destination_low = u64(b, at + 32)
        following, at = extensions(b, np.int64(b[at + 6]), at + 40, inner.end)
        if following == 44 and at + 8 <= inner.end and not u16(b, at + 2) & 0xFFF8:
            following, at = extensions(b, np.int64(b[at]), at + 8, inner.end)  # the first fragment has the ports
        if following in (0, 43, 44, 60):
            return too_short if at + 8 > inner.end else NOT_IP
        inner.protocol = following
    else:
        return NOT_IP
    if inner.protocol == TCP or inner.protocol == UDP:
        if at + 4 > inner.end:
            return too_short
        inner.source_port = u16(b, at)
        inner.destination_port = u16(b, at + 2)
    elif inner.protocol == ICMP or inner.protocol == ICMPV6:
        if at + 6 > inner.end:
            return too_short
        if b[at] in (8, 0, 128, 129):
            inner.source_port = u16(b, at + 4)
            inner.destination_port = inner.source_port
    return DECODED


@compiled
def mix(x: Number) -> Number:
    """Spread the upper bits over the lower ones."""
    x ^= x >> np.uint64(32)
    x *= np.uint64(0xFF51AFD7ED558CCD)
    return x ^ (x >> np.uint64(32))


@compiled
def flow_hash(protocol: Number, one: Any, two: Any, secret: Any) -> Number:
    """The same for both directions; multiplied by secrets, so that a capture cannot be made to collide.

    ``one`` and ``two`` are (high, low, port) of the ends.
    """
    left = mix(one[0] * secret[0] + one[1] * secret[1] + np.uint64(one[2] + 1) * secret[2])
    right = mix(two[0] * secret[0] + two[1] * secret[1] + np.uint64(two[2] + 1) * secret[2])
    return mix(left + right + np.uint64(protocol))


@compiled
def find(slots: Any, flows: Any, p: Record, secret: Any) -> Number:
    """(slot, flow) of the packet's conversation; flow -1: not there, slot is where it belongs."""
    mask = np.uint64(len(slots) - 1)
    at = (
        flow_hash(
            p.protocol,
            (p.source_high, p.source_low, p.source_port),
            (p.destination_high, p.destination_low, p.destination_port),
            secret,
        )
        & mask
    )
    while True:
        index = slots[at]
        if index < 0:
            return np.int64(at), np.int64(-1)
        f = flows[index]
        if f.protocol == p.protocol and (
            same(
                f, p.source_high, p.source_low, p.source_port, p.destination_high, p.destination_low, p.destination_port
            )
            or same(
                f, p.destination_high, p.destination_low, p.destination_port, p.source_high, p.source_low, p.source_port
            )
        ):
            return np.int64(at), np.int64(index)
        at = (at + np.uint64(1)) & mask


@compiled
def is_noted(slots: Any, flows: Any, sides: Any, p: Record, secret: Any) -> Number:
    """Whether the notes of the packet's flow tell its tag already: who came before it took the slow path."""
    if p.protocol == TCP and p.flags & SYN:
        return False  # it may open another flow
    _, flow = find(slots, flows, p, secret)
    return flow >= 0 and sides[2 * flow + (0 if sent_by_first(flows[flow], p) else 1)].tag == p.tag


@compiled
def same(f: Record, high0: Any, low0: Any, port0: Any, high1: Any, low1: Any, port1: Any) -> Number:
    return (
        f.low0 == low0
        and f.low1 == low1
        and f.port0 == port0
        and f.port1 == port1
        and f.high0 == high0
        and f.high1 == high1
    )


@compiled
def sent_by_first(f: Record, p: Record) -> Number:
    """Whether side 0 of the flow sent the packet."""
    return (
        f.low0 == p.source_low
        and f.high0 == p.source_high
        and f.port0 == p.source_port
        and f.low1 == p.destination_low
        and f.high1 == p.destination_high
        and f.port1 == p.destination_port
    )


@compiled
def content_of(b: Buffer, p: Record, size: Number) -> Number:
    """What the first payload of a TCP conversation looks like."""
    first = b[p.payload]
    second = b[p.payload + 1] if size > 1 else np.uint8(0)
    if (p.source_port == 21 or p.destination_port == 21) and first < 0x80 and first != 22:
        return CONTENT_FTP
    if (20 <= first <= 23 and second == 3) or (first >= 0x80 and size > 2 and b[p.payload + 2] == 1):
        return CONTENT_TLS
    if first == 0x68 or first == 0x69:
        return CONTENT_IEC104
    if size > 3 and first == 0x53 and second == 0x53 and b[p.payload + 2] == 0x48:
        return CONTENT_SSH
    if size > 3 and 0x31 <= first <= 0x35 and 0x30 <= second <= 0x39 and b[p.payload + 3] in (0x20, 0x2D):
        return CONTENT_FTP  # a three-digit reply
    if 0x20 <= first < 0x7F:
        return CONTENT_TEXT
    return CONTENT_OTHER


@compiled
def has_room(clock: Record) -> Number:
    """Whether more payload may be kept; the packet is counted if not."""
    room = clock.pieces < clock.pieces_limit and clock.arena < clock.arena_limit
    if not room:
        clock.unkept += 1
    return room


@compiled
def store(b: Buffer, begin: Number, count: Number, pieces: Any, arena: Any, clock: Record) -> Number:
    """Copy bytes into the arena and take the next piece; the caller made sure of the room."""
    offset = clock.arena
    for each in range(count):
        arena[offset + each] = b[begin + each]
    clock.arena = offset + count
    index = clock.pieces
    clock.pieces = index + 1
    pieces[index].arena = offset
    pieces[index].kept = count
    return index


@compiled
def describe(
    piece: Record, p: Record, clock: Record, flow: Number, side: Number, offset: Number, error: Number
) -> None:
    piece.frame = p.frame
    piece.time = p.time
    piece.capture = clock.capture
    piece.flow = flow
    piece.side = side
    piece.offset = offset
    piece.length = p.length
    piece.error = error


@compiled
def keep_stream(
    b: Buffer, p: Record, f: Record, s: Record, flow: Number, side: Number, pieces: Any, arena: Any, clock: Record
) -> None:
    """Keep the part of a TCP segment that lengthens the head of its direction."""
    begin = p.payload
    captured = min(p.length, p.end - begin)
    offset = np.int64(np.int32(np.uint32(p.sequence - s.base)))
    if offset < 0:
        begin -= offset
        captured += offset
        offset = np.int64(0)
    if captured <= 0 or offset + captured <= s.contiguous:
        return
    if f.content <= CONTENT_OTHER or f.content == CONTENT_TEXT:
        f.content = max(f.content, content_of(b, p, captured))
    limit = HEAD_LIMITS[f.content]
    most = HEAD_PIECES * 8 if f.content == CONTENT_FTP else HEAD_PIECES
    if offset >= limit or s.pieces >= most or s.kept >= 2 * limit:
        s.closed = s.pieces >= most or s.kept >= 2 * limit
        return
    if not has_room(clock):
        return
    captured = min(captured, limit - offset)
    application_data = captured > 2 and b[begin] == 23 and b[begin + 1] == 3 and b[begin + 2] <= 4
    if f.content == CONTENT_TLS and application_data and offset == s.contiguous:
        captured = min(captured, 32)  # application data begins: one record's header is evidence enough
        s.closed = 1
    index = store(b, begin, captured, pieces, arena, clock)
    describe(pieces[index], p, clock, flow, side, offset, 0)
    s.pieces += 1
    s.kept += captured
    if offset <= s.contiguous:
        s.contiguous = offset + captured


@compiled
def echo_room(b: Buffer, p: Record, s: Record, captured: Number) -> Number:
    """Datagrams up to which an ICMP message is kept: endless pings of one length say nothing new, all else does."""
    kind = b[p.payload]
    asks = kind == 8 or kind == 0 if p.protocol == ICMP else kind == 128 or kind == 129
    if not asks or captured < 8 or b[p.payload + 1] != 0:
        return DATAGRAMS
    for each in range(len(s.lengths)):
        if s.lengths[each] == p.length:
            return ECHO_REPETITIONS
        if s.lengths[each] == 0:
            if s.pieces < ECHO_VARIANTS:
                s.lengths[each] = p.length
            break
    return ECHO_VARIANTS


@compiled
def time_room(b: Buffer, p: Record, captured: Number) -> Number:
    """Datagrams up to which one on NTP's port is kept: endless questions, and answers of a clock that is set, say
    nothing new; a kiss-o'-death or an authenticator may, a control message does (RFC 5905 section 7.3)."""
    if captured < 2 or p.length < 48:
        return DATAGRAMS
    first, stratum = b[p.payload], b[p.payload + 1]
    version, mode = first >> 3 & 7, first & 7
    if mode < 3 or mode > 4 or version < 3 or version > 4:
        return DATAGRAMS
    answers = first >> 6 != 3 and 0 < stratum < 16
    return NTP_REPETITIONS if p.length == 48 and (mode == 3 or answers) else NTP_VARIANTS


@compiled
def carries_esp(b: Buffer, p: Record) -> Number:
    """Whether the packet is ESP, or ESP inside UDP (RFC 3948 section 2.2: else there are four zeros)."""
    if p.protocol != UDP or (p.source_port != 4500 and p.destination_port != 4500):
        return p.protocol == ESP
    return min(p.length, p.end - p.payload) >= 4 and u32(b, p.payload) != 0


@compiled
def keep_datagram(
    b: Buffer, p: Record, s: Record, flow: Number, side: Number, pieces: Any, arena: Any, clock: Record
) -> Number:
    """Keep a datagram of anything but TCP, within its direction's limits; returns what is to follow it (FOLLOW_*)."""
    begin = p.payload
    captured = min(p.length, p.end - begin)
    limit = DATAGRAM_BYTES
    most = DATAGRAMS
    further = 0
    if carries_esp(b, p):
        limit = ESP_BYTES
        most = ESP_PACKETS
        if captured >= 8:
            further = FOLLOW_ESP
    if captured <= 0 or s.pieces >= most or s.kept >= DATAGRAMS_BYTES:
        return further
    if p.protocol == ICMP or p.protocol == ICMPV6:
        most = echo_room(b, p, s, captured)
    elif p.protocol == UDP and (p.source_port == 123 or p.destination_port == 123):
        most = time_room(b, p, captured)
    if s.pieces >= most or (most < DATAGRAMS and s.kept >= DATAGRAMS_BYTES - DATAGRAMS_RESERVE):
        return further
    if not has_room(clock):
        return further
    index = store(b, begin, min(captured, limit), pieces, arena, clock)
    describe(pieces[index], p, clock, flow, side, 0, 0)
    s.pieces += 1
    s.kept += min(captured, limit)
    return further


# -- IEC 104 over the whole stream ------------------------------------------------------------------------------
#
# A line reads its direction of the stream in order. Segments that come early wait, up to a limit; behind bytes that
# the capture lacks, and behind a break, it goes on with the next segment that begins with an APDU.


@compiled
def judge(b: Buffer, at: Number, have: Number) -> Number:
    """What the ``have`` bytes at ``at``, at least one, say of the APDU that begins there.

    Returns the outcome (GOOD, MORE: they are too few, or why it is broken: BAD_*); if GOOD the APDU's length, start
    byte and length included, and 0, 0; if broken the offset of the offending byte, its value, and what it should
    agree with. It says what :func:`analyzer.protocols.iec104.apdu` says.
    """
    start = np.int64(b[at])
    if start == 0x68:
        if have < 2:
            return MORE, 0, 0, 0
        control = 2
        length = np.int64(b[at + 1])
        if length < 4 or length > 253:
            return BAD_LENGTH, 1, length, start
    elif start == 0x69:
        if have < 3:
            return MORE, 0, 0, 0
        control = 3
        length = np.int64(u16(b, at + 1))
        if length < 254 or length > 16384:
            return BAD_LENGTH, 1, length, start
    else:
        return BAD_START, 0, start, 0
    if have < control + 4:
        return MORE, 0, 0, 0
    one = np.int64(b[at + control])
    if one & 1:
        if length != 4:
            return BAD_FIXED, 1, length, 0
        if one & 2 and function_of(one) < 0:
            return BAD_FUNCTION, control, one, 0
        return GOOD, control + length, 0, 0
    if b[at + control + 2] & 1:
        return BAD_CONTROL, control + 2, np.int64(b[at + control + 2]), 0
    size = length - 4
    if size == 0:
        return GOOD, control + length, 0, 0
    body = control + 4
    have -= body
    if have < min(2, size):
        return MORE, 0, 0, 0
    at += body
    kind = np.int64(b[at])
    if kind <= 1 and (size == 1 or b[at + 1] == 0):
        if kind != 1:
            return BAD_VERSION, body, kind, 0
        if size < 20:
            return BAD_HEADER, body, size, 0
        if have < 20:
            return MORE, 0, 0, 0
        header = np.int64(little16(b, at + 2))
        if header < 20 or header > size:
            return BAD_HEADER_SIZE, body + 2, header, size
        return GOOD, control + length, 0, 0
    element = ASDU_SIZES[kind]
    if element == -2:
        return BAD_TYPE, body, kind, 0
    if size < 6:
        return BAD_IDENTIFIER, body, size, 0
    if have < 6:
        return MORE, 0, 0, 0
    if b[at + 2] & 63 == 0:
        return BAD_CAUSE, body + 2, 0, 0
    objects = np.int64(b[at + 1]) & 0x7F
    if element >= 0:
        need = objects * (3 + element) if b[at + 1] < 0x80 or objects == 0 else 3 + objects * element
        if need != size - 6:
            return BAD_OBJECTS, body + 1, kind << 16 | need, (size - 6) << 8 | objects
    return GOOD, control + length, 0, 0


@compiled
def function_of(first: Number) -> Number:
    """Index in ``functions`` of what a U frame says; -1: nothing that is known."""
    if first == 0x07:
        return 0
    if first == 0x0B:
        return 1
    if first == 0x13:
        return 2
    if first == 0x23:
        return 3
    if first == 0x43:
        return 4
    if first == 0x83:
        return 5
    return -1


@compiled
def happened(
    flow: Number,
    side: Number,
    kind: Number,
    where: Any,
    offset: Number,
    value: Number,
    other: Number,
    events: Any,
    clock: Record,
) -> None:
    """Remember where something happened; ``where`` is (frame, time, capture). The caller counts, up to SHOWN."""
    e = events[clock.events]
    clock.events += 1
    e.flow = flow
    e.side = side
    e.kind = kind
    e.frame = where[0]
    e.time = where[1]
    e.capture = where[2]
    e.offset = offset
    e.value = value
    e.other = other


@compiled
def opens_link(b: Buffer, p: Record, f: Record, clock: Record) -> Number:
    """Whether an IEC 104 link is to be followed from this segment on: by its first bytes, or by its port."""
    captured = min(p.length, p.end - p.payload)
    if captured <= 0 or f.account == UNFOLLOWED:
        return False
    opens = f.port0 == 2404 or f.port1 == 2404 or f.port0 == 2504 or f.port1 == 2504
    if not opens and f.content == CONTENT_IEC104:
        outcome, _, _, _ = judge(b, p.payload, captured)
        opens = outcome <= GOOD
    if opens and clock.links >= LINKS:
        f.account = UNFOLLOWED
        return False
    return opens


@compiled
def open_link(f: Record, sides: Any, flow: Number, side: Number, clock: Record, tables: Any) -> None:
    links, lines, _, _ = tables
    link = clock.links
    clock.links = link + 1
    f.account = link
    links[link].flow = flow
    links[link].startdt = -1
    for each in range(2):
        line = lines[2 * link + each]
        s = sides[2 * flow + each]
        line.first = -1
        line.sent = -1
        line.expected = -1
        line.received = -1
        if s.begins and s.pieces <= (1 if each == side else 0):
            line.next = s.base
            line.based = 1
            line.whole = 1
            line.synchronised = 1
            line.expected = 0
            line.received = 0


@compiled
def follow_apdus(
    b: Buffer, p: Record, f: Record, sides: Any, side: Number, arena: Any, clock: Record, tables: Any
) -> None:
    """Read a segment of a link, or let it wait for what should come before it."""
    _, lines, reorders, _ = tables
    if f.account < 0:
        open_link(f, sides, clock.flow, side, clock, tables)
    link = f.account
    line = lines[2 * link + side]
    if not line.based:
        line.based = 1
        line.next = p.sequence
        line.offset = np.int64(np.int32(np.uint32(p.sequence - sides[2 * clock.flow + side].base)))
        line.doubt = DOUBTS
    length = p.length
    kept = min(length, p.end - p.payload)
    where = p.frame, p.time, clock.capture
    early = np.int64(np.int32(np.uint32(p.sequence - line.next)))
    while early > 0:
        if waits(b, p.payload, kept, p.sequence, length, where, line, arena, clock, reorders):
            return
        if reorders[line.reorder - 1].count:
            give_up(arena, link, side, clock, tables)
        else:  # it is longer than what may wait
            skip(early, link, side, lines)
        early = np.int64(np.int32(np.uint32(p.sequence - line.next)))
    while early + length > 0:
        stop = length  # of overlapping bytes the first to arrive win
        if line.reorder:
            r = reorders[line.reorder - 1]
            for each in range(r.count):
                start = np.int64(np.int32(np.uint32(r.early_sequence[each] - p.sequence)))
                if -early < start < stop:
                    stop = start
        feed(b, p.payload - early, min(kept, stop) + early, stop + early, where, link, side, arena, clock, tables)
        drain(arena, link, side, clock, tables)
        early = np.int64(np.int32(np.uint32(p.sequence - line.next)))


@compiled
def reorder_of(line: Record, clock: Record, reorders: Any) -> Number:
    """The record of what waits, made where there is none yet."""
    if line.reorder == 0:
        r = reorders[clock.reorders]
        clock.reorders += 1
        line.reorder = clock.reorders
        r.header = clock.arena
        r.room = clock.arena + 32
        clock.arena += 32 + EARLY_BYTES
    return reorders[line.reorder - 1]


@compiled
def waits(
    b: Buffer,
    begin: Number,
    kept: Number,
    sequence: Number,
    length: Number,
    where: Any,
    line: Record,
    arena: Any,
    clock: Record,
    reorders: Any,
) -> Number:
    """Keep a segment that came early, if there is room."""
    r = reorder_of(line, clock, reorders)
    if r.count >= EARLY or r.used + kept > EARLY_BYTES:
        return False
    at = r.room + r.used
    for each in range(kept):
        arena[at + each] = b[begin + each]
    index = r.count
    r.early_sequence[index] = sequence
    r.early_length[index] = length
    r.early_kept[index] = kept
    r.early_at[index] = at
    r.early_frame[index] = where[0]
    r.early_time[index] = where[1]
    r.early_capture[index] = where[2]
    r.used += kept
    r.count = index + 1
    return True


@compiled
def give_up(arena: Any, link: Number, side: Number, clock: Record, tables: Any) -> None:
    """Something waits: take as lost what should come before it, and go on with the first that waits."""
    _, lines, reorders, _ = tables
    line = lines[2 * link + side]
    r = reorders[line.reorder - 1]
    nearest = np.int64(1) << 32
    for each in range(r.count):
        nearest = min(nearest, np.int64(np.int32(np.uint32(r.early_sequence[each] - line.next))))
    if nearest > 0:
        skip(nearest, link, side, lines)
    drain(arena, link, side, clock, tables)


@compiled
def drain(arena: Any, link: Number, side: Number, clock: Record, tables: Any) -> None:
    """Read all that waits and whose turn it is."""
    _, lines, reorders, _ = tables
    line = lines[2 * link + side]
    if line.reorder == 0 or reorders[line.reorder - 1].count == 0:
        return
    r = reorders[line.reorder - 1]
    index = 0
    while index < r.count:
        early = np.int64(np.int32(np.uint32(r.early_sequence[index] - line.next)))
        stop = np.int64(r.early_length[index])
        if early > 0 or early + stop <= 0:
            index += 1
            continue
        for each in range(index):
            start = np.int64(np.int32(np.uint32(r.early_sequence[each] - r.early_sequence[index])))
            if -early < start < stop:
                stop = start
        kept = min(np.int64(r.early_kept[index]), stop)
        where = r.early_frame[index], r.early_time[index], np.int64(r.early_capture[index])
        feed(arena, r.early_at[index] - early, kept + early, stop + early, where, link, side, arena, clock, tables)
        index = 0
    left = 0
    for each in range(r.count):
        behind = np.int64(np.int32(np.uint32(r.early_sequence[each] - line.next))) + r.early_length[each]
        if behind <= 0:
            continue
        r.early_sequence[left] = r.early_sequence[each]
        r.early_length[left] = r.early_length[each]
        r.early_kept[left] = r.early_kept[each]
        r.early_at[left] = r.early_at[each]
        r.early_frame[left] = r.early_frame[each]
        r.early_time[left] = r.early_time[each]
        r.early_capture[left] = r.early_capture[each]
        left += 1
    r.count = left
    if left == 0:
        r.used = 0


@compiled
def skip(count: Number, link: Number, side: Number, lines: Any) -> None:
    """Go on behind bytes that the capture lacks; if they may hold the beginning of an APDU, look for the next one."""
    line = lines[2 * link + side]
    line.next = np.uint32(line.next + np.uint32(count))
    line.offset += count
    line.missing += count
    if line.synchronised and line.gathered == 0 and line.left >= count:
        line.left -= count
        return
    line.gaps += line.synchronised
    line.doubt = DOUBTS
    line.sent = -1
    line.expected = -1
    line.received = -1
    line.testing = 0
    lines[2 * link + 1 - side].testing = 0
    lose(line)


@compiled
def lose(line: Record) -> None:
    """Look for the next APDU at the beginnings of the segments that follow."""
    line.synchronised = 0
    line.gathered = 0
    line.left = 0


@compiled
def feed(
    b: Buffer,
    at: Number,
    kept: Number,
    length: Number,
    where: Any,
    link: Number,
    side: Number,
    arena: Any,
    clock: Record,
    tables: Any,
) -> None:
    """Read what follows in order: ``kept`` bytes at ``at``, of ``length`` that were sent."""
    _, lines, _, _ = tables
    if kept > 0:
        consume(b, at, kept, where, link, side, arena, clock, tables)
    if length > max(kept, 0):
        skip(length - max(kept, 0), link, side, lines)


@compiled
def consume(
    b: Buffer,
    at: Number,
    count: Number,
    where: Any,
    link: Number,
    side: Number,
    arena: Any,
    clock: Record,
    tables: Any,
) -> None:
    """APDU after APDU in bytes that were captured."""
    links, lines, reorders, events = tables
    line = lines[2 * link + side]
    end = at + count
    begin = at
    offset = line.offset  # of the byte at ``begin``
    line.next = np.uint32(line.next + np.uint32(count))
    line.offset += count
    while at < end:
        if line.left:
            step = min(line.left, end - at)
            line.left -= step
            at += step
            continue
        if not line.synchronised:
            outcome, _, _, _ = judge(b, at, end - at)
            if at > begin or not (outcome == GOOD or (outcome == MORE and end - at >= 6)):
                line.unread += end - at
                return
            line.synchronised = 1
            line.resynchronised += 1
            if line.missing and line.resynchronised <= SHOWN:
                happened(links[link].flow, side, GAP, where, offset + at - begin, 0, 0, events, clock)
        gathered = np.int64(line.gathered)
        if gathered == 0:
            line.began = offset + at - begin
            line.began_frame = where[0]
            line.began_time = where[1]
            line.began_capture = where[2]
            outcome, size, value, other = judge(b, at, end - at)
            if outcome == GOOD:
                note(b, at, size, where, link, side, clock, tables)
                line.size = size
                line.left = size
                continue
        else:
            outcome, size, value, other = MORE, 0, 0, 0
        if outcome == MORE:
            r = reorder_of(line, clock, reorders)
            fresh = min(HEADER - gathered, end - at)
            for each in range(fresh):
                arena[r.header + gathered + each] = b[at + each]
                r.frame[gathered + each] = where[0]
                r.time[gathered + each] = where[1]
                r.capture[gathered + each] = where[2]
            outcome, size, value, other = judge(arena, r.header, gathered + fresh)
            if outcome == MORE:
                line.gathered = gathered + fresh
                return
            line.gathered = 0
            if outcome == GOOD:
                note(arena, r.header, size, where, link, side, clock, tables)
                line.size = size
                line.left = size - gathered
                continue
            if size < gathered:
                where = r.frame[size], r.time[size], np.int64(r.capture[size])
        # Broken: ``size`` tells where.
        if line.doubt == 0:
            if line.breaks < SHOWN:
                happened(
                    links[link].flow, side, BREAK, where, line.began + size, outcome | value << 8, other, events, clock
                )
            line.breaks += 1
            line.sent = -1
            line.expected = -1
            line.received = -1
        else:
            line.doubt = DOUBTS
        line.unread += end - at
        lose(line)
        return


@compiled
def note(
    b: Buffer, at: Number, size: Number, where: Any, link: Number, side: Number, clock: Record, tables: Any
) -> None:
    """Account for an APDU that begins well."""
    links, lines, reorders, events = tables
    k = links[link]
    line = lines[2 * link + side]
    peer = lines[2 * link + 1 - side]
    # Whether what the peer sent is not read as far as it came.
    waits = peer.reorder > 0 and reorders[peer.reorder - 1].count > 0
    if line.doubt:
        line.doubt -= 1
    if k.last and where[1] - k.last > k.silence:
        k.silence = where[1] - k.last
        k.silence_frame = where[0]
        k.silence_capture = where[2]
    k.last = max(k.last, where[1])
    line.apdus += 1
    control = 2
    if b[at] == 0x69:
        control = 3
        line.long += 1
    one = np.int64(b[at + control])
    if one & 3 == 3:
        function = function_of(one)
        line.functions[function] += 1
        if function == 0:
            if k.startdt < 0:
                k.startdt = side
            if line.functions[0] <= SHOWN:
                happened(k.flow, side, STARTDT, where, line.began, 0, 0, events, clock)
        elif function == 4:
            if line.testing:
                line.unanswered += 1
                if line.unanswered <= SHOWN:
                    happened(k.flow, side, UNANSWERED, where, line.began, where[1] - line.test_time, 0, events, clock)
            line.testing = 1
            line.test_time = where[1]
        elif function == 5 and peer.testing:
            peer.testing = 0
            peer.answered += 1
            peer.longest_wait = max(peer.longest_wait, where[1] - peer.test_time)
        return
    modulus = 32767 if line.lrr or peer.lrr else 32768
    received = np.int64(little16(b, at + control + 2)) >> 1
    acknowledge(line, -1 if waits else peer.sent, received, modulus, where, k.flow, side, events, clock)
    if one & 1:
        line.s_frames += 1
        return
    line.i_frames += 1
    number = np.int64(little16(b, at + control)) >> 1
    if line.first < 0:
        line.first = number
    known = line.expected >= 0 and line.doubt == 0
    if known and number != line.expected and not (number == 0 and line.sent == 32766):
        line.jumps += 1
        if number == line.sent:
            line.repeats += 1
        if line.jumps <= SHOWN:
            happened(k.flow, side, JUMP, where, line.began, number, line.sent, events, clock)
    if number == 0 and line.sent >= 32766:
        line.modulus = line.sent + 1
    line.sent = number
    line.expected = (number + 1) & 0x7FFF
    if peer.received >= 0 and not waits:
        outstanding = (number + 1 - peer.received) % modulus
        if outstanding < modulus // 2:
            line.outstanding = max(line.outstanding, outstanding)
            if outstanding > WINDOW:
                line.excesses += 1
                if line.excesses <= SHOWN:
                    happened(k.flow, side, EXCESS, where, line.began, outstanding, 0, events, clock)
    carried = size - control - 4
    if carried == 0:
        line.empty += 1
        return
    line.asdu_bytes += carried
    at += control + 4
    kind = np.int64(b[at])
    if kind == 1 and b[at + 1] == 0:
        line.lrr += 1
        kind = np.int64(little16(b, at + 6))
        if kind > HIGHEST_LRR_TYPE:
            line.unknown += 1
            if line.unknown <= SHOWN:
                happened(k.flow, side, UNKNOWN, where, line.began, kind, 0, events, clock)
        if identify(k, np.uint32(little32(b, at + 8))):
            happened(k.flow, side, IDENTIFIED, where, line.began, k.id[k.ids - 1], 0, events, clock)
    else:
        line.standard += 1
        if line.standard <= SHOWN:
            happened(k.flow, side, STANDARD_ASDU, where, line.began, kind, 0, events, clock)
        kind |= STANDARD
    for each in range(k.kinds):
        if k.kind[each] == kind:
            k.kind_count[each] += 1
            return
    if k.kinds < 64:
        k.kind[k.kinds] = kind
        k.kind_count[k.kinds] = 1
        k.kinds += 1
    else:
        k.other_kinds += 1


@compiled
def acknowledge(
    line: Record,
    sent: Number,
    received: Number,
    modulus: Number,
    where: Any,
    flow: Number,
    side: Number,
    events: Any,
    clock: Record,
) -> None:
    """A receive sequence number: it never goes back, and acknowledges only what was sent.

    ``sent``: the newest send sequence number of the other side; -1: unknown. Where the two directions were captured at
    two places, an acknowledgement may come before what it acknowledges, but never by more than may be sent without one.
    """
    wrong = False
    before = line.received
    if before >= 0 and (received - before) % modulus > modulus // 2:
        wrong = True
    if sent >= 0 and WINDOW < (received - sent - 1) % modulus < modulus // 2:
        wrong = True
        before = sent
    if wrong:
        line.wrong += 1
        if line.wrong <= SHOWN:
            happened(flow, side, WRONG, where, line.began, received, before, events, clock)
    line.received = received


@compiled
def identify(k: Record, lrr: Number) -> Number:
    """Remember an LRR-ID; returns whether it is a new one."""
    for each in range(k.ids):
        if k.id[each] == lrr:
            return False
    if k.ids < 4:
        k.id[k.ids] = lrr
        k.ids += 1
        return True
    k.other_ids += 1
    return False


# -- ESP over the whole flow ------------------------------------------------------------------------------------


@compiled
def follow_esp(b: Buffer, p: Record, f: Record, side: Number, associations: Any, events: Any, clock: Record) -> None:
    """Account for an ESP packet under its SPI (RFC 4303): sequence numbers against a window of 64, and lengths."""
    flow = clock.flow
    spi = np.uint32(u32(b, p.payload))
    number = np.int64(u32(b, p.payload + 4))
    found = np.int64(-1)
    index = np.int64(f.account)
    count = 0
    while index >= 0:
        a = associations[index]
        if a.folded or (a.spi == spi and a.side == side):
            found = index
            if not a.folded:
                break
        index = np.int64(a.previous)
        count += 1
    if found < 0:
        if clock.associations >= ALL_ASSOCIATIONS:
            clock.esp_unfollowed += 1
            return
        found = clock.associations
        clock.associations += 1
        a = associations[found]
        a.flow = flow
        a.previous = f.account
        a.spi = spi
        a.side = side
        a.folded = count == ASSOCIATIONS - 1
        a.first = number
        a.highest = number
        a.first_frame = p.frame
        a.first_capture = clock.capture
        a.first_time = p.time
        f.account = found
    a = associations[found]
    a.packets += 1
    a.bytes += p.length
    a.last = number
    a.last_frame = p.frame
    a.last_capture = clock.capture
    a.last_time = p.time
    if a.folded:
        return
    a.remainders[p.length & 15] += 1
    length = min(p.length >> 2, 511)
    a.lengths[length >> 6] |= np.uint64(1) << np.uint64(length & 63)
    digest = np.uint64(p.length)
    if p.payload + 32 <= p.end:
        digest = mix(digest ^ u64(b, p.payload + 8)) ^ mix(u64(b, p.payload + 16)) ^ u64(b, p.payload + 24)
    else:
        for at in range(p.payload + 8, p.end):
            digest = (digest ^ np.uint64(b[at])) * np.uint64(0x100000001B3)
    place = number & 63
    bit = np.uint64(1)
    ahead = number - np.int64(a.highest)
    if ahead < -(np.int64(1) << 31):  # an extended sequence number went on
        ahead += np.int64(1) << 32
        a.wraps += 1
    elif ahead > np.int64(1) << 31 and a.wraps:
        ahead -= np.int64(1) << 32
    if ahead > 0 or a.packets == 1:
        a.seen = (a.seen << np.uint64(ahead) if ahead < 64 else np.uint64(0)) | bit
        a.highest = number
    elif ahead <= -64:
        a.late += 1
        if a.late <= SHOWN:
            happened(flow, side, LATE, (p.frame, p.time, clock.capture), spi, number, a.highest, events, clock)
        return
    elif a.seen & bit << np.uint64(-ahead):
        where = p.frame, p.time, clock.capture
        if a.digest[place] != digest:
            a.reused += 1
            if a.reused <= SHOWN:
                happened(flow, side, REUSED, where, spi, number, a.highest, events, clock)
        elif p.time - a.time[place] > ESP_COPY:
            a.replayed += 1
            if a.replayed <= SHOWN:
                happened(flow, side, REPLAYED, where, spi, number, a.highest, events, clock)
        else:
            a.copied += 1
        return
    else:
        a.seen |= bit << np.uint64(-ahead)
    a.digest[place] = digest
    a.time[place] = p.time


@compiled
def follow_tcp(
    b: Buffer, p: Record, f: Record, s: Record, flow: Number, side: Number, pieces: Any, arena: Any, clock: Record
) -> Number:
    """Sequence numbers, handshake and close of a TCP conversation, and its head.

    Returns what is to follow the segment (FOLLOW_*).
    """
    flags = p.flags
    s.flags |= flags
    if flags & RST:
        if f.reset_frame == 0:
            f.reset_frame = p.frame
            f.reset_capture = clock.capture
            f.reset_side = side
        f.closed = 1
        return 0
    if flags & SYN:
        if f.syn_side < 0:
            f.syn_side = side if not flags & ACK else 1 - side
        s.initial = p.sequence
        if s.pieces == 0:
            s.base = np.uint32(p.sequence + np.uint32(1))
            s.next = s.base
            s.based = 1
            s.begins = 1
        if p.length == 0:
            return 0
    elif flags & ACK:
        s.acknowledged = 1
    sequence = np.uint32(p.sequence + np.uint32(1)) if flags & SYN else np.uint32(p.sequence)
    p.sequence = sequence
    if not s.based and (p.length or flags & FIN):
        s.base = sequence
        s.next = sequence
        s.based = 1
    if flags & FIN and s.ending < 0:
        s.ending = np.int64(np.int32(np.uint32(sequence - s.base))) + p.length
    if p.length:
        behind = np.uint32(sequence + np.uint32(p.length))
        ahead = np.int64(np.int32(np.uint32(behind - s.next)))
        late = np.int64(np.int32(np.uint32(sequence - s.hole)))
        fills = ahead <= 0 <= late and np.int64(np.int32(np.uint32(s.hole_end - behind))) >= 0
        if ahead > 0 or fills:
            if fills:
                s.payload += p.length
                if late == 0:
                    s.hole = behind
                else:  # of what is left in two parts, the earlier is the longer expected
                    s.hole_end = sequence
            else:
                s.payload += min(ahead, p.length)
                if ahead > p.length:
                    s.hole = s.next
                    s.hole_end = sequence
                s.next = behind
        elif p.length > 1:
            s.retransmitted += 1
        if not s.closed:
            keep_stream(b, p, f, s, flow, side, pieces, arena, clock)
        if f.account >= 0 or opens_link(b, p, f, clock):
            return FOLLOW_APDUS
    return 0


@compiled
def is_copy(b: Buffer, p: Record, f: Record, s: Record, secret: Any) -> Number:
    """Whether the side's packet was captured before, on another interface or by another path of the mirror.

    A capture on all interfaces of a router shows each packet two or three times within an instant, with another time
    to live or link-layer address. A sender's own repetition has another IPv4 identification, or comes later. What
    somebody forges to look like another packet has other content: all of it that a head may keep is compared, by a
    hash that nobody can foretell.
    """
    digest = secret[0] ^ (np.uint64(p.identification) << np.uint64(32) | np.uint64(p.length))
    at = p.payload
    stop = min(at + p.length, p.end)
    if p.protocol == TCP:
        numbers = np.uint64(p.sequence) << np.uint64(32) | np.uint64(p.acknowledgement)
        digest = mix(digest ^ mix(numbers + np.uint64(p.flags)))
        offset = np.int64(np.int32(np.uint32(p.sequence - s.base))) if s.based else np.int64(0)
        if f.account < 0 and offset >= HEAD_LIMITS[f.content]:
            stop = at
    else:
        stop = min(stop, at + (32 if carries_esp(b, p) else DATAGRAM_BYTES))
    one, two, three, four = digest, digest, digest, digest
    while at + 32 <= stop:  # four at a time, for none has to wait for another
        one = mix(one ^ u64(b, at))
        two = mix(two ^ u64(b, at + 8))
        three = mix(three ^ u64(b, at + 16))
        four = mix(four ^ u64(b, at + 24))
        at += 32
    digest = mix(one ^ mix(two ^ mix(three ^ mix(four))))
    while at + 8 <= stop:
        digest = mix(digest ^ u64(b, at))
        at += 8
    rest = np.uint64(1)
    while at < stop:
        rest = rest << np.uint64(8) | np.uint64(b[at])
        at += 1
    digest = mix(digest ^ rest)
    place = p.source_mac ^ np.int64(p.time_to_live) << 48 ^ np.int64(p.vlan) << 56
    for each in range(4):
        if s.recent[each] == digest:
            apart = abs(p.time - s.recent_time[each])
            if s.recent_place[each] != place and apart <= COPY_ELSEWHERE:
                return True
            if p.identification != 0 and apart <= COPY_HERE:
                return True
    slot = s.recent_next & 3
    s.recent[slot] = digest
    s.recent_place[slot] = place
    s.recent_time[slot] = p.time
    s.recent_next = slot + 1
    return False


@compiled
def fold(p: Record) -> None:
    """Make the packet one of the flow that stands for all ports of its client."""
    if p.protocol == ICMP or p.protocol == ICMPV6:
        p.source_port = FOLDED
        p.destination_port = FOLDED
    elif p.source_port >= 0:
        opening = p.protocol == TCP and p.flags & SYN
        asks = not p.flags & ACK if opening else p.source_port >= p.destination_port
        if asks:
            p.source_port = FOLDED
        else:
            p.destination_port = FOLDED


@compiled
def account(b: Buffer, p: Record, slots: Any, flows: Any, sides: Any, pieces: Any, arena: Any, clock: Record) -> Number:
    """Give one decoded packet to its flow; the caller made sure of the room.

    Returns what is to follow the packet (FOLLOW_*, plus the side), in the flow ``clock.flow``.
    """
    slot, flow = find(slots, flows, p, clock.secret)
    opens = p.protocol == TCP and p.flags & (SYN | ACK | RST) == SYN
    if flow >= 0 and opens:
        side = 0 if sent_by_first(flows[flow], p) else 1
        s = sides[2 * flow + side]
        # Closed, or its opener lost its memory: a new connection takes over the ports and the slot.
        if (flows[flow].closed or s.acknowledged) and (not s.flags & SYN or s.initial != p.sequence):
            flow = -1
    if flow < 0 and clock.flows >= clock.limit:
        fold(p)
        slot, flow = find(slots, flows, p, clock.secret)
        if flow < 0 and clock.flows >= clock.limit + clock.limit // 4:
            clock.unfollowed += 1
            return 0
    if flow < 0:
        flow = clock.flows
        clock.flows = flow + 1
        slots[slot] = flow
        f = flows[flow]
        f.high0 = p.source_high
        f.low0 = p.source_low
        f.port0 = p.source_port
        f.high1 = p.destination_high
        f.low1 = p.destination_low
        f.port1 = p.destination_port
        f.protocol = p.protocol
        f.version = p.version
        f.first = p.time
        f.last = p.time
        f.first_frame = p.frame
        f.first_capture = clock.capture
        f.vlan = p.vlan
        f.note = -1
        f.account = -1
        f.syn_side = -1
        f.reset_side = -1
        for each in range(2):
            sides[2 * flow + each].mac = -1
            sides[2 * flow + each].ending = -1
    f = flows[flow]
    side = 0 if sent_by_first(f, p) else 1
    s = sides[2 * flow + side]
    if clock.framing != SINGLE and is_copy(b, p, f, s, clock.secret):
        clock.copies += 1
        s.copies += 1
        return 0
    if s.packets == 0:
        s.mac = p.source_mac
    s.packets += 1
    s.bytes += p.wire
    f.first = min(f.first, p.time)
    if p.time >= f.last:
        f.last = p.time
        f.last_frame = p.frame
        f.last_capture = clock.capture
    if p.tag:
        s.tag = p.tag
    clock.flow = flow
    clock.in_flows += 1
    if f.port0 == FOLDED or f.port1 == FOLDED:
        s.flags |= p.flags
        s.payload += p.length
        if p.flags & SYN and f.syn_side < 0:
            f.syn_side = side if not p.flags & ACK else 1 - side
        return 0
    if clock.count_only:
        return 0
    if p.protocol == TCP:
        further = follow_tcp(b, p, f, s, flow, side, pieces, arena, clock)
        if sides[2 * flow].flags & FIN and sides[2 * flow + 1].flags & FIN:
            f.closed = 1
    else:
        s.payload += p.length
        further = keep_datagram(b, p, s, flow, side, pieces, arena, clock)
    return further + side if further else 0


@compiled
def account_error(
    b: Buffer, p: Record, inner: Record, slots: Any, flows: Any, sides: Any, pieces: Any, arena: Any, clock: Record
) -> None:
    """Give an ICMP error to the flow that it quotes; without such a flow it is a flow of its own."""
    outcome = quoted(b, p, inner)
    if outcome == CUT:
        clock.cut += 1
        return
    if outcome == DECODED:
        _, flow = find(slots, flows, inner, clock.secret)
        if flow >= 0:
            f = flows[flow]
            clock.in_errors += 1
            f.errors += 1
            control = p.protocol == ICMP and b[p.payload] in (4, 5)  # no number of others hides a redirect
            f.controls += control
            if (f.errors <= ERRORS or (control and f.controls <= ERRORS)) and has_room(clock):
                begin = p.network
                side = 0 if sent_by_first(f, inner) else 1
                index = store(b, begin, min(p.end - begin, 128), pieces, arena, clock)
                describe(pieces[index], p, clock, flow, side, p.payload - begin, 1)
            return
    account(b, p, slots, flows, sides, pieces, arena, clock)


@compiled
def next_record(b: Buffer, end: Number, p: Record, interfaces: Any, clock: Record) -> Number:
    """Read the framing of the record at ``clock.position`` into ``p`` and move behind it.

    Returns DECODED for a packet, else EMPTY - 10, BLOCK - 10 or DAMAGED - 10 with the position unmoved.
    """
    at = clock.position
    little = clock.little != 0
    if clock.framing == PCAP:
        header = clock.record_header
        if at + header > end:
            return EMPTY - 10
        captured = host32(b, at + 8, little)
        wire = host32(b, at + 12, little)
        if clock.swapped and captured > wire:
            captured, wire = wire, captured
        if captured > clock.largest:
            return DAMAGED - 10
        if at + header + captured > end:
            return EMPTY - 10
        p.time = host32(b, at, little) * 1_000_000_000 + host32(b, at + 4, little) * clock.fraction
        p.wire = max(captured, wire)
        p.trailer = clock.trailer
        p.linktype = clock.linktype
        p.start = at + header
        p.end = at + header + captured
        clock.position = p.end
        return DECODED
    if clock.framing == SNOOP:
        if at + 24 > end:
            return EMPTY - 10
        captured = u32(b, at + 4)
        total = u32(b, at + 8)  # header and padding included
        if captured > clock.largest or total < 24 + captured or total > 2 * clock.largest:
            return DAMAGED - 10
        if at + total > end:
            return EMPTY - 10
        p.time = u32(b, at + 16) * 1_000_000_000 + u32(b, at + 20) * 1000
        p.wire = max(captured, u32(b, at))
        p.trailer = 0
        p.linktype = clock.linktype
        p.start = at + 24
        p.end = p.start + captured
        clock.lost = max(clock.lost, u32(b, at + 12))
        clock.position = at + total
        return DECODED
    if at + 12 > end:
        return EMPTY - 10
    kind = host32(b, at, little)
    if kind != 6 and kind != 3 and kind != 2:
        return BLOCK - 10
    total = host32(b, at + 4, little)
    if total < 16 or total & 3 or total > clock.largest:
        return DAMAGED - 10
    if at + total > end:
        return EMPTY - 10
    if host32(b, at + total - 4, little) != total:
        return DAMAGED - 10
    number = 0
    if kind == 3:
        p.start = at + 12
        captured = total - 16
    else:
        if total < 32:
            return DAMAGED - 10
        number = host32(b, at + 8, little) if kind == 6 else host16(b, at + 8, little)
        captured = host32(b, at + 20, little)
        p.start = at + 28
        if captured > total - 32:
            return DAMAGED - 10
    if number >= clock.interfaces:
        return DAMAGED - 10
    interface = interfaces[number]
    if kind == 3:
        p.wire = host32(b, at + 8, little)
        captured = min(captured, p.wire)
        if interface.snaplen:
            captured = min(captured, interface.snaplen)
        p.time = clock.last  # a simple packet has no time of its own: that of the packet before it
    else:
        p.wire = max(captured, host32(b, at + 24, little))
        ticks = host32(b, at + 12, little) << 32 | host32(b, at + 16, little)
        if interface.bits >= 0:
            bits = interface.bits
            seconds = ticks >> bits if bits < 63 else 0
            rest = ticks - (seconds << bits) if bits < 63 else ticks
            if bits > 30:
                rest >>= bits - 30
                bits = 30
            p.time = (seconds + interface.offset) * 1_000_000_000 + (rest * 1_000_000_000 >> bits)
        else:
            p.time = ticks // interface.divisor * interface.multiplier + interface.offset * 1_000_000_000
    p.linktype = interface.linktype
    p.trailer = interface.trailer
    p.end = p.start + captured
    clock.position = at + total
    return DECODED


@LIBRARY.kernel(
    *(np.uint8, int, PACKET, INTERFACE, np.bool_, np.int32, FLOW, SIDE, PIECE, np.uint8, np.int64, CLOCK),
    *(LINK, LINE, REORDER, ASSOCIATION, EVENT),
)
def scan(
    b: Buffer,
    end: Number,
    packets: Any,
    interfaces: Any,
    tunnels: Any,
    slots: Any,
    flows: Any,
    sides: Any,
    pieces: Any,
    arena: Any,
    ethertypes: Any,
    clocks: Any,
    links: Any,
    lines: Any,
    reorders: Any,
    associations: Any,
    events: Any,
) -> Number:
    """Account for all packets in ``b[clock.position:end]``; says why it came back.

    ``packets`` has two records: the packet, and scratch for what ICMP errors quote. With SINGLE framing exactly
    the packet in ``packets[0]`` is accounted for.
    """
    clock = clocks[0]
    p = packets[0]
    tables = links, lines, reorders, events
    while True:
        # Room for what one packet may need at the most, so that nothing below can fail half-way.
        if clock.flows >= len(flows):
            return FLOWS_FULL
        if clock.pieces >= len(pieces):
            return PIECES_FULL
        if len(arena) - clock.arena < HEAD_LIMITS[CONTENT_FTP]:
            return ARENA_FULL
        if (
            clock.links >= len(links)
            or clock.reorders >= len(reorders)
            or clock.associations >= len(associations)
            or clock.events + EVENTS > len(events)
        ):
            return TABLES_FULL
        if clock.framing == SINGLE:
            outcome = decode_ip(b, p, tunnels)
            if outcome == RARE:
                outcome = DECODED
        else:
            outcome = next_record(b, end, p, interfaces, clock)
            if outcome < 0:
                return outcome + 10
            clock.frame += 1
            p.frame = clock.frame
            if p.time < 0:
                p.time = 0
            if clock.frame == 1:
                clock.first = p.time
                clock.last = p.time
            clock.first = min(clock.first, p.time)
            clock.last = max(clock.last, p.time)
            if p.end - p.start < p.wire:
                clock.snapped += 1
            if p.trailer:
                p.end = min(p.end, p.start + max(0, p.wire - p.trailer))
            outcome = decode(b, p, tunnels)
            if p.tag and outcome == DECODED and not is_noted(slots, flows, sides, p, clock.secret):
                outcome = RARE
        if outcome == DECODED:
            further = account(b, p, slots, flows, sides, pieces, arena, clock)
            if further >= FOLLOW_ESP:
                follow_esp(b, p, flows[clock.flow], further - FOLLOW_ESP, associations, events, clock)
            elif further:
                side = further - FOLLOW_APDUS
                follow_apdus(b, p, flows[clock.flow], sides, side, arena, clock, tables)
        elif outcome == ICMP_ERROR:
            account_error(b, p, packets[1], slots, flows, sides, pieces, arena, clock)
        elif outcome == NOT_IP:
            clock.not_ip += 1
            ethertypes[p.ethertype] += 1
        elif outcome == RARE:
            return SLOW
        elif outcome == CUT:
            clock.cut += 1
        else:
            clock.broken += 1
        if clock.framing == SINGLE:
            return EMPTY


@LIBRARY.kernel(np.uint8, LINK, LINE, REORDER, EVENT, CLOCK, int)
def settle(arena: Any, links: Any, lines: Any, reorders: Any, events: Any, clocks: Any, start: Number) -> Number:
    """At the end of the capture, read what waits behind bytes that never came.

    Goes on with the link ``start``, and returns the one for whose events there is no more room; all links: done.
    """
    clock = clocks[0]
    tables = links, lines, reorders, events
    for link in range(start, clock.links):
        for side in range(2):
            if clock.events + EVENTS > len(events):
                return link
            line = lines[2 * link + side]
            while line.reorder and reorders[line.reorder - 1].count:
                give_up(arena, link, side, clock, tables)
    return clock.links


@LIBRARY.kernel(np.int32, FLOW, int, np.uint64)
def index(slots: Any, flows: Any, count: Number, secret: Any) -> Number:
    """Fill an empty table of slots; of flows with the same key the newest wins, as while scanning."""
    mask = np.uint64(len(slots) - 1)
    for flow in range(count):
        f = flows[flow]
        one, two = (f.high0, f.low0, f.port0), (f.high1, f.low1, f.port1)
        at = flow_hash(f.protocol, one, two, secret) & mask
        while slots[at] >= 0:
            g = flows[slots[at]]
            if g.protocol == f.protocol and (
                same(g, f.high0, f.low0, f.port0, f.high1, f.low1, f.port1)
                or same(g, f.high1, f.low1, f.port1, f.high0, f.low0, f.port0)
            ):
                break
            at = (at + np.uint64(1)) & mask
        slots[at] = flow
    return count


# -- flows that are alike ---------------------------------------------------------------------------------------
#
# A base station asks the same question, or pings the same host, every minute of a day. Such flows are read and judged
# once. What is alike is found here by comparison, byte for byte: nobody can hide a flow behind another one.

SPEAKS_NOTHING, SPEAKS_ECHO, SPEAKS_DNS, SPEAKS_NTP = range(1, 5)
"""Of which kind the content of a flow is that may well be another's; 0: it is read for itself."""
REPEATED = 8
"""Datagrams up to which a flow may be like another one."""
ECHO_SAMPLE, ECHO_STAMP = 48, 24
"""Bytes of an echo's data that are read, and those at its beginning that may differ from ping to ping."""


@compiled
def repeats(f: Record, one: Record, two: Record, count: Number) -> Number:
    """What a flow with ``count`` kept pieces may repeat (``SPEAKS_…``); all of its payload must have been kept, but of
    NTP, where what is not kept says nothing new."""
    if f.errors or f.account >= 0 or f.protocol == ESP:
        return 0
    if count == 0:
        return SPEAKS_NOTHING if one.payload == 0 and two.payload == 0 else 0
    if f.protocol == TCP or count > REPEATED:
        return 0
    if f.protocol == UDP and (f.port0 == 123 or f.port1 == 123):
        return SPEAKS_NTP
    if count != one.packets + two.packets:
        return 0
    if f.protocol == ICMP or f.protocol == ICMPV6:
        return SPEAKS_ECHO
    if f.protocol == UDP and (f.port0 == 53 or f.port1 == 53):
        return SPEAKS_DNS
    return 0


@compiled
def essence(b: Buffer, at: Number, size: Number, speaks: Number, out: Buffer) -> Number:
    """Write what a datagram says to ``out``, without what only makes it unique or dates it; returns the length.

    -1: this one must be read. An echo's identifier, sequence number and data and a DNS message's identifier matter by
    being another datagram's (see :func:`likenesses`); the times of NTP and the times to live of DNS say nothing here.
    """
    if speaks == SPEAKS_ECHO:
        if size < 8 or b[at] not in (0, 8, 128, 129):
            return -1
        out[0] = b[at]
        out[1] = b[at + 1]
        return 2
    if speaks == SPEAKS_NTP:
        if size != 48 or b[at] & 7 >= 6:
            return -1
        for each in range(4):
            out[each] = b[at + each]
            out[4 + each] = b[at + 12 + each]
        return 8
    if size < 12 or u16(b, at) + 2 <= size:  # or it may be the length of a framed message
        return -1
    for each in range(2, size):
        out[each - 2] = b[at + each]
    place = np.int64(12)
    questions = u16(b, at + 4)
    for record in range(questions + u16(b, at + 6) + u16(b, at + 8) + u16(b, at + 10)):
        while place < size and 0 < b[at + place] < 0xC0:
            place += 1 + np.int64(b[at + place])
        if place >= size:
            break
        place += 2 if b[at + place] else 1
        if record < questions:
            place += 4
            continue
        if place + 10 > size:
            break
        if u16(b, at + place) != 41:  # of OPT it is no time to live (RFC 6891 section 6.1.3)
            for each in range(2, 6):
                out[place + each] = 0
        place += 10 + u16(b, at + place + 8)
    return size - 2


@compiled
def token(b: Buffer, pieces: Any, start: Number, index: Number, begin: Number, end: Number) -> Number:
    """Number of the flow's first datagram that has the same bytes from ``begin`` to ``end``, or as far as it reaches,
    as the one at ``start + index``."""
    at = pieces[start + index].arena
    stop = min(end, np.int64(pieces[start + index].kept))
    for earlier in range(index):
        if min(end, np.int64(pieces[start + earlier].kept)) != stop:
            continue
        place = pieces[start + earlier].arena
        same_bytes = True
        for each in range(begin, stop):
            if b[at + each] != b[place + each]:
                same_bytes = False
                break
        if same_bytes:
            return earlier
    return index


@compiled
def likenesses(b: Buffer, pieces: Any, start: Number, index: Number, speaks: Number) -> Number:
    """Of a datagram's unique parts, which earlier ones of its flow they equal: all that a reader compares."""
    if speaks == SPEAKS_DNS:
        return token(b, pieces, start, index, 0, 2)
    if speaks == SPEAKS_ECHO:
        numbers = token(b, pieces, start, index, 4, 8)
        data = token(b, pieces, start, index, 8, 8 + ECHO_SAMPLE)
        return numbers << 8 | data << 4 | token(b, pieces, start, index, 8 + ECHO_STAMP, 8 + ECHO_SAMPLE)
    return 0


@compiled
def speech_digest(
    b: Buffer, pieces: Any, start: Number, stop: Number, speaks: Number, secret: Any, out: Buffer
) -> Number:
    """A hash of what a flow says; 0: it must be read for itself."""
    digest = mix(secret[0] + np.uint64(speaks))
    for index in range(start, stop):
        piece = pieces[index]
        if piece.kept != piece.length or piece.error:
            return np.uint64(0)
        size = essence(b, piece.arena, piece.kept, speaks, out)
        if size < 0:
            return np.uint64(0)
        same_as = likenesses(b, pieces, start, index - start, speaks)
        digest = mix(digest * secret[1] + np.uint64(piece.kept << 16 | piece.side << 12 | same_as))
        for each in range(size):
            digest = (digest ^ np.uint64(out[each])) * secret[2]
        digest = mix(digest)
    return digest | np.uint64(1)


@compiled
def same_speech(
    b: Buffer, pieces: Any, starts: Any, one: Number, two: Number, speaks: Number, out: Buffer, other: Buffer
) -> Number:
    """Whether two flows say the same, datagram by datagram."""
    start, begin = starts[one], starts[two]
    count = starts[one + 1] - start
    if count != starts[two + 1] - begin:
        return False
    for index in range(count):
        left, right = pieces[start + index], pieces[begin + index]
        if left.kept != right.kept or left.side != right.side:
            return False
        size = essence(b, left.arena, left.kept, speaks, out)
        if size != essence(b, right.arena, right.kept, speaks, other):
            return False
        if likenesses(b, pieces, start, index, speaks) != likenesses(b, pieces, begin, index, speaks):
            return False
        for each in range(size):
            if out[each] != other[each]:
                return False
    return True


@compiled
def service_side(f: Record, named: Any) -> Number:
    """The side whose port is the service's, while the other one's says nothing; -1: that cannot be told.

    ``named[p]``: port p names a service.
    """
    if f.protocol == ICMP or f.protocol == ICMPV6:
        return 1
    if f.port0 < 0 or f.port1 < 0:
        return -1
    side = 1 - f.syn_side if f.syn_side >= 0 else 1 if named[f.port1] else 0
    if named[f.port0 if side else f.port1] or (f.syn_side < 0 and not named[f.port1 if side else f.port0]):
        return -1
    return side


@compiled
def same_side(one: Record, two: Record) -> Number:
    """Whether all that a judgement asks of one side's packets is equal."""
    return (
        one.packets == two.packets
        and one.bytes == two.bytes
        and one.payload == two.payload
        and one.retransmitted == two.retransmitted
        and one.mac == two.mac
        and one.flags == two.flags
        and one.acknowledged == two.acknowledged
        and one.begins == two.begins
        and one.ending == two.ending
        and one.copies == two.copies
    )


@compiled
def same_kind(flows: Any, sides: Any, one: Number, two: Number, side: Number) -> Number:
    """Whether two flows that say the same go between the same hosts, to the same service, and ended the same way."""
    f, g = flows[one], flows[two]
    echo = f.protocol == ICMP or f.protocol == ICMPV6
    return (
        (echo or (f.port1 == g.port1 if side else f.port0 == g.port0))
        and f.protocol == g.protocol
        and f.high0 == g.high0
        and f.low0 == g.low0
        and f.high1 == g.high1
        and f.low1 == g.low1
        and f.vlan == g.vlan
        and f.note == g.note
        and f.syn_side == g.syn_side
        and f.reset_side == g.reset_side
        and same_side(sides[2 * one], sides[2 * two])
        and same_side(sides[2 * one + 1], sides[2 * two + 1])
    )


@LIBRARY.kernel(
    *(np.uint8, FLOW, SIDE, PIECE, np.int64, np.bool_, np.uint64),
    *(np.int32, np.int32, np.uint64, np.uint64, np.uint8, np.uint8, np.int32, np.int32),
)
def liken(
    b: Buffer,
    flows: Any,
    sides: Any,
    pieces: Any,
    starts: Any,
    named: Any,
    secret: Any,
    speech_slots: Any,
    kind_slots: Any,
    speech_digests: Any,
    kind_digests: Any,
    out: Buffer,
    other_out: Buffer,
    speech: Any,
    kind: Any,
) -> Number:
    """Tell which flows are alike; returns how many have no earlier one of their kind.

    ``speech[i]`` becomes the first flow that says what flow i says, ``kind[i]`` the first of those that goes between
    the same hosts, to the same service, and ended the same way; i itself where there is none. ``b`` is the arena,
    the slots (a power of two above the number of flows) are full of -1, there is a digest for each flow, and
    ``out`` and ``other_out`` have room for a datagram.
    """
    mask = np.uint64(len(kind_slots) - 1)
    kinds = 0
    for flow in range(len(flows)):
        speech[flow] = flow
        kind[flow] = flow
        f = flows[flow]
        start, stop = starts[flow], starts[flow + 1]
        speaks = repeats(f, sides[2 * flow], sides[2 * flow + 1], stop - start)
        digest = np.uint64(0)
        if speaks:
            digest = speech_digest(b, pieces, start, stop, speaks, secret, out)
        if digest == 0:
            kinds += 1
            continue
        digest = mix(digest + np.uint64(f.protocol))
        speech_digests[flow] = digest
        at = digest & mask
        while speech_slots[at] >= 0:
            other = speech_slots[at]
            if (
                speech_digests[other] == digest
                and flows[other].protocol == f.protocol
                and same_speech(b, pieces, starts, other, flow, speaks, out, other_out)
            ):
                speech[flow] = other
                break
            at = (at + np.uint64(1)) & mask
        if speech[flow] == flow:
            speech_slots[at] = flow
        side = service_side(f, named)
        if side < 0:
            kinds += 1
            continue
        service = 0 if f.protocol == ICMP or f.protocol == ICMPV6 else f.port1 if side else f.port0
        digest = mix(np.uint64(speech[flow]) * secret[0] + np.uint64(service << 1 | side))
        digest = mix(digest + f.low0 * secret[1] + f.high0 * secret[2])
        digest = mix(digest + f.low1 * secret[1] + f.high1 * secret[2])
        kind_digests[flow] = digest
        at = digest & mask
        while kind_slots[at] >= 0:
            other = kind_slots[at]
            if (
                kind_digests[other] == digest
                and speech[other] == speech[flow]
                and service_side(flows[other], named) == side
                and same_kind(flows, sides, other, flow, side)
            ):
                kind[flow] = other
                break
            at = (at + np.uint64(1)) & mask
        if kind[flow] == flow:
            kind_slots[at] = flow
            kinds += 1
    return kinds


def compiled_before() -> bool:
    """Whether the kernels are compiled for this machine; else the first packet waits some ten seconds for it."""
    return LIBRARY.ready()
