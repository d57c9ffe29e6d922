"""The second opinion: this program's flows, protocols and facts beside those of tshark, and where they differ.

Both read the same files, each in its own way. What follows from a known difference of the ways is explained, and does
not count as disagreement; all else is an error of one of the two. tshark reads hostile bytes here, so that it runs only
when a user asks for the comparison (see :mod:`analyzer.tshark`).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from analyzer import tshark
from analyzer.capture import CaptureFile
from analyzer.conversations import Conversation, Endpoint
from analyzer.findings import frames_filter
from analyzer.flows import TRANSPORTS
from analyzer.heads import Frame
from analyzer.messages import messages
from analyzer.pipeline import Path, as_paths, listing
from analyzer.protocols import dhcp, dns, ftp, http, icmp, iec104, ike, ntp, ssh, tls
from analyzer.protocols.tls.registry import cipher_suite_name, version_name
from analyzer.result import FlowListing

SHOWN = 8
"""Frames that a difference cites at the most."""

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
"""Content before port numbers, as far as tshark can: its heuristics for UDP would call more things DNS."""

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
"""tshark's name of a protocol → this program's. Others are not compared."""
DECODERS = {tls.NAME: "tls", ssh.NAME: "ssh", http.NAME: "http", ftp.NAME: "ftp", iec104.NAME: "iec60870_104"}
"""This program's name of a protocol over TCP → what tshark is told to decode a port as."""

NUMBERS = {"igmp": 2, "gre": 47, "ah": 51, "ospf": 89, "pim": 103, "ipcomp": 108, "vrrp": 112, "sctp": 132}
"""tshark's names of protocols above IP that are numbers here."""
ABOVE_IP = {"tcp": "tcp", "udp": "udp", "icmp": "icmp", "icmpv6": "icmpv6", "esp": "esp"}
ERRORS = {"icmp": (3, 4, 5, 11, 12), "icmpv6": (1, 2, 3, 4)}
"""Types of ICMP messages that quote a packet."""

LONGEST = (1 << 31) - 1
"""Bytes of a packet at which tshark stops counting."""

UNREADABLE = "its headers are contradictory or cut off; this program counts {} such packets and puts them in no flow"

End = tuple[str, int]
Key = tuple[str, frozenset[End]]
"""Transport and both ends; port 0 where there is none."""

APDUS = "IEC 104 APDUs"
"""The one fact that is a count; all others are sets of words."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that this program and tshark see otherwise."""

    subject: str
    """``flow``, ``packets``, ``bytes``, ``protocol``, or the name of a fact."""
    flow: str
    """Transport and ends of all flows between them."""
    ours: str | None
    theirs: str | None
    explanation: str | None
    """Why both are right in their ways; ``None``: one of the two is wrong."""
    frames: tuple[Frame, ...]
    filter: str


@dataclass(frozen=True, slots=True)
class Crosscheck:
    """The comparison of all flows of captures."""

    captures: tuple[CaptureFile, ...]
    flows: int
    """Compared: pairs of ends with their transport."""
    facts: int
    """Compared."""
    differences: tuple[Difference, ...]
    """In the order of the capture."""

    @property
    def agrees(self) -> bool:
        """Whether each difference is explained."""
        return all(each.explanation is not None for each in self.differences)


@dataclass(slots=True)
class View:
    """What one of the two sees of all flows between two ends."""

    sent: defaultdict[End, int] = field(default_factory=lambda: defaultdict(int))
    """Packets by who sent them."""
    bytes: int = 0
    protocols: set[str] = field(default_factory=set)
    facts: defaultdict[str, dict[str, list[Frame]]] = field(default_factory=lambda: defaultdict(dict))
    """Name → value → frames that show it."""
    counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    frames: list[Frame] = field(default_factory=list)
    """The first few."""
    malformed: set[Frame] = field(default_factory=set)
    """tshark's: packets that it calls malformed."""
    pieces: int = 0
    """Packets that are fragments of datagrams which never became whole."""

    @property
    def packets(self) -> int:
        return sum(self.sent.values())

    def learn(self, name: str, values: Iterable[str], frame: Frame) -> None:
        for value in values:
            note(self.facts[name].setdefault(value, []), frame)


def note(frames: list[Frame], frame: Frame) -> None:
    if len(frames) < SHOWN:
        frames.append(frame)


