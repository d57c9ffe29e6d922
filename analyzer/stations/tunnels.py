"""The inside of IPsec tunnels, where the capture shows it."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.conversations import Conversation
from analyzer.services import carries_esp


def inside_tunnel(conversations: Sequence[Conversation]) -> frozenset[int]:
    """Ids of conversations captured inside an IPsec tunnel, on the virtual interface of one of its ends.

    A capture on all interfaces of a base station shows the packets of the tunnel twice: as ESP on a network card, and
    in clear on an interface without link-layer addresses. The second copy is not cleartext beside the tunnel. Packets
    to or from an end of the tunnel itself never travel inside it, even if the uplink has no link-layer addresses.
    """
    tunnels = [flow for flow in conversations if flow.transport == "esp" or carries_esp(flow)]
    if not any(any(tunnel.macs) for tunnel in tunnels):
        return frozenset()
    ends = {end.address for tunnel in tunnels for end in (tunnel.originator, tunnel.responder)}
    return frozenset(
        flow.id
        for flow in conversations
        if flow.macs == (None, None) and ends.isdisjoint((flow.originator.address, flow.responder.address))
    )
