"""DNS: tunnels in names and records, forged answers, and names that do not resolve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, replace

from analyzer.conversations import Conversation
from analyzer.dataclass import dataclass
from analyzer.expected import ExpectedFlow
from analyzer.findings import (
    CAPTURE,
    CITED,
    AuditContext,
    Check,
    Issue,
    Kind,
    Severity,
    check,
    cited_frames,
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
    OPT,
    ORDINARY_OPTIONS,
    ORDINARY_TYPES,
    OTHERS,
    RESPONSE_CODES,
    TYPES,
    DnsFacts,
    Header,
    Question,
    Record,
    Trailer,
)

DOMAIN_LABELS = 2
"""Labels at a name's end that make its domain: ``example.com``."""
LONG_LABEL = 40
"""Characters from which on a label is longer than people and most machines make one."""
LONG_NAMES = 3
"""Different names with long labels below one domain that make a tunnel; one alone may be a cloud's load balancer."""
BULKY_NAME = 100
"""Characters in long labels of a single name that make a tunnel: no host has such a name."""
MANY_NAMES, MANY_CHARACTERS = 64, 2048
"""Different names below one domain, and characters in them, that make a tunnel of shorter labels."""
RANDOM_LABEL = 12
"""Letters and digits from which on a label of both may be random."""
RANDOM_NAMES = 16
"""Different names with random labels below one domain, from which on they are worth a look: content networks and
telemetry make such names, too."""
OCTET_DIGITS = 3
REVERSE_CHARACTERS = 8
"""Characters that the name of a reverse lookup counts for: the rest of it is form."""
MANY_ADDRESSES, ADDRESS_INTERVAL = 128, 10_000_000_000
"""Different addresses below one domain, and the mean nanoseconds between its lookups below which they make a tunnel:
pools of servers also answer with ever other addresses, but are asked seldom."""
BULKY_OPTIONS = 2048
"""Bytes of EDNS options beyond the ordinary ones, to or from one server, that make a tunnel."""
MANY_UNLIKE, UNLIKE_INTERVAL = 256, 5_000_000_000
"""Queries of one port that are unlike all before them, and nanoseconds between two of them on average, which make a
tunnel: a base station looks up few names, again and again."""
BULKY_TEXT = 2048
"""Bytes of different text records below one domain; mail domains have some hundred in an answer."""
PRIVATE_TYPES = range(65280, 65535)
"""Types of records for private use (RFC 6895, section 3.1)."""
MAX_DOMAINS = 1024
"""Maximum domains kept apart per base station; all further ones count as :data:`FURTHER_DOMAINS`."""
FURTHER_DOMAINS = "many domains"
MAX_REMEMBERED = 4096
"""Maximum names, text records and conversations kept per domain."""
UNREQUESTED = 3
"""Answers without a question that make an attempt at guessing; one may be a late one."""
ADDRESSES_SHOWN = 4
"""Maximum addresses of one answer that a sentence lists."""
FACTORY_NAMES = frozenset(
    {"lrc1.thingpark.com", "lrc2.thingpark.com", "support1.actility.com", "support2.actility.com"}
)
"""Names that base stations with factory settings look up, in lower case."""


# -- tunnels, over all conversations of a base station: every query may use another port -----------------------


@dataclass(slots=True)
class Evidence:
    """Conversations of one base station that show the same, with their rows and first frames."""

    frames: list[Frame] = field(default_factory=list)
    conversations: dict[int, Conversation] = field(default_factory=dict)
    """By id."""
    rows: dict[str, ExpectedFlow] = field(default_factory=dict)
    """By id."""

    def add(self, conversation: Conversation, rows: tuple[ExpectedFlow, ...], frame: Frame) -> None:
        if len(self.frames) < CITED and frame not in self.frames:
            self.frames.append(frame)
        if len(self.conversations) < MAX_REMEMBERED:
            self.conversations[conversation.id] = conversation
        self.rows |= {row.id: row for row in rows}

    def issue(self, station: StationMatches, sentence: str) -> Issue:
        frames = tuple(sorted(self.frames))
        return Issue(
            sentence,
            base_station=station.address,
            rows=tuple(self.rows),
            conversations=tuple(self.conversations.values()),
            frames=frames,
            filter=frames_filter(frames),
        )


