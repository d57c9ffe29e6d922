"""Names of TLS code points: IANA's registries "TLS Parameters" and "TLS Extensions", and the paper on SSL 2.0.

A code point without a name is shown as a hexadecimal number; it never stops a dissection.
"""

from __future__ import annotations

import enum
from functools import cache
from pathlib import Path
from typing import Final


class ContentType(enum.IntEnum):
    """RFC 8446, appendix B.1; RFC 6520, section 3."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23
    HEARTBEAT = 24


class HandshakeType(enum.IntEnum):
    """RFC 8446, appendix B.3, and the values of older versions."""

    HELLO_REQUEST = 0
    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    HELLO_VERIFY_REQUEST = 3
    NEW_SESSION_TICKET = 4
    END_OF_EARLY_DATA = 5
    HELLO_RETRY_REQUEST = 6
    ENCRYPTED_EXTENSIONS = 8
    CERTIFICATE = 11
    SERVER_KEY_EXCHANGE = 12
    CERTIFICATE_REQUEST = 13
    SERVER_HELLO_DONE = 14
    CERTIFICATE_VERIFY = 15
    CLIENT_KEY_EXCHANGE = 16
    FINISHED = 20
    CERTIFICATE_URL = 21
    CERTIFICATE_STATUS = 22
    SUPPLEMENTAL_DATA = 23
    KEY_UPDATE = 24
    COMPRESSED_CERTIFICATE = 25


class ExtensionType(enum.IntEnum):
    """The extensions that are read; all others are skipped by their length."""

    SERVER_NAME = 0
    STATUS_REQUEST = 5
    SUPPORTED_GROUPS = 10
    EC_POINT_FORMATS = 11
    SIGNATURE_ALGORITHMS = 13
    APPLICATION_LAYER_PROTOCOL_NEGOTIATION = 16
    SESSION_TICKET = 35
    PRE_SHARED_KEY = 41
    SUPPORTED_VERSIONS = 43
    KEY_SHARE = 51


HANDSHAKE_NAMES: Final = {int(kind): kind.name.lower() for kind in HandshakeType}
EXTENSION_NAMES: Final = {int(kind): kind.name.lower() for kind in ExtensionType}

SSL_2_0: Final = 0x0002
SSL_3_0: Final = 0x0300
TLS_1_0: Final = 0x0301
TLS_1_1: Final = 0x0302
TLS_1_2: Final = 0x0303
TLS_1_3: Final = 0x0304

VERSIONS: Final = {
    SSL_2_0: "SSL 2.0",
    SSL_3_0: "SSL 3.0",
    TLS_1_0: "TLS 1.0",
    TLS_1_1: "TLS 1.1",
    TLS_1_2: "TLS 1.2",
    TLS_1_3: "TLS 1.3",
}

SSL2_CIPHER_KINDS: Final = {
    0x010080: "SSL_CK_RC4_128_WITH_MD5",
    0x020080: "SSL_CK_RC4_128_EXPORT40_WITH_MD5",
    0x030080: "SSL_CK_RC2_128_CBC_WITH_MD5",
    0x040080: "SSL_CK_RC2_128_CBC_EXPORT40_WITH_MD5",
    0x050080: "SSL_CK_IDEA_128_CBC_WITH_MD5",
    0x060040: "SSL_CK_DES_64_CBC_WITH_MD5",
    0x0700C0: "SSL_CK_DES_192_EDE3_CBC_WITH_MD5",
}

GROUPS: Final = {
    1: "sect163k1",
    2: "sect163r1",
    3: "sect163r2",
    4: "sect193r1",
    5: "sect193r2",
    6: "sect233k1",
    7: "sect233r1",
    8: "sect239k1",
    9: "sect283k1",
    10: "sect283r1",
    11: "sect409k1",
    12: "sect409r1",
    13: "sect571k1",
    14: "sect571r1",
    15: "secp160k1",
    16: "secp160r1",
    17: "secp160r2",
    18: "secp192k1",
    19: "secp192r1",
    20: "secp224k1",
    21: "secp224r1",
    22: "secp256k1",
    23: "secp256r1",
    24: "secp384r1",
    25: "secp521r1",
    26: "brainpoolP256r1",
    27: "brainpoolP384r1",
    28: "brainpoolP512r1",
    29: "x25519",
    30: "x448",
    256: "ffdhe2048",
    257: "ffdhe3072",
    258: "ffdhe4096",
    259: "ffdhe6144",
    260: "ffdhe8192",
    4587: "SecP256r1MLKEM768",
    4588: "X25519MLKEM768",
    25497: "X25519Kyber768Draft00",
}

KNOWN_CLIENTS: Final = {
    "14a4b22e64580299d355a3a5449ef7be": "Basics Station 2.0.6 with mbedTLS 2.28.0",
    "f00830f0798c3ff54397804fb9490ea8": "Basics Station 2.0.6 with mbedTLS 2.28.0",
}
"""JA3 of a ClientHello, with and without server name → software: lorabasics/basicstation 2.0.6 from its own build
(deps/mbedtls/prep.sh). Vendors build it differently, and other software may send the same hello."""

ALERTS: Final = {
    0: "close_notify",
    1: "end_of_early_data",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    30: "decompression_failure",
    40: "handshake_failure",
    41: "no_certificate",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    60: "export_restriction",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    111: "certificate_unobtainable",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    114: "bad_certificate_hash_value",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
    121: "ech_required",
}


def version_name(version: int) -> str:
    """``TLS 1.2``, ``TLS 1.3 draft 28``, or the number if there is no name."""
    if version >> 8 == 0x7F:
        return f"TLS 1.3 draft {version & 0xFF}"
    return VERSIONS.get(version, f"0x{version:04x}")


def version_rank(version: int) -> tuple[int, int]:
    """Sort key from old to new versions; the drafts of TLS 1.3 come between TLS 1.2 and TLS 1.3."""
    return (TLS_1_2, version & 0xFF) if version >> 8 == 0x7F else (version, 0)


def cipher_suite_name(suite: int) -> str:
    """IANA's name of a cipher suite (two bytes), or the number if it has none."""
    return cipher_suites().get(suite, f"0x{suite:04x}")


def cipher_kind_name(kind: int) -> str:
    """Name of a cipher kind of SSL 2.0 (three bytes); one below 0x010000 is a cipher suite of SSL 3.0 and later."""
    if kind < 0x10000:
        return cipher_suite_name(kind)
    return SSL2_CIPHER_KINDS.get(kind, f"0x{kind:06x}")


@cache
def cipher_suites() -> dict[int, str]:
    """Cipher suite → name; read from a file at the first call."""
    table = Path(__file__).with_name("cipher_suites.csv").read_text(encoding="ascii")
    rows = (line.split(",") for line in table.splitlines()[1:])
    return {int(value, 16): name for value, name in rows}


def group_name(group: int) -> str:
    return GROUPS.get(group, f"0x{group:04x}")


def is_grease(value: int) -> bool:
    """Whether a two-byte value is a GREASE value (RFC 8701): 0x0a0a, 0x1a1a … 0xfafa."""
    return value & 0x0F0F == 0x0A0A and value >> 8 == value & 0xFF
