"""FTP control connections (RFC 959, RFC 2228, RFC 2428, RFC 4217): commands, replies, and announced data connections.

Passwords are dropped where they are read, and so is every text that may hold one: arguments of unknown commands, and
negative replies, in which servers quote what they received.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from analyzer.dataclass import dataclass
from analyzer.heads import Direction, Frame, Head
from analyzer.messages import Facts, Item
from analyzer.safetext import SafeText, decode_text
from analyzer.wire import Reader

NAME = "ftp"

PORT = 21
MAX_LINE_BYTES = 4096
MAX_REPLY_LINES = 16
"""Lines of a reply whose text is kept."""

SECRET_ARGUMENTS = frozenset({"PASS", "ACCT", "ADAT", "MIC", "CONF", "ENC"})
"""Commands whose argument is a password or an encrypted command (RFC 2228)."""
STORES = frozenset({"STOR", "STOU", "APPE"})
TRANSFERS = STORES | {"RETR"}
DATA_COMMANDS = TRANSFERS | {"LIST", "NLST", "MLSD"}
"""Commands that use a data connection."""
PASSIVE = frozenset({"PASV", "EPSV"})
"""Commands that request the endpoint of a data connection from the server."""
OPENINGS = frozenset({"USER", "AUTH", "FEAT", "SYST", "CLNT", "HOST", "OPTS", "LANG", "PBSZ"})
"""First commands of FTP clients; no SMTP client begins with them."""
VERBS = (
    DATA_COMMANDS
    | OPENINGS
    | {"PASS", "ACCT", "CWD", "CDUP", "PWD", "XPWD", "TYPE", "MODE", "STRU", "PASV", "EPSV", "PORT", "EPRT"}
    | {"SIZE", "MDTM", "MLST", "REST", "RNFR", "RNTO", "DELE", "MKD", "RMD", "SITE", "PROT", "ABOR", "ALLO", "REIN"}
)
"""Commands that identify FTP where the beginning is not in the capture."""
KNOWN = (VERBS | {"NOOP", "HELP", "STAT", "QUIT", "XCWD", "XCUP", "XMKD", "XRMD", "SMNT", "CCC"}) - SECRET_ARGUMENTS
"""Commands whose argument is not secret."""
ON_PORT = VERBS | {"QUIT", "NOOP", "HELP", "STAT"}
"""Commands that identify FTP on its port."""
MAX_VERB_LETTERS = 4
"""Length of a command (RFC 959, section 4.1). Only the length of a longer unknown word is kept."""

ANSWERS: Mapping[int, frozenset[str]] = {
    211: frozenset({"FEAT", "STAT", "HELP"}),
    213: frozenset({"SIZE", "MDTM", "STAT"}),
    215: frozenset({"SYST"}),
    221: frozenset({"QUIT"}),
    227: frozenset({"PASV"}),
    229: frozenset({"EPSV"}),
    230: frozenset({"USER", "PASS", "ACCT"}),
    234: frozenset({"AUTH"}),
    257: frozenset({"PWD", "XPWD", "MKD", "XMKD"}),
    331: frozenset({"USER"}),
    332: frozenset({"USER", "PASS"}),
    350: frozenset({"REST", "RNFR"}),
}
"""Reply code → the only commands that it answers (RFC 959, section 5.4; RFC 2228; RFC 2389; RFC 2428; RFC 3659)."""

REPLY = re.compile(rb"[1-6][0-9]{2}(?:[ -]|$)")
"""RFC 959, section 4.2; protected replies 6yz: RFC 2228."""
SIX_NUMBERS = re.compile(r"([0-9]{1,3}),([0-9]{1,3}),([0-9]{1,3}),([0-9]{1,3}),([0-9]{1,3}),([0-9]{1,3})")
EXTENDED = re.compile(r"([!-~])([12]?)\1([0-9A-Fa-f.:]*)\1([0-9]{1,5})\1")
"""net-prt, net-addr and tcp-port between delimiters (RFC 2428)."""
REFUSING_GREETINGS = frozenset({120, 421, 500, 530, 550})
"""Replies with which a server delays or refuses a new connection (RFC 959, section 5.4, and what servers send)."""
TELNET = re.compile(rb"(?:\xff[\xf0-\xff])+")
"""Telnet interrupt and synch before ABOR (RFC 959, section 4.1.3)."""
TLS_MECHANISMS = ("TLS", "TLS-C", "TLS-P", "SSL")
"""Arguments of AUTH (RFC 4217, section 17)."""


class Endpoint(NamedTuple):
    """Listening endpoint of a data connection."""

    address: str | None
    """In canonical text form; ``None``: the address of the side that names the port (EPSV)."""
    port: int


class Command(NamedTuple):
    verb: str
    """In upper case; ``(n letters)`` for a long word that is no command and may be a secret."""
    argument: str
    """Empty for commands that are not in :data:`KNOWN`."""
    endpoint: Endpoint | None = None
    """Of PORT and EPRT, if it is valid."""


class Reply(NamedTuple):
    code: int
    lines: tuple[str, ...]
    """Text of at most :data:`MAX_REPLY_LINES` lines without their codes; none of negative replies (4yz and 5yz)."""
    endpoint: Endpoint | None = None
    """Of 227 and 229, if it is valid."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A file transfer that a client requested."""

    verb: SafeText
    path: str
    """Joined to the working directory, as far as the capture shows it."""
    row: SafeText | None = None
    """Id of the expected row that it matches; not set by this module."""
    reply: int | None = None
    """Code of the final reply; 226 and 250: complete."""


