"""FTP's control channel (RFC 959, RFC 2228, RFC 2428, RFC 4217): commands, replies, and the data connections they open.

The originator sends commands and the responder replies. Passwords are dropped where they are read, and so is every
text that may hold one: arguments of commands that nobody knows, and refusals, in which servers quote what they got.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from analyzer.heads import Direction, Frame, Head
from analyzer.messages import Facts, Item
from analyzer.safetext import SafeText, decode_text
from analyzer.wire import Reader

NAME = "ftp"

PORT = 21
LINE_LIMIT = 4096
SHOWN_LINES = 16

SECRET_ARGUMENTS = frozenset({"PASS", "ACCT", "ADAT", "MIC", "CONF", "ENC"})
"""Commands whose argument is a password, or a protected command that nobody can read (RFC 2228)."""
STORES = frozenset({"STOR", "STOU", "APPE"})
TRANSFERS = STORES | {"RETR"}
DATA_COMMANDS = TRANSFERS | {"LIST", "NLST", "MLSD"}
"""Commands that use a data connection."""
PASSIVE = frozenset({"PASV", "EPSV"})
"""Commands that ask the server to name the endpoint of a data connection."""
OPENINGS = frozenset({"USER", "AUTH", "FEAT", "SYST", "CLNT", "HOST", "OPTS", "LANG", "PBSZ"})
"""Commands with which a client begins, and with which no SMTP client does."""
VERBS = (
    DATA_COMMANDS
    | OPENINGS
    | {"PASS", "ACCT", "CWD", "CDUP", "PWD", "XPWD", "TYPE", "MODE", "STRU", "PASV", "EPSV", "PORT", "EPRT"}
    | {"SIZE", "MDTM", "MLST", "REST", "RNFR", "RNTO", "DELE", "MKD", "RMD", "SITE", "PROT", "ABOR", "ALLO", "REIN"}
)
"""Commands by which a conversation whose beginning is not seen is known."""
KNOWN = (VERBS | {"NOOP", "HELP", "STAT", "QUIT", "XCWD", "XCUP", "XMKD", "XRMD", "SMNT", "CCC"}) - SECRET_ARGUMENTS
"""Commands whose argument is no secret."""
LONGEST_VERB = 4
"""Letters of a command (RFC 959, section 4.1); of a longer word that nobody knows only the length is told."""

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
"""Replies that answer nothing but these commands (RFC 959, section 5.4; RFC 2228, RFC 2389, RFC 2428, RFC 3659)."""

REPLY = re.compile(rb"[1-6][0-9]{2}(?:[ -]|$)")
"""RFC 959, section 4.2, and the protected replies 6yz of RFC 2228."""
SIX_NUMBERS = re.compile(r"([0-9]{1,3}),([0-9]{1,3}),([0-9]{1,3}),([0-9]{1,3}),([0-9]{1,3}),([0-9]{1,3})")
EXTENDED = re.compile(r"([!-~])([12]?)\1([0-9A-Fa-f.:]*)\1([0-9]{1,5})\1")
"""RFC 2428: net-prt, net-addr, tcp-port between any delimiter."""
TELNET = re.compile(rb"(?:\xff[\xf0-\xff])+")
"""Telnet's interrupt and synch before ABOR (RFC 959, section 4.1.3)."""
SSL_TOKENS = ("TLS", "TLS-C", "TLS-P", "SSL")


class Endpoint(NamedTuple):
    """Where a data connection goes to."""

    address: str | None
    """Canonical text form; ``None``: the address of the side that names the port (EPSV)."""
    port: int


class Command(NamedTuple):
    verb: str
    """In capitals; of a long word that is no command ``(n letters)``, for it may be a secret."""
    argument: str
    """Empty for all but those of :data:`KNOWN`."""
    endpoint: Endpoint | None = None
    """Of PORT and EPRT, where it can be read."""


class Reply(NamedTuple):
    code: int
    lines: tuple[str, ...]
    """Text of the lines without their codes, at most the first 16; of refusals (4yz and 5yz) none."""
    endpoint: Endpoint | None = None
    """Of 227 and 229, where it can be read."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A file that was asked for or sent."""

    verb: SafeText
    path: str
    """Joined to the working directory, as far as that was seen."""
    row: SafeText | None = None
    """Id of the expected row that it belongs to; never set here."""
    reply: int | None = None
    """Code of the final reply: 226 and 250 tell that it is complete."""


class DataConnection(NamedTuple):
    """A data connection that the control channel spoke of."""

    passive: bool
    """Opened by the client to what the server named (227, 229)."""
    frame: Frame
    """Where the endpoint was named; without one, the command that asked for it, else the one that used it."""
    time: int
    """Of that frame, nanoseconds since the epoch."""
    endpoint: Endpoint | None = None
    """Of the listening side; ``None``: none was seen; where it is passive, the reply that named it is not there."""
    verb: str = ""
    """The command that used it; empty: none was seen, though the connection may have been opened."""
    path: str | None = None
    reply: int | None = None
    """Code of the final reply to that command."""


