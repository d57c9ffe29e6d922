"""Preambles: what precedes the protocol of a TCP connection that passes a proxy, a load balancer or STARTTLS.

HTTP CONNECT (RFC 9110, section 9.3.6), SOCKS 4 and 5 (RFC 1928, RFC 1929), the PROXY protocol versions 1 and 2
(HAProxy, proxy-protocol.txt), and the dialogues before TLS of SMTP, IMAP and POP3 (RFC 3207, RFC 9051, RFC 2595), LDAP
(RFC 4511, section 4.14), XMPP (RFC 6120, section 5) and PostgreSQL (its documentation, section 53.2.10). One may follow
another. User names and passwords are skipped and never kept.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

from analyzer.heads import Direction, Head
from analyzer.safetext import SafeText, decode_text

CONNECT, SOCKS4, SOCKS5, PROXY1, PROXY2 = (
    "HTTP CONNECT", "SOCKS 4", "SOCKS 5", "PROXY protocol v1", "PROXY protocol v2",
)  # fmt: skip
STARTTLS, LDAP, XMPP, POSTGRESQL = "STARTTLS", "StartTLS of LDAP", "STARTTLS of XMPP", "SSLRequest of PostgreSQL"
ACCEPTED, UNANSWERED = "accepted", "unanswered"


class Preamble(NamedTuple):
    """The preamble of a connection."""

    name: SafeText
    """``HTTP CONNECT``, ``SOCKS 5``, ``PROXY protocol v1``, ``STARTTLS``."""
    target: str | None
    """Name or address of the host that it names as destination."""
    port: int | None
    """Port of the target."""
    source: str | None
    """Address of the client that a load balancer names (PROXY protocol)."""
    outcome: SafeText
    """``accepted``, ``unanswered``, or ``refused: HTTP 403``."""
    sizes: tuple[int, int]
    """Bytes that originator and responder sent up to the end of the preamble."""
    inner: Preamble | None = None
    """The preamble that follows this one, as CONNECT after the header of a load balancer."""

    @property
    def refused(self) -> bool:
        return self.outcome.startswith("refused")

    @property
    def chain(self) -> tuple[Preamble, ...]:
        """This preamble and those that follow it."""
        return (self, *(self.inner.chain if self.inner else ()))


MAX_HEADER_BYTES = 8192
"""Longest header section of HTTP that is looked for, and longest dialogue before STARTTLS: the scanner's limit of a
head that begins with text."""
MAX_CHAINED = 4
"""Preambles that are looked for on one connection."""
MAX_CONNECTS = 4
"""Attempts of CONNECT on one connection, as with a proxy that demands authentication first."""

CONNECT_LINE = re.compile(rb"CONNECT ([!-~]+) HTTP/1\.[01]\r?\n")
STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r\n]")
ESTABLISHED = re.compile(rb"HTTP/1\.[01] 200 [^\r\n]*[Cc]onnection [Ee]stablished\r?\n")
"""The status line that proxies answer CONNECT with, where the request is not in the capture."""
HEADER_END = re.compile(rb"\r?\n\r?\n")
CONTENT_LENGTH = re.compile(rb"\ncontent-length: *([0-9]{1,6})\r?\n", re.IGNORECASE)

PROXY_V1 = re.compile(rb"PROXY (?:UNKNOWN[^\r\n]{0,100}|TCP([46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (\d+) (\d+))\r\n")
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"
"""Signature of the binary header."""

MAX_PROXY_BYTES = 256
"""Longest header of the PROXY protocol that is waited for: version 1 has 107 bytes at most, version 2 with IPv6 52 and
its extensions."""
LDAP_START_TLS = b"1.3.6.1.4.1.1466.20037"
"""Object identifier of the extended operation."""
LDAP_EXTENDED_RESPONSE, LDAP_SUCCESS = 0x78, b"\n\1\0"
"""Tag of the response, and its result code (ENUMERATED 0)."""
MAX_LDAP_MESSAGES = 16
"""Messages before StartTLS, such as a search of the root DSE."""
XMPP_START_TLS = re.compile(rb"<starttls\b[^>]{0,200}?(?:/>|>.{0,100}?</starttls>)\s*", re.DOTALL)
XMPP_PROCEED = re.compile(rb"<proceed\b[^>]{0,200}?(?:/>|></proceed>)\s*")
XMPP_FAILURE = re.compile(rb"<failure\b")
SSL_REQUEST, GSS_REQUEST = bytes.fromhex("0000000804d2162f"), bytes.fromhex("0000000804d21630")
"""PostgreSQL's requests for encryption by TLS and by GSSAPI; the server answers with one letter."""

