"""NTP: time of versions 3 and 4 between client and server, and nothing else on the port."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.conversations import items_of_flows
from analyzer.findings import CAPTURE, AuditContext, Issue, Kind, Severity, check, cited_frames, frames_filter
from analyzer.heads import Direction, Frame
from analyzer.matching import Match, StationMatches
from analyzer.messages import Item, messages
from analyzer.protocols.ntp import (
    BROADCAST,
    CLIENT,
    EXTENSIONS,
    KISSES,
    MONLIST,
    NAME,
    SERVER,
    SYMMETRIC_ACTIVE,
    SYMMETRIC_PASSIVE,
    UNSYNCHRONIZED,
    Authenticator,
    Control,
    Extension,
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
EPOCH = 2_208_988_800
"""Seconds from 1900, where the time stamps of NTP begin, to 1970."""
PLAUSIBLE = 10 * 365 * 86400
"""Seconds by which a clock that was set may differ from the capture's."""
UNSET = EPOCH + 2 * 365 * 86400
"""Seconds since 1900 up to which a clock that began at 1970 counts as one that was never set."""
TUNNEL_STAMPS = 4
"""Requests with impossible time stamps, all different, that make a tunnel."""
TUNNEL_REQUESTS, TUNNEL_INTERVAL = 64, 1_000_000_000
"""Requests to one server, and the mean nanoseconds between them below which they are no client's: the shortest poll is
16 seconds (RFC 5905, section 7.2), so that even sixteen clients behind one address ask less often."""
TUNNEL_BYTES = 1024
"""Bytes in extension fields of no known type, to or from one server, that make a tunnel."""
SAMPLED_FLOWS = 64
"""Maximum flows of a group of duplicates whose time stamps are read."""
LONG_RUN = 32
"""Requests in a row, each within four seconds after another; a client that starts sends 8 (RFC 5905, section 13)."""
LONGEST_EXTENSION = 1024
"""Bytes of an extension field above that of NTS with eight cookies (RFC 8915, section 5.7)."""
MANY_KEYS = 8
"""Key identifiers of one server; a client and its server share one, and change it by hand."""
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


@check("TPE328", "ntp-tunnel", Severity.MEDIUM, scope=CAPTURE, kind=Kind.MALFORMED)
def tunnel(context: AuditContext) -> Iterator[Issue]:
    """Flags: NTP that carries more than the time: impossible time stamps, requests in a rush, unknown extensions.

    Why: The port of NTP is open to any host, so data can leave through it; a client asks once in 16 seconds or less
    often, and repeats the same few fields.

    Evidence: Over all conversations with one server, 4 requests whose reference, origin or receive time stamps are all
    different and more than ten years from the capture's time; 64 requests or more with less than a second between them
    on average; 32 requests of one port, each within 4 seconds after another; more than 1024 bytes in extension fields
    of types that nobody has assigned, or longer than any; or 8 different key identifiers. The transmit time stamp may
    be random.

    Remedy: Find the program that sends these requests, and let base stations reach your own time servers only.
    """
    for station in context.stations:
        for server, matches in matches_by_server(station).items():
            reasons, frames = tunnel_signs(matches)
            if reasons:
                cited = cited_frames(frames)
                sent = sum(match.conversation.flow_count * sum(match.conversation.payload) for match in matches)
                yield Issue(
                    f"NTP between {station.address} and {server} carries data, {sent} bytes in all: "
                    f"{' and '.join(reasons)}.",
                    base_station=station.address,
                    rows=tuple(dict.fromkeys(row.id for match in matches for row in match.rows)),
                    conversations=tuple(match.conversation for match in matches),
                    frames=cited,
                    filter=frames_filter(cited),
                )


def matches_by_server(station: StationMatches) -> dict[str, list[Match]]:
    """The NTP conversations of a base station by the other end's address."""
    found: dict[str, list[Match]] = {}
    for match in station.matches_by_protocol.get(NAME, ()):
        conversation = match.conversation
        outbound = station.station.end(conversation) is Direction.ORIGINATOR
        peer = conversation.responder if outbound else conversation.originator
        found.setdefault(peer.address, []).append(match)
    return found


def tunnel_signs(matches: list[Match]) -> tuple[list[str], list[Frame]]:
    """Why the conversations with one server look like a tunnel, with the frames that show it."""
    reasons, frames = [], []
    requests = sum(match.conversation.flow_count * match.conversation.packets[0] for match in matches)
    first = min(match.conversation.first for match in matches)
    last = max(match.conversation.latest for match in matches)
    if requests >= TUNNEL_REQUESTS and last - first < requests * TUNNEL_INTERVAL:
        reasons.append(f"{requests} requests within {(last - first) / 1e9:.1f} s")
        frames += [match.conversation.first_frame for match in matches]
    run = max(match.conversation.rapid[Direction.ORIGINATOR] for match in matches)
    if run >= LONG_RUN:
        reasons.append(f"{run} requests of one port, each within 4 s after another")
        frames += [match.conversation.first_frame for match in matches if match.conversation.rapid[0] == run]
    stamped = impossible_requests(matches) if requests >= TUNNEL_STAMPS else []
    if len(stamped) >= TUNNEL_STAMPS:
        reasons.append("requests whose time stamps are no times")
        frames += stamped
    unknown = [
        (item.frame, extension.length)
        for match in matches
        for item, extension in messages(match.conversation.dissection.items, Extension)
        if extension.type not in EXTENSIONS or extension.length > LONGEST_EXTENSION
    ]
    if sum(length for _, length in unknown) > TUNNEL_BYTES:
        reasons.append(f"{sum(length for _, length in unknown)} bytes in extension fields of unknown types or lengths")
        frames += [frame for frame, _ in unknown]
    keys = {
        authenticator.key: item.frame
        for match in matches
        for item, authenticator in messages(match.conversation.dissection.items, Authenticator)
    }
    if len(keys) >= MANY_KEYS:
        reasons.append(f"{len(keys)} different key identifiers in the place of one")
        frames += keys.values()
    return reasons, frames


def impossible_requests(matches: list[Match]) -> list[Frame]:
    """The requests whose time stamps are no times, and were in no request before.

    The transmit time stamp is left out: clients may fill it at random (RFC 5905, section 14; chrony does). Duplicate
    flows may differ in their time stamps, so that some of them are read.
    """
    frames: dict[tuple[int, ...], Frame] = {}
    for match in matches:
        conversation = match.conversation
        for items in items_of_flows(conversation, range(min(conversation.flow_count, SAMPLED_FLOWS))):
            for item, packet in messages(items, Packet):
                stamps = packet.reference_timestamp, packet.origin_timestamp, packet.receive_timestamp
                if packet.mode == CLIENT and not any(is_possible(stamp >> 32, item.time) for stamp in stamps if stamp):
                    frames.setdefault(stamps, item.frame)
    return [frame for stamps, frame in frames.items() if any(stamps)]


def is_possible(seconds: int, time: int) -> bool:
    """Whether a time stamp (seconds since 1900, modulo 2**32) can be a clock's at ``time`` (nanoseconds since 1970)."""
    distance = (seconds - time // 1_000_000_000 - EPOCH) % 2**32
    return min(distance, 2**32 - distance) < PLAUSIBLE or EPOCH <= seconds < UNSET


CHECKS = (
    control_message,
    private_message,
    version,
    association_mode,
    kiss_of_death,
    unsynchronized,
    crypto_nak,
    tunnel,
)
