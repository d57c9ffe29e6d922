"""Compares this program's flows, protocols and facts with tshark's.

Both read the same files independently. A difference that follows from a known difference in method gets an explanation
and does not count as disagreement; any other difference is an error of one of the two.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field

from analyzer.capture import CaptureFile
from analyzer.conversations import Conversation, Conversations, Endpoint
from analyzer.dataclass import dataclass
from analyzer.findings import frames_filter
from analyzer.flows import transport_name
from analyzer.heads import Frame
from analyzer.messages import messages
from analyzer.protocols import dhcp, dns, ftp, http, icmp, iec104, ike, ntp, ssh, tls
from analyzer.protocols.tls.registry import cipher_suite_name, version_name
from analyzer.tshark import client

SHOWN = 8
"""Maximum frames cited per difference."""

FIELDS = (
    *("frame.number", "frame.len", "frame.protocols", "_ws.malformed", "ip.src", "ip.dst", "ip.proto", "ip.id"),
    *("ip.frag_offset", "ip.flags.mf", "ipv6.src", "ipv6.dst", "ipv6.nxt", "ipv6.fraghdr.ident"),
    *("tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport"),
    *("tls.handshake.type", "tls.handshake.version", "tls.handshake.extensions.supported_version"),
    *("tls.handshake.ciphersuite", "tls.handshake.extensions_server_name"),
    *("isakmp.exchangetype", "isakmp.flags", "isakmp.tf.type", "isakmp.tf.id.encr", "isakmp.tf.id.prf"),
    *("isakmp.tf.id.integ", "isakmp.tf.id.dh", "isakmp.ike2.attr.key_length"),
    *("ssh.protocol", "iec60870_104.type", "dns.qry.name", "dns.flags.response", "ntp.flags.mode", "dhcp.option.dhcp"),
)
PREFERENCES = {
    "tcp.reassemble_out_of_order": "TRUE",
    "tcp.try_heuristic_first": "TRUE",
}
"""Content before port numbers where tshark supports it. Its heuristics for UDP stay off: they take too much for DNS."""

NAMES = {
    "tls": tls.NAME,
    "ssl": tls.NAME,
    "ssh": ssh.NAME,
    "isakmp": ike.NAME,
    "esp": "esp",
    "iec60870_104": iec104.NAME,
    "http": http.NAME,
    "ftp": ftp.NAME,
    "ftp-data": "ftp-data",
    "dns": dns.NAME,
    "mdns": dns.NAME,
    "llmnr": dns.NAME,
    "ntp": ntp.NAME,
    "dhcp": dhcp.NAME,
    "icmp": icmp.NAME,
    "icmpv6": icmp.NAME,
}
"""tshark's protocol name → this program's. Other protocols are not compared."""
DECODERS = {tls.NAME: "tls", ssh.NAME: "ssh", http.NAME: "http", ftp.NAME: "ftp", iec104.NAME: "iec60870_104"}
"""This program's name of a protocol over TCP → tshark's name for "decode as"."""

NUMBERS = {"igmp": 2, "gre": 47, "ah": 51, "ospf": 89, "pim": 103, "ipcomp": 108, "vrrp": 112, "sctp": 132}
"""tshark's protocol name → IP protocol number, for those that this program shows as ``ip-<number>``."""
ABOVE_IP = {"tcp": "tcp", "udp": "udp", "icmp": "icmp", "icmpv6": "icmpv6", "esp": "esp"}
ERRORS = {"icmp": (3, 4, 5, 11, 12), "icmpv6": (1, 2, 3, 4)}
"""ICMP types that quote a packet."""

LONGEST = (1 << 31) - 1
"""Packet length in bytes at which tshark's counter saturates."""

UNREADABLE = "its headers are contradictory or cut off; this program counts {} such packets and puts them in no flow"

End = tuple[str, int]
Key = tuple[str, frozenset[End]]
"""Transport and both ends; port 0 for transports without ports."""

