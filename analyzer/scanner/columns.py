"""Arrays that the kernels read and write, and the constants that describe their contents.

Unless a comment says otherwise: times are nanoseconds since the epoch, lengths and offsets are bytes, a *frame* is the
1-based number of a frame in its file, a *capture* the index of that file, a *side* 0 for the first sender of a flow
and 1 for the second, and counters start at 0.
"""

from __future__ import annotations

import numpy as np

# -- packets ----------------------------------------------------------------------------------------------------

# Record framings of capture files.
PCAP = 0
PCAPNG = 1
SINGLE = 2
"""No framing: the buffer holds one packet, its IP header at ``packet.network``."""
SNOOP = 3

# Outcomes of decoding one packet.
DECODED = 0
NOT_IP = 1
"""An Ethernet type that carries no IP (ARP, LLDP, …): ``ethertype`` is set, addresses and ports are not."""
SLOW_PATH = 2
"""A rare encapsulation, which the kernels do not decode."""
TRUNCATED = 3
"""A header ends past the captured bytes."""
MALFORMED = 4
"""A header contradicts itself (IP version, header length)."""
ICMP_ERROR = 5
"""Decoded: an ICMP error that quotes another packet at ``payload + 8``."""

TCP, UDP, ICMP, ICMPV6, ESP = 6, 17, 1, 58, 50
FIN, SYN, RST, ACK = 1, 2, 4, 16

LARGEST_PACKET = 262144
"""Bytes assumed at most of an IP packet that declares no length of its own."""

MERGED_PORT = -2
"""Port of the client in a flow that merges all client ports, because there are too many flows."""
HOUSEKEEPING_PORT = -3
"""Port of both ends in a flow of link-local housekeeping, see :mod:`analyzer.scanner.housekeeping`."""

# What the packets of a flow are to those of other flows.
PLAIN = 0
TUNNELLED = 1
"""Carried by a tunnel that one of its own ends opened: kept apart from what these ends exchange outside it."""
TUNNEL = 2
"""Carries the packets of other flows; counted beside them."""

# What a packet has that no packet needs: bits of ``odd``. Beyond them the packet is accounted for like any other.
SOURCE_ROUTE = 1
"""A source route of IPv4 (RFC 791), or a routing header of IPv6 with segments left (RFC 8200, section 4.4)."""
OPTION_DATA = 2
"""Options of IPv4, hop-by-hop options or destination options of IPv6 that carry data."""
SURPLUS = 4
"""Bytes between the end of a UDP datagram and that of its IP packet."""
TAIL = 8
"""Bytes behind the IP packet that are neither padding nor a frame check sequence."""
MANY_EXTENSIONS = 16
"""More extension headers of IPv6 than a packet needs."""
ODDITIES = (SOURCE_ROUTE, OPTION_DATA, SURPLUS, TAIL, MANY_EXTENSIONS)

IPV4_MAPPED = np.uint64(0x0000FFFF00000000)
"""Low half of ::ffff:0:0/96, the IPv6 prefix under which IPv4 addresses are kept."""

PACKET = np.dtype(
    [
        ("time", np.int64),
        ("frame", np.int64),
        ("wire", np.int64),  # length of the frame on the wire
        ("start", np.int64),  # offset of the first captured byte
        ("end", np.int64),  # end offset (exclusive) of the captured bytes, without frame check sequence
        ("trailer", np.int64),  # bytes of frame check sequence in ``wire``
        ("network", np.int64),  # offset of the IP header
        ("finish", np.int64),  # end of the IP packet as its header declares it; 0: it does not
        ("source_high", np.uint64),  # IPv6 address, or IPv4 mapped into ::ffff:0:0/96
        ("source_low", np.uint64),
        ("destination_high", np.uint64),
        ("destination_low", np.uint64),
        ("payload", np.int64),  # offset of the payload of the transport header
        ("length", np.int64),  # of the payload, as the headers declare it
        ("source_mac", np.int64),  # -1: the link layer has none
        ("destination_mac", np.int64),
        ("source_port", np.int32),  # ICMP echo: the identifier, on both sides; -1: none; MERGED_PORT
        ("destination_port", np.int32),
        ("linktype", np.int32),
        ("ethertype", np.int32),
        ("vlan", np.int32),  # outermost VLAN identifier; -1: untagged
        ("tag", np.int64),  # PPPoE session or MPLS label, with the VLAN; 0: none
        ("sequence", np.uint32),  # TCP
        ("acknowledgement", np.uint32),
        ("protocol", np.uint8),  # IP protocol number after all extension headers
        ("version", np.uint8),  # IP version, 4 or 6; 0: the addresses are not known
        ("flags", np.uint8),  # TCP
        ("time_to_live", np.uint8),
        ("identification", np.uint16),  # IPv4; 0 in IPv6
        ("layer", np.uint8),  # PLAIN, TUNNELLED or TUNNEL
        ("odd", np.uint8),  # bits of ODDITIES
        ("surplus", np.int64),  # bytes of SURPLUS and of TAIL
        ("tail", np.int64),
    ]
)

