"""FTP: how data connections are opened, and to which hosts; failed transfers and refused logins.

One refused login is no issue here: it makes the row blocked.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address

from analyzer.findings import Issue, Kind, Severity, check, cited_frames
from analyzer.heads import DIRECTIONS, Frame
from analyzer.matching import Match
from analyzer.messages import messages
from analyzer.protocols.ftp import TRANSFERS, Command, FtpFacts, Reply

GUESSES = 3
"""Refused logins from which on a client is guessing passwords: a base station has one and gives up."""
AUTH_REFUSALS = (431, 500, 502, 504, 534)
"""Replies that refuse AUTH (RFC 2228, section 4; RFC 959, section 4.2)."""
NOT_LOGGED_IN = 530
"""Reply to a refused login (RFC 959, section 4.2)."""
SITE_COMMANDS = ("EXEC", "CPFR", "CPTO")
"""First words after SITE that run programs, or copy files behind the client's directory."""
TARGETS_SHOWN = 3
"""Maximum addresses that a sentence lists."""


@check("TPE311", "ftp-active-mode", Severity.INFO, protocol="ftp", kind=Kind.NOTICE, aggregated=True)
def active_mode(match: Match) -> Iterator[Issue]:
    """Flags: PORT or EPRT, by which the server opens the data connection towards the client.

    Why: an LRR transfers in passive mode; firewalls in front of base stations refuse connections from outside.

    Evidence: the frames of the commands.

    Remedy: Set the base station's FTP client to passive mode.
    """
    found = commands(match, "PORT", "EPRT")
    if found:
        yield Issue("The client asks for active mode (PORT or EPRT).", cited_frames(frame for frame, _ in found))


@check("TPE312", "ftp-auth-tls", Severity.INFO, protocol="ftp", kind=Kind.NOTICE)
def auth_tls(match: Match) -> Iterator[Issue]:
    """Flags: AUTH, by which the client asks to go on in TLS.

    Why: the row is plain FTP; after AUTH nobody can see what is transferred, so rows i7 and i8 cannot be told apart.

    Evidence: the frames of the commands.

    Remedy: Verify that TLS is wanted here, and use the TLS mode's own port if it is.
    """
    found = commands(match, "AUTH")
    facts = match.conversation.dissection.facts
    if found and isinstance(facts, FtpFacts):
        refusal = next((code for code in map(int, facts.replies) if code in AUTH_REFUSALS), None)
        if facts.auth_tls:
            outcome = "and the server accepts"
        elif refusal is not None:
            outcome = f"and the server refuses it with {refusal}"
        else:
            outcome = "and the capture does not show the server's answer"
        mechanism = found[0][1].argument
        yield Issue(f"The client asks for AUTH {mechanism} {outcome}.", cited_frames(frame for frame, _ in found))


@check("TPE313", "ftp-bounce", Severity.HIGH, protocol="ftp")
def bounce(match: Match) -> Iterator[Issue]:
    """Flags: PORT or EPRT with an address that is not the client's.

    Severity: high; low where a NAT in between may have caused it.

    Why: so a client lets the server connect to third parties, to scan them or to send them files (RFC 2577).

    Evidence: the frames of the commands.

    Remedy: Let the FTP server refuse PORT and EPRT to any address but the client's.
    """
    client = unmapped(match.conversation.originator.address)
    found = [
        (item.frame, command.endpoint)
        for item, command in messages(match.conversation.dissection.items, Command)
        if command.endpoint is not None and command.endpoint.address not in (None, client)
    ]
    if found:
        targets = list(dict.fromkeys(f"{endpoint.address}:{endpoint.port}" for _, endpoint in found))
        listed = " and ".join(targets[:TARGETS_SHOWN]) + (", …" if len(targets) > TARGETS_SHOWN else "")
        # Behind NAT a client names its private address, while the capture shows its public one.
        translated = ip_address(client).is_global and all(is_private(endpoint.address) for _, endpoint in found)
        yield Issue(
            f"The client {client} asks the server to connect to {listed}.",
            cited_frames(frame for frame, _ in found),
            Severity.LOW if translated else None,
        )


@check("TPE314", "ftp-passive-elsewhere", Severity.LOW, protocol="ftp")
def passive_elsewhere(match: Match) -> Iterator[Issue]:
    """Flags: a 227 reply with an address that is not the server's.

    Why: the client is sent to another host, by a server behind a NAT that does not know its address, or by an attacker.

    Evidence: the frames of the replies.

    Remedy: Set the FTP server's passive address to the one that base stations connect to.
    """
    server = unmapped(match.conversation.responder.address)
    found = [
        (item.frame, reply.endpoint)
        for item, reply in messages(match.conversation.dissection.items, Reply)
        if reply.endpoint is not None and reply.endpoint.address not in (None, server)
    ]
    if found:
        endpoint = found[0][1]
        yield Issue(
            f"The server {server} sends the client to {endpoint.address}:{endpoint.port} for data.",
            cited_frames(frame for frame, _ in found),
        )


