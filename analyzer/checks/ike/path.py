"""Checks of the path between the peers: foreign datagrams, NATs, missing responses, lost fragments."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final

from analyzer.checks.ike.policy import MAX_NAMED, sas_of
from analyzer.findings import Issue, Kind, Severity, check, cited_frames
from analyzer.heads import Frame
from analyzer.matching import Match
from analyzer.messages import messages
from analyzer.protocols.esp import NAT_TRAVERSAL_PORT, EspPacket
from analyzer.protocols.ike import AUTHENTICATED
from analyzer.protocols.ike.sa import nat_hash

LEAST_TRANSMISSIONS: Final = 3
"""Transmissions of a request after which any peer that is reachable has answered."""


@check("TPE212", "ike-foreign-datagram", Severity.MEDIUM, protocol="ike")
def foreign_datagram(match: Match) -> Iterator[Issue]:
    """Flags: datagrams in an IKE flow on UDP/500 that are not IKE messages.

    Why: Port 500 carries IKE only; ESP and keepalives have their place on UDP/4500.

    Evidence: Datagrams without the shape of an IKE header.

    Remedy: Find out which program uses the IKE port beside the IPsec daemon.
    """
    if NAT_TRAVERSAL_PORT in match.conversation.head.ports:
        return
    frames = [item.frame for item, _ in messages(match.conversation.dissection.items, EspPacket)]
    if frames:
        yield Issue(
            f"The flow on the IKE port carries {len(frames)} datagram{'s' if len(frames) > 1 else ''}"
            " beside IKE that are no IKE messages.",
            cited_frames(frames),
        )


@check("TPE213", "ike-nat-in-path", Severity.INFO, protocol="ike", kind=Kind.NOTICE)
def nat_in_path(match: Match) -> Iterator[Issue]:
    """Flags: a translation of addresses (NAT) on the way, and whose address is translated.

    Why: Each peer sends hashes of the addresses and ports that it knows (RFC 7296, 2.23; RFC 3947); where they differ
    from those of the captured packet, a NAT is between, and ESP then has to go inside UDP/4500. A peer that wants
    ESP inside UDP without any NAT sends a wrong hash of its own address, which looks like a NAT in front of it.

    Evidence: The hashes of NAT_DETECTION_SOURCE_IP and NAT_DETECTION_DESTINATION_IP, or of NAT-D in IKEv1.

    Remedy: None is needed; a host that is known to have no NAT in front of it may be forcing UDP encapsulation.
    """
    ends = (match.conversation.originator, match.conversation.responder)
    certain: dict[str, list[Frame]] = {}
    possible: dict[str, list[Frame]] = {}
    for sa in sas_of(match):
        for hashes in sa.nat:
            sender, receiver = ends[hashes.direction], ends[1 - hashes.direction]
            source = nat_hash(sa, hashes, sender.address, sender.port or 0)
            destination = nat_hash(sa, hashes, receiver.address, receiver.port or 0)
            if hashes.destination and destination is not None and destination not in hashes.destination:
                clause = f"{receiver.address} is translated between the capture point and {sender.address}"
                certain.setdefault(clause, []).append(hashes.frame)
            if hashes.source and source is not None and source not in hashes.source:
                clause = f"{sender.address} is translated before the capture point, or forces UDP encapsulation"
                possible.setdefault(clause, []).append(hashes.frame)
    frames = cited_frames(chain(*certain.values(), *possible.values()))
    if len(certain) == len(possible) == len(ends):
        yield Issue("No peer hashes an address of the packets: NATs at both ends, or addresses made anonymous.", frames)
    elif certain or possible:
        subject = "A NAT is in the path" if certain else "A NAT may be in the path"
        yield Issue(f"{subject}: {'; '.join((*certain, *possible))}.", frames)


@check("TPE214", "ike-request-unanswered", Severity.LOW, protocol="ike", kind=Kind.NOTICE)
def request_unanswered(match: Match) -> Iterator[Issue]:
    """Flags: a request of an established IKE SA that is sent at least three times and never answered.

    Why: Each request has a response (RFC 7296, 2.1); a peer that stays silent is gone, has lost its state, or does not
    receive: the tunnel goes down once the sender gives up.

    Evidence: Requests with the same message id, and no response with it among the messages that were kept.

    Remedy: Look at the peer's log and state, and whether its packets reach the capture point.
    """
    for sa in sas_of(match):
        unanswered = [
            key
            for key in sa.unanswered
            if key.exchange in AUTHENTICATED and len(sa.requests[key]) >= LEAST_TRANSMISSIONS
        ]
        if unanswered:
            requests = ", ".join(map(str, unanswered[:MAX_NAMED]))
            frames = cited_frames(frame for key in unanswered for frame in sa.requests[key])
            yield Issue(f"Nobody answers {requests}.", frames)
            return


@check("TPE218", "ike-fragments-lost", Severity.LOW, protocol="ike", kind=Kind.NOTICE)
def fragments_lost(match: Match) -> Iterator[Issue]:
    """Flags: an IKE message in fragments (RFC 7383) of which some never appear, and which is not answered.

    Why: The receiver can only use the whole message; fragments that get lost again and again are too long for the path,
    or something on the way drops them.

    Evidence: The fragment numbers and totals of the encrypted fragments, by message id.

    Remedy: Set charon.fragment_size to less than the path carries, and look for a firewall that drops fragments.
    """
    for sa in sas_of(match):
        for (key, response), fragments in sa.fragments.items():
            if fragments.complete or response or key in sa.responses:
                continue
            missing = sorted(set(range(1, fragments.total + 1)) - fragments.numbers)
            numbers = ", ".join(map(str, missing[:MAX_NAMED])) + (" …" if len(missing) > MAX_NAMED else "")
            yield Issue(
                f"Of {key}, in {fragments.total} fragments, these never appear: {numbers}; it is not answered.",
                cited_frames(fragments.frames),
            )
            return