# -- flows ------------------------------------------------------------------------------------------------------

FLOW = np.dtype(
    [
        # Hot fields first: every packet reads or writes them, and they fit two cache lines.
        ("high0", np.uint64),  # address of side 0 (IPv4 mapped into IPv6)
        ("low0", np.uint64),
        ("high1", np.uint64),  # address of side 1
        ("low1", np.uint64),
        ("port0", np.int32),  # ICMP echo: identifier; -1: none; MERGED_PORT
        ("port1", np.int32),
        ("protocol", np.uint8),
        ("version", np.uint8),
        ("content", np.uint8),  # one of CONTENT_*: decides how much of the head is kept
        ("syn_side", np.int8),  # sender of the SYN, or receiver of the SYN-ACK; -1: no handshake captured
        ("reset_side", np.int8),  # sender of the first RST
        ("fin_side", np.int8),  # sender of the first FIN; -1: none
        ("closed", np.uint8),  # RST captured, or FIN of both sides
        ("reopening", np.uint8),  # closed, and then the SYN was repeated: it opens a connection if it is answered
        ("layer", np.uint8),  # PLAIN, TUNNELLED or TUNNEL
        ("tracking", np.int32),  # TCP: index of its LINK; ESP: of its newest ASSOCIATION; -1: none; UNTRACKED
        ("secure", np.int32),  # TLS, SSH: index of the first of its two SECURE_STREAM; -1: none
        ("last_capture", np.int32),
        ("first", np.int64),  # earliest and latest time: time stamps may go backwards
        ("last", np.int64),
        ("last_frame", np.int64),
        ("first_frame", np.int64),
        ("reset_frame", np.int64),  # first RST; 0: none
        ("first_capture", np.int32),
        ("reset_capture", np.int32),
        ("vlan", np.int32),  # -1: untagged
        ("note", np.int32),  # index into the notes of the slow path; -1: none
        ("errors", np.int32),  # ICMP errors that quote the flow
        ("controls", np.int32),  # those of them that change how its sender routes or sends (redirect, source quench)
    ]
)

