"""DNS: names that somebody may look up, not data that travel as names; and answers that are the server's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from analyzer.conversations import Conversation
from analyzer.expected import ExpectedFlow
from analyzer.findings import (
    CAPTURE,
    AuditContext,
    Check,
    Issue,
    Kind,
    Severity,
    check,
    frames_filter,
)
from analyzer.heads import Direction, Frame
from analyzer.matching import Match, StationMatches
from analyzer.messages import messages
from analyzer.protocols.dns import (
    ADDRESS_TYPES,
    MULTICAST_PORTS,
    NAME,
    NULL,
    OTHERS,
    RESPONSE_CODES,
    TXT,
    TYPES,
    DnsFacts,
    Header,
    Question,
    Record,
    Trailer,
)

FRAMES_SHOWN = 8
PARENT_LABELS = 2
"""Labels at a name's end that are taken as its owner's: ``example.com``."""
LONG_LABEL = 40
"""Characters from which on a label is longer than people and most machines make one."""
SEVERAL = 3
"""Different such names below one owner that make a tunnel; one alone may be a cloud's load balancer."""
BULKY_NAME = 100
"""Characters of such labels in a single name that no host has."""
MANY_NAMES, MANY_CHARACTERS = 64, 2048
"""Different names below one owner, and characters in them, that make a tunnel of shorter labels, too."""
BULKY_TEXT = 2048
"""Bytes of different text records; mail domains have some hundred in an answer."""
PRIVATE_TYPES = range(65280, 65535)
"""Types of records for private use (RFC 6895, section 3.1)."""
OWNERS = 1024
"""Owners of names that are told apart for one base station; those of all others count as one."""
REMEMBERED = 4096
"""Names, or text records, of one owner that are told apart."""
UNASKED = 3
"""Answers without a question that make an attempt at guessing; one may be a late one."""
FACTORY_NAMES = frozenset(
    {"lrc1.thingpark.com", "lrc2.thingpark.com", "support1.actility.com", "support2.actility.com"}
)
"""What base stations ask for as they leave the factory."""


# -- tunnels: judged over all conversations of a base station, for each query may come from another port ---------


@dataclass(slots=True)
class Owner:
    """What one base station asks for below one domain."""

    long: set[str] = field(default_factory=set)
    """Names with labels that are too long for anything but data."""
    names: set[str] = field(default_factory=set)
    characters: int = 0
    """In ``names``, without the owner's own labels."""
    bulky: bool = False
    """One name alone carries more than any host's."""
    frames: list[Frame] = field(default_factory=list)
    conversations: dict[int, Conversation] = field(default_factory=dict)
    rows: dict[str, ExpectedFlow] = field(default_factory=dict)

    @property
    def tunnel(self) -> bool:
        many = len(self.names) >= MANY_NAMES and self.characters >= MANY_CHARACTERS
        return self.bulky or len(self.long) >= SEVERAL or many

    def shown_by(self, each: Conversation, rows: tuple[ExpectedFlow, ...], frame: Frame) -> None:
        """Remember a conversation, and a frame of it, as evidence."""
        if len(self.frames) < FRAMES_SHOWN and frame not in self.frames:
            self.frames.append(frame)
        if len(self.conversations) < REMEMBERED:
            self.conversations[each.id] = each
        self.rows |= {row.id: row for row in rows}


def lookups(matched: StationMatches) -> Iterator[tuple[Conversation, tuple[ExpectedFlow, ...], DnsFacts]]:
    """The DNS conversations of a base station, expected or not; those by which hosts find each other left out."""
    found: list[tuple[Conversation, tuple[ExpectedFlow, ...]]] = []
    found += ((match.conversation, match.rows) for match in matched.matches)
    found += ((unexpected_flow.conversation, ()) for unexpected_flow in matched.unexpected)
    for each, rows in found:
        facts = each.dissection.facts
        if isinstance(facts, DnsFacts) and each.responder.port not in MULTICAST_PORTS:
            yield each, rows, facts


def owner_of(name: str) -> tuple[str, list[str]]:
    """The domain that a name belongs to, and the labels below it."""
    labels = name.split(".")
    return ".".join(labels[-PARENT_LABELS:]).lower(), labels[:-PARENT_LABELS]


def carried(labels: list[str]) -> int:
    """Characters of the labels that are too long for anything but data."""
    return sum(len(label) for label in labels if len(label) >= LONG_LABEL)


def charged(matched: StationMatches, owner: Owner, sentence: str) -> Issue:
    """The charge that names one owner's evidence."""
    frames = tuple(sorted(owner.frames))
    return Issue(
        sentence,
        base_station=matched.station.address,
        rows=tuple(owner.rows),
        conversations=tuple(owner.conversations.values()),
        frames=frames,
        filter=frames_filter(frames),
    )


