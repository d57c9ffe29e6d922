"""Checks of the first exchange: version, proposals, key exchange, nonces."""

from __future__ import annotations

from collections.abc import Iterator, Set
from itertools import chain

from analyzer.checks.ike.policy import (
    WEAK,
    has_additional,
    is_allowed,
    is_near_miss,
    is_offered,
    is_weaker_than_list,
    listed,
    regulated_sas,
    sas_of,
    weak_keywords,
)
from analyzer.findings import CAPTURE, AuditContext, Issue, Kind, Severity, check, cited_frames, frames_filter
from analyzer.heads import Frame
from analyzer.matching import Match
from analyzer.protocols.ike import IKE_AUTH, IKE_SA_INIT, KE, NAME, IkeSa, Proposal
from analyzer.protocols.ike.proposals import alternatives, notation
from analyzer.protocols.ike.registry import (
    AGGRESSIVE_MODE,
    EXCHANGES,
    GROUPS,
    ISAKMP_GROUP_ATTRIBUTE,
    KEY_EXCHANGE_LENGTHS,
)
from analyzer.protocols.ike.sa import KeyExchanged


@check("TPE201", "ike-version-1", Severity.MEDIUM, protocol="ike")
def version_1(match: Match) -> Iterator[Issue]:
    """Flags: IKE version 1; main mode and what follows it is medium, aggressive mode is high.

    Severity: high for aggressive mode, medium otherwise.

    Why: The row demands IKEv2; version 1 is historic (RFC 9395), and aggressive mode shows the identity and, with
    a pre-shared key, a hash of it to everybody, who can then guess the key at leisure.

    Evidence: The version of the IKE header and its exchange type; frames of the first messages.

    Remedy: Configure keyexchange=ikev2 on both ends and forbid IKEv1.
    """
    ikev1 = [sa for sa in sas_of(match) if sa.major == 1]
    if not ikev1:
        return
    aggressive = [sa for sa in ikev1 if AGGRESSIVE_MODE in sa.exchanges]
    cited = aggressive or ikev1
    names = dict.fromkeys(EXCHANGES[1].get(exchange, str(exchange)) for sa in cited for exchange in sa.exchanges)
    chosen = next((sa.chosen for sa in cited if sa.chosen), None)
    agreed = f" and agreed on {chosen}" if chosen else ""
    yield Issue(
        f"The peers speak IKEv1 ({', '.join(names)}){agreed}, but the row demands IKEv2.",
        cited_frames(frame for sa in cited for frame in sa.frames),
        Severity.HIGH if aggressive else None,
    )


# -- proposals --------------------------------------------------------------------------------------------------


@check("TPE202", "ike-chosen-proposal-not-allowed", Severity.HIGH, protocol="ike")
def chosen_proposal_not_allowed(match: Match) -> Iterator[Issue]:
    """Flags: a responder that chose an IKE proposal which the row does not list; says when it is a near miss.

    Severity: high where a part is weaker than the weakest that the list allows; medium where none is; info for a listed
    proposal with an additional key exchange (RFC 9370).

    Why: The tunnel is protected by what was chosen; each allowed proposal is a whole combination, so transforms
    that all occur in the list do not make an allowed proposal.

    Evidence: The SA payload of the IKE_SA_INIT response, which is sent in clear.

    Remedy: Set ike= on TPE and on the base station to the proposals of the row, with a trailing "!" to be strict.
    """
    allowed = match.row.ike_proposals
    frames: dict[str, list[Frame]] = {}
    for sa in regulated_sas(match):
        if sa.chosen and (not is_allowed(sa.chosen, allowed) or has_additional(sa.chosen)):
            frames.setdefault(sa.chosen, []).extend(sa.choice_frames)
    for chosen, choice_frames in frames.items():
        if is_allowed(chosen, allowed):
            yield Issue(
                f"The responder chose the IKE proposal {chosen}: a listed one, with an additional key exchange.",
                cited_frames(choice_frames),
                Severity.INFO,
                Kind.NOTICE,
            )
            continue
        near_miss = ", a near miss: each transform occurs in the list, this combination does not"
        clause = near_miss if is_near_miss(chosen, allowed) else ""
        yield Issue(
            f"The responder chose the IKE proposal {chosen}, which is not one of {', '.join(allowed)}{clause}.",
            cited_frames(choice_frames),
            None if is_weaker_than_list(chosen) else Severity.MEDIUM,
        )