def crosscheck(captures: Path | Sequence[Path]) -> Crosscheck:
    """Compare what this program and tshark see in captures.

    ``CaptureError`` for a file that either of them cannot read, and if tshark cannot be run.
    """
    read = listing(as_paths(captures))
    ours, origins = our_views(read)
    theirs = tshark_views(read.captures, {})
    told = disputed_ports(ours, theirs)
    again = tshark_views(read.captures, told) if told else theirs
    columns = read.conversations.columns
    unreadable = sum(columns.counts.unreadable.values()) if columns is not None else 0
    alone = [view.packets - view.pieces for key, view in theirs.items() if key not in ours]
    why = UNREADABLE.format(unreadable) if sum(alone) <= unreadable else None
    found: list[Difference] = []
    facts = 0
    for key in sorted({*ours, *theirs}, key=lambda key: (first_frame(ours.get(key), theirs.get(key)), key[0])):
        one, two = ours.get(key), theirs.get(key)
        if one is None or two is None:
            found.append(absence(key, one, two, why))
            continue
        view = again.get(key, two)
        found += differences(key, one, two, view, origins.get(key, []))
        facts += len({*one.facts, *two.facts, *one.counts, *two.counts})
    return Crosscheck(read.captures, len({*ours, *theirs}), facts, tuple(found))


def first_frame(*views: View | None) -> Frame:
    return min(each.frames[0] for each in views if each is not None and each.frames)


# -- this program's view ----------------------------------------------------------------------------------------


def our_views(read: FlowListing) -> tuple[dict[Key, View], dict[Key, list[Conversation]]]:
    """By ends; and the flows themselves."""
    views: dict[Key, View] = {}
    origins: dict[Key, list[Conversation]] = {}
    columns = read.conversations.columns
    for each in read.conversations.expand():
        ends = (each.originator.address, each.originator.port or 0), (each.responder.address, each.responder.port or 0)
        key = each.transport, frozenset(ends)
        view = views.setdefault(key, View())
        origins.setdefault(key, []).append(each)
        for end, packets, copies in zip(ends, each.packets, each.copies, strict=True):
            view.sent[end] += packets + copies  # tshark counts copies, too
        view.bytes += sum(each.bytes)
        note(view.frames, each.first_frame)
        if each.protocol is not None:
            view.protocols.add(each.protocol)
        for name, values in facts_of(each):
            view.learn(name, values, each.first_frame)
        facts = each.dissection.facts
        if isinstance(facts, iec104.Iec104Facts):
            view.counts[APDUS] += facts.apdus
        count = len(each.icmp_errors) if columns is None else int(columns.flow["errors"][each.id - 1])
        for number, error in enumerate(each.icmp_errors, 1):  # tshark shows them between router and host
            sent = (error.sender, 0), (ends[error.quoted][0], 0)
            control = views.setdefault(("icmpv6" if ":" in error.sender else "icmp", frozenset(sent)), View())
            control.sent[sent[0]] += 1
            if number == len(each.icmp_errors):  # not all are kept: the others are held for more of the last one
                control.sent[sent[0]] += count - number
            control.protocols.add(icmp.NAME)
            note(control.frames, error.frame)
    return views, origins


def facts_of(each: Conversation) -> Iterator[tuple[str, Iterable[str]]]:
    """What tshark tells as well, in words."""
    facts = each.dissection.facts
    if isinstance(facts, tls.TlsFacts):
        for name, value in (
            ("TLS version", facts.version),
            ("TLS cipher suite", facts.cipher_suite),
            ("TLS server name", facts.server_name),
        ):
            if value is not None and facts._hello_seen:
                yield name, [value]
    elif isinstance(facts, ike.IkeFacts):
        for header, items in ike.messages_of(each.dissection.items):
            parts = [proposal for _, proposal in messages(items, ike.Proposal)]
            if header.major == 2 and header.exchange == ike.IKE_SA_INIT and parts:
                name = "IKE choice" if header.response else "IKE offer"
                yield name, [transforms(one for part in parts for one in part.transforms)]
    elif isinstance(facts, ssh.SshFacts):
        yield "SSH banners", [banner for banner in (facts.client_banner, facts.server_banner) if banner]
    elif isinstance(facts, dns.DnsFacts):
        yield "DNS names", (name if name == dns.OTHERS else plain(name) for name in facts.queries)
    elif isinstance(facts, ntp.NtpFacts):
        yield "NTP modes", map(str, facts.modes)
    elif isinstance(facts, dhcp.DhcpFacts):
        yield "DHCP messages", [name for name in facts.messages if not name.startswith("BOOT")]