class DataConnection(NamedTuple):
    """A data connection that the control connection announces."""

    passive: bool
    """The client connects to the endpoint that the server named (227, 229)."""
    frame: Frame
    """Frame that names the endpoint; without one, of the command that requested it, or else of the one that used it."""
    time: int
    """Capture time of that frame, nanoseconds since the epoch."""
    endpoint: Endpoint | None = None
    """``None``: not in the capture. If passive, the reply that names it is missing."""
    verb: str = ""
    """The command that used it. Empty: none in the capture, though the connection may have been opened."""
    path: str | None = None
    reply: int | None = None
    """Code of the final reply to that command."""


@dataclass(frozen=True, slots=True)
class FtpFacts(Facts):
    """Facts of an FTP control connection."""

    commands: Mapping[SafeText, int] = field(default_factory=dict)
    """Verb → number of commands, in the order of their first use."""
    replies: Mapping[SafeText, int] = field(default_factory=dict)
    """Code → number of replies, in the order of their first use."""
    transfers: tuple[Transfer, ...] = ()
    """RETR, STOR, STOU and APPE, successful or not."""
    listings: tuple[str, ...] = ()
    """Directories of LIST, NLST and MLSD."""
    greeting: SafeText | None = None
    greeting_code: int | None = None
    """Code of the server's first reply, before any command, where it is not 220: 421 refuses the client."""
    user: str | None = None
    login: SafeText | None = None
    """``accepted`` (230), or ``refused`` (530 without any 230)."""
    refusals: int = 0
    """Number of refused logins."""
    auth_tls: bool = False
    """AUTH TLS or SSL was accepted: all that follows is encrypted."""
    _transfers: tuple[DataConnection, ...] = ()
    """All data connections, with those of listings and unused endpoints, in the order of the capture."""


def probe(head: Head) -> bool:
    """A server that greets like FTP, and a client that does not contradict it; SMTP servers greet with 220, too."""
    if head.transport != "tcp":
        return False
    client, server = head.streams[Direction.ORIGINATOR].data, head.streams[Direction.RESPONDER].data
    on_port = PORT in head.ports
    verb = client[:40].split(b"\n", 1)[0].strip().split(b" ", 1)[0].upper().decode("latin-1")
    if not server:
        return on_port and verb in ON_PORT
    greeting = server[:512].split(b"\n", 1)[0].rstrip(b"\r")
    if not REPLY.match(greeting):
        return on_port and verb in ON_PORT
    if not client:
        return on_port or (greeting.startswith(b"220") and b"ftp" in greeting.lower())
    if verb in OPENINGS:
        return True
    if verb in ("EHLO", "HELO", "LHLO", "MAIL", "RCPT"):
        return False
    if greeting.startswith((b"200", b"201")) and not on_port:
        return False  # NNTP (RFC 3977, section 5.1): it shares the commands MODE, LIST and STAT
    return on_port or verb in VERBS or b"ftp" in greeting.lower()


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    """Commands of the originator, or replies of the responder, up to the end or to the beginning of TLS."""
    return commands(reader) if direction is Direction.ORIGINATOR else replies(reader)


