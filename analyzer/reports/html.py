"""The report for browsers: one self-contained HTML file, for the screen and for print.

The template escapes every value, and unprintable characters and bidirectional formatting are shown as escapes. The page
loads nothing: its Content Security Policy (level 3) allows its own style and script by their hashes, and nothing else.
It is readable without the script, which adds search, filters and copy buttons.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from analyzer import checks
from analyzer.conversations import Conversation
from analyzer.dataclass import dataclass
from analyzer.expected import UsageError
from analyzer.export.excerpts import Excerpt, dump, excerpts
from analyzer.findings import Finding, Kind, sections
from analyzer.reports.drawings import diagram, timeline
from analyzer.reports.times import finding_time, iso, span
from analyzer.reports.wording import amount, facts_text, frames_text, html_verdict, port, totals
from analyzer.safetext import escape_text, is_printable
from analyzer.verdicts import StationVerdict, Status
from analyzer.version import __version__

if TYPE_CHECKING:
    import jinja2

    from analyzer.result import Audit

FINDINGS = 1000
"""Maximum findings shown, the most severe first."""
EXCERPTED = 250
"""Maximum findings shown with packet excerpts."""
STATIONS = 1000
"""Maximum base stations shown."""
OPENED = 6
"""Maximum base stations whose tables are open at first."""
MANY = 100
"""Base stations and findings above which the browser lays out only the visible ones."""
FLOWS_SHOWN = 4
"""Maximum flow ids shown per row."""


def render(audit: Audit, colour: bool = False) -> str:
    """The audit as one page, which has its own colours."""
    return "".join(pieces(audit, colour))


def pieces(audit: Audit, colour: bool = False) -> Iterator[str]:
    """:func:`render`, piece by piece. :class:`UsageError` where Jinja2 is not installed."""
    return page().generate(content(audit))


def content(audit: Audit) -> dict[str, Any]:
    """The variables of the template."""
    style, script = asset("report.css"), asset("report.js")
    findings = sorted(audit.findings, key=lambda finding: -finding.severity)
    return {
        "audit": audit,
        "version": __version__,
        "style": Trusted(style),
        "script": Trusted(script),
        "policy": policy(style, script),
        "outcome": html_verdict(audit),
        "severities": list(audit.severities.items()),
        "kinds": [kind for kind in Kind if any(finding.kind is kind for finding in findings)],
        "stations": audit.base_stations[:STATIONS],
        "findings": displayed(audit, findings[:FINDINGS]),
        "opened": len(audit.base_stations) <= OPENED,
        "many": len(audit.base_stations) + len(findings) > MANY,
        "timeline": timeline(audit),
        "diagram": diagram(audit),
        "totals": totals(audit.totals),
    }


# -- findings --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Displayed:
    """A finding as the page shows it."""

    number: int
    """1-based, in the order of the page."""
    finding: Finding
    time: str | None
    flow: Conversation | None
    frames: str
    why: str
    excerpts: tuple[Excerpt, ...]


def displayed(audit: Audit, findings: Sequence[Finding]) -> Iterator[Displayed]:
    """The findings one by one, so that those of a large audit are never all held with their excerpts."""
    flows = {conversation.id: conversation for conversation in audit.conversations}
    for number, finding in enumerate(findings, 1):
        flow = flows.get(finding.flow) if finding.flow is not None else None
        check = checks.find(finding.check)
        yield Displayed(
            number,
            finding,
            finding_time(finding, audit.captures),
            flow,
            frames_text(finding.frames, audit.captures, limit=len(finding.frames)),
            sections(check).get("why", "") if check else "",
            tuple(excerpts(flow, finding.frames)) if flow is not None and number <= EXCERPTED else (),
        )


# -- template functions ----------------------------------------------------------------------------------------


def statuses(verdict: StationVerdict) -> list[tuple[Status, int]]:
    """The number of a base station's rows with each status, the worst first."""
    counts = Counter(row.status for row in verdict.rows)
    return [(status, counts[status]) for status in WORST_FIRST if counts[status]]


WORST_FIRST = (Status.MALFORMED, Status.BLOCKED, Status.MISSING, Status.UNDECIDED, Status.ABSENT, Status.PRESENT)

MARKS = {
    "present": "●",
    "malformed": "✕",
    "blocked": "⊘",
    "missing": "○",
    "absent": "-",
    "undecided": "◐",
    "no row": "△",
    "out of scope": "·",
    "high": "▲",
    "medium": "◆",
    "low": "▽",
    "info": "i",
}
"""Status or severity → the symbol beside its word, so that colour is never the only distinction."""


def sender(excerpt: Excerpt, flow: Conversation) -> str:
    """Sender and receiver of an excerpted frame."""
    if excerpt.direction is None:
        return ""
    ends = (flow.originator, flow.responder)
    return f"{ends[excerpt.direction]} → {ends[1 - excerpt.direction]}"


# -- the page --------------------------------------------------------------------------------------------------


@cache
def page() -> jinja2.Template:
    """The compiled template, which escapes every value."""
    try:
        import jinja2
    except ImportError:
        raise UsageError("the format html needs Jinja2: pip install 'tpe-pcap[html]'") from None
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=visible_text,
    )
    environment.globals.update(
        port=port, statuses=statuses, sender=sender, iso=iso, span=span, amount=amount, dump=dump, marks=MARKS
    )
    environment.globals.update(
        facts_text=facts_text, FLOWS_SHOWN=FLOWS_SHOWN, MOST_FINDINGS=FINDINGS, MOST_EXCERPTED=EXCERPTED
    )
    return environment.from_string(asset("report.html.jinja"))


class Trusted(str):
    """This program's own style or script, inserted into the page unchanged."""

    __slots__ = ()

    def __html__(self) -> Trusted:
        return self


def visible_text(value: object) -> str:
    """A value as text on one line with unprintable characters escaped."""
    if isinstance(value, Trusted):
        return value
    text = value if isinstance(value, str) else str(value)
    # HTML that is escaped already stays valid: Python escapes contain no special character of HTML.
    return text if is_printable(text) else type(text)(escape_text(text))


def asset(name: str) -> str:
    """The text of a file in this folder."""
    return resources.files("analyzer.reports").joinpath(name).read_text(encoding="utf-8")


def policy(style: str, script: str) -> str:
    """A Content Security Policy that allows this style and this script, and nothing else."""
    return (
        f"default-src 'none'; style-src '{digest(style)}'; script-src '{digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
