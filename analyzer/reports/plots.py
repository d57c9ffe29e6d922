"""Plots of an audit for notebooks. The only module that imports matplotlib.

Each function takes an audit and returns a matplotlib ``Figure`` without touching matplotlib's settings or its list of
open figures. A notebook displays the figure that a cell ends with; ``figure.savefig(path)`` writes it to a file. If the
audit has nothing to plot, the figure says so.

The colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which colour-blind readers can distinguish.
Plots cover all packets of a flow; where only its first bytes were kept, the plot shows how far they reach.
"""

from __future__ import annotations

import io
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING

try:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import EngFormatter, MaxNLocator
except ImportError as error:
    raise ImportError(f"plots need matplotlib ({error}): pip install 'tpe-pcap[plots]'") from error

from analyzer.conversations import Conversation
from analyzer.heads import DIRECTIONS, Association, Direction, Iec104Link
from analyzer.protocols import iec104, tls
from analyzer.reports.times import span
from analyzer.scanner import columns
from analyzer.verdicts import Status

if TYPE_CHECKING:
    from analyzer.result import Audit

BLACK, GREY, PALE = "#000000", "#8c8c8c", "#d9d9d9"
ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW, GREY)

STATUSES = {
    Status.MALFORMED: VERMILION,
    Status.BLOCKED: ORANGE,
    Status.UNDECIDED: SKY,
    Status.PRESENT: BLUE,
}
"""Statuses of rows that have flows, the worst first."""

NO_ROW, NO_STATION = "no row", "no base station"
OUTSIDE = {NO_ROW: BLACK, NO_STATION: GREY}
"""Flows that match no row of their base station's table, and flows without a base station."""

WIDTH, HEIGHT, LANE = 10.0, 1.8, 0.34
"""Inches: width of a figure, height of its title and axis, height of a lane."""
LANES = 24
"""Maximum lanes drawn; the title says how many there are."""
STEPS = 8
"""Maximum overlapping flows of a lane drawn side by side; further ones are drawn over them."""