def plain(name: str) -> str:
    """A DNS name up to the first byte that is no printable ASCII: from there on each shows it in its own way."""
    return re.sub(r"(\\x[0-9a-f]{2}|[^ -~]).*", "?", "." if name == "<Root>" else name, flags=re.DOTALL)


def transforms(parts: Iterable[object]) -> str:
    """Transforms of all proposals in words, those of a type together: tshark's fields do not tell them apart by
    proposal."""
    found: dict[int, list[str]] = {ike.ENCR: [], ike.INTEG: [], ike.PRF: [], ike.KE: []}
    for each in parts:
        if isinstance(each, ike.Transform) and each.type in found:
            found[each.type].append(ike.keyword(each) or "none")
    return "; ".join(" ".join(words) for words in found.values() if words)


# -- tshark's view ----------------------------------------------------------------------------------------------


Values = Mapping[str, Sequence[str]]


def tshark_views(captures: Sequence[CaptureFile], decode_as: Mapping[str, str]) -> dict[Key, View]:
    """By ends; the innermost of packets in tunnels."""
    views: dict[Key, View] = {}
    question = tshark.Question(fields=FIELDS, decode_as=decode_as, preferences=PREFERENCES)
    for index, capture in enumerate(captures):
        pieces: dict[tuple[str, ...], list[tuple[Frame, int]]] = {}
        for told in tshark.ask(capture.path, question):
            frame, length = Frame(index, int(told["frame_number"][0])), int(told["frame_len"][0])
            placed = place(told)
            if placed is None:
                continue
            key, sender, depth = placed
            datagram = datagram_of(told, depth)
            if datagram is not None and key[0] not in ("tcp", "udp", "icmp", "icmpv6", "esp"):
                pieces.setdefault(datagram, []).append((frame, length))
                continue
            view = views.setdefault(key, View())
            for each, size in (*pieces.pop(datagram or (), ()), (frame, length)):
                view.sent[sender] += 1
                view.bytes += size
                note(view.frames, each)
            learn(view, told, frame)
        for (source, destination, protocol, _), parts in pieces.items():
            transport = TRANSPORTS.get(int(protocol), f"ip-{protocol}")
            view = views.setdefault((transport, frozenset(((source, 0), (destination, 0)))), View())
            view.sent[source, 0] += len(parts)
            view.bytes += sum(size for _, size in parts)
            view.pieces += len(parts)
            view.frames += [each for each, _ in parts[:SHOWN]]
    return views


def place(told: Values) -> tuple[Key, End, int] | None:
    """Ends and transport of a packet, its sender, and how many IP headers of the same version are around its own: the
    innermost that is not quoted by an ICMP error. ``None``: it has no IP."""
    depth = {"ip": 0, "ipv6": 0, "tcp": 0, "udp": 0}
    version, transport = "", ""
    for layer in told["frame_protocols"][0].split(":"):
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
    addresses = [at(told, f"{version}_{side}", level) for side in ("src", "dst")]
    if None in addresses:
        return None
    source, destination = (address or "" for address in addresses)
    ports = ("0", "0")
    if transport in ("tcp", "udp"):
        found = [at(told, f"{transport}_{side}port", depth[transport] - 1) for side in ("src", "dst")]
        ports = (found[0] or "0", found[1] or "0")
    if transport in NUMBERS:
        transport = f"ip-{NUMBERS[transport]}"
    elif not transport:
        transport = f"ip-{at(told, 'ip_proto' if version == 'ip' else 'ipv6_nxt', level)}"
    sender = source, int(ports[0])
    return (transport, frozenset((sender, (destination, int(ports[1]))))), sender, level


def at(told: Values, name: str, index: int) -> str | None:
    """One of several values of a field."""
    values = told.get(name, ())
    return values[index] if index < len(values) else None


