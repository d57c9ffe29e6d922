"""Names of IKE code points: IANA's registries "IKEv2 Parameters" and "IPSEC", and vendor IDs in use.

A code point without a name is shown as a number; it never stops a dissection.
"""

from __future__ import annotations

import enum
import hashlib
from typing import Final

# -- exchanges --------------------------------------------------------------------------------------------------

MAIN_MODE, AGGRESSIVE_MODE = 2, 4
IKE_SA_INIT, IKE_AUTH, CREATE_CHILD_SA, INFORMATIONAL, IKE_INTERMEDIATE, IKE_FOLLOWUP_KE = 34, 35, 36, 37, 43, 44

OPENING_EXCHANGES: Final = {1: (1, MAIN_MODE, AGGRESSIVE_MODE), 2: (IKE_SA_INIT,)}
"""Major version → exchanges that negotiate an IKE SA in clear."""
AUTHENTICATED: Final = (CREATE_CHILD_SA, INFORMATIONAL, IKE_FOLLOWUP_KE)
"""IKEv2 exchanges that require an established IKE SA (RFC 7296, sections 1.3 and 1.4; RFC 9370, section 2.2.4)."""

EXCHANGES: Final = {
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
"""Major version → exchange type → name (RFC 2408, section 3.1; IANA "IKEv2 Exchange Types")."""

FLAGS: Final = {1: 0x07, 2: 0x38}
"""Major version → all flags that it defines (RFC 2408, section 3.1; RFC 7296, section 3.1)."""
ENCRYPTED_FLAG: Final = 0x01
"""IKEv1: all payloads of the message are encrypted."""
INITIATOR_FLAG: Final = 0x08
"""IKEv2: the original initiator of the IKE SA sent the message."""
RESPONSE_FLAG: Final = 0x20
"""IKEv2."""

# -- payloads ---------------------------------------------------------------------------------------------------


class PayloadType(enum.IntEnum):
    """IKEv2 payloads that are read (RFC 7296, section 3.2; RFC 7383, section 2.5)."""

    SECURITY_ASSOCIATION = 33
    KEY_EXCHANGE = 34
    ID_INITIATOR = 35
    ID_RESPONDER = 36
    CERTIFICATE_REQUEST = 38
    NONCE = 40
    NOTIFY = 41
    DELETE = 42
    VENDOR_ID = 43
    ENCRYPTED = 46
    ENCRYPTED_FRAGMENT = 53


class IsakmpPayloadType(enum.IntEnum):
    """IKEv1 payloads that are read (RFC 2408, section 3.1; RFC 3947, section 3.2; MS-IKEE, section 2.2)."""

    SECURITY_ASSOCIATION = 1
    KEY_EXCHANGE = 4
    IDENTIFICATION = 5
    CERTIFICATE_REQUEST = 7
    NONCE = 10
    NOTIFICATION = 11
    DELETE = 12
    VENDOR_ID = 13
    NAT_DETECTION = 20
    NAT_DETECTION_DRAFT = 130
    FRAGMENT = 132


FIRST_PAYLOADS: Final = {1: (*range(22), *range(128, 140)), 2: (0, *range(33, 55))}
"""Major version → payload types that a message may begin with; 0: no payload."""

# -- transforms of IKEv2 ----------------------------------------------------------------------------------------

ENCR, PRF, INTEG, KE, ESN = 1, 2, 3, 4, 5
"""Transform types (RFC 7296, section 3.3.2)."""
KEY_LENGTH: Final = 14
"""Attribute type of the key length in bits, of both versions."""

ENCRYPTION: Final = {
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
"""Transform IDs of type 1; the braces take the key length in bits."""

PSEUDO_RANDOM: Final = {
    1: "prfmd5",
    2: "prfsha1",
    4: "prfaesxcbc",
    5: "prfsha256",
    6: "prfsha384",
    7: "prfsha512",
    8: "prfaescmac",
}
"""Transform IDs of type 2."""

INTEGRITY: Final = {
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
"""Transform IDs of type 3."""

IMPLIED_PRF: Final = {1: 1, 2: 2, 5: 4, 6: 1, 7: 2, 8: 8, 12: 5, 13: 6, 14: 7}
"""Integrity algorithm → PRF of the same hash or cipher, which strongSwan's notation leaves out."""

GROUPS: Final = {
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
"""Transform IDs of type 4, "Key Exchange Methods"."""

KEY_EXCHANGE_LENGTHS: Final = {
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
"""Key exchange method → bytes of key exchange data (RFC 7296, section 3.4; RFC 5903; RFC 6954; RFC 8031).

ML-KEM: bytes in the request and in the response (FIPS 203, table 3).
"""

# -- attributes of IKEv1 ----------------------------------------------------------------------------------------

ISAKMP_ENCRYPTION_ATTRIBUTE, ISAKMP_HASH_ATTRIBUTE, ISAKMP_AUTHENTICATION_ATTRIBUTE, ISAKMP_GROUP_ATTRIBUTE = 1, 2, 3, 4
"""Attribute types (RFC 2409, appendix A)."""

ISAKMP_ENCRYPTION: Final = {
    1: "des",
    2: "idea",
    3: "blowfish{}",
    4: "rc5",
    5: "3des",
    6: "cast{}",
    7: "aes{}",
    8: "camellia{}",
}
"""Values of the encryption attribute; the braces take the key length in bits."""

ISAKMP_HASH: Final = {1: "md5", 2: "sha1", 3: "tiger", 4: "sha256", 5: "sha384", 6: "sha512"}
"""Values of the hash attribute."""
ISAKMP_DIGESTS: Final = {1: "md5", 2: "sha1", 4: "sha256", 5: "sha384", 6: "sha512"}
"""Values of the hash attribute → name of the algorithm in :mod:`hashlib`."""

ISAKMP_AUTHENTICATION: Final = {
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
"""Values of the authentication attribute (IANA "IPSEC Authentication Methods").

The private values are those of draft-ietf-ipsec-isakmp-xauth and draft-ietf-ipsec-isakmp-hybrid-auth.
"""

# -- notifications ----------------------------------------------------------------------------------------------

NO_PROPOSAL_CHOSEN, INVALID_KE_PAYLOAD, AUTHENTICATION_FAILED = 14, 17, 24
NAT_DETECTION_SOURCE_IP, NAT_DETECTION_DESTINATION_IP = 16388, 16389
COOKIE, MOBIKE_SUPPORTED, REDIRECT, REDIRECTED_FROM = 16390, 16396, 16407, 16408
FIRST_STATUS: Final = 16384
"""Lower notify message types report errors (RFC 7296, section 3.10.1; RFC 2408, section 3.14.1)."""
NOTIFICATION_SIZES: Final = {
    INVALID_KE_PAYLOAD: (2, 2),
    NAT_DETECTION_SOURCE_IP: (20, 20),
    NAT_DETECTION_DESTINATION_IP: (20, 20),
    COOKIE: (1, 64),
}
"""IKEv2 notify message type → least and most bytes of Notification Data (RFC 7296, sections 1.3, 2.6 and 2.23)."""
GATEWAY_SIZES: Final = {1: 4, 2: 16}
"""GW Ident Type → bytes of the address (RFC 5685, section 6.1); type 3 is an FQDN of any length."""

NOTIFIES: Final = {
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

ISAKMP_NOTIFIES: Final = {
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
"""RFC 2408, section 3.14.1; RFC 2407, section 4.6.3; RFC 3706."""

# -- vendor IDs -------------------------------------------------------------------------------------------------

HASHED_VENDOR_NAMES: Final = (
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
"""Texts; the vendor ID is the MD5 digest."""
VENDORS: Final = {
    **{hashlib.md5(name.encode(), usedforsecurity=False).digest(): name.strip() for name in HASHED_VENDOR_NAMES},
    bytes.fromhex("09002689dfd6b712"): "XAUTH",
    bytes.fromhex("afcad71368a1f1c96b8696fc7757"): "RFC 3706 (dead peer detection)",
    bytes.fromhex("12f5f28c457168a9702d9fe274cc"): "Cisco Unity",
    bytes.fromhex("1f07f70eaa6514d3b0fa96542a50"): "Cisco VPN 3000",
    bytes.fromhex("1e2b516905991c7d7c96fcbfb587e461"): "Microsoft Windows",
    bytes.fromhex("f4ed19e0c114eb516faaac0ee37daf2807b4381f"): "Check Point",
    bytes.fromhex("8299031757a36082c6a621de"): "Fortinet FortiGate",
}
"""First bytes of a vendor ID → what it announces."""
VENDOR_PREFIX_LENGTHS: Final = tuple(sorted({len(prefix) for prefix in VENDORS}, reverse=True))


def exchange_name(major: int, exchange: int) -> str:
    return EXCHANGES.get(major, {}).get(exchange, f"exchange-{exchange}")


def notify_name(major: int, kind: int) -> str:
    names = ISAKMP_NOTIFIES if major == 1 else NOTIFIES
    return names.get(kind, f"NOTIFY_{kind}")


def group_name(group: int) -> str:
    """Name of a key exchange method; ``ke_99`` if it has none."""
    return GROUPS.get(group, f"ke_{group}")


def vendor_name(vendor_id: bytes) -> str | None:
    """What a known vendor ID announces; ``None`` for any other."""
    prefixes = (vendor_id[:length] for length in VENDOR_PREFIX_LENGTHS)
    return next((VENDORS[prefix] for prefix in prefixes if prefix in VENDORS), None)
