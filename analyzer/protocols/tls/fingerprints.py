"""JA3 and JA4 fingerprints of a ClientHello, which identify TLS client software.

JA3: github.com/salesforce/ja3; JA4: github.com/FoxIO-LLC/ja4. Both leave out GREASE (RFC 8701).
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from analyzer.protocols.tls.handshake import Extensions
from analyzer.protocols.tls.registry import (
    SSL_2_0,
    SSL_3_0,
    TLS_1_0,
    TLS_1_1,
    TLS_1_2,
    TLS_1_3,
    ExtensionType,
    is_grease,
    version_rank,
)

JA4_VERSIONS: Final = {TLS_1_3: "13", TLS_1_2: "12", TLS_1_1: "11", TLS_1_0: "10", SSL_3_0: "s3", SSL_2_0: "s2"}
NOT_HASHED_BY_JA4: Final = (ExtensionType.SERVER_NAME, ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION)
"""Extensions left out of JA4's third part, because a client sends them to some servers only."""


@lru_cache(maxsize=256)
def fingerprints(
    version: int, suites: tuple[int, ...], extensions: Extensions, versions: tuple[int, ...], first_protocol: bytes
) -> tuple[str, str]:
    """JA3 and JA4 of a ClientHello. Cached, because clients of one make send the same hello.

    ``versions``: the supported_versions extension; ``first_protocol``: the first one of ALPN; empty if absent.
    """
    suites = without_grease(suites)
    types = without_grease(extensions.types)
    return ja3(version, suites, types, extensions), ja4(version, suites, types, extensions, versions, first_protocol)


def ja3(version: int, suites: tuple[int, ...], types: tuple[int, ...], extensions: Extensions) -> str:
    groups = without_grease(extensions.supported_groups)
    lists = (suites, types, groups, extensions.ec_point_formats)
    text = ",".join((str(version), *("-".join(map(str, values)) for values in lists)))
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def ja4(
    version: int,
    suites: tuple[int, ...],
    types: tuple[int, ...],
    extensions: Extensions,
    versions: tuple[int, ...],
    first_protocol: bytes,
) -> str:
    highest = max(without_grease(versions), key=version_rank, default=version)
    has_server_name = "d" if ExtensionType.SERVER_NAME in types else "i"
    start = (
        f"t{JA4_VERSIONS.get(highest, '00')}{has_server_name}"
        f"{min(len(suites), 99):02}{min(len(types), 99):02}{first_and_last(first_protocol)}"
    )
    hashed_types = ",".join(sorted(f"{kind:04x}" for kind in types if kind not in NOT_HASHED_BY_JA4))
    algorithms = ",".join(f"{algorithm:04x}" for algorithm in without_grease(extensions.signature_algorithms))
    hashed_extensions = hashed_types + (f"_{algorithms}" if algorithms else "") if types else ""
    hashed_suites = ",".join(sorted(f"{suite:04x}" for suite in suites))
    return "_".join((start, truncated_hash(hashed_suites), truncated_hash(hashed_extensions)))


def first_and_last(protocol: bytes) -> str:
    """First and last character of an ALPN protocol; of its hexadecimal digits if they are not alphanumeric."""
    if not protocol:
        return "00"
    is_readable = protocol[:1].isalnum() and protocol[-1:].isalnum() and protocol.isascii()
    characters = protocol.decode("ascii") if is_readable else protocol.hex()
    return characters[0] + characters[-1]


def truncated_hash(text: str) -> str:
    """First 12 hexadecimal digits of the SHA-256 hash; zeros for an empty text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else "0" * 12


def without_grease(values: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(value for value in values if not is_grease(value))
