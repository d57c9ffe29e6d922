"""NTP: time of versions 3 and 4 between client and server, and nothing else on the port."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.findings import Issue, Kind, Severity, check, cited_frames
from analyzer.heads import Frame
from analyzer.matching import Match
from analyzer.messages import Item, messages
from analyzer.protocols.ntp import (
    BROADCAST,
    KISSES,
    MONLIST,
    SERVER,
    SYMMETRIC_ACTIVE,
    SYMMETRIC_PASSIVE,
    UNSYNCHRONIZED,
    Authenticator,
    Control,
    Packet,
    Private,
)

VERSIONS = (3, 4)
"""Versions in use: RFC 1305 and RFC 5905."""
WRONG_MODES = {
    0: "reserved",
    SYMMETRIC_ACTIVE: "symmetric active",
    SYMMETRIC_PASSIVE: "symmetric passive",
    BROADCAST: "broadcast",
}
"""Modes of time packets that are neither client nor server (RFC 5905, figure 10), with their names."""
KISSES_SHOWN = 4
"""Maximum kiss codes that a sentence lists."""


def described(code: str) -> str:
    """A kiss code with its meaning: ``RATE: rate exceeded``."""
    return f"{code}: {KISSES[code]}" if code in KISSES else code


def packets(match: Match) -> list[tuple[Item, Packet]]:
    """The time packets of a conversation (modes 0 to 5), each with its place in the capture."""
    return messages(match.conversation.dissection.items, Packet)


@check("TPE321", "ntp-control-message", Severity.MEDIUM, protocol="ntp", pure=True)
def control_message(match: Match) -> Iterator[Issue]:
    """Flags: NTP control messages (mode 6) beside or instead of time.

    Why: They read and write a time server's variables; scanners and amplification attacks use them, base stations
    do not.

    Evidence: Mode 6 in the first byte of the datagram.

    Remedy: Find out which program sends control messages and refuse them on the time server with "restrict noquery".
    """
    found = messages(match.conversation.dissection.items, Control)
    if found:
        yield Issue(
            "NTP control messages (mode 6) use the port that is meant for the time.",
            cited_frames(item.frame for item, _ in found),
        )


@check("TPE322", "ntp-private-message", Severity.MEDIUM, protocol="ntp", pure=True)
def private_message(match: Match) -> Iterator[Issue]:
    """Flags: private messages of ntpd (mode 7), among them monlist.

    Why: Monlist tells whom a server spoke with and multiplies traffic, so that forged requests flood others;
    base stations have no use for any private message.

    Evidence: Mode 7 in the first byte of the datagram, and its request code.

    Remedy: Update the time server to an ntpd of 4.2.7p26 or later, and disable its private messages.
    """
    found = messages(match.conversation.dissection.items, Private)
    for monlist in (True, False):
        chosen = [(item, message) for item, message in found if (message.request in MONLIST) is monlist]
        if chosen:
            content = "the monitor list (monlist)" if monlist else f"request code {chosen[0][1].request}"
            yield Issue(
                f"Private NTP messages (mode 7) carry {content}.", cited_frames(item.frame for item, _ in chosen)
            )


@check("TPE323", "ntp-version", Severity.MEDIUM, protocol="ntp", pure=True)
def version(match: Match) -> Iterator[Issue]:
    """Flags: time packets of another NTP version than 3 or 4.

    Why: Versions 1 and 2 are obsolete, and no program of a base station speaks them.

    Evidence: The version number in the first byte of the packet.

    Remedy: Configure NTP version 4 on the base station and its time server.
    """
    frames: dict[int, list[Frame]] = {}
    for item, packet in packets(match):
        if packet.version not in VERSIONS:
            frames.setdefault(packet.version, []).append(item.frame)
    for number in sorted(frames):
        yield Issue(f"Time packets have NTP version {number} instead of 3 or 4.", cited_frames(frames[number]))


@check("TPE324", "ntp-mode", Severity.MEDIUM, protocol="ntp", pure=True)
def association_mode(match: Match) -> Iterator[Issue]:
    """Flags: time packets of symmetric or broadcast associations, or of the reserved mode 0.

    Why: A base station is a client (mode 3) that a server answers (mode 4); in a symmetric association each side
    may set the other's clock, and a broadcast sets it unasked.

    Evidence: The mode in the first byte of the packet.

    Remedy: Configure the time source as a server, not as a peer or broadcast source.
    """
    found = [(item.frame, packet.mode) for item, packet in packets(match) if packet.mode in WRONG_MODES]
    if found:
        modes = sorted({mode for _, mode in found})
        names = " and ".join(f"{mode} ({WRONG_MODES[mode]})" for mode in modes)
        yield Issue(
            f"Time packets have mode {names} instead of 3 (client) and 4 (server).",
            cited_frames(frame for frame, _ in found),
        )


@check("TPE325", "ntp-kiss-o-death", Severity.LOW, protocol="ntp", kind=Kind.NOTICE, pure=True)
def kiss_of_death(match: Match) -> Iterator[Issue]:
    """Flags: a time server that turns the base station away with a kiss-o'-death.

    Why: The base station gets no time from it; without the right time its certificates fail.

    Evidence: Answers of stratum 0 and the kiss code in their reference identifier.

    Remedy: Ask the time server less often, or choose one that serves this base station.
    """
    found = [(item.frame, packet.kiss) for item, packet in packets(match) if packet.kiss is not None]
    if found:
        codes = sorted({code for _, code in found})[:KISSES_SHOWN]
        listed = ", ".join(described(code) for code in codes)
        yield Issue(
            f"The time server answers with a kiss-o'-death ({listed}).", cited_frames(frame for frame, _ in found)
        )


@check("TPE326", "ntp-unsynchronized", Severity.LOW, protocol="ntp", kind=Kind.NOTICE, pure=True)
def unsynchronized(match: Match) -> Iterator[Issue]:
    """Flags: a time server that says of itself that its clock is not set.

    Why: Its answers are ignored, so the base station gets no time from it; without the right time its
    certificates fail.

    Evidence: Leap indicator 3, or a stratum of 0 or 16, in the server's answers.

    Remedy: Give the time server a source of time, or choose another server.
    """
    found = [
        (item.frame, packet)
        for item, packet in packets(match)
        if packet.mode == SERVER and packet.kiss is None and not packet.synchronized
    ]
    if found:
        first = found[0][1]
        sign = "leap indicator 3" if first.leap == UNSYNCHRONIZED else f"stratum {first.stratum}"
        yield Issue(
            f"The time server says that its own clock is not synchronized ({sign}).",
            cited_frames(frame for frame, _ in found),
        )


@check("TPE327", "ntp-crypto-nak", Severity.LOW, protocol="ntp", kind=Kind.NOTICE, pure=True)
def crypto_nak(match: Match) -> Iterator[Issue]:
    """Flags: a time server that refuses how the base station authenticates its requests.

    Why: The base station ignores such answers and gets no time; without the right time its certificates fail. Who
    is on the way can also forge them to keep it from the time.

    Evidence: Answers whose authenticator is a crypto-NAK: key identifier 0 and no digest.

    Remedy: Give the base station and the time server the same key under the same identifier.
    """
    answers = {item.frame for item, packet in packets(match) if packet.mode == SERVER}
    authenticators = messages(match.conversation.dissection.items, Authenticator)
    refusals = [item.frame for item, code in authenticators if code.refuses and item.frame in answers]
    if refusals:
        yield Issue(
            "The time server does not accept how requests are authenticated (crypto-NAK).", cited_frames(refusals)
        )


CHECKS = (control_message, private_message, version, association_mode, kiss_of_death, unsynchronized, crypto_nak)
