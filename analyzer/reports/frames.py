"""Audits as pandas DataFrames, for notebooks. The only module that imports pandas.

Times are timestamps in UTC; columns of few values are categorical; ids that may be missing are nullable integers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analyzer.community_id import community_id
from analyzer.messages import to_json

if TYPE_CHECKING:
    from analyzer.audit import Audit


def flows_frame(audit: Audit) -> pd.DataFrame:
    """One row a flow, indexed by its id."""
    frame = pd.DataFrame(
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
    )
    return typed(
        frame,
        times=("first", "last"),
        categories=("transport", "protocol", "state", "base_station"),
        numbers=("originator_port", "responder_port"),
    ).pipe(lambda typed_frame: typed_frame.set_index("flow") if len(typed_frame) else typed_frame)


def findings_frame(audit: Audit) -> pd.DataFrame:
    """One row a finding, in the order of the report."""
    frame = pd.DataFrame(
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
    )
    return typed(frame, times=("time",), categories=("severity", "kind", "check", "slug"), numbers=("flow",))


def rows_frame(audit: Audit) -> pd.DataFrame:
    """One row a base station and row of its table."""
    frame = pd.DataFrame(
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
    )
    return typed(frame, categories=("mode", "row", "requirement", "status", "certainty"))


def typed(
    frame: pd.DataFrame, times: tuple[str, ...] = (), categories: tuple[str, ...] = (), numbers: tuple[str, ...] = ()
) -> pd.DataFrame:
    """Give columns their proper types."""
    if frame.empty:
        return frame
    for name in times:
        frame[name] = pd.to_datetime(frame[name].astype("Int64"), unit="ns", utc=True)
    for name in categories:
        frame[name] = frame[name].astype("category")
    for name in numbers:
        frame[name] = frame[name].astype("Int64")
    return frame