SIDE = np.dtype(
    [
        ("packets", np.int64),  # without copies
        ("bytes", np.int64),  # frame lengths on the wire
        ("copies", np.int64),  # packets captured more than once: the further copies
        ("payload", np.int64),  # bytes above the transport header, without retransmissions
        ("retransmitted", np.int64),  # packets
        ("mac", np.int64),  # source of the first frame of this side; -1: none
        ("destination_mac", np.int64),  # destination of that frame; -1: none
        ("tag", np.int64),  # of the newest packet that the slow path has added to the notes of the flow
        ("base", np.uint32),  # TCP sequence number of the first byte of the head
        ("initial", np.uint32),  # TCP sequence number of the SYN
        ("next", np.uint32),  # highest TCP sequence number seen, plus one
        ("gap", np.uint32),  # sequence number of the first byte missing below ``next``, in the newest gap
        ("gap_end", np.uint32),  # end (exclusive) of that gap; equal to ``gap``: nothing is missing
        ("contiguous", np.int32),  # bytes of the head before its first gap
        ("kept", np.int32),  # bytes in the arena
        ("pieces", np.int32),
        ("ending", np.int64),  # TCP: length of the stream, known from a FIN; -1: unknown
        ("newest", np.int64),  # time of the newest payload, without retransmissions; 0: none
        ("opened", np.int64),  # TCP: time of the newest SYN
        ("peer_payload", np.int64),  # payload of the other side when ``protected`` was set; -1: it is not
        ("first_acknowledged", np.uint32),  # TCP: acknowledgement number of the first ACK, and of the newest one
        ("acknowledged_to", np.uint32),
        ("time_to_live", np.uint8),  # of the first packet of this side
        ("flags", np.uint8),  # union of all TCP flags
        ("based", np.uint8),  # ``base`` is set
        ("begins", np.uint8),  # ``base`` follows a SYN
        ("acknowledged", np.uint8),  # has sent an ACK without SYN and RST
        ("closed", np.uint8),  # no more of the head is kept
        ("protected", np.uint8),  # TLS: has sent a record of application data
        ("classes", np.uint32, 16),  # datagrams of a row's protocol: the classes that came first; 0: unused
        ("unlike", np.int32),  # datagrams of none of the classes before: the number of classes, or more
        ("mismatched", np.int32),  # echo replies whose data behind the time stamp no request had
        ("run", np.int32),  # newest datagrams of which each followed the one before within RAPID
        ("rapid", np.int32),  # most of them at a time
        ("odd", np.uint8),  # bits of ODDITIES that any packet had
        ("surplus", np.int64),  # bytes of SURPLUS and of TAIL
        ("tail", np.int64),
        ("largest", np.int64),  # payload of the largest packet
        ("errors", np.int64),  # ICMP errors that quote a packet of this side
        ("peer_errors", np.int64),  # those of them that the other side sent
        ("opening", np.uint8, 4),  # TCP: the first bytes of the head, as far as ``contiguous`` reaches
    ]
)

PIECE = np.dtype(
    [
        ("frame", np.int64),
        ("time", np.int64),
        ("arena", np.int64),  # offset of the first kept byte
        ("flow", np.int32),  # index
        ("capture", np.int32),
        ("offset", np.int32),  # TCP: in the head; ICMP error: length of the IP header before it
        ("length", np.int32),  # payload as declared; -1: the fragment that would tell is missing
        ("kept", np.int32),  # bytes in the arena
        ("side", np.uint8),  # sender; of an ICMP error, the sender of the quoted packet
        ("error", np.uint8),  # 1: an ICMP error that quotes the flow, kept from its IP header on
    ]
)
"""Payload of one packet, as far as it is kept."""

UNTRACKED = -2
"""``tracking`` of a flow with an IEC 104 link for which there was no room."""

# What to do with a packet after its flow has been found: an even number, plus the side.
TRACK_APDUS, TRACK_ESP, TRACK_SECURE = 2, 4, 6

# -- kept payload -----------------------------------------------------------------------------------------------

# What the first payload of a TCP flow looks like. It decides how much of the head is kept.
CONTENT_UNKNOWN, CONTENT_OTHER, CONTENT_TLS, CONTENT_SSH, CONTENT_IEC104, CONTENT_TEXT, CONTENT_FTP = range(7)
HEAD_LIMITS = np.array([4096, 4096, 24576, 8192, 2048, 8192, 262144], dtype=np.int64)
"""Maximum bytes kept per direction of a TCP flow, by content. Each kernel call needs room for the largest."""
MAX_HEAD_PIECES = 1024
"""Maximum frames that contribute to the head of a direction; FTP control connections: eight times that."""
MAX_DATAGRAMS = 64
"""Maximum datagrams kept per direction of anything but TCP and ESP."""
MAX_DATAGRAM_BYTES = 4096
"""Maximum bytes kept of one datagram."""
MAX_DIRECTION_BYTES = 65536
"""Maximum bytes of datagrams kept per direction."""
MAX_OPENINGS, MAX_UNLIKE = 96, 128
"""Datagrams kept per direction after which no further message of a known class that opens an IKE SA is kept, and after
which none of a new class is; see :func:`analyzer.scanner.datagrams.datagram_class`."""
NTP_REPETITIONS, NTP_VARIANTS = 4, 48
"""Datagrams kept per direction after which plain NTP requests and answers are not kept, and after which no client or
server messages of NTP are."""
ECHO_REPETITIONS, ECHO_VARIANTS = 16, 48
"""Datagrams kept per direction after which echoes of a known class are not kept, and after which no echoes are."""
RESERVED_BYTES = 16384
"""Bytes of MAX_DIRECTION_BYTES that are reserved, like the datagrams from the VARIANTS to MAX_DATAGRAMS, for what is
neither an echo nor NTP: no flood of those can hide it."""
UNLIKE_BYTES = 65536
"""Bytes kept per direction beyond MAX_DIRECTION_BYTES of datagrams of new classes."""
RAPID = 4_000_000_000
"""Nanoseconds between two requests of a client that no protocol of a row repeats more than a few times: NTP sends
bursts of 8 packets, 2 seconds apart, and polls in 16 seconds or more (RFC 5905, section 13)."""
MAX_ESP_PACKETS, MAX_READABLE = 16, 8
"""Maximum ESP packets kept per direction and SPI, and of readable ones besides."""
MAX_ESP_BYTES = 64
"""Maximum bytes kept of one ESP packet."""
MAX_ICMP_ERRORS = 8
"""Maximum ICMP errors kept per flow; as many source quenches and redirects besides."""
ECHO_SAMPLE, ECHO_STAMP = 48, 24
"""Bytes of the data of an echo that are read, and of those the first, which may differ from ping to ping."""

