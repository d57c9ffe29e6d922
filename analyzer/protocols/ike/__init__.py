"""Internet Key Exchange: version 2 (RFC 7296, 7383, 9370) and version 1 (RFC 2408, 2409, 3947) over UDP/500 and 4500.

A datagram is an IKE message, the same behind a non-ESP marker of four zero bytes, a NAT keepalive, or an ESP packet
inside UDP (RFC 3948); its bytes tell which. Proposals are named in strongSwan's notation: ``aes128-sha256-ecp256``.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from analyzer.heads import Direction, Frame, Head
from analyzer.messages import Facts, Item
from analyzer.protocols import esp
from analyzer.safetext import SafeText, decode_text
from analyzer.wire import Layout, Reader

NAME = "ike"

PORTS = (500, esp.NAT_TRAVERSAL_PORT)
MARKER = bytes(4)
HEADER = 28
NO_SPI = bytes(8)

MAX_COMBINATIONS = 64
"""A proposal with more combinations of its transforms is written in one joined form."""
MAX_OFFERED = 256
MAX_NOTIFIES = 64
MAX_VENDOR_IDS = 16
MAX_FRAMES = 8
MAX_SAS = 16
"""SAs listed in the facts."""
MAX_LISTED = 8
"""Messages listed in the facts of an SA, of each kind."""
MAX_CHILDREN = 64
"""Negotiations of tunnels that are kept of an SA, where they were decrypted."""

IKE_SA_INIT, IKE_AUTH, CREATE_CHILD_SA, INFORMATIONAL, IKE_INTERMEDIATE, IKE_FOLLOWUP_KE = 34, 35, 36, 37, 43, 44
MAIN_MODE, AGGRESSIVE_MODE = 2, 4

OPENING_EXCHANGES = {1: (1, MAIN_MODE, AGGRESSIVE_MODE), 2: (IKE_SA_INIT,)}
"""Those that negotiate an IKE SA in clear, by major version."""

AUTHENTICATED = (CREATE_CHILD_SA, INFORMATIONAL, IKE_FOLLOWUP_KE)
"""Exchanges of IKEv2 that need an IKE SA which is set up (RFC 7296, 1.2 to 1.4; RFC 9370, 2.2.4)."""

EXCHANGES = {
    1: {
        1: "Base",
        2: "Identity Protection (Main Mode)",
        3: "Authentication Only",
        4: "Aggressive",
        5: "Informational",
        6: "Transaction (Config Mode)",
        32: "Quick Mode",
        33: "New Group Mode",
    },
    2: {
        34: "IKE_SA_INIT",
        35: "IKE_AUTH",
        36: "CREATE_CHILD_SA",
        37: "INFORMATIONAL",
        38: "IKE_SESSION_RESUME",
        39: "GSA_AUTH",
        40: "GSA_REGISTRATION",
        41: "GSA_REKEY",
        43: "IKE_INTERMEDIATE",
        44: "IKE_FOLLOWUP_KE",
    },
}
"""By major version (RFC 2408, 3.1; IANA "IKEv2 Exchange Types")."""

RESPONSE_FLAG = {1: 0, 2: 0x20}
ENCRYPTED_FLAG = 0x01
FLAGS = {1: 0x07, 2: 0x38}
"""All flags that a version defines."""
FIRST_PAYLOADS = {1: (*range(22), *range(128, 140)), 2: (0, *range(33, 55))}

ENCR, PRF, INTEG, KE, ESN = 1, 2, 3, 4, 5
KEY_LENGTH = 14

ENCRYPTION = {
    1: "des-iv64",
    2: "des",
    3: "3des",
    4: "rc5",
    5: "idea",
    6: "cast{}",
    7: "blowfish{}",
    8: "3idea",
    9: "des-iv32",
    11: "null",
    12: "aes{}",
    13: "aes{}ctr",
    14: "aes{}ccm8",
    15: "aes{}ccm12",
    16: "aes{}ccm16",
    18: "aes{}gcm8",
    19: "aes{}gcm12",
    20: "aes{}gcm16",
    21: "aes{}gmac",
    23: "camellia{}",
    24: "camellia{}ctr",
    25: "camellia{}ccm8",
    26: "camellia{}ccm12",
    27: "camellia{}ccm16",
    28: "chacha20poly1305",
}
"""Transform type 1; the braces take the key length in bits."""

PSEUDO_RANDOM = {
    1: "prfmd5",
    2: "prfsha1",
    4: "prfaesxcbc",
    5: "prfsha256",
    6: "prfsha384",
    7: "prfsha512",
    8: "prfaescmac",
}
INTEGRITY = {
    1: "md5",
    2: "sha1",
    5: "aesxcbc",
    6: "md5_128",
    7: "sha1_160",
    8: "aescmac",
    9: "aes128gmac",
    10: "aes192gmac",
    11: "aes256gmac",
    12: "sha256",
    13: "sha384",
    14: "sha512",
}
IMPLIED_PRF = {1: 1, 2: 2, 5: 4, 6: 1, 7: 2, 8: 8, 12: 5, 13: 6, 14: 7}
"""Integrity algorithm → the PRF that goes without saying beside it."""

GROUPS = {
    0: "none",
    1: "modp768",
    2: "modp1024",
    5: "modp1536",
    14: "modp2048",
    15: "modp3072",
    16: "modp4096",
    17: "modp6144",
    18: "modp8192",
    19: "ecp256",
    20: "ecp384",
    21: "ecp521",
    22: "modp1024s160",
    23: "modp2048s224",
    24: "modp2048s256",
    25: "ecp192",
    26: "ecp224",
    27: "ecp224bp",
    28: "ecp256bp",
    29: "ecp384bp",
    30: "ecp512bp",
    31: "curve25519",
    32: "curve448",
    35: "mlkem512",
    36: "mlkem768",
    37: "mlkem1024",
}

KEY_EXCHANGE_LENGTHS = {
    1: (96,),
    2: (128,),
    5: (192,),
    14: (256,),
    15: (384,),
    16: (512,),
    17: (768,),
    18: (1024,),
    19: (64,),
    20: (96,),
    21: (132,),
    22: (128,),
    23: (256,),
    24: (256,),
    25: (48,),
    26: (56,),
    27: (56,),
    28: (64,),
    29: (96,),
    30: (128,),
    31: (32,),
    32: (56,),
    35: (800, 768),
    36: (1184, 1088),
    37: (1568, 1568),
}
"""Group → bytes of key exchange data (RFC 7296, 3.4; RFC 5903; RFC 6954; RFC 8031); of ML-KEM of request and response
(FIPS 203, table 3)."""

ISAKMP_ENCRYPTION = {
    1: "des",
    2: "idea",
    3: "blowfish{}",
    4: "rc5",
    5: "3des",
    6: "cast{}",
    7: "aes{}",
    8: "camellia{}",
}
ISAKMP_HASH = {1: "md5", 2: "sha1", 3: "tiger", 4: "sha256", 5: "sha384", 6: "sha512"}
ISAKMP_AUTHENTICATION = {
    1: "pre-shared key",
    2: "DSS signatures",
    3: "RSA signatures",
    4: "RSA encryption",
    5: "revised RSA encryption",
    9: "ECDSA with SHA-256 on P-256",
    10: "ECDSA with SHA-384 on P-384",
    11: "ECDSA with SHA-512 on P-521",
    64221: "hybrid RSA signatures",
    65001: "XAUTH with pre-shared key",
    65005: "XAUTH with RSA signatures",
}
"""IANA "IPSEC Authentication Methods"; private values of draft-ietf-ipsec-isakmp-xauth and -hybrid-auth."""
ISAKMP_DIGESTS = {1: "md5", 2: "sha1", 4: "sha256", 5: "sha384", 6: "sha512"}
"""Hash of a proposal → name of the same in :mod:`hashlib`."""
ISAKMP_ENCRYPTION_ATTRIBUTE, ISAKMP_HASH_ATTRIBUTE, ISAKMP_AUTHENTICATION_ATTRIBUTE, ISAKMP_GROUP_ATTRIBUTE = 1, 2, 3, 4
"""Attribute classes of IKEv1 (RFC 2409, appendix A); the key length is 14 in both versions."""

NO_PROPOSAL_CHOSEN, INVALID_KE_PAYLOAD, AUTHENTICATION_FAILED, COOKIE, MOBIKE_SUPPORTED = 14, 17, 24, 16390, 16396
NAT_DETECTION_SOURCE_IP, NAT_DETECTION_DESTINATION_IP, REDIRECT, REDIRECTED_FROM = 16388, 16389, 16407, 16408
NOTIFICATION_SIZES = {
    INVALID_KE_PAYLOAD: (2, 2),
    NAT_DETECTION_SOURCE_IP: (20, 20),
    NAT_DETECTION_DESTINATION_IP: (20, 20),
    COOKIE: (1, 64),
}
"""Notify type of IKEv2 → least and most bytes of Notification Data (RFC 7296, 1.3, 2.6 and 2.23)."""
FIRST_STATUS = 16384
"""Notify types below report an error (RFC 7296, 3.10.1; RFC 2408, 3.14.1)."""

NOTIFIES = {
    1: "UNSUPPORTED_CRITICAL_PAYLOAD",
    4: "INVALID_IKE_SPI",
    5: "INVALID_MAJOR_VERSION",
    7: "INVALID_SYNTAX",
    9: "INVALID_MESSAGE_ID",
    11: "INVALID_SPI",
    14: "NO_PROPOSAL_CHOSEN",
    17: "INVALID_KE_PAYLOAD",
    24: "AUTHENTICATION_FAILED",
    34: "SINGLE_PAIR_REQUIRED",
    35: "NO_ADDITIONAL_SAS",
    36: "INTERNAL_ADDRESS_FAILURE",
    37: "FAILED_CP_REQUIRED",
    38: "TS_UNACCEPTABLE",
    39: "INVALID_SELECTORS",
    40: "UNACCEPTABLE_ADDRESSES",
    41: "UNEXPECTED_NAT_DETECTED",
    42: "USE_ASSIGNED_HoA",
    43: "TEMPORARY_FAILURE",
    44: "CHILD_SA_NOT_FOUND",
    45: "INVALID_GROUP_ID",
    46: "AUTHORIZATION_FAILED",
    47: "STATE_NOT_FOUND",
    16384: "INITIAL_CONTACT",
    16385: "SET_WINDOW_SIZE",
    16386: "ADDITIONAL_TS_POSSIBLE",
    16387: "IPCOMP_SUPPORTED",
    16388: "NAT_DETECTION_SOURCE_IP",
    16389: "NAT_DETECTION_DESTINATION_IP",
    16390: "COOKIE",
    16391: "USE_TRANSPORT_MODE",
    16392: "HTTP_CERT_LOOKUP_SUPPORTED",
    16393: "REKEY_SA",
    16394: "ESP_TFC_PADDING_NOT_SUPPORTED",
    16395: "NON_FIRST_FRAGMENTS_ALSO",
    16396: "MOBIKE_SUPPORTED",
    16397: "ADDITIONAL_IP4_ADDRESS",
    16398: "ADDITIONAL_IP6_ADDRESS",
    16399: "NO_ADDITIONAL_ADDRESSES",
    16400: "UPDATE_SA_ADDRESSES",
    16401: "COOKIE2",
    16402: "NO_NATS_ALLOWED",
    16403: "AUTH_LIFETIME",
    16404: "MULTIPLE_AUTH_SUPPORTED",
    16405: "ANOTHER_AUTH_FOLLOWS",
    16406: "REDIRECT_SUPPORTED",
    16407: "REDIRECT",
    16408: "REDIRECTED_FROM",
    16409: "TICKET_LT_OPAQUE",
    16410: "TICKET_REQUEST",
    16411: "TICKET_ACK",
    16412: "TICKET_NACK",
    16413: "TICKET_OPAQUE",
    16414: "LINK_ID",
    16415: "USE_WESP_MODE",
    16416: "ROHC_SUPPORTED",
    16417: "EAP_ONLY_AUTHENTICATION",
    16418: "CHILDLESS_IKEV2_SUPPORTED",
    16419: "QUICK_CRASH_DETECTION",
    16420: "IKEV2_MESSAGE_ID_SYNC_SUPPORTED",
    16421: "IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED",
    16422: "IKEV2_MESSAGE_ID_SYNC",
    16423: "IPSEC_REPLAY_COUNTER_SYNC",
    16424: "SECURE_PASSWORD_METHODS",
    16425: "PSK_PERSIST",
    16426: "PSK_CONFIRM",
    16427: "ERX_SUPPORTED",
    16428: "IFOM_CAPABILITY",
    16429: "SENDER_REQUEST_ID",
    16430: "IKEV2_FRAGMENTATION_SUPPORTED",
    16431: "SIGNATURE_HASH_ALGORITHMS",
    16432: "CLONE_IKE_SA_SUPPORTED",
    16433: "CLONE_IKE_SA",
    16434: "PUZZLE",
    16435: "USE_PPK",
    16436: "PPK_IDENTITY",
    16437: "NO_PPK_AUTH",
    16438: "INTERMEDIATE_EXCHANGE_SUPPORTED",
    16441: "ADDITIONAL_KEY_EXCHANGE",
    16442: "USE_AGGFRAG",
    16443: "SUPPORTED_AUTH_METHODS",
}
"""IANA "IKEv2 Notify Message Types"."""

ISAKMP_NOTIFIES = {
    1: "INVALID-PAYLOAD-TYPE",
    2: "DOI-NOT-SUPPORTED",
    3: "SITUATION-NOT-SUPPORTED",
    4: "INVALID-COOKIE",
    5: "INVALID-MAJOR-VERSION",
    6: "INVALID-MINOR-VERSION",
    7: "INVALID-EXCHANGE-TYPE",
    8: "INVALID-FLAGS",
    9: "INVALID-MESSAGE-ID",
    10: "INVALID-PROTOCOL-ID",
    11: "INVALID-SPI",
    12: "INVALID-TRANSFORM-ID",
    13: "ATTRIBUTES-NOT-SUPPORTED",
    14: "NO-PROPOSAL-CHOSEN",
    15: "BAD-PROPOSAL-SYNTAX",
    16: "PAYLOAD-MALFORMED",
    17: "INVALID-KEY-INFORMATION",
    18: "INVALID-ID-INFORMATION",
    19: "INVALID-CERT-ENCODING",
    20: "INVALID-CERTIFICATE",
    21: "CERT-TYPE-UNSUPPORTED",
    22: "INVALID-CERT-AUTHORITY",
    23: "INVALID-HASH-INFORMATION",
    24: "AUTHENTICATION-FAILED",
    25: "INVALID-SIGNATURE",
    26: "ADDRESS-NOTIFICATION",
    27: "NOTIFY-SA-LIFETIME",
    28: "CERTIFICATE-UNAVAILABLE",
    29: "UNSUPPORTED-EXCHANGE-TYPE",
    30: "UNEQUAL-PAYLOAD-LENGTHS",
    24576: "RESPONDER-LIFETIME",
    24577: "REPLAY-STATUS",
    24578: "INITIAL-CONTACT",
    36136: "R-U-THERE",
    36137: "R-U-THERE-ACK",
}
"""RFC 2408, 3.14.1; RFC 2407, 4.6.3; RFC 3706."""

VENDORS = {
    **{
        hashlib.md5(told.encode(), usedforsecurity=False).digest(): told.strip()
        for told in (
            "strongSwan",
            "RFC 3947",
            "draft-ietf-ipsec-nat-t-ike-00",
            "draft-ietf-ipsec-nat-t-ike-02",
            "draft-ietf-ipsec-nat-t-ike-02\n",
            "draft-ietf-ipsec-nat-t-ike-03",
            "draft-ietf-ipsec-nat-t-ike-04",
            "draft-ietf-ipsec-nat-t-ike-05",
            "draft-ietf-ipsec-nat-t-ike-06",
            "draft-ietf-ipsec-nat-t-ike-07",
            "draft-ietf-ipsec-nat-t-ike-08",
            "FRAGMENTATION",
            "Vid-Initial-Contact",
            "IKE CGA version 1",
            "MS-Negotiation Discovery Capable",
            "GSSAPI",
        )
    },
    bytes.fromhex("09002689dfd6b712"): "XAUTH",
    bytes.fromhex("afcad71368a1f1c96b8696fc7757"): "RFC 3706 (dead peer detection)",
    bytes.fromhex("12f5f28c457168a9702d9fe274cc"): "Cisco Unity",
    bytes.fromhex("1f07f70eaa6514d3b0fa96542a50"): "Cisco VPN 3000",
    bytes.fromhex("1e2b516905991c7d7c96fcbfb587e461"): "Microsoft Windows",
    bytes.fromhex("f4ed19e0c114eb516faaac0ee37daf2807b4381f"): "Check Point",
    bytes.fromhex("8299031757a36082c6a621de"): "Fortinet FortiGate",
}
"""How known vendor ids begin; most are the MD5 digest of what they stand for."""
VENDOR_LENGTHS = tuple(sorted({len(known) for known in VENDORS}, reverse=True))


# -- layouts ----------------------------------------------------------------------------------------------------

IKE_HEADER = Layout(
    ("IKE SA Initiator's SPI", "8s"),
    ("IKE SA Responder's SPI", "8s"),
    ("Next Payload", "B"),
    ("Version", "B"),
    ("Exchange Type", "B"),
    ("Flags", "B"),
    ("Message ID", "I"),
    ("Length", "I"),
)
PAYLOAD_HEADER = Layout(("Next Payload", "B"), ("Critical", "B"), ("Payload Length", "H"))
KEY_EXCHANGE = Layout(("Key Exchange Method", "H"), ("RESERVED", "H"))
NOTIFY = Layout(("Protocol ID", "B"), ("SPI Size", "B"), ("Notify Message Type", "H"))
DELETE = Layout(("Protocol ID", "B"), ("SPI Size", "B"), ("Num of SPIs", "H"))
PROPOSAL_HEADER = Layout(("Last Substruc", "B"), ("RESERVED", "B"), ("Proposal Length", "H"))
PROPOSAL = Layout(("Proposal Num", "B"), ("Protocol ID", "B"), ("SPI Size", "B"), ("Num Transforms", "B"))
TRANSFORM_HEADER = Layout(("Last Substruc", "H"), ("Transform Length", "H"))
TRANSFORM = Layout(("Transform Type", "B"), ("RESERVED", "B"), ("Transform ID", "H"))
ISAKMP_TRANSFORM_HEADER = Layout(("Next Payload", "H"), ("Payload Length", "H"))
ISAKMP_TRANSFORM = Layout(("Transform #", "B"), ("Transform-Id", "B"), ("RESERVED2", "H"))
ATTRIBUTE = Layout(("Attribute Type", "H"), ("Attribute Value", "H"))

# -- messages ---------------------------------------------------------------------------------------------------


class IkeHeader(NamedTuple):
    """RFC 7296, 3.1; in IKEv1 the SPIs are called cookies. Begins a message; its payloads follow."""

    initiator_spi: bytes
    responder_spi: bytes
    next_payload: int
    major: int
    minor: int
    exchange: int
    flags: int
    message_id: int
    length: int
    """In bytes, header included, non-ESP marker not."""
    non_esp_marker: bool

    @property
    def response(self) -> bool:
        """IKEv2: the Response flag. IKEv1, which has none: a responder cookie is set."""
        return bool(self.flags & 0x20) if self.major == 2 else self.responder_spi != NO_SPI


class Transform(NamedTuple):
    """RFC 7296, 3.3.2."""

    type: int
    id: int
    key_length: int | None
    """Bits; ``None`` where the attribute is absent."""


class IsakmpTransform(NamedTuple):
    """RFC 2408, 3.6: a whole combination of algorithms."""

    number: int
    id: int
    attributes: tuple[tuple[int, int], ...]
    """Class and value; values longer than 8 bytes are cut to their first 8."""

    def value(self, kind: int) -> int | None:
        return next((value for each, value in self.attributes if each == kind), None)


class Proposal(NamedTuple):
    """One proposal of a Security Association payload (RFC 7296, 3.3.1; RFC 2408, 3.5)."""

    number: int
    protocol: int
    """1 IKE, 2 AH, 3 ESP."""
    spi: bytes
    transforms: tuple[Transform, ...] | tuple[IsakmpTransform, ...]


class KeyExchange(NamedTuple):
    group: int | None
    """Key exchange method; ``None`` in IKEv1, which does not repeat it here."""
    length: int
    """Of the key exchange data, bytes."""


class Nonce(NamedTuple):
    length: int


class Notify(NamedTuple):
    protocol: int
    type: int
    spi: bytes
    data: bytes
    """First 64 bytes."""


class Gateway(NamedTuple):
    """The gateway that the notification before redirects to, or was redirected from (RFC 5685, 6)."""

    address: str
    """IPv4 or IPv6 address, or FQDN."""


class VendorId(NamedTuple):
    id: bytes


class NatDetection(NamedTuple):
    """IKEv1 NAT-D (RFC 3947, 3.2); in IKEv2 the same is a :class:`Notify`."""

    hash: bytes


class Identification(NamedTuple):
    payload: int
    """35 IDi, 36 IDr; 5 in IKEv1."""
    type: int
    """1 IPv4 address, 2 FQDN, 3 user at FQDN, 5 IPv6 address, 9 distinguished name, 11 key id."""
    data: bytes


class CertificateRequest(NamedTuple):
    encoding: int
    authority: bytes


class Delete(NamedTuple):
    protocol: int
    spis: tuple[bytes, ...]


class Encrypted(NamedTuple):
    """What follows is encrypted: the SK payload of IKEv2, or a whole IKEv1 message with the Encryption flag."""

    next_payload: int
    """Type of the first payload inside."""
    length: int
    """Of the payload's body, bytes."""


