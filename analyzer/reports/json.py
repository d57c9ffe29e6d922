"""The report that programs read. Its JSON Schema is ``audit.schema.json``, beside this module.

Outer objects are indented, each capture, row, finding and flow stands on a line of its own: fit for ``grep`` and
``diff``, and half as large as if all were indented.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import resources
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, NamedTuple

from analyzer.capture import CaptureFile
from analyzer.community_id import community_ids
from analyzer.conversations import Conversation, Conversations
from analyzer.findings import Finding, fingerprints
from analyzer.heads import Frame
from analyzer.messages import Facts, to_json
from analyzer.protocols import dhcp
from analyzer.reports.times import finding_time, iso, iso_all
from analyzer.safetext import is_printable
from analyzer.verdicts import RowVerdict, StationVerdict
from analyzer.version import __version__

if TYPE_CHECKING:
    from analyzer.result import Audit, AuditTotals

SCHEMA_VERSION = "1"
"""Changes when a key changes its meaning or goes away; new keys do not change it."""

Rows = Mapping[int, tuple[str, ...]]
Stations = Mapping[int, str]


def render(audit: Audit, colour: bool = False) -> str:
    """The audit as one JSON object; it has no colours."""
    return "".join(pieces(audit, colour))


def pieces(audit: Audit, colour: bool = False) -> Iterator[str]:
    """:func:`render`, piece by piece: the report of many flows is never held as a whole."""
    digits = [capture.digits for capture in audit.captures]
    return document(
        {
            **heading(),
            "profile": audit.profile,
            "deployment": audit.deployment.value,
            "captures": lines(map(capture_json, audit.captures)),
            "base_stations": [station_json(station, audit.clients) for station in audit.base_stations],
            "findings": lines(
                finding_json(finding, name, audit.captures)
                for finding, name in zip(audit.findings, fingerprints(audit.findings), strict=True)
            ),
            "totals": totals_json(audit.totals),
            "names": {address: line(names) for address, names in audit.names.items()},
            "flows": flow_lines(audit.conversations, digits, audit.flow_rows, audit.flow_stations),
        }
    )


def render_flows(
    captures: Sequence[CaptureFile],
    conversations: Conversations,
    flow_rows: Rows | None = None,
    flow_stations: Stations | None = None,
) -> str:
    """Captures and conversations without an audit; what an audit would add to a flow is empty unless it is given."""
    return "".join(flow_pieces(captures, conversations, flow_rows, flow_stations))


def flow_pieces(
    captures: Sequence[CaptureFile],
    conversations: Conversations,
    flow_rows: Rows | None = None,
    flow_stations: Stations | None = None,
) -> Iterator[str]:
    """:func:`render_flows`, piece by piece."""
    digits = [capture.digits for capture in captures]
    flows = flow_lines(conversations, digits, flow_rows or {}, flow_stations or {})
    return document({**heading(), "captures": lines(map(capture_json, captures)), "flows": flows})


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of :func:`render`; of :func:`render_flows` it is ``$defs/flows_report``."""
    content: dict[str, Any] = json.loads(
        resources.files("analyzer.reports").joinpath("audit.schema.json").read_text(encoding="utf-8")
    )
    return content


# -- the parts -------------------------------------------------------------------------------------------------


def heading() -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "tool": line({"name": "tpe-pcap", "version": __version__})}


def capture_json(capture: CaptureFile) -> dict[str, Any]:
    return {
        "path": capture.path,
        "format": capture.format,
        "packets": capture.packets,
        "bytes": capture.bytes,
        "first": None if capture.first is None else iso(capture.first, capture.digits),
        "last": None if capture.last is None else iso(capture.last, capture.digits),
        "problems": capture.problems,
        "facts": to_json(capture.facts),
    }


def station_json(verdict: StationVerdict, clients: Mapping[str, dhcp.Client]) -> dict[str, Any]:
    station = verdict.station
    return {
        "address": station.address,
        "addresses": line(station.addresses),
        "mac": station.mac,
        "dhcp": line(to_json(clients[station.address]) if station.address in clients else {}),
        "named": station.named,
        "evidence": line(station.evidence),
        "mode": verdict.mode,
        "mode_evidence": line(verdict.mode_evidence),
        "tpe": line(verdict.tpe),
        "rows": lines(map(row_json, verdict.rows)),
    }


def row_json(verdict: RowVerdict) -> dict[str, Any]:
    return {
        "id": verdict.row.id,
        "requirement": verdict.requirement.value,
        "status": verdict.status.value,
        "certainty": verdict.certainty.value if verdict.certainty else None,
        "reason": verdict.reason,
        "flows": verdict.flows,
    }


def finding_json(finding: Finding, fingerprint: str, captures: Sequence[CaptureFile]) -> dict[str, Any]:
    mismatch = {} if finding.mismatch is None else {"mismatch": finding.mismatch}
    return {
        "kind": finding.kind.value,
        "check": finding.check,
        "slug": finding.slug,
        "severity": str(finding.severity),
        "base_station": finding.base_station,
        "rows": finding.rows,
        **mismatch,
        "peer": finding.peer,
        "service": finding.service,
        "flow": finding.flow,
        "count": finding.count,
        "frames": [frame_json(frame) for frame in finding.frames],
        "time": finding_time(finding, captures),
        "filter": finding.filter,
        "summary": finding.summary,
        "remedy": finding.remedy,
        "fingerprint": fingerprint,
    }