# -- duplicates -------------------------------------------------------------------------------------------------

SYN_REPEATED = 1_000_000_000
"""Nanoseconds within which a SYN with the number of the previous one repeats it, though the connection is closed: a
client that retries a refused connection does so after half a second."""
RECENT_PACKETS = 1 << 12
"""Packets of which copies are recognised, in sets of four by digest; a power of two."""
COPY_OTHER_PATH, COPY_SAME_PATH = 20_000_000, 1_000_000
"""Nanoseconds within which a second capture of one packet follows: on its way through a router, and at one place
(two mirror ports)."""
ESP_COPY = 100_000_000
"""Nanoseconds within which an identical ESP packet is a copy made by the capture, not a replay."""

# -- IEC 104 ----------------------------------------------------------------------------------------------------

MAX_LINKS = 1 << 14
"""Maximum links that are tracked. Of further ones, only the heads are read."""
WINDOW = 12
"""I frames that a side may send before an acknowledgement (k of IEC 60870-5-104, subclause 5.5)."""
CONFIRMING_APDUS = 4
"""APDUs in a row after which a direction that lost its framing is trusted again."""
STANDARD_TYPE = 1 << 16
"""Marks a type identification in ``LINK.kind``; types of LRR payloads stand there without it."""
HIGHEST_LRR_TYPE = 47
"""Highest known type of an LRR payload."""

LINK = np.dtype(
    [
        ("flow", np.int32),  # index
        ("startdt", np.int8),  # side that sent the first STARTDT act; -1: none
        ("kinds", np.uint8),  # used entries of the next two
        ("kind", np.uint32, 64),  # type of LRR payload, or STANDARD_TYPE + type identification
        ("kind_count", np.uint32, 64),
        ("other_kinds", np.int64),  # payloads of types for which there was no room
        ("ids", np.uint8),  # used entries of the next
        ("id", np.uint32, 4),  # LRR-IDs in the order of their appearance
        ("other_ids", np.int64),  # payloads with LRR-IDs for which there was no room
        ("last", np.int64),  # time of the newest APDU
        ("silence", np.int64),  # longest time without an APDU of either side, nanoseconds
        ("silence_frame", np.int64),  # frame that ended it
        ("silence_capture", np.int32),
    ]
)
"""An IEC 104 link: a TCP flow with two records of :data:`LINK_DIRECTION`."""

