"""Interfaces: the MAC addresses of a capture, the IP addresses at home behind each, and those it forwards for.

A packet whose time to live is one that hosts begin with was sent by the host that owns its source MAC address. Any
other time to live shows a router. A count of addresses shows neither: hosts have several (aliases, RFC 8981).
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Collection, Iterable

from analyzer.conversations import Conversation
from analyzer.dataclass import dataclass
from analyzer.heads import DIRECTIONS, Direction

INITIAL_TIMES_TO_LIVE = frozenset({32, 64, 128, 255})
"""Values with which hosts send packets; a router decrements them."""

LINK_PREFIXES = {4: 24, 6: 64}
"""Prefix lengths of the usual network of one link, by IP version."""

MAX_HOST_NETWORKS = {4: 4, 6: 8}
"""Networks, by IP version, above which a MAC address belongs to a router that decrements nothing, as in a cloud."""

MAX_HOST_ADDRESSES = 64
"""Maximum addresses that are listed of one host. Further ones are forged, or changed for privacy every few minutes."""

VENDORS = frozenset(
    {
        *("70:76:ff", "00:08:00", "00:15:58", "00:5f:86", "00:16:c0"),  # Kerlink, MultiTech, Foxconn, Cisco, Semtech
        *("64:7f:da", "80:02:9c", "ac:1f:09", "24:e1:24", "58:a0:cb"),  # Tektelic, Gemtek, RAK, Milesight, TrackNet
    }
)
"""Vendor halves of the MAC addresses of base stations: dubanoze/actility_gw, com/shells/getid.sh; IEEE."""

UNSPECIFIED = ("0.0.0.0", "::")
"""Source addresses of hosts that have no address yet."""

LINK_LOCAL = ("169.254.", "fe8", "fe9", "fea", "feb")
"""Beginnings of link-local addresses (RFC 3927, section 2.1; RFC 4291, section 2.5.6)."""

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(slots=True)
class Use:
    """Packets with one source address and one source MAC address, as far as first packets of flows show them."""

    exchanged: int = 0
    """Packets of conversations whose other end answered from another MAC address."""
    reflected: bool = False
    """Some conversations have this MAC address at both ends, as in a capture on a router or with rewritten ones."""
    initial: bool = False
    """Some of the packets had a time to live of :data:`INITIAL_TIMES_TO_LIVE`."""
    packets: int = 0
    time_to_live: int = 0
    """Of the first packets of all conversations; -1: they differ."""

    def evidence(self) -> tuple[bool, bool, int, int]:
        """Sort key: how well the use shows where the address is at home. Nobody can forge both sides of a long
        conversation as cheaply as single packets."""
        return self.exchanged > 0, self.initial, self.exchanged, self.packets


class Interfaces:
    """Who owns which MAC address, by all conversations of a capture."""

    def __init__(self, conversations: Iterable[Conversation], trusted: Collection[str] = ()) -> None:
        """``trusted``: MAC addresses that the user named, which forward for nobody, whatever their packets show."""
        uses: dict[str, dict[str, Use]] = defaultdict(dict)
        """IP address → MAC address → use."""
        for conversation in conversations:
            ends = conversation.originator.address, conversation.responder.address
            exchanged = is_exchange(conversation)
            between_hosts = conversation.macs[0] != conversation.macs[1]
            for way in DIRECTIONS:
                mac = conversation.macs[way]
                if mac is None:
                    continue
                use = uses[ends[way]].setdefault(mac, Use())
                use.packets += conversation.packets[way]
                use.exchanged += conversation.packets[way] if exchanged and between_hosts else 0
                use.reflected = use.reflected or (exchanged and not between_hosts)
                time_to_live = conversation.times_to_live[way]
                use.time_to_live = time_to_live if use.time_to_live in (0, time_to_live) else -1
                use.initial = use.initial or is_initial(conversation, way)
        homes: dict[str, dict[IPAddress, Use]] = defaultdict(dict)
        """MAC address → the addresses that it shows best."""
        for text, by_mac in uses.items():
            address = ipaddress.ip_address(text)
            if not address.is_unspecified:
                mac, use = max(by_mac.items(), key=lambda item: item[1].evidence())
                homes[mac][address] = use
        self.trusted = trusted
        self.owners: dict[str, str] = {}
        """Address → MAC address, where it is the host's own."""
        self.proven: set[str] = set()
        """MAC addresses of hosts: an address at home there exchanged packets with others."""
        for mac, addresses in homes.items():
            if mac in trusted:
                own = addresses
            elif is_only_reflected(addresses.values()) or has_many_networks(addresses):
                continue
            elif is_alone(addresses) or (mac[:8] in VENDORS and is_uniform(addresses.values())):
                own = addresses
            else:
                own = {address: use for address, use in addresses.items() if use.initial}
            self.owners.update((str(address), mac) for address in by_evidence(own))
            if mac in trusted or any(use.exchanged and (use.initial or mac[:8] in VENDORS) for use in own.values()):
                self.proven.add(mac)

    def is_own(self, conversation: Conversation, way: Direction) -> bool:
        """Whether the first packet of a direction is of the host whose MAC address sent it, and not only forwarded."""
        if is_initial(conversation, way) or conversation.macs[way] in self.trusted:
            return True
        ends = (conversation.originator.address, conversation.responder.address)
        return ends[way] in UNSPECIFIED or is_group_address(ends[1 - way])

    def addresses(self) -> dict[str, list[str]]:
        """MAC address → the addresses at home there, those with the best evidence first."""
        found: dict[str, list[str]] = defaultdict(list)
        for address, mac in self.owners.items():
            found[mac].append(address)
        return found


