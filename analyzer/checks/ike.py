"""IKE: its version, what was proposed and chosen against the row's list, and refusals that are sent in clear."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from analyzer.conversations import Conversation
from analyzer.expected import ExpectedFlow
from analyzer.findings import CAPTURE, AuditContext, Issue, Kind, Severity, check, frames_filter
from analyzer.heads import Frame
from analyzer.matching import Match, StationMatches
from analyzer.messages import messages
from analyzer.protocols.esp import NAT_TRAVERSAL_PORT, EspFacts, EspPacket
from analyzer.protocols.ike import IKE_AUTH, IKE_SA_INIT, KE, IkeFacts, IkeSa, Proposal
from analyzer.protocols.ike.proposals import alternatives, contains, notation
from analyzer.protocols.ike.registry import (
    AGGRESSIVE_MODE,
    AUTHENTICATED,
    AUTHENTICATION_FAILED,
    EXCHANGES,
    FIRST_STATUS,
    GROUPS,
    INVALID_KE_PAYLOAD,
    ISAKMP_GROUP_ATTRIBUTE,
    KEY_EXCHANGE_LENGTHS,
    NO_PROPOSAL_CHOSEN,
    REDIRECT,
)
from analyzer.protocols.ike.sa import Child, nat_hash

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
    **{f"aes{key}gcm{8 * octets}": f"aes{key}gcm{octets}" for key in (128, 192, 256) for octets in (8, 12, 16)},
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


def sas_of(match: Match) -> tuple[IkeSa, ...]:
    """The SAs of a conversation, in the order in which they appear."""
    facts = match.conversation.dissection.facts
    return facts._sas if isinstance(facts, IkeFacts) else ()


def negotiated(match: Match) -> Iterator[IkeSa]:
    """The IKEv2 SAs to which the row's list of proposals applies."""
    if match.row.ike_proposals:
        yield from (sa for sa in sas_of(match) if sa.major == 2)


def words(notation: str) -> frozenset[str]:
    """The transforms of a proposal, without a PRF that its integrity algorithm implies or a key exchange "none"."""
    parts = {SYNONYMS.get(part, part) for part in notation.split("-")}
    return frozenset(
        part
        for part in parts
        if not (part.startswith("prf") and part[3:] in parts) and not re.fullmatch(r"ke\d_none", part)
    )


def allowed(notation: str, table: Sequence[str]) -> bool:
    """Whether the row lists exactly this combination of transforms."""
    return words(notation) in {words(each) for each in table}


def offers(sa: IkeSa, notation: str) -> bool:
    """Whether the initiator's last offer leaves the responder this combination of transforms."""
    return any(contains(each, words(notation)) for each in sa.proposals)


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


@check("TPE201", "ike-version-1", Severity.MEDIUM, protocol="ike")
def version_1(match: Match) -> Iterator[Issue]:
    """Flags: IKE version 1; main mode and what follows it is medium, aggressive mode is high.

    Why: The row demands IKEv2; version 1 is historic (RFC 9395), and aggressive mode shows the identity and, with
    a pre-shared key, a hash of it to everybody, who can then guess the key at leisure.

    Evidence: The version of the IKE header and its exchange type; frames of the first messages.

    Remedy: Configure keyexchange=ikev2 on both ends and forbid IKEv1.
    """
    old = [sa for sa in sas_of(match) if sa.major == 1]
    if not old:
        return
    aggressive = [sa for sa in old if AGGRESSIVE_MODE in sa.exchanges]
    shown = aggressive or old
    names = dict.fromkeys(EXCHANGES[1].get(kind, str(kind)) for sa in shown for kind in sa.exchanges)
    chosen = next((sa.chosen for sa in shown if sa.chosen), None)
    agreed = f" and agreed on {chosen}" if chosen else ""
    yield Issue(
        f"The peers speak IKEv1 ({', '.join(names)}){agreed}, but the row demands IKEv2.",
        first_frames(sa.frames for sa in shown),
        Severity.HIGH if aggressive else None,
    )


