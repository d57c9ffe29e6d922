"""IKE: its version, what was proposed and chosen against the row's list, and refusals that are sent in clear."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from analyzer.findings import Kind, Remark, Severity, content_check
from analyzer.heads import Frame
from analyzer.matching import Fit
from analyzer.messages import messages
from analyzer.protocols.esp import NAT_TRAVERSAL_PORT, EspPacket
from analyzer.protocols.ike import (
    AGGRESSIVE_MODE,
    AUTHENTICATION_FAILED,
    EXCHANGES,
    FIRST_STATUS,
    IKE_AUTH,
    IKE_SA_INIT,
    INVALID_KE_PAYLOAD,
    NO_PROPOSAL_CHOSEN,
    IkeFacts,
    IkeSa,
)

MAX_FRAMES = 8
MAX_NAMED = 6
"""Proposals that a sentence spells out."""

SYNONYMS = {
    "sha": "sha1",
    "sha2_256": "sha256",
    "sha2_384": "sha384",
    "sha2_512": "sha512",
    "x25519": "curve25519",
    "x448": "curve448",
    "aes": "aes128",
}
"""strongSwan's other words for the same transform (ipsec.conf(5))."""

WEAK = {
    "null": "encrypts nothing",
    "des": "has keys of 56 bits, which can be searched",
    "des-iv64": "has keys of 56 bits, which can be searched",
    "3des": "has blocks of 64 bits, which collide in long sessions",
    "md5": "is broken",
    "sha1": "no longer resists collisions",
    "modp768": "can be computed",
    "modp1024": "is within reach of precomputation",
    "modp1024s160": "is within reach of precomputation",
    "modp1536": "is too short (RFC 8247)",
    "modp2048s224": "is a group of unknown origin that RFC 8247 advises against",
    "modp2048s256": "is a group of unknown origin that RFC 8247 advises against",
    "ecp192": "is too short",
}
"""Transforms that RFC 8247 and RFC 9395 retire, with the reason."""


def sas_of(fit: Fit) -> tuple[IkeSa, ...]:
    """The SAs of a conversation, in the order in which they appear."""
    facts = fit.conversation.dissection.facts
    return facts._sas if isinstance(facts, IkeFacts) else ()


def negotiated(fit: Fit) -> Iterator[IkeSa]:
    """The IKEv2 SAs to which the row's list of proposals applies."""
    if fit.row.ike_proposals:
        yield from (sa for sa in sas_of(fit) if sa.major == 2)


def words(notation: str) -> frozenset[str]:
    """The transforms of a proposal, without a PRF that its integrity algorithm implies."""
    parts = {SYNONYMS.get(part, part) for part in notation.split("-")}
    return frozenset(part for part in parts if not (part.startswith("prf") and part[3:] in parts))


def allowed(notation: str, table: Sequence[str]) -> bool:
    """Whether the row lists exactly this combination of transforms."""
    return words(notation) in {words(each) for each in table}


def near_miss(notation: str, table: Sequence[str]) -> bool:
    """Whether each transform occurs in the table, though the combination does not."""
    return words(notation) <= frozenset().union(*(words(each) for each in table))


def named(notations: Iterable[str]) -> str:
    """Proposals as a list for a sentence, cut after the first few."""
    listed = list(dict.fromkeys(notations))
    rest = f" and {len(listed) - MAX_NAMED} more" if len(listed) > MAX_NAMED else ""
    return ", ".join(listed[:MAX_NAMED]) + rest


def first_frames(groups: Iterable[Iterable[Frame]]) -> tuple[Frame, ...]:
    """The first few of all frames, ascending."""
    return tuple(sorted({frame for group in groups for frame in group})[:MAX_FRAMES])