class EncryptedFragment(NamedTuple):
    """SKF (RFC 7383, 2.5)."""

    next_payload: int
    number: int
    total: int
    length: int
    """Of the payload's body, bytes."""


class IsakmpFragment(NamedTuple):
    """A piece of an IKEv1 message (MS-IKEE, 2.2.3.1)."""

    id: int
    number: int
    """1-based."""
    last: bool
    length: int
    """Of the piece, bytes."""


class OtherPayload(NamedTuple):
    """A payload that is skipped by its length."""

    type: int
    length: int
    """Of the payload's body, bytes."""


# -- facts ------------------------------------------------------------------------------------------------------


class ClearNotify(NamedTuple):
    """A notification that was not encrypted."""

    type: int
    name: str
    direction: Direction
    frame: Frame


class InnerNotify(NamedTuple):
    """A notification inside an encrypted message that was decrypted."""

    type: int
    name: str
    key: MessageKey
    response: bool
    frame: Frame


@dataclass(slots=True)
class Child:
    """How the SAs of a tunnel were negotiated, in an encrypted message that was decrypted."""

    offers: tuple[Proposal, ...] = ()
    """Of ESP or AH, each with the SPI under which the initiator of the exchange receives."""
    offered: tuple[str, ...] = ()
    choice: Proposal | None = None
    chosen: str | None = None
    offer_frames: list[Frame] = field(default_factory=list)
    choice_frames: list[Frame] = field(default_factory=list)
    mobike: dict[bool, bool] = field(default_factory=dict)
    """IKE_AUTH, by whether it is the response: the message says MOBIKE_SUPPORTED (RFC 4555, 3.1)."""

    @property
    def spis(self) -> tuple[str, ...]:
        """Of both directions as far as they are known, as ESP flows show them: ``0xc39b2a51``."""
        parts = (*self.offers, *((self.choice,) if self.choice else ()))
        return tuple(dict.fromkeys(f"0x{each.spi.hex()}" for each in parts if each.spi))


