"""The flow table: its hash, the lookup of a packet's flow, new flows, and the events of flows.

The slots are an open-addressing hash table of indices into ``flows``, -1 where free; their number is a power of two.
An *end* of a flow or packet is (upper half of the address, lower half, port).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.scanner.columns import ACK, ICMP, ICMPV6, MERGED_PORT, SYN, TCP, UNREADABLE
from analyzer.scanner.jit import Number, Record, compiled


@compiled
def mix(value: Number) -> Number:
    """One step of a hash of 64 bits: every bit of the value changes the lower bits of the result."""
    value ^= value >> np.uint64(32)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    return value ^ (value >> np.uint64(32))


@compiled
def flow_hash(protocol: Number, one: Any, two: Any, secret: Any) -> Number:
    """Hash of a flow by its ends, the same in both directions. The secret keeps captures from forcing collisions."""
    left = mix(one[0] * secret[0] + one[1] * secret[1] + np.uint64(one[2] + 1) * secret[2])
    right = mix(two[0] * secret[0] + two[1] * secret[1] + np.uint64(two[2] + 1) * secret[2])
    return mix(left + right + np.uint64(protocol))


@compiled
def packet_ends(packet: Record) -> Any:
    """Source and destination."""
    return (
        (packet.source_high, packet.source_low, packet.source_port),
        (packet.destination_high, packet.destination_low, packet.destination_port),
    )


@compiled
def flow_ends(flow: Record) -> Any:
    """Ends of side 0 and side 1."""
    return (flow.high0, flow.low0, flow.port0), (flow.high1, flow.low1, flow.port1)


@compiled
def has_ends(flow: Record, one: Any, two: Any) -> Number:
    """Whether ``one`` is the end of side 0, and ``two`` that of side 1."""
    return (
        flow.low0 == one[1]
        and flow.low1 == two[1]
        and flow.port0 == one[2]
        and flow.port1 == two[2]
        and flow.high0 == one[0]
        and flow.high1 == two[0]
    )


@compiled
def sender_of(flow: Record, packet: Record) -> Number:
    """The side that sent a packet of the flow."""
    source, destination = packet_ends(packet)
    return 0 if has_ends(flow, source, destination) else 1


@compiled
def find_slot(slots: Any, flows: Any, like: Record, one: Any, two: Any, secret: Any) -> Number:
    """Slot of the flow between two ends; if there is no such flow, the free slot where it belongs.

    ``like``: a packet of the flow, or a record of it. The IP version keeps IPv4 apart from IPv6 with IPv4-mapped
    addresses, which the table writes alike.
    """
    mask = np.uint64(len(slots) - 1)
    slot = flow_hash(like.protocol, one, two, secret) & mask
    while slots[slot] >= 0:
        flow = flows[slots[slot]]
        same_kind = flow.protocol == like.protocol and flow.version == like.version and flow.layer == like.layer
        if same_kind and (has_ends(flow, one, two) or has_ends(flow, two, one)):
            break
        slot = (slot + np.uint64(1)) & mask
    return np.int64(slot)


@compiled
def find_flow(slots: Any, flows: Any, packet: Record, secret: Any) -> Number:
    """(slot, index) of the packet's flow; the index is -1 if there is none yet."""
    source, destination = packet_ends(packet)
    slot = find_slot(slots, flows, packet, source, destination, secret)
    return slot, np.int64(slots[slot])


@compiled
def open_flow(packet: Record, flow: Record, flow_index: Number, sides: Any, capture: Number) -> None:
    """Fill the record of a new flow from its first packet."""
    flow.high0 = packet.source_high
    flow.low0 = packet.source_low
    flow.port0 = packet.source_port
    flow.high1 = packet.destination_high
    flow.low1 = packet.destination_low
    flow.port1 = packet.destination_port
    flow.protocol = packet.protocol
    flow.version = packet.version
    flow.layer = packet.layer
    flow.first = packet.time
    flow.last = packet.time
    flow.first_frame = packet.frame
    flow.first_capture = capture
    flow.vlan = packet.vlan
    flow.note = -1
    flow.tracking = -1
    flow.secure = -1
    flow.syn_side = -1
    flow.reset_side = -1
    flow.fin_side = -1
    for side in range(2):
        sides[2 * flow_index + side].mac = -1
        sides[2 * flow_index + side].destination_mac = -1
        sides[2 * flow_index + side].ending = -1
        sides[2 * flow_index + side].peer_payload = -1


