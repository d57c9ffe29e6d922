"""Facts of a row: what its flows negotiated and showed, beside the status that the verdict gives."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NamedTuple

from analyzer.conversations import Conversation
from analyzer.expected import ExpectedFlow
from analyzer.heads import Direction
from analyzer.messages import Facts
from analyzer.protocols import dhcp, dhcp6, dns, esp, ftp, http, icmp, iec104, ike, ntp, ssh, tls
from analyzer.protocols.tls.certificates import X509Certificate

RowFacts = Mapping[str, Any]
"""Name of a fact → its value, as JSON: names and values are those of the row's protocol in the facts of a flow. Where
flows differ, the value is the list of distinct values in the order of the flows; facts in :data:`LISTS` are always
lists. ``more``: name → number of further distinct values, of lists that reached :data:`MAX_VALUES`."""

MAX_VALUES = 16
"""Maximum distinct values of a fact in reports."""

LISTS = frozenset({"certificates", "lrr_ids", "offered", "servers", "spis", "targets", "transfers"})
"""Facts that are lists even with one value."""
MORE = "more"


class ServerCertificate(NamedTuple):
    """The server's own certificate."""

    subject: str | None
    not_before: str | None
    not_after: str | None


class RowTransfer(NamedTuple):
    """A file transfer that belongs to the row."""

    verb: str
    path: str


class DistinctValues:
    """Collects the distinct values of facts, flags and sums of counts."""

    def __init__(self) -> None:
        self.values: dict[str, dict[Hashable, None]] = {}
        """Name of a fact → its values in the order of the flows."""
        self.sums: dict[str, int] = {}
        self.flags: dict[str, bool] = {}

    def add(self, name: str, *values: Hashable) -> None:
        """Add values of a fact; those that were not seen in the packets are left out."""
        for value in values:
            if value or value is False or type(value) is int:
                self.values.setdefault(name, {})[value] = None

    def add_flag(self, name: str, value: bool) -> None:
        """Add a value of a fact that is true if it is true for any flow."""
        self.flags[name] = self.flags.get(name, False) or value

    def count(self, name: str, number: int) -> None:
        self.sums[name] = self.sums.get(name, 0) + number

    def result(self) -> dict[str, Any]:
        """The facts as JSON."""
        found: dict[str, Any] = {}
        more: dict[str, int] = {}
        for name, distinct in self.values.items():
            shown = [value_json(value) for value in list(distinct)[:MAX_VALUES]]
            found[name] = shown if len(distinct) > 1 or name in LISTS else shown[0]
            if len(distinct) > MAX_VALUES:
                more[name] = len(distinct) - MAX_VALUES
        found |= self.flags | self.sums
        return found | {MORE: more} if more else found


def value_json(value: Hashable) -> Any:
    """A value as JSON; a named tuple becomes an object without its empty fields."""
    if isinstance(value, (ServerCertificate, RowTransfer)):
        return {name: part for name, part in value._asdict().items() if part is not None}
    return value


def row_facts(row: ExpectedFlow, conversations: Iterable[Conversation]) -> RowFacts:
    """The facts of a row. ``conversations``: those that match it, in the order of the capture.

    Conversations whose content is not the row's protocol add nothing.
    """
    collect = COLLECTORS.get(row.protocol)
    found = DistinctValues()
    if collect is not None:
        known: dict[int, Facts] = {}
        for conversation in conversations:
            facts = conversation.dissection.facts
            if facts is None or id(facts) in known:
                continue
            if collect in OF_FACTS_ONLY:
                known[id(facts)] = facts  # kept alive, so that the id stays theirs
            collect(found, facts, conversation, row)
    return found.result()


# -- collectors by protocol ------------------------------------------------------------------------------------


def collect_ike(found: DistinctValues, facts: Facts, conversation: Conversation, row: ExpectedFlow) -> None:
    """The row of IKE has the ESP proposal, too: ESP in a flow of its own cannot name it."""
    if isinstance(facts, ike.IkeFacts):
        found.add("version", facts.version)
        found.add("chosen", facts.chosen)
        found.add("esp_chosen", facts.esp_chosen)
        found.add_flag("nat_traversal", facts.nat_traversal)


