"""What an audit found. Reports see nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from analyzer.capture import CaptureFile
from analyzer.conversations import Conversation, Conversations
from analyzer.expected import Deployment
from analyzer.findings import Finding, Severity
from analyzer.heads import Frame
from analyzer.protocols import dhcp, dns
from analyzer.safetext import SafeText
from analyzer.verdicts import StationVerdict

if TYPE_CHECKING:
    import pandas as pd

    from analyzer.export.packets import Packet


@dataclass(frozen=True, slots=True)
class AuditTotals:
    """What became of every packet, and what was found; the report prints the names as they are."""

    packets: int
    packets_in_flows: int
    packets_of_base_stations: int
    """In flows with a base station at an end (part of those in flows)."""
    packets_out_of_scope: int
    """In flows without a base station at an end (the other part)."""
    icmp_errors: int
    """Counted with the flow that they quote, not in it."""
    copies: int
    """Packets that were captured before, on another interface: not counted again."""
    packets_without_ip: int
    packets_unreadable: int
    flows: int
    flows_out_of_scope: int
    without_ip: Mapping[SafeText, int]
    """By kind of frame."""
    unreadable: Mapping[SafeText, int]
    """By reason."""


@dataclass(frozen=True)
class Audit:
    """Everything that an audit found; reports see nothing else."""

    profile: SafeText
    deployment: Deployment
    captures: tuple[CaptureFile, ...]
    base_stations: tuple[StationVerdict, ...]
    findings: tuple[Finding, ...]
    """Most severe first."""
    conversations: Conversations
    """Flows that say the same between the same hosts, to the same service, are one conversation."""
    flow_rows: Mapping[int, tuple[SafeText, ...]]
    """Flow id → ids of the rows that it matches."""
    flow_stations: Mapping[int, str]
    """Flow id → address of its base station."""
    totals: AuditTotals
    fail_on: Severity = Severity.MEDIUM
    """Severity of a finding from which on the audit has failed."""

    @cached_property
    def flows(self) -> tuple[Conversation, ...]:
        """Every flow as a conversation of its own, ascending by id."""
        return tuple(self.conversations.expand())

    @cached_property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        """Address of a flow's end → its names: as DNS tells them in the captures, then as the files themselves do."""
        told = [
            each.dissection.facts._names
            for each in self.conversations
            if isinstance(each.dissection.facts, dns.DnsFacts) and each.responder.port not in dns.MULTICAST_PORTS
        ]
        found: dict[str, dict[str, None]] = {}
        for names in (*told, *(each.facts.names for each in self.captures)):
            for address, known in names.items():
                own = found.setdefault(address, {})
                own.update(dict.fromkeys(known[: max(0, dns.NAMES_EACH - len(own))]))
        return {address: tuple(found[address]) for address in addresses(self.conversations) if address in found}

    @cached_property
    def clients(self) -> Mapping[str, dhcp.Client]:
        """Address of a base station → what DHCP tells of it, by its MAC address or by the address that it was given."""
        facts = [each.dissection.facts for each in self.conversations]
        told = dhcp.clients(each for each in facts if isinstance(each, dhcp.DhcpFacts))
        given = {client.address: client for client in told.values()}
        found: dict[str, dhcp.Client] = {}
        for verdict in self.base_stations:
            station = verdict.station
            own = [told.get(station.mac or ""), *(given.get(address) for address in station.addresses)]
            client = next((each for each in own if each is not None), None)
            if client is not None:
                found[station.address] = client
        return found

    def __repr__(self) -> str:
        """Short: an audit may hold a million flows."""
        counted = ", ".join(f"{count} {severity}" for severity, count in self.severities.items() if count)
        return (
            f"<Audit: captures {len(self.captures)}, packets {self.totals.packets}, flows {self.totals.flows}, "
            f"base stations {len(self.base_stations)}, findings {counted or 'none'}>"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        from analyzer.reports import notebook

        return notebook.render(self)

    @property
    def severities(self) -> Mapping[Severity, int]:
        """Number of findings of each severity, the highest first."""
        counts = Counter(finding.severity for finding in self.findings)
        return {each: counts[each] for each in sorted(Severity, reverse=True)}

    def flows_frame(self, facts: str | None = None, names: str | None = None) -> pd.DataFrame:
        """One row a flow, as a pandas DataFrame.

        ``facts="tls"``: only the flows of a protocol, with a column for each of its facts. ``names="ecs"``: columns
        named as in the Elastic Common Schema. Raises ``UsageError`` for a protocol or for names that there are not.
        """
        from analyzer.reports import frames

        return frames.flows_frame(self, facts, names)

    def findings_frame(self) -> pd.DataFrame:
        """One row a finding, as a pandas DataFrame."""
        from analyzer.reports import frames

        return frames.findings_frame(self)

    def rows_frame(self) -> pd.DataFrame:
        """One row a base station and row of its table, as a pandas DataFrame."""
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

    def fails(self, threshold: Severity | None = None) -> bool:
        """Whether a finding reaches the threshold (the audit's own), or no base station could be recognised."""
        least = self.fail_on if threshold is None else threshold
        return not self.base_stations or any(finding.severity >= least for finding in self.findings)


@dataclass(frozen=True, slots=True)
class FlowListing:
    """The flows of captures, not judged."""

    captures: tuple[CaptureFile, ...]
    conversations: Conversations


def addresses(conversations: Sequence[Conversation]) -> dict[str, None]:
    """All addresses, in the order of their first conversation."""
    return {end.address: None for each in conversations for end in (each.originator, each.responder)}