@check("TPE331", "dns-tunnel-names", Severity.MEDIUM, scope=CAPTURE, kind=Kind.MALFORMED)
def tunnel_names(context: AuditContext) -> Iterator[Issue]:
    """Flags: queries for names made of long labels that look random and differ from query to query.

    Why: Tunnels through DNS write what they send into the names that they ask for; they get data out of a network
    where nothing else passes the firewall. They may ask from another port each time.

    Evidence: In all conversations of one base station, several different names with a label of 40 characters or more
    below one domain, a single name with 100 such characters, or 64 different names with 2048 characters.

    Remedy: Find the program that asks for these names, and let base stations reach your own resolver only.
    """
    for matched in context.stations:
        owners: dict[str, Owner] = {}
        for each, rows, facts in lookups(matched):
            names = dict.fromkeys(facts.queries, each.first_frame)
            if OTHERS in names or any(carried(owner_of(name)[1]) for name in names):
                names = asked_names(each)
            for name, frame in names.items():
                parent, below = owner_of(name)
                if below and not parent.endswith(".arpa"):
                    note(owners, parent, name, below, each, rows, frame)
        for parent, owner in owners.items():
            if owner.tunnel:
                chosen = owner.long or owner.names
                count = "1 name" if len(chosen) == 1 else f"{len(chosen)} names"
                looks = "of long random labels" if owner.long else f"with {owner.characters} characters"
                sentence = f"Queries ask for {count} {looks} below {parent}, as a tunnel through DNS does."
                yield charged(matched, owner, sentence)


def asked_names(each: Conversation) -> dict[str, Frame]:
    """All names that a conversation asks for, each with its first frame."""
    found: dict[str, Frame] = {}
    for item, question in messages(each.dissection.items, Question):
        if not question.header.response:
            found.setdefault(question.name, item.frame)
    return found


def note(
    owners: dict[str, Owner],
    parent: str,
    name: str,
    below: list[str],
    each: Conversation,
    rows: tuple[ExpectedFlow, ...],
    frame: Frame,
) -> None:
    """Take in one name that was asked for."""
    owner = owners.setdefault(parent if parent in owners or len(owners) < OWNERS else "many domains", Owner())
    if name in owner.names or len(owner.names) >= REMEMBERED:
        return
    owner.names.add(name)
    owner.characters += sum(map(len, below))
    size = carried(below)
    if size:
        owner.long.add(name)
        owner.bulky |= size >= BULKY_NAME
    owner.shown_by(each, rows, frame)


@check("TPE332", "dns-tunnel-records", Severity.MEDIUM, scope=CAPTURE, kind=Kind.MALFORMED)
def tunnel_records(context: AuditContext) -> Iterator[Issue]:
    """Flags: record types that carry data: NULL and private ones at all, text records in bulk.

    Why: Tunnels through DNS answer in records that take any bytes; a base station looks up addresses.

    Evidence: In all conversations of one base station, queries or answers of type NULL or of a private type, or more
    than 2048 bytes of different text records below one domain.

    Remedy: Find the program that asks for these records, and let base stations reach your own resolver only.
    """
    for matched in context.stations:
        raw: dict[int, Owner] = {}
        texts: dict[str, tuple[Owner, set[tuple[str, str | bytes]], list[int]]] = {}
        for each, rows, facts in lookups(matched):
            if OTHERS in facts.types or any(map(holds_data, facts.types)):
                for item, question in messages(each.dissection.items, Question):
                    if question.type == NULL or question.type in PRIVATE_TYPES:
                        raw.setdefault(question.type, Owner()).shown_by(each, rows, item.frame)
            if not facts._texts:
                continue
            for item, record in messages(each.dissection.items, Record):
                if record.type == TXT:
                    parent = owner_of(record.name)[0]
                    parent = parent if parent in texts or len(texts) < OWNERS else "many domains"
                    owner, known, volume = texts.setdefault(parent, (Owner(), set(), [0]))
                    said = record.name, record.data
                    if said not in known and len(known) < REMEMBERED:
                        known.add(said)
                        volume[0] += record.length
                        owner.shown_by(each, rows, item.frame)
        for kind, owner in sorted(raw.items()):
            name = f"type {TYPES[kind]}" if kind in TYPES else f"the private type {kind}"
            yield charged(matched, owner, f"Records of {name} are asked for, which hold raw data and no address.")
        for parent, (owner, known, volume) in texts.items():
            if volume[0] > BULKY_TEXT:
                yield charged(
                    matched,
                    owner,
                    f"Text records below {parent} carry {volume[0]} bytes in {len(known)} records, as a tunnel through "
                    "DNS does.",
                )