APDUS = "IEC 104 APDUs"
"""The only fact that is a count; all others are sets of words."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between this program's and tshark's view of the flows between two ends."""

    subject: str
    """``flow``, ``packets``, ``bytes``, ``protocol``, or the name of a fact."""
    flow: str
    """Transport and ends."""
    ours: str | None
    theirs: str | None
    explanation: str | None
    """Why both are right; ``None``: one of the two is wrong."""
    frames: tuple[Frame, ...]
    filter: str


@dataclass(frozen=True, slots=True)
class Crosscheck:
    """Result of comparing all flows of captures with tshark."""

    captures: tuple[CaptureFile, ...]
    flows: int
    """Compared combinations of transport and ends."""
    facts: int
    """Compared facts."""
    differences: tuple[Difference, ...]
    """In capture order."""

    @property
    def agrees(self) -> bool:
        """Whether every difference has an explanation."""
        return all(difference.explanation is not None for difference in self.differences)


@dataclass(slots=True)
class View:
    """All flows between two ends, as this program or as tshark sees them."""

    sent: defaultdict[End, int] = field(default_factory=lambda: defaultdict(int))
    """Packets per sender."""
    bytes: int = 0
    protocols: set[str] = field(default_factory=set)
    facts: defaultdict[str, dict[str, list[Frame]]] = field(default_factory=lambda: defaultdict(dict))
    """Fact → value → frames that show it."""
    counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    frames: list[Frame] = field(default_factory=list)
    """The first :data:`SHOWN`."""
    malformed: set[Frame] = field(default_factory=set)
    """Packets that tshark calls malformed."""
    fragments: int = 0
    """Packets that are fragments of incomplete datagrams."""

    @property
    def packets(self) -> int:
        return sum(self.sent.values())

    def add(self, fact: str, values: Iterable[str], frame: Frame) -> None:
        """Record a frame that shows these values of a fact."""
        for value in values:
            append_frame(self.facts[fact].setdefault(value, []), frame)


def append_frame(frames: list[Frame], frame: Frame) -> None:
    if len(frames) < SHOWN:
        frames.append(frame)


def compare(captures: tuple[CaptureFile, ...], conversations: Conversations) -> Crosscheck:
    """Compare conversations with tshark's view of the captures that they were read from.

    Raises ``CaptureError`` for a file that tshark cannot read, and if tshark cannot be run.
    """
    ours, flows = our_views(conversations)
    theirs = tshark_views(captures, {})
    decode_as = disputed_ports(ours, theirs)
    second = tshark_views(captures, decode_as) if decode_as else theirs
    columns = conversations.table
    unreadable = sum(columns.counts.unreadable.values()) if columns is not None else 0
    unmatched = sum(view.packets - view.fragments for key, view in theirs.items() if key not in ours)
    explanation = UNREADABLE.format(unreadable) if unmatched <= unreadable else None
    found: list[Difference] = []
    facts = 0
    for key in sorted({*ours, *theirs}, key=lambda key: (first_frame(ours.get(key), theirs.get(key)), key[0])):
        our, their = ours.get(key), theirs.get(key)
        if our is None or their is None:
            found.append(missing_flow(key, our, their, explanation))
            continue
        decoded = second.get(key, their)
        found += differences(key, our, their, decoded, flows.get(key, []))
        facts += len({*our.facts, *their.facts, *our.counts, *their.counts})
    return Crosscheck(captures, len({*ours, *theirs}), facts, tuple(found))


def first_frame(*views: View | None) -> Frame:
    return min(view.frames[0] for view in views if view is not None and view.frames)


# -- this program's view ----------------------------------------------------------------------------------------


