"""A hand-made audit with one of everything."""

from __future__ import annotations

from dataclasses import replace

from analyzer.capture import CaptureFacts, CaptureFile
from analyzer.conversations import Conversation, Conversations, Endpoint, State
from analyzer.expected import Deployment, load
from analyzer.findings import Finding, Kind, Severity
from analyzer.heads import Datagram, Direction, Frame, Head
from analyzer.messages import Facts
from analyzer.protocols import Dissection
from analyzer.protocols.tls import TlsFacts
from analyzer.protocols.tls.certificates import X509Certificate
from analyzer.reports import FORMATS
from analyzer.result import Audit, AuditTotals
from analyzer.stations import Station
from analyzer.verdicts import Certainty, RowVerdict, StationVerdict, Status

START = 1_795_329_420_123_456_000
"""2026-11-22T06:37:00.123456Z"""
SECOND = 1_000_000_000


TOTALS = AuditTotals(
    packets=1236,
    packets_in_flows=1220,
    packets_of_base_stations=1200,
    packets_out_of_scope=20,
    icmp_errors=3,
    copies=2,
    packets_without_ip=10,
    packets_unreadable=1,
    flows=7,
    flows_out_of_scope=1,
    without_ip={"ARP": 8, "LLDP": 2},
    unreadable={"IPv4 header is cut": 1},
)
NOTHING = AuditTotals(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {}, {})

BARE = Audit(
    profile="tpe-self-hosted",
    deployment=Deployment.STANDALONE,
    captures=(),
    base_stations=(),
    findings=(),
    conversations=Conversations(()),
    flow_rows={},
    flow_stations={},
    totals=NOTHING,
)


GW = CaptureFile("gw.pcap", "pcap", 1000, 345_678, START, START + 300 * SECOND, 6)
EMPTY = CaptureFile("empty.pcap", "pcap", 0, 24, None, None, 6)
NANO = CaptureFile(
    "nano.pcapng",
    "pcapng",
    234,
    99_000,
    START + 1,
    START + 9_999_999_999,
    9,
    ("ends in the middle of packet 235",),
    CaptureFacts(
        compression="zstd",
        frame_check_bytes=4,
        lost=0,
        names={"10.0.0.2": ("gw.example", "gw")},
        secrets={"TLS key log": 176},
        skipped={"custom": 2},
    ),
)


BASE_STATION = Endpoint("10.0.0.2", 50000)
SERVER = Endpoint("10.0.9.1", 3001)


def flow(
    number: int,
    originator: Endpoint = BASE_STATION,
    responder: Endpoint = SERVER,
    transport: str = "tcp",
    protocol: str | None = "tls",
    state: State = State.ESTABLISHED,
    facts: Facts | None = None,
    capture: int = 0,
    certain: bool = True,
    head: Head | None = None,
    notes: tuple[str, ...] = (),
) -> Conversation:
    return Conversation(
        id=number,
        transport=transport,
        originator=originator,
        responder=responder,
        originator_certain=certain,
        state=state,
        packets=(10, 8),
        bytes=(1500, 4200),
        payload=(900, 3600),
        first=START + number * SECOND,
        last=START + number * SECOND + 1_500_000_000,
        first_frame=Frame(capture, 10 * number),
        last_frame=Frame(capture, 10 * number + 9),
        macs=("02:42:ac:11:00:02", "02:42:ac:11:00:01"),
        head=head or Head(transport),
        dissection=Dissection(protocol, facts=facts),
        notes=notes,
    )


ECHO = Head("icmp", datagrams=(Datagram(Direction.ORIGINATOR, b"\x08\x00\x00\x00", 64, Frame(0, 20), START),))

FLOWS = Conversations(
    (
        flow(
            1,
            facts=TlsFacts(
                offered_version="TLS 1.2",
                version="TLS 1.2",
                cipher_suite="TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                server_name="lrc1.example",
                certificates=(X509Certificate("CN=lrc1.example", not_after="2027-11-22T06:37:00Z"),),
                client_certificate=True,
            ),
            notes=("vlan 7",),
        ),
        flow(2, Endpoint("10.0.0.2", None), Endpoint("10.0.9.1", None), "icmp", "icmp", State.TWOWAY, head=ECHO),
        flow(3, responder=Endpoint("10.0.9.1", 22), protocol="ssh", state=State.MIDSTREAM, certain=False),
        flow(4, responder=Endpoint("192.0.2.80", 80), protocol=None, state=State.ATTEMPTED),
        flow(
            5,
            Endpoint("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", 500),
            Endpoint("2001:db8:1111:2222:3333:4444:5555:6666", 500),
            "udp",
            "ike",
            State.ONEWAY,
            capture=1,
        ),
        flow(6, Endpoint("10.0.0.2", None), Endpoint("10.0.9.1", None), "esp", "esp", State.ONEWAY),
        flow(7, responder=Endpoint("10.0.9.1", 3003), state=State.REJECTED, protocol=None),
    )
)

TABLES = load()


def row(
    mode: str,
    identifier: str,
    status: Status,
    flows: tuple[int, ...] = (),
    certainty: Certainty | None = None,
    reason: str | None = None,
) -> RowVerdict:
    expected = TABLES[mode].flow(identifier)
    return RowVerdict(expected, expected.standalone, status, certainty, reason, flows)


