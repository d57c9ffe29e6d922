"""The report for programs: JSON. Its schema is ``audit.schema.json`` in this folder."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from analyzer.capture import CaptureFile
from analyzer.community_id import community_ids
from analyzer.conversations import Conversation, Conversations
from analyzer.findings import Finding, fingerprints
from analyzer.frame_totals import NO_FRAMES
from analyzer.messages import Facts, to_json
from analyzer.protocols.preambles import Preamble
from analyzer.reports.document import Lines, capture_json, document, encode, frame_json, heading, line, lines
from analyzer.reports.times import finding_time, iso, iso_all, most_digits
from analyzer.row_facts import RowFacts
from analyzer.verdicts import RowVerdict, StationVerdict

if TYPE_CHECKING:
    from analyzer.result import Audit, AuditTotals

Rows = Mapping[int, tuple[str, ...]]
"""Conversation id → ids of the rows that it matches."""
Stations = Mapping[int, str]
"""Conversation id → address of its base station."""


def render(audit: Audit, colour: bool = False) -> str:
    """The audit as one JSON object, which has no colours."""
    return "".join(pieces(audit, colour))


def pieces(audit: Audit, colour: bool = False) -> Iterator[str]:
    """:func:`render`, piece by piece, so that a report with many flows is never held as a whole."""
    digits = [capture.digits for capture in audit.captures]
    return document(
        {
            **heading(),
            "profile": audit.profile,
            "deployment": audit.deployment.value,
            "captures": lines(map(capture_json, audit.captures)),
            "base_stations": [station_json(audit, station) for station in audit.base_stations],
            "findings": lines(
                finding_json(finding, fingerprint, audit.captures)
                for finding, fingerprint in zip(audit.findings, fingerprints(audit.findings), strict=True)
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
    """Captures and flows without an audit; rows and base stations of the flows are empty unless they are given."""
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
    """The JSON Schema (draft 2020-12) of :func:`render`; that of :func:`render_flows` is ``$defs/flows_report``."""
    content: dict[str, Any] = json.loads(
        resources.files("analyzer.reports").joinpath("audit.schema.json").read_text(encoding="utf-8")
    )
    return content


# -- the parts -------------------------------------------------------------------------------------------------


def station_json(audit: Audit, verdict: StationVerdict) -> dict[str, Any]:
    station, clients = verdict.station, audit.clients
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
        "frames": line(audit.station_frames.get(station.address, NO_FRAMES)._asdict()),
        "rows": lines(
            row_json(row, audit.row_facts[station.address, row.row.id], audit.captures) for row in verdict.rows
        ),
    }


def row_json(verdict: RowVerdict, facts: RowFacts, captures: Sequence[CaptureFile]) -> dict[str, Any]:
    until = verdict.served_until
    return {
        "id": verdict.row.id,
        "requirement": verdict.requirement.value,
        "status": verdict.status.value,
        "certainty": verdict.certainty.value if verdict.certainty else None,
        "reason": verdict.reason,
        "flows": verdict.flows,
        **({} if until is None else {"served_until": iso(until, most_digits(captures))}),
        "facts": facts,
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


def totals_json(totals: AuditTotals) -> dict[str, Any]:
    """The totals by name; those that are counted by kind are objects."""
    return {field.name: to_json(getattr(totals, field.name)) for field in dataclasses.fields(totals)}


# -- flows -----------------------------------------------------------------------------------------------------

NULL = "null"

FLOWS_AT_ONCE = 4096
"""Flows that are encoded together: enough to format their times at once, few enough to stay small in memory."""


def flow_lines(
    conversations: Conversations, digits: Sequence[int], flow_rows: Rows, flow_stations: Stations
) -> Iterator[Lines]:
    """All flows, one line each. Captures have up to millions, so lines are built as text, and parts that the flows of a
    conversation share are encoded once. ``digits``: of the time stamps of each capture."""
    shared: dict[int, SharedText] = {}
    """Conversation id → the parts of its lines, for conversations of several flows."""
    facts_text = FactsText()
    flows = conversations.flows()
    while batch := list(itertools.islice(flows, FLOWS_AT_ONCE)):
        firsts = iso_all([flow.first for flow in batch], [digits[flow.first_capture] for flow in batch])
        lasts = iso_all([flow.last for flow in batch], [digits[flow.last_capture] for flow in batch])
        texts = []
        for flow, first, last in zip(batch, firsts, lasts, strict=True):
            number, conversation, port, _, _, first_capture, first_number, last_capture, last_number = flow
            parts = shared.get(conversation.id)
            if parts is None:
                rows, station = flow_rows.get(conversation.id, ()), flow_stations.get(conversation.id)
                parts = shared_text(conversation, rows, station, facts_text)
                if conversation.repeats:
                    shared[conversation.id] = parts
            ends, state, row_text, facts, community_id = parts
            texts.append(
                f'{{"id": {number}, {ends}{NULL if port is None else port}{state}'
                f'"first": "{first}", "last": "{last}", '
                f'"first_frame": {{"capture": {first_capture}, "number": {first_number}}}, '
                f'"last_frame": {{"capture": {last_capture}, "number": {last_number}}}, '
                f'{row_text}"community_id": {quoted(community_id(port))}, {facts}'
            )
        yield Lines(texts)


class FactsText:
    """Encodes facts, once for all conversations that share the object."""

    __slots__ = ("known",)

    def __init__(self) -> None:
        self.known: dict[int, tuple[Facts, str]] = {}
        """``id`` of the facts → the facts, kept alive so that the id stays theirs, and their JSON text."""

    def __call__(self, facts: Facts | None) -> str:
        if facts is None:
            return "{}"
        found = self.known.get(id(facts))
        if found is None:
            found = facts, encode(to_json(facts))
            if len(self.known) < FLOWS_AT_ONCE:
                self.known[id(facts)] = found
        return found[1]


class SharedText(NamedTuple):
    """The parts of a line that all flows of a conversation share, in their order on the line."""

    ends: str
    """Up to the originator's port."""
    state: str
    """From there to the times."""
    rows: str
    facts: str
    """From the copies to the end of the line."""
    community_id: Callable[[int | None], str | None]
    """Originator's port → community id."""


