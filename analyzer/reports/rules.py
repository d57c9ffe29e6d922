"""The vendor's tables as this program reads them, for people and for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from analyzer.expected import ExpectedFlow, ExpectedTable
from analyzer.messages import to_json
from analyzer.reports import json
from analyzer.reports.text import port

DESCRIPTION_WIDTH = 34
"""Columns that keep the table within 80."""


def render_rules_text(tables: Mapping[str, ExpectedTable], mode: str | None = None) -> str:
    """All tables, or the one of a mode (``KeyError`` if there is none)."""
    return "\n".join("\n".join(table_lines(table)) + "\n" for table in chosen(tables, mode))


def render_rules_json(tables: Mapping[str, ExpectedTable], mode: str | None = None) -> str:
    """The same with all that the audit goes by, and where it is from."""
    shown = [
        {
            "mode": table.mode,
            "title": table.title,
            "rows": json.lines(flow_json(flow) for flow in table.flows),
        }
        for table in chosen(tables, mode)
    ]
    return "".join(json.document({**json.heading(), "tables": shown}))


def chosen(tables: Mapping[str, ExpectedTable], mode: str | None) -> list[ExpectedTable]:
    return list(tables.values()) if mode is None else [tables[mode]]


def table_lines(table: ExpectedTable) -> Iterator[str]:
    from tabulate import tabulate  # takes longer to import than most of the program

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
    """The requirement, of both deployments where they differ."""
    if flow.standalone is flow.ha:
        return flow.standalone.value
    return f"{flow.standalone.value}\nHA: {flow.ha.value}"


def flow_json(flow: ExpectedFlow) -> dict[str, Any]:
    content: dict[str, Any] = to_json(flow)
    del content["mode"]
    content["ports"] = list(flow.ports)
    content["origins"] = dict(flow.origins)
    return content
