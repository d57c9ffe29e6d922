"""The geometry of the HTML report's drawings: flows over time, and base stations with their peers.

This module computes; the template draws.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from itertools import groupby
from typing import TYPE_CHECKING

from analyzer.dataclass import dataclass
from analyzer.expected import Peer
from analyzer.reports.times import iso, span
from analyzer.reports.wording import amount
from analyzer.verdicts import StationVerdict, Status

if TYPE_CHECKING:
    from analyzer.result import Audit

NO_ROW = "no row"
"""Shown instead of a status for flows of base stations that match no row."""
OUT_OF_SCOPE = "out of scope"

WORST_FIRST = (
    NO_ROW,
    Status.MALFORMED.value,
    Status.BLOCKED.value,
    Status.MISSING.value,
    Status.UNDECIDED.value,
    Status.ABSENT.value,
    Status.PRESENT.value,
)
"""The status shown for several is the first of these."""


@dataclass(frozen=True, slots=True)
class RowStatus:
    """The status of the rows that some flows of a base station match."""

    mode: str
    rows: tuple[str, ...]
    service: str
    status: str
    position: int
    """Of the first row in its table; flows that match no row come after all rows."""


RowStatuses = Mapping[tuple[str, tuple[str, ...]], RowStatus]
"""(base station, rows) → their status."""


def row_statuses(audit: Audit) -> RowStatuses:
    """The status of each row, and of each combination of rows that flows match."""
    found: dict[tuple[str, tuple[str, ...]], RowStatus] = {}
    combinations = dict.fromkeys(audit.flow_rows.values())
    for verdict in audit.base_stations:
        address, mode = verdict.station.address, verdict.mode
        by_id = {row.row.id: row for row in verdict.rows}
        table = list(by_id)
        for rows in {(row,): None for row in by_id} | combinations:
            known = [by_id[row] for row in rows if row in by_id]
            if known:
                status = worst(row.status.value for row in known)
                position = table.index(known[0].row.id)
                found[address, rows] = RowStatus(mode, rows, known[0].row.service, status, position)
        found[address, ()] = RowStatus(mode, (), "fits no row", NO_ROW, len(table))
    return found


def worst(statuses: Iterable[str]) -> str:
    return min(statuses, key=WORST_FIRST.index)


# -- timeline --------------------------------------------------------------------------------------------------

BINS = 480
"""Width of a lane in units of the drawing, and the number of time intervals that it shows."""
LANES = 40
"""Maximum lanes with one base station and row each; beyond, stations of a mode share a lane per row and status."""
SHARED_LANES = 80
"""Maximum shared lanes."""
TICKS = 5


@dataclass(frozen=True, slots=True)
class Lane:
    """Flows over time, usually those of one row."""

    group: str
    """Base station; or mode, if its stations share the lane."""
    name: str
    service: str
    status: str
    flows: int
    stations: int
    path: str
    """SVG path in a field of :data:`BINS` by 20; heights are relative to the lane's most concurrent flows."""
    description: str
    """For screen readers."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The flows of base stations over time."""

    lanes: tuple[Lane, ...]
    left_out: int
    """Number of lanes beyond the limit."""
    shared: bool
    """Whether the base stations of a mode share lanes."""
    ticks: tuple[str, ...]
    """Labels at equal distances: time since the first packet."""
    first: str
    last: str


