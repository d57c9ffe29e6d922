"""IKE security associations: what the messages under one initiator SPI show together."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import Final, NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Direction, Frame
from analyzer.messages import Item
from analyzer.protocols import esp
from analyzer.protocols.ike.messages import (
    NO_SPI,
    Encrypted,
    EncryptedFragment,
    Gateway,
    Identification,
    IkeHeader,
    KeyExchange,
    NatDetection,
    Nonce,
    Notify,
)
from analyzer.protocols.ike.proposals import Proposal, notation, offer_notations, without_noesn
from analyzer.protocols.ike.registry import (
    COOKIE,
    CREATE_CHILD_SA,
    IKE_AUTH,
    INVALID_KE_PAYLOAD,
    ISAKMP_DIGESTS,
    ISAKMP_HASH_ATTRIBUTE,
    MOBIKE_SUPPORTED,
    NAT_DETECTION_DESTINATION_IP,
    NAT_DETECTION_SOURCE_IP,
    OPENING_EXCHANGES,
    exchange_name,
    notify_name,
)
from analyzer.safetext import decode_text

MAX_NOTIFIES: Final = 64
"""Notifications kept of an SA, of those in clear and of those decrypted."""
MAX_FRAMES: Final = 8
"""Frames kept as evidence of one thing; also key exchanges, nonces and NAT hashes kept of an SA."""
MAX_IDENTITIES: Final = 8
MAX_CHILDREN: Final = 64
"""Negotiations of child SAs that are kept of a decrypted IKE SA."""

ID_IPV4_ADDR, ID_FQDN, ID_RFC822_ADDR, ID_IPV6_ADDR = 1, 2, 3, 5
"""Identification types (RFC 7296, section 3.5)."""
IKE_PROTOCOL: Final = 1
"""Protocol ID of a proposal for an IKE SA."""


# -- messages ---------------------------------------------------------------------------------------------------


class Message(NamedTuple):
    """One IKE message: its header and payloads."""

    header: IkeHeader
    direction: Direction
    frame: Frame
    clear: tuple[object, ...]
    """Payloads up to the encrypted one, which is included."""
    decrypted: tuple[object, ...]
    """Payloads inside the encrypted one, if it was decrypted; IKEv2 only."""

    @property
    def opening(self) -> bool:
        """Whether it belongs to an exchange that negotiates the IKE SA in clear."""
        return self.header.exchange in OPENING_EXCHANGES.get(self.header.major, ())


def messages_of(items: Sequence[Item]) -> Iterator[tuple[IkeHeader, list[Item]]]:
    """Header of each IKE message, and all items of that message, the header's included."""
    current: list[Item] = []
    header: IkeHeader | None = None
    for item in items:
        if isinstance(item.message, IkeHeader):
            if header is not None:
                yield header, current
            header, current = item.message, [item]
        elif not isinstance(item.message, (esp.EspPacket, esp.EspPayload, esp.NatKeepalive)):
            current.append(item)
    if header is not None:
        yield header, current


def to_message(header: IkeHeader, items: Sequence[Item]) -> Message:
    """A message from its items, of which the header is the first."""
    payloads = tuple(item.message for item in items[1:])
    end = next((at for at, payload in enumerate(payloads, 1) if type(payload) in ENCRYPTED), len(payloads))
    decrypted = payloads[end:] if header.major == 2 else ()
    return Message(header, items[0].direction, items[0].frame, payloads[:end], decrypted)


ENCRYPTED: Final = (Encrypted, EncryptedFragment)
"""Payloads after one of these were inside it; only decryption shows them."""


class MessageKey(NamedTuple):
    """Identifies a request and its response within an IKEv2 SA (RFC 7296, section 2.2)."""

    exchange: int
    message_id: int
    by_initiator: bool
    """Whether the request comes from the initiator of the SA."""

    def __str__(self) -> str:
        side = "initiator" if self.by_initiator else "responder"
        return f"{exchange_name(2, self.exchange)} {self.message_id} of the {side}"


# -- parts of an SA ---------------------------------------------------------------------------------------------


class ClearNotify(NamedTuple):
    """A notification that was not encrypted."""

    type: int
    name: str
    direction: Direction
    frame: Frame


class InnerNotify(NamedTuple):
    """A notification inside a decrypted message."""

    type: int
    name: str
    key: MessageKey
    response: bool
    frame: Frame


