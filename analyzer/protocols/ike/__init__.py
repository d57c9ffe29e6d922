"""Internet Key Exchange over UDP/500 and 4500: version 2 (RFC 7296, 7383, 9370) and version 1 (RFC 2408, 2409, 3947).

A datagram is an IKE message, an IKE message after a non-ESP marker of four zero bytes, an ESP packet inside UDP, or a
NAT keepalive (RFC 3948).

``registry`` names code points, ``proposals`` reads and writes proposals in strongSwan's notation, ``messages`` reads
datagrams, ``sa`` follows SAs across messages, ``session`` states the facts of a flow.
"""

from __future__ import annotations

from typing import Final

from analyzer.protocols.ike.messages import (
    Encrypted,
    EncryptedFragment,
    IkeHeader,
    Nonce,
    dissect,
    probe,
    read_decrypted,
)
from analyzer.protocols.ike.proposals import Proposal, Transform, keyword
from analyzer.protocols.ike.registry import (
    AUTHENTICATED,
    ENCR,
    ENCRYPTION,
    IKE_AUTH,
    IKE_INTERMEDIATE,
    IKE_SA_INIT,
    INTEG,
    KE,
    PRF,
)
from analyzer.protocols.ike.sa import IkeSa, messages_of
from analyzer.protocols.ike.session import IkeFacts, SaFacts, facts

__all__ = [
    "AUTHENTICATED",
    "ENCR",
    "ENCRYPTION",
    "IKE_AUTH",
    "IKE_INTERMEDIATE",
    "IKE_SA_INIT",
    "INTEG",
    "KE",
    "NAME",
    "PRF",
    "Encrypted",
    "EncryptedFragment",
    "IkeFacts",
    "IkeHeader",
    "IkeSa",
    "Nonce",
    "Proposal",
    "SaFacts",
    "Transform",
    "dissect",
    "facts",
    "keyword",
    "messages_of",
    "probe",
    "read_decrypted",
]

NAME: Final = "ike"
