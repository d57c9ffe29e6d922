"""Conversations: originator, state, reuse of ports, and the packets and errors that belong to them."""

from __future__ import annotations

import struct

import pytest

from analyzer.conversations import Conversation, Endpoint, State
from analyzer.heads import Direction, Frame
from tests import build
from tests.build import ACK, FIN, RESOLVER, ROUTER, ROUTER6, RST, SERVER, SERVER6, STATION, STATION6, SYN

PORT, SERVICE = 50000, 9000


def sent(flags: int, sequence: int = 100, payload: bytes = b"") -> bytes:
    return build.tcp(STATION, PORT, SERVER, SERVICE, flags, sequence, payload)


def answered(flags: int, sequence: int = 900, payload: bytes = b"") -> bytes:
    return build.tcp(SERVER, SERVICE, STATION, PORT, flags, sequence, payload)


OPENED = [sent(SYN, 100), answered(SYN | ACK, 900), sent(ACK, 101)]
CLOSED = [sent(FIN | ACK, 101), answered(FIN | ACK, 901), sent(ACK, 102)]


def opener(found: Conversation) -> tuple[str, int | None, bool]:
    return found.originator.address, found.originator.port, found.originator_certain


# -- originator -------------------------------------------------------------------------------------------------


def test_the_syn_shows_the_originator() -> None:
    assert opener(build.conversation(OPENED)) == (STATION, PORT, True)


def test_the_syn_ack_shows_the_originator() -> None:
    assert opener(build.conversation([answered(SYN | ACK), answered(ACK, 901, b"x")])) == (STATION, PORT, True)


def test_a_late_syn_shows_the_originator() -> None:
    assert opener(build.conversation([answered(SYN | ACK), sent(SYN)])) == (STATION, PORT, True)


def test_without_handshake_the_port_of_a_service_shows_the_responder() -> None:
    for frames in ([answered(ACK, 5, b"x")], [sent(ACK, 5, b"x")]):
        (found,) = build.conversations(frames, services={("tcp", SERVICE): "tls"})
        assert opener(found) == (STATION, PORT, False)
        (found,) = build.conversations(frames, services={("udp", SERVICE): "dns"})
        assert opener(found)[0] == (SERVER if frames == [answered(ACK, 5, b"x")] else STATION)


@pytest.mark.parametrize(
    ("port", "service", "payload"), [(443, 2404, b"\x68\x04\x07\0\0\0"), (22, 3001, b"\x17\x03\x03\0\x20" + bytes(32))]
)
def test_without_handshake_the_content_decides_between_ports_of_two_services(
    port: int, service: int, payload: bytes
) -> None:
    services = {("tcp", 22): "ssh", ("tcp", 443): "tls", ("tcp", 2404): "iec104", ("tcp", 3001): "tls"}
    for ends in ((SERVER, service, STATION, port), (STATION, port, SERVER, service)):
        (found,) = build.conversations([build.tcp(*ends, ACK, 5, payload)], services=services)
        assert opener(found) == (STATION, port, False)


def test_without_handshake_a_system_port_shows_the_responder() -> None:
    frames = [build.tcp(SERVER, 443, STATION, PORT, ACK, 5, b"x")]
    assert opener(build.conversation(frames)) == (STATION, PORT, False)


def test_otherwise_the_first_sender_is_the_originator() -> None:
    assert opener(build.conversation([answered(ACK, 5, b"x")])) == (SERVER, SERVICE, False)
    assert opener(build.conversation([build.udp(SERVER, 7000, STATION, 8000)])) == (SERVER, 7000, True)


def test_a_datagram_from_a_system_port_is_a_reply() -> None:
    answer = build.udp(RESOLVER, 53, STATION, 40000, b"x")
    assert opener(build.conversation([answer])) == (STATION, 40000, False)
    assert opener(build.conversation([build.udp(STATION, 40000, RESOLVER, 53, b"x"), answer])) == (STATION, 40000, True)