def collect_esp(found: DistinctValues, facts: Facts, conversation: Conversation, row: ExpectedFlow) -> None:
    """ESP has a flow of its own, or shares UDP/4500 with IKE, whose decrypted messages name its proposal."""
    if isinstance(facts, ike.IkeFacts):
        found.add("esp_chosen", facts.esp_chosen)
        if facts.esp is None:
            return
        facts = facts.esp
    if isinstance(facts, esp.EspFacts):
        found.add("spis", *facts.spis)
        found.add("udp_encapsulated", facts.udp_encapsulated)
        if facts.cipher is not None:
            found.add("cipher_inferred", f"{facts.cipher.kind} ({facts.cipher.words})")


def collect_tls(found: DistinctValues, facts: Facts, conversation: Conversation, row: ExpectedFlow) -> None:
    if isinstance(facts, tls.TlsFacts):
        found.add("version", facts.version)
        found.add("cipher_suite", facts.cipher_suite)
        found.add("server_name", facts.server_name)
        found.add("certificates", *map(server_certificate, facts.certificates[:1]))
        found.add("client_certificate", facts.client_certificate)


def server_certificate(certificate: X509Certificate) -> ServerCertificate:
    return ServerCertificate(certificate.subject, certificate.not_before, certificate.not_after)


def collect_ssh(found: DistinctValues, facts: Facts, conversation: Conversation, row: ExpectedFlow) -> None:
    if isinstance(facts, ssh.SshFacts):
        found.add("client_banner", facts.client_banner)
        found.add("server_banner", facts.server_banner)


def collect_iec104(found: DistinctValues, facts: Facts, conversation: Conversation, row: ExpectedFlow) -> None:
    if isinstance(facts, iec104.Iec104Facts):
        found.add("lrr_ids", *facts.lrr_ids)
        found.add("dialect", facts.dialect)
        found.add("startdt_by", facts.startdt_by)
        found.count("apdus", facts.apdus * conversation.flow_count)


def collect_ftp(found: DistinctValues, facts: Facts, conversation: Conversation, row: ExpectedFlow) -> None:
    """The transfers of the row; those whose row is not known belong to all rows of the flow."""
    if isinstance(facts, ftp.FtpFacts):
        own = [transfer for transfer in facts.transfers if transfer.row in (None, row.id)]
        found.add("transfers", *(RowTransfer(transfer.verb, transfer.path) for transfer in own))


def collect_http(found: DistinctValues, facts: Facts, conversation: Conversation, row: ExpectedFlow) -> None:
    if isinstance(facts, http.HttpFacts):
        for name in ("method", "path", "upgrade", "host", "status"):
            found.add(name, getattr(facts, name))


def collect_ntp(found: DistinctValues, facts: Facts, conversation: Conversation, row: ExpectedFlow) -> None:
    if isinstance(facts, ntp.NtpFacts):
        add_server(found, conversation)
        found.add("stratum", facts.stratum)


def collect_dns(found: DistinctValues, facts: Facts, conversation: Conversation, row: ExpectedFlow) -> None:
    if isinstance(facts, dns.DnsFacts):
        add_server(found, conversation)


def add_server(found: DistinctValues, conversation: Conversation) -> None:
    """Add the responder, if it answered."""
    if conversation.packets[Direction.RESPONDER]:
        found.add("servers", conversation.responder.address)


def collect_dhcp(found: DistinctValues, facts: Facts, conversation: Conversation, row: ExpectedFlow) -> None:
    if isinstance(facts, (dhcp.DhcpFacts, dhcp6.Dhcp6Facts)):
        found.add("servers", *facts.servers)
        found.add("offered", *facts.offered)
        found.add("lease_seconds", facts.lease_seconds)


def collect_icmp(found: DistinctValues, facts: Facts, conversation: Conversation, row: ExpectedFlow) -> None:
    if isinstance(facts, icmp.IcmpFacts):
        found.add("targets", conversation.responder.address)


COLLECTORS: Mapping[str, Callable[[DistinctValues, Facts, Conversation, ExpectedFlow], None]] = {
    ike.NAME: collect_ike,
    esp.NAME: collect_esp,
    tls.NAME: collect_tls,
    ssh.NAME: collect_ssh,
    iec104.NAME: collect_iec104,
    ftp.NAME: collect_ftp,
    http.NAME: collect_http,
    ntp.NAME: collect_ntp,
    dns.NAME: collect_dns,
    dhcp.NAME: collect_dhcp,
    icmp.NAME: collect_icmp,
}
"""Protocol of a row → the function that adds what one of its conversations shows."""

OF_FACTS_ONLY = frozenset({collect_ike, collect_esp, collect_tls, collect_ssh, collect_ftp, collect_http, collect_dhcp})
"""Collectors that read nothing but the facts, so that facts which conversations share are read once."""
