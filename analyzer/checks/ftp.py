"""FTP: how data connections are opened, and towards whom. A refused login is the row's status, no defect of content."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address

from analyzer.findings import Kind, Remark, Severity, content_check
from analyzer.heads import Frame
from analyzer.matching import Fit
from analyzer.messages import messages
from analyzer.protocols.ftp import Command, FtpFacts, Reply


@content_check("TPE311", "ftp-active-mode", Severity.INFO, "ftp", Kind.NOTICE)
def active_mode(fit: Fit) -> Iterator[Remark]:
    """Flags: PORT or EPRT, by which the server opens the data connection towards the client.

    Why: an LRR transfers in passive mode; firewalls in front of base stations refuse connections from outside.

    Evidence: the frames of the commands.

    Remedy: Set the base station's FTP client to passive mode.
    """
    found = [
        (item.frame, said.verb)
        for item, said in messages(fit.conversation.dissection.items, Command)
        if said.verb in ("PORT", "EPRT")
    ]
    if found:
        verbs = " and ".join(dict.fromkeys(verb for _, verb in found))
        yield Remark(f"The client asks for active mode ({verbs}).", shown(frame for frame, _ in found))


@content_check("TPE312", "ftp-auth-tls", Severity.INFO, "ftp", Kind.NOTICE)
def auth_tls(fit: Fit) -> Iterator[Remark]:
    """Flags: AUTH, by which the client asks to go on in TLS.

    Why: the row is plain FTP; after AUTH nobody can see what is transferred, so rows i7 and i8 cannot be told apart.

    Evidence: the frames of the commands.

    Remedy: Verify that TLS is wanted here, and use the TLS mode's own port if it is.
    """
    found = [
        (item.frame, said.argument)
        for item, said in messages(fit.conversation.dissection.items, Command)
        if said.verb == "AUTH"
    ]
    facts = fit.conversation.dissection.facts
    if found and isinstance(facts, FtpFacts):
        outcome = "and the server accepts" if facts.auth_tls else "and the server is not seen to accept"
        yield Remark(f"The client asks for AUTH {found[0][1]} {outcome}.", shown(frame for frame, _ in found))


@content_check("TPE313", "ftp-bounce", Severity.HIGH, "ftp")
def bounce(fit: Fit) -> Iterator[Remark]:
    """Flags: PORT or EPRT with an address that is not the client's; low if a NAT in between may have caused it.

    Why: so a client lets the server connect to third parties, to scan them or to send them files (RFC 2577).

    Evidence: the frames of the commands.

    Remedy: Let the FTP server refuse PORT and EPRT to any address but the client's.
    """
    client = plain(fit.conversation.originator.address)
    found = [
        (item.frame, f"{said.endpoint.address}:{said.endpoint.port}", said.endpoint.address)
        for item, said in messages(fit.conversation.dissection.items, Command)
        if said.endpoint is not None and said.endpoint.address not in (None, client)
    ]
    if found:
        targets = list(dict.fromkeys(target for _, target, _ in found))
        named = " and ".join(targets[:3]) + (", …" if len(targets) > 3 else "")
        translated = ip_address(client).is_global and all(is_private(address) for _, _, address in found)
        sentence = f"The client {client} asks the server to connect to {named}."
        yield Remark(sentence, shown(frame for frame, _, _ in found), Severity.LOW if translated else None)


@content_check("TPE314", "ftp-passive-elsewhere", Severity.LOW, "ftp")
def passive_elsewhere(fit: Fit) -> Iterator[Remark]:
    """Flags: a 227 reply with an address that is not the server's.

    Why: the client is sent to another host, by a server behind a NAT that does not know its address, or by an attacker.

    Evidence: the frames of the replies.

    Remedy: Set the FTP server's passive address to the one that base stations connect to.
    """
    server = plain(fit.conversation.responder.address)
    found = [
        (item.frame, f"{said.endpoint.address}:{said.endpoint.port}")
        for item, said in messages(fit.conversation.dissection.items, Reply)
        if said.endpoint is not None and said.endpoint.address not in (None, server)
    ]
    if found:
        sentence = f"The server {server} sends the client to {found[0][1]} for data."
        yield Remark(sentence, shown(frame for frame, _ in found))


CHECKS = (active_mode, auth_tls, bounce, passive_elsewhere)


def plain(address: str) -> str:
    """An address as FTP's commands name it: IPv4 where it is only mapped to IPv6."""
    parsed = ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)


def is_private(address: str | None) -> bool:
    return address is not None and ip_address(address).is_private


def shown(frames: Iterator[Frame]) -> tuple[Frame, ...]:
    """The first few frames, ascending."""
    return tuple(sorted(set(frames))[:8])
