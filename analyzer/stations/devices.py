"""Devices: the addresses of one host."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from analyzer.conversations import Conversation
from analyzer.heads import Direction
from analyzer.protocols import ike
from analyzer.stations.signatures import Candidate, Signature

MAX_HOST_ADDRESSES = 64
"""Addresses above which a MAC address is a router's. A host has one per version, and some link-local ones."""


def owned_macs(conversations: Iterable[Conversation]) -> dict[str, str]:
    """Address → MAC address, where it is the host's own.

    A MAC address that is used with several addresses of one IP version (except link-local ones) is a router's.
    """
    users: dict[str, dict[str, None]] = defaultdict(dict)
    for conversation in conversations:
        for end, mac in zip((conversation.originator, conversation.responder), conversation.macs, strict=True):
            if mac is not None:
                users[mac][end.address] = None
    owned: dict[str, str] = {}
    for mac, addresses in users.items():
        if len(addresses) > MAX_HOST_ADDRESSES:
            continue
        parsed = [ipaddress.ip_address(address) for address in addresses]
        lasting = [address for address in parsed if not (address.is_link_local or address.is_unspecified)]
        if all(sum(address.version == version for address in lasting) <= 1 for version in (4, 6)):
            owned.update((str(address), mac) for address in parsed if not address.is_unspecified)
    return owned


def group_addresses(
    accepted: Sequence[str],
    macs: Mapping[str, str],
    candidates: Mapping[str, Candidate],
    translated: Mapping[str, str],
) -> list[list[str]]:
    """The addresses of each device: those with one MAC address, those between which an IKE SA or an ESP SA moved, and
    the two of a host behind a NAT. ``translated``: outer → inner address of such hosts."""
    parent = {address: address for address in accepted}

    def root(address: str) -> str:
        while parent[address] != address:
            address = parent[address]
        return address

    first: dict[str, str] = {}
    for address in accepted:
        if address in macs:
            parent[root(address)] = root(first.setdefault(macs[address], address))
    # The device's other addresses need no signature of their own.
    for address, mac in macs.items():
        if mac in first and address not in parent:
            parent[address] = root(first[mac])
    for moves in [*addresses_by_ike_sa(candidates), *addresses_by_esp_sa(candidates), *translated.items()]:
        known = next((address for address in moves if address in parent), None)
        if known is not None:
            for address in moves:
                parent[root(parent.setdefault(address, address))] = root(known)
    devices: dict[str, list[str]] = {}
    for address in parent:
        devices.setdefault(root(address), []).append(address)
    return [sorted(addresses, key=address_order) for addresses in devices.values()]


def addresses_by_ike_sa(candidates: Mapping[str, Candidate]) -> list[list[str]]:
    """The addresses of each IKE SA whose initiator used more than one (MOBIKE, RFC 4555)."""
    by_spi: dict[str, dict[str, None]] = {}
    for address, candidate in candidates.items():
        for signature in candidate.signatures:
            facts = signature.conversation.dissection.facts
            if signature.row.protocol == ike.NAME and isinstance(facts, ike.IkeFacts):
                for sa in facts._sas:
                    by_spi.setdefault(sa.initiator_spi, {})[address] = None
    return [list(addresses) for addresses in by_spi.values() if len(addresses) > 1]


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
    client = Direction(int(conversation.originator.address != signature.client))
    return {(sa.direction is client, sa.spi) for sa in conversation.head.associations if not sa.folded}


def address_order(address: str) -> tuple[bool, int, int]:
    """Sort key: link-local addresses last, IPv4 before IPv6, then by number."""
    parsed = ipaddress.ip_address(address)
    return parsed.is_link_local, parsed.version, int(parsed)