@check("TPE203", "ike-no-allowed-proposal-offered", Severity.HIGH, protocol="ike")
def no_allowed_proposal_offered(match: Match) -> Iterator[Issue]:
    """Flags: an initiator all of whose IKE proposals are outside the row's list.

    Severity: high where a part of any offer is weaker than the weakest that the list allows; medium where none is.

    Why: No responder can choose an allowed proposal from such an offer: either the tunnel fails, or it is protected
    by something that the row does not allow.

    Evidence: The SA payload of the IKE_SA_INIT request, which is sent in clear.

    Remedy: Set ike= on the initiator to the proposals of the row.
    """
    allowed = match.row.ike_proposals
    hopeless = [
        sa
        for sa in regulated_sas(match)
        if sa.offered
        and not any(is_offered(sa, proposal) for proposal in allowed)
        and not any(is_allowed(proposal, allowed) for proposal in sa.offered)
    ]
    if hopeless:
        offered = listed(proposal for sa in hopeless for proposal in sa.offered)
        yield Issue(
            f"The initiator offered only IKE proposals that are not allowed: {offered}.",
            cited_frames(frame for sa in hopeless for frame in sa.offer_frames),
            None if any(is_weaker_than_list(offer) for sa in hopeless for offer in sa.offered) else Severity.MEDIUM,
        )


@check("TPE204", "ike-extra-proposal-offered", Severity.LOW, protocol="ike")
def extra_proposal_offered(match: Match) -> Iterator[Issue]:
    """Flags: IKE proposals outside the row's list that are offered beside allowed ones.

    Why: A responder may choose them; strongSwan appends its default proposals unless the list is strict.

    Evidence: The SA payload of the IKE_SA_INIT request, which is sent in clear.

    Remedy: End the initiator's ike= list with "!", so that no default proposals are appended.
    """
    allowed = match.row.ike_proposals
    extras: dict[str, None] = {}
    frames: list[Frame] = []
    for sa in regulated_sas(match):
        not_allowed = [proposal for proposal in sa.offered if not is_allowed(proposal, allowed)]
        if not_allowed and any(is_offered(sa, proposal) for proposal in allowed):
            extras.update(dict.fromkeys(not_allowed))
            frames += sa.offer_frames
    if extras:
        weak = sorted(frozenset(chain.from_iterable(map(weak_keywords, extras))))
        clause = f"; broken today: {', '.join(weak)}" if weak else ""
        yield Issue(
            f"The initiator offered {listed(extras)} beside the allowed IKE proposals{clause}.", cited_frames(frames)
        )


@check("TPE208", "ike-weak-proposal-chosen", Severity.MEDIUM, protocol="ike")
def weak_proposal_chosen(match: Match) -> Iterator[Issue]:
    """Flags: a chosen IKE proposal with a transform that is broken today, where no list of the row forbids it.

    Why: What was chosen protects the tunnel; RFC 8247 retires these transforms.

    Evidence: The SA payload of the IKE_SA_INIT response, which is sent in clear.

    Remedy: Allow only proposals with AES, SHA-2 and groups of at least 2048 bits or elliptic curves.
    """
    allowed = match.row.ike_proposals
    for sa in sas_of(match):
        if sa.major != 2 or not sa.chosen or (allowed and not is_allowed(sa.chosen, allowed)):
            continue
        weak = weak_keywords(sa.chosen)
        if weak:
            reasons = "; ".join(f"{word} {WEAK[word]}" for word in weak)
            yield Issue(f"The responder chose {sa.chosen}: {reasons}.", cited_frames(sa.choice_frames))
            return