class NatHashes(NamedTuple):
    """What one message says of the addresses that it was sent between (RFC 7296, 2.23; RFC 3947, 3.2)."""

    direction: Direction
    frame: Frame
    spis: bytes
    """Of the message's header, both."""
    source: tuple[bytes, ...]
    """Hashes of all addresses that the sender may use."""
    destination: tuple[bytes, ...]


class KeyExchanged(NamedTuple):
    """A key exchange of an opening message."""

    response: bool
    group: int | None
    """``None`` in IKEv1: that of the proposal."""
    length: int
    """Of the data, bytes."""
    frame: Frame


class NonceSent(NamedTuple):
    length: int
    frame: Frame


@dataclass(slots=True)
class Fragments:
    """The fragments of one encrypted message (RFC 7383)."""

    exchange: int
    message_id: int
    response: bool
    total: int
    numbers: set[int] = field(default_factory=set)
    frames: list[Frame] = field(default_factory=list)
    """The first few."""

    @property
    def whole(self) -> bool:
        return self.numbers >= set(range(1, self.total + 1))


class MessageKey(NamedTuple):
    """What ties the response to its request (RFC 7296, 2.2)."""

    exchange: int
    message_id: int
    by_initiator: bool
    """The request comes from who initiated the SA."""

    def __str__(self) -> str:
        side = "initiator" if self.by_initiator else "responder"
        return f"{exchange_name(2, self.exchange)} {self.message_id} of the {side}"