@content_check("TPE201", "ike-version-1", Severity.MEDIUM, "ike")
def version_1(fit: Fit) -> Iterator[Remark]:
    """Flags: IKE version 1; main mode and what follows it is medium, aggressive mode is high.

    Why: The row demands IKEv2; version 1 is historic (RFC 9395), and aggressive mode shows the identity and, with
    a pre-shared key, a hash of it to everybody, who can then guess the key at leisure.

    Evidence: The version of the IKE header and its exchange type; frames of the first messages.

    Remedy: Configure keyexchange=ikev2 on both ends and forbid IKEv1.
    """
    old = [sa for sa in sas_of(fit) if sa.major == 1]
    if not old:
        return
    aggressive = [sa for sa in old if AGGRESSIVE_MODE in sa.exchanges]
    shown = aggressive or old
    names = dict.fromkeys(EXCHANGES[1].get(kind, str(kind)) for sa in shown for kind in sa.exchanges)
    chosen = next((sa.chosen for sa in shown if sa.chosen), None)
    agreed = f" and agreed on {chosen}" if chosen else ""
    yield Remark(
        f"The peers speak IKEv1 ({', '.join(names)}){agreed}, but the row demands IKEv2.",
        first_frames(sa.frames for sa in shown),
        Severity.HIGH if aggressive else None,
    )


@content_check("TPE202", "ike-chosen-proposal-not-allowed", Severity.HIGH, "ike")
def chosen_not_allowed(fit: Fit) -> Iterator[Remark]:
    """Flags: a responder that chose an IKE proposal which the row does not list; says when it is a near miss.

    Why: The tunnel is protected by what was chosen; each allowed proposal is a whole combination, so transforms
    that all occur in the list do not make an allowed proposal.

    Evidence: The SA payload of the IKE_SA_INIT response, which is sent in clear.

    Remedy: Set ike= on TPE and on the base station to the proposals of the row, with a trailing "!" to be strict.
    """
    table = fit.row.ike_proposals
    outside: dict[str, list[IkeSa]] = {}
    for sa in negotiated(fit):
        if sa.chosen and not allowed(sa.chosen, table):
            outside.setdefault(sa.chosen, []).append(sa)
    for chosen, sas in outside.items():
        miss = (
            ", a near miss: each transform occurs in the list, this combination does not"
            if near_miss(chosen, table)
            else ""
        )
        yield Remark(
            f"The responder chose the IKE proposal {chosen}, which is not one of {', '.join(table)}{miss}.",
            first_frames(sa.choice_frames for sa in sas),
        )


@content_check("TPE203", "ike-no-allowed-proposal-offered", Severity.HIGH, "ike")
def none_allowed(fit: Fit) -> Iterator[Remark]:
    """Flags: an initiator all of whose IKE proposals are outside the row's list.

    Why: No responder can choose an allowed proposal from such an offer: either the tunnel fails, or it is protected
    by something that the row does not allow.

    Evidence: The SA payload of the IKE_SA_INIT request, which is sent in clear.

    Remedy: Set ike= on the initiator to the proposals of the row.
    """
    table = fit.row.ike_proposals
    bad = [sa for sa in negotiated(fit) if sa.offered and not any(allowed(each, table) for each in sa.offered)]
    if bad:
        offered = named(each for sa in bad for each in sa.offered)
        yield Remark(
            f"The initiator offered only IKE proposals that are not allowed: {offered}.",
            first_frames(sa.offer_frames for sa in bad),
        )


@content_check("TPE204", "ike-extra-proposal-offered", Severity.LOW, "ike")
def extra_offered(fit: Fit) -> Iterator[Remark]:
    """Flags: IKE proposals outside the row's list that are offered beside allowed ones.

    Why: A responder may choose them; strongSwan appends its default proposals unless the list is strict.

    Evidence: The SA payload of the IKE_SA_INIT request, which is sent in clear.

    Remedy: End the initiator's ike= list with "!", so that no default proposals are appended.
    """
    table = fit.row.ike_proposals
    extras: dict[str, None] = {}
    frames: list[list[Frame]] = []
    for sa in negotiated(fit):
        found = [each for each in sa.offered if not allowed(each, table)]
        if found and len(found) < len(sa.offered):
            extras.update(dict.fromkeys(found))
            frames.append(sa.offer_frames)
    if extras:
        weak = sorted({word for each in extras for word in words(each) if word in WEAK})
        broken = f"; broken today: {', '.join(weak)}" if weak else ""
        yield Remark(
            f"The initiator offered {named(extras)} beside the allowed IKE proposals{broken}.", first_frames(frames)
        )