@dataclass(slots=True)
class DomainQueries(Evidence):
    """The names that one base station looks up below one domain."""

    names: set[str] = field(default_factory=set)
    long_names: set[str] = field(default_factory=set)
    """Those with long labels."""
    random_names: set[str] = field(default_factory=set)
    """Those with random labels."""
    characters: int = 0
    """In ``names``, without the domain's own labels."""
    bulky: bool = False
    """A single name carries more than any host's."""

    @property
    def is_tunnel(self) -> bool:
        many = len(self.names) >= MANY_NAMES and self.characters >= MANY_CHARACTERS
        return self.bulky or len(self.long_names) >= LONG_NAMES or many

    def is_new(self, name: str) -> bool:
        return name not in self.names and len(self.names) < MAX_REMEMBERED

    def add_name(self, name: str, labels: list[str]) -> None:
        """Count a new name, whose ``labels`` stand below the domain."""
        self.names.add(name)
        self.characters += REVERSE_CHARACTERS if is_reverse(name, labels) else sum(map(len, labels))
        if any(map(looks_random, labels)):
            self.random_names.add(name)
        size = long_label_characters(labels)
        if size:
            self.long_names.add(name)
            self.bulky |= size >= BULKY_NAME


@dataclass(slots=True)
class DomainTexts(Evidence):
    """The text records that one base station gets below one domain."""

    texts: set[tuple[str, str | bytes]] = field(default_factory=set)
    """Name and content."""
    size: int = 0
    """Bytes of the different records."""
    answers: set[tuple[int, Frame]] = field(default_factory=set)
    """The answers that carry them: number of the conversation, and frame."""
    types: set[int] = field(default_factory=set)

    @property
    def kind(self) -> str:
        """The records in words."""
        names = ", ".join(TYPES.get(kind, str(kind)) for kind in sorted(self.types))
        return "Text records" if names == "TXT" else f"Records of type {names}"

    def is_new(self, text: tuple[str, str | bytes]) -> bool:
        return text not in self.texts and len(self.texts) < MAX_REMEMBERED


def lookups(station: StationMatches) -> Iterator[tuple[Conversation, tuple[ExpectedFlow, ...], DnsFacts]]:
    """The DNS conversations of a base station with their rows; multicast name discovery is left out."""
    for conversation, rows in station.by_protocol.get(NAME, ()):
        facts = conversation.dissection.facts
        if isinstance(facts, DnsFacts) and conversation.responder.port not in MULTICAST_PORTS:
            yield conversation, rows, facts


def split_name(name: str) -> tuple[str, list[str]]:
    """The domain that a name belongs to, and the labels below it."""
    labels = name.split(".")
    return ".".join(labels[-DOMAIN_LABELS:]).lower(), labels[:-DOMAIN_LABELS]


def long_label_characters(labels: list[str]) -> int:
    """Characters of the labels that are too long for anything but data."""
    return sum(len(label) for label in labels if len(label) >= LONG_LABEL)


def is_reverse(name: str, labels: list[str]) -> bool:
    """Whether a name stands for an address or a part of one: octets or nibbles below .arpa."""
    return name.lower().endswith((".in-addr.arpa", ".ip6.arpa")) and max(map(len, labels)) <= OCTET_DIGITS


def looks_random(label: str) -> bool:
    """Whether a label is long, and letters and digits mixed as in hexadecimal or base32."""
    digits = sum(character.isdigit() for character in label)
    return len(label) >= RANDOM_LABEL and label.isalnum() and 8 * digits >= len(label) > digits


