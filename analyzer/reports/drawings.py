"""The shapes of the HTML report: when flows were there, and who spoke with whom. Numbers only; the template draws."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from analyzer.expected import Peer
from analyzer.reports.times import iso, span
from analyzer.verdicts import StationVerdict, Status

if TYPE_CHECKING:
    from analyzer.result import Audit

STRAY = "no row"
"""What stands for a status where a base station's flow fits no row."""
OUT_OF_SCOPE = "out of scope"

WEIGHTS = (
    STRAY,
    Status.MALFORMED.value,
    Status.BLOCKED.value,
    Status.MISSING.value,
    Status.UNDECIDED.value,
    Status.ABSENT.value,
    Status.PRESENT.value,
)
"""Worst first: which status a line shows that stands for several."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What became of the flows of one base station that fit the same rows."""

    mode: str
    rows: tuple[str, ...]
    service: str
    status: str
    place: int
    """Of the first row in its table; behind all of them: none."""


def standings(audit: Audit) -> Mapping[tuple[str, tuple[str, ...]], Standing]:
    """(base station, rows) → its standing, for all rows alone and for those which flows share."""
    found: dict[tuple[str, tuple[str, ...]], Standing] = {}
    together = dict.fromkeys(audit.flow_rows.values())
    for verdict in audit.base_stations:
        address, mode = verdict.station.address, verdict.mode
        by_id = {row.row.id: row for row in verdict.rows}
        table = list(by_id)
        for rows in {(each,): None for each in by_id} | together:
            known = [by_id[each] for each in rows if each in by_id]
            if known:
                status = worst(row.status.value for row in known)
                found[address, rows] = Standing(mode, rows, known[0].row.service, status, table.index(known[0].row.id))
        found[address, ()] = Standing(mode, (), "fits no row", STRAY, len(table))
    return found


def worst(statuses: Iterator[str]) -> str:
    return min(statuses, key=WEIGHTS.index)


# -- when ------------------------------------------------------------------------------------------------------

BINS = 480
"""Columns of a lane."""
LANES = 40
"""Lanes at the most, one a base station and row; beyond, stations of a mode share those of a row and status."""
SHARED_LANES = 80
"""Lanes at the most that are shared so."""
TICKS = 5