@content_check("TPE205", "ike-no-proposal-chosen", Severity.MEDIUM, "ike")
def no_proposal_chosen(fit: Fit) -> Iterator[Remark]:
    """Flags: NO_PROPOSAL_CHOSEN in clear; low where the same flow agreed on a proposal after all.

    Why: The peers have no IKE proposal in common, so there is no tunnel.

    Evidence: The Notify payload of the response, with what had been offered.

    Remedy: Make the ike= lists of TPE and of the base station agree on a proposal of the row.
    """
    yield from refusals(fit, NO_PROPOSAL_CHOSEN, "had been offered")


def refusals(fit: Fit, kind: int, offer_clause: str) -> Iterator[Remark]:
    """One remark for all clear error notifications of a type, lower where an SA was agreed on later."""
    refused = [sa for sa in sas_of(fit) if sa.notified(kind)]
    if not refused:
        return
    frames = first_frames(sa.notified(kind) for sa in refused)
    name = next(notify.name for notify in refused[0].notifies if notify.type == kind)
    offered = named(each for sa in refused for each in sa.offered)
    clause = f"; {offered} {offer_clause}" if offered and offer_clause else ""
    agreed = any(frame > frames[-1] for sa in sas_of(fit) for frame in sa.choice_frames)
    outcome = ", and a later exchange of the flow succeeded" if agreed else ""
    yield Remark(f"A peer refused with {name} in clear{clause}{outcome}.", frames, Severity.LOW if agreed else None)


@content_check("TPE206", "ike-invalid-ke-without-recovery", Severity.MEDIUM, "ike")
def invalid_ke(fit: Fit) -> Iterator[Remark]:
    """Flags: INVALID_KE_PAYLOAD that no agreement follows in the flow. With a successful retry it is normal.

    Why: The responder asked for another key exchange group and the initiator did not offer it, so there is no tunnel.

    Evidence: The Notify payload of the IKE_SA_INIT response, with the group that the responder asks for.

    Remedy: Put a proposal with the responder's group, as the row lists it, into the initiator's ike= list.
    """
    sas = sas_of(fit)
    lost = [sa for sa in sas if sa.major == 2 and sa.notified(INVALID_KE_PAYLOAD)]
    frames = first_frames(sa.notified(INVALID_KE_PAYLOAD) for sa in lost)
    if frames and not any(frame > frames[0] for sa in sas for frame in sa.choice_frames):
        yield Remark(
            "The responder refused the key exchange group with INVALID_KE_PAYLOAD, and nothing was agreed afterwards.",
            frames,
        )


@content_check("TPE207", "ike-authentication-failed", Severity.MEDIUM, "ike")
def authentication_failed(fit: Fit) -> Iterator[Remark]:
    """Flags: AUTHENTICATION_FAILED that is sent in clear.

    Why: A peer rejects the other's identity, or somebody on the way pretends to be that peer: in IKEv2 the answer of
    the true peer is encrypted.

    Evidence: The Notify payload of an unencrypted message.

    Remedy: Check certificates, keys and identities on both ends, and who sent the frame.
    """
    yield from refusals(fit, AUTHENTICATION_FAILED, "")


@content_check("TPE208", "ike-weak-proposal-chosen", Severity.MEDIUM, "ike")
def weak_chosen(fit: Fit) -> Iterator[Remark]:
    """Flags: a chosen IKE proposal with a transform that is broken today, where no list of the row forbids it.

    Why: What was chosen protects the tunnel; RFC 8247 retires these transforms.

    Evidence: The SA payload of the IKE_SA_INIT response, which is sent in clear.

    Remedy: Allow only proposals with AES, SHA-2 and groups of at least 2048 bits or elliptic curves.
    """
    table = fit.row.ike_proposals
    for sa in sas_of(fit):
        weak = sorted(word for word in words(sa.chosen or "") if word in WEAK)
        if sa.major == 2 and sa.chosen and weak and (not table or allowed(sa.chosen, table)):
            reasons = "; ".join(f"{word} {WEAK[word]}" for word in weak)
            yield Remark(f"The responder chose {sa.chosen}: {reasons}.", first_frames([sa.choice_frames]))
            return