# -- state ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "state"),
    [
        (OPENED, State.ESTABLISHED),
        ([*OPENED, *CLOSED], State.ESTABLISHED),
        ([*OPENED, sent(ACK, 101, b"x"), answered(RST, 901)], State.ESTABLISHED),
        ([sent(SYN)], State.ATTEMPTED),
        ([sent(SYN)] * 3, State.ATTEMPTED),
        ([sent(SYN), answered(SYN | ACK)], State.ATTEMPTED),
        ([sent(SYN), answered(SYN | ACK), sent(RST, 101)], State.ATTEMPTED),  # a scan
        ([sent(SYN), sent(RST, 101)], State.ATTEMPTED),
        ([sent(SYN), answered(RST | ACK, 0)], State.REJECTED),
        ([sent(SYN), build.icmp_error(ROUTER, STATION, 3, 13, sent(SYN))], State.REJECTED),
        ([sent(SYN), build.icmp_error(ROUTER, STATION, 3, 4, sent(SYN))], State.ATTEMPTED),  # too big
        ([sent(SYN), build.icmp_error(ROUTER, STATION, 11, 0, sent(SYN))], State.ATTEMPTED),  # a traceroute
        ([*OPENED, build.icmp_error(ROUTER, STATION, 3, 1, sent(ACK, 101))], State.ESTABLISHED),
        ([sent(ACK, 5, b"x"), answered(ACK, 5, b"y")], State.MIDSTREAM),
        ([sent(ACK, 5, b"x"), answered(RST, 5)], State.MIDSTREAM),
        ([sent(SYN), sent(ACK, 101, b"x")], State.ESTABLISHED),  # one direction of a mirror port
        ([answered(SYN | ACK), answered(ACK, 901, b"x")], State.ESTABLISHED),
    ],
)
def test_tcp_states(frames: list[bytes], state: State) -> None:
    assert build.conversation(frames).state is state


def test_an_icmp_error_may_quote_eight_bytes_of_tcp() -> None:
    """RFC 792 demands no more; they do not show the options of a SYN, which are no payload."""
    options = bytes([2, 4, 5, 180, 1, 3, 3, 7, 4, 2, 1, 1])
    header = build.tcp_header(PORT, SERVICE, SYN, 100)
    packet = build.ip(STATION, SERVER, 6, header[:12] + b"\x80" + header[13:] + options)
    error = build.icmp_error(ROUTER, STATION, 3, 13, build.ethernet(packet)[: 14 + 20 + 8])
    assert build.conversation([build.ethernet(packet), error]).state is State.REJECTED


QUERY = build.udp(STATION, 40000, RESOLVER, 5353, b"question")
ANSWER = build.udp(RESOLVER, 5353, STATION, 40000, b"answer")


@pytest.mark.parametrize(
    ("frames", "state"),
    [
        ([QUERY], State.ONEWAY),
        ([QUERY, ANSWER], State.TWOWAY),
        ([QUERY, build.icmp_error(RESOLVER, STATION, 3, 3, QUERY)], State.REJECTED),
        ([QUERY, build.icmp_error(ROUTER, STATION, 3, 4, QUERY)], State.ONEWAY),
        ([QUERY, build.icmp_error(ROUTER, STATION, 11, 0, QUERY)], State.ONEWAY),
        ([QUERY, ANSWER, build.icmp_error(STATION, RESOLVER, 3, 3, ANSWER)], State.TWOWAY),
        ([QUERY, build.icmp_error(STATION, RESOLVER, 3, 3, ANSWER)], State.ONEWAY),  # the answer was refused
        ([build.echo(STATION, ROUTER, 8, 1)], State.ONEWAY),
        ([build.echo(STATION, ROUTER, 8, 1), build.echo(ROUTER, STATION, 0, 1)], State.TWOWAY),
    ],
)
def test_states_without_tcp(frames: list[bytes], state: State) -> None:
    assert build.conversation(frames).state is state


QUERY6 = build.udp(STATION6, 40000, SERVER6, 5353, b"question")


@pytest.mark.parametrize(("kind", "state"), [(1, State.REJECTED), (2, State.ONEWAY), (3, State.ONEWAY)])
def test_only_icmpv6_type_1_is_unreachable(kind: int, state: State) -> None:
    found = build.conversation([QUERY6, build.icmp_error(ROUTER6, STATION6, kind, 0, QUERY6)])
    assert found.state is state


def test_a_refusing_reset_names_its_frame() -> None:
    found = build.conversation([sent(SYN), answered(RST | ACK, 0)])
    assert (found.refused, found.silent) == (Frame(0, 2), True)
    assert build.conversation([*OPENED, sent(RST, 101)]).refused is None
    late = build.conversation([*OPENED, answered(ACK, 901, b"x"), answered(RST, 902)])
    assert (late.refused, late.silent) == (Frame(0, 5), False)


# -- reuse of ports ---------------------------------------------------------------------------------------------

AGAIN = [sent(SYN, 7000), answered(SYN | ACK, 8000), sent(ACK, 7001), sent(ACK, 7001, b"\x01again")]


@pytest.mark.parametrize(
    "end",
    [CLOSED, [answered(RST, 901)], [sent(RST, 101)], [sent(FIN | ACK, 101)], []],
    ids=["fin", "reset by responder", "reset by originator", "one fin", "lost its memory"],
)
def test_a_new_connection_on_the_same_ports_is_a_new_flow(end: list[bytes]) -> None:
    first, second = build.conversations([*OPENED, sent(ACK, 101, b"\x01first"), *end, *AGAIN])
    assert (first.head.streams[0].data, second.head.streams[0].data) == (b"\x01first", b"\x01again")
    assert (first.packets[0], second.packets) == (3 + sum(frame[26:30] == OPENED[0][26:30] for frame in end), (3, 1))
    assert (first.state, second.state) == (State.ESTABLISHED, State.ESTABLISHED)
    assert (first.id, second.id) == (1, 2)


