"""Devices: the addresses of one host."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from analyzer.conversations import Conversation
from analyzer.dataclass import dataclass
from analyzer.expected import Occurrence
from analyzer.heads import DIRECTIONS, Direction
from analyzer.messages import messages
from analyzer.protocols import iec104, ike, tls
from analyzer.stations.interfaces import MAX_HOST_ADDRESSES, Interfaces
from analyzer.stations.signatures import Candidate, Signature

MAX_DEVICES = 3
"""Devices that are told apart behind one MAC address above which it is a bridge's or a router's: then each address is
a device."""

MAX_STATION_ADDRESSES = 8
"""IPv4 addresses with signature rows above which a MAC address is a bridge's: no base station uses TPE from so many."""


def group_addresses(
    accepted: Sequence[str],
    interfaces: Interfaces,
    candidates: Mapping[str, Candidate],
    translated: Mapping[str, str],
    conversations: Iterable[Conversation],
) -> list[list[str]]:
    """The addresses of each device: those with one MAC address, those between which an IKE SA or an ESP SA moved, and
    the two of a host behind a NAT. ``translated``: outer → inner address of such hosts."""
    parent = {address: address for address in accepted}

    def root(address: str) -> str:
        while parent[address] != address:
            address = parent[address]
        return address

    for addresses in addresses_by_interface(accepted, interfaces, candidates, conversations):
        first, *others = addresses
        for address in others:
            parent[root(parent.setdefault(address, address))] = root(first)
    for moves in [*addresses_by_ike_sa(candidates), *addresses_by_esp_sa(candidates), *translated.items()]:
        known = next((address for address in moves if address in parent), None)
        if known is not None:
            for address in moves:
                parent[root(parent.setdefault(address, address))] = root(known)
    devices: dict[str, list[str]] = {}
    for address in parent:
        devices.setdefault(root(address), []).append(address)
    return [sorted(addresses, key=address_order) for addresses in devices.values()]


# -- one MAC address --------------------------------------------------------------------------------------------


def addresses_by_interface(
    accepted: Sequence[str],
    interfaces: Interfaces,
    candidates: Mapping[str, Candidate],
    conversations: Iterable[Conversation],
) -> Iterator[list[str]]:
    """The addresses with one MAC address of each host: first those of base stations, then its others, which need no
    signature of their own."""
    by_mac: dict[str, list[str]] = defaultdict(list)
    for address in accepted:
        if address in interfaces.owners:
            by_mac[interfaces.owners[address]].append(address)
    if not by_mac:
        return
    at_home = interfaces.addresses()
    talking = conversing(interfaces, by_mac, conversations)
    for mac, stations in by_mac.items():
        first, *others = tell_apart(stations, candidates, talking)
        known, strange = set(stations), {end for station in stations for end in talking.get(station, ())}
        further = [address for address in at_home[mac] if address not in known and address not in strange]
        yield [*first, *further[:MAX_HOST_ADDRESSES]] if len(others) < MAX_DEVICES else first
        yield from others


def conversing(
    interfaces: Interfaces, macs: Mapping[str, object], conversations: Iterable[Conversation]
) -> dict[str, set[str]]:
    """Address → the addresses with the same MAC address with which it exchanged packets: no host does so with itself
    over a wire, whatever single packets claim."""
    found: dict[str, set[str]] = defaultdict(set)
    owners = interfaces.owners
    for conversation in conversations:
        one, other = conversation.originator.address, conversation.responder.address
        mac = owners.get(one)
        if mac in macs and owners.get(other) == mac and all(conversation.packets):
            found[one].add(other)
            found[other].add(one)
    return found


Link = tuple[object, int, int]
"""A continuous conversation: row and server with its port, the beginning, and the newest payload of the side that fell
silent first."""

MAX_LINKS = 16
"""Continuous conversations of an address that are compared: a base station has one per LRC, and those after it."""


def tell_apart(
    addresses: Sequence[str], candidates: Mapping[str, Candidate], talking: Mapping[str, set[str]]
) -> list[list[str]]:
    """The addresses of base stations with one MAC address, by device: LRR-ID, client certificate or IKE identity tell
    them apart, and links to one service of TPE at the same time."""
    if len(addresses) < 2:
        return [list(addresses)]
    if sum(":" not in address for address in addresses) > MAX_STATION_ADDRESSES:
        return [[address] for address in addresses]
    devices: list[Device] = []
    for address in addresses:
        signatures = candidates[address].signatures if address in candidates else ()
        new = Device({address}, set(identities(signatures)), list(lasting_links(signatures)))
        same = next((device for device in devices if device.may_be(new, talking.get(address, set()))), None)
        if same is None:
            devices.append(new)
        else:
            same.add(new)
        if len(devices) > MAX_DEVICES:
            return [[address] for address in addresses]
    return [[address for address in addresses if address in device.addresses] for device in devices]