@content_check("TPE209", "ike-chosen-proposal-never-offered", Severity.HIGH, "ike")
def never_offered(fit: Fit) -> Iterator[Remark]:
    """Flags: a responder that chose transforms which the initiator's offer, as captured, does not contain.

    Why: A responder must choose from the offer (RFC 7296, 2.7); otherwise an implementation is broken or somebody on
    the way changes the messages.

    Evidence: The SA payloads of the IKE_SA_INIT request and response.

    Remedy: Compare the exchange as captured at both ends to find out who changes it.
    """
    for sa in sas_of(fit):
        if sa.major != 2 or sa.choice is None or not sa.proposals:
            continue
        wanted = set(sa.choice.transforms)
        if not any(wanted <= set(offer.transforms) for offer in sa.proposals):
            yield Remark(
                f"The responder chose {sa.chosen}, which the initiator had not offered ({named(sa.offered)}).",
                first_frames([sa.offer_frames, sa.choice_frames]),
            )
            return


ERRORS_JUDGED_ALONE = (NO_PROPOSAL_CHOSEN, INVALID_KE_PAYLOAD, AUTHENTICATION_FAILED)


@content_check("TPE210", "ike-error-notify", Severity.LOW, "ike")
def error_notify(fit: Fit) -> Iterator[Remark]:
    """Flags: other error notifications in clear, such as INVALID_SYNTAX, INVALID_IKE_SPI or INVALID_MAJOR_VERSION.

    Why: A peer could not use what it received; after a restart of one peer INVALID_IKE_SPI is usual.

    Evidence: The Notify payloads of unencrypted messages.

    Remedy: Look into the log of the peer that sent the notification.
    """
    found = [
        notify
        for sa in sas_of(fit)
        for notify in sa.notifies
        if notify.type < FIRST_STATUS and notify.type not in ERRORS_JUDGED_ALONE
    ]
    if found:
        names = ", ".join(dict.fromkeys(notify.name for notify in found))
        yield Remark(f"A peer reported {names} in clear.", first_frames([[notify.frame for notify in found]]))


@content_check("TPE211", "ike-proposal-not-seen", Severity.INFO, "ike", Kind.NOTICE)
def not_seen(fit: Fit) -> Iterator[Remark]:
    """Flags: an IKE flow in which the SA was set up before the capture or on other addresses, so no proposal is seen.

    Why: Only the first exchange of IKE shows in clear what protects the tunnel; its absence is nobody's fault.

    Evidence: The exchange types of the flow: neither IKE_SA_INIT nor IKE_AUTH is among them.

    Remedy: Capture while the tunnel is set up to see the proposals.
    """
    sas = [sa for sa in sas_of(fit) if sa.major == 2]
    if sas and not any(kind in sa.exchanges for sa in sas for kind in (IKE_SA_INIT, IKE_AUTH)):
        yield Remark(
            "The flow begins after its IKE SA was set up, so the proposal that protects it cannot be seen here.",
            first_frames(sa.frames[:1] for sa in sas),
        )


@content_check("TPE212", "ike-foreign-datagram", Severity.MEDIUM, "ike")
def foreign_datagram(fit: Fit) -> Iterator[Remark]:
    """Flags: datagrams in an IKE flow on UDP/500 that are not IKE messages.

    Why: Port 500 carries IKE only; ESP and keepalives have their place on UDP/4500.

    Evidence: Datagrams without the shape of an IKE header.

    Remedy: Find out which program uses the IKE port beside the IPsec daemon.
    """
    if NAT_TRAVERSAL_PORT in fit.conversation.head.ports:
        return
    frames = [item.frame for item, _ in messages(fit.conversation.dissection.items, EspPacket)]
    if frames:
        yield Remark(
            f"The flow on the IKE port carries {len(frames)} datagram{'s' if len(frames) > 1 else ''}"
            " beside IKE that are no IKE messages.",
            first_frames([frames]),
        )


CHECKS = (
    version_1,
    chosen_not_allowed,
    none_allowed,
    extra_offered,
    no_proposal_chosen,
    invalid_ke,
    authentication_failed,
    weak_chosen,
    never_offered,
    error_notify,
    not_seen,
    foreign_datagram,
)
