"""The arrays that the kernels read and write, and the constants that belong to them."""

from __future__ import annotations

import numpy as np

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
ECHO_SAMPLE, ECHO_STAMP = 48, 24
"""Bytes of an echo's data that are read, and those at its beginning that may differ from ping to ping."""