@check("TPE331", "dns-tunnel-names", Severity.MEDIUM, scope=CAPTURE, kind=Kind.MALFORMED)
def tunnel_names(context: AuditContext) -> Iterator[Issue]:
    """Flags: queries for names made of labels that look random and differ from query to query.

    Severity: medium; low for names of random labels below one domain that are fewer or shorter than a tunnel's.

    Why: Tunnels through DNS write what they send into the names that they ask for; they get data out of a network
    where nothing else passes the firewall. They may ask from another port each time.

    Evidence: In all conversations of one base station, several different names with a label of 40 characters or more
    below one domain, a single name with 100 such characters, or 64 different names with 2048 characters; the latter
    also over all domains that one server is asked for, where the names have random labels. Low: 16 different names with
    random labels below one domain.

    Remedy: Find the program that asks for these names, and let base stations reach your own resolver only.
    """
    for station in context.stations:
        for conversation, rows, _ in lookups(station):
            if is_flood(conversation):
                flood = Evidence()
                flood.add(conversation, rows, conversation.first_frame)
                yield flood.issue(
                    station,
                    f"{conversation.unlike[Direction.ORIGINATOR]} queries of one port to "
                    f"{conversation.responder.address} ask for other names than before, as a tunnel through DNS does.",
                )
        for domain, queries in queries_by_domain(station).items():
            if queries.is_tunnel:
                chosen = queries.long_names or queries.names
                count = "1 name" if len(chosen) == 1 else f"{len(chosen)} names"
                looks = "of long random labels" if queries.long_names else f"with {queries.characters} characters"
                yield queries.issue(
                    station, f"Queries ask for {count} {looks} below {domain}, as a tunnel through DNS does."
                )
            elif len(queries.random_names) >= RANDOM_NAMES:
                sentence = (
                    f"Queries ask for {len(queries.random_names)} names of random labels below {domain}, as content "
                    "networks and telemetry do, and tunnels."
                )
                yield replace(queries.issue(station, sentence), severity=Severity.LOW)
        for server, queries in random_queries_by_server(station).items():
            if queries.is_tunnel:
                yield queries.issue(
                    station,
                    f"Queries ask {server} for {len(queries.names)} names of random labels with {queries.characters} "
                    "characters below many domains, as a tunnel through DNS does.",
                )


def random_queries_by_server(station: StationMatches) -> dict[str, DomainQueries]:
    """The names with random labels that a base station looks up, by server, but for domains that show a tunnel alone.

    A name's own domain counts as a label: a tunnel may own many domains, or talk to a server that needs none.
    """
    by_domain = queries_by_domain(station)
    suspects = {
        name
        for queries in by_domain.values()
        if not queries.is_tunnel and len(queries.random_names) < RANDOM_NAMES
        for name in queries.random_names
    }
    found: dict[str, DomainQueries] = {}
    if len(suspects) < MANY_NAMES:
        return found
    for conversation, rows, facts in lookups(station):
        queries = found.setdefault(conversation.responder.address, DomainQueries())
        for name in facts.queries:
            if name in suspects and queries.is_new(name):
                labels = name.split(".")[:-1]
                queries.names.add(name)
                queries.characters += sum(map(len, labels))
                queries.add(conversation, rows, conversation.first_frame)
    return found


def is_flood(conversation: Conversation) -> bool:
    """Whether a conversation asks for ever other names, of which not all were kept."""
    unlike = conversation.unlike[Direction.ORIGINATOR]
    return unlike >= MANY_UNLIKE and conversation.last - conversation.first <= unlike * UNLIKE_INTERVAL


def queries_by_domain(station: StationMatches) -> dict[str, DomainQueries]:
    """The names that a base station looks up, by their domain."""
    found: dict[str, DomainQueries] = {}
    for conversation, rows, facts in lookups(station):
        # Facts list the first names only, and without frames: those of ordinary names need not be exact.
        names = dict.fromkeys(facts.queries, conversation.first_frame)
        if OTHERS in names or any(long_label_characters(split_name(name)[1]) for name in names):
            names = frames_by_name(conversation)
        for name, frame in names.items():
            domain, labels = split_name(name)
            if labels:
                known = domain in found or len(found) < MAX_DOMAINS
                queries = found.setdefault(domain if known else FURTHER_DOMAINS, DomainQueries())
                if queries.is_new(name):
                    queries.add_name(name, labels)
                    queries.add(conversation, rows, frame)
    return found


def frames_by_name(conversation: Conversation) -> dict[str, Frame]:
    """All names that a conversation asks for, each with its first frame."""
    found: dict[str, Frame] = {}
    for item, question in messages(conversation.dissection.items, Question):
        if not question.header.response:
            found.setdefault(question.name, item.frame)
    return found


