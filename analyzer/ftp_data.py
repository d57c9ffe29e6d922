"""FTP data connections, identified by the control connections that announced them (RFC 959, RFC 2428)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from analyzer.conversations import Conversation, Conversations, State
from analyzer.dataclass import dataclass
from analyzer.messages import Facts
from analyzer.protocols import Dissection, ftp
from analyzer.safetext import SafeText

MAX_CANDIDATES = 64
"""Announcements of one endpoint, before and after the beginning of a data connection, that are compared with it."""

OPEN_CONTROL = 10_000_000_000
"""Nanoseconds after the last packet of an open control connection in which its data connections still begin."""


LEAST_PORT = 1024
"""Lowest port that a client or server announces for data; those below belong to services (RFC 2577, section 3)."""


@dataclass(frozen=True, slots=True)
class FtpDataFacts(Facts):
    """Facts of an FTP data connection, taken from its control connection."""

    control: int
    """Id of the control connection's flow."""
    verb: SafeText | None
    """Command that used the connection; ``None`` if none in the capture did."""
    path: str | None


class Announcement(NamedTuple):
    """A data connection that a control connection announced."""

    control: Conversation
    connection: ftp.DataConnection


EndpointKey = tuple[str, str, int]
"""Address of the connecting host, address and port of the listening one."""
UsedAnnouncement = tuple[int, int]
"""Id of the control connection, and time of an announcement whose connection has carried data."""


def identify_data_connections(conversations: Conversations) -> Conversations:
    """Replace the dissection of every FTP data connection by the facts of the command that used it.

    A data connection may be captured before the reply that announces it. Where that reply is missing, the first
    connection of unknown content that the client opens to the server after its command is taken for the announced one.
    """
    by_endpoint, unnamed = announcements(conversations)
    if not by_endpoint and not unnamed:
        return conversations
    used: set[UsedAnnouncement] = set()
    identified = [with_command(conversation, by_endpoint, used) for conversation in conversations]
    identify_by_time(identified, unnamed)
    return conversations.replaced(identified)


def announcements(conversations: Conversations) -> tuple[Mapping[EndpointKey, list[Announcement]], list[Announcement]]:
    """All announced data connections: by endpoint and ascending by time; and those whose endpoint is unknown."""
    by_endpoint: defaultdict[EndpointKey, list[Announcement]] = defaultdict(list)
    unnamed: list[Announcement] = []
    for control in conversations:
        facts = control.dissection.facts
        if not isinstance(facts, ftp.FtpFacts):
            continue
        for connection in facts._transfers:
            announcement = Announcement(control, connection)
            if connection.endpoint is None:
                if connection.passive:
                    unnamed.append(announcement)
                continue
            if connection.endpoint.port < LEAST_PORT:
                continue
            client, server = control.originator, control.responder
            caller, listener = (client, server) if connection.passive else (server, client)
            # Behind NAT, PASV replies name a private address; clients then use the control connection's address.
            for address in dict.fromkeys((connection.endpoint.address or listener.address, listener.address)):
                by_endpoint[caller.address, address, connection.endpoint.port].append(announcement)
    for announced in by_endpoint.values():
        announced.sort(key=announcement_time)
    return by_endpoint, unnamed


def announcement_time(announcement: Announcement) -> int:
    """Nanoseconds since the epoch."""
    return announcement.connection.time


def with_command(
    data: Conversation, by_endpoint: Mapping[EndpointKey, Sequence[Announcement]], used: set[UsedAnnouncement]
) -> Conversation:
    """A conversation with the command that used it, if it is an announced data connection; else as it is.

    An announcement opens one connection that carries data, and any number of attempts before it. Both sides of another
    protocol speak, while a file goes one way: what answers is no data connection, whatever was announced.
    """
    if data.transport != "tcp" or data.protocol == ftp.NAME or speaks_another_protocol(data):
        return data
    for caller, listener in ((data.originator, data.responder), (data.responder, data.originator)):
        announced = by_endpoint.get((caller.address, listener.address, listener.port or 0), ())
        # A port may be announced again: the newest announcement before the connection counts, else the first after it.
        at = bisect_right(announced, data.first, key=announcement_time)
        before, after = announced[max(0, at - MAX_CANDIDATES) : at], announced[at : at + MAX_CANDIDATES]
        for announcement in (*reversed(before), *after):
            use = announcement.control.id, announcement.connection.time
            if use not in used and in_lifetime(data, announcement.control):
                if any(data.payload):
                    used.add(use)
                return as_data_connection(data, *announcement)
    return data


def speaks_another_protocol(data: Conversation) -> bool:
    """Whether both sides of a conversation speak, in a protocol other than TLS (RFC 4217, section 9)."""
    return data.protocol not in (None, "tls") and all(data.payload)


def in_lifetime(data: Conversation, control: Conversation) -> bool:
    """Whether a connection was open while a control connection was, as far as the capture tells.

    A control connection that began before the capture has no known beginning, and one that was not closed goes on.
    """
    if control.state is not State.MIDSTREAM and data.last < control.first:
        return False
    closed = control.closed_by is not None or control.refused is not None
    return data.first <= control.last + (0 if closed else OPEN_CONTROL)


def identify_by_time(conversations: list[Conversation], unnamed: Sequence[Announcement]) -> None:
    """Identify the data connections whose endpoint is unknown, in place: each is the next one of its two hosts."""
    candidates: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    """Client and server → beginning and index of each connection of unknown content, ascending."""
    for index, data in enumerate(conversations if unnamed else ()):
        if data.transport == "tcp" and data.originator_certain and data.protocol is None:
            candidates[data.originator.address, data.responder.address].append((data.first, index))
    for opened in candidates.values():
        opened.sort()
    next_free = {hosts: list(range(len(opened) + 1)) for hosts, opened in candidates.items()}
    """Position in the list of candidates → a later or the same one, up to which none is free."""
    for control, connection in unnamed:
        hosts = control.originator.address, control.responder.address
        opened, free = candidates.get(hosts, []), next_free.get(hosts, [0])
        at = bisect_left(opened, (connection.time, 0))
        while free[at] != at:
            free[at] = free[free[at]]  # halves the path for the next announcement
            at = free[at]
        if at < len(opened) and in_lifetime(conversations[opened[at][1]], control):
            free[at] = at + 1
            index = opened[at][1]
            conversations[index] = as_data_connection(conversations[index], control, connection)


def as_data_connection(data: Conversation, control: Conversation, connection: ftp.DataConnection) -> Conversation:
    """A conversation with the facts of an FTP data connection."""
    facts = FtpDataFacts(control.id, connection.verb, connection.path)
    return data._replace(control=control.id, dissection=Dissection("ftp-data", facts=facts))