@check("TPE202", "ike-chosen-proposal-not-allowed", Severity.HIGH, protocol="ike")
def chosen_not_allowed(match: Match) -> Iterator[Issue]:
    """Flags: a responder that chose an IKE proposal which the row does not list; says when it is a near miss.

    Why: The tunnel is protected by what was chosen; each allowed proposal is a whole combination, so transforms
    that all occur in the list do not make an allowed proposal.

    Evidence: The SA payload of the IKE_SA_INIT response, which is sent in clear.

    Remedy: Set ike= on TPE and on the base station to the proposals of the row, with a trailing "!" to be strict.
    """
    table = match.row.ike_proposals
    outside: dict[str, list[IkeSa]] = {}
    for sa in negotiated(match):
        if sa.chosen and not allowed(sa.chosen, table):
            outside.setdefault(sa.chosen, []).append(sa)
    for chosen, sas in outside.items():
        miss = (
            ", a near miss: each transform occurs in the list, this combination does not"
            if near_miss(chosen, table)
            else ""
        )
        yield Issue(
            f"The responder chose the IKE proposal {chosen}, which is not one of {', '.join(table)}{miss}.",
            first_frames(sa.choice_frames for sa in sas),
        )


@check("TPE203", "ike-no-allowed-proposal-offered", Severity.HIGH, protocol="ike")
def none_allowed(match: Match) -> Iterator[Issue]:
    """Flags: an initiator all of whose IKE proposals are outside the row's list.

    Why: No responder can choose an allowed proposal from such an offer: either the tunnel fails, or it is protected
    by something that the row does not allow.

    Evidence: The SA payload of the IKE_SA_INIT request, which is sent in clear.

    Remedy: Set ike= on the initiator to the proposals of the row.
    """
    table = match.row.ike_proposals
    bad = [sa for sa in negotiated(match) if sa.offered and not any(offers(sa, each) for each in table)]
    if bad:
        offered = named(each for sa in bad for each in sa.offered)
        yield Issue(
            f"The initiator offered only IKE proposals that are not allowed: {offered}.",
            first_frames(sa.offer_frames for sa in bad),
        )


@check("TPE204", "ike-extra-proposal-offered", Severity.LOW, protocol="ike")
def extra_offered(match: Match) -> Iterator[Issue]:
    """Flags: IKE proposals outside the row's list that are offered beside allowed ones.

    Why: A responder may choose them; strongSwan appends its default proposals unless the list is strict.

    Evidence: The SA payload of the IKE_SA_INIT request, which is sent in clear.

    Remedy: End the initiator's ike= list with "!", so that no default proposals are appended.
    """
    table = match.row.ike_proposals
    extras: dict[str, None] = {}
    frames: list[list[Frame]] = []
    for sa in negotiated(match):
        found = [each for each in sa.offered if not allowed(each, table)]
        if found and any(offers(sa, each) for each in table):
            extras.update(dict.fromkeys(found))
            frames.append(sa.offer_frames)
    if extras:
        weak = sorted({word for each in extras for word in words(each) if word in WEAK})
        broken = f"; broken today: {', '.join(weak)}" if weak else ""
        yield Issue(
            f"The initiator offered {named(extras)} beside the allowed IKE proposals{broken}.", first_frames(frames)
        )


@check("TPE205", "ike-no-proposal-chosen", Severity.MEDIUM, protocol="ike")
def no_proposal_chosen(match: Match) -> Iterator[Issue]:
    """Flags: NO_PROPOSAL_CHOSEN, in clear or where keys open it; low where the peers agreed on a proposal after all.

    Why: The peers have no proposal in common for IKE or, inside IKE_AUTH, for ESP, so there is no tunnel.

    Evidence: The Notify payload of the response, with what had been offered.

    Remedy: Make the ike= and esp= lists of TPE and of the base station agree on a proposal of their rows.
    """
    yield from refusals(match, NO_PROPOSAL_CHOSEN, "had been offered")


