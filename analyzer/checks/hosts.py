"""Who is who: hosts that are taken for no base station, addresses of TPE that never answer."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.conversations import Conversation
from analyzer.findings import CAPTURE, AuditContext, Check, Issue, Kind, Severity, check, family

HOSTS_SHOWN = 12
"""Maximum hosts that a sentence lists."""


@check("TPE018", "strangers", Severity.INFO, scope=CAPTURE, kind=Kind.NOTICE)
def strangers(context: AuditContext) -> Iterator[Issue]:
    """Flags: Hosts that open flows of base stations' rows, and are taken for no base station.

    Why: A base station beside them uses the same service with better evidence, or they speak HTTPS only: health checks
    of load balancers, scanners and laptops do so. They are not judged.

    Evidence: The addresses, the number of flows, and the first flow of each host.

    Remedy: Name the base stations with --base-station, these hosts among them, if one of them is a base station.
    """
    found = context.hosts.strangers
    if not found:
        return
    count = sum(stranger.flow_count for stranger in found)
    flows = "1 flow" if count == 1 else f"{count} flows"
    listed = ", ".join(stranger.address for stranger in found[:HOSTS_SHOWN])
    more = f" and {len(found) - HOSTS_SHOWN} more" if len(found) > HOSTS_SHOWN else ""
    hosts = "1 host opens" if len(found) == 1 else f"{len(found)} hosts open"
    would = "would make it one" if len(found) == 1 else "would make the first of them one"
    firsts = {stranger.signatures[0].conversation.id: stranger.signatures[0].conversation for stranger in found}
    yield Issue(
        f"{hosts} {flows} of base stations' services without showing to be a base station: {listed}{more}; "
        f"--base-station {found[0].address} {would}.",
        conversations=tuple(firsts[flow] for flow in sorted(firsts)),
        filter=" || ".join(f"{family(stranger.address)} == {stranger.address}" for stranger in found[:HOSTS_SHOWN]),
    )


@check("TPE026", "contested-base-station", Severity.MEDIUM, scope=CAPTURE, kind=Kind.NOTICE)
def contested_base_station(context: AuditContext) -> Iterator[Issue]:
    """Flags: A host that was taken for TPE, as it serves a base station, while another host serves it in the same way.

    Severity: medium.

    Why: A proxy in front of TPE looks like that. So does a base station to which somebody opened connections, so that
    it is taken for TPE and not judged.

    Evidence: The flows in which the host is the client.

    Remedy: Name the base station with --base-station, or the proxy with --tpe.
    """
    for host in context.hosts.contested:
        conversations = {signature.conversation.id: signature.conversation for signature in host.signatures}
        servers = list(dict.fromkeys(signature.server for signature in host.signatures))
        listed = ", ".join(servers[:HOSTS_SHOWN]) + (", …" if len(servers) > HOSTS_SHOWN else "")
        rows = tuple(dict.fromkeys(signature.row.id for signature in host.signatures))
        yield Issue(
            f"{host.address} was taken for TPE, which it is for its clients, but {listed} "
            f"{'serves' if len(servers) == 1 else 'serve'} it as a base station is served (rows {', '.join(rows)}): it "
            f"was not judged; --base-station {host.address} makes it a base station, --tpe {host.address} a proxy.",
            rows=rows,
            conversations=tuple(conversations.values()),
            filter=f"{family(host.address)} == {host.address}",
        )


@check("TPE019", "tpe-address-unanswered", Severity.LOW, scope=CAPTURE, kind=Kind.NOTICE)
def tpe_address_unanswered(context: AuditContext) -> Iterator[Issue]:
    """Flags: An address of TPE, which the capture's DNS gives to the name of another one, never answered.

    Why: The base station loses time with it at each attempt, and has no other address if the working one fails. A
    record of an address that is no longer used, or a firewall that knows one IP version only, does this.

    Evidence: The address and its name, and the attempts.

    Remedy: Remove the address from the DNS, or let it be reached.
    """
    for address, name in context.hosts.tpe_names.items():
        for station in context.stations:
            matches = [match for match in station.matches if is_peer(match.conversation, address)]
            if not matches or any(not match.conversation.silent for match in matches):
                continue
            tried = tuple({match.conversation.id: match.conversation for match in matches}.values())
            count = sum(conversation.flow_count for conversation in tried)
            version = "IPv6" if ":" in address else "IPv4"
            flows = "1 attempt" if count == 1 else f"{count} attempts"
            yield Issue(
                f"{version} address {address} of TPE, given for {name}, never answered {flows} of {station.address}.",
                base_station=station.address,
                rows=tuple(dict.fromkeys(row.id for match in matches for row in match.rows)),
                conversations=tried,
                filter=f"{family(address)} == {address}",
            )


@check("TPE022", "translated-addresses", Severity.INFO, scope=CAPTURE, kind=Kind.NOTICE)
def translated_addresses(context: AuditContext) -> Iterator[Issue]:
    """Flags: Conversations that the capture shows twice, on both sides of an address translation (NAT).

    Why: A capture on all interfaces of the router shows each packet with the host's own address and with the router's.
    It is judged once, with the host's own.

    Evidence: The outer address, and the flows with it whose bytes are those of an inner one.

    Remedy: Capture on one interface, if the second side is not wanted.
    """
    by_address: dict[str, list[Conversation]] = {}
    for conversation in context.conversations:
        if conversation.id in context.hosts.translated:
            by_address.setdefault(conversation.originator.address, []).append(conversation)
    for address, conversations in by_address.items():
        count = sum(conversation.flow_count for conversation in conversations)
        flows = "1 flow" if count == 1 else f"{count} flows"
        yield Issue(
            f"{flows} of {address} were captured on the inner side of a NAT, too, and are judged there.",
            conversations=tuple(conversations),
            filter=f"{family(address)} == {address}",
        )


def is_peer(conversation: Conversation, address: str) -> bool:
    """Whether an address is an end of a conversation."""
    return address in (conversation.originator.address, conversation.responder.address)


CHECKS: tuple[Check, ...] = (strangers, contested_base_station, tpe_address_unanswered, translated_addresses)