def datagram_of(told: Values, level: int) -> tuple[str, ...] | None:
    """Addresses, protocol and number of the datagram that a fragment belongs to; ``None``: it is whole."""
    offset, more = at(told, "ip_frag_offset", level), at(told, "ip_flags_mf", level)
    if more in ("1", "True", "true") or offset not in (None, "0"):
        names = ("ip_src", "ip_dst", "ip_proto", "ip_id")
        return tuple(at(told, name, level) or "0" for name in names)
    number = at(told, "ipv6_fraghdr_ident", 0)
    if number is not None:
        return at(told, "ipv6_src", level) or "", at(told, "ipv6_dst", level) or "", "0", number
    return None


def learn(view: View, told: Values, frame: Frame) -> None:
    """Add what tshark tells of one packet; not of what an ICMP error quotes."""
    layers = told["frame_protocols"][0].split(":")
    for layer in layers:
        if layer in NAMES:
            view.protocols.add(NAMES[layer])
        if layer in ERRORS:
            return
    if "_ws_malformed" in told:
        view.malformed.add(frame)
    types = told.get("tls_handshake_type", ())
    if "2" in types and "1" not in types:
        version = told.get("tls_handshake_extensions_supported_version") or told.get("tls_handshake_version", ())
        view.learn("TLS version", [version_name(int(each, 0)) for each in version[-1:]], frame)
        suites = told.get("tls_handshake_ciphersuite", ())
        view.learn("TLS cipher suite", [cipher_suite_name(int(each, 0)) for each in suites[-1:]], frame)
    view.learn("TLS server name", told.get("tls_handshake_extensions_server_name", ()), frame)
    if told.get("isakmp_exchangetype", ()) == [str(ike.IKE_SA_INIT)] and "isakmp_tf_type" in told:
        response = int(told["isakmp_flags"][0], 0) & 0x20
        view.learn("IKE choice" if response else "IKE offer", [transforms(isakmp_transforms(told))], frame)
    view.learn("SSH banners", told.get("ssh_protocol", ()), frame)
    if told.get("dns_flags_response", ("1",))[0] in ("0", "False", "false") and "nbns" not in layers:
        view.learn("DNS names", map(plain, told.get("dns_qry_name", ())), frame)
    view.learn("NTP modes", told.get("ntp_flags_mode", ()), frame)
    view.learn(
        "DHCP messages", (dhcp.MESSAGE_TYPES.get(int(each), each) for each in told.get("dhcp_option_dhcp", ())), frame
    )
    apdus = len(told.get("iec60870_104_type", ()))
    if apdus:
        view.counts[APDUS] += apdus


def isakmp_transforms(told: Values) -> Iterator[ike.Transform]:
    """The transforms of an SA payload, put together again from tshark's lists."""
    lists = {
        ike.ENCR: iter(told.get("isakmp_tf_id_encr", ())),
        ike.PRF: iter(told.get("isakmp_tf_id_prf", ())),
        ike.INTEG: iter(told.get("isakmp_tf_id_integ", ())),
        ike.KE: iter(told.get("isakmp_tf_id_dh", ())),
    }
    lengths = iter(told.get("isakmp_ike2_attr_key_length", ()))
    for kind in map(int, told["isakmp_tf_type"]):
        number = next(lists[kind], None) if kind in lists else None
        if number is not None:
            sized = kind == ike.ENCR and "{}" in ike.ENCRYPTION.get(int(number), "")
            length = next(lengths, None) if sized else None
            yield ike.Transform(kind, int(number), None if length is None else int(length))


# -- the comparison ---------------------------------------------------------------------------------------------


def disputed_ports(ours: Mapping[Key, View], theirs: Mapping[Key, View]) -> dict[str, str]:
    """Ports whose content tshark may have named by the number, and what to tell it instead."""
    found: dict[str, str] = {}
    for key, one in ours.items():
        two = theirs.get(key)
        names = one.protocols & DECODERS.keys()
        if key[0] == "tcp" and two is not None and names and not names <= two.protocols:
            port = min(number for _, number in key[1])
            found.setdefault(f"tcp.port=={port}", DECODERS[sorted(names)[0]])
    return found


def absence(key: Key, ours: View | None, theirs: View | None, why: str | None) -> Difference:
    """A flow that only one of the two sees. ``why``: explains those of tshark."""
    there = ours or theirs
    assert there is not None
    if theirs is None:
        why = None
    elif theirs.pieces == theirs.packets:
        why = "fragments of datagrams that never became whole: without the first one nobody knows the flow"
    packets = sent(there)
    return difference(key, "flow", packets if ours else None, packets if theirs else None, why, there.frames)