def refusals(match: Match, kind: int, offer_clause: str) -> Iterator[Issue]:
    """One remark for all clear error notifications of a type, lower where an SA was agreed on later."""
    yield from inner_refusals(match, kind)
    refused = [sa for sa in sas_of(match) if sa.notified(kind)]
    if not refused:
        return
    frames = first_frames(sa.notified(kind) for sa in refused)
    name = next(notify.name for notify in refused[0].notifies if notify.type == kind)
    offered = named(each for sa in refused for each in sa.offered)
    clause = f"; {offered} {offer_clause}" if offered and offer_clause else ""
    agreed = any(frame > frames[-1] for sa in sas_of(match) for frame in sa.choice_frames)
    outcome = ", and a later exchange of the flow succeeded" if agreed else ""
    yield Issue(f"A peer refused with {name} in clear{clause}{outcome}.", frames, Severity.LOW if agreed else None)


def inner_refusals(match: Match, kind: int) -> Iterator[Issue]:
    """The same for error notifications inside of messages that were decrypted: there they refuse a tunnel."""
    for sa in sas_of(match):
        refused = [each for each in sa.inner_notifies if each.type == kind]
        if refused:
            agreed = any(frame > refused[-1].frame for each in sa.children.values() for frame in each.choice_frames)
            asked = sa.children.get(refused[0].key)
            clause = f"; {named(asked.offered)} had been offered for the tunnel" if asked and asked.offered else ""
            outcome = ", and a later exchange of the SA succeeded" if agreed else ""
            yield Issue(
                f"A peer refused with {refused[0].name} inside {refused[0].key}{clause}{outcome}.",
                first_frames([[each.frame for each in refused]]),
                Severity.LOW if agreed else None,
            )
            return


@check("TPE206", "ike-invalid-ke-without-recovery", Severity.MEDIUM, protocol="ike")
def invalid_ke(match: Match) -> Iterator[Issue]:
    """Flags: INVALID_KE_PAYLOAD that no agreement follows in the flow. With a successful retry it is normal.

    Why: The responder asked for another key exchange group and the initiator did not offer it, so there is no tunnel.

    Evidence: The Notify payload of the IKE_SA_INIT response, with the group that the responder asks for.

    Remedy: Put a proposal with the responder's group, as the row lists it, into the initiator's ike= list.
    """
    sas = sas_of(match)
    lost = [sa for sa in sas if sa.major == 2 and sa.notified(INVALID_KE_PAYLOAD)]
    frames = first_frames(sa.notified(INVALID_KE_PAYLOAD) for sa in lost)
    if frames and not any(frame > frames[0] for sa in sas for frame in sa.choice_frames):
        yield Issue(
            "The responder refused the key exchange group with INVALID_KE_PAYLOAD, and nothing was agreed afterwards.",
            frames,
        )


@check("TPE207", "ike-authentication-failed", Severity.MEDIUM, protocol="ike")
def authentication_failed(match: Match) -> Iterator[Issue]:
    """Flags: AUTHENTICATION_FAILED, in clear or where keys open it.

    Why: A peer rejects the other's identity, or somebody on the way pretends to be that peer: in IKEv2 the answer of
    the true peer is encrypted.

    Evidence: The Notify payload of an unencrypted message, or of one that was decrypted.

    Remedy: Check certificates, keys and identities on both ends, and who sent the frame.
    """
    yield from refusals(match, AUTHENTICATION_FAILED, "")


@check("TPE208", "ike-weak-proposal-chosen", Severity.MEDIUM, protocol="ike")
def weak_chosen(match: Match) -> Iterator[Issue]:
    """Flags: a chosen IKE proposal with a transform that is broken today, where no list of the row forbids it.

    Why: What was chosen protects the tunnel; RFC 8247 retires these transforms.

    Evidence: The SA payload of the IKE_SA_INIT response, which is sent in clear.

    Remedy: Allow only proposals with AES, SHA-2 and groups of at least 2048 bits or elliptic curves.
    """
    table = match.row.ike_proposals
    for sa in sas_of(match):
        weak = sorted(word for word in words(sa.chosen or "") if word in WEAK)
        if sa.major == 2 and sa.chosen and weak and (not table or allowed(sa.chosen, table)):
            reasons = "; ".join(f"{word} {WEAK[word]}" for word in weak)
            yield Issue(f"The responder chose {sa.chosen}: {reasons}.", first_frames([sa.choice_frames]))
            return


