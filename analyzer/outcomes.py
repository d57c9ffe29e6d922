"""How far a conversation came at a row: tried, answered, or served.

A conversation is *answered* if the responder sent something of its own, and *served* if the responder did what the row
is for, in the row's protocol. The TCP handshake is neither: a port that accepts and says nothing serves nobody.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import NamedTuple

from analyzer.conversations import Conversation, IcmpError, State
from analyzer.expected import ExpectedFlow
from analyzer.heads import DIRECTIONS, Direction
from analyzer.messages import Item, messages
from analyzer.protocols import dhcp, dhcp6, dns, esp, ftp, icmp, iec104, ntp, ssh, tls
from analyzer.protocols.preambles import ends_within
from analyzer.protocols.tls.records import ApplicationData
from analyzer.protocols.tls.registry import TLS_1_3

SENT, RECEIVED = Direction.ORIGINATOR, Direction.RESPONDER

TLS_HEADER_BYTES, TLS_ALERT_BYTES = 5, 24
"""Header of a TLS record; an encrypted alert of TLS 1.3: header, alert, type and tag (RFC 8446, section 5.2)."""

SSH_REFUSALS = (b"Exceeded MaxStartups", b"Not allowed at this time", b"Too many connections")
"""Texts with which OpenSSH and its wrappers refuse a session instead of a banner."""


class Stage(enum.IntEnum):
    """How far a conversation came."""

    TRIED = 0
    """The responder sent nothing of its own."""
    ANSWERED = 1
    """The responder sent something of its own."""
    SERVED = 2
    """The responder did what the row is for."""


class Outcome(NamedTuple):
    """How far a conversation came, and why not further."""

    stage: Stage
    clause: str = ""
    """Not served: what happened, one clause. Served: what the capture does not show of it, or nothing."""
    refused: bool = False
    """The responder or a router refused: nothing more can come, however soon the capture ends."""
    inferred: bool = False
    """The refusal is inferred from sizes and timing, as its words are encrypted."""
    unseen: bool = False
    """The capture lacks a direction, and what it holds does not prove that the conversation was served."""
    progress: int | None = None
    """Time of the last progress, nanoseconds since the epoch, where it is not that of the newest payload."""


def outcome(conversation: Conversation, row: ExpectedFlow) -> Outcome:
    """How far a conversation came at a row that it matches."""
    if row.transport == "tcp":
        return tcp_outcome(conversation, row)
    if row.transport == "esp":
        return esp_outcome(conversation)
    judge = BY_DATAGRAM.get(row.protocol)
    if judge is not None and conversation.protocol == row.protocol:
        return judge(conversation)
    return datagram_outcome(conversation)


# -- TCP --------------------------------------------------------------------------------------------------------


def tcp_outcome(conversation: Conversation, row: ExpectedFlow) -> Outcome:
    """The outcome of a TCP conversation."""
    sent, received = conversation.payload
    server = conversation.responder.address
    errors = conversation.icmp_errors
    if conversation.state is State.REJECTED and errors and not conversation.refused:
        return Outcome(Stage.TRIED, icmp_clause(errors[0]), refused=True)
    if conversation.state in (State.ATTEMPTED, State.REJECTED):
        if conversation.refused is not None:
            return Outcome(Stage.TRIED, f"{server} reset the connection", refused=True)
        quoted = [error for error in errors if error.quoted is Direction.ORIGINATOR]
        if quoted:
            return Outcome(Stage.TRIED, icmp_clause(quoted[0]), refused=quoted[0].unreachable)
        what = "the handshake was not completed" if conversation.packets[RECEIVED] else "no answer to the SYN"
        return Outcome(Stage.TRIED, what)
    if not all(conversation.packets):
        return one_sided_outcome(conversation, row)
    if not received and conversation.state is State.MIDSTREAM and not conversation.retransmissions:
        return Outcome(Stage.TRIED, "nothing but its end is in the capture", unseen=True)
    if conversation.refused is not None and not received:
        after = "after the first request" if sent else "before a byte was sent"
        return Outcome(Stage.TRIED, f"{server} reset the connection {after}", refused=True)
    if not received:
        return unanswered_outcome(conversation)
    if conversation.state is State.MIDSTREAM:
        return midstream_outcome(conversation, row)
    if conversation.protocol == row.protocol:
        if not sent and row.protocol != ftp.NAME:
            return Outcome(Stage.ANSWERED, "the base station never sent a byte")
        return BY_STREAM[row.protocol](conversation) if row.protocol in BY_STREAM else Outcome(Stage.SERVED)
    if content_truncated(conversation):
        return Outcome(Stage.SERVED, "its content was not seen: the capture cut it off") if sent else NO_REQUEST
    return Outcome(Stage.ANSWERED, f"the content is not {row.service}")


NO_REQUEST = Outcome(Stage.ANSWERED, "the base station never sent a byte")


def icmp_clause(error: IcmpError) -> str:
    """An ICMP error in words: its sender, and the meaning of type and code in its own version of ICMP."""
    version = 6 if ":" in error.sender else 4
    family = "ICMPv6" if version == 6 else "ICMP"
    return f"{error.sender} answered with {family} {icmp.error_name(error.type, error.code, version)}"


def unanswered_outcome(conversation: Conversation) -> Outcome:
    """The outcome of a connection in which the responder sent no payload."""
    server, sent = conversation.responder.address, conversation.payload[SENT]
    errors = [error for error in conversation.icmp_errors if error.quoted is Direction.ORIGINATOR]
    if errors:
        return Outcome(Stage.TRIED, icmp_clause(errors[0]), refused=errors[0].unreachable)
    if not sent:
        if conversation.closed_by is Direction.RESPONDER:
            return Outcome(Stage.TRIED, f"{server} accepted the connection and closed it without a byte", refused=True)
        return Outcome(Stage.TRIED, f"{server} accepted the connection, and neither side sent a byte")
    if conversation.acknowledged[RECEIVED] < sent and conversation.retransmissions:
        return Outcome(Stage.TRIED, "the request was sent again and again, and never acknowledged")
    if conversation.closed_by is Direction.RESPONDER:
        return Outcome(Stage.TRIED, f"{server} closed the connection without an answer to the request", refused=True)
    return Outcome(Stage.TRIED, "the request was never answered")


def one_sided_outcome(conversation: Conversation, row: ExpectedFlow) -> Outcome:
    """The outcome of a connection of which the capture shows one direction."""
    if conversation.packets[RECEIVED]:
        return Outcome(Stage.ANSWERED, "the capture lacks what the base station sent", unseen=True)
    proved = conversation.acknowledged[SENT] - (conversation.closed_by is not None)
    if row.protocol == tls.NAME == conversation.protocol and proved > 1:
        facts = conversation.dissection.facts
        sent_data = isinstance(facts, tls.TlsFacts) and facts._client_record is not None
        if sent_data and conversation.payload[SENT] > len(conversation.head.streams[SENT].data):
            clause = f"the capture lacks the answers: acknowledgements prove {proved} bytes of them"
            return Outcome(Stage.SERVED, clause)
    return Outcome(Stage.TRIED, f"the capture lacks what {conversation.responder.address} sent", unseen=True)


def midstream_outcome(conversation: Conversation, row: ExpectedFlow) -> Outcome:
    """The outcome of a connection whose beginning is not in the capture, and whose responder sent payload."""
    if not conversation.payload[SENT] and conversation.acknowledged[RECEIVED] <= 0:
        return Outcome(Stage.ANSWERED, "its beginning is not in the capture", unseen=True)
    if is_protected_ftp(conversation, row):
        return Outcome(Stage.SERVED, "its beginning is not in the capture: it is encrypted, as from AUTH TLS on")
    known = conversation.protocol is not None
    if known and conversation.protocol != row.protocol:
        return Outcome(Stage.ANSWERED, f"the content is not {row.service}")
    limit = "only what follows was judged" if known else "what its content is cannot be told from what follows"
    return Outcome(Stage.SERVED, f"its beginning is not in the capture: {limit}")


def is_protected_ftp(conversation: Conversation, row: ExpectedFlow) -> bool:
    """Whether a control connection of FTP is encrypted where the capture begins, as it is after AUTH TLS."""
    return row.protocol == ftp.NAME and conversation.protocol == tls.NAME and conversation.state is State.MIDSTREAM


def content_truncated(conversation: Conversation) -> bool:
    """Whether the snap length or loss cut the content of a conversation before anybody could name it.

    True if a direction sent payload of which the capture holds no more than a few bytes from the beginning, though
    more were sent.
    """
    if conversation.transport != "tcp":
        datagrams = conversation.head.datagrams
        return any(len(datagram.data) < min(datagram.length, NAMEABLE_BYTES) for datagram in datagrams)
    streams = conversation.head.streams
    if ends_within(streams[SENT].data) and len(streams[SENT].data) < conversation.payload[SENT]:
        return True
    return any(
        len(stream.data) < min(payload, NAMEABLE_BYTES)
        for stream, payload in zip(streams, conversation.payload, strict=True)
    )


NAMEABLE_BYTES = 16
"""Bytes of a stream from which every protocol of the tables can be named: a record header of TLS and the type of its
first message, a banner of SSH, an APDU, a reply of FTP."""


# -- protocols over TCP -----------------------------------------------------------------------------------------


def tls_outcome(conversation: Conversation) -> Outcome:
    """Before TLS 1.3: ServerHello, and both ChangeCipherSpec with what follows. TLS 1.3: see :func:`tls13_outcome`."""
    facts = conversation.dissection.facts
    assert isinstance(facts, tls.TlsFacts)
    if facts._server_hello and facts._version is not None and facts._version >= TLS_1_3:
        return tls13_outcome(conversation, facts)
    if all(facts._protected):
        return Outcome(Stage.SERVED)
    if is_cut(conversation):
        return Outcome(Stage.SERVED, "its content was seen in part: the capture cut it off")
    if not facts._server_hello:
        alerts = [alert for alert in facts.alerts if alert.endswith("server")]
        if alerts:
            return Outcome(Stage.ANSWERED, f"the server refused the handshake ({alerts[0]})", refused=True)
        if facts._answered:
            return Outcome(Stage.SERVED) if facts._version is not None else Outcome(Stage.ANSWERED, NO_HELLO)
        return Outcome(Stage.ANSWERED, f"{other_answer(conversation)} answered the ClientHello", refused=True)
    if facts.alerts:
        return Outcome(Stage.ANSWERED, f"the handshake ended with an alert ({facts.alerts[-1]})", refused=True)
    server = facts._server
    who = "client" if facts._protected[server] or not facts._protected[1 - server] else "server"
    return Outcome(Stage.ANSWERED, f"the handshake stopped after the ServerHello: the {who} never finished it")


def other_answer(conversation: Conversation) -> str:
    """What answered in the place of TLS: the protocol, and the status of HTTP; no other byte of it."""
    start = conversation.head.streams[RECEIVED].data[:16]
    if start.startswith(b"HTTP/"):
        status = start[9:12]
        return f"HTTP (status {status.decode()}), not TLS," if status.isdigit() else "HTTP, not TLS,"
    return "an SSH banner, not TLS," if start.startswith(b"SSH-") else "something other than TLS"


NO_HELLO = "the server sent TLS, and no ServerHello"


def tls13_outcome(conversation: Conversation, facts: tls.TlsFacts) -> Outcome:
    """TLS 1.3 hides alerts in records of application data.

    Served: after the client's Finished, the server sends anything but a single record of the size of an alert, or the
    client closes first. A single such record, or the server's close right after the client's Finished, is a refusal,
    which is inferred.
    """
    finished = peer_payload_at_finished(conversation, facts)
    if finished < 0 and is_cut(conversation):
        return Outcome(Stage.SERVED, "its content was seen in part: the capture cut it off")
    if finished < 0:
        return Outcome(Stage.ANSWERED, "the handshake stopped after the ServerHello: the client never finished it")
    if facts._client_record == TLS_ALERT_BYTES - TLS_HEADER_BYTES:
        clause = "the client most likely refused the handshake: it sent a record of the size of an alert"
        return Outcome(Stage.ANSWERED, clause, refused=True, inferred=True)
    after = conversation.payload[RECEIVED] - finished
    if after > 0 and after != TLS_ALERT_BYTES:
        return Outcome(Stage.SERVED)
    if after == TLS_ALERT_BYTES:
        clause = "the server most likely refused the handshake: it answered with one record of the size of an alert"
        return Outcome(Stage.ANSWERED, clause, refused=True, inferred=True)
    if conversation.closed_by is Direction.RESPONDER or conversation.refused is not None:
        clause = "the server most likely refused the handshake: it closed right after the client's Finished"
        return Outcome(Stage.ANSWERED, clause, refused=True, inferred=True)
    if conversation.closed_by is Direction.ORIGINATOR:
        return Outcome(Stage.SERVED)
    return Outcome(Stage.ANSWERED, "the server sent nothing after the client's Finished")


def peer_payload_at_finished(conversation: Conversation, facts: tls.TlsFacts) -> int:
    """Bytes that the server had sent when the client sent its first record of application data; -1: it sent none."""
    if conversation.peer_payload[SENT] >= 0:
        return conversation.peer_payload[SENT]
    if facts._client_record is None:
        return -1
    items = conversation.dissection.items
    finished = next(
        (item for item in items if item.direction is SENT and isinstance(item.message, ApplicationData)), None
    )
    if finished is None:
        return -1
    marks = conversation.head.streams[RECEIVED].marks
    return next((mark.offset for mark in marks if mark.time > finished.time), conversation.payload[RECEIVED])


def ssh_outcome(conversation: Conversation) -> Outcome:
    """Both banners and both NEWKEYS."""
    items = conversation.dissection.items
    if all(has(items, ssh.NewKeys, way) for way in DIRECTIONS):
        return Outcome(Stage.SERVED)
    if is_cut(conversation):
        return Outcome(Stage.SERVED, "its key exchange was seen in part: the capture cut it off")
    if not has(items, ssh.Identification, RECEIVED):
        start = conversation.head.streams[RECEIVED].data[:64]
        text = next((text.decode() for text in SSH_REFUSALS if text in start), None)
        if text is not None:
            return Outcome(Stage.ANSWERED, f'the server refused the session ("{text}")', refused=True)
        return Outcome(Stage.ANSWERED, "the server sent no SSH banner")
    if not has(items, ssh.Identification, SENT):
        return Outcome(Stage.ANSWERED, "the base station sent no SSH banner")
    return Outcome(Stage.ANSWERED, "the key exchange was not completed")


def ftp_outcome(conversation: Conversation) -> Outcome:
    """Greeting, login, and a final reply 2xx for each RETR or STOR; a transfer that succeeds later counts."""
    facts = conversation.dissection.facts
    assert isinstance(facts, ftp.FtpFacts)
    codes = [int(code) for code in facts.replies]
    if facts.login == "refused":
        return Outcome(Stage.ANSWERED, "the server refused the login", refused=True)
    if facts.auth_tls:
        return Outcome(Stage.SERVED, "its content is encrypted from AUTH TLS on")
    if facts.greeting is None and codes and codes[0] >= 400:
        return Outcome(Stage.ANSWERED, f"the server refused the session with FTP {codes[0]}", refused=True)
    failed = {transfer.path: transfer for transfer in facts.transfers}
    for transfer in facts.transfers:
        if transfer.reply is not None and 200 <= transfer.reply < 300:
            failed.pop(transfer.path, None)
    if failed:
        transfer = next(iter(failed.values()))
        if transfer.reply is None and is_cut(conversation):
            return Outcome(Stage.SERVED, "replies of the server are missing in the capture")
        if transfer.reply is None:
            return Outcome(Stage.ANSWERED, f"the {transfer.verb} was never confirmed: no transfer was completed")
        clause = f"the server answered the {transfer.verb} with FTP {transfer.reply}"
        return Outcome(Stage.ANSWERED, clause, refused=True)
    if facts.login == "accepted" or facts.transfers or is_cut(conversation):
        return Outcome(Stage.SERVED)
    refusal = next((code for code in codes if code >= 400 and facts.login is None), None)
    if refusal is not None:
        return Outcome(Stage.ANSWERED, f"the server answered with FTP {refusal}, and accepted no login", refused=True)
    return Outcome(Stage.ANSWERED, "no login was completed")


def iec104_outcome(conversation: Conversation) -> Outcome:
    """An APDU from each side; STOPPED standby links serve."""
    link = conversation.head.link
    if link is not None and all(direction.apdus for direction in link.directions):
        return Outcome(Stage.SERVED)
    items = conversation.dissection.items
    if all(has_any(items, way) for way in DIRECTIONS):
        return Outcome(Stage.SERVED)
    if is_cut(conversation):
        return Outcome(Stage.SERVED, "its content was seen in part: the capture cut it off")
    return Outcome(Stage.ANSWERED, f"no APDU came from {conversation.responder.address}")


# -- protocols over datagrams -----------------------------------------------------------------------------------


def datagram_outcome(conversation: Conversation) -> Outcome:
    """A reply serves."""
    if all(conversation.packets):
        return Outcome(Stage.SERVED)
    if not conversation.packets[SENT]:
        return Outcome(Stage.SERVED, "the capture lacks the requests")
    if conversation.icmp_errors:
        error = conversation.icmp_errors[0]
        return Outcome(Stage.TRIED, icmp_clause(error), refused=error.unreachable)
    return Outcome(Stage.TRIED, "no answer")


def dns_outcome(conversation: Conversation) -> Outcome:
    """Any response but REFUSED and SERVFAIL serves; NXDOMAIN does."""
    facts = conversation.dissection.facts
    codes = facts.response_codes if isinstance(facts, dns.DnsFacts) else {}
    if codes and set(codes) <= {"REFUSED", "SERVFAIL"}:
        return Outcome(Stage.ANSWERED, f"the server answered {' and '.join(codes)} to every query", refused=True)
    return datagram_outcome(conversation)


def ntp_outcome(conversation: Conversation) -> Outcome:
    """An answer of a server (mode 4), or of a peer, serves."""
    return datagram_outcome(conversation)


def dhcp_outcome(conversation: Conversation) -> Outcome:
    """Any message of a server is an answer; a NAK without an ACK refuses."""
    facts = conversation.dissection.facts
    if not isinstance(facts, (dhcp.DhcpFacts, dhcp6.Dhcp6Facts)):
        return datagram_outcome(conversation)
    kinds = set(facts.messages)
    if kinds & DHCP_REPLIES:
        return Outcome(Stage.SERVED)
    if "NAK" in kinds:
        return Outcome(Stage.ANSWERED, "the server answered with DHCPNAK, and never with an ACK", refused=True)
    if conversation.packets[RECEIVED]:
        return Outcome(Stage.SERVED)
    return Outcome(Stage.TRIED, "no answer")


DHCP_REPLIES = {"OFFER", "ACK", "BOOTREPLY", "ADVERTISE", "REPLY"}
"""Messages of servers that serve: DHCPv4, BOOTP and DHCPv6."""


def esp_outcome(conversation: Conversation) -> Outcome:
    """ESP in both directions serves."""
    if conversation.transport == "udp":
        directions = {item.direction for item, _ in messages(conversation.dissection.items, esp.EspPacket)}
        datagrams = conversation.head.datagrams
        all_kept = sum(conversation.packets) == len(datagrams)
        cut_off = any(len(datagram.data) < min(datagram.length, ESP_HEADER_BYTES) for datagram in datagrams)
        both = len(directions) == 2 or cut_off or not all_kept
    else:
        both = True
    if all(conversation.packets) and both:
        return Outcome(Stage.SERVED)
    began = min((association.first_time for association in conversation.head.associations), default=None)
    return Outcome(Stage.TRIED, "ESP packets go in one direction only", progress=began)


ESP_HEADER_BYTES = 8
"""SPI and sequence number (RFC 4303, section 2)."""

BY_STREAM: dict[str, Callable[[Conversation], Outcome]] = {
    tls.NAME: tls_outcome,
    ssh.NAME: ssh_outcome,
    ftp.NAME: ftp_outcome,
    iec104.NAME: iec104_outcome,
}
BY_DATAGRAM: dict[str, Callable[[Conversation], Outcome]] = {
    dns.NAME: dns_outcome,
    ntp.NAME: ntp_outcome,
    dhcp.NAME: dhcp_outcome,
}


# -- what the capture holds -------------------------------------------------------------------------------------


def has(items: Sequence[Item], kind: type, way: Direction) -> bool:
    """Whether a direction sent a message of a kind."""
    return any(item.direction is way and isinstance(item.message, kind) for item in items)


def has_any(items: Sequence[Item], way: Direction) -> bool:
    """Whether a direction sent any message."""
    return any(item.direction is way for item in items)


def is_cut(conversation: Conversation) -> bool:
    """Whether the capture lacks part of what either direction sent before its head ended by itself."""
    return cut(conversation, SENT) or cut(conversation, RECEIVED)


def cut(conversation: Conversation, way: Direction) -> bool:
    """Whether the capture lacks part of what a direction sent before its head ended by itself.

    The snap length cut it off, or packets are missing: the peer acknowledged more than there is.
    """
    if conversation.peer_payload[way] >= 0:
        return False
    payload = conversation.payload[way]
    acknowledged = conversation.acknowledged[1 - way]
    if conversation.contiguous[way] == payload and acknowledged <= payload + 1:
        return False
    stream = conversation.head.streams[way]
    lost = acknowledged > payload + 1 and stream.begins
    return lost or len(stream.data) < payload or not (stream.begins or not payload)
