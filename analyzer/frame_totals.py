"""Frames of base stations: every frame from or to one is counted once, by what became of it."""

from __future__ import annotations

import socket
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import NamedTuple

from analyzer.conversations import Conversation, format_mac
from analyzer.dataclass import dataclass
from analyzer.flows import Flows, FrameKind, StrayFrames
from analyzer.heads import DIRECTIONS, Direction
from analyzer.matching import StationMatches, first_fragment_missing
from analyzer.stations import Hosts, Station


class StationFrames(NamedTuple):
    """Frames from and to one base station. ``sent`` and ``received`` together are the sum of all others.

    A frame that carries a tunnel of the station's own counts by the tunnel's packet, not by what is inside.
    """

    sent: int
    received: int
    copy: int
    """Captured before, on another interface or a mirror port, or on the other side of a NAT."""
    unread: int
    """The headers could not be read, or the fragment that holds them is missing."""
    icmp_error: int
    """ICMP errors about packets of the capture."""
    housekeeping: int
    """ARP, neighbour discovery, group management and the like."""
    tunnel_inside: int
    """The inside of an IPsec tunnel, which the capture shows beside the tunnel."""
    row: int
    """In flows that match a row."""
    unexpected: int
    """In flows that match no row, or of an Ethernet type that nothing needs."""
    other: int
    """In mode unknown: in flows that some mode's table expects."""

    @property
    def unread_share(self) -> float:
        """The part of all frames whose headers could not be read."""
        return self.unread / max(1, self.sent + self.received)


NO_FRAMES = StationFrames(*[0] * len(StationFrames._fields))

COPY, UNREAD, ICMP_ERROR, HOUSEKEEPING, TUNNEL_INSIDE, ROW, UNEXPECTED, OTHER = StationFrames._fields[2:]

STRAY_PLACES = {
    FrameKind.HOUSEKEEPING: HOUSEKEEPING,
    FrameKind.MISUSED: UNEXPECTED,
    FrameKind.OTHER: UNEXPECTED,
    FrameKind.UNREADABLE: UNREAD,
}
"""What becomes of frames in no flow."""


def count_frames(
    table: Flows, conversations: Iterable[Conversation], hosts: Hosts, stations: Sequence[StationMatches]
) -> dict[str, StationFrames]:
    """Address of each base station → its frames."""
    owner = {address: found.station.address for found in stations for address in found.station.addresses}
    counters = {
        found.address: FrameCounter(table, found.station, places_of(found, hosts.conversations[found.address]))
        for found in stations
    }
    aside = {**dict.fromkeys(hosts.inside_tunnel, TUNNEL_INSIDE), **dict.fromkeys(hosts.translated, COPY)}
    for conversation in conversations if aside else ():
        if conversation.id in aside:
            ends = (owner.get(end.address) for end in (conversation.originator, conversation.responder))
            for address in {end for end in ends if end is not None}:
                counters[address].add(conversation, aside[conversation.id])
    for found in stations:
        for conversation in hosts.conversations[found.address]:
            counters[found.address].add(conversation)
        for conversation in hosts.forwarded.get(found.address, ()):
            counters[found.address].add(conversation, UNEXPECTED)
    count_strays(table.strays, stations, counters)
    count_carried(table, counters)
    return {address: counter.frames() for address, counter in counters.items()}


def places_of(matches: StationMatches, conversations: Iterable[Conversation]) -> dict[int, str]:
    """Id of each conversation of a base station → what becomes of its frames."""
    places = dict.fromkeys((match.conversation.id for match in matches.matches), ROW)
    places.update(dict.fromkeys((flow.conversation.id for flow in matches.unexpected), UNEXPECTED))
    for conversation in conversations:
        if conversation.id not in places:
            if conversation.housekeeping:
                places[conversation.id] = HOUSEKEEPING
            elif first_fragment_missing(conversation):
                places[conversation.id] = UNREAD
    return places


class FlowGroup(NamedTuple):
    """What the flows have in common that are counted together."""

    place: str
    """What becomes of their frames."""
    own: int
    """The base station's side."""
    both: bool
    """Whether the other side is the base station's, too."""