@check("TPE332", "dns-tunnel-records", Severity.MEDIUM, scope=CAPTURE, kind=Kind.MALFORMED)
def tunnel_records(context: AuditContext) -> Iterator[Issue]:
    """Flags: record types that carry data: NULL and private ones at all, text records in bulk.

    Severity: medium; low for one large answer alone.

    Why: Tunnels through DNS answer in records that take any bytes; a base station looks up addresses.

    Evidence: In all conversations of one base station, queries or answers of type NULL or of a private type, or more
    than 2048 bytes of different text records below one domain.

    Remedy: Find the program that asks for these records, and let base stations reach your own resolver only.
    """
    for station in context.stations:
        for kind, evidence in sorted(raw_queries(station).items()):
            name = f"type {TYPES[kind]}" if kind in TYPES else f"the private type {kind}"
            yield evidence.issue(station, f"Records of {name} are asked for, which hold raw data and no address.")
        for domain, texts in texts_by_domain(station).items():
            if texts.size > BULKY_TEXT and len(texts.answers) > 1:
                yield texts.issue(
                    station,
                    f"{texts.kind} below {domain} carry {texts.size} bytes in {len(texts.texts)} records, as a tunnel "
                    "through DNS does.",
                )
            elif texts.size > BULKY_TEXT:
                sentence = f"One answer carries {texts.size} bytes of text below {domain}: no tunnel by itself."
                yield replace(texts.issue(station, sentence), severity=Severity.LOW)


def raw_queries(station: StationMatches) -> dict[int, Evidence]:
    """Queries and answers of types that take any bytes, by type."""
    found: dict[int, Evidence] = {}
    for conversation, rows, facts in lookups(station):
        if OTHERS in facts.types or any(map(holds_data, facts.types)):
            for item, question in messages(conversation.dissection.items, Question):
                if question.type == NULL or question.type in PRIVATE_TYPES:
                    found.setdefault(question.type, Evidence()).add(conversation, rows, item.frame)
    return found


def texts_by_domain(station: StationMatches) -> dict[str, DomainTexts]:
    """The text records and others that hold more than an address, by their domain."""
    found: dict[str, DomainTexts] = {}
    for number, (conversation, rows, facts) in enumerate(lookups(station)):
        if not facts._texts:
            continue
        for item, record in messages(conversation.dissection.items, Record):
            if record.type not in ORDINARY_TYPES and record.type != NULL and record.type not in PRIVATE_TYPES:
                domain = split_name(record.name)[0]
                known = domain in found or len(found) < MAX_DOMAINS
                texts = found.setdefault(domain if known else FURTHER_DOMAINS, DomainTexts())
                text = record.name, record.data
                if texts.is_new(text):
                    texts.texts.add(text)
                    texts.size += record.length
                    texts.types.add(record.type)
                    texts.answers.add((number, item.frame))
                    texts.add(conversation, rows, item.frame)
    return found


def holds_data(name: str) -> bool:
    """Whether records of a type take any bytes; ``name`` is the type's as facts show it."""
    return name == TYPES[NULL] or (name.isdecimal() and int(name) in PRIVATE_TYPES)


@check("TPE339", "dns-tunnel-options", Severity.MEDIUM, scope=CAPTURE, kind=Kind.MALFORMED)
def tunnel_options(context: AuditContext) -> Iterator[Issue]:
    """Flags: messages with more in their EDNS options, and answers with more addresses, than lookups need.

    Why: Options may hold any bytes that the server at the other end understands, and sixteen of them pass for an
    address; resolvers send a cookie or a subnet in options, and keep an answer for as long as it lives.

    Evidence: In all conversations of one base station with one server, more than 2048 bytes of options beyond 96 in a
    message (RFC 6891, section 6.1.2); 128 different addresses below one domain that is asked for more often than every
    ten seconds.

    Remedy: Find the program that sends these messages, and let base stations reach your own resolver only.
    """
    for station in context.stations:
        sizes: dict[str, int] = {}
        evidence: dict[str, Evidence] = {}
        for conversation, rows, facts in lookups(station):
            if facts._options:
                server = conversation.responder.address
                sizes[server] = sizes.get(server, 0) + facts._options * conversation.flow_count
                frames = [
                    item.frame
                    for item, record in messages(conversation.dissection.items, Record)
                    if record.type == OPT and record.length > ORDINARY_OPTIONS
                ]
                evidence.setdefault(server, Evidence()).add(conversation, rows, frames[0])
        for server, size in sizes.items():
            if size > BULKY_OPTIONS:
                sentence = f"Messages to and from {server} carry {size} bytes in EDNS options, as a tunnel does."
                yield evidence[server].issue(station, sentence)
        for domain, answers in addresses_by_domain(station).items():
            if answers.is_tunnel:
                yield answers.issue(
                    station,
                    f"Answers give {len(answers.addresses)} different addresses below {domain}, asked for every "
                    f"{answers.interval / 1e9:.1f} s, as a tunnel through DNS does.",
                )