STARTTLS_COMMAND = re.compile(rb"(?:^|\n)(?:[A-Za-z0-9]{1,16} )?ST(?:ART)?TLS\r?\n", re.IGNORECASE)
TLS_AFTER_LINE = re.compile(rb"\n(?=[\x14-\x17]\x03[\x00-\x04])")
GREETINGS = (b"220", b"* OK", b"* PREAUTH", b"+OK")
"""Beginnings of servers of SMTP, IMAP and POP3."""


def find_preamble(head: Head) -> Preamble | None:
    """The preamble of a TCP head, with those that follow it; ``None``: there is none."""
    client, server = head.streams[Direction.ORIGINATOR].data, head.streams[Direction.RESPONDER].data
    found: list[Preamble] = []
    sent = received = 0
    while len(found) < MAX_CHAINED and (preamble := begin(client[sent:], server[received:])):
        sizes = sent + preamble.sizes[0], received + preamble.sizes[1]
        found.append(preamble._replace(sizes=sizes))
        if preamble.outcome != ACCEPTED or sizes == (sent, received):
            break
        sent, received = sizes
    outermost: Preamble | None = None
    for preamble in reversed(found):
        outermost = preamble._replace(inner=outermost)
    return outermost


def begin(client: bytes, server: bytes) -> Preamble | None:
    """The preamble with which two streams begin."""
    for starts, find in FINDERS if client.startswith(STARTS) else ():
        if client.startswith(starts):
            preamble = find(client, server)
            if preamble is not None:
                return preamble
    if server.startswith(GREETINGS):
        return starttls(client, server)
    if not client and server.startswith(b"HTTP/1."):
        return connect_response(server)
    return None


def ends_within(client: bytes) -> bool:
    """Whether the bytes of a client begin a header of the PROXY protocol and end before it does."""
    if client.startswith(PROXY_V2):
        return len(client) < min(16 + int.from_bytes(client[14:16], "big"), MAX_PROXY_BYTES)
    return client.startswith(b"PROXY ") and b"\n" not in client and len(client) < MAX_PROXY_BYTES


def strip_preamble(head: Head, sizes: tuple[int, int]) -> Head:
    """The head without the first bytes of both streams."""
    client, server = (stream.from_offset(size) for stream, size in zip(head.streams, sizes, strict=True))
    return head._replace(streams=(client, server))


# -- HTTP CONNECT -----------------------------------------------------------------------------------------------


def connect(client: bytes, server: bytes) -> Preamble | None:
    """CONNECT of a client, until a proxy accepts one."""
    sent = received = 0
    target: bytes = b""
    outcome = UNANSWERED
    for _ in range(MAX_CONNECTS):
        line = CONNECT_LINE.match(client, sent)
        end = HEADER_END.search(client, line.end() - 2, sent + MAX_HEADER_BYTES) if line else None
        if line is None or end is None:
            break
        target, sent = line[1], end.end()
        status, received = read_response(server, received)
        outcome = ACCEPTED if 200 <= status < 300 else f"refused: HTTP {status}" if status else UNANSWERED
        if not status or outcome == ACCEPTED:
            break
    if not target:
        return None
    host, port = host_and_port(target.rpartition(b"@")[2])
    return Preamble(CONNECT, host, port, None, outcome, (sent, received))


def read_response(server: bytes, start: int) -> tuple[int, int]:
    """Status code and end of a final response with its content; 0 if it is not there."""
    while (status := STATUS.match(server, start)) is not None:
        end = HEADER_END.search(server, start, start + MAX_HEADER_BYTES)
        if end is None:
            return int(status[1]), len(server)
        code = int(status[1])
        length = CONTENT_LENGTH.search(server, start, end.end())
        start = end.end()
        if code >= 200:
            content = int(length[1]) if length and code >= 300 else 0  # a 2xx to CONNECT has none (RFC 9110, 9.3.6)
            return code, min(start + content, len(server))
    return 0, start


def connect_response(server: bytes) -> Preamble | None:
    """The acceptance of a CONNECT whose request the capture lacks."""
    end = HEADER_END.search(server, 0, MAX_HEADER_BYTES) if ESTABLISHED.match(server) else None
    return None if end is None else Preamble(CONNECT, None, None, None, ACCEPTED, (0, end.end()))


def host_and_port(authority: bytes) -> tuple[str, int | None]:
    """``tpe.example:3001`` or ``[2001:db8::1]:3001`` in two parts."""
    host, _, port = authority.rpartition(b":")
    if not host or not port.isdigit() or len(port) > 5:
        return decode_text(authority), None
    return decode_text(host.strip(b"[]")), int(port)


# -- SOCKS ------------------------------------------------------------------------------------------------------

SOCKS4_REQUEST = struct.Struct(">BBH4s")
SOCKS4_REPLY_BYTES = 8
GRANTED = 0x5A
SOCKS5_REPLIES = {
    1: "general failure",
    2: "not allowed by the ruleset",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}