class NatHashes(NamedTuple):
    """Hashes in one message of the addresses between which it was sent (RFC 7296, section 2.23; RFC 3947, 3.2)."""

    direction: Direction
    frame: Frame
    spis: bytes
    """Both SPIs of the message's header."""
    source: tuple[bytes, ...]
    """Hashes of all addresses that the sender may use."""
    destination: tuple[bytes, ...]


class KeyExchanged(NamedTuple):
    """A key exchange payload of an opening message."""

    response: bool
    group: int | None
    """``None`` in IKEv1: the group of the proposal."""
    length: int
    """Bytes of key exchange data."""
    frame: Frame


class NonceSent(NamedTuple):
    length: int
    """Bytes."""
    frame: Frame


@dataclass(slots=True)
class Fragments:
    """Fragments of one encrypted message (RFC 7383)."""

    total: int
    numbers: set[int] = field(default_factory=set)
    """Numbers of the fragments read; they count from 1."""
    frames: list[Frame] = field(default_factory=list)
    """At most :data:`MAX_FRAMES`."""

    @property
    def complete(self) -> bool:
        return self.numbers >= set(range(1, self.total + 1))


@dataclass(slots=True)
class Child:
    """Negotiation of a child SA in a decrypted exchange."""

    offers: tuple[Proposal, ...] = ()
    """Proposals for ESP or AH, each with the SPI under which the initiator of the exchange receives."""
    offered: tuple[str, ...] = ()
    choice: Proposal | None = None
    chosen: str | None = None
    offer_frames: list[Frame] = field(default_factory=list)
    choice_frames: list[Frame] = field(default_factory=list)
    mobike: dict[bool, bool] = field(default_factory=dict)
    """IKE_AUTH: whether request (``False``) and response (``True``) hold MOBIKE_SUPPORTED (RFC 4555, section 3.1)."""

    @property
    def spis(self) -> tuple[str, ...]:
        """SPIs of both directions, as far as they are known, in the form of ESP flows: ``0xc39b2a51``."""
        proposals = self.offers if self.choice is None else (*self.offers, self.choice)
        return tuple(dict.fromkeys(f"0x{proposal.spi.hex()}" for proposal in proposals if proposal.spi))


