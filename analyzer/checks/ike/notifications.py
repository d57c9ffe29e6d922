"""Checks of notifications: refusals, errors and redirections."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.checks.ike.policy import listed, sas_of
from analyzer.findings import Issue, Kind, Severity, check, cited_frames
from analyzer.matching import Match
from analyzer.protocols.ike.registry import (
    AUTHENTICATION_FAILED,
    FIRST_STATUS,
    INVALID_KE_PAYLOAD,
    NO_PROPOSAL_CHOSEN,
    REDIRECT,
)
from analyzer.wire import Cause

OTHER_CHECKS = (NO_PROPOSAL_CHOSEN, INVALID_KE_PAYLOAD, AUTHENTICATION_FAILED)
"""Errors that have a check of their own."""


@check("TPE205", "ike-no-proposal-chosen", Severity.MEDIUM, protocol="ike")
def no_proposal_chosen(match: Match) -> Iterator[Issue]:
    """Flags: NO_PROPOSAL_CHOSEN, in clear or where keys open it; low where the peers agreed on a proposal after all.

    Severity: low where a later exchange succeeded, medium otherwise.

    Why: The peers have no proposal in common for IKE or, inside IKE_AUTH, for ESP, so there is no tunnel.

    Evidence: The Notify payload of the response, with what had been offered.

    Remedy: Make the ike= and esp= lists of TPE and of the base station agree on a proposal of their rows.
    """
    yield from decrypted_refusal(match, NO_PROPOSAL_CHOSEN)
    yield from clear_refusal(match, NO_PROPOSAL_CHOSEN, name_offer=True)


@check("TPE206", "ike-invalid-ke-without-recovery", Severity.MEDIUM, protocol="ike")
def invalid_ke_without_recovery(match: Match) -> Iterator[Issue]:
    """Flags: INVALID_KE_PAYLOAD that no agreement follows in the flow. With a successful retry it is normal.

    Why: The responder asked for another key exchange group and the initiator did not offer it, so there is no tunnel.

    Evidence: The Notify payload of the IKE_SA_INIT response, with the group that the responder asks for.

    Remedy: Put a proposal with the responder's group, as the row lists it, into the initiator's ike= list.
    """
    sas = sas_of(match)
    refusals = [frame for sa in sas if sa.major == 2 for frame in sa.notified(INVALID_KE_PAYLOAD)]
    frames = cited_frames(refusals)
    errors = match.conversation.dissection.parse_errors
    unread = any(error.anomaly.cause is Cause.TRUNCATED and error.frame > frames[0] for error in errors if frames)
    if frames and not unread and not any(frame > frames[0] for sa in sas for frame in sa.choice_frames):
        yield Issue(
            "The responder refused the key exchange group with INVALID_KE_PAYLOAD, and nothing was agreed afterwards.",
            frames,
        )


@check("TPE207", "ike-authentication-failed", Severity.MEDIUM, protocol="ike")
def authentication_failed(match: Match) -> Iterator[Issue]:
    """Flags: AUTHENTICATION_FAILED, in clear or where keys open it.

    Severity: low where a later exchange succeeded, medium otherwise.

    Why: A peer rejects the other's identity, or somebody on the way pretends to be that peer: in IKEv2 the answer of
    the true peer is encrypted.

    Evidence: The Notify payload of an unencrypted message, or of one that was decrypted.

    Remedy: Check certificates, keys and identities on both ends, and who sent the frame.
    """
    yield from decrypted_refusal(match, AUTHENTICATION_FAILED)
    yield from clear_refusal(match, AUTHENTICATION_FAILED, name_offer=False)


def clear_refusal(match: Match, kind: int, name_offer: bool) -> Iterator[Issue]:
    """One issue for all clear error notifications of a type; low if an SA was agreed later in the flow."""
    sas = sas_of(match)
    refused = [sa for sa in sas if sa.notified(kind)]
    if not refused:
        return
    frames = cited_frames(frame for sa in refused for frame in sa.notified(kind))
    name = next(notify.name for notify in refused[0].notifies if notify.type == kind)
    offered = listed(proposal for sa in refused for proposal in sa.offered) if name_offer else ""
    clause = f"; {offered} had been offered" if offered else ""
    agreed = any(frame > frames[-1] for sa in sas for frame in sa.choice_frames)
    outcome = ", and a later exchange of the flow succeeded" if agreed else ""
    yield Issue(f"A peer refused with {name} in clear{clause}{outcome}.", frames, Severity.LOW if agreed else None)


def decrypted_refusal(match: Match, kind: int) -> Iterator[Issue]:
    """One issue for the decrypted error notifications of a type in the first SA with any; they refuse a child SA."""
    for sa in sas_of(match):
        refused = [notify for notify in sa.inner_notifies if notify.type == kind]
        if not refused:
            continue
        first, last = refused[0], refused[-1]
        child = sa.children.get(first.key)
        clause = f"; {listed(child.offered)} had been offered for the tunnel" if child and child.offered else ""
        agreed = any(frame > last.frame for other in sa.children.values() for frame in other.choice_frames)
        outcome = ", and a later exchange of the SA succeeded" if agreed else ""
        yield Issue(
            f"A peer refused with {first.name} inside {first.key}{clause}{outcome}.",
            cited_frames(notify.frame for notify in refused),
            Severity.LOW if agreed else None,
        )
        return


@check("TPE210", "ike-error-notify", Severity.LOW, protocol="ike")
def error_notify(match: Match) -> Iterator[Issue]:
    """Flags: other error notifications, in clear or where keys open them, such as TS_UNACCEPTABLE,
    INVALID_SYNTAX, INVALID_IKE_SPI or INVALID_MAJOR_VERSION.

    Why: A peer could not use what it received; after a restart of one peer INVALID_IKE_SPI is usual.

    Evidence: The Notify payloads of unencrypted messages, and of those that were decrypted.

    Remedy: Look into the log of the peer that sent the notification.
    """
    sas = sas_of(match)
    clear = [notify for sa in sas for notify in sa.notifies if is_other_error(notify.type)]
    if clear:
        names = ", ".join(dict.fromkeys(notify.name for notify in clear))
        yield Issue(f"A peer reported {names} in clear.", cited_frames(notify.frame for notify in clear))
    decrypted = [notify for sa in sas for notify in sa.inner_notifies if is_other_error(notify.type)]
    if decrypted:
        names = ", ".join(dict.fromkeys(f"{notify.name} inside {notify.key}" for notify in decrypted))
        yield Issue(f"A peer reported {names}.", cited_frames(notify.frame for notify in decrypted))


def is_other_error(kind: int) -> bool:
    return kind < FIRST_STATUS and kind not in OTHER_CHECKS


@check("TPE215", "ike-redirected", Severity.LOW, protocol="ike", kind=Kind.NOTICE)
def redirected(match: Match) -> Iterator[Issue]:
    """Flags: a responder that sends the initiator to another gateway (REDIRECT in clear, RFC 5685).

    Why: The base station leaves the gateway that it is configured for; nothing authenticates the redirection at this
    point, so anybody who sees the request can send it.

    Evidence: The REDIRECT notification of the IKE_SA_INIT response, with the new gateway.

    Remedy: Check that the gateway is TPE's; else set charon.follow_redirects = no and find out who sent the frame.
    """
    for sa in sas_of(match):
        if REDIRECT in sa.gateways:
            yield Issue(
                f"The responder redirects the initiator to {sa.gateways[REDIRECT]}, and nothing authenticates that.",
                cited_frames(sa.notified(REDIRECT)),
            )
            return