def is_exchange(conversation: Conversation) -> bool:
    """Whether both ends sent packets, or one acknowledged what the capture lacks."""
    return all(conversation.packets) or any(conversation.acknowledged)


def is_initial(conversation: Conversation, way: Direction) -> bool:
    """Whether the first packet of a direction is as its host sent it: no router has decremented its time to live.

    Link-local packets say so whatever it is: multicast listener discovery uses 1 (RFC 3810, section 5).
    """
    if conversation.times_to_live[way] in INITIAL_TIMES_TO_LIVE:
        return True
    return (conversation.originator, conversation.responder)[way].address.startswith(LINK_LOCAL)


def is_only_reflected(uses: Collection[Use]) -> bool:
    """Whether a MAC address never exchanged packets with another one, but is at both ends of some conversation."""
    return any(use.reflected for use in uses) and not any(use.exchanged for use in uses)


def is_uniform(uses: Collection[Use]) -> bool:
    """Whether all packets have one time to live, as from a host whose own one was changed."""
    return len({use.time_to_live for use in uses}) == 1 and all(use.time_to_live > 0 for use in uses)


def is_group_address(address: str) -> bool:
    """Whether an address, in canonical text form, is that of a multicast or broadcast group, or unspecified."""
    if ":" in address:
        return address == "::" or (address.startswith("ff") and address.find(":") == 4)
    return address in ("0.0.0.0", "255.255.255.255") or 224 <= int(address[: address.index(".")]) < 240


def is_alone(addresses: Iterable[IPAddress]) -> bool:
    """Whether no IP version has more than one address, except link-local ones: whoever has the MAC address sends for
    nobody else."""
    lasting = [address.version for address in addresses if not address.is_link_local]
    return len(lasting) == len(set(lasting))


def has_many_networks(addresses: dict[IPAddress, Use]) -> bool:
    """Whether addresses that exchanged packets, undecremented, belong to more networks than a host has."""
    networks: dict[int, set[int]] = {4: set(), 6: set()}
    for address, use in addresses.items():
        if use.initial and use.exchanged and not address.is_link_local:
            networks[address.version].add(int(address) >> (address.max_prefixlen - LINK_PREFIXES[address.version]))
    return any(len(found) > MAX_HOST_NETWORKS[version] for version, found in networks.items())


def by_evidence(addresses: dict[IPAddress, Use]) -> list[IPAddress]:
    """The addresses with the best evidence first."""
    return sorted(addresses, key=lambda address: addresses[address].evidence(), reverse=True)