def test_a_retransmitted_syn_opens_no_flow() -> None:
    assert build.conversation([sent(SYN), sent(SYN), *OPENED[1:]]).packets == (3, 1)
    assert build.conversation([*OPENED, *CLOSED, sent(SYN, 100)]).packets == (5, 2)
    assert build.conversation([sent(SYN), answered(RST | ACK, 0)] * 3).packets == (3, 3)


@pytest.mark.parametrize("number", [900, 100, 3_000_000_000], ids=["same", "lower", "far"])
def test_numbers_used_again_after_the_close_are_a_new_connection(number: int) -> None:
    again = [sent(SYN), answered(SYN | ACK, number), sent(ACK, 101), sent(ACK, 101, b"GET / ")]
    first, second = build.conversations([*OPENED, sent(ACK, 101, b"\x16first"), *CLOSED, *again])
    assert (first.head.streams[0].data, second.head.streams[0].data) == (b"\x16first", b"GET / ")
    assert second.head.streams[0].begins
    assert (second.state, second.originator) == (State.ESTABLISHED, first.originator)


def test_a_syn_with_the_old_number_long_after_the_close_is_an_attempt() -> None:
    packets = build.timed([*OPENED, *CLOSED]) + build.timed([sent(SYN)], 1_700_000_002 * build.SECOND)
    first, second = build.dissect_flows(build.read_files(build.pcap(packets, nanoseconds=True))).expand()
    assert (first.packets, second.packets, second.state) == ((4, 2), (1, 0), State.ATTEMPTED)


def test_refused_attempts_with_different_sequence_numbers_are_flows() -> None:
    frames = [frame for n in range(3) for frame in (sent(SYN, 100 + n), answered(RST | ACK, 0))]
    assert [conversation.state for conversation in build.conversations(frames)] == [State.REJECTED] * 3


def test_forged_syns_open_one_flow_at_most() -> None:
    assert len(build.conversations([*OPENED, *(sent(SYN, 5000 + n) for n in range(100))])) <= 2


# -- packets and errors -----------------------------------------------------------------------------------------


def test_counts_times_and_frames_by_direction() -> None:
    frames = [answered(SYN | ACK), sent(ACK, 101, b"\x01" * 10), answered(ACK, 901, b"\x02" * 100), answered(ACK, 1001)]
    found = build.conversation(frames)
    assert found.packets == (1, 3)
    assert found.bytes == (len(frames[1]), len(frames[0]) + len(frames[2]) + len(frames[3]))
    assert found.payload == (10, 100)
    assert (found.first_frame, found.last_frame, found.duration) == (Frame(0, 1), Frame(0, 4), 0.003)
    assert found.macs == (build.MAC, build.MAC)


def test_macs_are_the_senders() -> None:
    query = build.ethernet(QUERY[14:], source="02:00:00:00:00:aa", destination="02:00:00:00:00:bb")
    answer = build.ethernet(ANSWER[14:], source="02:00:00:00:00:bb", destination="02:00:00:00:00:aa")
    assert build.conversation([query, answer]).macs == ("02:00:00:00:00:aa", "02:00:00:00:00:bb")
    assert build.conversation([query]).macs == ("02:00:00:00:00:aa", None)
    assert build.conversation([QUERY[14:]], 101).macs == (None, None)


def test_first_and_last_are_the_extremes_where_time_goes_back() -> None:
    packets = [build.Packet(QUERY, 5_000), build.Packet(ANSWER, 9_000), build.Packet(QUERY, 2_000)]
    (found,) = build.dissect_flows(build.read_files(build.pcap(packets, nanoseconds=True)))
    assert (found.first, found.last, found.last_frame) == (2_000, 9_000, Frame(0, 2))


@pytest.mark.parametrize(
    ("query", "router", "station", "kind"),
    [(QUERY, ROUTER, STATION, 3), (QUERY6, ROUTER6, STATION6, 1), (OPENED[0], ROUTER, STATION, 3)],
)
def test_an_icmp_error_belongs_to_the_quoted_flow(query: bytes, router: str, station: str, kind: int) -> None:
    found = build.read([*[query] * 10, *[build.icmp_error(router, station, kind, 1, query)] * 10])
    assert (found.counts.in_flows, found.counts.icmp_errors) == (10, 10)
    (conversation,) = build.dissect_flows(found)
    error = conversation.icmp_errors[0]
    assert (error.type, error.code, error.sender, error.quoted) == (kind, 1, router, Direction.ORIGINATOR)
    assert (error.frame, error.unreachable) == (Frame(0, 11), True)
    assert len(conversation.icmp_errors) == 8
    assert conversation.packets == (10, 0)