@dataclass(slots=True)
class FrameCounter:
    """Counts the frames of one base station."""

    table: Flows
    station: Station
    places: Mapping[int, str]
    """Id of a conversation → what becomes of its frames."""
    flows: dict[FlowGroup, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Flows that were added → their indexes."""
    counts: Counter[tuple[str, bool]] = field(default_factory=Counter)
    """What became of further frames, and whether the station sent them → frames."""

    def add(self, conversation: Conversation, place: str | None = None) -> None:
        """Add the frames of a conversation's flows, their copies and the ICMP errors about them."""
        place = place or self.places.get(conversation.id, OTHER)
        own = own_side(self.station, conversation)
        group = FlowGroup(place, own, is_own(self.station, conversation, 1 - own))
        self.flows[group] += [flow - 1 for flow in conversation.flows]

    def frames(self) -> StationFrames:
        """The counts by name."""
        counts = self.counts.copy()
        for group, indexes in self.flows.items():
            self.count_flows(counts, group, indexes)
        sent = sum(count for (_, by_station), count in counts.items() if by_station)
        received = sum(count for (_, by_station), count in counts.items() if not by_station)
        places = (counts[place, True] + counts[place, False] for place in StationFrames._fields[2:])
        return StationFrames(sent, received, *places)

    def count_flows(self, counts: Counter[tuple[str, bool]], group: FlowGroup, indexes: Sequence[int]) -> None:
        """Count the frames of the flows of a group, which are many, in columns."""
        names = ("packets", "copies", "errors", "peer_errors")
        sides = {name: self.table.side[name][indexes].sum(axis=0).tolist() for name in names}
        for side in range(2):
            sent = side == group.own or group.both
            counts[group.place, sent] += sides["packets"][side]
            counts[COPY, sent] += sides["copies"][side]
        counts[ICMP_ERROR, False] += sides["errors"][group.own]
        counts[ICMP_ERROR, True] += sides["peer_errors"][1 - group.own]


def own_side(station: Station, conversation: Conversation) -> int:
    """The side of a flow that is the base station's: by its addresses, or else by its MAC address, from which or to
    which the packets went."""
    for side in (conversation.side, 1 - conversation.side):
        if is_own(station, conversation, side):
            return side
    for way in DIRECTIONS:
        if station.mac is not None and conversation.macs[way] == station.mac:
            return conversation.side ^ way
    # Others sent all of its packets, to the station's MAC address or, by DHCP, to the address that it is to have.
    return conversation.side ^ int(not conversation.packets[Direction.RESPONDER])


def is_own(station: Station, conversation: Conversation, side: int) -> bool:
    """Whether the address of a side is one of the base station's."""
    end = conversation.originator if side == conversation.side else conversation.responder
    return end.address in station.addresses


def count_strays(
    strays: Iterable[StrayFrames], stations: Sequence[StationMatches], counters: Mapping[str, FrameCounter]
) -> None:
    """Count the frames in no flow at the base stations whose own MAC address or address they show."""
    owners = StrayOwners(stations)
    for stray in strays:
        for station, sent in owners.of(stray):
            counters[station].counts[STRAY_PLACES[stray.kind], sent] += stray.packets


class StrayOwners:
    """Finds the base stations that frames in no flow come from or go to."""

    def __init__(self, stations: Sequence[StationMatches]) -> None:
        self.by_mac = {found.station.mac: found.address for found in stations if found.station.mac}
        self.by_address = {address: found.address for found in stations for address in found.station.addresses}

    def of(self, stray: StrayFrames) -> Iterator[tuple[str, bool]]:
        """Address of each base station, and whether it is the sender."""
        found: dict[str, bool] = {}
        for sent, mac, address in zip((True, False), stray.macs, stray.addresses or (None, None), strict=True):
            owner = self.by_mac.get(format_mac(mac) or "")
            if owner is None and address is not None:
                family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
                owner = self.by_address.get(socket.inet_ntop(family, address))
            if owner is not None:
                found.setdefault(owner, sent)
        yield from found.items()


def count_carried(table: Flows, counters: Mapping[str, FrameCounter]) -> None:
    """Take back what a base station's tunnels carry of its own: these frames count by the tunnel's packet."""
    owners: dict[int, dict[str, FlowGroup]] = defaultdict(dict)
    """Index of a flow → address of a base station → the group in which it counts."""
    for address, counter in counters.items() if table.carried else ():
        for group, indexes in counter.flows.items():
            for index in indexes:
                owners[index][address] = group
    for (tunnel, inner, side), packets in table.carried.items():
        for address in owners.get(tunnel, ()):
            if address in owners.get(inner, ()):
                group = owners[inner][address]
                counters[address].counts[group.place, side == group.own] -= packets