def our_views(conversations: Conversations) -> tuple[dict[Key, View], dict[Key, list[Conversation]]]:
    """The views by transport and ends, and the flows of each."""
    views: dict[Key, View] = {}
    flows: dict[Key, list[Conversation]] = {}
    columns = conversations.table
    for flow in conversations.expand():
        ends = (flow.originator.address, flow.originator.port or 0), (flow.responder.address, flow.responder.port or 0)
        key = flow.transport, frozenset(ends)
        view = views.setdefault(key, View())
        flows.setdefault(key, []).append(flow)
        for end, packets, copies in zip(ends, flow.packets, flow.copies, strict=True):
            view.sent[end] += packets + copies  # tshark counts copies as well
        view.bytes += sum(flow.bytes)
        append_frame(view.frames, flow.first_frame)
        if flow.protocol is not None:
            view.protocols.add(flow.protocol)
        for name, values in comparable_facts(flow):
            view.add(name, values, flow.first_frame)
        facts = flow.dissection.facts
        if isinstance(facts, iec104.Iec104Facts):
            view.counts[APDUS] += facts.apdus
        errors = len(flow.icmp_errors) if columns is None else int(columns.flow["errors"][flow.id - 1])
        for number, error in enumerate(flow.icmp_errors, 1):  # tshark puts them between router and host
            sent = (error.sender, 0), (ends[error.quoted][0], 0)
            control = views.setdefault(("icmpv6" if ":" in error.sender else "icmp", frozenset(sent)), View())
            control.sent[sent[0]] += 1
            if number == len(flow.icmp_errors):  # errors beyond the kept ones count as repetitions of the last
                control.sent[sent[0]] += errors - number
            control.protocols.add(icmp.NAME)
            append_frame(control.frames, error.frame)
    return views, flows


def comparable_facts(flow: Conversation) -> Iterator[tuple[str, Iterable[str]]]:
    """Facts that tshark shows as well: name and values."""
    facts = flow.dissection.facts
    if isinstance(facts, tls.TlsFacts):
        for name, value in (
            ("TLS version", facts.version),
            ("TLS cipher suite", facts.cipher_suite),
            ("TLS server name", facts.server_name),
        ):
            if value is not None and facts._hello_seen:
                yield name, [value]
    elif isinstance(facts, ike.IkeFacts):
        for header, items in ike.messages_of(flow.dissection.items):
            proposals = [proposal for _, proposal in messages(items, ike.Proposal)]
            if header.major == 2 and header.exchange == ike.IKE_SA_INIT and proposals:
                name = "IKE choice" if header.response else "IKE offer"
                yield name, [transforms(part for proposal in proposals for part in proposal.transforms)]
    elif isinstance(facts, ssh.SshFacts):
        yield "SSH banners", [banner for banner in (facts.client_banner, facts.server_banner) if banner]
    elif isinstance(facts, dns.DnsFacts):
        yield "DNS names", (name if name == dns.OTHERS else comparable_name(name) for name in facts.queries)
    elif isinstance(facts, ntp.NtpFacts):
        yield "NTP modes", map(str, facts.modes)
    elif isinstance(facts, dhcp.DhcpFacts):
        yield "DHCP messages", [name for name in facts.messages if not name.startswith("BOOT")]


def comparable_name(name: str) -> str:
    """A DNS name up to its first byte that is not printable ASCII, which the two programs escape differently."""
    return re.sub(r"(\\x[0-9a-f]{2}|[^ -~]).*", "?", "." if name == "<Root>" else name, flags=re.DOTALL)


def transforms(parts: Iterable[object]) -> str:
    """The transforms of all proposals in words, by type: tshark's fields do not show which proposal has which."""
    found: dict[int, list[str]] = {ike.ENCR: [], ike.INTEG: [], ike.PRF: [], ike.KE: []}
    for part in parts:
        if isinstance(part, ike.Transform) and part.type in found:
            found[part.type].append(ike.keyword(part) or "none")
    return "; ".join(" ".join(words) for words in found.values() if words)


# -- tshark's view ----------------------------------------------------------------------------------------------


Values = Mapping[str, Sequence[str]]