@compiled
def is_tag_noted(slots: Any, flows: Any, sides: Any, packet: Record, secret: Any) -> Number:
    """Whether the notes of the packet's flow contain its tag; if not, the packet takes the slow path, which adds it."""
    if packet.protocol == TCP and packet.flags & SYN:
        return False  # it may open another flow
    _, flow_index = find_flow(slots, flows, packet, secret)
    return flow_index >= 0 and sides[2 * flow_index + sender_of(flows[flow_index], packet)].tag == packet.tag


@compiled
def merge_ports(packet: Record) -> None:
    """Move the packet to the flow that merges all ports of its client."""
    if packet.protocol == ICMP or packet.protocol == ICMPV6:
        packet.source_port = MERGED_PORT
        packet.destination_port = MERGED_PORT
    elif packet.source_port >= 0:
        opening = packet.protocol == TCP and packet.flags & SYN
        from_client = not packet.flags & ACK if opening else packet.source_port >= packet.destination_port
        if from_client:
            packet.source_port = MERGED_PORT
        else:
            packet.destination_port = MERGED_PORT


@compiled
def count_stray(packet: Record, kind: Number, strays: Any, state: Record) -> None:
    """Count a frame that belongs to no flow, with those of the same ends, type and kind."""
    addressed = kind == UNREADABLE and packet.version != 0
    source_mac, destination_mac = packet.source_mac, packet.destination_mac
    slot = find_stray(packet, kind, addressed, source_mac, destination_mac, strays, state.secret)
    if strays[slot].packets == 0 and state.strays >= 3 * len(strays) // 4:  # only the kinds are still kept apart
        source_mac = np.int64(-1)
        destination_mac = np.int64(-1)
        addressed = False
        packet.ethertype = 0
        slot = find_stray(packet, kind, addressed, source_mac, destination_mac, strays, state.secret)
    stray = strays[slot]
    if stray.packets == 0:
        state.strays += 1
        stray.source_mac = source_mac
        stray.destination_mac = destination_mac
        stray.ethertype = packet.ethertype
        stray.kind = kind
        stray.capture = state.capture
        stray.frame = packet.frame
        stray.time = packet.time
        if addressed:
            stray.version = packet.version
            stray.source_high = packet.source_high
            stray.source_low = packet.source_low
            stray.destination_high = packet.destination_high
            stray.destination_low = packet.destination_low
    stray.packets += 1
    stray.bytes += packet.wire


@compiled
def find_stray(
    packet: Record,
    kind: Number,
    addressed: Number,
    source_mac: Number,
    destination_mac: Number,
    strays: Any,
    secret: Any,
) -> Number:
    """Index of the record for a frame in no flow, or of the free one where it belongs."""
    digest = np.uint64(source_mac) * secret[0] + np.uint64(destination_mac) * secret[1]
    digest += np.uint64(packet.ethertype << 3 | kind) * secret[2]
    if addressed:
        digest += mix(packet.source_high ^ mix(packet.source_low * secret[0]))
        digest += mix(packet.destination_high ^ mix(packet.destination_low * secret[1]))
    slot = mix(digest) & np.uint64(len(strays) - 1)
    while strays[slot].packets:
        stray = strays[slot]
        if (
            stray.source_mac == source_mac
            and stray.destination_mac == destination_mac
            and stray.ethertype == packet.ethertype
            and stray.kind == kind
            and stray.version == (packet.version if addressed else np.uint8(0))
            and (not addressed or has_addresses(stray, packet))
        ):
            break
        slot = (slot + np.uint64(1)) & np.uint64(len(strays) - 1)
    return np.int64(slot)


@compiled
def has_addresses(stray: Record, packet: Record) -> Number:
    """Whether a record has the addresses of a packet."""
    return (
        stray.source_low == packet.source_low
        and stray.destination_low == packet.destination_low
        and stray.source_high == packet.source_high
        and stray.destination_high == packet.destination_high
    )


@compiled
def record_event(
    flow_index: Number,
    sender: Number,
    kind: Number,
    origin: Any,
    offset: Number,
    value: Number,
    other: Number,
    events: Any,
    state: Record,
) -> None:
    """Record an event; ``origin`` is (frame, time, capture). The caller limits them to MAX_EVENTS of a kind."""
    event = events[state.events]
    state.events += 1
    event.flow = flow_index
    event.side = sender
    event.kind = kind
    event.frame = origin[0]
    event.time = origin[1]
    event.capture = origin[2]
    event.offset = offset
    event.value = value
    event.other = other