LINK_DIRECTION = np.dtype(
    [
        ("next", np.uint32),  # TCP sequence number of the next byte to read
        ("offset", np.int64),  # of that byte in the stream, which begins where the head does
        ("remaining", np.int64),  # bytes of the newest APDU that are still to come
        ("began", np.int64),  # stream offset of the newest APDU
        ("began_frame", np.int64),
        ("began_time", np.int64),
        ("size", np.int64),  # of the newest APDU, with start byte and length
        ("reorder", np.int32),  # index of its REORDER, plus 1; 0: none
        ("began_capture", np.int32),
        ("based", np.uint8),  # ``next`` is set
        ("from_start", np.uint8),  # read from the first byte that the sender sent
        ("synchronised", np.uint8),  # ``next`` is the start of an APDU, or within the newest one
        ("unconfirmed", np.uint8),  # APDUs to read before a framing break counts as the sender's
        ("header_bytes", np.uint8),  # bytes of an incomplete APDU header that wait in REORDER
        ("apdus", np.int64),
        ("i_frames", np.int64),
        ("s_frames", np.int64),
        ("functions", np.int64, 6),  # U frames: STARTDT act and con, STOPDT act and con, TESTFR act and con
        ("long", np.int64),  # APDUs with start byte 0x69
        ("empty", np.int64),  # I frames without ASDU
        ("lrr", np.int64),  # I frames with the payload of an LRR
        ("standard", np.int64),  # I frames with a standard ASDU
        ("asdu_bytes", np.int64),
        ("first", np.int32),  # send sequence number of the first and of the newest I frame; -1: none
        ("sent", np.int32),
        ("expected", np.int32),  # send sequence number of the next I frame; -1: unknown
        ("modulus", np.int32),  # at which send sequence numbers wrapped: 32767 or 32768; 0: they did not
        ("received", np.int32),  # newest receive sequence number; -1: unknown
        ("outstanding", np.int32),  # most I frames without acknowledgement at a time
        ("jumps", np.int64),  # send sequence numbers that do not follow their predecessor
        ("repeats", np.int64),  # those of them that equal their predecessor
        ("wrong", np.int64),  # receive sequence numbers that go back, or acknowledge I frames never sent
        ("excesses", np.int64),  # I frames sent although WINDOW of them were not acknowledged
        ("unknown", np.int64),  # LRR payloads of a type above HIGHEST_LRR_TYPE
        ("breaks", np.int64),  # framing errors of the sender
        ("gaps", np.int64),  # places where the capture lacks the start of an APDU
        ("resynchronised", np.int64),  # times that an APDU was found after a gap, a break or an uncaptured beginning
        ("missing", np.int64),  # bytes that the capture lacks
        ("unread", np.int64),  # bytes in which no APDU was found
        ("testing", np.uint8),  # a TESTFR act waits for its con
        ("test_time", np.int64),  # of that TESTFR act
        ("answered", np.int64),  # TESTFR acts
        ("unanswered", np.int64),  # TESTFR acts followed by another one before a con
        ("longest_wait", np.int64),  # from TESTFR act to con, nanoseconds
    ]
)
"""One direction of a link, tracked over the whole stream."""

MAX_APDU_HEADER = 3 + 4 + 20
"""Bytes of the longest APDU header that is checked: long form, control field, payload header of an LRR."""
MAX_EARLY_SEGMENTS = 16
MAX_EARLY_BYTES = 8192

REORDER = np.dtype(
    [
        ("header", np.int64),  # arena offset of the room for an APDU header that arrives in parts
        ("frame", np.int64, MAX_APDU_HEADER),  # origin of each of its bytes
        ("time", np.int64, MAX_APDU_HEADER),
        ("capture", np.int32, MAX_APDU_HEADER),
        ("room", np.int64),  # arena offset of MAX_EARLY_BYTES for early segments
        ("used", np.int32),
        ("count", np.int32),  # early segments
        ("early_sequence", np.uint32, MAX_EARLY_SEGMENTS),
        ("early_length", np.int32, MAX_EARLY_SEGMENTS),
        ("early_kept", np.int32, MAX_EARLY_SEGMENTS),
        ("early_at", np.int64, MAX_EARLY_SEGMENTS),  # arena offset
        ("early_frame", np.int64, MAX_EARLY_SEGMENTS),
        ("early_time", np.int64, MAX_EARLY_SEGMENTS),
        ("early_capture", np.int32, MAX_EARLY_SEGMENTS),
    ]
)
"""Bytes of one direction of a link that wait for others, in the order of their arrival. Few directions need one."""

# Outcomes of checking an APDU.
VALID, INCOMPLETE = 0, -1
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

ASDU_SIZES = np.full(256, -1, dtype=np.int64)
"""Bytes of one element set by type identification; -1: variable or private; -2: there is no such type."""
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

# -- TLS and SSH ------------------------------------------------------------------------------------------------