@dataclass(slots=True)
class LaneCounts:
    """A lane while flows are counted."""

    group: str
    status: RowStatus | None
    """``None``: the flows have no base station."""
    first: int
    last: int = 0
    changes: list[int] = field(default_factory=lambda: [0] * (BINS + 1))
    """Interval → by how much the number of concurrent flows changes at its beginning."""
    flows: int = 0
    stations: set[str] = field(default_factory=set)

    def add(self, first: int, last: int, begin: int, end: int) -> None:
        """Count a flow in the drawing from ``begin`` to ``end``; packets out of order may lie outside of it."""
        duration = max(1, end - begin)
        start = min(BINS - 1, max(0, (first - begin) * BINS // duration))
        stop = min(BINS - 1, max(start, (last - begin) * BINS // duration))
        self.changes[start] += 1
        self.changes[stop + 1] -= 1
        self.flows += 1
        self.first, self.last = min(self.first, first), max(self.last, last)


def timeline(audit: Audit) -> Timeline | None:
    """The flows of each row over time; ``None`` if there is no packet."""
    firsts = [capture.first for capture in audit.captures if capture.first is not None]
    lasts = [capture.last for capture in audit.captures if capture.last is not None]
    if not firsts or not lasts:
        return None
    begin, end = min(firsts), max(lasts)
    combinations = {(address, audit.flow_rows.get(flow, ())) for flow, address in audit.flow_stations.items()}
    shared = len(combinations) > LANES
    counts = lane_counts(audit, shared, begin, end)
    digits = max(capture.digits for capture in audit.captures)
    keys = sorted(counts)
    limit = SHARED_LANES if shared else LANES + 1
    return Timeline(
        tuple(lane(counts[key], begin) for key in keys[:limit]),
        max(0, len(keys) - limit),
        shared,
        tuple("0" if not part else f"+{span((end - begin) * part // (TICKS - 1))}" for part in range(TICKS))
        if end > begin
        else ("0",),
        iso(begin, digits),
        iso(end, digits),
    )


def lane_counts(audit: Audit, shared: bool, begin: int, end: int) -> Mapping[tuple[object, ...], LaneCounts]:
    """The lanes by their sort key; flows without a base station come last."""
    statuses = row_statuses(audit)
    order = {verdict.station.address: index for index, verdict in enumerate(audit.base_stations)}
    modes = {mode: index for index, mode in enumerate(dict.fromkeys(verdict.mode for verdict in audit.base_stations))}
    counts: dict[tuple[object, ...], LaneCounts] = {}
    for flow in audit.conversations.flows():
        address = audit.flow_stations.get(flow.id)
        rows = audit.flow_rows.get(flow.id, ()) if address is not None else ()
        status = statuses.get((address, rows)) if address is not None else None
        group = ""
        if address is None or status is None:
            key: tuple[object, ...] = (math.inf,)
        elif shared:
            key = (modes[status.mode], status.position, rows, WORST_FIRST.index(status.status))
            group = status.mode
        else:
            key = (order[address], status.position, rows)
            group = address
        lane = counts.get(key)
        if lane is None:
            lane = counts[key] = LaneCounts(group, status, first=flow.first)
        lane.add(flow.first, flow.last, begin, end)
        if address is not None:
            lane.stations.add(address)
    return counts


def lane(counts: LaneCounts, begin: int) -> Lane:
    description = amount(counts.flows, "flow")
    if counts.last > begin:
        description += f", from {since(counts.first - begin)} to {since(counts.last - begin)} after the first packet"
    status = counts.status
    return Lane(
        counts.group,
        " or ".join(status.rows) if status else "",
        status.service if status else "no base station at either end",
        status.status if status else OUT_OF_SCOPE,
        counts.flows,
        len(counts.stations),
        path(counts.changes),
        description,
    )


def since(nanoseconds: int) -> str:
    return span(nanoseconds) if nanoseconds > 0 else "0 s"


def path(changes: Sequence[int]) -> str:
    """SVG path of the concurrent flows: a rectangle per run of equal numbers, at least 1.5 units wide to be visible."""
    levels, level = [], 0
    for change in changes[:BINS]:
        level += change
        levels.append(level)
    highest = max(levels)
    parts, at = [], 0
    for level, run in groupby(levels):
        width = len(list(run))
        if level:
            height = round(8 + 12 * level / highest)
            parts.append(f"M{at} 20v-{height}h{max(width, 1.5):g}v{height}z")
        at += width
    return "".join(parts)


# -- peers -----------------------------------------------------------------------------------------------------

STATIONS = 12
"""Maximum base stations drawn separately; beyond, those of a mode share a node."""
PEERS = 6
"""Maximum peers of a kind drawn separately; the others share a node."""
STEP = 46
"""Height of a node with the space below it."""
WIDTH = 960
NODE = 330
"""Width of a node."""
LETTERS = 40
"""Maximum characters of a node's name."""

KINDS = ("TPE", "service", "stranger")
"""Kinds of peers: TPE, hosts that serve a row (DNS, NTP, DHCP), and hosts whose flows match no row."""


@dataclass(frozen=True, slots=True)
class Node:
    """A host, or several."""

    name: str
    caption: str
    """Second line of its label."""
    kind: str
    y: int

    @property
    def short(self) -> str:
        """The name, shortened to fit."""
        return self.name if len(self.name) <= LETTERS else self.name[: LETTERS - 1] + "…"


@dataclass(frozen=True, slots=True)
class Edge:
    """The flows between a base station and a peer."""

    station: Node
    peer: Node
    rows: tuple[str, ...]
    status: str
    flows: int

    @property
    def path(self) -> str:
        """SVG path from the station on the left to the peer on the right."""
        start, end = self.station.y + STEP // 2 - 4, self.peer.y + STEP // 2 - 4
        middle = WIDTH // 2
        return f"M{NODE} {start}C{middle} {start} {middle} {end} {WIDTH - NODE} {end}"

    @property
    def width(self) -> str:
        return f"{1.25 + math.log10(self.flows):.2f}"


@dataclass(frozen=True, slots=True)
class Diagram:
    """Base stations and their peers."""

    stations: tuple[Node, ...]
    peers: tuple[Node, ...]
    edges: tuple[Edge, ...]
    """The worst last, so that they are drawn on top."""
    height: int


@dataclass(slots=True)
class EdgeCounts:
    """An edge while flows are counted."""

    flows: int = 0
    rows: dict[str, None] = field(default_factory=dict)
    statuses: set[str] = field(default_factory=set)

    def add(self, flows: int, rows: Iterable[str], statuses: Iterable[str]) -> None:
        self.flows += flows
        self.rows.update(dict.fromkeys(rows))
        self.statuses.update(statuses)


Edges = Mapping[tuple[str, str], EdgeCounts]
"""(base station, peer) → the flows between them."""


def diagram(audit: Audit) -> Diagram | None:
    """Base stations and their peers; ``None`` if no flow has a base station."""
    edges, kinds = count_edges(audit)
    if not edges:
        return None
    grouped = len(audit.base_stations) > STATIONS
    left = {verdict.station.address: verdict.mode if grouped else verdict.station.address
            for verdict in audit.base_stations}  # fmt: skip
    right, labels = peer_nodes(audit, edges, kinds)
    table = dict.fromkeys(row.row.id for verdict in audit.base_stations for row in verdict.rows)
    order = {row: position for position, row in enumerate(table)}
    drawn: dict[tuple[str, str], EdgeCounts] = {}
    rows: dict[str, dict[str, None]] = {key: {} for key in labels}
    for (address, peer), edge in edges.items():
        drawn.setdefault((left[address], right[peer]), EdgeCounts()).add(edge.flows, edge.rows, edge.statuses)
        rows[right[peer]].update(edge.rows)
    height = max(len(set(left.values())), len(labels)) * STEP
    stations = station_nodes(audit, grouped, height)
    peers = {}
    for (key, (name, caption, kind)), y in zip(labels.items(), positions(len(labels), height), strict=True):
        if rows[key]:
            caption += f": {' '.join(sorted(rows[key], key=order.__getitem__))}"
        peers[key] = Node(name, caption, kind, y)
    lines = [
        Edge(
            stations[station],
            peers[peer],
            tuple(sorted(edge.rows, key=order.__getitem__)),
            worst(edge.statuses),
            edge.flows,
        )
        for (station, peer), edge in drawn.items()
    ]
    lines.sort(key=lambda edge: (-WORST_FIRST.index(edge.status), edge.station.y, edge.peer.y))
    return Diagram(tuple(stations.values()), tuple(peers.values()), tuple(lines), height)


def count_edges(audit: Audit) -> tuple[Edges, Mapping[str, int]]:
    """The flows between base stations and peers, and each peer's index in :data:`KINDS`."""
    statuses = row_statuses(audit)
    by_address = {verdict.station.address: verdict for verdict in audit.base_stations}
    owners = {address: verdict for verdict in audit.base_stations for address in verdict.station.addresses}
    edges: dict[tuple[str, str], EdgeCounts] = {}
    kinds: dict[str, int] = {}
    for conversation in audit.conversations:
        address = audit.flow_stations.get(conversation.id)
        if address is None or address not in by_address:
            continue
        verdict = by_address[address]
        rows = audit.flow_rows.get(conversation.id, ())
        status = statuses.get((address, rows))
        ends = (conversation.responder.address, conversation.originator.address)
        peer = next((end for end in ends if owners.get(end) is not verdict), ends[0])
        edge = edges.setdefault((address, peer), EdgeCounts())
        edge.add(conversation.flow_count, rows, [status.status if status else NO_ROW])
        kinds[peer] = min(kinds.get(peer, len(KINDS)), kind_of(peer, verdict, rows))
    return edges, kinds


def kind_of(peer: str, verdict: StationVerdict, rows: Sequence[str]) -> int:
    """Index in :data:`KINDS` of a peer, as far as one flow shows it."""
    served = [row.row.peer for row in verdict.rows if row.row.id in rows]
    if peer in verdict.tpe or Peer.TPE in served:
        return 0
    return 1 if served else 2


def peer_nodes(
    audit: Audit, edges: Edges, kinds: Mapping[str, int]
) -> tuple[Mapping[str, str], Mapping[str, tuple[str, str, str]]]:
    """Peer → key of its node; and key of a node → its name, the beginning of its caption, and its kind."""
    flows = Counter[str]()
    for (_, peer), edge in edges.items():
        flows[peer] += edge.flows
    ranked = sorted(kinds, key=lambda peer: (kinds[peer], -flows[peer], peer))
    nodes: dict[str, str] = {}
    labels: dict[str, tuple[str, str, str]] = {}
    for kind, group in groupby(ranked, key=kinds.__getitem__):
        peers, word = list(group), KINDS[kind]
        separate = peers if len(peers) <= PEERS + 1 else peers[:PEERS]
        for peer in separate:
            nodes[peer] = peer
            names = audit.names.get(peer, ())
            labels[peer] = peer, f"{word}, {names[0]}" if names else word, word
        others = peers[len(separate) :]
        if others:
            nodes.update(dict.fromkeys(others, f"{word}s"))
            labels[f"{word}s"] = f"{len(others):,} further hosts", word, word
    return nodes, labels


def station_nodes(audit: Audit, grouped: bool, height: int) -> Mapping[str, Node]:
    """The nodes of base stations by address, or by mode if those of a mode are grouped, in the order of the report."""
    if grouped:
        modes = Counter(verdict.mode for verdict in audit.base_stations)
        texts = {mode: (amount(number, "base station"), f"mode {mode}") for mode, number in modes.items()}
    else:
        texts = {
            verdict.station.address: (verdict.station.address, f"base station, mode {verdict.mode}")
            for verdict in audit.base_stations
        }
    places = positions(len(texts), height)
    return {
        key: Node(name, caption, "station", y) for (key, (name, caption)), y in zip(texts.items(), places, strict=True)
    }


def positions(number: int, height: int) -> Iterator[int]:
    """The vertical positions of nodes: evenly spaced in the middle of the height."""
    start = (height - number * STEP) // 2
    return (start + index * STEP for index in range(number))