@dataclass(frozen=True, slots=True)
class Lane:
    """Flows over time: those of a row, mostly."""

    group: str
    """Base station, or mode where stations share the lane."""
    name: str
    service: str
    status: str
    flows: int
    stations: int
    path: str
    """SVG path in a field of :data:`BINS` by 20: the higher, the more flows at a time, of the lane's most."""
    said: str
    """In words, for who does not see it."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """When the flows of base stations were there."""

    lanes: tuple[Lane, ...]
    left_out: int
    """Lanes of which there is no room."""
    shared: bool
    """Base stations of a mode share lanes."""
    ticks: tuple[str, ...]
    """Labels at even distances: time since the first packet."""
    first: str
    last: str


@dataclass(slots=True)
class Drawn:
    """A lane while flows are counted."""

    changes: list[int] = field(default_factory=lambda: [0] * (BINS + 1))
    """How many more flows there are from each column on."""
    flows: int = 0
    stations: set[str] = field(default_factory=set)
    first: int = 0
    last: int = 0


def timeline(audit: Audit) -> Timeline | None:
    """When the flows of each row were there; ``None`` without any packet."""
    firsts = [file.first for file in audit.captures if file.first is not None]
    lasts = [file.last for file in audit.captures if file.last is not None]
    if not firsts or not lasts:
        return None
    begin, end = min(firsts), max(lasts)
    known = standings(audit)
    used = {(address, audit.flow_rows.get(flow, ())) for flow, address in audit.flow_stations.items()}
    shared = len(used) > LANES
    order = {each.station.address: index for index, each in enumerate(audit.base_stations)}
    modes = {mode: index for index, mode in enumerate(dict.fromkeys(each.mode for each in audit.base_stations))}
    drawn: dict[tuple[object, ...], Drawn] = {}
    told: dict[tuple[object, ...], tuple[str, Standing | None]] = {}
    for flow in audit.conversations.flows():
        address = audit.flow_stations.get(flow.id)
        rows = audit.flow_rows.get(flow.id, ()) if address is not None else ()
        standing = known.get((address, rows)) if address is not None else None
        if address is None or standing is None:
            key: tuple[object, ...] = (math.inf,)
        elif shared:
            key = (modes[standing.mode], standing.place, rows, WEIGHTS.index(standing.status))
        else:
            key = (order[address], standing.place, rows)
        lane = drawn.get(key)
        if lane is None:
            lane = drawn[key] = Drawn(first=flow.first)
            group = "" if address is None or standing is None else standing.mode if shared else address
            told[key] = group, standing
        count(lane, flow.first, flow.last, begin, end)
        if address is not None:
            lane.stations.add(address)
    digits = max(file.digits for file in audit.captures)
    keys = sorted(drawn)
    most = SHARED_LANES if shared else LANES + 1
    return Timeline(
        tuple(finished(drawn[key], *told[key], begin) for key in keys[:most]),
        max(0, len(keys) - most),
        shared,
        tuple("0" if not part else f"+{span((end - begin) * part // (TICKS - 1))}" for part in range(TICKS))
        if end > begin
        else ("0",),
        iso(begin, digits),
        iso(end, digits),
    )


def count(lane: Drawn, first: int, last: int, begin: int, end: int) -> None:
    """Add a flow to its lane; packets out of order may lie outside of what the files say of themselves."""
    width = max(1, end - begin)
    one = min(BINS - 1, max(0, (first - begin) * BINS // width))
    two = min(BINS - 1, max(one, (last - begin) * BINS // width))
    lane.changes[one] += 1
    lane.changes[two + 1] -= 1
    lane.flows += 1
    lane.first, lane.last = min(lane.first, first), max(lane.last, last)


def finished(lane: Drawn, group: str, standing: Standing | None, begin: int) -> Lane:
    said = f"{lane.flows:,} flow{'' if lane.flows == 1 else 's'}"
    if lane.last > begin:
        said += f", from {since(lane.first - begin)} to {since(lane.last - begin)} after the first packet"
    return Lane(
        group,
        " or ".join(standing.rows) if standing else "",
        standing.service if standing else "no base station at either end",
        standing.status if standing else OUT_OF_SCOPE,
        lane.flows,
        len(lane.stations),
        path(lane.changes),
        said,
    )


def since(nanoseconds: int) -> str:
    return span(nanoseconds) if nanoseconds > 0 else "0 s"


def path(changes: Sequence[int]) -> str:
    """Columns of one height side by side as one rectangle; at least one unit and a half wide, so that it is seen."""
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


# -- who with whom ---------------------------------------------------------------------------------------------

STATIONS = 12
"""Base stations that are drawn one by one; of more, those of a mode are drawn as one."""
PEERS = 6
"""Peers of a kind that are drawn one by one; the rest of them are drawn as one."""
STEP = 46
"""Height of a node with the space below it."""
WIDTH = 960
NODE = 330
"""Width of a node."""
LETTERS = 40
"""Of a node's name that there is room for."""

KINDS = ("TPE", "service", "stranger")
"""Of peers: TPE, who serves a row of the table (DNS, NTP, DHCP), and who has only flows that fit no row."""


@dataclass(frozen=True, slots=True)
class Node:
    """A host."""

    name: str
    said: str
    kind: str
    y: int

    @property
    def short(self) -> str:
        """The name, as far as there is room for it."""
        return self.name if len(self.name) <= LETTERS else self.name[: LETTERS - 1] + "…"


@dataclass(frozen=True, slots=True)
class Edge:
    """What a base station and a host have with each other."""

    station: Node
    peer: Node
    rows: tuple[str, ...]
    status: str
    flows: int

    @property
    def path(self) -> str:
        """SVG path from the station on the left to the peer on the right."""
        one, two = self.station.y + STEP // 2 - 4, self.peer.y + STEP // 2 - 4
        middle = WIDTH // 2
        return f"M{NODE} {one}C{middle} {one} {middle} {two} {WIDTH - NODE} {two}"

    @property
    def width(self) -> str:
        return f"{1.25 + math.log10(self.flows):.2f}"


@dataclass(frozen=True, slots=True)
class Diagram:
    """Who spoke with whom."""

    stations: tuple[Node, ...]
    peers: tuple[Node, ...]
    edges: tuple[Edge, ...]
    """Those that matter least first: later ones are drawn above them."""
    height: int


@dataclass(slots=True)
class Bundle:
    """An edge while flows are counted."""

    flows: int = 0
    rows: dict[str, None] = field(default_factory=dict)
    statuses: set[str] = field(default_factory=set)