CONFIRMING_RECORDS = 4
"""Records in a row after which a direction that lost its framing is trusted again."""
MAX_RECORD_BYTES = (1 << 14) + 2048
"""Bytes of a record's content: the largest that any version of TLS allows (RFC 5246, section 6.2.3)."""
SHORTEST_CIPHERTEXT = 16
"""Bytes: no cipher suite makes a shorter record of application data, for none has a shorter tag or MAC."""
MAX_LOST_BYTES = 4 * MAX_RECORD_BYTES
"""Captured bytes in a row in which a record must begin, and mostly more than one."""

SECURE_STREAM = np.dtype(
    [
        ("next", np.uint32),  # TCP sequence number of the next byte to read: of a record header, or to search for one
        ("offset", np.int64),  # of that byte in the stream
        ("began", np.uint32),  # TCP sequence number of the newest record's content
        ("header", np.uint8, 5),  # the record header at hand
        ("have", np.uint8),  # bytes of it that are there
        ("based", np.uint8),  # ``next`` is set
        ("skipped", np.uint8),  # the stream is not read: SSL 2.0 has other records
        ("synchronised", np.uint8),  # ``next`` belongs to a record header
        ("unconfirmed", np.uint8),  # records to read before a framing break counts as the sender's
        ("kind", np.uint8),  # content type of the newest record
        ("protected", np.uint8),  # a ChangeCipherSpec or application data has passed
        ("texts", np.uint8),  # samples of text, up to 255
        ("sampled", np.uint16),  # bytes sampled of ciphertext since the last verdict, and those with the highest bit
        ("high", np.uint16),
        ("clear", np.uint32),  # samples, or groups of them, that are no ciphertext
        ("short", np.uint32),  # records of application data shorter than any ciphertext
        ("heartbeats", np.uint32),  # records
        ("breaks", np.uint32),  # framing errors of the sender
        ("losses", np.uint32),  # times that MAX_LOST_BYTES held no record
        ("lost", np.int64),  # captured bytes in a row in which no record was found
        ("missing", np.int64),  # bytes that the capture lacks
        ("unread", np.int64),  # bytes in which no record was found
    ]
)
"""One direction of a TLS or SSH connection, over the whole stream. SSH is sampled only."""

# -- ESP --------------------------------------------------------------------------------------------------------

MAX_FLOW_ASSOCIATIONS = 64
"""Maximum SPIs of one flow, both directions, that are kept apart."""
MAX_ASSOCIATIONS = 1 << 16
"""Maximum SPIs of all flows. Of further ones, only the heads are read."""

ASSOCIATION = np.dtype(
    [
        ("flow", np.int32),  # index
        ("previous", np.int32),  # association of the flow before this one; -1: none
        ("spi", np.uint32),
        ("side", np.uint8),
        ("folded", np.uint8),  # it stands for all SPIs of the flow that there was no room to keep apart
        ("packets", np.int64),
        ("kept", np.int64),  # pieces
        ("readable", np.int64),  # packets whose payload begins with an IP header, or with text
        ("bytes", np.int64),  # of ESP packets, as declared
        ("first", np.uint32),  # sequence numbers
        ("last", np.uint32),
        ("highest", np.uint32),
        ("wraps", np.int32),  # of the lower half of extended sequence numbers
        ("seen", np.uint64),  # bit n: packet ``highest - n`` was captured
        ("digest", np.uint64, 64),  # of the newest packets, by sequence number modulo 64
        ("time", np.int64, 64),
        ("copied", np.int64),  # packets captured twice within ESP_COPY
        ("reused", np.int64),  # packets with the sequence number of a different one
        ("replayed", np.int64),  # packets that came again later
        ("late", np.int64),  # packets older than the window of 64
        ("remainders", np.int64, 16),  # packets by length modulo 16
        ("short", np.int64, 32),  # packets of 4 n to 4 n + 3 bytes, below 128 bytes
        ("lengths", np.uint64, 8),  # bit n: a packet of 4 n to 4 n + 3 bytes was captured; last bit: or longer
        ("first_frame", np.int64),
        ("last_frame", np.int64),
        ("first_capture", np.int32),
        ("last_capture", np.int32),
        ("first_time", np.int64),
        ("last_time", np.int64),
    ]
)
"""ESP packets of one side under one SPI, over the whole flow."""

