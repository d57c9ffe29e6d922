"""How the certificates of a chain, as a server sends it, follow each other."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from analyzer.protocols.tls.certificates import is_signed_by, read_certificate

MAX_CHAIN: Final = 10
"""Certificates of a chain that are examined: OpenSSL's former limit of 9 issuers and the server's own."""


class Link(enum.Enum):
    """How a certificate relates to the next one, which must certify it directly (RFC 5246, section 7.4.2)."""

    SIGNED = "signed"
    """Signed with the key of the next certificate."""
    UNVERIFIED = "unverified"
    """Unknown: one of both certificates is unreadable, or the signature algorithm is not supported."""
    FORGED = "forged"
    """Names the next certificate as issuer, but is not signed with its key."""
    ELSEWHERE = "elsewhere"
    """Signed with the key of another certificate of the chain, or with its own."""
    UNRELATED = "unrelated"
    """Signed with the key of no certificate of the chain."""


@lru_cache(maxsize=256)
def chain_links(chain: tuple[bytes, ...]) -> tuple[Link, ...]:
    """The link from each DER certificate of a chain to the next one."""
    return tuple(link(chain, position) for position in range(min(len(chain), MAX_CHAIN) - 1))


def link(chain: tuple[bytes, ...], position: int) -> Link:
    own, following = read_certificate(chain[position]), read_certificate(chain[position + 1])
    if own.issuer is None or following.subject is None:
        return Link.UNVERIFIED
    is_named = own.issuer == following.subject
    verified = is_signed_by(chain[position], chain[position + 1]) if is_named else False
    if verified:
        return Link.SIGNED
    namesakes = (data for data in chain[:MAX_CHAIN] if own.issuer == read_certificate(data).subject)
    if any(is_signed_by(chain[position], namesake) for namesake in namesakes):
        return Link.ELSEWHERE
    if not is_named:
        return Link.UNRELATED
    return Link.UNVERIFIED if verified is None else Link.FORGED


def describe(links: Sequence[Link]) -> str | None:
    """``ordered``: each certificate is signed by the next; ``unordered``: all signers are in the chain; ``broken``: one
    is not. ``None``: fewer than two certificates, or unknown."""
    if not links or Link.UNVERIFIED in links:
        return None
    if all(link is Link.SIGNED for link in links):
        return "ordered"
    return "unordered" if all(link in (Link.SIGNED, Link.ELSEWHERE) for link in links) else "broken"
