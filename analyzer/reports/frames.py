"""Audits as tables: rows for files, pandas DataFrames for notebooks. The only module that imports pandas.

In a row times are nanoseconds since the epoch. In a frame they are timestamps in UTC; columns of few values are
categorical, and severities have their order, so that ``findings["severity"] >= "medium"`` asks what one means; numbers
that may be missing are nullable. Columns and types never depend on the content, and neither do the categories of what
this program itself has words for: frames of several audits can be put below each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_type_hints

from analyzer.community_id import community_ids
from analyzer.conversations import Conversation, Conversations, State
from analyzer.expected import Requirement, UsageError
from analyzer.findings import Kind, Severity
from analyzer.ftp_data import FtpDataFacts
from analyzer.messages import public_fields, to_json
from analyzer.protocols import PROTOCOLS
from analyzer.verdicts import Certainty, Status

if TYPE_CHECKING:
    import pandas as pd

    from analyzer.result import Audit

Row = dict[str, Any]
"""A value for each column."""

TIME, CATEGORY, NUMBER, TEXT, OBJECT = "datetime64[ns, UTC]", "category", "Int64", "string", "object"
TRUTH, FRACTION = "boolean", "Float64"

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
    "capture": NUMBER,
    "first_frame": NUMBER,
    "last_frame": NUMBER,
    "community_id": TEXT,
    "facts": OBJECT,
}
"""``rows``: ids with commas between. ``bytes``: frame lengths on the wire. ``capture``: index of the file of the first
frame, which is ``first_frame``; ``last_frame`` may be one of a later file. ``facts``: as the JSON report has them;
flows that say the same share one object."""

FINDINGS = {
    "severity": CATEGORY,
    "kind": CATEGORY,
    "check": CATEGORY,
    "slug": CATEGORY,
    "base_station": CATEGORY,
    "rows": TEXT,
    "mismatch": CATEGORY,
    "peer": TEXT,
    "service": TEXT,
    "flow": NUMBER,
    "count": NUMBER,
    "capture": NUMBER,
    "frames": OBJECT,
    "time": TIME,
    "summary": TEXT,
    "remedy": TEXT,
    "filter": TEXT,
}
"""``frames``: numbers in the file with index ``capture``; of several files, in the first. ``filter``: for Wireshark."""

ROWS = {
    "base_station": CATEGORY,
    "mode": CATEGORY,
    "row": CATEGORY,
    "content": CATEGORY,
    "requirement": CATEGORY,
    "status": CATEGORY,
    "certainty": CATEGORY,
    "reason": TEXT,
    "flows": NUMBER,
}
"""``flows``: their number."""

CATEGORIES: Mapping[str, list[str]] = {
    "severity": [str(each) for each in Severity],
    "kind": [each.value for each in Kind],
    "state": [each.value for each in State],
    "requirement": [each.value for each in Requirement],
    "status": [each.value for each in Status],
    "certainty": [each.value for each in Certainty],
}
"""Of the columns whose values this program has words for. The first is in ascending order."""

ECS = {
    "transport": "network.transport",
    "protocol": "network.protocol",
    "community_id": "network.community_id",
    "originator": "source.ip",
    "originator_port": "source.port",
    "packets_originator": "source.packets",
    "bytes_originator": "source.bytes",
    "responder": "destination.ip",
    "responder_port": "destination.port",
    "packets_responder": "destination.packets",
    "bytes_responder": "destination.bytes",
    "first": "event.start",
    "last": "event.end",
}
"""Columns of :data:`FLOWS` → fields of the Elastic Common Schema (ECS 8). What has no field there keeps its name below
``tpe_pcap``."""

ECS_TRANSPORTS = {"icmpv6": "ipv6-icmp"}
"""Where ``network.transport`` is called otherwise: ECS takes IANA's keywords of protocol numbers."""


def flows_frame(audit: Audit, facts: str | None = None, names: str | None = None) -> pd.DataFrame:
    """One row a flow; columns and types as in :data:`FLOWS`.

    ``facts``: the name of a protocol. Only its flows then, with a column for each of its facts (``tls_version``) in
    place of ``facts``; lists and objects stay what they are. ``names="ecs"``: columns are named as in :data:`ECS`.
    Raises ``UsageError`` (a ``ValueError``) for a protocol or for names that there are not.
    """
    if names not in (None, "ecs"):
        raise UsageError(f"there are no names {names!r}: there is 'ecs'")
    told = FLOWS if facts is None else {**FLOWS, **fact_columns(facts)}
    columns = {name: kind for name, kind in told.items() if name != "facts" or facts is None}
    table = frame(columns, flow_rows(audit.conversations, audit.flow_rows, audit.flow_stations, facts))
    return table if names is None else as_ecs(table)