def leaves(offer: Proposal, choice: Proposal) -> bool:
    """Whether a choice takes transforms of an offer, and one of each type of which the offer has no "none"."""
    optional = {transform.type for transform in offer.ikev2_transforms if not transform.id}
    must = {transform.type for transform in offer.ikev2_transforms} - optional
    taken = {transform.type for transform in choice.ikev2_transforms}
    return set(choice.transforms) <= set(offer.transforms) and must <= taken


@check("TPE209", "ike-chosen-proposal-never-offered", Severity.HIGH, protocol="ike")
def never_offered(match: Match) -> Iterator[Issue]:
    """Flags: a responder that chose transforms which the initiator's offer, as captured, does not contain.

    Why: A responder must choose one transform of each type from the offer (RFC 7296, 2.7); otherwise an implementation
    is broken or somebody on the way changes the messages.

    Evidence: The SA payloads of the IKE_SA_INIT request and response.

    Remedy: Compare the exchange as captured at both ends to find out who changes it.
    """
    for sa in sas_of(match):
        if sa.major != 2 or sa.choice is None or not sa.proposals:
            continue
        if not any(leaves(offer, sa.choice) for offer in sa.proposals):
            yield Issue(
                f"The responder chose {sa.chosen}, which the initiator had not offered ({named(sa.offered)}).",
                first_frames([sa.offer_frames, sa.choice_frames]),
            )
            return


ERRORS_JUDGED_ALONE = (NO_PROPOSAL_CHOSEN, INVALID_KE_PAYLOAD, AUTHENTICATION_FAILED)


@check("TPE210", "ike-error-notify", Severity.LOW, protocol="ike")
def error_notify(match: Match) -> Iterator[Issue]:
    """Flags: other error notifications, in clear or where keys open them, such as TS_UNACCEPTABLE,
    INVALID_SYNTAX, INVALID_IKE_SPI or INVALID_MAJOR_VERSION.

    Why: A peer could not use what it received; after a restart of one peer INVALID_IKE_SPI is usual.

    Evidence: The Notify payloads of unencrypted messages, and of those that were decrypted.

    Remedy: Look into the log of the peer that sent the notification.
    """
    found = [
        notify
        for sa in sas_of(match)
        for notify in sa.notifies
        if notify.type < FIRST_STATUS and notify.type not in ERRORS_JUDGED_ALONE
    ]
    if found:
        names = ", ".join(dict.fromkeys(notify.name for notify in found))
        yield Issue(f"A peer reported {names} in clear.", first_frames([[notify.frame for notify in found]]))
    inside = [
        notify
        for sa in sas_of(match)
        for notify in sa.inner_notifies
        if notify.type < FIRST_STATUS and notify.type not in ERRORS_JUDGED_ALONE
    ]
    if inside:
        said = ", ".join(dict.fromkeys(f"{notify.name} inside {notify.key}" for notify in inside))
        yield Issue(f"A peer reported {said}.", first_frames([[notify.frame for notify in inside]]))