class Plot(Figure):
    """A figure that notebooks display even without matplotlib's own integration."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()


def timeline(audit: Audit, base_station: str | None = None) -> Figure:
    """Flows over time: one lane per row, one line per flow in the colour of the row's status.

    ``base_station``: the address of a base station, to plot only its flows.
    """
    lanes: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    statuses = status_of_rows(audit)
    used: set[Status | str] = set()
    for flow in audit.conversations.flows():
        rows, station = audit.flow_rows.get(flow.id, ()), audit.flow_stations.get(flow.id)
        if base_station is not None and station != base_station:
            continue
        if station is None or not rows:
            status: Status | str = NO_STATION if station is None else NO_ROW
        else:
            found = {statuses[station, row] for row in rows if (station, row) in statuses}
            status = next((status for status in STATUSES if status in found), Status.PRESENT)
        used.add(status)
        colour = STATUSES[status] if isinstance(status, Status) else OUTSIDE[status]
        lanes[lane(rows, station)].append((flow.first, flow.last, colour))
    if not lanes:
        return empty_figure("There is no flow to show.")
    names = [name for name in lane_order(audit) if name in lanes]
    figure = figure_of(len(names))
    axes = bare(figure.subplots())
    for position, name in enumerate(names):
        steps = stacked(sorted(lanes[name]))
        height = 0.7 / max(1, *(step + 1 for step, *_ in steps))
        places = [position - 0.35 + height * (step + 0.5) for step, *_ in steps]
        begins = [date(first) for _, first, _, _ in steps]
        colours = [colour for *_, colour in steps]
        ends = [date(last) for _, _, last, _ in steps]
        axes.hlines(places, begins, ends, colors=colours, linewidth=max(1.0, 14 * height))
        axes.scatter(begins, places, c=colours, marker="|", s=max(6.0, (20 * height) ** 2), linewidths=1.2)
    name_lanes(axes, with_content(audit, names))
    time_axis(axes)
    axes.set_title("Flows by row and status" + (f", base station {base_station}" if base_station else ""))
    labels = {status.value: colour for status, colour in STATUSES.items() if status in used}
    legend(figure, patches(labels | {word: colour for word, colour in OUTSIDE.items() if word in used}))
    return figure


def bytes_per_row(audit: Audit) -> Figure:
    """Bytes on the wire per row and direction."""
    stations = {address for verdict in audit.base_stations for address in verdict.station.addresses}
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for conversation in audit.conversations:
        name = lane(audit.flow_rows.get(conversation.id, ()), audit.flow_stations.get(conversation.id))
        sender = Direction.ORIGINATOR if conversation.originator.address in stations else Direction.RESPONDER
        if name == NO_STATION:
            sender = Direction.ORIGINATOR
        sums[name][0] += conversation.bytes[sender] * conversation.flow_count
        sums[name][1] += conversation.bytes[1 - sender] * conversation.flow_count
    if not sums:
        return empty_figure("There is no flow to show.")
    names = [name for name in lane_order(audit) if name in sums]
    figure = figure_of(len(names))
    axes = bare(figure.subplots())
    sent, received = ([sums[name][side] for name in names] for side in (0, 1))
    places = range(len(names))
    axes.barh(places, sent, color=BLUE, height=0.6)
    axes.barh(places, received, left=sent, color=ORANGE, height=0.6)
    formatted = EngFormatter(unit="B", places=1)
    for place, total in zip(places, map(sum, zip(sent, received, strict=True)), strict=True):
        axes.text(total, place, f"  {formatted(total)}", va="center", fontsize=8)
    name_lanes(axes, with_content(audit, names))
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(EngFormatter(unit="B"))
    axes.set_xlabel("bytes of frames on the wire")
    axes.set_title("Bytes per row")
    legend(figure, patches({"from the base station": BLUE, "to the base station": ORANGE}))
    return figure


def esp_lengths(audit: Audit) -> Figure:
    """The lengths of the ESP packets of each SA, and the share of each remainder modulo 16.

    AES-GCM pads to 4 bytes, so all multiples of 4 occur as remainders; AES-CBC pads to its block size, so only one
    does. All packets count. Lengths are in steps of 4 bytes, like those of ESP (RFC 4303, section 2.4), up to 2044.
    """
    found = [
        (conversation, association)
        for conversation in audit.conversations
        for association in conversation.head.associations
        if association.packets and not association.folded
    ]
    if not found:
        return empty_figure("There is no ESP in the capture.")
    shown = found[:LANES]
    figure = figure_of(len(shown))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    bare(left)
    bare(right)
    for place, (_, association) in enumerate(shown):
        lengths = lengths_of(association)
        left.vlines(lengths, place - 0.35, place + 0.35, colors=BLUE, linewidth=1.5)
        for remainder, count in enumerate(association.remainders):
            if count:
                share = count / association.packets
                right.barh(place, 0.9, left=remainder - 0.45, height=0.7, color=BLUE, alpha=0.15 + 0.6 * share)
                right.text(remainder, place, f"{share:.0%}", ha="center", va="center", fontsize=7)
    name_lanes(left, [association_name(*pair) for pair in shown])
    right.tick_params(axis="y", length=0)
    left.set_xlim(left=0)
    left.set_xlabel("length of the ESP packet, bytes")
    left.grid(axis="x", color=PALE, linewidth=0.5)
    right.set_xlim(-0.6, 15.6)
    right.set_xticks(range(0, 16, 2))
    right.set_xlabel("length modulo 16 (share of the packets)")
    figure.suptitle("Lengths of ESP packets by SA" + more(found, "SAs"))
    return figure


def iec104_heartbeat(audit: Audit) -> Figure:
    """The APDUs of each IEC 104 link over time, including link tests (TESTFR).

    The first 2048 bytes of each direction of a link are kept; the dark part of its lines shows how far they reach.
    Later APDUs are only counted; the numbers on the right cover the whole link. The first eight tests without an answer
    of each direction are shown wherever they are.
    """
    links = [
        (conversation, conversation.head.link)
        for conversation in audit.conversations
        if conversation.protocol == iec104.NAME and conversation.head.link
    ]
    if not links:
        return empty_figure("There is no IEC 104 in clear in the capture.")
    shown = links[:LANES]
    figure = figure_of(2 * len(shown))
    axes = bare(figure.subplots())
    used: dict[str, str] = {}
    for place, (flow, link) in enumerate(shown):
        items = flow.dissection.items
        for direction, line in zip(DIRECTIONS, link.directions, strict=True):
            times = [item.time for item in items if item.direction is direction]
            kept_until = flow.last if len(times) == line.apdus else max(times, default=flow.first)
            height = place + OFFSETS[direction] / 2
            axes.hlines(height, date(flow.first), date(flow.last), colors=PALE, linewidth=3, zorder=1)
            axes.hlines(height, date(flow.first), date(kept_until), colors=GREY, linewidth=3, zorder=1)
        marks: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for item in items:
            marks[kind_of(item.message)].append((item.time, place + OFFSETS[item.direction]))
        for event in link.events:
            if event.kind == columns.UNANSWERED_TESTFR:
                marks[UNANSWERED].append((event.time, place + OFFSETS[event.direction]))
        for kind, places in marks.items():
            colour, marker, size = MARKS[kind]
            used[kind] = colour
            dates, heights = [date(time) for time, _ in places], [height for _, height in places]
            axes.scatter(dates, heights, c=colour, marker=marker, s=size, zorder=2, linewidths=1)
        axes.annotate(link_text(link), (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    name_lanes(axes, [link_name(flow) for flow, _ in shown])
    time_axis(axes)
    axes.set_title("APDUs of IEC 104 links; above the line the originator's" + more(links, "links"))
    handles = [
        Line2D([], [], color=MARKS[kind][0], marker=MARKS[kind][1], linestyle="", label=kind)
        for kind in MARKS
        if kind in used
    ]
    legend(figure, handles)
    return figure


def tls_versions(audit: Audit) -> Figure:
    """The number of TLS flows that negotiated each version, by row."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for conversation in audit.conversations:
        facts = conversation.dissection.facts
        if isinstance(facts, tls.TlsFacts):
            name = lane(audit.flow_rows.get(conversation.id, ()), audit.flow_stations.get(conversation.id))
            counts[facts.version or NOT_AGREED][name] += conversation.flow_count
    if not counts:
        return empty_figure("There is no TLS in the capture.")
    versions = sorted(counts, key=lambda version: (version == NOT_AGREED, version))
    rows = [name for name in lane_order(audit) if any(name in count for count in counts.values())]
    figure = figure_of(len(versions))
    axes = bare(figure.subplots())
    begins = [0] * len(versions)
    colours = dict(zip(rows, itertools.cycle(PALETTE), strict=False))
    for name in rows:
        widths = [counts[version][name] for version in versions]
        axes.barh(range(len(versions)), widths, left=begins, color=colours[name], height=0.6, edgecolor="white")
        begins = [begin + width for begin, width in zip(begins, widths, strict=True)]
    name_lanes(axes, versions)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("flows")
    axes.set_title("TLS versions by row")
    legend(figure, patches(colours))
    return figure