@dataclass(slots=True)
class IkeSa:
    """What the clear messages of one initiator SPI show."""

    initiator_spi: str
    major: int
    first_exchange: int
    follows: str | None = None
    """Initiator SPI of the SA that it presumably replaces: it appears without an opening exchange after a
    CREATE_CHILD_SA of the other (RFC 7296, 1.3.2)."""
    responder_spi: str | None = None
    exchanges: dict[int, int] = field(default_factory=dict)
    """Exchange type → number of messages, without retransmissions, in order of first appearance."""
    proposals: tuple[Proposal, ...] = ()
    """Of the last offer."""
    offered: tuple[str, ...] = ()
    choices: tuple[Proposal, ...] = ()
    """All proposals of the response; more than one is not allowed."""
    chosen: str | None = None
    notifies: list[ClearNotify] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    """The first few."""
    offer_frames: list[Frame] = field(default_factory=list)
    choice_frames: list[Frame] = field(default_factory=list)
    retransmissions: int = 0
    """Messages that had come before (also where the capture holds copies)."""
    cookie_retry: bool = False
    """The responder asked for a cookie before it went on (RFC 7296, 2.6)."""
    group_retry: bool = False
    """The responder asked for another key exchange group, and a new offer followed (RFC 7296, 1.2)."""
    retries: list[str] = field(default_factory=list)
    """Names of the notifications that a new offer under the same SPI answered."""
    asked: str | None = None
    """Name of the notification that the initiator has still to answer with a new offer."""
    requested_group: int | None = None
    """Key exchange method that INVALID_KE_PAYLOAD asked for last."""
    gateways: dict[int, str] = field(default_factory=dict)
    """REDIRECT or REDIRECTED_FROM → gateway (RFC 5685)."""
    nat: list[NatHashes] = field(default_factory=list)
    key_exchanges: list[KeyExchanged] = field(default_factory=list)
    nonces: list[NonceSent] = field(default_factory=list)
    requests: dict[MessageKey, list[Frame]] = field(default_factory=dict)
    """IKEv2: each with the frames that carried it, the first few."""
    responses: dict[MessageKey, Frame] = field(default_factory=dict)
    """IKEv2."""
    fragments: dict[tuple[MessageKey, bool], Fragments] = field(default_factory=dict)
    """By request and whether it is its response."""
    identities: dict[str, None] = field(default_factory=dict)
    """That were sent in clear."""
    children: dict[MessageKey, Child] = field(default_factory=dict)
    """Tunnels negotiated in messages that were decrypted."""
    inner_notifies: list[InnerNotify] = field(default_factory=list)
    """Of messages that were decrypted."""

    @property
    def choice(self) -> Proposal | None:
        """What the responder chose."""
        return self.choices[0] if self.choices else None

    @property
    def mid_session(self) -> bool:
        """Its opening exchange is not among the messages."""
        return not any(kind in self.exchanges for kind in OPENING_EXCHANGES.get(self.major, ()))

    @property
    def unanswered(self) -> list[MessageKey]:
        """Requests whose response is not among the messages."""
        return [key for key in self.requests if key not in self.responses]

    @property
    def unasked(self) -> list[MessageKey]:
        """Responses whose request is not among the messages."""
        return [key for key in self.responses if key not in self.requests]

    @property
    def rekeys(self) -> int:
        """CREATE_CHILD_SA exchanges: rekeys of the SA or of a tunnel, or new tunnels; encryption hides which."""
        keys = dict.fromkeys((*self.requests, *self.responses))
        return sum(1 for key in keys if key.exchange == CREATE_CHILD_SA)

    @property
    def mobike(self) -> bool | None:
        """Whether both peers support MOBIKE; ``None``: IKE_AUTH was not decrypted so far as to tell it."""
        said = [each.mobike for each in self.children.values() if each.mobike]
        if any(not supported for each in said for supported in each.values()):
            return False
        return True if any(len(each) == 2 for each in said) else None

    def notified(self, kind: int) -> tuple[Frame, ...]:
        """Frames of the clear notifications of a type."""
        return tuple(notify.frame for notify in self.notifies if notify.type == kind)


@dataclass(frozen=True, slots=True)
class FragmentFacts:
    """One message that was sent in fragments."""

    message: SafeText
    total: int
    read: int


@dataclass(frozen=True, slots=True)
class ChildFacts:
    """One negotiation of a tunnel that was decrypted."""

    message: str
    offered: tuple[str, ...]
    chosen: str | None
    spis: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SaFacts:
    """One IKE SA in the report. Messages are named by exchange, message id and who asked."""

    initiator_spi: str
    responder_spi: str | None
    version: SafeText
    exchanges: dict[SafeText, int]
    """Messages, without retransmissions."""
    mid_session: bool
    """It was set up before the capture, or on other addresses."""
    follows: str | None
    """Initiator SPI of the SA that it presumably replaces."""
    offered: tuple[SafeText, ...]
    chosen: SafeText | None
    key_exchange: SafeText | None
    """Group of the last key exchange that was sent in clear."""
    authentication: tuple[SafeText, ...]
    """IKEv1: the methods that were offered, or the one that was chosen."""
    identities: tuple[str, ...]
    """That were sent in clear."""
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
    """Tunnels that were negotiated in messages which were decrypted."""
    mobike: bool | None
    """Both peers support MOBIKE, or not both; ``None`` where IKE_AUTH was not decrypted."""
    inner_notifies: tuple[str, ...]
    """Names of the notifications in messages that were decrypted."""


@dataclass(frozen=True, slots=True)
class IkeFacts(Facts):
    """What an IKE flow shows in clear, and with keys inside; offer and choice are those of the last SA agreed on."""

    version: SafeText
    exchanges: tuple[SafeText, ...]
    """In order of first appearance."""
    offered: tuple[SafeText, ...]
    chosen: SafeText | None
    nat_traversal: bool
    """In use in this flow: non-ESP markers, NAT keepalives or ESP inside UDP (RFC 3948). Not: a NAT is there."""
    notifies: tuple[SafeText, ...]
    """Names of the clear notifications in order of first appearance."""
    vendor_ids: tuple[str, ...]
    """Hexadecimal, at most :data:`MAX_VENDOR_IDS`."""
    vendors: tuple[SafeText, ...]
    """What the known ones of them stand for, and those that are text."""
    initiator_spi: str
    """Hexadecimal, 16 digits."""
    responder_spi: str | None
    spis: tuple[str, ...]
    """Of ESP inside the flow."""
    udp_encapsulated: bool | None
    """``True`` where ESP is in the flow."""
    sas: tuple[SaFacts, ...]
    """In order of first appearance, :data:`MAX_SAS` at most."""
    esp: esp.EspFacts | None
    """What the ESP packets and keepalives in the flow show."""
    esp_offered: tuple[str, ...]
    """For the last tunnel that was agreed on in a message which was decrypted."""
    esp_chosen: str | None
    mobike: bool | None
    """As in the last SA that tells it."""
    decrypted: str | None = None
    """Who decrypted messages of the flow with keys that the user gave."""
    _sas: tuple[IkeSa, ...] = ()
    """In order of first appearance."""


