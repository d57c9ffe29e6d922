"""Services of expected flows: whether a conversation has the transport and port of a row."""

from __future__ import annotations

from analyzer.conversations import Conversation
from analyzer.expected import ExpectedFlow
from analyzer.protocols import esp, ike
from analyzer.wire import Cause


def carries_esp(conversation: Conversation) -> bool:
    """Whether a conversation has ESP packets, bare or inside UDP (RFC 3948)."""
    if conversation.transport == "tcp":
        return False
    facts = conversation.dissection.facts
    if isinstance(facts, esp.EspFacts) and any(
        error.anomaly.cause is Cause.TRUNCATED for error in conversation.dissection.parse_errors
    ):
        return True  # the snap length cut off the SPIs
    return isinstance(facts, (esp.EspFacts, ike.IkeFacts)) and bool(facts.spis)


def may_carry_esp(conversation: Conversation) -> bool:
    """Whether a conversation is IKE or ESP inside UDP, and the snap length cut off what would tell them apart."""
    return (
        conversation.transport == "udp"
        and conversation.responder.port == esp.NAT_TRAVERSAL_PORT
        and conversation.protocol is None
        and all(len(datagram.data) < min(datagram.length, 4) for datagram in conversation.head.datagrams)
    )


def has_service(row: ExpectedFlow, conversation: Conversation) -> bool:
    """Whether a conversation has the transport and port of a row, whatever its ends."""
    if row.transport == "icmp":
        return conversation.transport in ("icmp", "icmpv6")
    if row.transport == "esp":
        # AH (IP protocol 51) in the place of ESP matches the row, and a check reports it as malformed.
        return conversation.transport in ("esp", "ip-51") or carries_esp(conversation) or may_carry_esp(conversation)
    if conversation.transport != row.transport:
        return False
    if row.protocol == ike.NAME and conversation.protocol == esp.NAME:
        return False
    return conversation.responder.port in row.ports
