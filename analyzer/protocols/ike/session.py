"""The facts of an IKE flow that follow from all its messages."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import field
from typing import Final

from analyzer.dataclass import dataclass
from analyzer.messages import Facts, Item
from analyzer.protocols import esp
from analyzer.protocols.ike.messages import VendorId
from analyzer.protocols.ike.registry import (
    AUTHENTICATED,
    CREATE_CHILD_SA,
    ISAKMP_AUTHENTICATION,
    ISAKMP_AUTHENTICATION_ATTRIBUTE,
    REDIRECT,
    REDIRECTED_FROM,
    exchange_name,
    group_name,
    vendor_name,
)
from analyzer.protocols.ike.sa import MAX_NOTIFIES, Child, IkeSa, Message, messages_of, to_message
from analyzer.safetext import SafeText, decode_text

MAX_VENDOR_IDS: Final = 16
MAX_SAS: Final = 16
"""SAs listed in the facts."""
MAX_LISTED: Final = 8
"""Messages of each kind that are listed of an SA."""


@dataclass(frozen=True, slots=True)
class FragmentFacts:
    """One message sent in fragments."""

    message: SafeText
    total: int
    read: int


@dataclass(frozen=True, slots=True)
class ChildFacts:
    """One decrypted negotiation of a child SA."""

    message: str
    offered: tuple[str, ...]
    chosen: str | None
    spis: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SaFacts:
    """One IKE SA as reports show it. Messages are named by exchange, message ID and the side that sent the request."""

    initiator_spi: str
    responder_spi: str | None
    version: SafeText
    exchanges: dict[SafeText, int]
    """Exchange → number of messages, without retransmissions."""
    mid_session: bool
    """Whether it was set up before the capture, or between other addresses."""
    follows: str | None
    """Initiator SPI of the SA that it presumably replaces."""
    offered: tuple[SafeText, ...]
    chosen: SafeText | None
    key_exchange: SafeText | None
    """Group of the last key exchange in clear."""
    authentication: tuple[SafeText, ...]
    """IKEv1: the chosen authentication method, or those offered."""
    identities: tuple[str, ...]
    """Identities sent in clear."""
    retries: tuple[SafeText, ...]
    requested_group: SafeText | None
    redirected_to: str | None
    redirected_from: str | None
    retransmissions: int
    rekeys: int
    fragments: tuple[FragmentFacts, ...]
    unanswered: tuple[SafeText, ...]
    """Requests without a response, as far as messages were kept."""
    unasked: tuple[SafeText, ...]
    """Responses without a request."""
    children: tuple[ChildFacts, ...]
    """Child SAs negotiated in decrypted messages."""
    mobike: bool | None
    """Whether both peers support MOBIKE; ``None``: IKE_AUTH was not decrypted."""
    inner_notifies: tuple[str, ...]
    """Names of the notifications in decrypted messages."""


@dataclass(frozen=True, slots=True)
class IkeFacts(Facts):
    """What an IKE flow shows in clear, and what keys decrypt. Offer and choice are those of the last agreed SA."""

    version: SafeText
    exchanges: tuple[SafeText, ...]
    """In order of first appearance."""
    offered: tuple[SafeText, ...]
    chosen: SafeText | None
    nat_traversal: bool
    """Whether this flow uses it: non-ESP markers, NAT keepalives or ESP inside UDP (RFC 3948), even without a NAT."""
    notifies: tuple[SafeText, ...]
    """Names of the clear notifications, in order of first appearance."""
    vendor_ids: tuple[str, ...]
    """At most :data:`MAX_VENDOR_IDS`, as hexadecimal digits."""
    vendors: tuple[SafeText, ...]
    """Names of the known vendor IDs, and vendor IDs that are text."""
    initiator_spi: str
    """16 hexadecimal digits."""
    responder_spi: str | None
    spis: tuple[str, ...]
    """SPIs of ESP packets in the flow."""
    udp_encapsulated: bool | None
    """``True`` if the flow holds ESP packets."""
    sas: tuple[SaFacts, ...]
    """At most :data:`MAX_SAS`, in order of first appearance."""
    esp: esp.EspFacts | None
    """What the ESP packets and NAT keepalives in the flow show."""
    esp_offered: tuple[str, ...]
    """Offer for the last child SA agreed in a decrypted message."""
    esp_chosen: str | None
    mobike: bool | None
    """That of the last SA for which it is known."""
    decrypted: str | None = None
    """Program that decrypted messages of the flow with the user's keys."""
    _sas: tuple[IkeSa, ...] = ()
    """In order of first appearance."""