def holds_data(kind: str) -> bool:
    """Whether a type of record, by its name in the facts, takes any bytes."""
    return kind == TYPES[NULL] or (kind.isdecimal() and int(kind) in PRIVATE_TYPES)


# -- one conversation ---------------------------------------------------------------------------------------------


@check("TPE333", "dns-trailing-bytes", Severity.LOW, protocol=NAME, pure=True)
def trailing_bytes(match: Match) -> Iterator[Issue]:
    """Flags: datagrams that go on behind the DNS message that they carry.

    Why: Resolvers ignore these bytes, so that data can hide there; a faulty program may leave them, too.

    Evidence: Bytes behind the last record that the message's header counts.

    Remedy: Look at the bytes behind the message, and find out which program appends them.
    """
    found = list(messages(match.conversation.dissection.items, Trailer))
    if found:
        most = max(trailer.length for _, trailer in found)
        frames = tuple(sorted({item.frame for item, _ in found}))[:FRAMES_SHOWN]
        yield Issue(f"Up to {most} bytes follow behind the DNS message in its datagram.", frames)


@check("TPE334", "dns-no-answer", Severity.INFO, protocol=NAME, kind=Kind.NOTICE, pure=True)
def no_answer(match: Match) -> Iterator[Issue]:
    """Flags: names that the name server does not resolve.

    Why: A base station that cannot resolve its server's name never connects; the rows that need it are then missing.

    Evidence: The response code of the answers.

    Remedy: Correct the name on the base station, or enter it into the DNS zone.
    """
    items = match.conversation.dissection.items
    asked = {question.header.id: question.name for _, question in messages(items, Question)}
    failed: dict[tuple[int, str], list[Frame]] = {}
    for item, header in messages(items, Header):
        if header.response and header.rcode:
            failed.setdefault((header.rcode, asked.get(header.id, "an unknown name")), []).append(item.frame)
    for (code, name), frames in failed.items():
        sentence = f"The name server answers {RESPONSE_CODES.get(code, f'code {code}')} for {name}."
        yield Issue(sentence, tuple(frames[:FRAMES_SHOWN]))


Asked = tuple[int, str, int]
"""Identifier, name in lower case and type: what an answer must repeat (RFC 5452, section 9.1)."""


@dataclass(slots=True)
class Exchange:
    """One question with all of its answers."""

    questions: int = 0
    answers: dict[int, frozenset[str]] = field(default_factory=dict)
    """The addresses of each answer, by its number among the conversation's messages."""
    frames: list[Frame] = field(default_factory=list)
    """Of the answers."""


def answered(each: Conversation) -> int:
    """Answers beyond one to each question of a conversation over UDP, as far as its head shows."""
    facts = each.dissection.facts
    if not isinstance(facts, DnsFacts) or each.transport != "udp":
        return 0
    return sum(facts.response_codes.values()) - sum(facts.queries.values())


def exchanges(each: Conversation) -> dict[Asked, Exchange]:
    """Questions and answers of a conversation, by what they ask."""
    found: dict[Asked, Exchange] = {}
    number = 0
    own: Exchange | None = None
    for item in each.dissection.items:
        message = item.message
        if type(message) is Header:
            number, own = number + 1, None
        elif type(message) is Question:
            own = found.setdefault((message.header.id, message.name.lower(), message.type), Exchange())
            if message.header.response:
                own.answers[number] = frozenset()
                own.frames.append(item.frame)
            else:
                own.questions += 1
        elif type(message) is Record and own and message.type in ADDRESS_TYPES and number in own.answers:
            own.answers[number] |= {str(message.data)}
    return found


@check("TPE335", "dns-contradicting-answers", Severity.MEDIUM, protocol=NAME, pure=True)
def contradicting_answers(match: Match) -> Iterator[Issue]:
    """Flags: two answers to one question that have no address in common.

    Why: Who can see a query can answer it faster than the name server, and lead the base station to a host of theirs;
    the true answer then comes second.

    Evidence: More answers than questions with one identifier, name and type, and their addresses.

    Remedy: Find out which of the two answers your name server gave, and look for the host that gave the other one.
    """
    if answered(match.conversation) <= 0:
        return
    for (_, name, _), exchange in exchanges(match.conversation).items():
        told = [each for each in exchange.answers.values() if each]
        if len(exchange.answers) > exchange.questions > 0 and len(told) > 1 and told[0].isdisjoint(told[-1]):
            both = f"{', '.join(sorted(told[0])[:4])}, then {', '.join(sorted(told[-1])[:4])}"
            frames = tuple(sorted(set(exchange.frames)))[:FRAMES_SHOWN]
            yield Issue(f"The one question for {name} got contradicting answers: {both}.", frames)