@check("TPE315", "ftp-control-not-read-whole", Severity.INFO, protocol="ftp", kind=Kind.NOTICE)
def not_read_whole(match: Match) -> Iterator[Issue]:
    """Flags: a control connection of which a part was not read: more than 256 kB of one side, or bytes not captured.

    Why: commands behind that are in no count. Data connections that they opened look unexpected; where only the reply
    is lost that named one, it is told by its time.

    Evidence: the last frame that was read.

    Remedy: Capture shorter, or without loss; look at the rest of the connection by hand.
    """
    conversation = match.conversation
    facts = conversation.dissection.facts
    if isinstance(facts, FtpFacts) and facts.auth_tls:
        return
    for direction, side in zip(DIRECTIONS, ("client", "server"), strict=True):
        stream, sent = conversation.head.streams[direction], conversation.payload[direction]
        if stream.marks and sent > len(stream.data):
            yield Issue(
                f"Of what the {side} says, {len(stream.data):,} of {sent:,} bytes were read.",
                (stream.marks[-1].frame,),
            )


@check("TPE316", "ftp-transfer-failed", Severity.LOW, protocol="ftp", kind=Kind.NOTICE)
def transfer_failed(match: Match) -> Iterator[Issue]:
    """Flags: RETR, STOR, STOU or APPE that the server refuses or breaks off.

    Why: a base station that does not get its software or configuration, or cannot leave what it was asked for, stays
    behind; the row is there, but does not do its work.

    Evidence: the frames that named the data connections of such transfers.

    Remedy: Compare the path and the user's rights on the server with what the base station asks for.
    """
    facts = match.conversation.dissection.facts
    if not isinstance(facts, FtpFacts):
        return
    failed = [
        transfer
        for transfer in facts._transfers
        if transfer.verb in TRANSFERS and transfer.reply is not None and transfer.reply >= 400
    ]
    if failed:
        first = failed[0]
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        sentence = f"{first.verb} of {first.path or 'a file without a name'} fails with {first.reply}{more}."
        yield Issue(sentence, cited_frames(transfer.frame for transfer in failed))


@check("TPE317", "ftp-logins-refused", Severity.LOW, protocol="ftp", kind=Kind.NOTICE)
def logins_refused(match: Match) -> Iterator[Issue]:
    """Flags: three or more refused logins on one connection.

    Why: a base station has one user and one password and gives up; who tries on is guessing.

    Evidence: the frames of the refusals.

    Remedy: Find out what on the base station logs in, and compare its password with the server's.
    """
    facts = match.conversation.dissection.facts
    if isinstance(facts, FtpFacts) and facts.refusals >= GUESSES:
        replies = messages(match.conversation.dissection.items, Reply)
        yield Issue(
            f"The server refuses {facts.refusals} logins.",
            cited_frames(item.frame for item, reply in replies if reply.code == NOT_LOGGED_IN),
        )


@check("TPE318", "ftp-path-escapes", Severity.LOW, protocol="ftp")
def path_escapes(match: Match) -> Iterator[Issue]:
    """Flags: RETR, STOR, STOU or APPE of a path that goes up behind its first directory with "..".

    Why: an LRR names files below its login directory; "../" is how files are reached that nobody meant to share.

    Evidence: the frames of the commands.

    Remedy: Lock the FTP user in its directory, and find out what asks for such a path.
    """
    found = [
        (frame, command)
        for frame, command in commands(match, *TRANSFERS)
        if ".." in command.argument.replace("\\", "/").split("/")
    ]
    if found:
        first = found[0][1]
        yield Issue(f"The client asks for {first.verb} of {first.argument}.", cited_frames(frame for frame, _ in found))


@check("TPE319", "ftp-site-command", Severity.MEDIUM, protocol="ftp")
def site_command(match: Match) -> Iterator[Issue]:
    """Flags: SITE EXEC, which runs a program on the server, and SITE CPFR and CPTO, which copy any of its files.

    Why: a base station fetches and stores files; these commands take over a server that allows them (CVE-1999-0080,
    CVE-2015-3306).

    Evidence: the frames of the commands.

    Remedy: Switch the SITE commands of the FTP server off, and find out who on the base station sent them.
    """
    found = [
        (frame, command.argument.split(maxsplit=1)[0].upper())
        for frame, command in commands(match, "SITE")
        if command.argument.upper().startswith(SITE_COMMANDS)
    ]
    if found:
        names = " and ".join(f"SITE {name}" for name in sorted({name for _, name in found}))
        count = "once" if len(found) == 1 else f"{len(found)} times"
        yield Issue(
            f"The client sends {names} {count}, as no base station does.", cited_frames(frame for frame, _ in found)
        )


CHECKS = (
    active_mode,
    auth_tls,
    bounce,
    passive_elsewhere,
    not_read_whole,
    transfer_failed,
    logins_refused,
    path_escapes,
    site_command,
)


def commands(match: Match, *verbs: str) -> list[tuple[Frame, Command]]:
    """The client's commands with these verbs, each with its frame."""
    return [
        (item.frame, command)
        for item, command in messages(match.conversation.dissection.items, Command)
        if command.verb in verbs
    ]


def unmapped(address: str) -> str:
    """An address as FTP's commands name it: IPv4-mapped IPv6 becomes IPv4."""
    parsed = ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)


def is_private(address: str | None) -> bool:
    return address is not None and ip_address(address).is_private