def tshark_views(captures: Sequence[CaptureFile], decode_as: Mapping[str, str]) -> dict[Key, View]:
    """The views by transport and ends; of tunnelled packets, those of the innermost one."""
    views: dict[Key, View] = {}
    query = client.Query(fields=FIELDS, decode_as=decode_as, preferences=PREFERENCES)
    for index, capture in enumerate(captures):
        pending: dict[tuple[str, ...], list[tuple[Frame, int]]] = {}
        for packet in client.run(capture.path, query):
            frame, length = Frame(index, int(packet["frame_number"][0])), int(packet["frame_len"][0])
            placed = locate(packet)
            if placed is None:
                continue
            key, sender, depth = placed
            datagram = fragmented_datagram(packet, depth)
            if datagram is not None and key[0] not in ("tcp", "udp", "icmp", "icmpv6", "esp"):
                pending.setdefault(datagram, []).append((frame, length))
                continue
            view = views.setdefault(key, View())
            for part, size in (*pending.pop(datagram or (), ()), (frame, length)):
                view.sent[sender] += 1
                view.bytes += size
                append_frame(view.frames, part)
            add_packet(view, packet, frame)
        for (source, destination, protocol, _), parts in pending.items():
            transport = transport_name(int(protocol))
            view = views.setdefault((transport, frozenset(((source, 0), (destination, 0)))), View())
            view.sent[source, 0] += len(parts)
            view.bytes += sum(size for _, size in parts)
            view.fragments += len(parts)
            view.frames += [frame for frame, _ in parts[:SHOWN]]
    return views


def locate(packet: Values) -> tuple[Key, End, int] | None:
    """Transport and ends of a packet, its sender, and the number of IP headers of the same version around its own.

    Tunnels are followed to the innermost packet, but not into what an ICMP error quotes. ``None``: not an IP packet.
    """
    depth = {"ip": 0, "ipv6": 0, "tcp": 0, "udp": 0}
    version, transport = "", ""
    for layer in packet["frame_protocols"][0].split(":"):
        if layer in ("ip", "ipv6"):
            version, transport = layer, ""
        if layer in depth:
            depth[layer] += 1
        if version and not transport and (layer in ABOVE_IP or layer in NUMBERS):
            transport = layer
            if transport in ("icmp", "icmpv6", "esp", "ah"):
                break
    if not version:
        return None
    level = depth[version] - 1
    addresses = [value_at(packet, f"{version}_{side}", level) for side in ("src", "dst")]
    if None in addresses:
        return None
    source, destination = (address or "" for address in addresses)
    ports = ("0", "0")
    if transport in ("tcp", "udp"):
        found = [value_at(packet, f"{transport}_{side}port", depth[transport] - 1) for side in ("src", "dst")]
        ports = (found[0] or "0", found[1] or "0")
    if transport in NUMBERS:
        transport = f"ip-{NUMBERS[transport]}"
    elif not transport:
        transport = f"ip-{value_at(packet, 'ip_proto' if version == 'ip' else 'ipv6_nxt', level)}"
    sender = source, int(ports[0])
    return (transport, frozenset((sender, (destination, int(ports[1]))))), sender, level


def value_at(packet: Values, name: str, index: int) -> str | None:
    """The value of a field at an index; ``None`` if there are fewer values."""
    values = packet.get(name, ())
    return values[index] if index < len(values) else None


def fragmented_datagram(packet: Values, level: int) -> tuple[str, ...] | None:
    """Addresses, protocol and identification of the datagram that a fragment belongs to; ``None``: not a fragment."""
    offset, more = value_at(packet, "ip_frag_offset", level), value_at(packet, "ip_flags_mf", level)
    if more in ("1", "True", "true") or offset not in (None, "0"):
        names = ("ip_src", "ip_dst", "ip_proto", "ip_id")
        return tuple(value_at(packet, name, level) or "0" for name in names)
    number = value_at(packet, "ipv6_fraghdr_ident", 0)
    if number is not None:
        return value_at(packet, "ipv6_src", level) or "", value_at(packet, "ipv6_dst", level) or "", "0", number
    return None