"""RFC 1928, section 6."""
NO_METHOD, USER_PASSWORD = 0xFF, 2
IPV4, DOMAIN, IPV6 = 1, 3, 4


def socks4(client: bytes, server: bytes) -> Preamble | None:
    """CONNECT of SOCKS 4 or 4A: version, command, port, address, user id, and a host name for an address 0.0.0.x."""
    user_end = client.find(b"\0", SOCKS4_REQUEST.size, SOCKS4_REQUEST.size + 256)
    if user_end < 0:
        return None
    _, _, port, address = SOCKS4_REQUEST.unpack_from(client)
    if not port or (server and (len(server) < SOCKS4_REPLY_BYTES or server[0] or not GRANTED <= server[1] < 0x5E)):
        return None
    end = user_end + 1
    host = socket.inet_ntop(socket.AF_INET, address)
    if address[:3] == bytes(3) and address[3]:
        name_end = client.find(b"\0", end, end + 256)
        if name_end < 0:
            return None
        host, end = decode_text(client[end:name_end]), name_end + 1
    elif not server:
        return None  # seven free bytes are too few to be sure
    outcome = UNANSWERED if not server else ACCEPTED if server[1] == GRANTED else f"refused: SOCKS code {server[1]}"
    return Preamble(SOCKS4, host, port, None, outcome, (end, min(len(server), SOCKS4_REPLY_BYTES)))


def socks5(client: bytes, server: bytes) -> Preamble | None:
    """Methods, authentication and request of SOCKS 5 (RFC 1928, RFC 1929)."""
    if len(client) < 3 or not client[1] or len(server) < 2 or server[0] != 5:
        return None
    sent, received = 2 + client[1], 2
    method = server[1]
    if method == NO_METHOD:
        return Preamble(SOCKS5, None, None, None, "refused: no acceptable method", (sent, received))
    if method not in client[2:sent]:
        return None
    if method == USER_PASSWORD and client[sent : sent + 1] == b"\1":
        name_end = sent + 2 + client[sent + 1] if len(client) > sent + 1 else len(client)
        sent = name_end + 1 + client[name_end] if len(client) > name_end else len(client)
        if server[received + 1 : received + 2] not in (b"", b"\0"):
            return Preamble(SOCKS5, None, None, None, "refused: authentication failed", (sent, received + 2))
        received += 2
    elif method:
        return Preamble(SOCKS5, None, None, None, UNANSWERED, (sent, received))
    target = socks5_address(client, sent)
    reply = socks5_address(server, received)
    if target is None:
        return Preamble(SOCKS5, None, None, None, UNANSWERED, (min(sent, len(client)), min(received, len(server))))
    host, port, sent = target
    if reply is None:
        return Preamble(SOCKS5, host, port, None, UNANSWERED, (sent, len(server)))
    code = server[received + 1]
    outcome = f"refused: {SOCKS5_REPLIES.get(code, f'SOCKS code {code}')}" if code else ACCEPTED
    return Preamble(SOCKS5, host, port, None, outcome, (sent, reply[2]))


def socks5_address(data: bytes, start: int) -> tuple[str, int, int] | None:
    """Host, port, and the end of a request or reply of SOCKS 5; ``None``: it is incomplete, or none."""
    if len(data) < start + 5 or data[start] != 5 or data[start + 2]:
        return None
    kind, at = data[start + 3], start + 4
    size = {IPV4: 4, IPV6: 16, DOMAIN: data[at]}.get(kind)
    if size is None:
        return None
    at += kind == DOMAIN
    raw, end = data[at : at + size], at + size + 2
    if len(data) < end:
        return None
    if kind == DOMAIN:
        host = decode_text(raw)
    else:
        host = socket.inet_ntop(socket.AF_INET if kind == IPV4 else socket.AF_INET6, raw)
    return host, int.from_bytes(data[end - 2 : end], "big"), end


# -- PROXY protocol ---------------------------------------------------------------------------------------------


def proxy1(client: bytes, server: bytes) -> Preamble | None:
    """The line of version 1: ``PROXY TCP4 203.0.113.7 172.16.40.10 50872 3001``."""
    line = PROXY_V1.match(client)
    if line is None:
        return None
    target, port, source = (decode_text(line[3]), int(line[5]), decode_text(line[2])) if line[1] else (None, None, None)
    return Preamble(PROXY1, target, port, source, ACCEPTED, (line.end(), 0))