# -- recognition ------------------------------------------------------------------------------------------------


def probe(head: Head) -> bool:
    if head.transport != "udp":
        return False
    if head.ports[0] in PORTS or head.ports[1] in PORTS:
        return any(shaped(datagram.data, marker(datagram.data)) for datagram in head.datagrams)
    return bool(head.datagrams) and exact(head.datagrams[0].data, head.datagrams[0].length)


def marker(data: bytes) -> int:
    """Length of the non-ESP marker in front of a message: 4 or 0 bytes."""
    return 4 if data[:4] == MARKER and data[4:12] != NO_SPI else 0


def shaped(data: bytes, start: int) -> bool:
    """Whether an IKE header can begin at ``start``: version, exchange, flags and first payload exist.

    Without a marker nothing but its shape tells a message from an ESP packet, so its length must fit a datagram too.
    """
    if len(data) < start + HEADER:
        return False
    major = data[start + 17] >> 4
    return (
        major in EXCHANGES
        and data[start + 17] & 0x0F == 0
        and data[start + 18] in EXCHANGES[major]
        and not data[start + 19] & ~FLAGS[major]
        and data[start + 16] in FIRST_PAYLOADS[major]
        and (start > 0 or data[24:26] == b"\x00\x00")
    )


def exact(data: bytes, length: int) -> bool:
    """Whether a datagram is an IKE message beyond doubt, for ports that promise nothing."""
    start = marker(data)
    if not shaped(data, start) or data[start : start + 8] == NO_SPI or data[start + 16] == 0:
        return False
    first = int.from_bytes(data[start + HEADER + 2 : start + HEADER + 4], "big")
    encrypted_v1 = data[start + 17] >> 4 == 1 and data[start + 19] & ENCRYPTED_FLAG
    chained = bool(encrypted_v1) or 4 <= first <= length - start - HEADER
    return int.from_bytes(data[start + 24 : start + 28], "big") == length - start and chained


# -- dissection -------------------------------------------------------------------------------------------------


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    if reader.fence == 1:
        return esp.keepalive(reader)
    if reader.fence >= HEADER and len(reader.data) < HEADER:
        reader.take(HEADER, "IKE header")  # too little was captured to tell IKE from ESP
    start = marker(reader.data)
    if start == 0 and not shaped(reader.data, 0):
        return esp.packet(reader, udp_encapsulated=True)
    reader.take(start, "non-ESP marker")
    return message(reader, start > 0)


def message(reader: Reader, non_esp_marker: bool) -> Iterator[object]:
    """One IKE message: header, then payloads up to the declared length."""
    fields = reader.unpack(IKE_HEADER)
    initiator_spi, responder_spi, first, version, exchange, flags, message_id, length = fields
    major, minor = version >> 4, version & 0x0F
    yield IkeHeader(
        initiator_spi, responder_spi, first, major, minor, exchange, flags, message_id, length, non_esp_marker
    )
    if major not in EXCHANGES:
        reader.malformed("Version", f"major version {major} is neither 1 nor 2", reader.pos - 11)
    if length < HEADER:
        reader.malformed("Length", f"{length} bytes are less than the header itself", reader.pos - 4)
    body = reader.fenced(length - HEADER, "Length")
    if major == 1 and flags & ENCRYPTED_FLAG:
        yield Encrypted(first, length - HEADER)
        body.pos = body.fence
    else:
        for found in payloads(body, first, major):
            reader.pos = body.pos
            yield found
    reader.pos = body.fence
    if reader.fence != body.fence and reader.has_more:
        reader.malformed("Length", f"{reader.fence - reader.pos} bytes follow the declared end of the message")


def payloads(body: Reader, kind: int, major: int) -> Iterator[object]:
    """The chain of payloads (RFC 7296, 3.2); it must end where the message ends."""
    while kind:
        following, _, length = body.unpack(PAYLOAD_HEADER)
        if length < 4:
            body.malformed("Payload Length", f"{length} bytes are less than the payload's own header", body.pos - 2)
        with body.block(length - 4, "Payload Length") as inner:
            if major == 2:
                yield from payload(inner, kind, following, length - 4)
            else:
                yield from isakmp_payload(inner, kind, length - 4)
        if major == 2 and kind in (46, 53):  # their Next Payload names what is inside
            break
        kind = following
    if body.pos != body.fence:
        body.malformed("Next Payload", f"the chain ends {body.fence - body.pos} bytes before the message does")


def opened(plain: bytes, first: int) -> Iterator[object]:
    """The payloads inside of an encrypted one of IKEv2, from its plain text without padding (RFC 7296, 3.14); of
    fragments from that of all together (RFC 7383, 2.5)."""
    return payloads(Reader(plain, 0, len(plain)), first, 2)


def payload(inner: Reader, kind: int, following: int, length: int) -> Iterator[object]:
    """The body of one IKEv2 payload."""
    if kind == 33:
        yield from proposals(inner, major=2)
    elif kind == 34:
        group, _ = inner.unpack(KEY_EXCHANGE)
        yield KeyExchange(group, length - 4)
        inner.pos = inner.fence
    elif kind in (35, 36):
        id_type = inner.u8("ID Type")
        inner.u24("RESERVED")
        yield Identification(kind, id_type, inner.rest("Identification Data"))
    elif kind == 38:
        yield CertificateRequest(inner.u8("Cert Encoding"), inner.rest("Certification Authority"))
    elif kind == 40:
        yield Nonce(length)
        inner.pos = inner.fence
    elif kind == 41:
        yield from notify(inner, major=2)
    elif kind == 42:
        yield from delete(inner)
    elif kind == 43:
        yield VendorId(inner.rest("Vendor ID"))
    elif kind == 46:
        yield Encrypted(following, length)
        inner.pos = inner.fence
    elif kind == 53:
        number = inner.u16("Fragment Number")
        total = inner.u16("Total Fragments")
        if not 1 <= number <= total:
            inner.malformed("Fragment Number", f"fragment {number} of {total}", inner.pos - 4)
        yield EncryptedFragment(following, number, total, length)
        inner.pos = inner.fence
    else:
        yield OtherPayload(kind, length)
        inner.pos = inner.fence


def isakmp_payload(inner: Reader, kind: int, length: int) -> Iterator[object]:
    """The body of one IKEv1 payload that is not encrypted."""
    if kind == 1:
        doi = inner.u32("DOI")
        if doi == 1 and inner.u32("Situation") == 1:
            yield from proposals(inner, major=1)
        else:  # labelled situations and other domains are not for IPsec peers
            inner.pos = inner.fence
    elif kind == 4:
        yield KeyExchange(None, length)
        inner.pos = inner.fence
    elif kind == 5:
        id_type = inner.u8("ID Type")
        inner.u24("Protocol ID and Port")
        yield Identification(kind, id_type, inner.rest("Identification Data"))
    elif kind == 7:
        yield CertificateRequest(inner.u8("Cert Encoding"), inner.rest("Certification Authority"))
    elif kind == 10:
        yield Nonce(length)
        inner.pos = inner.fence
    elif kind == 11:
        inner.u32("DOI")
        yield from notify(inner, major=1)
    elif kind == 12:
        inner.u32("DOI")
        yield from delete(inner)
    elif kind == 13:
        yield VendorId(inner.rest("Vendor ID"))
    elif kind in (20, 130):
        yield NatDetection(inner.rest("NAT-D"))
    elif kind == 132:
        identifier = inner.u16("Fragment ID")
        number, last = inner.u8("Fragment Number"), inner.u8("Flags")
        if not number:
            inner.malformed("Fragment Number", "fragments count from 1", inner.pos - 2)
        yield IsakmpFragment(identifier, number, bool(last & 1), length - 4)
        inner.pos = inner.fence
    else:
        yield OtherPayload(kind, length)
        inner.pos = inner.fence