# -- events -----------------------------------------------------------------------------------------------------

EVENT = np.dtype(
    [
        ("flow", np.int32),  # index
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
"""A place in a link or an association that a check may cite."""

# Kinds of events, with their value (and other).
FRAMING_BREAK = 0  # BAD_* | offending byte or field << 8 (what it should agree with)
SEQUENCE_JUMP = 1  # send sequence number (its predecessor, -1: none)
WRONG_ACKNOWLEDGEMENT = 2  # receive sequence number (its predecessor, or the newest one sent)
WINDOW_EXCEEDED = 3  # I frames without acknowledgement
UNKNOWN_LRR_TYPE = 4  # type of the LRR payload
STANDARD_ASDU = 5  # type identification
STARTDT = 6
UNANSWERED_TESTFR = 7  # nanoseconds until the next TESTFR act
CAPTURE_GAP = 8  # cites the first APDU after the gap
NEW_LRR_ID = 9  # LRR-ID
ESP_REUSED, ESP_REPLAYED, ESP_LATE = 10, 11, 12  # sequence number (the highest before)
ODD_PACKET = 13  # one of ODDITIES, of which it is the side's first (bytes of SURPLUS or TAIL)
RECORD_BREAK = 14  # content type << 32 | version << 16 | length
RECORD_SHORT = 15  # length of a record of application data
CLEAR_CONTENT = 16  # CLEAR_TEXT or CLEAR_BYTES
RECORD_LOST = 17  # bytes in which no record was found
HEARTBEAT_RECORD = 18  # length

CLEAR_TEXT, CLEAR_BYTES = 0, 1

MAX_EVENTS = 8
"""Maximum events kept per kind and direction."""
MAX_PACKET_EVENTS = 96
"""Maximum events caused by one packet."""

# -- frames in no flow --------------------------------------------------------------------------------------------

# What a frame is that belongs to no flow.
NEIGHBOURLY = 0
"""Housekeeping of the link: ARP, LLDP, 802.1X and the like, by destination, size and content."""
MISUSED = 1
"""Of a type of housekeeping, but not like it."""
OTHER_TYPE = 2
"""Any other Ethernet type."""
UNREADABLE = 3
"""A header contradicts itself or is truncated."""

STRAY = np.dtype(
    [
        ("source_mac", np.int64),  # -1: the link layer has none
        ("destination_mac", np.int64),
        ("source_high", np.uint64),  # addresses as in PACKET; all 0 where the frame shows none
        ("source_low", np.uint64),
        ("destination_high", np.uint64),
        ("destination_low", np.uint64),
        ("ethertype", np.int32),
        ("version", np.uint8),  # IP version; 0: no addresses
        ("kind", np.uint8),  # NEIGHBOURLY, …
        ("capture", np.int32),  # of the first frame
        ("frame", np.int64),
        ("time", np.int64),
        ("packets", np.int64),  # 0: the record is free
        ("bytes", np.int64),  # frame lengths on the wire
    ]
)
"""Frames in no flow that agree in their ends, type and kind: a hash table of its own."""
MAX_STRAYS = 1 << 14
"""Records of frames in no flow, a power of two (1.6 MB). Where three of four are in use, the ends of further frames are
not kept apart any more."""

# -- the state of a scan ----------------------------------------------------------------------------------------

INTERFACE = np.dtype(
    [
        ("linktype", np.int32),
        ("snaplen", np.int64),  # 0: unlimited
        ("offset", np.int64),  # seconds to add to time stamps
        ("multiplier", np.int64),  # nanoseconds = ticks // divisor * multiplier, or by ``bits`` if that is not negative
        ("divisor", np.int64),
        ("bits", np.int32),  # a tick is 2**-bits seconds
        ("trailer", np.int32),  # bytes of frame check sequence after each frame
    ]
)

MAX_RUNS = 256
"""Maximum runs of packets kept, see :mod:`analyzer.timeline`; packets of further runs belong to none."""
PAUSE = 300_000_000_000
"""Nanoseconds without a packet of anybody after which a run of packets ends."""
CLOCK_STEP = 2_000_000_000
"""Nanoseconds by which a time stamp may lie before the newest one: packets of several interfaces are out of order by
less, and a clock that is set steps by more."""

# Why a run of packets begins.
RUN_OF_FILE = 0
RUN_AFTER_PAUSE = 1
RUN_AFTER_STEP = 2

STATE = np.dtype(
    [
        ("position", np.int64),  # in: where to start in the buffer; out: the first byte not consumed
        ("frame", np.int64),  # frames of this file read so far
        ("capture", np.int64),
        ("framing", np.int64),
        ("little", np.int64),  # the file is little-endian
        ("record_header", np.int64),  # pcap: 16 bytes; 20, 24 or 28 in modified formats
        ("swapped", np.int64),  # pcap before version 2.4: both lengths of a record may stand in either order
        ("fraction", np.int64),  # pcap: nanoseconds per unit of the second half of a time stamp
        ("linktype", np.int64),  # pcap and snoop
        ("trailer", np.int64),  # pcap
        ("largest", np.int64),  # captured length above which a record is damaged
        ("interfaces", np.int64),
        ("flows", np.int64),  # used records of each array
        ("limit", np.int64),  # flows after which those that differ only in the port of the client are merged
        ("pieces", np.int64),
        ("pieces_limit", np.int64),  # pieces, and bytes of the arena, after which no more payload is kept
        ("arena_limit", np.int64),
        ("links", np.int64),
        ("reorders", np.int64),
        ("associations", np.int64),
        ("secure_streams", np.int64),
        ("events", np.int64),
        ("arena", np.int64),  # offset of the first free byte
        ("secret", np.uint64, 3),  # odd factors of the flow hash
        ("first", np.int64),  # earliest and latest time in this file
        ("last", np.int64),
        ("flow", np.int64),  # out: flow of the newest packet, and the side that sent it
        ("sender", np.int64),
        ("lost", np.int64),  # snoop: packets that the capturing machine reports as lost
        ("count_only", np.int64),  # SINGLE: count the packet without reading its payload
        ("in_flows", np.int64),  # packets by fate, over all files
        ("icmp_errors", np.int64),  # of flows that they quote
        ("copies", np.int64),
        ("untracked", np.int64),  # in no flow: there are too many, even with merged ports
        ("payload_dropped", np.int64),  # in a flow, but their payload is not kept because of the limits
        ("unlike_dropped", np.int64),  # of those, datagrams of new classes; echoes and NTP do not count
        ("esp_untracked", np.int64),  # in a flow, but under no SPI: there are too many
        ("tunnels", np.int64),  # packets that carry those of other flows, counted beside them
        ("strays", np.int64),  # used records
        ("not_ip", np.int64),
        ("headers_truncated", np.int64),
        ("malformed", np.int64),
        ("truncated", np.int64),  # frames captured shorter than they were
        ("recent", np.uint64, RECENT_PACKETS),  # digests of the last packets of all flows, to recognise copies
        ("recent_path", np.uint64, RECENT_PACKETS),  # where each was captured: source MAC, VLAN and time to live, mixed
        ("recent_time", np.int64, RECENT_PACKETS),
        ("newest", np.int64),  # newest time of the present run of packets
        ("runs", np.int64),  # runs begun, of which MAX_RUNS are kept
        ("run_start", np.int64, MAX_RUNS),  # earliest and latest time
        ("run_end", np.int64, MAX_RUNS),
        ("run_kind", np.int64, MAX_RUNS),  # one of RUN_*
        ("run_capture", np.int64, MAX_RUNS),  # first frame
        ("run_frame", np.int64, MAX_RUNS),
    ]
)

# Why :func:`analyzer.scanner.kernels.scan` returns.
END_OF_BUFFER = 0
"""The buffer holds no further complete record."""
BLOCK = 1
"""A pcapng block without a packet stands at ``position``."""
NEEDS_SLOW_PATH = 2
"""The packet in ``packets[0]`` takes the slow path; ``position`` is after it, and it is not yet counted."""
FLOWS_FULL = 3
PIECES_FULL = 4
ARENA_FULL = 5
DAMAGED = 6
"""The record at ``position`` is impossible."""
TABLES_FULL = 7
"""LINK (with LINK_DIRECTION), REORDER, ASSOCIATION, SECURE_STREAM or EVENT."""
PACKET_READ = -1
"""Of :func:`analyzer.scanner.records.next_record`: there is a packet."""