@check("TPE209", "ike-chosen-proposal-never-offered", Severity.HIGH, protocol="ike")
def chosen_proposal_never_offered(match: Match) -> Iterator[Issue]:
    """Flags: a responder that chose transforms which the initiator's offer, as captured, does not contain.

    Why: A responder must choose one transform of each type from the offer (RFC 7296, 2.7); otherwise an implementation
    is broken or somebody on the way changes the messages.

    Evidence: The SA payloads of the IKE_SA_INIT request and response.

    Remedy: Compare the exchange as captured at both ends to find out who changes it.
    """
    for sa in sas_of(match):
        if sa.major != 2 or sa.choice is None or not sa.proposals:
            continue
        if not any(is_choice_from(sa.choice, offer) for offer in sa.proposals):
            yield Issue(
                f"The responder chose {sa.chosen}, which the initiator had not offered ({listed(sa.offered)}).",
                cited_frames((*sa.offer_frames, *sa.choice_frames)),
            )
            return


def is_choice_from(choice: Proposal, offer: Proposal) -> bool:
    """Whether a choice consists of transforms of an offer, and omits only types for which the offer has "none"."""
    optional = {transform.type for transform in offer.ikev2_transforms if not transform.id}
    required = {transform.type for transform in offer.ikev2_transforms} - optional
    chosen = {transform.type for transform in choice.ikev2_transforms}
    return set(choice.transforms) <= set(offer.transforms) and required <= chosen


@check("TPE211", "ike-proposal-not-seen", Severity.INFO, scope=CAPTURE, kind=Kind.NOTICE)
def proposal_not_seen(context: AuditContext) -> Iterator[Issue]:
    """Flags: an IKE SA that was set up before the capture, so that its proposal is not seen.

    Why: Only the first exchange of IKE shows in clear what protects the tunnel; its absence is nobody's fault.

    Evidence: The flows of the SA: none of the base station's flows with its SPI has IKE_SA_INIT or IKE_AUTH.

    Remedy: Capture while the tunnel is set up to see the proposals.
    """
    for station in context.stations:
        matches = [
            match for match in station.matches_by_protocol.get(NAME, ()) if sas_of(match) and match.row.protocol == NAME
        ]
        seen = {sa.initiator_spi for match in matches for sa in sas_of(match) if is_set_up_in(sa)}
        late = [match for match in matches if is_set_up_before(match, seen)]
        if not late:
            continue
        sas = [sa for match in late for sa in sas_of(match)]
        hidden = sum(sa.hidden_rekeys for sa in sas)
        counted = "1 rekeying in it is" if hidden == 1 else f"{hidden} rekeyings in it are"
        clause = f"; {counted} encrypted, too" if hidden else ""
        frames = cited_frames(frame for sa in sas for frame in sa.frames[:1])
        yield Issue(
            "The IKE SA was set up before its flow begins here, so the proposal that protects it cannot be seen"
            f"{clause}.",
            base_station=station.address,
            rows=tuple(dict.fromkeys(row.id for match in late for row in match.rows)),
            conversations=tuple(match.conversation for match in late),
            frames=frames,
            filter=frames_filter(frames),
        )


def is_set_up_in(sa: IkeSa) -> bool:
    """Whether a flow shows how an IKEv2 SA was set up."""
    return sa.major == 2 and any(exchange in sa.exchanges for exchange in (IKE_SA_INIT, IKE_AUTH))


def is_set_up_before(match: Match, seen: Set[str]) -> bool:
    """Whether a flow holds an IKEv2 SA, and no flow shows how it was set up; ``seen``: initiator SPIs of those."""
    sas = [sa for sa in sas_of(match) if sa.major == 2]
    return any(sa.initiator_spi not in seen for sa in sas) and not any(map(is_set_up_in, sas))