@check("TPE211", "ike-proposal-not-seen", Severity.INFO, protocol="ike", kind=Kind.NOTICE)
def not_seen(match: Match) -> Iterator[Issue]:
    """Flags: an IKE flow in which the SA was set up before the capture or on other addresses, so no proposal is seen.

    Why: Only the first exchange of IKE shows in clear what protects the tunnel; its absence is nobody's fault.

    Evidence: The exchange types of the flow: neither IKE_SA_INIT nor IKE_AUTH is among them.

    Remedy: Capture while the tunnel is set up to see the proposals.
    """
    sas = [sa for sa in sas_of(match) if sa.major == 2]
    if sas and not any(kind in sa.exchanges for sa in sas for kind in (IKE_SA_INIT, IKE_AUTH)):
        rekeys = sum(sa.rekeys for sa in sas)
        what = "1 rekeying in it is" if rekeys == 1 else f"{rekeys} rekeyings in it are"
        hidden = f"; {what} encrypted, too" if rekeys else ""
        yield Issue(
            "The flow begins after its IKE SA was set up, so the proposal that protects it cannot be seen here"
            f"{hidden}.",
            first_frames(sa.frames[:1] for sa in sas),
        )


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
            first_frames([frames]),
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
            told = nat_hash(sa, hashes, sender.address, sender.port or 0)
            expected = nat_hash(sa, hashes, receiver.address, receiver.port or 0)
            if hashes.destination and expected is not None and expected not in hashes.destination:
                clause = f"{receiver.address} is translated between the capture point and {sender.address}"
                certain.setdefault(clause, []).append(hashes.frame)
            if hashes.source and told is not None and told not in hashes.source:
                clause = f"{sender.address} is translated before the capture point, or forces UDP encapsulation"
                possible.setdefault(clause, []).append(hashes.frame)
    frames = first_frames((*certain.values(), *possible.values()))
    if len(certain) == len(possible) == len(ends):
        yield Issue("No peer hashes an address of the packets: NATs at both ends, or addresses made anonymous.", frames)
    elif certain or possible:
        is_there = "A NAT is in the path" if certain else "A NAT may be in the path"
        yield Issue(f"{is_there}: {'; '.join((*certain, *possible))}.", frames)


MANY = 3
"""Transmissions of a request after which a peer that is there has answered."""


@check("TPE214", "ike-request-unanswered", Severity.LOW, protocol="ike", kind=Kind.NOTICE)
def unanswered(match: Match) -> Iterator[Issue]:
    """Flags: a request of an established IKE SA that is sent at least three times and never answered.

    Why: Each request has a response (RFC 7296, 2.1); a peer that stays silent is gone, has lost its state, or does not
    receive: the tunnel goes down once the sender gives up.

    Evidence: Requests with the same message id, and no response with it among the messages that were kept.

    Remedy: Look at the peer's log and state, and whether its packets reach the capture point.
    """
    for sa in sas_of(match):
        lost = [key for key in sa.unanswered if key.exchange in AUTHENTICATED and len(sa.requests[key]) >= MANY]
        if lost:
            named_keys = ", ".join(map(str, lost[:MAX_NAMED]))
            yield Issue(f"Nobody answers {named_keys}.", first_frames(sa.requests[key] for key in lost))
            return


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
                first_frames([sa.notified(REDIRECT)]),
            )
            return


@check("TPE216", "ike-key-exchange-contradiction", Severity.MEDIUM, protocol="ike")
def key_exchange_contradiction(match: Match) -> Iterator[Issue]:
    """Flags: a key exchange whose group is in no proposal beside it, or whose data has another length than its group.

    Why: The group of the key exchange is one that the same message proposes, or the one that it chooses, and its data
    is as long as the group's prime or curve demands (RFC 7296, 3.4); peers cannot agree on keys otherwise.

    Evidence: The Key Exchange and Security Association payloads of the first exchange.

    Remedy: Compare the exchange as captured at both ends, and update the implementation that sent it.
    """
    for sa in sas_of(match):
        for each in sa.key_exchanges:
            said = sa.choices if each.response else sa.proposals
            shown = sa.choice_frames if each.response else sa.offer_frames[-1:]
            group = group_of(sa) if each.group is None else each.group
            if group is None:
                continue
            name = GROUPS.get(group, str(group))
            listed = {one.id for part in said for one in part.ikev2_transforms if one.type == KE}
            lengths = KEY_EXCHANGE_LENGTHS.get(group, (each.length,))
            if listed and group not in listed and each.frame in shown:
                yield Issue(
                    f"The key exchange is of group {name}, which is not {'chosen' if each.response else 'proposed'}"
                    " in the same message.",
                    (each.frame,),
                )
                return
            if each.length != lengths[-1 if each.response else 0]:
                yield Issue(
                    f"The key exchange data of group {name} has {each.length} bytes instead of"
                    f" {lengths[-1 if each.response else 0]}.",
                    (each.frame,),
                )
                return