@dataclass(slots=True)
class Device:
    """What the addresses of one device show."""

    addresses: set[str]
    identities: set[object]
    links: list[Link]

    def may_be(self, other: Device, talking: Set[str]) -> bool:
        """Whether another one may be the same; ``talking``: the addresses with which the other exchanged packets."""
        if not self.addresses.isdisjoint(talking):
            return False
        if self.identities - other.identities and other.identities - self.identities:
            return False
        return not any(overlap(link, second) for link in self.links for second in other.links)

    def add(self, other: Device) -> None:
        """Take over what another one, which is the same, shows."""
        self.addresses |= other.addresses
        self.identities |= other.identities
        self.links = (self.links + other.links)[-MAX_LINKS:]


def identities(signatures: Iterable[Signature]) -> Iterator[object]:
    """What names the device in its conversations: LRR-IDs, its certificates, IKE identities of either side."""
    for signature in signatures:
        conversation = signature.conversation
        facts = conversation.dissection.facts
        if isinstance(facts, iec104.Iec104Facts):
            yield from facts.lrr_ids
        elif isinstance(facts, ike.IkeFacts):
            yield from (identity for sa in facts._sas for identity in sa.identities)
        elif isinstance(facts, tls.TlsFacts) and facts.client_certificate:
            client = Direction(int(conversation.originator.address != signature.client))
            for item, entry in messages(conversation.dissection.items, tls.CertificateEntry):
                if item.direction is client and not entry.position:
                    yield entry.data


def lasting_links(signatures: Iterable[Signature]) -> Iterator[Link]:
    """The conversations of continuous rows in which both sides sent content."""
    count = 0
    for signature in signatures:
        conversation = signature.conversation
        if signature.row.occurrence is Occurrence.CONTINUOUS and all(conversation.newest):
            service = conversation.responder.port if conversation.transport != "esp" else None
            yield (signature.row.id, signature.server, service), conversation.first, min(conversation.newest)
            count += 1
            if count == MAX_LINKS:
                return


def overlap(one: Link, other: Link) -> bool:
    """Whether both sides of two links to one service sent content while the other link was up: a base station has one
    link with each."""
    return one[0] == other[0] and max(one[1], other[1]) < min(one[2], other[2])


# -- security associations --------------------------------------------------------------------------------------


def addresses_by_ike_sa(candidates: Mapping[str, Candidate]) -> list[list[str]]:
    """The addresses of each IKE SA whose initiator used more than one (MOBIKE, RFC 4555).

    An address with a server among them does not count: whoever copies an SA towards a base station is not that one.
    """
    by_spi: dict[str, dict[str, set[str]]] = {}
    for address, candidate in candidates.items():
        for signature in candidate.signatures:
            facts = signature.conversation.dissection.facts
            if signature.row.protocol == ike.NAME and isinstance(facts, ike.IkeFacts):
                for sa in facts._sas:
                    by_spi.setdefault(sa.initiator_spi, {}).setdefault(address, set()).add(signature.server)
    several = (addresses for addresses in by_spi.values() if len(addresses) > 1)
    return [[address for address, servers in users.items() if servers.isdisjoint(users)] for users in several]


def addresses_by_esp_sa(candidates: Mapping[str, Candidate]) -> list[list[str]]:
    """The pairs of addresses between which an ESP SA moved, as when a NAT rebinds: one server, the same SPIs both ways.

    The server chose the SPI of the packets that it receives, so that no two clients share it. Without the other SPI,
    where one address has it, somebody may only have sent old packets again.
    """
    sent: dict[tuple[str, int], dict[str, None]] = {}
    received: dict[tuple[str, str], set[int]] = defaultdict(set)
    for address, candidate in candidates.items():
        for signature in candidate.signatures:
            for by_client, spi in esp_sas(signature):
                if by_client:
                    sent.setdefault((signature.server, spi), {})[address] = None
                else:
                    received[address, signature.server].add(spi)
    pairs = []
    for (server, _), addresses in sent.items():
        first, *others = addresses
        for other in others:
            both = received[first, server], received[other, server]
            if both[0] & both[1] or not any(both):
                pairs.append([first, other])
    return pairs


def esp_sas(signature: Signature) -> Iterable[tuple[bool, int]]:
    """(whether the client sends under it, SPI) of each ESP SA of a conversation."""
    conversation = signature.conversation
    associations = conversation.head.associations
    if not associations:
        return ()
    client = DIRECTIONS[conversation.originator.address != signature.client]
    return {(sa.direction is client, sa.spi) for sa in associations if not sa.folded}


def address_order(address: str) -> tuple[bool, int, int]:
    """Sort key: link-local addresses last, IPv4 before IPv6, then by number."""
    parsed = ipaddress.ip_address(address)
    return parsed.is_link_local, parsed.version, int(parsed)