def commands(reader: Reader) -> Iterator[Command]:
    """Commands of a client (RFC 959, section 5.3)."""
    protected = False
    while reader.has_more:
        if protected and not reader.peek(1).isalpha():
            return  # TLS after AUTH
        start = reader.pos
        line = reader.line(MAX_LINE_BYTES, "command")
        if line[:1] == b"\xff":
            line = TELNET.sub(b"", line, count=1)
        name, _, argument = line.strip().partition(b" ")
        if not name:
            continue
        if not name.isalpha():
            reader.malformed("command", "does not begin with a word of letters", start)
        verb = decode_text(name.upper(), 32)
        shown = decode_text(argument.strip()) if verb in KNOWN else ""
        if len(name) > MAX_VERB_LETTERS and verb not in KNOWN:
            verb = f"({len(name)} letters)"
        endpoint = None
        if verb == "PORT":
            endpoint = host_port(shown)
        elif verb == "EPRT":
            endpoint = extended_endpoint(shown)
        elif verb == "AUTH":
            protected = True
        yield Command(verb, shown, endpoint)


def replies(reader: Reader) -> Iterator[Reply]:
    """Replies of a server (RFC 959, section 4.2)."""
    protected = False
    while reader.has_more:
        if protected and not reader.peek(1).isdigit():
            return  # TLS after 234
        start = reader.pos
        line = reader.line(MAX_LINE_BYTES, "reply")
        if not REPLY.match(line):
            reader.malformed("reply", "does not begin with a code of three digits and a space or hyphen", start)
        code = line[:3]
        lines = [decode_text(line[4:].strip())]
        if line[3:4] == b"-":
            while not (line[:3] == code and line[3:4] in (b" ", b"")):
                line = reader.line(MAX_LINE_BYTES, "reply")
                if len(lines) < MAX_REPLY_LINES:
                    lines.append(decode_text((line[4:] if line[:3] == code else line).strip()))
        if code[:1] in b"45":
            lines = []
        endpoint = None
        if code == b"227":
            endpoint = host_port(lines[0])
        elif code == b"229":
            endpoint = extended_endpoint(lines[0])
        elif code == b"234":
            protected = True
        yield Reply(int(code), tuple(lines), endpoint)


def host_port(argument: str) -> Endpoint | None:
    """The host-port of PORT and 227 (RFC 959, section 5.3.2), anywhere in the text (RFC 1123, section 4.1.2.6)."""
    match = SIX_NUMBERS.search(argument)
    if match is None:
        return None
    numbers = [int(number) for number in match.groups()]
    if max(numbers) > 255:
        return None
    return Endpoint(".".join(map(str, numbers[:4])), numbers[4] << 8 | numbers[5])


def extended_endpoint(argument: str) -> Endpoint | None:
    """The endpoint of EPRT and 229 (RFC 2428)."""
    match = EXTENDED.search(argument)
    if match is None or int(match[4]) > 0xFFFF:
        return None
    try:
        return Endpoint(canonical_address(match[3]) if match[3] else None, int(match[4]))
    except ValueError:
        return None