@dataclass(frozen=True, slots=True)
class FtpFacts(Facts):
    """What a control connection of FTP shows."""

    commands: Mapping[SafeText, int] = field(default_factory=dict)
    """Counts by verb, in the order of their first use."""
    replies: Mapping[SafeText, int] = field(default_factory=dict)
    """Counts by code, in the order of their first use."""
    transfers: tuple[Transfer, ...] = ()
    """RETR, STOR, STOU and APPE, whether they succeeded or not."""
    listings: tuple[str, ...] = ()
    """Directories that LIST, NLST and MLSD asked for."""
    greeting: SafeText | None = None
    user: str | None = None
    login: SafeText | None = None
    """``accepted`` (230) or ``refused`` (530 and never 230)."""
    refusals: int = 0
    """Logins that were refused."""
    auth_tls: bool = False
    """AUTH TLS or SSL was accepted: what follows cannot be read."""
    _transfers: tuple[DataConnection, ...] = ()
    """Every data connection, listings and unused endpoints too, in the order of the capture."""


def probe(head: Head) -> bool:
    """A server that greets as FTP and a client that does not contradict it; SMTP greets with 220 too."""
    if head.transport != "tcp":
        return False
    client, server = head.streams[Direction.ORIGINATOR].data, head.streams[Direction.RESPONDER].data
    here = PORT in head.ports
    verb = client[:40].split(b"\n", 1)[0].strip().split(b" ", 1)[0].upper().decode("latin-1")
    if not server:
        return here and verb in VERBS
    first = server[:512].split(b"\n", 1)[0].rstrip(b"\r")
    if not REPLY.match(first):
        return here and verb in VERBS
    if not client:
        return here or (first.startswith(b"220") and b"ftp" in first.lower())
    if verb in OPENINGS:
        return True
    if verb in ("EHLO", "HELO", "LHLO", "MAIL", "RCPT"):
        return False
    return here or verb in VERBS or b"ftp" in first.lower()


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    """Commands or replies, up to the end or to the beginning of TLS."""
    return commands(reader) if direction is Direction.ORIGINATOR else replies(reader)


def commands(reader: Reader) -> Iterator[Command]:
    """What a client sends (RFC 959, section 5.3)."""
    protected = False
    while reader.has_more:
        if protected and not reader.peek(1).isalpha():
            return  # TLS after AUTH
        start = reader.pos
        line = reader.line(LINE_LIMIT, "command")
        if line[:1] == b"\xff":
            line = TELNET.sub(b"", line, count=1)
        name, _, argument = line.strip().partition(b" ")
        if not name:
            continue
        if not name.isalpha():
            reader.malformed("command", "does not begin with a word of letters", start)
        verb = decode_text(name.upper(), 32)
        shown = decode_text(argument.strip()) if verb in KNOWN else ""
        if len(name) > LONGEST_VERB and verb not in KNOWN:
            verb = f"({len(name)} letters)"
        endpoint = None
        if verb == "PORT":
            endpoint = six_numbers(shown)
        elif verb == "EPRT":
            endpoint = extended(shown)
        elif verb == "AUTH":
            protected = True
        yield Command(verb, shown, endpoint)


def replies(reader: Reader) -> Iterator[Reply]:
    """What a server sends (RFC 959, section 4.2)."""
    protected = False
    while reader.has_more:
        if protected and not reader.peek(1).isdigit():
            return  # TLS after 234
        start = reader.pos
        line = reader.line(LINE_LIMIT, "reply")
        if not REPLY.match(line):
            reader.malformed("reply", "does not begin with a code of three digits and a space or hyphen", start)
        code = line[:3]
        lines = [decode_text(line[4:].strip())]
        if line[3:4] == b"-":
            while not (line[:3] == code and line[3:4] in (b" ", b"")):
                line = reader.line(LINE_LIMIT, "reply")
                if len(lines) < SHOWN_LINES:
                    lines.append(decode_text((line[4:] if line[:3] == code else line).strip()))
        if code[:1] in b"45":
            lines = []
        endpoint = None
        if code == b"227":
            endpoint = six_numbers(lines[0])
        elif code == b"229":
            endpoint = extended(lines[0])
        elif code == b"234":
            protected = True
        yield Reply(int(code), tuple(lines), endpoint)


def six_numbers(argument: str) -> Endpoint | None:
    """The host-port of PORT and 227 (RFC 959, section 5.3.2), wherever in the text it stands (RFC 1123, 4.1.2.6)."""
    found = SIX_NUMBERS.search(argument)
    if found is None:
        return None
    numbers = [int(number) for number in found.groups()]
    if max(numbers) > 255:
        return None
    return Endpoint(".".join(map(str, numbers[:4])), numbers[4] << 8 | numbers[5])


def extended(argument: str) -> Endpoint | None:
    """The endpoint of EPRT and 229 (RFC 2428)."""
    found = EXTENDED.search(argument)
    if found is None or int(found[4]) > 0xFFFF:
        return None
    try:
        return Endpoint(canonical(found[3]) if found[3] else None, int(found[4]))
    except ValueError:
        return None


