"""Audits as pandas DataFrames, for notebooks. The only module that imports pandas.

Times are timestamps in UTC; columns of few values are categorical; numbers that may be missing are nullable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pandas as pd

from analyzer.community_id import community_id
from analyzer.messages import to_json

if TYPE_CHECKING:
    from analyzer.auditing import Audit

TIME, CATEGORY, NUMBER, TEXT, OBJECT = "datetime64[ns, UTC]", "category", "Int64", "string", "object"

FLOWS = {
    "flow": NUMBER,
    "base_station": CATEGORY,
    "rows": TEXT,
    "transport": CATEGORY,
    "protocol": CATEGORY,
    "state": CATEGORY,
    "originator": TEXT,
    "originator_port": NUMBER,
    "responder": TEXT,
    "responder_port": NUMBER,
    "packets_originator": NUMBER,
    "packets_responder": NUMBER,
    "bytes_originator": NUMBER,
    "bytes_responder": NUMBER,
    "first": TIME,
    "last": TIME,
    "community_id": TEXT,
    "facts": OBJECT,
}

FINDINGS = {
    "severity": CATEGORY,
    "kind": CATEGORY,
    "check": CATEGORY,
    "slug": CATEGORY,
    "base_station": CATEGORY,
    "rows": TEXT,
    "flow": NUMBER,
    "count": NUMBER,
    "time": TIME,
    "summary": TEXT,
    "remedy": TEXT,
    "filter": TEXT,
}

ROWS = {
    "base_station": CATEGORY,
    "mode": CATEGORY,
    "row": CATEGORY,
    "requirement": CATEGORY,
    "status": CATEGORY,
    "certainty": CATEGORY,
    "reason": TEXT,
    "flows": NUMBER,
}


def flows_frame(audit: Audit) -> pd.DataFrame:
    """One row a flow; columns and types as in :data:`FLOWS`. ``rows`` are row ids with commas between."""
    return frame(
        FLOWS,
        (
            {
                "flow": each.id,
                "base_station": audit.flow_stations.get(each.id),
                "rows": ",".join(audit.flow_rows.get(each.id, ())),
                "transport": each.transport,
                "protocol": each.protocol,
                "state": each.state.value,
                "originator": each.originator.address,
                "originator_port": each.originator.port,
                "responder": each.responder.address,
                "responder_port": each.responder.port,
                "packets_originator": each.packets[0],
                "packets_responder": each.packets[1],
                "bytes_originator": each.bytes[0],
                "bytes_responder": each.bytes[1],
                "first": each.first,
                "last": each.last,
                "community_id": community_id(each),
                "facts": to_json(each.dissection.facts) if each.dissection.facts is not None else {},
            }
            for each in audit.flows
        ),
    )


def findings_frame(audit: Audit) -> pd.DataFrame:
    """One row a finding, in the order of the report; columns and types as in :data:`FINDINGS`."""
    return frame(
        FINDINGS,
        (
            {
                "severity": str(each.severity),
                "kind": each.kind.value,
                "check": each.check,
                "slug": each.slug,
                "base_station": each.base_station,
                "rows": ",".join(each.rows),
                "flow": each.flow,
                "count": each.count,
                "time": each.time,
                "summary": each.summary,
                "remedy": each.remedy,
                "filter": each.filter,
            }
            for each in audit.findings
        ),
    )


def rows_frame(audit: Audit) -> pd.DataFrame:
    """One row a base station and row of its table; columns and types as in :data:`ROWS`."""
    return frame(
        ROWS,
        (
            {
                "base_station": verdict.station.address,
                "mode": verdict.mode,
                "row": row.row.id,
                "requirement": row.requirement.value,
                "status": row.status.value,
                "certainty": row.certainty.value if row.certainty else None,
                "reason": row.reason,
                "flows": len(row.flows),
            }
            for verdict in audit.base_stations
            for row in verdict.rows
        ),
    )


def frame(columns: Mapping[str, str], rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """A table with these columns and types, also where it has no rows."""
    table = pd.DataFrame(list(rows), columns=list(columns), dtype=object)
    for name, kind in columns.items():
        if kind == TIME:
            table[name] = pd.to_datetime(table[name].astype("Int64"), unit="ns", utc=True)
        else:
            table[name] = table[name].astype(pd.api.types.pandas_dtype(kind))
    return table