def notify(inner: Reader, major: int) -> Iterator[object]:
    protocol, size, kind = inner.unpack(NOTIFY)
    spi = inner.take(size, "SPI")
    start = inner.pos
    data = inner.rest("Notification Data")
    yield Notify(protocol, kind, spi, data[:64])
    if major == 1:
        return
    least, most = NOTIFICATION_SIZES.get(kind, (0, len(data)))
    if not least <= len(data) <= most:
        wanted = f"{least} bytes" if least == most else f"{least} to {most} bytes"
        inner.malformed("Notification Data", f"{len(data)} bytes, {notify_name(kind, 2)} has {wanted}", start)
    if kind in (REDIRECT, REDIRECTED_FROM):
        yield gateway(Reader(inner.data, start, inner.fence), kind)


GATEWAYS = {1: 4, 2: 16}
"""GW Ident Type → bytes of the address; 3 is an FQDN."""


def gateway(data: Reader, kind: int) -> Gateway:
    """The new responder in a REDIRECT, or the one that a client comes from (RFC 5685, 6.1 to 6.3)."""
    form, size = data.u8("GW Ident Type"), data.u8("GW Ident Len")
    if GATEWAYS.get(form, size) != size:
        data.malformed("GW Ident Len", f"{size} bytes, an address of type {form} has {GATEWAYS[form]}", data.pos - 1)
    with data.block(size, "GW Ident Len") as inner:
        identity = inner.rest("New Responder GW Identity")
    if kind == REDIRECTED_FROM and data.has_more:
        data.malformed("GW Ident Len", f"{data.fence - data.pos} bytes are left over behind the gateway")
    return Gateway(str(ipaddress.ip_address(identity)) if form in GATEWAYS else decode_text(identity))


def delete(inner: Reader) -> Iterator[object]:
    protocol, size, count = inner.unpack(DELETE)
    with inner.block(size * count, "Num of SPIs") as listed:
        raw = listed.rest("SPIs")
    yield Delete(protocol, tuple(raw[at : at + size] for at in range(0, len(raw), size or 1)))


def proposals(inner: Reader, major: int) -> Iterator[object]:
    """The proposals of an SA payload, each as soon as it is read."""
    more = True
    while more:
        more, _, length = inner.unpack(PROPOSAL_HEADER)
        if more not in (0, 2):
            inner.malformed("Last Substruc", f"{more} is neither 0 (the last proposal) nor 2", inner.pos - 4)
        if length < 8:
            inner.malformed("Proposal Length", f"{length} bytes are less than the proposal's own header", inner.pos - 2)
        with inner.block(length - 4, "Proposal Length") as part:
            number, protocol, size, count = part.unpack(PROPOSAL)
            spi = part.take(size, "SPI")
            read = transforms if major == 2 else isakmp_transforms
            yield Proposal(number, protocol, spi, read(part, count))


def transforms(part: Reader, count: int) -> tuple[Transform, ...]:
    return tuple(transform(part, left) for left in reversed(range(count)))


def isakmp_transforms(part: Reader, count: int) -> tuple[IsakmpTransform, ...]:
    return tuple(isakmp_transform(part, left) for left in reversed(range(count)))


def chained(part: Reader, field: str, value: int, left: int) -> None:
    """Whether a transform says rightly that another one follows: its first byte is 3, that of the last one 0."""
    if value >> 8 != (3 if left else 0):
        part.malformed(field, f"{value >> 8} where {left or 'no'} transforms follow", part.pos - 4)


def transform(part: Reader, left: int) -> Transform:
    more, length = part.unpack(TRANSFORM_HEADER)
    chained(part, "Last Substruc", more, left)
    if length < 8:
        part.malformed("Transform Length", f"{length} bytes are less than the transform's own header", part.pos - 2)
    with part.block(length - 4, "Transform Length") as inner:
        kind, _, number = inner.unpack(TRANSFORM)
        key_length = next((value for attribute, value in attributes(inner) if attribute == KEY_LENGTH), None)
    return Transform(kind, number, key_length)


def isakmp_transform(part: Reader, left: int) -> IsakmpTransform:
    more, length = part.unpack(ISAKMP_TRANSFORM_HEADER)
    chained(part, "Next Payload", more, left)
    if length < 8:
        part.malformed("Payload Length", f"{length} bytes are less than the transform's own header", part.pos - 2)
    with part.block(length - 4, "Payload Length") as inner:
        number, kind, _ = inner.unpack(ISAKMP_TRANSFORM)
        listed = attributes(inner)
    return IsakmpTransform(number, kind, listed)


def attributes(inner: Reader) -> tuple[tuple[int, int], ...]:
    """Transform attributes up to the fence (RFC 7296, 3.3.5; RFC 2408, 3.3)."""
    found = []
    while inner.has_more:
        kind, value = inner.unpack(ATTRIBUTE)
        if not kind & 0x8000:
            value = int.from_bytes(inner.take(value, "Attribute Value")[:8], "big")
        found.append((kind & 0x7FFF, value))
    return tuple(found)


# -- what follows from the messages -----------------------------------------------------------------------------


def facts(items: Sequence[Item]) -> IkeFacts:
    sas: dict[bytes, IkeSa] = {}
    exchanges: dict[str, None] = {}
    vendors: dict[bytes, None] = {}
    latest: IkeSa | None = None
    rekeyed: IkeSa | None = None
    seen: set[tuple[object, ...]] = set()
    marked = False
    for header, items_of_message in messages_of(items):
        marked = marked or header.non_esp_marker
        exchanges[exchange_name(header.major, header.exchange)] = None
        sa = sas.get(header.initiator_spi)
        if sa is None:
            sa = IkeSa(header.initiator_spi.hex(), header.major, header.exchange)
            sas[header.initiator_spi] = sa
            if rekeyed is not None and header.exchange in AUTHENTICATED:
                sa.follows = rekeyed.initiator_spi
        whole = (items_of_message[0].direction, *(item.message for item in items_of_message))
        again = whole in seen
        seen.add(whole)
        if learn(sa, header, items_of_message, again):
            latest = sa
        if header.exchange == CREATE_CHILD_SA:
            rekeyed = sa
        ids = (message.id[:64] for message in whole if isinstance(message, VendorId))
        vendors.update(dict.fromkeys(itertools.islice(ids, MAX_VENDOR_IDS - len(vendors))))
    listed = tuple(sas.values())
    shown = latest or next((sa for sa in reversed(listed) if sa.offered), listed[-1] if listed else None)
    children = [each for sa in listed for each in sa.children.values()]
    tunnel = next((each for each in reversed(children) if each.chosen), children[-1] if children else Child())
    inside = esp_facts(items) if marked or not listed else None  # without markers ESP cannot be told from IKE
    keepalive = inside is None and any(type(item.message) is esp.NatKeepalive for item in items)
    return IkeFacts(
        version=f"{shown.major}.0" if shown else "",
        exchanges=tuple(exchanges),
        offered=shown.offered if shown else (),
        chosen=shown.chosen if shown else None,
        nat_traversal=marked or keepalive or inside is not None,
        notifies=tuple(dict.fromkeys(notify.name for sa in listed for notify in sa.notifies))[:MAX_NOTIFIES],
        vendor_ids=tuple(each.hex() for each in vendors),
        vendors=tuple(dict.fromkeys(name for each in vendors if (name := vendor(each)))),
        initiator_spi=shown.initiator_spi if shown else "",
        responder_spi=shown.responder_spi if shown else None,
        spis=inside.spis if inside else (),
        udp_encapsulated=True if inside and inside.packets_read else None,
        sas=tuple(sa_facts(sa) for sa in listed[:MAX_SAS]),
        esp=inside,
        esp_offered=tunnel.offered,
        esp_chosen=tunnel.chosen,
        mobike=next((sa.mobike for sa in reversed(listed) if sa.mobike is not None), None),
        _sas=listed,
    )