def canonical(address: str) -> str:
    """An address in canonical text form, IPv4 where it is only mapped to IPv6; ``ValueError`` if it is none."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(parsed)


@dataclass(slots=True)
class Exchange:
    """A command with its final reply; one of the two may not have been seen."""

    command: Command | None
    asked: Item | None = None
    reply: Reply | None = None
    answered: Item | None = None
    opening: Reply | None = None
    """The preliminary reply, with which a transfer begins."""


def facts(items: Sequence[Item]) -> FtpFacts:
    """Commands paired with their replies, and what follows from each pair."""
    verbs = Counter[str]()
    codes = Counter[str]()
    greeting = None
    for item in items:
        said = item.message
        if isinstance(said, Command):
            verbs[said.verb] += 1
        elif isinstance(said, Reply):
            codes[str(said.code)] += 1
            if greeting is None and said.code == 220:
                greeting = said.lines[0]
    user = login = None
    auth_tls = False
    directory = ""
    transfers: list[Transfer] = []
    listings: list[str] = []
    refusals = 0
    connections: list[DataConnection] = []
    opened: DataConnection | None = None  # named, not used yet
    for exchange in exchanges(items):
        command, reply = exchange.command, exchange.reply
        verb = command.verb if command else ""
        code = reply.code if reply else None
        done = code is None or 200 <= code < 300
        if code == 230:
            login = "accepted"
        elif code == 530 and verb in ("", "USER", "PASS", "ACCT"):
            login = login or "refused"
            refusals += 1
        named: DataConnection | None = None
        if reply and reply.endpoint and exchange.answered:
            named = DataConnection(True, exchange.answered.frame, exchange.answered.time, reply.endpoint)
        elif command and command.endpoint and exchange.asked and done:
            named = DataConnection(False, exchange.asked.frame, exchange.asked.time, command.endpoint)
        elif verb in PASSIVE and reply is None and exchange.asked:
            named = DataConnection(True, exchange.asked.frame, exchange.asked.time)
        if named is not None:
            if opened is not None:
                connections.append(opened)
            opened = named
        if command is None or exchange.asked is None:
            continue
        if verb == "USER":
            user = command.argument
        elif verb == "AUTH":
            auth_tls = auth_tls or (code == 234 and command.argument.upper() in SSL_TOKENS)
        elif verb in ("CWD", "XCWD") and done:
            directory = posixpath.join(directory, command.argument)[:1024]
        elif verb in ("CDUP", "XCUP") and done:
            directory = posixpath.dirname(directory.rstrip("/"))
        elif verb in ("PWD", "XPWD") and reply and code == 257 and reply.lines[0].startswith('"/'):
            directory = reply.lines[0][1:].rpartition('"')[0].replace('""', '"')
        elif verb in DATA_COMMANDS:
            path = posixpath.join(directory, named_file(exchange))
            if verb in TRANSFERS:
                transfers.append(Transfer(verb, path, reply=code))
            else:
                listings.append(path or ".")
            if opened is None:
                opened = DataConnection(False, exchange.asked.frame, exchange.asked.time)
            connections.append(opened._replace(verb=verb, path=path, reply=code))
            opened = None
    if opened is not None:
        connections.append(opened)
    return FtpFacts(
        dict(verbs),
        dict(codes),
        tuple(transfers),
        tuple(listings),
        greeting,
        user,
        login,
        refusals,
        auth_tls,
        tuple(connections),
    )


def named_file(exchange: Exchange) -> str:
    """The file or directory of a command that uses a data connection."""
    assert exchange.command
    argument = exchange.command.argument
    if exchange.command.verb in TRANSFERS:
        if exchange.command.verb == "STOU" and exchange.opening:  # the server chose the name (RFC 1123, 4.1.2.9)
            return exchange.opening.lines[0].partition("FILE: ")[2] or argument
        return argument
    return " ".join(word for word in argument.split() if not word.startswith("-"))  # as clients send options to ls


def exchanges(items: Sequence[Item]) -> list[Exchange]:
    """Commands and final replies in pairs, first asked first answered; a greeting answers nothing.

    A reply that answers only another command shows that those before went unanswered in the capture.
    """
    found: list[Exchange] = []
    pending: deque[Exchange] = deque()
    for item in items:
        said = item.message
        if isinstance(said, Command):
            exchange = Exchange(said, item)
            found.append(exchange)
            pending.append(exchange)
        elif isinstance(said, Reply) and said.code < 200:
            begun = next((each for each in pending if verb_of(each) in DATA_COMMANDS), None)
            if begun is not None:
                begun.opening = said
        elif isinstance(said, Reply):
            wanted = ANSWERS.get(said.code)
            if wanted and any(verb_of(each) in wanted for each in pending):
                while verb_of(pending[0]) not in wanted:
                    pending.popleft()
            answers_nothing = not pending or (said.code == 220 and verb_of(pending[0]) != "REIN")
            if answers_nothing:
                found.append(Exchange(None, None, said, item))
            else:
                exchange = pending.popleft()
                exchange.reply, exchange.answered = said, item
    return found


def verb_of(exchange: Exchange) -> str:
    return exchange.command.verb if exchange.command else ""