def shared_text(
    conversation: Conversation, rows: tuple[str, ...], station: str | None, facts_text: FactsText
) -> SharedText:
    originator, responder = conversation.originator, conversation.responder
    packets, size, copies = conversation.packets, conversation.bytes, conversation.copies
    return SharedText(
        f'"transport": "{conversation.transport}", "originator": {{"address": "{originator.address}", "port": ',
        f'}}, "responder": {{"address": "{responder.address}", '
        f'"port": {NULL if responder.port is None else responder.port}}}, '
        f'"originator_certain": {"true" if conversation.originator_certain else "false"}, '
        f'"state": "{conversation.state.value}", "protocol": {quoted(conversation.protocol)}, '
        f'"packets": {{"originator": {packets[0]}, "responder": {packets[1]}}}, '
        f'"bytes": {{"originator": {size[0]}, "responder": {size[1]}}}, ',
        f'"rows": {encode_rows(rows)}, "base_station": {quoted(station)}, ',
        f'"copies": {{"originator": {copies[0]}, "responder": {copies[1]}}}, '
        f'"notes": {encode(conversation.notes) if conversation.notes else "[]"}, '
        f'{preamble_text(conversation)}"facts": {facts_text(conversation.dissection.facts)}}}',
        community_ids(conversation),
    )


def preamble_text(conversation: Conversation) -> str:
    """The member for the preamble of a flow that has one."""
    preamble = conversation.dissection.preamble
    if preamble is None:
        return ""
    return f'"preamble": {encode(preamble_json(preamble))}, '


def preamble_json(preamble: Preamble) -> dict[str, Any]:
    """A preamble, and inside of it the one that follows."""
    fields = preamble._asdict() | {"inner": preamble.inner and preamble_json(preamble.inner)}
    return {name: value for name, value in fields.items() if value is not None and name != "sizes"}


@lru_cache(maxsize=1 << 10)
def encode_rows(rows: tuple[str, ...]) -> str:
    return encode(rows)


def quoted(word: str | None) -> str:
    """An address or a word of this program's own, in which nothing needs an escape."""
    return NULL if word is None else f'"{word}"'