# -- the SA -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class IkeSa:
    """State of the SA with one initiator SPI; lists of frames hold the first :data:`MAX_FRAMES`."""

    initiator_spi: str
    major: int
    follows: str | None = None
    """Initiator SPI of the SA that this one presumably replaces: it appears without an opening exchange after a
    CREATE_CHILD_SA of the other (RFC 7296, section 1.3.2)."""
    responder_spi: str | None = None
    exchanges: dict[int, int] = field(default_factory=dict)
    """Exchange type → number of messages, without retransmissions, in order of first appearance."""
    proposals: tuple[Proposal, ...] = ()
    """Proposals of the last offer."""
    offered: tuple[str, ...] = ()
    choices: tuple[Proposal, ...] = ()
    """All proposals of the response; more than one is not allowed."""
    chosen: str | None = None
    notifies: list[ClearNotify] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    offer_frames: list[Frame] = field(default_factory=list)
    choice_frames: list[Frame] = field(default_factory=list)
    retransmissions: int = 0
    """Messages identical to an earlier one; copies made by the capture count, too."""
    retries: list[str] = field(default_factory=list)
    """Notifications that the initiator answered with a new offer under the same SPI (RFC 7296, sections 1.2, 2.6)."""
    pending_retry: str | None = None
    """Notification that the initiator has not yet answered with a new offer."""
    requested_group: int | None = None
    """Key exchange method in the last INVALID_KE_PAYLOAD."""
    gateways: dict[int, str] = field(default_factory=dict)
    """REDIRECT or REDIRECTED_FROM → gateway (RFC 5685)."""
    nat: list[NatHashes] = field(default_factory=list)
    key_exchanges: list[KeyExchanged] = field(default_factory=list)
    nonces: list[NonceSent] = field(default_factory=list)
    requests: dict[MessageKey, list[Frame]] = field(default_factory=dict)
    """IKEv2 requests and the frames that carried each of them."""
    responses: dict[MessageKey, Frame] = field(default_factory=dict)
    """IKEv2 responses and the first frame of each."""
    fragments: dict[tuple[MessageKey, bool], Fragments] = field(default_factory=dict)
    """By exchange and whether it is the response."""
    identities: dict[str, None] = field(default_factory=dict)
    """Identities sent in clear."""
    children: dict[MessageKey, Child] = field(default_factory=dict)
    opened: set[MessageKey] = field(default_factory=set)
    """Exchanges of which a message was decrypted."""
    inner_notifies: list[InnerNotify] = field(default_factory=list)

    @property
    def choice(self) -> Proposal | None:
        """The proposal that the responder chose."""
        return self.choices[0] if self.choices else None

    @property
    def mid_session(self) -> bool:
        """Whether its opening exchange is missing."""
        return not any(exchange in self.exchanges for exchange in OPENING_EXCHANGES.get(self.major, ()))

    @property
    def unanswered(self) -> list[MessageKey]:
        """Requests without a response."""
        return [key for key in self.requests if key not in self.responses]

    @property
    def unasked(self) -> list[MessageKey]:
        """Responses without a request."""
        return [key for key in self.responses if key not in self.requests]

    @property
    def rekeys(self) -> int:
        """CREATE_CHILD_SA exchanges. Encryption hides whether each rekeys the SA or a child SA, or adds a child SA."""
        keys = dict.fromkeys((*self.requests, *self.responses))
        return sum(1 for key in keys if key.exchange == CREATE_CHILD_SA)

    @property
    def hidden_rekeys(self) -> int:
        """:attr:`rekeys` that keys did not open."""
        return self.rekeys - sum(1 for key in self.opened if key.exchange == CREATE_CHILD_SA)

    @property
    def mobike(self) -> bool | None:
        """Whether both peers support MOBIKE; ``None``: IKE_AUTH was not decrypted, or only one side of it."""
        exchanges = [child.mobike for child in self.children.values() if child.mobike]
        if any(not supported for exchange in exchanges for supported in exchange.values()):
            return False
        return True if any(len(exchange) == 2 for exchange in exchanges) else None

    def notified(self, kind: int) -> tuple[Frame, ...]:
        """Frames of the clear notifications of a type."""
        return tuple(notify.frame for notify in self.notifies if notify.type == kind)

    # -- one message more ---------------------------------------------------------------------------------------

    def add(self, message: Message, retransmission: bool) -> bool:
        """Add a message. Returns whether the responder chose a proposal in it."""
        header, frame = message.header, message.frame
        keep(self.frames, frame)
        key = MessageKey(header.exchange, header.message_id, header.request_by_initiator)
        if header.major == 2:
            if header.response:
                self.responses.setdefault(key, frame)
            else:
                keep(self.requests.setdefault(key, []), frame)
        if retransmission:
            self.retransmissions += 1
            return False
        self.exchanges[header.exchange] = self.exchanges.get(header.exchange, 0) + 1
        if header.responder_spi != NO_SPI:
            self.responder_spi = header.responder_spi.hex()
        if message.decrypted:
            self.opened.add(key)
            self.add_decrypted(message, key)
        self.add_clear(message, key)
        self.add_nat_hashes(message)
        proposals = tuple(payload for payload in message.clear if isinstance(payload, Proposal))
        if not proposals or not message.opening:
            return False
        if header.response:
            self.choices = proposals
            self.chosen = notation(proposals[0])
            keep(self.choice_frames, frame)
            return True
        if self.pending_retry is not None and self.offer_frames:
            self.retries.append(self.pending_retry)
            self.pending_retry = None
        self.proposals = proposals
        self.offered = offer_notations(proposals)
        keep(self.offer_frames, frame)
        return False

    def add_clear(self, message: Message, key: MessageKey) -> None:
        """Add the payloads in clear, but for proposals and NAT detection."""
        header, frame = message.header, message.frame
        last_notify = 0
        for payload in message.clear:
            match payload:
                case Notify():
                    last_notify = payload.type
                    self.add_notify(message, payload)
                case Gateway():
                    self.gateways[last_notify] = payload.address
                case KeyExchange():
                    if message.opening and len(self.key_exchanges) < MAX_FRAMES:
                        exchange = KeyExchanged(header.response, payload.group, payload.length, frame)
                        self.key_exchanges.append(exchange)
                case Nonce():
                    if len(self.nonces) < MAX_FRAMES:
                        self.nonces.append(NonceSent(payload.length, frame))
                case EncryptedFragment():
                    self.add_fragment(key, header.response, payload, frame)
                case Identification():
                    if len(self.identities) < MAX_IDENTITIES:
                        self.identities[identity_text(payload)] = None

    def add_notify(self, message: Message, notify: Notify) -> None:
        header = message.header
        name = notify_name(header.major, notify.type)
        if len(self.notifies) < MAX_NOTIFIES:
            self.notifies.append(ClearNotify(notify.type, name, message.direction, message.frame))
        if header.major == 2 and header.response and notify.type in (COOKIE, INVALID_KE_PAYLOAD):
            self.pending_retry = name
            if notify.type == INVALID_KE_PAYLOAD and len(notify.data) == 2:
                self.requested_group = int.from_bytes(notify.data, "big")

    def add_fragment(self, key: MessageKey, response: bool, fragment: EncryptedFragment, frame: Frame) -> None:
        """Add a fragment. A sender that tries smaller fragments starts again (RFC 7383, section 2.5.2)."""
        known = self.fragments.get((key, response))
        if known is None or known.total < fragment.total:
            known = self.fragments[key, response] = Fragments(fragment.total)
        if known.total == fragment.total:
            known.numbers.add(fragment.number)
            keep(known.frames, frame)

    def add_nat_hashes(self, message: Message) -> None:
        source: list[bytes] = []
        destination: list[bytes] = []
        for payload in message.clear:
            if isinstance(payload, NatDetection):  # the first one is of the destination, all others of the source
                (source if destination else destination).append(payload.hash)
            elif isinstance(payload, Notify) and message.header.major == 2:
                if payload.type == NAT_DETECTION_SOURCE_IP:
                    source.append(payload.data)
                elif payload.type == NAT_DETECTION_DESTINATION_IP:
                    destination.append(payload.data)
        if (source or destination) and len(self.nat) < MAX_FRAMES:
            spis = message.header.initiator_spi + message.header.responder_spi
            self.nat.append(NatHashes(message.direction, message.frame, spis, tuple(source), tuple(destination)))

    def add_decrypted(self, message: Message, key: MessageKey) -> None:
        """Add the payloads inside a decrypted message."""
        response, frame = message.header.response, message.frame
        notifies = [payload for payload in message.decrypted if isinstance(payload, Notify)]
        for notify in notifies[: MAX_NOTIFIES - len(self.inner_notifies)]:
            name = notify_name(2, notify.type)
            self.inner_notifies.append(InnerNotify(notify.type, name, key, response, frame))
        proposals = tuple(
            payload
            for payload in message.decrypted
            if isinstance(payload, Proposal) and payload.protocol != IKE_PROTOCOL
        )
        if not proposals or (key not in self.children and len(self.children) >= MAX_CHILDREN):
            return
        child = self.children.setdefault(key, Child())
        if key.exchange == IKE_AUTH:
            child.mobike[response] = any(notify.type == MOBIKE_SUPPORTED for notify in notifies)
        if response:
            child.choice, child.chosen = proposals[0], without_noesn(notation(proposals[0]))
            keep(child.choice_frames, frame)
        else:
            child.offers = proposals
            child.offered = tuple(dict.fromkeys(map(without_noesn, offer_notations(proposals))))
            keep(child.offer_frames, frame)