def facts(items: Sequence[Item]) -> IkeFacts:
    """Facts about all IKE messages, ESP packets and NAT keepalives of a flow."""
    session = Session()
    for header, items_of_message in messages_of(items):
        session.add(to_message(header, items_of_message))
    sas = tuple(session.sas.values())
    shown = session.shown_sa()
    child = last_child(sas)
    # Without non-ESP markers, ESP is indistinguishable from malformed IKE.
    esp_facts = read_esp(items) if session.uses_marker or not sas else None
    has_keepalive = any(type(item.message) is esp.NatKeepalive for item in items)
    return IkeFacts(
        version=f"{shown.major}.0" if shown else "",
        exchanges=tuple(session.exchanges),
        offered=shown.offered if shown else (),
        chosen=shown.chosen if shown else None,
        nat_traversal=session.uses_marker or has_keepalive or esp_facts is not None,
        notifies=tuple(dict.fromkeys(notify.name for sa in sas for notify in sa.notifies))[:MAX_NOTIFIES],
        vendor_ids=tuple(vendor_id.hex() for vendor_id in session.vendor_ids),
        vendors=tuple(dict.fromkeys(filter(None, map(vendor_text, session.vendor_ids)))),
        initiator_spi=shown.initiator_spi if shown else "",
        responder_spi=shown.responder_spi if shown else None,
        spis=esp_facts.spis if esp_facts else (),
        udp_encapsulated=True if esp_facts and esp_facts.packets_read else None,
        sas=tuple(map(sa_facts, sas[:MAX_SAS])),
        esp=esp_facts,
        esp_offered=child.offered,
        esp_chosen=child.chosen,
        mobike=next((sa.mobike for sa in reversed(sas) if sa.mobike is not None), None),
        _sas=sas,
    )


@dataclass(slots=True)
class Session:
    """The SAs of a flow, message by message."""

    sas: dict[bytes, IkeSa] = field(default_factory=dict)
    """By initiator SPI, in order of first appearance."""
    exchanges: dict[str, None] = field(default_factory=dict)
    vendor_ids: dict[bytes, None] = field(default_factory=dict)
    uses_marker: bool = False
    """Whether a message has a non-ESP marker."""
    agreed: IkeSa | None = None
    """The last SA of which the responder chose a proposal."""
    rekeyed: IkeSa | None = None
    """The last SA with a CREATE_CHILD_SA exchange, which may rekey it."""
    seen: set[tuple[object, ...]] = field(default_factory=set)
    """Sender and content of every message, to recognise retransmissions."""

    def add(self, message: Message) -> None:
        header = message.header
        self.uses_marker = self.uses_marker or header.non_esp_marker
        self.exchanges[exchange_name(header.major, header.exchange)] = None
        sa = self.sas.get(header.initiator_spi)
        if sa is None:
            sa = self.sas[header.initiator_spi] = IkeSa(header.initiator_spi.hex(), header.major)
            if self.rekeyed is not None and header.exchange in AUTHENTICATED:
                sa.follows = self.rekeyed.initiator_spi
        content = (message.direction, header, *message.clear, *message.decrypted)
        if sa.add(message, retransmission=content in self.seen):
            self.agreed = sa
        self.seen.add(content)
        if header.exchange == CREATE_CHILD_SA:
            self.rekeyed = sa
        for payload in (*message.clear, *message.decrypted):
            if isinstance(payload, VendorId) and len(self.vendor_ids) < MAX_VENDOR_IDS:
                self.vendor_ids[payload.id[:64]] = None

    def shown_sa(self) -> IkeSa | None:
        """The SA that represents the flow: the last agreed one, else the last with an offer, else the last."""
        if self.agreed is not None:
            return self.agreed
        latest_first = tuple(reversed(self.sas.values()))
        return next((sa for sa in latest_first if sa.offered), latest_first[0] if latest_first else None)


