"""The tables of expected flows, as text and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from analyzer.expected import ExpectedFlow, ExpectedTable
from analyzer.messages import to_json
from analyzer.reports.document import document, heading, lines
from analyzer.reports.wording import port

DESCRIPTION_WIDTH = 34
"""Width of the descriptions that keeps the table within 80 columns."""


def render_text(tables: Mapping[str, ExpectedTable], mode: str | None = None) -> str:
    """All tables, or that of one mode (``KeyError`` for an unknown mode)."""
    return "\n".join("\n".join(table_lines(table)) + "\n" for table in selected(tables, mode))


def render_json(tables: Mapping[str, ExpectedTable], mode: str | None = None) -> str:
    """The tables with everything that an audit uses, and the origin of each value."""
    content = [
        {
            "mode": table.mode,
            "title": table.title,
            "rows": lines(flow_json(flow) for flow in table.flows),
        }
        for table in selected(tables, mode)
    ]
    return "".join(document({**heading(), "tables": content}))


def selected(tables: Mapping[str, ExpectedTable], mode: str | None) -> list[ExpectedTable]:
    return list(tables.values()) if mode is None else [tables[mode]]


def table_lines(table: ExpectedTable) -> Iterator[str]:
    from tabulate import tabulate  # slow to import

    cells = [
        (flow.id, "\n".join(description_lines(flow)), port(flow), flow.destination.system, need(flow))
        for flow in table.flows
    ]
    yield f"{table.mode}: {table.title}"
    yield ""
    headers = ("Row", "Content", "Port", "To", "Need")
    for line in tabulate(cells, headers, tablefmt="simple", disable_numparse=True).splitlines():
        yield line.rstrip()


def description_lines(flow: ExpectedFlow) -> list[str]:
    direction = " (both ways)" if flow.bidirectional else ""
    return [flow.service + direction, *textwrap.wrap(flow.description, DESCRIPTION_WIDTH, break_on_hyphens=False)]


def need(flow: ExpectedFlow) -> str:
    """The requirement; those of both deployments if they differ."""
    if flow.standalone is flow.ha:
        return flow.standalone.value
    return f"{flow.standalone.value}\nHA: {flow.ha.value}"


def flow_json(flow: ExpectedFlow) -> dict[str, Any]:
    content: dict[str, Any] = to_json(flow)
    del content["mode"]
    content["ports"] = list(flow.ports)
    content["origins"] = dict(flow.origins)
    return content