def keep(frames: list[Frame], frame: Frame) -> None:
    if len(frames) < MAX_FRAMES:
        frames.append(frame)


def identity_text(identification: Identification) -> str:
    """An identity as an address, a name, or hexadecimal digits."""
    data = identification.data
    if identification.type in (ID_IPV4_ADDR, ID_IPV6_ADDR) and len(data) in (4, 16):
        return str(ipaddress.ip_address(data))
    return decode_text(data) if identification.type in (ID_FQDN, ID_RFC822_ADDR) else data[:64].hex()


def nat_hash(sa: IkeSa, hashes: NatHashes, address: str, port: int) -> bytes | None:
    """The hash of an endpoint that a message holds if no NAT is in the path (RFC 7296, section 2.23).

    IKEv1 uses the hash algorithm of the chosen proposal (RFC 3947, section 3.2); ``None``: it is not known.
    """
    algorithm = "sha1"
    if sa.major == 1:
        transforms = sa.choice.isakmp_transforms if sa.choice else ()
        number = transforms[0].value(ISAKMP_HASH_ATTRIBUTE) if transforms else None
        if number not in ISAKMP_DIGESTS:
            return None
        algorithm = ISAKMP_DIGESTS[number]
    hashed = hashes.spis + ipaddress.ip_address(address).packed + port.to_bytes(2, "big")
    return hashlib.new(algorithm, hashed, usedforsecurity=False).digest()