def add_packet(view: View, packet: Values, frame: Frame) -> None:
    """Add protocols and facts of one packet to a view, except those of a packet that an ICMP error quotes."""
    layers = packet["frame_protocols"][0].split(":")
    for layer in layers:
        if layer in NAMES:
            view.protocols.add(NAMES[layer])
        if layer in ERRORS:
            return
    if "_ws_malformed" in packet:
        view.malformed.add(frame)
    types = packet.get("tls_handshake_type", ())
    if "2" in types and "1" not in types:
        version = packet.get("tls_handshake_extensions_supported_version") or packet.get("tls_handshake_version", ())
        view.add("TLS version", [version_name(int(value, 0)) for value in version[-1:]], frame)
        suites = packet.get("tls_handshake_ciphersuite", ())
        view.add("TLS cipher suite", [cipher_suite_name(int(value, 0)) for value in suites[-1:]], frame)
    view.add("TLS server name", packet.get("tls_handshake_extensions_server_name", ()), frame)
    if packet.get("isakmp_exchangetype", ()) == [str(ike.IKE_SA_INIT)] and "isakmp_tf_type" in packet:
        response = int(packet["isakmp_flags"][0], 0) & 0x20
        view.add("IKE choice" if response else "IKE offer", [transforms(isakmp_transforms(packet))], frame)
    view.add("SSH banners", packet.get("ssh_protocol", ()), frame)
    if packet.get("dns_flags_response", ("1",))[0] in ("0", "False", "false") and "nbns" not in layers:
        view.add("DNS names", map(comparable_name, packet.get("dns_qry_name", ())), frame)
    view.add("NTP modes", packet.get("ntp_flags_mode", ()), frame)
    types = packet.get("dhcp_option_dhcp", ())
    view.add("DHCP messages", (dhcp.MESSAGE_TYPES.get(int(value), value) for value in types), frame)
    apdus = len(packet.get("iec60870_104_type", ()))
    if apdus:
        view.counts[APDUS] += apdus


def isakmp_transforms(packet: Values) -> Iterator[ike.Transform]:
    """The transforms of an SA payload, reassembled from tshark's flat lists of values."""
    lists = {
        ike.ENCR: iter(packet.get("isakmp_tf_id_encr", ())),
        ike.PRF: iter(packet.get("isakmp_tf_id_prf", ())),
        ike.INTEG: iter(packet.get("isakmp_tf_id_integ", ())),
        ike.KE: iter(packet.get("isakmp_tf_id_dh", ())),
    }
    lengths = iter(packet.get("isakmp_ike2_attr_key_length", ()))
    for kind in map(int, packet["isakmp_tf_type"]):
        number = next(lists[kind], None) if kind in lists else None
        if number is not None:
            sized = kind == ike.ENCR and "{}" in ike.ENCRYPTION.get(int(number), "")
            length = next(lengths, None) if sized else None
            yield ike.Transform(kind, int(number), None if length is None else int(length))


# -- the comparison ---------------------------------------------------------------------------------------------


def disputed_ports(ours: Mapping[Key, View], theirs: Mapping[Key, View]) -> dict[str, str]:
    """Ports whose protocol tshark may have guessed from the number → the protocol to decode them as."""
    found: dict[str, str] = {}
    for key, our in ours.items():
        their = theirs.get(key)
        names = our.protocols & DECODERS.keys()
        if key[0] == "tcp" and their is not None and names and not names <= their.protocols:
            port = min(number for _, number in key[1])
            found.setdefault(f"tcp.port=={port}", DECODERS[sorted(names)[0]])
    return found


def missing_flow(key: Key, ours: View | None, theirs: View | None, explanation: str | None) -> Difference:
    """A flow that only one of the two sees; ``explanation`` applies to flows that only tshark sees."""
    view = ours or theirs
    assert view is not None
    if theirs is None:
        explanation = None
    elif theirs.fragments == theirs.packets:
        explanation = "fragments of datagrams that never became whole: without the first one nobody knows the flow"
    packets = packets_text(view)
    return difference(key, "flow", packets if ours else None, packets if theirs else None, explanation, view.frames)


def difference(
    key: Key, subject: str, ours: object, theirs: object, explanation: str | None, frames: Iterable[Frame]
) -> Difference:
    transport, ends = key
    flow = " ".join((transport, *(str(Endpoint(address, port or None)) for address, port in sorted(ends))))
    our, their = (None if value is None else str(value) for value in (ours, theirs))
    shown = tuple(sorted(set(frames))[:SHOWN])
    return Difference(subject, flow, our, their, explanation, shown, frames_filter(shown))