def last_child(sas: Sequence[IkeSa]) -> Child:
    """The last agreed child SA, else the last one negotiated, else an empty one."""
    children = [child for sa in sas for child in sa.children.values()]
    return next((child for child in reversed(children) if child.chosen), children[-1] if children else Child())


def read_esp(items: Sequence[Item]) -> esp.EspFacts | None:
    """Facts about the ESP packets and NAT keepalives among the items; ``None``: there are none."""
    kinds = (esp.EspPacket, esp.EspPayload, esp.NatKeepalive)
    esp_items = [item for item in items if type(item.message) in kinds]
    return esp.facts(esp_items) if esp_items else None


def vendor_text(vendor_id: bytes) -> str | None:
    """Name of a known vendor ID, else the vendor ID itself if it is text."""
    name = vendor_name(vendor_id)
    if name is not None:
        return name
    is_text = len(vendor_id) >= 4 and all(32 <= byte < 127 for byte in vendor_id)
    return decode_text(vendor_id) if is_text else None


def sa_facts(sa: IkeSa) -> SaFacts:
    groups = [exchanged.group for exchanged in sa.key_exchanges if exchanged.group is not None]
    return SaFacts(
        initiator_spi=sa.initiator_spi,
        responder_spi=sa.responder_spi,
        version=f"{sa.major}.0",
        exchanges={exchange_name(sa.major, exchange): count for exchange, count in sa.exchanges.items()},
        mid_session=sa.mid_session,
        follows=sa.follows,
        offered=sa.offered,
        chosen=sa.chosen,
        key_exchange=group_name(groups[-1]) if groups else None,
        authentication=authentication_methods(sa),
        identities=tuple(sa.identities),
        retries=tuple(sa.retries),
        requested_group=None if sa.requested_group is None else group_name(sa.requested_group),
        redirected_to=sa.gateways.get(REDIRECT),
        redirected_from=sa.gateways.get(REDIRECTED_FROM),
        retransmissions=sa.retransmissions,
        rekeys=sa.rekeys,
        fragments=tuple(
            FragmentFacts(f"{key} (response)" if response else str(key), fragments.total, len(fragments.numbers))
            for (key, response), fragments in itertools.islice(sa.fragments.items(), MAX_LISTED)
        ),
        unanswered=tuple(map(str, sa.unanswered[:MAX_LISTED])),
        unasked=tuple(map(str, sa.unasked[:MAX_LISTED])),
        children=tuple(
            ChildFacts(str(key), child.offered, child.chosen, child.spis)
            for key, child in itertools.islice(sa.children.items(), MAX_LISTED)
        ),
        mobike=sa.mobike,
        inner_notifies=tuple(dict.fromkeys(notify.name for notify in sa.inner_notifies)),
    )


def authentication_methods(sa: IkeSa) -> tuple[str, ...]:
    """IKEv1: names of the authentication methods that were chosen, or else offered."""
    transforms = (transform for proposal in sa.choices or sa.proposals for transform in proposal.isakmp_transforms)
    methods = (transform.value(ISAKMP_AUTHENTICATION_ATTRIBUTE) for transform in transforms)
    names = (ISAKMP_AUTHENTICATION.get(method, f"method {method}") for method in methods if method is not None)
    return tuple(dict.fromkeys(names))