@check("TPE219", "ike-choice-ambiguous", Severity.MEDIUM, protocol="ike")
def choice_ambiguous(match: Match) -> Iterator[Issue]:
    """Flags: a response with several proposals, or with several transforms of a type.

    Why: The responder must choose one proposal and one transform of each type (RFC 7296, 2.7 and 3.3); what
    protects the tunnel cannot be told from anything else.

    Evidence: The SA payload of the IKE_SA_INIT response, which is sent in clear.

    Remedy: Update the responder's implementation, or find out who answers in its place.
    """
    for sa in sas_of(match):
        if sa.choice is None:
            continue
        if sa.major == 1:
            several_transforms = len(sa.choice.transforms) > 1
        else:
            several_transforms = any(len(group) > 1 for group in alternatives(sa.choice))
        if several_transforms or len(sa.choices) > 1:
            chosen = listed(map(notation, sa.choices))
            yield Issue(f"The responder's choice is ambiguous: {chosen}.", cited_frames(sa.choice_frames))
            return


# -- key exchange -----------------------------------------------------------------------------------------------


@check("TPE216", "ike-key-exchange-contradiction", Severity.MEDIUM, protocol="ike")
def key_exchange_contradiction(match: Match) -> Iterator[Issue]:
    """Flags: a key exchange whose group is in no proposal beside it, or whose data has another length than its group.

    Why: The group of the key exchange is one that the same message proposes, or the one that it chooses, and its data
    is as long as the group's prime or curve demands (RFC 7296, 3.4); peers cannot agree on keys otherwise.

    Evidence: The Key Exchange and Security Association payloads of the first exchange.

    Remedy: Compare the exchange as captured at both ends, and update the implementation that sent it.
    """
    for sa in sas_of(match):
        for exchanged in sa.key_exchanges:
            sentence = contradiction(sa, exchanged)
            if sentence is not None:
                yield Issue(sentence, (exchanged.frame,))
                return


def contradiction(sa: IkeSa, exchanged: KeyExchanged) -> str | None:
    """How a key exchange contradicts the proposals of its message, or the length that its group demands."""
    group = chosen_isakmp_group(sa) if exchanged.group is None else exchanged.group
    if group is None:
        return None
    name = GROUPS.get(group, str(group))
    if exchanged.response:
        proposals, frames, verb = sa.choices, sa.choice_frames, "chosen"
    else:
        proposals, frames, verb = sa.proposals, sa.offer_frames[-1:], "proposed"
    groups = {transform.id for proposal in proposals for transform in proposal.ikev2_transforms if transform.type == KE}
    if groups and group not in groups and exchanged.frame in frames:
        return f"The key exchange is of group {name}, which is not {verb} in the same message."
    lengths = KEY_EXCHANGE_LENGTHS.get(group, (exchanged.length,))
    length = lengths[-1 if exchanged.response else 0]
    if exchanged.length != length:
        return f"The key exchange data of group {name} has {exchanged.length} bytes instead of {length}."
    return None


def chosen_isakmp_group(sa: IkeSa) -> int | None:
    """IKEv1: the group of the chosen proposal, which the key exchange payload does not repeat."""
    transforms = sa.choice.isakmp_transforms if sa.choice else ()
    return transforms[0].value(ISAKMP_GROUP_ATTRIBUTE) if transforms else None


@check("TPE217", "ike-nonce-length", Severity.LOW, protocol="ike")
def nonce_length(match: Match) -> Iterator[Issue]:
    """Flags: a nonce of less than 16 or more than 256 bytes (IKEv1: less than 8).

    Why: The nonces make the keys of each session new; RFC 7296, 3.9 and RFC 2409, 5 set their lengths.

    Evidence: The Nonce payload of a message that is sent in clear.

    Remedy: Update the implementation that sent it.
    """
    for sa in sas_of(match):
        least = 16 if sa.major == 2 else 8
        wrong = [nonce for nonce in sa.nonces if not least <= nonce.length <= 256]
        if wrong:
            yield Issue(
                f"A nonce has {wrong[0].length} bytes; {least} to 256 are allowed.",
                cited_frames(nonce.frame for nonce in wrong),
            )
            return
