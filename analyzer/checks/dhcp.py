"""DHCP: one server gives the base station its address."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.findings import Case, Charge, Check, Kind, Remark, Severity, case_check, content_check, frames_filter
from analyzer.heads import Frame
from analyzer.matching import Fit
from analyzer.messages import messages
from analyzer.protocols.dhcp import ACK, MESSAGE_TYPE, NAK, NAME, OFFER, SERVER_IDENTIFIER, Bootp, Header, Option

FRAMES_SHOWN = 8


def typed(fit: Fit, *types: int) -> dict[Header, Frame]:
    """The messages of some types, each with its frame."""
    return {
        option.header: item.frame
        for item, option in messages(fit.conversation.dissection.items, Option)
        if option.code == MESSAGE_TYPE and option.data in [bytes((each,)) for each in types]
    }


def givers(fit: Fit) -> dict[str, list[Frame]]:
    """The servers that offer or confirm an address, each with its frames."""
    giving = typed(fit, OFFER, ACK)
    frames: dict[str, list[Frame]] = {}
    for item, option in messages(fit.conversation.dissection.items, Option):
        if option.code == SERVER_IDENTIFIER and option.header in giving:
            for server in option.addresses[:1]:
                frames.setdefault(server, []).append(item.frame)
    return frames


@content_check("TPE341", "dhcp-several-servers", Severity.MEDIUM, "dhcp")
def several_servers(fit: Fit) -> Iterator[Remark]:
    """Flags: addresses offered or confirmed by more than one DHCP server in one conversation.

    Why: Whoever answers first decides on the base station's router, name server and time; a second server is often
    a rogue or forgotten one.

    Evidence: The server identifiers of the offers and acknowledgements.

    Remedy: Find the DHCP server that does not belong there and switch it off.
    """
    frames = givers(fit)
    if len(frames) > 1:
        shown = sorted({frame for each in frames.values() for frame in each[: FRAMES_SHOWN // 2]})[:FRAMES_SHOWN]
        yield Remark(f"Addresses are offered by {len(frames)} servers: {', '.join(sorted(frames))}.", tuple(shown))


@content_check("TPE342", "dhcp-refused", Severity.LOW, "dhcp", Kind.NOTICE)
def refused(fit: Fit) -> Iterator[Remark]:
    """Flags: a DHCP server that refuses the address which the base station asks for.

    Why: The base station must start over, and has no address until a server gives it one.

    Evidence: DHCPNAK messages.

    Remedy: Look up on the DHCP server why it refused the address.
    """
    frames = sorted(set(typed(fit, NAK).values()))
    if frames:
        yield Remark("The DHCP server refuses the address that was asked for (DHCPNAK).", tuple(frames[:FRAMES_SHOWN]))


@content_check("TPE343", "dhcp-plain-bootp", Severity.LOW, "dhcp")
def plain_bootp(fit: Fit) -> Iterator[Remark]:
    """Flags: messages of plain BOOTP, without any DHCP option.

    Why: BOOTP is what came before DHCP; its addresses have no lease, and no current base station asks for them.

    Evidence: An empty vendor area where DHCP has its magic cookie and the message type.

    Remedy: Find out which device or boot loader speaks BOOTP and configure DHCP or a static address there.
    """
    frames = sorted({item.frame for item, _ in messages(fit.conversation.dissection.items, Bootp)})
    if frames:
        yield Remark(
            "The messages are plain BOOTP, which has no leases, instead of DHCP.", tuple(frames[:FRAMES_SHOWN])
        )


@case_check("TPE344", "dhcp-rival-servers", Severity.MEDIUM, Kind.MALFORMED)
def rival_servers(case: Case) -> Iterator[Charge]:
    """Flags: addresses offered or confirmed to one base station by DHCP servers in different conversations.

    Why: A server that answers from its own address makes a conversation of its own. A second one decides on the base
    station's router, name server and time as much as the first, and is often a rogue or forgotten one.

    Evidence: The offers and acknowledgements of each server.

    Remedy: Find the DHCP server that does not belong there and switch it off.
    """
    for matched in case.stations:
        fits = [fit for fit in matched.fits if fit.conversation.protocol == NAME]
        by_fit = [(fit, givers(fit)) for fit in fits]
        servers = {server: None for _, frames in by_fit for server in frames}
        if len(servers) < 2 or any(len(frames) == len(servers) for _, frames in by_fit):
            continue  # one server, or one conversation shows them all
        giving = [(fit, frames) for fit, frames in by_fit if frames]
        shown = sorted({each[0] for _, frames in giving for each in frames.values()})[:FRAMES_SHOWN]
        yield Charge(
            f"Addresses are offered to {matched.station.address} by {len(servers)} servers: "
            f"{', '.join(sorted(servers))}.",
            matched.station.address,
            tuple(dict.fromkeys(row.id for fit, _ in giving for row in fit.rows)),
            tuple(fit.conversation for fit, _ in giving),
            frames=tuple(shown),
            filter=frames_filter(shown),
        )


CHECKS: tuple[Check, ...] = (several_servers, refused, plain_bootp, rival_servers)