@dataclass(slots=True)
class DomainAddresses(Evidence):
    """The addresses that one base station gets below one domain."""

    addresses: set[str] = field(default_factory=set)
    lookups: int = 0
    first: int = 0
    """Nanoseconds since the epoch, as is ``last``."""
    last: int = 0

    @property
    def interval(self) -> float:
        """Mean nanoseconds between two lookups."""
        return (self.last - self.first) / max(1, self.lookups)

    @property
    def is_tunnel(self) -> bool:
        return len(self.addresses) >= MANY_ADDRESSES and self.interval < ADDRESS_INTERVAL


def addresses_by_domain(station: StationMatches) -> dict[str, DomainAddresses]:
    """The addresses that a base station gets in answers, by the domain of the name that it asked for."""
    found: dict[str, DomainAddresses] = {}
    for conversation, rows, facts in lookups(station):
        for domain in {split_name(name)[0] for name in facts.queries}:
            own = {address for address, name in facts.answers.items() if split_name(name)[0] == domain}
            if own and (domain in found or len(found) < MAX_DOMAINS):
                answers = found.setdefault(domain, DomainAddresses(first=conversation.first))
                if len(answers.addresses) < MAX_REMEMBERED:
                    answers.addresses |= own
                answers.lookups += conversation.flow_count * len(own)
                answers.last = max(answers.last, conversation.latest)
                answers.add(conversation, rows, conversation.first_frame)
    return found


# -- one conversation ---------------------------------------------------------------------------------------------


@check("TPE333", "dns-trailing-bytes", Severity.LOW, protocol=NAME, pure=True)
def trailing_bytes(match: Match) -> Iterator[Issue]:
    """Flags: datagrams that go on behind the DNS message that they carry.

    Why: Resolvers ignore these bytes, so that data can hide there; a faulty program may leave them, too.

    Evidence: Bytes behind the last record that the message's header counts.

    Remedy: Look at the bytes behind the message, and find out which program appends them.
    """
    found = messages(match.conversation.dissection.items, Trailer)
    if found:
        longest = max(trailer.length for _, trailer in found)
        yield Issue(
            f"Up to {longest} bytes follow behind the DNS message in its datagram.",
            cited_frames(item.frame for item, _ in found),
        )


@check("TPE334", "dns-no-answer", Severity.INFO, protocol=NAME, kind=Kind.NOTICE, pure=True)
def no_answer(match: Match) -> Iterator[Issue]:
    """Flags: names that the name server does not resolve.

    Why: A base station that cannot resolve its server's name never connects; the rows that need it are then missing.

    Evidence: The response code of the answers.

    Remedy: Correct the name on the base station, or enter it into the DNS zone.
    """
    items = match.conversation.dissection.items
    names = {question.header.id: question.name for _, question in messages(items, Question)}
    failed: dict[tuple[int, str], list[Frame]] = {}
    for item, header in messages(items, Header):
        if header.response and header.rcode:
            failed.setdefault((header.rcode, names.get(header.id, "an unknown name")), []).append(item.frame)
    for (code, name), frames in failed.items():
        response = RESPONSE_CODES.get(code, f"code {code}")
        yield Issue(f"The name server answers {response} for {name}.", tuple(frames[:CITED]))


QuestionKey = tuple[int, str, int]
"""Identifier, name in lower case and type: what an answer must repeat (RFC 5452, section 9.1)."""


@dataclass(slots=True)
class Exchange:
    """One question with all of its answers."""

    questions: int = 0
    """Times that it was sent."""
    answers: dict[int, frozenset[str]] = field(default_factory=dict)
    """The addresses in each answer, by the answer's number among the conversation's messages."""
    frames: list[Frame] = field(default_factory=list)
    """Those of the answers."""


def surplus_answers(conversation: Conversation) -> int:
    """Answers beyond one per question of a conversation over UDP, as far as its facts show."""
    facts = conversation.dissection.facts
    if not isinstance(facts, DnsFacts) or conversation.transport != "udp":
        return 0
    return sum(facts.response_codes.values()) - sum(facts.queries.values())


