"""Audit: everything that an audit found. Reports see nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from functools import cached_property
from typing import TYPE_CHECKING

from analyzer import naming
from analyzer.capture import CaptureFile
from analyzer.conversations import Conversation, Conversations
from analyzer.dataclass import dataclass
from analyzer.expected import Deployment
from analyzer.findings import Finding, Severity
from analyzer.flows import PacketCounts
from analyzer.frame_totals import StationFrames
from analyzer.heads import Frame
from analyzer.protocols import dhcp
from analyzer.row_facts import RowFacts, row_facts
from analyzer.safetext import SafeText
from analyzer.stations import addresses
from analyzer.verdicts import StationVerdict

if TYPE_CHECKING:
    import pandas as pd

    from analyzer.export.packets import Packet


@dataclass(frozen=True, slots=True)
class AuditTotals:
    """Packet and flow accounting of an audit. Reports print the names of the fields."""

    packets: int
    """All captured packets: the sum of those in flows, ICMP errors, copies, without IP and unreadable."""
    packets_in_flows: int
    packets_of_base_stations: int
    """Packets in flows with a base station at one end; part of ``packets_in_flows``."""
    packets_out_of_scope: int
    """Packets in all other flows."""
    icmp_errors: int
    """Packets that quote a flow: counted here, not in that flow."""
    copies: int
    """Packets that had already been captured, on another interface or a mirror port: counted here only."""
    packets_without_ip: int
    packets_unreadable: int
    flows: int
    flows_out_of_scope: int
    """Flows without a base station at either end."""
    without_ip: Mapping[SafeText, int]
    """Kind of frame → packets."""
    unreadable: Mapping[SafeText, int]
    """Reason → packets."""


def count_totals(
    counts: PacketCounts, conversations: Iterable[Conversation], flow_stations: Mapping[int, str]
) -> AuditTotals:
    """Account for all packets and flows. ``flow_stations``: flow id → base station, of the flows in scope."""
    flows = packets_in_scope = 0
    for conversation in conversations:
        flows += conversation.flow_count
        if conversation.id in flow_stations:
            packets_in_scope += sum(conversation.packets) * conversation.flow_count
    return AuditTotals(
        packets=counts.packets,
        packets_in_flows=counts.in_flows,
        packets_of_base_stations=packets_in_scope,
        packets_out_of_scope=counts.in_flows - packets_in_scope,
        icmp_errors=counts.icmp_errors,
        copies=counts.copies,
        packets_without_ip=sum(counts.not_ip.values()),
        packets_unreadable=sum(counts.unreadable.values()),
        flows=flows,
        flows_out_of_scope=flows - len(flow_stations),
        without_ip=counts.not_ip,
        unreadable=counts.unreadable,
    )


@dataclass(frozen=True)
class Audit:
    """Everything that an audit found."""

    profile: SafeText
    deployment: Deployment
    captures: tuple[CaptureFile, ...]
    base_stations: tuple[StationVerdict, ...]
    findings: tuple[Finding, ...]
    """The most severe first."""
    conversations: Conversations
    """All flows; those with equal content between the same hosts, to the same service, are one conversation."""
    flow_rows: Mapping[int, tuple[SafeText, ...]]
    """Flow id → ids of the rows that the flow matches."""
    flow_stations: Mapping[int, str]
    """Flow id → address of the flow's base station."""
    totals: AuditTotals
    station_frames: Mapping[str, StationFrames] = field(default_factory=dict)
    """Address of a base station → its frames, by what became of them."""
    fail_on: Severity = Severity.MEDIUM
    """Minimum severity of a finding that fails the audit."""

    @cached_property
    def flows(self) -> tuple[Conversation, ...]:
        """Every flow as a conversation of its own, ascending by id."""
        return tuple(self.conversations.expand())

    @cached_property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        """Address of a flow's end → its names: first those from DNS in the captures, then those in the files' records.

        At most :data:`~analyzer.protocols.dns.MAX_NAMES_PER_ADDRESS` names per address.
        """
        found = naming.resolved_names(self.conversations)
        for capture in self.captures:
            for address, names in capture.facts.names.items():
                naming.add_names(found.setdefault(address, {}), names)
        return {address: tuple(found[address]) for address in addresses(self.conversations) if address in found}

    @cached_property
    def clients(self) -> Mapping[str, dhcp.Client]:
        """Address of a base station → its DHCP client, by MAC address or by leased address."""
        facts = (conversation.dissection.facts for conversation in self.conversations)
        by_mac = dhcp.merge_clients(messages for messages in facts if isinstance(messages, dhcp.DhcpFacts))
        by_lease = {client.address: client for client in by_mac.values()}
        found: dict[str, dhcp.Client] = {}
        for verdict in self.base_stations:
            station = verdict.station
            candidates = [by_mac.get(station.mac or ""), *(by_lease.get(address) for address in station.addresses)]
            client = next((candidate for candidate in candidates if candidate is not None), None)
            if client is not None:
                found[station.address] = client
        return found

    @cached_property
    def row_facts(self) -> Mapping[tuple[str, str], RowFacts]:
        """Address of a base station and id of a row → what the row's flows negotiated and showed."""
        conversations = {conversation.id: conversation for conversation in self.conversations}
        return {
            (verdict.station.address, row.row.id): row_facts(
                row.row, [conversations[flow] for flow in row.flows if flow in conversations]
            )
            for verdict in self.base_stations
            for row in verdict.rows
        }

    @property
    def severities(self) -> Mapping[Severity, int]:
        """Number of findings per severity, the highest first."""
        counts = Counter(finding.severity for finding in self.findings)
        return {severity: counts[severity] for severity in sorted(Severity, reverse=True)}

    def fails(self, threshold: Severity | None = None) -> bool:
        """Whether a finding reaches the threshold (default: ``fail_on``), or no base station was recognised."""
        minimum = self.fail_on if threshold is None else threshold
        return not self.base_stations or any(finding.severity >= minimum for finding in self.findings)

    def flows_frame(self, facts: str | None = None, names: str | None = None) -> pd.DataFrame:
        """One row per flow, as a pandas DataFrame.

        ``facts="tls"``: only the flows of a protocol, with a column for each of its facts. ``names="ecs"``: columns
        named as in the Elastic Common Schema. Raises ``UsageError`` for an unknown protocol or naming scheme.
        """
        from analyzer.reports import frames

        return frames.flows_frame(self, facts, names)

    def findings_frame(self) -> pd.DataFrame:
        """One row per finding, as a pandas DataFrame."""
        from analyzer.reports import frames

        return frames.findings_frame(self)

    def rows_frame(self) -> pd.DataFrame:
        """One row per base station and row of its table, as a pandas DataFrame."""
        from analyzer.reports import frames

        return frames.rows_frame(self)

    def packets(self, selection: Finding | Conversation | int | Iterable[Frame]) -> Iterator[Packet]:
        """The packets that a finding cites, as (frame, time in nanoseconds since the epoch, dpkt packet).

        Instead of a finding: a flow or its id, for the frames that the audit knows of it (its first ones with payload,
        ICMP errors, the last one), or any frames. The captures are read a second time, so ``UsageError`` is raised for
        standard input and for a file that no longer exists, and ``CaptureError`` for one that was changed.
        """
        from analyzer.export.packets import packets

        return packets(self, selection)

    def _repr_html_(self) -> str:
        """The report that a notebook shows."""
        from analyzer.reports import notebook

        return notebook.render(self)

    def __repr__(self) -> str:
        """One line: an audit may have a million flows."""
        counted = ", ".join(f"{count} {severity}" for severity, count in self.severities.items() if count)
        return (
            f"<Audit: captures {len(self.captures)}, packets {self.totals.packets}, flows {self.totals.flows}, "
            f"base stations {len(self.base_stations)}, findings {counted or 'none'}>"
        )


@dataclass(frozen=True, slots=True)
class FlowListing:
    """The flows of captures, without verdicts and findings."""

    captures: tuple[CaptureFile, ...]
    conversations: Conversations