def diagram(audit: Audit) -> Diagram | None:
    """Base stations and their peers; ``None`` where no flow has a base station."""
    known = standings(audit)
    by_address = {each.station.address: each for each in audit.base_stations}
    own = {address: each for each in audit.base_stations for address in each.station.addresses}
    bundles: dict[tuple[str, str], Bundle] = {}
    kinds: dict[str, int] = {}
    for each in audit.conversations:
        address = audit.flow_stations.get(each.id)
        if address is None or address not in by_address:
            continue
        verdict = by_address[address]
        rows = audit.flow_rows.get(each.id, ())
        standing = known.get((address, rows))
        ends = [end.address for end in (each.responder, each.originator) if own.get(end.address) is not verdict]
        peer = ends[0] if ends else each.responder.address
        bundle = bundles.setdefault((address, peer), Bundle())
        bundle.flows += each.flow_count
        bundle.rows.update(dict.fromkeys(rows))
        bundle.statuses.add(standing.status if standing else STRAY)
        kinds[peer] = min(kinds.get(peer, len(KINDS)), kind_of(peer, verdict, rows))
    return None if not bundles else drawn_diagram(audit, bundles, kinds)


def kind_of(peer: str, verdict: StationVerdict, rows: Sequence[str]) -> int:
    """Index in :data:`KINDS` of what a flow shows of its peer."""
    served = [row.row.peer for row in verdict.rows if row.row.id in rows]
    if peer in verdict.tpe or Peer.TPE in served:
        return 0
    return 1 if served else 2


def drawn_diagram(audit: Audit, bundles: Mapping[tuple[str, str], Bundle], kinds: Mapping[str, int]) -> Diagram:
    together = len(audit.base_stations) > STATIONS
    modes = Counter(each.mode for each in audit.base_stations)
    mode_of = {each.station.address: each.mode for each in audit.base_stations}
    left = {mode_of[address] if together else address: None for address in mode_of}  # in the order of the report
    flows = Counter[str]()
    for (_, peer), bundle in bundles.items():
        flows[peer] += bundle.flows
    ranked = sorted(kinds, key=lambda peer: (kinds[peer], -flows[peer], peer))
    right: dict[str, str] = {}
    """Peer → the node that stands for it."""
    labels: dict[str, tuple[str, str, str]] = {}
    """Node → its name, what is said of it, and its kind."""
    for kind, group in groupby(ranked, key=kinds.__getitem__):
        peers, word = list(group), KINDS[kind]
        alone = peers if len(peers) <= PEERS + 1 else peers[:PEERS]
        for peer in alone:
            right[peer] = peer
            names = audit.names.get(peer, ())
            labels[peer] = peer, f"{word}, {names[0]}" if names else word, word
        rest = peers[len(alone) :]
        if rest:
            right.update(dict.fromkeys(rest, f"{word}s"))
            labels[f"{word}s"] = f"{len(rest):,} further hosts", word, word
    height = max(len(left), len(labels)) * STEP
    rows: dict[str, dict[str, None]] = {key: {} for key in labels}
    for (_, peer), bundle in bundles.items():
        rows[right[peer]].update(bundle.rows)
    tables = dict.fromkeys(row.row.id for each in audit.base_stations for row in each.rows)
    order = {row: place for place, row in enumerate(tables)}
    stations = {
        key: Node(
            f"{modes[key]:,} base station{'' if modes[key] == 1 else 's'}" if together else key,
            f"mode {key}" if together else f"base station, mode {mode_of[key]}",
            "station",
            y,
        )
        for key, y in zip(left, places(len(left), height), strict=True)
    }
    hosts = {
        key: Node(name, f"{said}: {' '.join(sorted(rows[key], key=order.__getitem__))}" if rows[key] else said, kind, y)
        for (key, (name, said, kind)), y in zip(labels.items(), places(len(labels), height), strict=True)
    }
    edges: dict[tuple[str, str], Bundle] = {}
    for (address, peer), bundle in bundles.items():
        edge = edges.setdefault((mode_of[address] if together else address, right[peer]), Bundle())
        edge.flows += bundle.flows
        edge.rows.update(bundle.rows)
        edge.statuses |= bundle.statuses
    lines = [
        Edge(
            stations[one],
            hosts[two],
            tuple(sorted(edge.rows, key=order.__getitem__)),
            worst(iter(edge.statuses)),
            edge.flows,
        )
        for (one, two), edge in edges.items()
    ]
    lines.sort(key=lambda each: (-WEIGHTS.index(each.status), each.station.y, each.peer.y))
    return Diagram(tuple(stations.values()), tuple(hosts.values()), tuple(lines), height)


def places(number: int, height: int) -> Iterator[int]:
    """Where nodes stand: evenly, in the middle of the height."""
    start = (height - number * STEP) // 2
    return (start + index * STEP for index in range(number))