def exchanges(conversation: Conversation) -> dict[QuestionKey, Exchange]:
    """The questions and answers of a conversation, by what they ask."""
    found: dict[QuestionKey, Exchange] = {}
    number = 0
    current: Exchange | None = None
    for item in conversation.dissection.items:
        message = item.message
        if type(message) is Header:
            number, current = number + 1, None
        elif type(message) is Question:
            key = message.header.id, message.name.lower(), message.type
            current = found.setdefault(key, Exchange())
            if message.header.response:
                current.answers[number] = frozenset()
                current.frames.append(item.frame)
            else:
                current.questions += 1
        elif type(message) is Record and current and message.type in ADDRESS_TYPES and number in current.answers:
            current.answers[number] |= {str(message.data)}
    return found


@check("TPE335", "dns-contradicting-answers", Severity.MEDIUM, protocol=NAME, pure=True)
def contradicting_answers(match: Match) -> Iterator[Issue]:
    """Flags: two answers to one question that have no address in common.

    Why: Who can see a query can answer it faster than the name server, and lead the base station to a host of theirs;
    the true answer then comes second.

    Evidence: More answers than questions with one identifier, name and type, and their addresses.

    Remedy: Find out which of the two answers your name server gave, and look for the host that gave the other one.
    """
    if surplus_answers(match.conversation) <= 0:
        return
    for (_, name, _), exchange in exchanges(match.conversation).items():
        answers = [addresses for addresses in exchange.answers.values() if addresses]
        surplus = len(exchange.answers) > exchange.questions > 0
        if surplus and len(answers) > 1 and answers[0].isdisjoint(answers[-1]):
            first, last = (", ".join(sorted(answer)[:ADDRESSES_SHOWN]) for answer in (answers[0], answers[-1]))
            yield Issue(
                f"The one question for {name} got contradicting answers: {first}, then {last}.",
                cited_frames(exchange.frames),
            )


@check("TPE336", "dns-unasked-answers", Severity.MEDIUM, protocol=NAME, pure=True)
def unasked_answers(match: Match) -> Iterator[Issue]:
    """Flags: several answers to questions that the base station never asked.

    Why: Who cannot see a query can still guess its identifier, and sends many answers in the hope that one matches.

    Evidence: Three or more answers after the first question whose identifier, name and type no question has, though
    the capture shows all questions of the conversation.

    Remedy: Find the host that sends these answers; let only your own resolver's packets reach the base station.
    """
    conversation = match.conversation
    if surplus_answers(conversation) < UNREQUESTED:
        return
    if not any(item.direction == Direction.ORIGINATOR for item in conversation.dissection.items[:1]):
        return  # the questions may lie before the capture
    kept = sum(1 for datagram in conversation.head.datagrams if datagram.direction is Direction.ORIGINATOR)
    unrequested = [exchange for exchange in exchanges(conversation).values() if not exchange.questions]
    frames = {frame for exchange in unrequested for frame in exchange.frames}
    if kept >= conversation.packets[Direction.ORIGINATOR] and len(frames) >= UNREQUESTED:
        yield Issue(
            f"The base station gets {len(frames)} answers to questions that it never asked.", cited_frames(frames)
        )


@check("TPE337", "dns-factory-name", Severity.INFO, protocol=NAME, kind=Kind.NOTICE, pure=True)
def factory_name(match: Match) -> Iterator[Issue]:
    """Flags: queries for the servers that base stations are delivered with.

    Why: A base station that asks for them still has its factory settings, or parts of them; it then also tries to
    reach these servers.

    Evidence: The names lrc1, lrc2.thingpark.com and support1, support2.actility.com in its queries.

    Remedy: Enter your own TPE's names on the base station wherever these are left.
    """
    facts = match.conversation.dissection.facts
    names = [name for name in facts.queries if name.lower() in FACTORY_NAMES] if isinstance(facts, DnsFacts) else []
    if names:
        questions = messages(match.conversation.dissection.items, Question)
        yield Issue(
            f"The base station asks for {', '.join(names)}, as it was delivered to do.",
            cited_frames(item.frame for item, question in questions if question.name in names),
        )


RETRY_DELAY = 1_000_000_000
"""Nanoseconds within which a resolver asks again over TCP (RFC 7766, section 5: at once)."""
ADDRESS_LOOKUP = 0
"""Stands for the types A and AAAA: the GNU resolver repeats both over TCP if either answer was truncated."""