def esp_facts(items: Sequence[Item]) -> esp.EspFacts | None:
    """What ESP packets and NAT keepalives among the messages show; ``None``: there are none."""
    inside = (esp.EspPacket, esp.EspPayload, esp.NatKeepalive)
    carried = [item for item in items if type(item.message) in inside]
    return esp.facts(carried) if carried else None


def vendor(raw: bytes) -> str | None:
    """What a vendor id stands for: a known name, or its own text."""
    for length in VENDOR_LENGTHS:
        if raw[:length] in VENDORS:
            return VENDORS[raw[:length]]
    return decode_text(raw) if len(raw) >= 4 and all(32 <= byte < 127 for byte in raw) else None


def sa_facts(sa: IkeSa) -> SaFacts:
    group = next((each.group for each in reversed(sa.key_exchanges) if each.group is not None), None)
    offers = sa.choices or sa.proposals
    methods = (each.value(ISAKMP_AUTHENTICATION_ATTRIBUTE) for offer in offers for each in isakmp_transforms_of(offer))
    return SaFacts(
        initiator_spi=sa.initiator_spi,
        responder_spi=sa.responder_spi,
        version=f"{sa.major}.0",
        exchanges={exchange_name(sa.major, kind): count for kind, count in sa.exchanges.items()},
        mid_session=sa.mid_session,
        follows=sa.follows,
        offered=sa.offered,
        chosen=sa.chosen,
        key_exchange=None if group is None else GROUPS.get(group, f"ke_{group}"),
        authentication=tuple(
            dict.fromkeys(ISAKMP_AUTHENTICATION.get(each, f"method {each}") for each in methods if each is not None)
        ),
        identities=tuple(sa.identities),
        retries=tuple(sa.retries),
        requested_group=(
            None if sa.requested_group is None else GROUPS.get(sa.requested_group, f"ke_{sa.requested_group}")
        ),
        redirected_to=sa.gateways.get(REDIRECT),
        redirected_from=sa.gateways.get(REDIRECTED_FROM),
        retransmissions=sa.retransmissions,
        rekeys=sa.rekeys,
        fragments=tuple(
            FragmentFacts(f"{key} (response)" if response else str(key), each.total, len(each.numbers))
            for (key, response), each in itertools.islice(sa.fragments.items(), MAX_LISTED)
        ),
        unanswered=tuple(map(str, sa.unanswered[:MAX_LISTED])),
        unasked=tuple(map(str, sa.unasked[:MAX_LISTED])),
        children=tuple(
            ChildFacts(str(key), each.offered, each.chosen, each.spis)
            for key, each in itertools.islice(sa.children.items(), MAX_LISTED)
        ),
        mobike=sa.mobike,
        inner_notifies=tuple(dict.fromkeys(each.name for each in sa.inner_notifies)),
    )


def messages_of(items: Sequence[Item]) -> Iterator[tuple[IkeHeader, list[Item]]]:
    """Each IKE message: its header, and the items of the whole message, the header's own included."""
    current: list[Item] = []
    header: IkeHeader | None = None
    for item in items:
        if isinstance(item.message, IkeHeader):
            if header is not None:
                yield header, current
            header, current = item.message, [item]
        elif isinstance(item.message, (esp.EspPacket, esp.EspPayload, esp.NatKeepalive)):
            continue
        else:
            current.append(item)
    if header is not None:
        yield header, current


def learn(sa: IkeSa, header: IkeHeader, items: Sequence[Item], again: bool) -> bool:
    """Add one message to what is known of its SA; whether it was a responder's choice."""
    frame = items[0].frame
    note(sa.frames, frame)
    key = MessageKey(header.exchange, header.message_id, bool(header.flags & 0x08) != header.response)
    if header.major == 2:
        if header.response:
            sa.responses.setdefault(key, frame)
        else:
            note(sa.requests.setdefault(key, []), frame)
    if again:
        sa.retransmissions += 1
        return False
    sa.exchanges[header.exchange] = sa.exchanges.get(header.exchange, 0) + 1
    if header.responder_spi != NO_SPI:
        sa.responder_spi = header.responder_spi.hex()
    opening = header.exchange in OPENING_EXCHANGES.get(header.major, ())
    inside = next((at for at, item in enumerate(items, 1) if type(item.message) in ENCRYPTED), len(items))
    if header.major == 2 and inside < len(items):
        learn_inside(sa, header, key, items[inside:])
    found: list[Proposal] = []
    nat: dict[int, list[bytes]] = {NAT_DETECTION_SOURCE_IP: [], NAT_DETECTION_DESTINATION_IP: []}
    notified = 0
    for message, direction, _, _, _ in items[:inside]:
        if isinstance(message, Proposal):
            found.append(message)
        elif isinstance(message, Notify):
            notified = message.type
            if len(sa.notifies) < MAX_NOTIFIES:
                name = notify_name(message.type, header.major)
                sa.notifies.append(ClearNotify(message.type, name, direction, frame))
            if header.major == 2 and message.type in nat:
                nat[message.type].append(message.data)
            elif header.major == 2 and header.response and message.type in (COOKIE, INVALID_KE_PAYLOAD):
                sa.asked = notify_name(message.type, 2)
                sa.cookie_retry = sa.cookie_retry or message.type == COOKIE
                if message.type == INVALID_KE_PAYLOAD and len(message.data) == 2:
                    sa.requested_group = int.from_bytes(message.data, "big")
        elif isinstance(message, KeyExchange):
            if opening and len(sa.key_exchanges) < MAX_FRAMES:
                sa.key_exchanges.append(KeyExchanged(header.response, message.group, message.length, frame))
        elif isinstance(message, Nonce):
            if len(sa.nonces) < MAX_FRAMES:
                sa.nonces.append(NonceSent(message.length, frame))
        elif isinstance(message, NatDetection):  # the first is of the destination, all others of the source
            known = nat[NAT_DETECTION_DESTINATION_IP]
            (nat[NAT_DETECTION_SOURCE_IP] if known else known).append(message.hash)
        elif isinstance(message, Gateway):
            sa.gateways[notified] = message.address
        elif isinstance(message, EncryptedFragment):
            fragmented(sa, header, key, message, frame)
        elif isinstance(message, Identification) and len(sa.identities) < MAX_LISTED:
            sa.identities[identity(message)] = None
    if any(nat.values()) and len(sa.nat) < MAX_FRAMES:
        source, destination = (tuple(hashes) for hashes in nat.values())
        spis = header.initiator_spi + header.responder_spi
        sa.nat.append(NatHashes(items[0].direction, frame, spis, source, destination))
    if not found or not opening:
        return False
    if header.response:
        sa.choices = tuple(found)
        sa.chosen = joined(found[0])
        note(sa.choice_frames, frame)
        return True
    sa.group_retry = sa.group_retry or (header.major == 2 and bool(sa.notified(INVALID_KE_PAYLOAD)))
    if sa.asked is not None and sa.offer_frames:
        sa.retries.append(sa.asked)
        sa.asked = None
    sa.proposals = tuple(found)
    combinations = itertools.chain.from_iterable(notations(each) for each in found)
    sa.offered = tuple(dict.fromkeys(itertools.islice(combinations, MAX_OFFERED)))
    note(sa.offer_frames, frame)
    return False


ENCRYPTED = (Encrypted, EncryptedFragment)
"""What stands behind one of these in a message was inside of it, and somebody decrypted it."""


def learn_inside(sa: IkeSa, header: IkeHeader, key: MessageKey, items: Sequence[Item]) -> None:
    """Add what was decrypted of one message to what is known of its SA."""
    said = [item.message for item in items]
    frame = items[0].frame
    for notify in said:
        if isinstance(notify, Notify) and len(sa.inner_notifies) < MAX_NOTIFIES:
            name = notify_name(notify.type, 2)
            sa.inner_notifies.append(InnerNotify(notify.type, name, key, header.response, frame))
    found = tuple(each for each in said if isinstance(each, Proposal) and each.protocol != 1)
    if not found or (key not in sa.children and len(sa.children) >= MAX_CHILDREN):
        return
    child = sa.children.setdefault(key, Child())
    if header.exchange == IKE_AUTH:
        child.mobike[header.response] = any(isinstance(each, Notify) and each.type == MOBIKE_SUPPORTED for each in said)
    if header.response:
        child.choice, child.chosen = found[0], usual(joined(found[0]))
        note(child.choice_frames, frame)
    else:
        combinations = itertools.chain.from_iterable(notations(each) for each in found)
        child.offers = found
        child.offered = tuple(dict.fromkeys(map(usual, itertools.islice(combinations, MAX_OFFERED))))
        note(child.offer_frames, frame)