def difference(
    key: Key, subject: str, ours: object, theirs: object, why: str | None, frames: Iterable[Frame]
) -> Difference:
    transport, ends = key
    flow = " ".join((transport, *(str(Endpoint(address, port or None)) for address, port in sorted(ends))))
    one, two = (None if each is None else str(each) for each in (ours, theirs))
    shown = tuple(sorted(set(frames))[:SHOWN])
    return Difference(subject, flow, one, two, why, shown, frames_filter(shown))


def differences(key: Key, ours: View, theirs: View, again: View, flows: Sequence[Conversation]) -> Iterator[Difference]:
    """How both see the flows between two ends. ``again``: what tshark says once it is told what ports carry."""
    frames = theirs.frames
    if +counted(ours) != +counted(theirs):
        yield difference(key, "packets", sent(ours), sent(theirs), None, frames)
    elif ours.bytes != theirs.bytes and not any(sum(each.copies) for each in flows) and key[0] not in ERRORS:
        why = "a packet says that it was longer than tshark can count" if theirs.bytes >= LONGEST else None
        yield difference(key, "bytes", ours.bytes, theirs.bytes, why, frames)
    if ours.protocols and theirs.protocols and not ours.protocols & theirs.protocols:
        agreed = ours.protocols & again.protocols
        why = "tshark goes by the port number; told what the port carries, it agrees" if agreed else None
        names, others = (", ".join(sorted(each.protocols)) for each in (ours, theirs))
        yield difference(key, "protocol", names, others, why, frames)
    for fact in sorted({*ours.facts, *again.facts}):
        one, two = ours.facts[fact], again.facts[fact]
        if one.keys() != two.keys():
            own, other = sorted(one.keys() - two.keys()), sorted(two.keys() - one.keys())
            shown = [frame for value in other for frame in two[value]] or frames
            why = explained(fact, own, flows)
            if why is None and not own and set(shown) <= theirs.malformed:
                why = "tshark calls the packet malformed, and shows what it could read of it"
            yield difference(key, fact, ", ".join(own) or None, ", ".join(other) or None, why, shown)
    for fact in sorted({*ours.counts, *again.counts}):
        if ours.counts[fact] != again.counts[fact]:
            yield difference(key, fact, ours.counts[fact], again.counts[fact], explained(fact, [], flows), frames)


def counted(view: View) -> Counter[End]:
    return Counter(view.sent)


def sent(view: View) -> str:
    """Packets by sender, in words."""
    return ", ".join(
        f"{count} from {Endpoint(end[0], end[1] or None)}" for end, count in sorted(view.sent.items()) if count
    )


def explained(fact: str, own: Sequence[str], flows: Sequence[Conversation]) -> str | None:
    """Why a fact differs although both are right; ``own``: what only this program says."""
    facts = [each.dissection.facts for each in flows]
    for each in facts:
        if isinstance(each, iec104.Iec104Facts) and fact == APDUS:
            if each.dialect == "lrr":
                return "the LRR's dialect, of which tshark reads only what looks like the standard's"
            if each.gaps:
                return "the capture lacks bytes of the stream, and tshark reads none behind them"
        if isinstance(each, ssh.SshFacts) and each.preface_lines:
            return "other lines stand before the banner (RFC 4253, 4.2), which tshark does not pass over"
        if isinstance(each, tls.TlsFacts) and each.version == "SSL 2.0":
            return "tshark's fields do not tell what SSL 2.0 chose"
    if own and set(own) != {dns.OTHERS}:
        return None
    if fact.startswith("TLS") and not any(isinstance(each, tls.TlsFacts) for each in facts):
        return "the flow begins as another protocol, which it is called here, and goes on in TLS"
    broken = [one.anomaly for each in flows for one in each.dissection.breaks]
    if broken:
        return f"a message is broken off ({broken[0].reason}), of which tshark shows the beginning"
    if own or any(sum(each.packets) > len(each.head.datagrams) for each in flows if each.transport != "tcp"):
        return "this program keeps the first messages of a flow only, and so many names"
    return None