def group_of(sa: IkeSa) -> int | None:
    """IKEv1: the group of the chosen proposal, which its key exchange does not repeat."""
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
        bad = [each for each in sa.nonces if not least <= each.length <= 256]
        if bad:
            yield Issue(
                f"A nonce has {bad[0].length} bytes; {least} to 256 are allowed.",
                first_frames([[each.frame for each in bad]]),
            )
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
        for (key, response), each in sa.fragments.items():
            if not each.complete and not response and key not in sa.responses:
                missing = sorted(set(range(1, each.total + 1)) - each.numbers)
                numbers = ", ".join(map(str, missing[:MAX_NAMED])) + (" …" if len(missing) > MAX_NAMED else "")
                yield Issue(
                    f"Of {key}, in {each.total} fragments, these never appear: {numbers}; it is not answered.",
                    first_frames([each.frames]),
                )
                return


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
        several = any(len(group) > 1 for group in alternatives(sa.choice))
        if sa.major == 1:
            several = len(sa.choice.transforms) > 1
        if several or len(sa.choices) > 1:
            chosen = named(notation(each) for each in sa.choices)
            yield Issue(f"The responder's choice is ambiguous: {chosen}.", first_frames([sa.choice_frames]))
            return


# -- what keys open ---------------------------------------------------------------------------------------------