def flow_lines(
    conversations: Conversations, digits: Sequence[int], flow_rows: Rows, flow_stations: Stations
) -> Iterator[Lines]:
    """The flows, each on a line. They are many: written as text at once, and what flows share only once."""
    shared: dict[int, Shared] = {}
    said = FactsText()
    flows = conversations.flows()
    while several := list(itertools.islice(flows, FLOWS_AT_ONCE)):
        firsts = iso_all([flow.first for flow in several], [digits[flow.first_capture] for flow in several])
        lasts = iso_all([flow.last for flow in several], [digits[flow.last_capture] for flow in several])
        texts = []
        for flow, first, last in zip(several, firsts, lasts, strict=True):
            number, each, port, _, _, one, two, three, four = flow
            known = shared.get(each.id)
            if known is None:
                known = shared_text(each, flow_rows.get(each.id, ()), flow_stations.get(each.id), said)
                if each.repeats:
                    shared[each.id] = known
            ends, state, rows, facts, name = known
            texts.append(
                f'{{"id": {number}, {ends}{NULL if port is None else port}{state}'
                f'"first": "{first}", "last": "{last}", '
                f'"first_frame": {{"capture": {one}, "number": {two}}}, '
                f'"last_frame": {{"capture": {three}, "number": {four}}}, '
                f'{rows}"community_id": {quoted(name(port))}, {facts}'
            )
        yield Lines(texts)


FLOWS_AT_ONCE = 4096


class FactsText:
    """The JSON of facts, written once for all conversations that share the object."""

    __slots__ = ("known",)

    def __init__(self) -> None:
        self.known: dict[int, tuple[Facts, str]] = {}
        """By identity: the object, which thereby lives on, and its text."""

    def __call__(self, facts: Facts | None) -> str:
        if facts is None:
            return "{}"
        found = self.known.get(id(facts))
        if found is None:
            found = facts, encode(to_json(facts))
            if len(self.known) < FLOWS_AT_ONCE:
                self.known[id(facts)] = found
        return found[1]


class Shared(NamedTuple):
    """The parts of a line that are the same for all flows of a conversation, in their order."""

    ends: str
    """Up to the originator's port."""
    state: str
    """From there on, up to the times."""
    rows: str
    facts: str
    """Up to the end of the line."""
    community_id: Callable[[int | None], str | None]
    """From the originator's port."""


def shared_text(each: Conversation, rows: tuple[str, ...], station: str | None, said: FactsText) -> Shared:
    one, two = each.originator, each.responder
    return Shared(
        f'"transport": "{each.transport}", "originator": {{"address": "{one.address}", "port": ',
        f'}}, "responder": {{"address": "{two.address}", "port": {NULL if two.port is None else two.port}}}, '
        f'"originator_certain": {"true" if each.originator_certain else "false"}, '
        f'"state": "{each.state.value}", "protocol": {quoted(each.protocol)}, '
        f'"packets": {{"originator": {each.packets[0]}, "responder": {each.packets[1]}}}, '
        f'"bytes": {{"originator": {each.bytes[0]}, "responder": {each.bytes[1]}}}, ',
        f'"rows": {row_ids(rows)}, "base_station": {quoted(station)}, ',
        f'"copies": {{"originator": {each.copies[0]}, "responder": {each.copies[1]}}}, '
        f'"notes": {encode(each.notes) if each.notes else "[]"}, "facts": {said(each.dissection.facts)}}}',
        community_ids(each),
    )


@lru_cache(maxsize=1 << 10)
def row_ids(rows: tuple[str, ...]) -> str:
    return encode(rows)


NULL = "null"


def quoted(word: str | None) -> str:
    """A word of this program's own (an address, a name of a protocol), in which nothing needs an escape."""
    return NULL if word is None else f'"{word}"'


def frame_json(frame: Frame) -> dict[str, int]:
    return {"capture": frame.capture, "number": frame.number}


def totals_json(totals: AuditTotals) -> dict[str, Any]:
    """The account by name; a number, or the parts of one by kind."""
    return {field.name: to_json(getattr(totals, field.name)) for field in dataclasses.fields(totals)}


# -- how it is written -----------------------------------------------------------------------------------------


ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def encode(value: object) -> str:
    """JSON text of a value.

    What is not printable becomes a JSON escape: controls that JSON would let pass, marks that nobody sees, and the lone
    surrogates by which Python keeps the bytes of a path that are no UTF-8.
    """
    said = ENCODER.encode(value)
    if is_printable(said):
        return said
    return "".join(each if is_printable(each) else encode_basestring_ascii(each)[1:-1] for each in said)


class Line:
    """A value that stands on one line, already written: a million flows are never held as objects."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Lines:
    """Values of a list that stand on a line each, already written."""

    __slots__ = ("texts",)

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts


def line(value: object) -> Line:
    """A value on one line."""
    return Line(encode(value))


def lines(values: Iterable[object]) -> Iterator[Line]:
    """A list of which each element stands on a line of its own."""
    return map(line, values)


def document(value: Mapping[str, object]) -> Iterator[str]:
    """JSON text that ends with a line feed: indented down to each :class:`Line`."""
    yield from written(value, "\n")
    yield "\n"


def written(value: object, indent: str) -> Iterator[str]:
    """The JSON of ``value`` (an iterator is a list); ``indent`` is the enclosing line's line feed and blanks."""
    deeper = indent + " "
    if isinstance(value, Line):
        yield value.text
    elif isinstance(value, Mapping) and value:
        separator = "{"
        for name, part in value.items():
            yield f"{separator}{deeper}{encode(name)}: "
            yield from written(part, deeper)
            separator = ","
        yield indent + "}"
    elif isinstance(value, (list, Iterator)):
        separator = "["
        for part in value:
            yield separator + deeper
            if isinstance(part, Lines):
                yield ("," + deeper).join(part.texts)
            else:
                yield from written(part, deeper)
            separator = ","
        yield "[]" if separator == "[" else indent + "]"
    else:
        yield encode(value)