def proxy2(client: bytes, server: bytes) -> Preamble | None:
    """The binary header of version 2: signature, version and command, family, length, addresses, extensions."""
    start = len(PROXY_V2) + 4
    if len(client) < start or client[12] >> 4 != 2 or client[12] & 15 > 1:
        return None
    end = start + int.from_bytes(client[14:16], "big")
    width = {1: 4, 2: 16}.get(client[13] >> 4)
    if width is None or not client[12] & 15 or end < start + 2 * width + 4 or len(client) < start + 2 * width + 4:
        return Preamble(PROXY2, None, None, None, ACCEPTED, (min(end, len(client)), 0))
    family = socket.AF_INET if width == 4 else socket.AF_INET6
    source, target = (socket.inet_ntop(family, client[at : at + width]) for at in (start, start + width))
    port = int.from_bytes(client[start + 2 * width + 2 : start + 2 * width + 4], "big")
    return Preamble(PROXY2, target, port, source, ACCEPTED, (min(end, len(client)), 0))


# -- STARTTLS ---------------------------------------------------------------------------------------------------


def starttls(client: bytes, server: bytes) -> Preamble | None:
    """A dialogue of SMTP, IMAP or POP3 up to the TLS records that follow STARTTLS."""
    command = STARTTLS_COMMAND.search(client, 0, MAX_HEADER_BYTES)
    if command is None:
        return None
    end = command.end()
    if end < len(client) and not TLS_AFTER_LINE.match(client, end - 1):
        return None
    answer = TLS_AFTER_LINE.search(server, 0, MAX_HEADER_BYTES)
    if answer is None and end == len(client):
        return None  # the client did not go on
    return Preamble(STARTTLS, None, None, None, ACCEPTED, (end, answer.end() if answer else len(server)))


def ldap(client: bytes, server: bytes) -> Preamble | None:
    """LDAP messages up to StartTLS."""
    sent = end_of_ldap(client, lambda message: LDAP_START_TLS in message)
    if not sent:
        return None
    answered = end_of_ldap(server, lambda message: LDAP_EXTENDED_RESPONSE in message[2:12])
    if not answered:
        outcome = ACCEPTED if len(client) > sent else UNANSWERED  # the answer is not in the capture
        return Preamble(LDAP, None, None, None, outcome, (sent, len(server)))
    accepted = LDAP_SUCCESS in server[:answered][-64:]
    return Preamble(LDAP, None, None, None, ACCEPTED if accepted else "refused: LDAP error", (sent, answered))


def end_of_ldap(data: bytes, is_last: Callable[[bytes], bool]) -> int:
    """End of the first message (SEQUENCE) of LDAP that is the wanted one; 0: it is not there."""
    at = 0
    for _ in range(MAX_LDAP_MESSAGES):
        if data[at : at + 1] != b"0" or len(data) < at + 2:
            return 0
        size = data[at + 1] & 0x7F if data[at + 1] & 0x80 else 0
        length = int.from_bytes(data[at + 2 : at + 2 + size], "big") if size else data[at + 1]
        end = at + 2 + size + length
        if size > 4 or end > len(data):
            return 0
        if is_last(data[at:end]):
            return end
        at = end
    return 0


def xmpp(client: bytes, server: bytes) -> Preamble | None:
    """A stream of XMPP up to its TLS."""
    command = XMPP_START_TLS.search(client, 0, MAX_HEADER_BYTES)
    if command is None:
        return None
    proceed = XMPP_PROCEED.search(server, 0, MAX_HEADER_BYTES)
    if proceed is not None:
        return Preamble(XMPP, None, None, None, ACCEPTED, (command.end(), proceed.end()))
    refused = XMPP_FAILURE.search(server, 0, MAX_HEADER_BYTES)
    outcome = "refused: failure" if refused else ACCEPTED if len(client) > command.end() else UNANSWERED
    return Preamble(XMPP, None, None, None, outcome, (command.end(), len(server)))


def postgresql(client: bytes, server: bytes) -> Preamble | None:
    """PostgreSQL's requests for encryption; a client may ask for GSSAPI first."""
    sent = received = 0
    while client.startswith(GSS_REQUEST, sent) and server[received : received + 1] == b"N":
        sent, received = sent + len(GSS_REQUEST), received + 1
    if not client.startswith(SSL_REQUEST, sent):
        return None
    sent += len(SSL_REQUEST)
    answer = server[received : received + 1]
    outcome = {b"S": ACCEPTED, b"N": "refused: no TLS", b"": ACCEPTED if len(client) > sent else UNANSWERED}.get(answer)
    if outcome is None:
        return None
    return Preamble(POSTGRESQL, None, None, None, outcome, (sent, min(received + 1, len(server))))


FINDERS: tuple[tuple[bytes, Callable[[bytes, bytes], Preamble | None]], ...] = (
    (b"CONNECT ", connect),
    (b"PROXY ", proxy1),
    (PROXY_V2, proxy2),
    (b"\4\1", socks4),
    (b"\5", socks5),
    (b"0", ldap),
    (b"<", xmpp),
    (SSL_REQUEST[:7], postgresql),
)
"""First bytes of a client, and what reads the preamble that begins with them."""

STARTS = tuple(start for start, _ in FINDERS)