NOT_AGREED = "none agreed"
"""The capture holds no ServerHello of the flow."""


# -- lanes ------------------------------------------------------------------------------------------------------


def lane(rows: Sequence[str], station: str | None) -> str:
    """Name of a flow's lane: its rows, or why it has none."""
    return NO_STATION if station is None else ", ".join(rows) or NO_ROW


def lane_order(audit: Audit) -> list[str]:
    """Names of all lanes: rows in the order of their tables, then flows without a row."""
    table = dict.fromkeys(row.row.id for verdict in audit.base_stations for row in verdict.rows)
    order = {row: position for position, row in enumerate(table)}
    combinations = {rows: None for rows in audit.flow_rows.values() if rows}
    ordered = sorted(combinations, key=lambda rows: [order.get(row, len(order)) for row in rows])
    return [*(", ".join(rows) for rows in ordered), NO_ROW, NO_STATION]


def status_of_rows(audit: Audit) -> Mapping[tuple[str, str], Status]:
    """(Base station, row) → status."""
    return {
        (verdict.station.address, row.row.id): row.status for verdict in audit.base_stations for row in verdict.rows
    }


def stacked(flows: Iterable[tuple[int, int, str]]) -> list[tuple[int, int, int, str]]:
    """Flows, ascending by their beginning, with a step of the lane on which they overlap no other flow."""
    ends: list[int] = []
    found = []
    for number, (first, last, colour) in enumerate(flows):
        step = next((step for step, end in enumerate(ends) if end < first), len(ends))
        if step == STEPS:
            step = number % STEPS
        elif step == len(ends):
            ends.append(last)
        ends[step] = max(ends[step], last)
        found.append((step, first, last, colour))
    return found


def with_content(audit: Audit, lanes: Sequence[str]) -> list[str]:
    """Names of lanes with the content of their rows: ``i38  IEC 104 over TLS``."""
    contents = {row.row.id: row.row.service for verdict in audit.base_stations for row in verdict.rows}
    return [f"{name}  {content}" if (content := contents.get(name.split(", ")[0])) else name for name in lanes]


# -- names ------------------------------------------------------------------------------------------------------


