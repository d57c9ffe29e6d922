"""The inside of IPsec tunnels, where the capture shows it."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set

from analyzer.conversations import FOLDED, Conversation, State
from analyzer.dataclass import dataclass
from analyzer.heads import DIRECTIONS, Datagram, Direction
from analyzer.scanner.fragments import FIRST_FRAGMENT_MISSING, FRAGMENTED, OVERLAPPING, OVERSIZED
from analyzer.services import carries_esp

HANDED_BACK = 1_000_000
"""Nanoseconds within which a kernel hands back the inside of an ESP packet."""

OWN_NOTES = frozenset({FOLDED, FRAGMENTED, FIRST_FRAGMENT_MISSING, OVERLAPPING, OVERSIZED})
"""Notes of conversations that name no encapsulation."""

MIN_OVERHEAD = 28
"""Bytes that ESP carries at least beside the inner payload: headers of IPv4 and UDP."""

MAX_PACKET = 65535
"""Bytes of the longest IP packet."""


def inside_tunnel(conversations: Sequence[Conversation]) -> frozenset[int]:
    """Ids of conversations captured inside an IPsec tunnel, at one of its ends.

    A capture on all interfaces of a base station shows the packets of the tunnel twice: as ESP on a network card, and
    in clear on an interface without link-layer addresses. A capture on the card itself shows the received ones twice,
    if the kernel ends the tunnel. The second copy is not cleartext beside the tunnel.
    """
    tunnels = [flow for flow in conversations if flow.transport == "esp" or carries_esp(flow)]
    if not any(any(tunnel.macs) for tunnel in tunnels):
        return frozenset()
    return on_virtual_interface(conversations, tunnels) | handed_back(conversations, tunnels)


def on_virtual_interface(conversations: Sequence[Conversation], tunnels: Sequence[Conversation]) -> frozenset[int]:
    """Ids of conversations without link-layer addresses, in no other tunnel.

    Packets to or from an end of the tunnel itself never travel inside it, even if the uplink has no such addresses.
    """
    ends = {end.address for tunnel in tunnels for end in (tunnel.originator, tunnel.responder)}
    return frozenset(
        flow.id
        for flow in conversations
        if flow.macs == (None, None)
        and OWN_NOTES.issuperset(flow.notes)
        and ends.isdisjoint((flow.originator.address, flow.responder.address))
    )


@dataclass(frozen=True, slots=True)
class Received:
    """The ESP packets from one source MAC address, as far as their times are kept."""

    first: int
    """Of the first packet, nanoseconds since the epoch. Likewise ``last``."""
    last: int
    times: tuple[int, ...]
    """Of the kept packets, ascending."""
    sizes: tuple[int, ...]
    """Their bytes from the SPI on."""
    known_until: int
    """Up to when the times of all packets are kept."""

    def precedes(self, time: int, payload: int) -> bool:
        """Whether a packet with so much payload came straight after an ESP packet that can have held it."""
        index = bisect_right(self.times, time) - 1
        return index >= 0 and time - self.times[index] <= HANDED_BACK and self.sizes[index] >= payload + MIN_OVERHEAD


def handed_back(conversations: Sequence[Conversation], tunnels: Sequence[Conversation]) -> frozenset[int]:
    """Ids of conversations that the kernel of a tunnel's end handed back to its network card.

    They have packets in one direction, with the source MAC address of the received ESP packets, each straight after
    one of these that can have held it. Where the times of the ESP packets are not kept any more, and beside another one
    that was proven, a conversation belongs to them if it answers what the capture does not hold.
    """
    senders = {
        end.address
        for flow in conversations
        for end, packets in zip((flow.originator, flow.responder), flow.packets, strict=True)
        if packets
    }
    start = min(flow.first for flow in conversations)
    received = received_by_mac(tunnels, senders, start)
    within: dict[str, list[Conversation]] = {mac: [] for mac in received}
    for flow in conversations:
        if is_one_way(flow) and flow.transport != "esp" and not carries_esp(flow):
            mac = flow.macs[sender(flow)]
            packets = received.get(mac) if mac is not None else None
            if (
                mac is not None
                and packets
                and packets.first <= flow.first
                and flow.latest <= packets.last + HANDED_BACK
            ):
                within[mac].append(flow)
    found: set[int] = set()
    for mac, flows in within.items():
        packets = received[mac]
        proven = {flow.id for flow in flows if follows(flow, packets)}
        # The packet that held the capture's first ones may have come before it; this alone proves nothing.
        if any(flow.id in proven and flow.latest > packets.times[0] + HANDED_BACK for flow in flows):
            found |= proven
            later = (flow for flow in flows if flow.first > packets.known_until)
            found |= {flow.id for flow in later if answers_unseen(flow)}
    return frozenset(found)


def is_one_way(conversation: Conversation) -> bool:
    """Whether a conversation has packets in one direction only, and is no unanswered connection attempt."""
    return 0 in conversation.packets and conversation.state not in (State.ATTEMPTED, State.REJECTED)


def sender(conversation: Conversation) -> Direction:
    """The direction that has packets, of a conversation with packets in one direction."""
    return Direction(int(not conversation.packets[Direction.ORIGINATOR]))


def answers_unseen(conversation: Conversation) -> bool:
    """Whether a conversation with packets in one direction answers packets that the capture does not hold: it comes
    from the responder, or acknowledges bytes."""
    way = sender(conversation)
    return way is Direction.RESPONDER or bool(conversation.acknowledged[way])


def received_by_mac(tunnels: Sequence[Conversation], senders: Set[str], start: int) -> dict[str, Received]:
    """Source MAC address → the ESP packets from it, of tunnels that have packets in both directions.

    One direction suffices where the capture lacks the other: no packet of the receiver is in it. ``senders``: all
    addresses that sent a packet. ``start``: of the capture, nanoseconds since the epoch; just before it, there may have
    been an ESP packet of any size.
    """
    kept: dict[str, list[tuple[int, int]]] = defaultdict(list)
    spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
    known_until: dict[str, int] = {}
    for tunnel in tunnels:
        ends = tunnel.originator.address, tunnel.responder.address
        for direction in DIRECTIONS if all(tunnel.packets) or not senders >= {*ends} else ():
            mac = tunnel.macs[direction]
            own = [sa for sa in tunnel.head.associations if sa.direction is direction]
            if mac is None or not own:
                continue
            times = [
                (datagram.time, datagram.length)
                for datagram in tunnel.head.datagrams
                if datagram.direction is direction and is_esp(tunnel, datagram)
            ]
            kept[mac] += times
            spans[mac] += ((sa.first_time, sa.last_time) for sa in own)
            if len(times) < sum(sa.packets for sa in own):
                last = max((time for time, _ in times), default=0)
                known_until[mac] = min(known_until.get(mac, last), last)
    found = {}
    for mac, packets in kept.items():
        packets.sort()
        first, last = min(first for first, _ in spans[mac]), max(last for _, last in spans[mac])
        times_kept, sizes = tuple(time for time, _ in packets), tuple(length for _, length in packets)
        until = known_until.get(mac, last) + HANDED_BACK
        found[mac] = Received(min(first, start), last, (start, *times_kept), (MAX_PACKET, *sizes), until)
    return found


def is_esp(tunnel: Conversation, datagram: Datagram) -> bool:
    """Whether a datagram of a tunnel is ESP, and no IKE message or NAT keepalive beside it (RFC 3948, section 2)."""
    return tunnel.transport != "udp" or (datagram.length > 4 and datagram.data[:4] != bytes(4))


def follows(conversation: Conversation, received: Received) -> bool:
    """Whether all packets of a conversation whose ESP packets would be kept came straight after one of these."""
    known = [(time, size) for time, size in packet_times(conversation) if time <= received.known_until]
    return bool(known) and all(received.precedes(time, size) for time, size in known)


def packet_times(conversation: Conversation) -> Iterator[tuple[int, int]]:
    """(time, bytes of payload) of the packets that are known of a conversation with packets in one direction."""
    yield conversation.first, 0
    if conversation.transport != "tcp":
        yield from ((datagram.time, datagram.length) for datagram in conversation.head.datagrams)
        return
    stream = conversation.head.streams[sender(conversation)]
    marks = tuple(stream.marks)
    ends = (*(mark.offset for mark in marks[1:]), len(stream.data))
    yield from ((mark.time, end - mark.offset) for mark, end in zip(marks, ends, strict=False))
