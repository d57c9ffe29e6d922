"""FTP data connections: which command of which control connection opened each."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from analyzer.conversations import Conversation, Conversations
from analyzer.messages import Facts
from analyzer.protocols import Dissection, ftp
from analyzer.safetext import SafeText


@dataclass(frozen=True, slots=True)
class FtpDataFacts(Facts):
    """What an FTP data connection carried, as its control connection told."""

    control: int
    """Id of the control connection's flow."""
    verb: SafeText | None
    """``None``: the connection was announced, but no command used it in the capture."""
    path: str | None


class Announcement(NamedTuple):
    """A data connection that a control connection spoke of."""

    control: Conversation
    connection: ftp.DataConnection


CONSIDERED = 64
"""Announcements of one endpoint, on either side of its beginning, among which a data connection looks for its own."""


def identify_data_connections(conversations: Conversations) -> Conversations:
    """Tie FTP data connections to the commands that opened them, be they before or after the reply's capture.

    Where the reply that named an endpoint is not in the capture, the first connection that the client opens to the
    server after its command is taken for it, if its content is of no protocol known here.
    """
    announced: dict[tuple[str, str, int], list[Announcement]] = {}
    """By the address that calls, and the address and port that are called."""
    unnamed: list[Announcement] = []
    for control in conversations:
        facts = control.dissection.facts
        if not isinstance(facts, ftp.FtpFacts):
            continue
        for transfer in facts._transfers:
            if transfer.endpoint is None:
                if transfer.passive:
                    unnamed.append(Announcement(control, transfer))
                continue
            ends = control.originator, control.responder
            caller, listening = ends if transfer.passive else ends[::-1]
            # Many a client goes to the server that it knows, whatever address the reply names behind a NAT.
            for host in dict.fromkeys((transfer.endpoint.address or listening.address, listening.address)):
                key = caller.address, host, transfer.endpoint.port
                announced.setdefault(key, []).append(Announcement(control, transfer))
    for each in announced.values():
        each.sort(key=announced_at)
    result = [with_command(each, announced) for each in conversations] if announced else list(conversations)
    opened: dict[tuple[str, str], list[tuple[int, int]]] = {}
    """By client and server: when which connection began."""
    for index, data in enumerate(result if unnamed else ()):
        if data.transport == "tcp" and data.originator_certain and data.protocol is None:
            opened.setdefault((data.originator.address, data.responder.address), []).append((data.first, index))
    for candidates in opened.values():
        candidates.sort()
    following = {ends: list(range(len(candidates) + 1)) for ends, candidates in opened.items()}
    """Place of the next candidate that is free, from each place on; places in between are looked at but once."""
    for control, transfer in unnamed:
        ends_of = control.originator.address, control.responder.address
        candidates, free = opened.get(ends_of, []), following.get(ends_of, [0])
        at = bisect_left(candidates, (transfer.time, 0))
        while free[at] != at:
            free[at] = free[free[at]]
            at = free[at]
        if at < len(candidates) and candidates[at][0] <= control.last:
            free[at] = at + 1
            index = candidates[at][1]
            result[index] = carrying(result[index], control, transfer)
    return conversations.replaced(result)


def announced_at(each: Announcement) -> int:
    return each.connection.time


def with_command(data: Conversation, announced: Mapping[tuple[str, str, int], list[Announcement]]) -> Conversation:
    """A connection that some control connection announced, with the command that used it; any other as it is."""
    if data.transport != "tcp" or data.protocol == ftp.NAME:
        return data
    for caller, called in ((data.originator, data.responder), (data.responder, data.originator)):
        each = announced.get((caller.address, called.address, called.port or 0), ())
        # A port may serve again: its newest announcement counts, or the first if none was captured before.
        at = bisect_right(each, data.first, key=announced_at)
        for control, used in (*reversed(each[max(0, at - CONSIDERED) : at]), *each[at : at + CONSIDERED]):
            if data.last >= control.first and data.first <= control.last:
                return carrying(data, control, used)
    return data


def carrying(data: Conversation, control: Conversation, transfer: ftp.DataConnection) -> Conversation:
    """A data connection with what its control connection says of it."""
    carried = FtpDataFacts(control.id, transfer.verb, transfer.path)
    return data._replace(control=control.id, dissection=Dissection("ftp-data", facts=carried))