def usual(notation: str) -> str:
    """A proposal for a tunnel without "noesn", which goes without saying."""
    return "-".join(word for word in notation.split("-") if word != "noesn")


def fragmented(sa: IkeSa, header: IkeHeader, key: MessageKey, message: EncryptedFragment, frame: Frame) -> None:
    """Add a fragment to the others of its message. A sender that tries smaller ones begins anew (RFC 7383, 2.5.2)."""
    known = sa.fragments.get((key, header.response))
    if known is None or known.total < message.total:
        known = Fragments(header.exchange, header.message_id, header.response, message.total)
        sa.fragments[key, header.response] = known
    if known.total == message.total:
        known.numbers.add(message.number)
        note(known.frames, frame)


def identity(message: Identification) -> str:
    """An identity as text: an address, a name, or hexadecimal."""
    if message.type in (1, 5) and len(message.data) in (4, 16):
        return str(ipaddress.ip_address(message.data))
    return decode_text(message.data) if message.type in (2, 3) else message.data[:64].hex()


def nat_hash(sa: IkeSa, hashes: NatHashes, address: str, port: int) -> bytes | None:
    """What a message must hash an end to if no NAT is between (RFC 7296, 2.23): SPIs, address, port.

    IKEv1 uses the hash of the proposal that was chosen (RFC 3947, 3.2); ``None``: that is not known.
    """
    algorithm = "sha1"
    if sa.major == 1:
        transforms = isakmp_transforms_of(sa.choice) if sa.choice else ()
        number = transforms[0].value(ISAKMP_HASH_ATTRIBUTE) if transforms else None
        if number not in ISAKMP_DIGESTS:
            return None
        algorithm = ISAKMP_DIGESTS[number]
    told = hashes.spis + ipaddress.ip_address(address).packed + port.to_bytes(2, "big")
    return hashlib.new(algorithm, told, usedforsecurity=False).digest()


def note(frames: list[Frame], frame: Frame) -> None:
    if len(frames) < MAX_FRAMES:
        frames.append(frame)


def exchange_name(major: int, kind: int) -> str:
    return EXCHANGES.get(major, {}).get(kind, f"exchange-{kind}")


def notify_name(kind: int, major: int) -> str:
    names = ISAKMP_NOTIFIES if major == 1 else NOTIFIES
    return names.get(kind, f"NOTIFY_{kind}")


# -- strongSwan's notation --------------------------------------------------------------------------------------


def isakmp_transforms_of(proposal: Proposal) -> list[IsakmpTransform]:
    return [each for each in proposal.transforms if isinstance(each, IsakmpTransform)]


@lru_cache(maxsize=1024)
def notations(proposal: Proposal) -> tuple[str, ...]:
    """A proposal as single combinations, ``aes128-sha256-ecp256``; as one joined form if there are too many."""
    groups = alternatives(proposal)
    count = 1
    for group in groups:
        count *= len(group)
    if any(isinstance(each, IsakmpTransform) for each in proposal.transforms):
        return tuple(
            dict.fromkeys(isakmp_notation(each) for each in proposal.transforms if isinstance(each, IsakmpTransform))
        )
    if count > MAX_COMBINATIONS:
        return (joined(proposal),)
    return tuple(combination(transforms) for transforms in itertools.product(*groups))


def alternatives(proposal: Proposal) -> list[list[Transform]]:
    """IKEv2 transforms by type, each a list of alternatives, in strongSwan's order of types."""
    by_type: dict[int, list[Transform]] = {}
    for each in proposal.transforms:
        if isinstance(each, Transform) and each not in by_type.setdefault(each.type, []):
            by_type[each.type].append(each)
    return [by_type[kind] for kind in sorted(by_type, key=lambda kind: ({INTEG: 1.5}.get(kind, kind), kind))]


def contains(proposal: Proposal, wanted: frozenset[str]) -> bool:
    """Whether a combination of a proposal's transforms has exactly these words, an implied PRF left out."""
    rest = set(wanted)
    prfs: list[str] = []
    integrity = 0
    for group in alternatives(proposal):
        kind = group[0].type
        if kind == PRF:
            prfs = [keyword(each) for each in group]
            continue
        fitting = [each for each in group if keyword(each) in rest]
        if len(fitting) > 1:
            return False
        if fitting:
            rest.discard(keyword(fitting[0]))
            integrity = fitting[0].id if kind == INTEG else integrity
        elif all(each.id for each in group) or kind == ENCR:
            return False
    implied = PSEUDO_RANDOM.get(IMPLIED_PRF.get(integrity, 0), "")
    if not rest:
        return not prfs or implied in prfs
    return len(rest) == 1 and rest <= set(prfs)


def combination(transforms: Sequence[Transform]) -> str:
    """One combination: at most one transform of each type."""
    integrity = next((each.id for each in transforms if each.type == INTEG), 0)
    implied = IMPLIED_PRF.get(integrity)
    words = (keyword(each) for each in transforms if not (each.type == PRF and each.id == implied))
    return "-".join(word for word in words if word)


@lru_cache(maxsize=1024)
def joined(proposal: Proposal) -> str:
    """A proposal in one string, with all transforms of each type: ``aes128-aes256-sha256-ecp256``."""
    plain = [each for each in proposal.transforms if isinstance(each, Transform)]
    if not plain:
        return "-".join(isakmp_notation(each) for each in proposal.transforms[:1] if isinstance(each, IsakmpTransform))
    implied = {IMPLIED_PRF.get(each.id) for each in plain if each.type == INTEG}
    said = implied != {each.id for each in plain if each.type == PRF}
    ordered = itertools.chain.from_iterable(alternatives(proposal))
    words = (keyword(each) for each in ordered if each.type != PRF or said)
    return "-".join(word for word in words if word)


def keyword(transform: Transform) -> str:
    """strongSwan's word for a transform; empty for "none", ``encr_99`` and the like for what it does not know."""
    kind, number = transform.type, transform.id
    bits = "" if transform.key_length is None else str(transform.key_length)
    if kind == ENCR:
        return ENCRYPTION[number].format(bits) if number in ENCRYPTION else f"encr_{number}"
    if kind == PRF:
        return PSEUDO_RANDOM.get(number, f"prf_{number}")
    if kind == INTEG:
        return INTEGRITY.get(number, f"integ_{number}") if number else ""
    if kind == KE:
        return GROUPS.get(number, f"ke_{number}") if number else ""
    if kind == ESN:
        return {0: "noesn", 1: "esn"}.get(number, f"esn_{number}")
    if 6 <= kind <= 12:  # Additional Key Exchange 1 to 7 (RFC 9370)
        return f"ke{kind - 5}_{GROUPS.get(number, number)}"
    return f"transform_{kind}_{number}"


def isakmp_notation(transform: IsakmpTransform) -> str:
    """An IKEv1 transform: encryption, hash and group; the authentication method has no word in the notation."""
    words = []
    encryption = transform.value(ISAKMP_ENCRYPTION_ATTRIBUTE)
    if encryption is not None:
        bits = transform.value(KEY_LENGTH)
        pattern = ISAKMP_ENCRYPTION.get(encryption, f"encr_{encryption}")
        words.append(pattern.format("" if bits is None else bits))
    hashing = transform.value(ISAKMP_HASH_ATTRIBUTE)
    if hashing is not None:
        words.append(ISAKMP_HASH.get(hashing, f"hash_{hashing}"))
    group = transform.value(ISAKMP_GROUP_ATTRIBUTE)
    if group is not None:
        words.append(GROUPS.get(group, f"ke_{group}"))
    return "-".join(words)