def test_an_icmp_error_after_extension_headers_is_read() -> None:
    plain = build.icmp_error(ROUTER6, STATION6, 1, 3, QUERY6)[14:]
    extended = build.ip6(ROUTER6, STATION6, 0, b"\x3a\0\x05\x02\0\0\x01\0" + plain[40:])
    (error,) = build.conversation([QUERY6, build.ethernet(extended)]).icmp_errors
    assert (error.type, error.code) == (1, 3)


def test_an_icmp_error_about_a_reply_quotes_the_responder() -> None:
    found = build.conversation([QUERY, ANSWER, build.icmp_error(STATION, RESOLVER, 3, 3, ANSWER)])
    assert [error.quoted for error in found.icmp_errors] == [Direction.RESPONDER]


def test_an_icmp_error_about_a_ping_refuses_it() -> None:
    ping = build.echo(STATION, SERVER, 8, 77)
    found = build.conversation([ping, build.icmp_error(ROUTER, STATION, 3, 1, ping)])
    assert (found.transport, found.state, len(found.icmp_errors)) == ("icmp", State.REJECTED, 1)


def test_an_icmp_error_without_its_flow_is_a_flow_of_its_own() -> None:
    error = build.icmp_error(ROUTER, STATION, 3, 1, QUERY)
    short = build.ethernet(build.ip4(ROUTER, STATION, 1, b"\x03\x01" + bytes(6) + b"\x45" + bytes(5)))
    for frames in ([error], [error, ANSWER], [short]):
        found = build.conversations(frames)[0]
        assert (found.transport, found.originator, found.icmp_errors) == ("icmp", Endpoint(ROUTER, None), ())


def test_an_icmp_error_that_quotes_a_later_fragment_belongs_to_no_flow_with_ports() -> None:
    lie = struct.pack(">HH", 40000, 5353)
    part = build.ethernet(build.ip4(STATION, RESOLVER, 17, lie + bytes(4), fragment=100))
    found = build.conversations([QUERY, build.icmp_error(ROUTER, STATION, 11, 1, part)])
    assert [conversation.icmp_errors for conversation in found] == [(), ()]


def test_other_icmp_errors_do_not_hide_a_redirect() -> None:
    errors = [build.icmp_error(ROUTER, STATION, kind, 1, QUERY) for kind in [3] * 40 + [5]]
    found = build.conversation([*[QUERY] * 41, *errors])
    assert [error.type for error in found.icmp_errors] == [3] * 8 + [5]


def test_notes_name_the_vlan_once() -> None:
    tagged = build.ethernet(QUERY[14:], vlans=[(0x8100, 7)])
    assert build.conversation([tagged]).notes == ("vlan 7",)
    tunnel = build.ip4("10.0.0.1", "10.0.0.2", 47, b"\0\0\x08\0" + QUERY[14:])
    assert build.conversation([build.ethernet(tunnel, vlans=[(0x8100, 7)])]).notes == ("vlan 7", "gre")


def test_esp_between_two_addresses_is_one_conversation() -> None:
    frames = [
        build.ethernet(build.ip4(*pair, 50, struct.pack(">II", spi, number) + bytes(60)))
        for number in range(3)
        for pair, spi in (((STATION, SERVER), 0x1000), ((SERVER, STATION), 0x2000))
    ]
    found = build.conversation(frames)
    assert (found.transport, found.originator, found.responder) == (
        "esp",
        Endpoint(STATION, None),
        Endpoint(SERVER, None),
    )
    assert (found.packets, found.state) == ((3, 3), State.TWOWAY)


def test_conversations_are_numbered_in_the_order_of_their_first_frames() -> None:
    frames = [build.udp(STATION, 40000 + n % 3, RESOLVER, 5353, b"x") for n in range(9)]
    assert [(conversation.id, conversation.first_frame.number) for conversation in build.conversations(frames)] == [
        (1, 1),
        (2, 2),
        (3, 3),
    ]


def test_endpoints_as_text() -> None:
    assert [str(Endpoint("192.0.2.1", 53)), str(Endpoint("2001:db8::1", 53)), str(Endpoint("2001:db8::1", None))] == [
        "192.0.2.1:53",
        "[2001:db8::1]:53",
        "2001:db8::1",
    ]
    mapped = build.udp("::ffff:192.0.2.9", 1, STATION6, 2)
    assert build.conversation([mapped]).originator.address in ("192.0.2.9", "::ffff:192.0.2.9")
