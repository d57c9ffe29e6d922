"""Audits as tables: rows for files, pandas DataFrames for notebooks. The only module that imports pandas.

Times are nanoseconds since the epoch in rows and UTC timestamps in frames. Columns with few values are categorical;
severities are ordered, so ``findings["severity"] >= "medium"`` works; numbers that may be missing are nullable. Columns
and types never depend on the content, and neither do the categories of enumerations, so frames of several audits can be
concatenated.
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
"""Column → value."""

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
"""``flow``: id. ``rows``: ids, separated by commas. ``bytes_*``: frame lengths on the wire. ``capture``: index of the
file that holds ``first_frame``; ``last_frame`` may be in a later file. ``facts``: as in the JSON report; duplicate
flows share one object."""

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
"""``frames``: numbers in the file with index ``capture``, the first of several. ``filter``: for Wireshark."""

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
    "served_until": TIME,
    "facts": OBJECT,
}
"""``flows``: number of flows. ``served_until``: of a continuous row that was lost. ``facts``: as in the JSON report."""

CATEGORIES: Mapping[str, list[str]] = {
    "severity": [str(severity) for severity in Severity],
    "kind": [kind.value for kind in Kind],
    "state": [state.value for state in State],
    "requirement": [requirement.value for requirement in Requirement],
    "status": [status.value for status in Status],
    "certainty": [certainty.value for certainty in Certainty],
}
"""Categories of the columns that show enumerations; severities in ascending order."""

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
"""Columns of :data:`FLOWS` → fields of the Elastic Common Schema (ECS 8). Other columns get the prefix ``tpe_pcap.``"""

ECS_TRANSPORTS = {"icmpv6": "ipv6-icmp"}
"""Transports with another name in ``network.transport``: ECS uses IANA's keywords of protocol numbers."""


def flows_frame(audit: Audit, facts: str | None = None, names: str | None = None) -> pd.DataFrame:
    """One row per flow; columns and types as in :data:`FLOWS`.

    ``facts``: the name of a protocol, to get only its flows, with a column per fact (``tls_version``) instead of
    ``facts``; lists and objects stay as they are. ``names="ecs"``: columns are named as in :data:`ECS`. Raises
    ``UsageError`` (a ``ValueError``) for an unknown protocol or other names.
    """
    if names not in (None, "ecs"):
        raise UsageError(f"there are no names {names!r}: there is 'ecs'")
    columns = dict(FLOWS)
    if facts is not None:
        del columns["facts"]
        columns |= fact_columns(facts)
    table = frame(columns, flow_rows(audit.conversations, audit.flow_rows, audit.flow_stations, facts))
    return table if names is None else as_ecs(table)


def flow_rows(
    conversations: Conversations,
    rows: Mapping[int, tuple[str, ...]] | None = None,
    stations: Mapping[int, str] | None = None,
    facts: str | None = None,
) -> Iterator[Row]:
    """The rows of :func:`flows_frame`. ``rows`` and ``stations``: those of an audit, by flow id."""
    shared: dict[int, Row] = {}
    """Conversation id → the values that all its flows share."""
    for flow in conversations.flows():
        conversation = flow.conversation
        if facts is not None and conversation.protocol != facts:
            continue
        values = shared.get(conversation.id)
        if values is None:
            values = shared[conversation.id] = {
                "base_station": (stations or {}).get(conversation.id),
                "rows": ",".join((rows or {}).get(conversation.id, ())),
                "transport": conversation.transport,
                "protocol": conversation.protocol,
                "state": conversation.state.value,
                "originator": conversation.originator.address,
                "responder": conversation.responder.address,
                "responder_port": conversation.responder.port,
                "packets_originator": conversation.packets[0],
                "packets_responder": conversation.packets[1],
                "bytes_originator": conversation.bytes[0],
                "bytes_responder": conversation.bytes[1],
                "community_ids": community_ids(conversation),
                **(
                    {"facts": to_json(conversation.dissection.facts) or {}}
                    if facts is None
                    else fact_values(conversation, facts)
                ),
            }
        yield {
            **values,
            "flow": flow.id,
            "originator_port": flow.port,
            "first": flow.first,
            "last": flow.last,
            "capture": flow.first_capture,
            "first_frame": flow.first_number,
            "last_frame": flow.last_number,
            "community_id": values["community_ids"](flow.port),
        }


def fact_columns(protocol: str) -> dict[str, str]:
    """The columns of a protocol's facts, with their types."""
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
"""Type of a fact → type of its column; any other fact is an object."""


def fact_values(conversation: Conversation, protocol: str) -> dict[str, Any]:
    """The facts of a conversation by column."""
    facts = conversation.dissection.facts
    names = public_fields(type(facts)) or ()  # type: ignore[arg-type] # a class is hashable
    return {f"{protocol}_{name}": to_json(getattr(facts, name)) for name in names}


def as_ecs(flows: pd.DataFrame) -> pd.DataFrame:
    """Flows with field names and transport names of the Elastic Common Schema."""
    transports = flows["transport"].cat.rename_categories(ECS_TRANSPORTS)
    names = {name: ECS.get(name, f"tpe_pcap.{name}") for name in flows.columns}
    return flows.assign(transport=transports).rename(columns=names)


def findings_frame(audit: Audit) -> pd.DataFrame:
    """One row per finding, in the order of the report; columns and types as in :data:`FINDINGS`."""
    return frame(FINDINGS, finding_rows(audit))


def finding_rows(audit: Audit) -> Iterator[Row]:
    """The rows of :func:`findings_frame`."""
    for finding in audit.findings:
        capture = finding.frames[0].capture if finding.frames else None
        yield {
            "severity": str(finding.severity),
            "kind": finding.kind.value,
            "check": finding.check,
            "slug": finding.slug,
            "base_station": finding.base_station,
            "rows": ",".join(finding.rows),
            "mismatch": finding.mismatch,
            "peer": finding.peer,
            "service": finding.service,
            "flow": finding.flow,
            "count": finding.count,
            "capture": capture,
            "frames": [frame.number for frame in finding.frames if frame.capture == capture],
            "time": finding.time,
            "summary": finding.summary,
            "remedy": finding.remedy,
            "filter": finding.filter,
        }


def rows_frame(audit: Audit) -> pd.DataFrame:
    """One row per base station and row of its table; columns and types as in :data:`ROWS`."""
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
                "served_until": row.served_until,
                "facts": audit.row_facts[verdict.station.address, row.row.id],
            }
            for verdict in audit.base_stations
            for row in verdict.rows
        ],
    )


def frame(columns: Mapping[str, str], rows: Iterable[Row]) -> pd.DataFrame:
    """A frame with these columns and types, even without rows; values that a row lacks are missing."""
    import pandas as pd

    content = list(rows)
    return pd.DataFrame(
        {name: column(name, kind, [row.get(name) for row in content]) for name, kind in columns.items()}
    )


def column(name: str, kind: str, values: list[Any]) -> pd.Series[Any]:
    import pandas as pd

    if kind == TIME:
        return pd.to_datetime(pd.Series(values, dtype="Int64"), unit="ns", utc=True)
    if kind == CATEGORY:
        return pd.Series(pd.Categorical(values, CATEGORIES.get(name), ordered=name == "severity"))
    if kind == TEXT:
        # Python strings, even if pyarrow is installed: pyarrow rejects lone surrogates.
        return pd.Series(values, dtype=pd.StringDtype("python"))
    return pd.Series(values, dtype=kind)
