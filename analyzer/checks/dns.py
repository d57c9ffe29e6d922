"""DNS: names that somebody may look up, not data that travel as names."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.findings import Kind, Remark, Severity, content_check
from analyzer.heads import Frame
from analyzer.matching import Fit
from analyzer.messages import messages
from analyzer.protocols.dns import NULL, RESPONSE_CODES, TXT, Header, Question, Record, Trailer

FRAMES_SHOWN = 8
PARENT_LABELS = 2
"""Labels at a name's end that are taken as its owner's: ``example.com``."""
LONG_LABEL = 40
"""Characters from which on a label is longer than people and most machines make one."""
SEVERAL = 3
"""Different such names below one owner that make a tunnel; one alone may be a cloud's load balancer."""
BULKY_NAME = 100
"""Characters of such labels in a single name that no host has."""
BULKY_TEXT = 2048
"""Bytes of text records in one conversation; mail domains have some hundred in an answer."""
PRIVATE_TYPES = range(65280, 65535)
"""Types of records for private use (RFC 6895, section 3.1)."""


def carried(labels: list[str]) -> int:
    """Characters of the labels that are too long for anything but data."""
    return sum(len(label) for label in labels if len(label) >= LONG_LABEL)


@content_check("TPE331", "dns-tunnel-names", Severity.MEDIUM, "dns")
def tunnel_names(fit: Fit) -> Iterator[Remark]:
    """Flags: queries for names made of long labels that look random and differ from query to query.

    Why: Tunnels through DNS write what they send into the names that they ask for; they get data out of a network
    where nothing else passes the firewall.

    Evidence: Several different names with a label of 40 characters or more below one domain, or a single
    name with 100 such characters.

    Remedy: Find the program that asks for these names, and let base stations reach your own resolver only.
    """
    parents: dict[str, dict[str, Frame]] = {}
    bulky = set()
    for item, question in messages(fit.conversation.dissection.items, Question):
        labels = question.name.split(".")
        size = 0 if question.header.response else carried(labels[:-PARENT_LABELS])
        if size:
            parent = ".".join(labels[-PARENT_LABELS:]).lower()
            parents.setdefault(parent, {}).setdefault(question.name, item.frame)
            if size >= BULKY_NAME:
                bulky.add(parent)
    for parent, frames in parents.items():
        if len(frames) >= SEVERAL or parent in bulky:
            names = "1 name" if len(frames) == 1 else f"{len(frames)} names"
            sentence = f"Queries ask for {names} of long random labels below {parent}, as a tunnel through DNS does."
            yield Remark(sentence, tuple(sorted(set(frames.values())))[:FRAMES_SHOWN])


@content_check("TPE332", "dns-tunnel-records", Severity.MEDIUM, "dns")
def tunnel_records(fit: Fit) -> Iterator[Remark]:
    """Flags: record types that carry data: NULL and private ones at all, text records in bulk.

    Why: Tunnels through DNS answer in records that take any bytes; a base station looks up addresses.

    Evidence: Queries or answers of type NULL or of a private type, or more than 2048 bytes of text records in one
    conversation.

    Remedy: Find the program that asks for these records, and let base stations reach your own resolver only.
    """
    items = fit.conversation.dissection.items
    raw: dict[int, list[Frame]] = {}
    for item, question in messages(items, Question):
        if question.type == NULL or question.type in PRIVATE_TYPES:
            raw.setdefault(question.type, []).append(item.frame)
    for kind, frames in sorted(raw.items()):
        name = "type NULL" if kind == NULL else f"the private type {kind}"
        sentence = f"Records of {name} are asked for, which hold raw data and no address."
        yield Remark(sentence, tuple(sorted(set(frames)))[:FRAMES_SHOWN])
    texts = [(item, record) for item, record in messages(items, Record) if record.type == TXT]
    volume = sum(record.length for _, record in texts)
    if volume > BULKY_TEXT:
        sentence = f"Text records carry {volume} bytes in {len(texts)} records, as a tunnel through DNS does."
        yield Remark(sentence, tuple(sorted({item.frame for item, _ in texts}))[:FRAMES_SHOWN])


@content_check("TPE333", "dns-trailing-bytes", Severity.LOW, "dns")
def trailing_bytes(fit: Fit) -> Iterator[Remark]:
    """Flags: datagrams that go on behind the DNS message that they carry.

    Why: Resolvers ignore these bytes, so that data can hide there; a faulty program may leave them, too.

    Evidence: Bytes behind the last record that the message's header counts.

    Remedy: Look at the bytes behind the message, and find out which program appends them.
    """
    found = list(messages(fit.conversation.dissection.items, Trailer))
    if found:
        most = max(trailer.length for _, trailer in found)
        frames = tuple(sorted({item.frame for item, _ in found}))[:FRAMES_SHOWN]
        yield Remark(f"Up to {most} bytes follow behind the DNS message in its datagram.", frames)


@content_check("TPE334", "dns-no-answer", Severity.INFO, "dns", Kind.NOTICE)
def no_answer(fit: Fit) -> Iterator[Remark]:
    """Flags: names that the name server does not resolve.

    Why: A base station that cannot resolve its server's name never connects; the rows that need it are then missing.

    Evidence: The response code of the answers.

    Remedy: Correct the name on the base station, or enter it into the DNS zone.
    """
    items = fit.conversation.dissection.items
    asked = {question.header.id: question.name for _, question in messages(items, Question)}
    failed: dict[tuple[int, str], list[Frame]] = {}
    for item, header in messages(items, Header):
        if header.response and header.rcode:
            failed.setdefault((header.rcode, asked.get(header.id, "an unknown name")), []).append(item.frame)
    for (code, name), frames in failed.items():
        sentence = f"The name server answers {RESPONSE_CODES.get(code, f'code {code}')} for {name}."
        yield Remark(sentence, tuple(frames[:FRAMES_SHOWN]))


CHECKS = (tunnel_names, tunnel_records, trailing_bytes, no_answer)