def differences(
    key: Key, ours: View, theirs: View, decoded: View, flows: Sequence[Conversation]
) -> Iterator[Difference]:
    """All differences between two views of the flows between two ends.

    ``decoded`` is tshark's view with the disputed ports decoded as the protocols that this program found.
    """
    frames = theirs.frames
    if +Counter(ours.sent) != +Counter(theirs.sent):
        yield difference(key, "packets", packets_text(ours), packets_text(theirs), None, frames)
    elif ours.bytes != theirs.bytes and not any(sum(flow.copies) for flow in flows) and key[0] not in ERRORS:
        too_long = "a packet says that it was longer than tshark can count" if theirs.bytes >= LONGEST else None
        yield difference(key, "bytes", ours.bytes, theirs.bytes, too_long, frames)
    if ours.protocols and theirs.protocols and not ours.protocols & theirs.protocols:
        agreed = ours.protocols & decoded.protocols
        explanation = "tshark goes by the port number; told what the port carries, it agrees" if agreed else None
        names, others = (", ".join(sorted(view.protocols)) for view in (ours, theirs))
        yield difference(key, "protocol", names, others, explanation, frames)
    for fact in sorted({*ours.facts, *decoded.facts}):
        our, their = ours.facts[fact], decoded.facts[fact]
        if our.keys() != their.keys():
            extra, missing = sorted(our.keys() - their.keys()), sorted(their.keys() - our.keys())
            shown = [frame for value in missing for frame in their[value]] or frames
            explanation = explain(fact, extra, flows)
            if explanation is None and not extra and set(shown) <= theirs.malformed:
                explanation = "tshark calls the packet malformed, and shows what it could read of it"
            yield difference(key, fact, ", ".join(extra) or None, ", ".join(missing) or None, explanation, shown)
    for fact in sorted({*ours.counts, *decoded.counts}):
        if ours.counts[fact] != decoded.counts[fact]:
            yield difference(key, fact, ours.counts[fact], decoded.counts[fact], explain(fact, [], flows), frames)


def packets_text(view: View) -> str:
    """Packets by sender: ``3 from 10.0.0.2:40000, 2 from 10.0.9.1:3001``."""
    return ", ".join(
        f"{count} from {Endpoint(end[0], end[1] or None)}" for end, count in sorted(view.sent.items()) if count
    )


def explain(fact: str, extra: Sequence[str], flows: Sequence[Conversation]) -> str | None:
    """Why a fact differs although both are right; ``extra`` are the values that only this program shows."""
    all_facts = [flow.dissection.facts for flow in flows]
    for facts in all_facts:
        if isinstance(facts, iec104.Iec104Facts) and fact == APDUS:
            if facts.dialect == "lrr":
                return "the LRR's dialect, of which tshark reads only what looks like the standard's"
            if facts.gaps:
                return "the capture lacks bytes of the stream, and tshark reads none behind them"
        if isinstance(facts, ssh.SshFacts) and facts.preface_lines:
            return "other lines stand before the banner (RFC 4253, 4.2), which tshark does not pass over"
        if isinstance(facts, tls.TlsFacts) and facts.version == "SSL 2.0":
            return "tshark's fields do not tell what SSL 2.0 chose"
    if extra and set(extra) != {dns.OTHERS}:
        return None
    if fact.startswith("TLS") and not any(isinstance(facts, tls.TlsFacts) for facts in all_facts):
        return "the flow begins as another protocol, which it is called here, and goes on in TLS"
    anomalies = [error.anomaly for flow in flows for error in flow.dissection.parse_errors]
    if anomalies:
        return f"a message is broken off ({anomalies[0].reason}), of which tshark shows the beginning"
    if extra or any(sum(flow.packets) > len(flow.head.datagrams) for flow in flows if flow.transport != "tcp"):
        return "this program keeps the first messages of a flow only, and so many names"
    return None
