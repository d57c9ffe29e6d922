"""Checks of the child SAs and of MOBIKE, which only decrypted exchanges show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analyzer.checks.ike.policy import WEAK, keywords, listed, sas_of
from analyzer.conversations import Conversation
from analyzer.expected import ExpectedFlow
from analyzer.findings import CAPTURE, AuditContext, Issue, Kind, Severity, check, cited_frames, frames_filter
from analyzer.heads import Frame
from analyzer.matching import Match, StationMatches
from analyzer.protocols.esp import EspFacts
from analyzer.protocols.ike import IKE_AUTH, NAME, IkeFacts
from analyzer.protocols.ike.registry import GROUPS
from analyzer.protocols.ike.sa import Child


@check("TPE220", "ike-auth-encrypted", Severity.INFO, protocol="ike", kind=Kind.NOTICE)
def auth_encrypted(match: Match) -> Iterator[Issue]:
    """Flags: an IKE_AUTH exchange that nobody decrypted.

    Why: It negotiates ESP and says whether the peers support MOBIKE, and it is encrypted: both stay unjudged.

    Evidence: The messages of the exchange, whose payloads are encrypted.

    Remedy: Give the SA's keys with --ike-keys; strongSwan's save-keys plugin writes them.
    """
    hidden = [sa for sa in sas_of(match) if sa.major == 2 and IKE_AUTH in sa.exchanges and not sa.children]
    if hidden and not any(sa.inner_notifies for sa in hidden):
        requests = (frames for sa in hidden for key, frames in sa.requests.items() if key.exchange == IKE_AUTH)
        yield Issue(
            "IKE_AUTH is encrypted: which ESP proposal the peers agreed on, and whether they support MOBIKE, cannot be"
            " seen without keys.",
            cited_frames(frame for frames in requests for frame in frames),
        )


@check("TPE230", "ike-mobike-unsupported", Severity.LOW, protocol="ike")
def mobike_unsupported(match: Match) -> Iterator[Issue]:
    """Flags: a peer that does not say in IKE_AUTH that it supports MOBIKE, where keys open it.

    Why: The row names MOBIKE (RFC 4555): without it the tunnel does not survive a change of the base station's address,
    as from Ethernet to a cellular link.

    Evidence: The IKE_AUTH messages that negotiate the tunnel, without the notification MOBIKE_SUPPORTED.

    Remedy: Set mobike=yes (the default) on TPE and on the base station.
    """
    if "MOBIKE" not in match.row.service:
        return
    lacking: dict[str, list[Frame]] = {}
    for child in (child for sa in sas_of(match) for child in sa.children.values()):
        for response, supported in child.mobike.items():
            if not supported:
                side, frames = ("responder", child.choice_frames) if response else ("initiator", child.offer_frames)
                lacking.setdefault(side, []).extend(frames)
    if lacking:
        subject = "Neither peer supports" if len(lacking) == 2 else f"The {next(iter(lacking))} does not support"
        yield Issue(f"{subject} MOBIKE.", cited_frames(frame for frames in lacking.values() for frame in frames))


# -- ESP proposals ----------------------------------------------------------------------------------------------


@check("TPE228", "esp-chosen-proposal-not-allowed", Severity.HIGH, scope=CAPTURE, kind=Kind.MALFORMED)
def esp_chosen_proposal_not_allowed(context: AuditContext) -> Iterator[Issue]:
    """Flags: a responder that chose an ESP proposal which the row does not list, where keys open the exchange.

    Why: What was chosen protects all that the tunnel carries. Extended sequence numbers and a key exchange of the
    tunnel's own are not asked for, and do no harm.

    Evidence: The SA payload of the decrypted IKE_AUTH or CREATE_CHILD_SA response.

    Remedy: Set esp= on TPE and on the base station to the proposals of the row, with a trailing "!" to be strict.
    """
    for matches, row, conversation, child in negotiations(context):
        if child.chosen and not is_esp_allowed(child.chosen, row.esp_proposals):
            weak = sorted(word for word in esp_keywords(child.chosen) if word in WEAK)
            reasons = "".join(f"; {word} {WEAK[word]}" for word in weak)
            frames = cited_frames(child.choice_frames)
            yield Issue(
                f"The responder chose the ESP proposal {child.chosen}, which is not one of"
                f" {', '.join(row.esp_proposals)}{reasons}.",
                base_station=matches.station.address,
                rows=(row.id,),
                conversations=carriers(matches, row, conversation, child),
                frames=frames,
                filter=frames_filter(frames),
            )


@check("TPE229", "esp-proposal-offered-not-allowed", Severity.HIGH, scope=CAPTURE, kind=Kind.MALFORMED)
def esp_proposal_offered_not_allowed(context: AuditContext) -> Iterator[Issue]:
    """Flags: ESP proposals that are offered and that the row does not list, where keys open the exchange: high if all
    are such, low beside allowed ones.

    Severity: high where all offers are outside the row's list, low beside an allowed one.

    Why: A responder may choose them; strongSwan appends its default proposals unless the list is strict.

    Evidence: The SA payload of the decrypted IKE_AUTH or CREATE_CHILD_SA request.

    Remedy: Set esp= on the initiator to the proposals of the row, with a trailing "!" to be strict.
    """
    for matches, row, conversation, child in negotiations(context):
        not_allowed = [proposal for proposal in child.offered if not is_esp_allowed(proposal, row.esp_proposals)]
        if not_allowed:
            none_allowed = len(not_allowed) == len(child.offered)
            frames = cited_frames(child.offer_frames)
            yield Issue(
                f"The initiator offered only ESP proposals that are not allowed: {listed(not_allowed)}."
                if none_allowed
                else f"The initiator offered {listed(not_allowed)} beside the allowed ESP proposals.",
                base_station=matches.station.address,
                rows=(row.id,),
                conversations=carriers(matches, row, conversation, child),
                frames=frames,
                filter=frames_filter(frames),
                severity=None if none_allowed else Severity.LOW,
            )


def esp_keywords(notation: str) -> frozenset[str]:
    """The transforms of an ESP proposal that the row regulates.

    Extended sequence numbers and a key exchange for the child SA add protection, so a proposal may have them or not.
    """
    unregulated = ("esn", "noesn", *GROUPS.values())
    return keywords("-".join(word for word in notation.split("-") if word not in unregulated))


def is_esp_allowed(notation: str, allowed: Sequence[str]) -> bool:
    return esp_keywords(notation) in map(esp_keywords, allowed)


def negotiations(context: AuditContext) -> Iterator[tuple[StationMatches, ExpectedFlow, Conversation, Child]]:
    """Every decrypted negotiation of a child SA, with the row that lists the allowed proposals."""
    for matches in context.stations:
        row = next((row for row in matches.rows if row.esp_proposals), None)
        if row is None:
            continue
        seen: set[int] = set()  # a flow that matches several rows has a match for each
        for match in matches.matches_by_protocol.get(NAME, ()):
            if match.conversation.id in seen:
                continue
            seen.add(match.conversation.id)
            for sa in sas_of(match):
                for child in sa.children.values():
                    yield matches, row, match.conversation, child


def carriers(
    matches: StationMatches, row: ExpectedFlow, negotiated_in: Conversation, child: Child
) -> tuple[Conversation, ...]:
    """The flow that negotiates a child SA, whose frames are cited, and the flows of the row that carry its ESP."""
    found = [
        match.conversation
        for match in matches.matches
        if row in match.rows and not set(spis_of(match.conversation)).isdisjoint(child.spis)
    ]
    return (negotiated_in, *(conversation for conversation in found if conversation.id != negotiated_in.id))


def spis_of(conversation: Conversation) -> tuple[str, ...]:
    facts = conversation.dissection.facts
    return facts.spis if isinstance(facts, (IkeFacts, EspFacts)) else ()