TLS_STATION = StationVerdict(
    Station("10.0.0.2", ("10.0.0.2", "fd00::2"), "02:42:ac:11:00:02", False, ("originates i38 to 10.0.9.1",)),
    "tls",
    ("i38 to 10.0.9.1, established",),
    ("10.0.9.1", "10.0.9.2"),
    (
        row("tls", "i3", Status.PRESENT, (2,)),
        row("tls", "i4", Status.UNDECIDED, (3,), reason="the packets cannot tell whether this is row i4 or i5"),
        row("tls", "i5", Status.UNDECIDED, (3,), reason="the packets cannot tell whether this is row i5 or i4"),
        row("tls", "i38", Status.MALFORMED, (1, 8, 9, 12, 13, 4711)),
        row(
            "tls",
            "i39",
            Status.MISSING,
            (),
            Certainty.WEAK,
            "it is used on demand only, and a capture of 300 s need not show it even if nothing at all is wrong",
        ),
        row(
            "tls",
            "i40",
            Status.BLOCKED,
            (7,),
            Certainty.FIRM,
            "10.0.9.1 reset the connection; watched for 300 s, more than two of its periods",
        ),
        row("tls", "n1", Status.ABSENT),
        row("tls", "n2", Status.PRESENT, (10,)),
        row("tls", "n3", Status.ABSENT),
        row("tls", "n4", Status.ABSENT),
    ),
)
UNKNOWN_STATION = StationVerdict(
    Station("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", ("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff",), None, True, ()),
    "unknown",
    (),
    (),
    (),
)


def finding(**changes: object) -> Finding:
    base = Finding(
        kind=Kind.MALFORMED,
        check="TPE301",
        slug="tls-certificate-expired",
        severity=Severity.MEDIUM,
        base_station="10.0.0.2",
        rows=("i38",),
        mismatch=None,
        flow=1,
        count=1,
        frames=(Frame(0, 12), Frame(0, 14)),
        time=START + SECOND,
        filter="tcp.stream eq 0 && tls.handshake.type == 11",
        summary="The server's certificate expired on 2025-01-01, before the capture was made.",
        remedy="Renew the certificate of the server that answers on port 3001.",
        peer="10.0.9.1",
        service="tcp/3001",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


FINDINGS = (
    finding(
        kind=Kind.NOTICE,
        check="TPE001",
        slug="capture-cut-short",
        severity=Severity.INFO,
        base_station=None,
        rows=(),
        flow=None,
        frames=(),
        time=None,
        filter=None,
        summary="The file nano.pcapng ends in the middle of packet 235.",
        remedy="Stop the capturing program before the file is copied.",
        peer=None,
        service=None,
    ),
    finding(
        kind=Kind.UNEXPECTED,
        check="TPE101",
        slug="unexpected-flow",
        severity=Severity.MEDIUM,
        rows=("i43",),
        mismatch="port",
        flow=4,
        count=65_535,
        frames=tuple(Frame(0, number) for number in range(40, 60)),
        filter="ip.addr == 10.0.0.2 && ip.addr == 192.0.2.80 && tcp.flags.syn == 1 && tcp.flags.ack == 0",
        summary="The base station opens TCP connections to 192.0.2.80, port 80, which no row of mode tls has.",
        remedy="Find out which program on the base station does so, and block it in the firewall.",
        peer="192.0.2.80",
        service="tcp",
    ),
    finding(),
    finding(
        check="TPE302",
        slug="tls-key-too-short",
        severity=Severity.HIGH,
        rows=("i38", "i39"),
        frames=(Frame(0, 12), Frame(1, 3)),
        summary="The server's RSA key has 1024 bits, which is short of the 2048 that are safe today.",
        remedy="Issue a certificate with an RSA key of 2048 bits or more, or with an elliptic curve key.",
    ),
    finding(
        kind=Kind.MISSING,
        check="TPE102",
        slug="row-blocked",
        severity=Severity.LOW,
        rows=("i40",),
        flow=7,
        frames=(Frame(0, 70),),
        summary="Row i40 was tried and never completed: every attempt was reset.",
        remedy="Open TCP/3003 from the base station to TPE.",
        service="tcp/3003",
    ),
)

EXAMPLE = replace(
    BARE,
    captures=(GW, NANO),
    base_stations=(TLS_STATION, UNKNOWN_STATION),
    findings=FINDINGS,
    conversations=FLOWS,
    flow_rows={1: ("i38",), 2: ("i3",), 3: ("i4", "i5"), 7: ("i40",)},
    flow_stations={1: "10.0.0.2", 2: "10.0.0.2", 3: "10.0.0.2", 4: "10.0.0.2", 6: "10.0.0.2", 7: "10.0.0.2"},
    totals=TOTALS,
)


def rendered(audit: Audit, name: str) -> bytes:
    """The report in one of the formats, as it is written to a file."""
    report = next(format_ for format_ in FORMATS if name == format_.name).render(audit)
    return report.encode() if isinstance(report, str) else report


HOSTILE = "\x1b[31mred\r\n\x00\x9b\u202e\ud8ff"
"""Text that an attacker may try to send to a terminal."""

HOSTILE_AUDIT = replace(
    BARE,
    profile=HOSTILE,
    captures=(replace(GW, path=HOSTILE, problems=(HOSTILE,)), replace(NANO, path="café \udcff.pcap")),
    base_stations=(
        replace(
            TLS_STATION,
            mode_evidence=(HOSTILE,),
            station=replace(TLS_STATION.station, evidence=(HOSTILE,)),
            rows=tuple(replace(verdict, reason=HOSTILE) for verdict in TLS_STATION.rows),
        ),
    ),
    findings=(finding(summary=HOSTILE * 20, remedy=HOSTILE, filter=HOSTILE, frames=(Frame(0, 1), Frame(1, 1))),),
    conversations=Conversations((flow(1, facts=TlsFacts(server_name=HOSTILE)),)),
    totals=replace(TOTALS, unreadable={HOSTILE: 1}),
)