QuestionAsked = tuple[str, int]
"""Name in lower case, and type; :data:`ADDRESS_LOOKUP` for both types of addresses."""
UNREAD: QuestionAsked = ("", -1)
"""Stands for the question of a truncated answer of which the capture does not hold the question."""


@check("TPE338", "dns-over-tcp", Severity.MEDIUM, scope=CAPTURE, kind=Kind.MALFORMED)
def over_tcp(context: AuditContext) -> Iterator[Issue]:
    """Flags: DNS over TCP that is not the retry of an answer that was cut short.

    Severity: medium; low where the capture may lack the truncated answer: it shows one direction only, or begins less
    than a second before.

    Why: A base station asks over UDP, as the row says, and turns to TCP only after an answer with the flag TC (RFC
    7766, section 5). TCP from the beginning is another program's, and what zone transfers and tunnels use.

    Evidence: The TCP conversations with a DNS server that ask for a name and type to which no earlier answer of that
    server was cut short.

    Remedy: Find out which program on the base station asks over TCP.
    """
    for station in context.stations:
        for server, matches in tcp_without_truncation(station).items():
            count = sum(match.conversation.flow_count for match in matches)
            times = "once" if count == 1 else f"in {count} flows"
            unseen = all(may_lack_truncation(station, match.conversation) for match in matches)
            yield Issue(
                f"The base station asks {server} over TCP, {times}, though no answer to the same question was cut "
                "short before.",
                base_station=station.address,
                rows=tuple(dict.fromkeys(row.id for match in matches for row in match.rows)),
                conversations=tuple(match.conversation for match in matches),
                mismatch="transport",
                severity=Severity.LOW if unseen else None,
            )


def may_lack_truncation(station: StationMatches, conversation: Conversation) -> bool:
    """Whether the capture may lack the truncated answer that a conversation over TCP follows."""
    begins = station.timeline.watched_since(conversation.first)
    return station.seen.lacks is not None or conversation.first - begins < RETRY_DELAY


def tcp_without_truncation(station: StationMatches) -> dict[str, list[Match]]:
    """A base station's DNS conversations over TCP that no truncated answer precedes, by server."""
    over_tcp = [match for match in station.matches_by_protocol.get(NAME, ()) if match.conversation.transport == "tcp"]
    truncated = truncated_questions(match.conversation for match in station.matches) if over_tcp else {}
    found: dict[str, list[Match]] = {}
    for match in over_tcp:
        conversation = match.conversation
        ends = conversation.originator.address, conversation.responder.address
        if not is_retry(conversation, truncated.get(ends, {})):
            found.setdefault(conversation.responder.address, []).append(match)
    return found


def is_retry(conversation: Conversation, truncated: Mapping[QuestionAsked, int]) -> bool:
    """Whether each question of a conversation had a truncated answer before. ``truncated``: those of its server."""
    before = {question for question, time in truncated.items() if time <= conversation.first}
    asked = {
        question_asked(question)
        for _, question in messages(conversation.dissection.items, Question)
        if not question.header.response
    }
    return asked <= before if asked and UNREAD not in before else bool(before)


def truncated_questions(conversations: Iterable[Conversation]) -> dict[tuple[str, str], dict[QuestionAsked, int]]:
    """By client and DNS server: the questions with a truncated answer (TC) over UDP, and the time of the first one."""
    found: dict[tuple[str, str], dict[QuestionAsked, int]] = {}
    for conversation in conversations:
        if conversation.transport != "udp" or conversation.protocol != NAME:
            continue
        items = conversation.dissection.items
        answers = [(item, header) for item, header in messages(items, Header) if header.response and header.truncated]
        if not answers:
            continue
        asked = {question.header.id: question_asked(question) for _, question in messages(items, Question)}
        own = found.setdefault((conversation.originator.address, conversation.responder.address), {})
        for item, header in answers:
            question = asked.get(header.id, UNREAD)
            own[question] = min(item.time, own.get(question, item.time))
    return found


def question_asked(question: Question) -> QuestionAsked:
    """Name and type that a question asks for."""
    return question.name.lower(), ADDRESS_LOOKUP if question.type in ADDRESS_TYPES else question.type


CHECKS: tuple[Check, ...] = (
    over_tcp,
    tunnel_names,
    tunnel_records,
    tunnel_options,
    trailing_bytes,
    no_answer,
    contradicting_answers,
    unasked_answers,
    factory_name,
)