def association_name(flow: Conversation, association: Association) -> str:
    sender = (flow.originator, flow.responder)[association.direction]
    return f"{sender.address}  {association.spi:#010x}\n{association.packets:,} packets"


def lengths_of(association: Association) -> list[int]:
    """The lengths of an SA's packets in steps of 4 bytes; 2044 stands for 2044 and more."""
    return [4 * bit for bit in range(512) if association.lengths >> bit & 1]


def link_name(flow: Conversation) -> str:
    others = f" and {len(flow.repeats):,} alike" if flow.repeats else ""
    return f"flow {flow.id}{others}\n{flow.originator} to {flow.responder}"


def link_text(link: Iec104Link) -> str:
    """The counts of the whole link."""
    acts = sum(line.functions[TESTFR_ACT] for line in link.directions)
    answered = sum(line.answered for line in link.directions)
    tests = f"{acts:,} TESTFR act, {answered:,} answered" if acts else "no TESTFR"
    return f"{apdus(link):,} APDUs, {tests}\nlongest silence {span(link.silence)}"


def apdus(link: Iec104Link) -> int:
    return sum(line.apdus for line in link.directions)


TESTFR_ACT = list(iec104.Function).index(iec104.Function.TESTFR_ACT)
"""Index of TESTFR act in a direction's counts of functions."""


def kind_of(message: object) -> str:
    """The kind of mark for a message."""
    if isinstance(message, iec104.UFrame):
        return TESTS.get(message.function, "STARTDT, STOPDT")
    return "I frame" if isinstance(message, iec104.IFrame) else "S frame"


TESTS = {iec104.Function.TESTFR_ACT: "TESTFR act", iec104.Function.TESTFR_CON: "TESTFR con"}
UNANSWERED = "TESTFR unanswered"
OFFSETS = (-0.25, 0.25)
"""Distance of each direction's marks from the middle of the lane."""

MARKS = {
    "I frame": (BLUE, "|", 60),
    "S frame": (SKY, ".", 40),
    "STARTDT, STOPDT": (GREEN, "D", 18),
    "TESTFR act": (VERMILION, "^", 40),
    "TESTFR con": (ORANGE, "v", 40),
    UNANSWERED: (BLACK, "x", 50),
}
"""Colour, shape and size of the marks; all colours and shapes differ."""


def more(values: Sequence[object], noun: str) -> str:
    return f" (the first {LANES} of {len(values):,} {noun})" if len(values) > LANES else ""


# -- axes -------------------------------------------------------------------------------------------------------


def figure_of(lanes: int) -> Figure:
    return Plot(figsize=(WIDTH, HEIGHT + LANE * lanes), layout="constrained")


def bare(axes: Axes) -> Axes:
    """Axes without a frame."""
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def empty_figure(sentence: str) -> Figure:
    """A figure that states why there is nothing to plot."""
    figure = Plot(figsize=(WIDTH, 1.0))
    figure.text(0.5, 0.5, sentence, ha="center", va="center")
    return figure


def name_lanes(axes: Axes, names: Sequence[str]) -> None:
    """Label the lanes from top to bottom; names are not parsed as mathematics."""
    axes.set_yticks(range(len(names)), names, parse_math=False, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def time_axis(axes: Axes) -> None:
    """Label ticks with the time of day, and the axis with the date."""
    locator = AutoDateLocator(tz=UTC)  # type: ignore[no-untyped-call]
    days = ["%Y", "%Y-%m", "%m-%d"]
    formatter = ConciseDateFormatter(  # type: ignore[no-untyped-call]
        locator,
        UTC,
        formats=[*days, "%H:%M", "%H:%M", "%H:%M:%S.%f"],
        zero_formats=[*days, "%m-%d", "%H:%M", "%H:%M:%S.%f"],
        offset_formats=["", "", "%Y", "%Y-%m-%d", "%Y-%m-%d", "%Y-%m-%d"],
    )
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter)
    axes.set_xlabel("time (UTC)")
    axes.grid(axis="x", color=PALE, linewidth=0.5)
    axes.set_axisbelow(True)


def date(time: int) -> float:
    """Nanoseconds since the epoch as matplotlib's date: days, precise to a microsecond."""
    return time / 86_400e9


def patches(colours: Mapping[str, str]) -> list[Artist]:
    return [Patch(color=colour, label=word) for word, colour in colours.items()]


def legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """Put the legend below the axes, where it covers nothing."""
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