def canonical_address(address: str) -> str:
    """An address in canonical text form; an IPv4-mapped one as IPv4. Raises ``ValueError`` if it is no address."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(parsed)


@dataclass(slots=True)
class Exchange:
    """A command and its final reply. One of both may be missing in the capture."""

    command: Command | None
    command_item: Item | None = None
    reply: Reply | None = None
    reply_item: Item | None = None
    preliminary: Reply | None = None
    """The preliminary reply (1yz), with which a transfer begins."""

    @property
    def verb(self) -> str:
        return self.command.verb if self.command else ""

    @property
    def code(self) -> int | None:
        """Code of the final reply."""
        return self.reply.code if self.reply else None

    @property
    def succeeded(self) -> bool:
        """The reply is positive, or not in the capture."""
        return self.code is None or 200 <= self.code < 300


def facts(items: Sequence[Item]) -> FtpFacts:
    verbs = Counter[str]()
    codes = Counter[str]()
    greeting = greeting_code = None
    for item in items:
        message = item.message
        if isinstance(message, Reply) and not verbs and not codes and message.code in REFUSING_GREETINGS:
            greeting_code = message.code
        if isinstance(message, Command):
            verbs[message.verb] += 1
        elif isinstance(message, Reply):
            codes[str(message.code)] += 1
            if greeting is None and message.code == 220:
                greeting = message.lines[0]
    session = Session()
    for exchange in pair_exchanges(items):
        session.add(exchange)
    session.flush()
    return FtpFacts(
        dict(verbs),
        dict(codes),
        tuple(session.transfers),
        tuple(session.listings),
        greeting,
        greeting_code,
        session.user,
        session.login,
        session.refusals,
        session.auth_tls,
        tuple(session.connections),
    )


@dataclass(slots=True)
class Session:
    """State of a control connection, exchange by exchange."""

    user: str | None = None
    login: str | None = None
    refusals: int = 0
    auth_tls: bool = False
    directory: str = ""
    """Working directory."""
    transfers: list[Transfer] = field(default_factory=list)
    listings: list[str] = field(default_factory=list)
    connections: list[DataConnection] = field(default_factory=list)
    announced: DataConnection | None = None
    """A data connection that no command has used yet."""

    def add(self, exchange: Exchange) -> None:
        verb, code = exchange.verb, exchange.code
        if code == 230:
            self.login = "accepted"
        elif code == 530 and verb in ("", "USER", "PASS", "ACCT"):
            self.login = self.login or "refused"
            self.refusals += 1
        connection = announcement(exchange)
        if connection is not None:
            self.flush()
            self.announced = connection
        if exchange.command is None or exchange.command_item is None:
            return
        if verb == "USER":
            self.user = exchange.command.argument
        elif verb == "AUTH":
            self.auth_tls |= code == 234 and exchange.command.argument.upper() in TLS_MECHANISMS
        elif verb in DATA_COMMANDS:
            self.use_connection(exchange, exchange.command_item)
        else:
            self.change_directory(exchange, exchange.command.argument)

    def flush(self) -> None:
        """Keep a data connection that no command used."""
        if self.announced is not None:
            self.connections.append(self.announced)
        self.announced = None

    def use_connection(self, exchange: Exchange, item: Item) -> None:
        """A transfer or listing takes the announced data connection."""
        path = posixpath.join(self.directory, file_name(exchange))
        if exchange.verb in TRANSFERS:
            self.transfers.append(Transfer(exchange.verb, path, reply=exchange.code))
        else:
            self.listings.append(path or ".")
        connection = self.announced or DataConnection(False, item.frame, item.time)
        self.connections.append(connection._replace(verb=exchange.verb, path=path, reply=exchange.code))
        self.announced = None

    def change_directory(self, exchange: Exchange, argument: str) -> None:
        verb, reply = exchange.verb, exchange.reply
        if verb in ("CWD", "XCWD") and exchange.succeeded:
            self.directory = posixpath.join(self.directory, argument)[:1024]
        elif verb in ("CDUP", "XCUP") and exchange.succeeded:
            self.directory = posixpath.dirname(self.directory.rstrip("/"))
        elif verb in ("PWD", "XPWD") and reply and reply.code == 257 and reply.lines[0].startswith('"/'):
            self.directory = reply.lines[0][1:].rpartition('"')[0].replace('""', '"')


def announcement(exchange: Exchange) -> DataConnection | None:
    """The data connection that an exchange announces."""
    command, asked, reply, answered = exchange.command, exchange.command_item, exchange.reply, exchange.reply_item
    if reply and reply.endpoint and answered:
        return DataConnection(True, answered.frame, answered.time, reply.endpoint)
    if command and command.endpoint and asked and exchange.succeeded:
        return DataConnection(False, asked.frame, asked.time, command.endpoint)
    if exchange.verb in PASSIVE and reply is None and asked:
        return DataConnection(True, asked.frame, asked.time)
    return None


def file_name(exchange: Exchange) -> str:
    """The file or directory of a command that uses a data connection."""
    assert exchange.command
    argument = exchange.command.argument
    if exchange.verb in TRANSFERS:
        if exchange.verb == "STOU" and exchange.preliminary:  # the server chooses the name (RFC 1123, section 4.1.2.9)
            return exchange.preliminary.lines[0].partition("FILE: ")[2] or argument
        return argument
    return " ".join(word for word in argument.split() if not word.startswith("-"))  # options, as of the program ls


def pair_exchanges(items: Sequence[Item]) -> list[Exchange]:
    """Commands and their final replies in pairs, in the order of the commands. A greeting answers no command.

    A reply that answers only a later command shows that the replies before it are missing in the capture.
    """
    exchanges: list[Exchange] = []
    pending: deque[Exchange] = deque()
    for item in items:
        message = item.message
        if isinstance(message, Command):
            exchange = Exchange(message, item)
            exchanges.append(exchange)
            pending.append(exchange)
        elif isinstance(message, Reply) and message.code < 200:
            transfer = next((exchange for exchange in pending if exchange.verb in DATA_COMMANDS), None)
            if transfer is not None:
                transfer.preliminary = message
        elif isinstance(message, Reply):
            answered = ANSWERS.get(message.code)
            if answered and any(exchange.verb in answered for exchange in pending):
                while pending[0].verb not in answered:
                    pending.popleft()
            if not pending or (message.code == 220 and pending[0].verb != "REIN"):
                exchanges.append(Exchange(None, None, message, item))
            else:
                exchange = pending.popleft()
                exchange.reply, exchange.reply_item = message, item
    return exchanges