@check("TPE220", "ike-auth-encrypted", Severity.INFO, protocol="ike", kind=Kind.NOTICE)
def auth_encrypted(match: Match) -> Iterator[Issue]:
    """Flags: an IKE_AUTH exchange that nobody decrypted.

    Why: It negotiates ESP and says whether the peers support MOBIKE, and it is encrypted: both stay unjudged.

    Evidence: The messages of the exchange, whose payloads are encrypted.

    Remedy: Give the SA's keys with --ike-keys; strongSwan's save-keys plugin writes them.
    """
    hidden = [sa for sa in sas_of(match) if sa.major == 2 and IKE_AUTH in sa.exchanges and not sa.children]
    if hidden and not any(sa.inner_notifies for sa in hidden):
        frames = (sa_frames for sa in hidden for key, sa_frames in sa.requests.items() if key.exchange == IKE_AUTH)
        yield Issue(
            "IKE_AUTH is encrypted: which ESP proposal the peers agreed on, and whether they support MOBIKE, cannot be"
            " seen without keys.",
            first_frames(frames),
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
    for sa in sas_of(match):
        for child in sa.children.values():
            for response, supported in child.mobike.items():
                if not supported:
                    side, frames = ("responder", child.choice_frames) if response else ("initiator", child.offer_frames)
                    lacking.setdefault(side, []).extend(frames)
    if lacking:
        who = "Neither peer supports" if len(lacking) == 2 else f"The {next(iter(lacking))} does not support"
        yield Issue(f"{who} MOBIKE.", first_frames(lacking.values()))


def tunnel_words(notation: str) -> frozenset[str]:
    """The transforms of an ESP proposal that the row's list speaks of: neither extended sequence numbers nor a group
    for a key exchange of its own, which both only add protection."""
    return words("-".join(each for each in notation.split("-") if each not in ("esn", "noesn", *GROUPS.values())))


def tunnel_allowed(notation: str, table: Sequence[str]) -> bool:
    """Whether the row lists an ESP proposal."""
    return tunnel_words(notation) in {tunnel_words(each) for each in table}


def tunnels(context: AuditContext) -> Iterator[tuple[StationMatches, ExpectedFlow, Conversation, Child]]:
    """Every negotiation of a tunnel that was decrypted, with the row that lists its proposals."""
    for matched in context.stations:
        row = next((each for each in matched.rows if each.esp_proposals), None)
        seen: set[int] = set()
        for match in matched.matches if row is not None else ():
            if match.conversation.id not in seen:
                seen.add(match.conversation.id)
                for sa in sas_of(match):
                    for child in sa.children.values():
                        assert row is not None
                        yield matched, row, match.conversation, child


def carriers(matched: StationMatches, row: ExpectedFlow, asked: Conversation, child: Child) -> tuple[Conversation, ...]:
    """The flows of the row that carry a tunnel's ESP; the one that asked for it, if the capture has none."""
    found = [
        match.conversation
        for match in matched.matches
        if row in match.rows and set(spis_of(match.conversation)) & set(child.spis)
    ]
    return tuple(found) or (asked,)


def spis_of(each: Conversation) -> tuple[str, ...]:
    facts = each.dissection.facts
    return facts.spis if isinstance(facts, (IkeFacts, EspFacts)) else ()


@check("TPE228", "esp-chosen-proposal-not-allowed", Severity.HIGH, scope=CAPTURE, kind=Kind.MALFORMED)
def tunnel_not_allowed(context: AuditContext) -> Iterator[Issue]:
    """Flags: a responder that chose an ESP proposal which the row does not list, where keys open the exchange.

    Why: What was chosen protects all that the tunnel carries. Extended sequence numbers and a key exchange of the
    tunnel's own are not asked for, and do no harm.

    Evidence: The SA payload of the decrypted IKE_AUTH or CREATE_CHILD_SA response.

    Remedy: Set esp= on TPE and on the base station to the proposals of the row, with a trailing "!" to be strict.
    """
    for matched, row, each, child in tunnels(context):
        if child.chosen and not tunnel_allowed(child.chosen, row.esp_proposals):
            weak = sorted(word for word in tunnel_words(child.chosen) if word in WEAK)
            reasons = "".join(f"; {word} {WEAK[word]}" for word in weak)
            frames = first_frames([child.choice_frames])
            yield Issue(
                f"The responder chose the ESP proposal {child.chosen}, which is not one of"
                f" {', '.join(row.esp_proposals)}{reasons}.",
                base_station=matched.station.address,
                rows=(row.id,),
                conversations=carriers(matched, row, each, child),
                frames=frames,
                filter=frames_filter(frames),
            )


@check("TPE229", "esp-proposal-offered-not-allowed", Severity.HIGH, scope=CAPTURE, kind=Kind.MALFORMED)
def tunnel_offer_not_allowed(context: AuditContext) -> Iterator[Issue]:
    """Flags: ESP proposals that are offered and that the row does not list, where keys open the exchange: high if all
    are such, low beside allowed ones.

    Why: A responder may choose them; strongSwan appends its default proposals unless the list is strict.

    Evidence: The SA payload of the decrypted IKE_AUTH or CREATE_CHILD_SA request.

    Remedy: Set esp= on the initiator to the proposals of the row, with a trailing "!" to be strict.
    """
    for matched, row, each, child in tunnels(context):
        extras = [one for one in child.offered if not tunnel_allowed(one, row.esp_proposals)]
        if extras:
            only = len(extras) == len(child.offered)
            frames = first_frames([child.offer_frames])
            yield Issue(
                f"The initiator offered only ESP proposals that are not allowed: {named(extras)}."
                if only
                else f"The initiator offered {named(extras)} beside the allowed ESP proposals.",
                base_station=matched.station.address,
                rows=(row.id,),
                conversations=carriers(matched, row, each, child),
                frames=frames,
                filter=frames_filter(frames),
                severity=None if only else Severity.LOW,
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
    nat_in_path,
    unanswered,
    redirected,
    key_exchange_contradiction,
    nonce_length,
    fragments_lost,
    choice_ambiguous,
    auth_encrypted,
    mobike_unsupported,
    tunnel_not_allowed,
    tunnel_offer_not_allowed,
)