def flow_rows(
    conversations: Conversations,
    rows: Mapping[int, tuple[str, ...]] | None = None,
    stations: Mapping[int, str] | None = None,
    facts: str | None = None,
) -> Iterator[Row]:
    """The rows of :func:`flows_frame`; ``rows`` and ``stations``, by flow id, are what an audit knows beside."""
    shared: dict[int, Row] = {}
    """By conversation: what all its flows have in common."""
    for flow in conversations.flows():
        each = flow.conversation
        if facts is not None and each.protocol != facts:
            continue
        known = shared.get(each.id)
        if known is None:
            known = shared[each.id] = {
                "base_station": (stations or {}).get(each.id),
                "rows": ",".join((rows or {}).get(each.id, ())),
                "transport": each.transport,
                "protocol": each.protocol,
                "state": each.state.value,
                "originator": each.originator.address,
                "responder": each.responder.address,
                "responder_port": each.responder.port,
                "packets_originator": each.packets[0],
                "packets_responder": each.packets[1],
                "bytes_originator": each.bytes[0],
                "bytes_responder": each.bytes[1],
                "identify": community_ids(each),
                **(said(each, facts) if facts is not None else {"facts": to_json(each.dissection.facts) or {}}),
            }
        yield {
            **known,
            "flow": flow.id,
            "originator_port": flow.port,
            "first": flow.first,
            "last": flow.last,
            "capture": flow.first_capture,
            "first_frame": flow.first_number,
            "last_frame": flow.last_number,
            "community_id": known["identify"](flow.port),
        }


def fact_columns(protocol: str) -> dict[str, str]:
    """The columns of a protocol's facts and their types."""
    kinds = {module.NAME: get_type_hints(module.facts)["return"] for module in PROTOCOLS}
    kinds[FTP_DATA] = FtpDataFacts
    if protocol not in kinds:
        raise UsageError(f"there is no protocol {protocol!r}: there are {', '.join(kinds)}")
    types = get_type_hints(kinds[protocol])
    return {f"{protocol}_{name}": FACTS.get(types[name], OBJECT) for name in public_fields(kinds[protocol]) or ()}


FTP_DATA = "ftp-data"

FACTS: Mapping[object, str] = {
    kind | None if optional else kind: column
    for kind, column in ((str, TEXT), (int, NUMBER), (bool, TRUTH), (float, FRACTION))
    for optional in (False, True)
}
"""Type of a fact → of its column; any other is an object."""


def said(each: Conversation, protocol: str) -> dict[str, Any]:
    """The facts of a conversation by column."""
    facts = each.dissection.facts
    names = public_fields(type(facts)) or ()  # type: ignore[arg-type] # a class is hashable
    return {f"{protocol}_{name}": to_json(getattr(facts, name)) for name in names}


def as_ecs(flows: pd.DataFrame) -> pd.DataFrame:
    """Flows with the field names, and the names of transports, of the Elastic Common Schema."""
    transports = flows["transport"].cat.rename_categories(ECS_TRANSPORTS)
    names = {name: ECS.get(name, f"tpe_pcap.{name}") for name in flows.columns}
    return flows.assign(transport=transports).rename(columns=names)


def findings_frame(audit: Audit) -> pd.DataFrame:
    """One row a finding, in the order of the report; columns and types as in :data:`FINDINGS`."""
    return frame(FINDINGS, finding_rows(audit))


def finding_rows(audit: Audit) -> Iterator[Row]:
    """The rows of :func:`findings_frame`."""
    for each in audit.findings:
        yield {
            "severity": str(each.severity),
            "kind": each.kind.value,
            "check": each.check,
            "slug": each.slug,
            "base_station": each.base_station,
            "rows": ",".join(each.rows),
            "mismatch": each.mismatch,
            "peer": each.peer,
            "service": each.service,
            "flow": each.flow,
            "count": each.count,
            "capture": each.frames[0].capture if each.frames else None,
            "frames": [place.number for place in each.frames if place.capture == each.frames[0].capture],
            "time": each.time,
            "summary": each.summary,
            "remedy": each.remedy,
            "filter": each.filter,
        }


def rows_frame(audit: Audit) -> pd.DataFrame:
    """One row a base station and row of its table; columns and types as in :data:`ROWS`."""
    return frame(
        ROWS,
        [
            {
                "base_station": verdict.station.address,
                "mode": verdict.mode,
                "row": row.row.id,
                "content": row.row.service,
                "requirement": row.requirement.value,
                "status": row.status.value,
                "certainty": row.certainty.value if row.certainty else None,
                "reason": row.reason,
                "flows": len(row.flows),
            }
            for verdict in audit.base_stations
            for row in verdict.rows
        ],
    )


def frame(columns: Mapping[str, str], rows: Iterable[Row]) -> pd.DataFrame:
    """A table with these columns and types, also where it has no rows; what a row lacks is missing."""
    import pandas as pd

    said = list(rows)
    return pd.DataFrame({name: column(name, kind, [row.get(name) for row in said]) for name, kind in columns.items()})


def column(name: str, kind: str, values: list[Any]) -> pd.Series[Any]:
    import pandas as pd

    if kind == TIME:
        return pd.to_datetime(pd.Series(values, dtype="Int64"), unit="ns", utc=True)
    if kind == CATEGORY:
        return pd.Series(pd.Categorical(values, CATEGORIES.get(name), ordered=name == "severity"))
    if kind == TEXT:
        # LazyDatagrams as Python's strings, also where pyarrow is installed: it refuses what is no UTF-8.
        return pd.Series(values, dtype=pd.StringDtype("python"))
    return pd.Series(values, dtype=kind)