@check("TPE336", "dns-unasked-answers", Severity.MEDIUM, protocol=NAME, pure=True)
def unasked_answers(match: Match) -> Iterator[Issue]:
    """Flags: several answers to questions that the base station never asked.

    Why: Who cannot see a query can still guess its identifier, and sends many answers in the hope that one matches.

    Evidence: Three or more answers after the first question whose identifier, name and type no question has, though
    the capture shows all questions of the conversation.

    Remedy: Find the host that sends these answers; let only your own resolver's packets reach the base station.
    """
    each = match.conversation
    if answered(each) < UNASKED or Direction.ORIGINATOR not in {item.direction for item in each.dissection.items[:1]}:
        return
    kept = sum(1 for datagram in each.head.datagrams if datagram.direction is Direction.ORIGINATOR)
    unasked = [exchange for exchange in exchanges(each).values() if not exchange.questions]
    frames = sorted({frame for exchange in unasked for frame in exchange.frames})
    if kept >= each.packets[Direction.ORIGINATOR] and len(frames) >= UNASKED:
        sentence = f"The base station gets {len(frames)} answers to questions that it never asked."
        yield Issue(sentence, tuple(frames[:FRAMES_SHOWN]))


@check("TPE337", "dns-factory-name", Severity.INFO, protocol=NAME, kind=Kind.NOTICE, pure=True)
def factory_name(match: Match) -> Iterator[Issue]:
    """Flags: queries for the servers that base stations are delivered with.

    Why: A base station that asks for them still has its factory settings, or parts of them; it then also tries to
    reach these servers.

    Evidence: The names lrc1, lrc2.thingpark.com and support1, support2.actility.com in its queries.

    Remedy: Enter your own TPE's names on the base station wherever these are left.
    """
    facts = match.conversation.dissection.facts
    found = [name for name in facts.queries if name.lower() in FACTORY_NAMES] if isinstance(facts, DnsFacts) else []
    if found:
        asked = messages(match.conversation.dissection.items, Question)
        frames = tuple(sorted({item.frame for item, question in asked if question.name in found}))[:FRAMES_SHOWN]
        yield Issue(f"The base station asks for {', '.join(found)}, as it was delivered to do.", frames)


@check("TPE338", "dns-over-tcp", Severity.MEDIUM, scope=CAPTURE, kind=Kind.MALFORMED)
def over_tcp(context: AuditContext) -> Iterator[Issue]:
    """Flags: DNS over TCP that is not the retry of an answer that was cut short.

    Why: A base station asks over UDP, as the row says, and turns to TCP only after an answer with the flag TC (RFC
    7766, section 5). TCP from the beginning is another program's, and what zone transfers and tunnels use.

    Evidence: The TCP conversations with a DNS server before which no answer of that server was cut short.

    Remedy: Find out which program on the base station asks over TCP.
    """
    for matched in context.stations:
        over = [
            match
            for match in matched.matches
            if match.conversation.transport == "tcp" and match.conversation.protocol == NAME
        ]
        cut = cut_answers(match.conversation for match in matched.matches) if over else {}
        by_server: dict[str, list[Match]] = {}
        for match in over:
            each = match.conversation
            if cut.get((each.originator.address, each.responder.address), each.first + 1) > each.first:
                by_server.setdefault(each.responder.address, []).append(match)
        for server, matches in by_server.items():
            count = sum(match.conversation.flow_count for match in matches)
            times = "once" if count == 1 else f"in {count} flows"
            yield Issue(
                f"The base station asks {server} over TCP, {times}, though no answer of it was cut short before.",
                base_station=matched.station.address,
                rows=tuple(dict.fromkeys(row.id for match in matches for row in match.rows)),
                conversations=tuple(match.conversation for match in matches),
                mismatch="transport",
            )


def cut_answers(conversations: Iterable[Conversation]) -> dict[tuple[str, str], int]:
    """(client, DNS server) → when the first conversation began in which the server cut an answer short (TC)."""
    found: dict[tuple[str, str], int] = {}
    for each in conversations:
        facts = each.dissection.facts
        if each.transport == "udp" and isinstance(facts, DnsFacts) and facts.truncated:
            found.setdefault((each.originator.address, each.responder.address), each.first)
    return found


CHECKS: tuple[Check, ...] = (
    over_tcp,
    tunnel_names,
    tunnel_records,
    trailing_bytes,
    no_answer,
    contradicting_answers,
    unasked_answers,
    factory_name,
)
