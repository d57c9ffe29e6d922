"""The scan of capture files: no buffer, table or file size changes its result, and no packet is lost."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import flows
from analyzer.conversations import FOLDED, dissect_flows
from analyzer.findings import Severity
from analyzer.flows import Flows
from analyzer.pipeline import audit
from analyzer.scanner import driver
from tests import build
from tests.build import ACK, FIN, RST, SERVER, STATION, SYN

PORT = 50000
HOSTS = [STATION, SERVER, build.RESOLVER]


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A packet among few hosts and ports, so that packets share flows."""
    source, destination = draw(st.permutations(HOSTS))[:2]
    ports = draw(st.sampled_from([(PORT, 443), (443, PORT), (PORT, 53), (53, PORT)]))
    kind = draw(st.integers(0, 9))
    payload = draw(
        st.sampled_from([b"", b"\x16\x03\x01\0\x05hello", b"GET / HTTP/1.0\r\n\r\n", b"\x17\x03\x03", bytes(60)])
    )
    if kind < 5:
        flags = draw(st.sampled_from([SYN, SYN | ACK, ACK, ACK, ACK, ACK | FIN, RST]))
        return build.tcp(source, ports[0], destination, ports[1], flags, draw(st.integers(0, 60)), payload)
    datagram = build.ip4(source, destination, 17, build.udp_datagram(*ports, payload + payload), identification=kind)
    if kind == 5:
        return draw(st.sampled_from([build.ethernet(part) for part in build.fragments(datagram, 16)]))
    if kind == 6:
        return build.icmp_error(build.ROUTER, source, 3, 1, build.ethernet(datagram))
    if kind == 7:
        return build.ethernet(build.ip4(source, destination, 47, b"\0\0\x08\0" + datagram))
    if kind == 8:
        return draw(st.sampled_from([build.echo(source, destination, 8, 1), build.ethernet(bytes(46), 0x0806)]))
    return build.ethernet(datagram)


FIELDS = (
    *("transport", "originator", "responder", "originator_certain", "state", "packets", "bytes", "payload"),
    *("first", "last", "macs", "notes", "retransmissions", "control"),
)
FRAME_FIELDS = ("first_frame", "last_frame", "refused", "icmp_errors", "head")
"""Fields of a conversation in which frame numbers occur."""


def content(found: Flows, with_frames: bool = True) -> list[Any]:
    """Counts, conversations and heads; without ``with_frames``, without their frame numbers."""
    names = FIELDS + FRAME_FIELDS if with_frames else FIELDS
    result: list[Any] = [found.counts]
    for conversation in dissect_flows(found).expand():
        result.append([getattr(conversation, name) for name in names])
        result.append((conversation.protocol, conversation.dissection.facts))
        result.append([(stream.data, stream.begins, stream.ends) for stream in conversation.head.streams])
        result.append([datagram._replace(frame=None) for datagram in conversation.head.datagrams])
    return result


@given(st.lists(frames(), max_size=20), st.sampled_from(["pcap", "pcapng"]))
def test_buffer_and_table_sizes_do_not_change_the_flows(drawn: list[bytes], kind: str) -> None:
    packets = build.timed(drawn)
    if kind == "pcap":
        data = build.pcap(packets, nanoseconds=True)
    else:
        data = build.section() + build.interface(resolution=9)
        data += b"".join(build.enhanced(packet.frame, packet.time) for packet in packets)
    whole = content(build.read_files(data, buffer_size=4 << 20))
    for size in (64, 100, 1000):
        assert content(build.read_files(data, buffer_size=size)) == whole
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "INITIAL_FLOWS", 2)
        assert content(build.read_files(data)) == whole


@given(st.lists(frames(), max_size=20), st.lists(st.integers(0, 20), max_size=5), st.randoms(use_true_random=False))
def test_packets_in_several_files_are_one_timeline(drawn: list[bytes], cuts: list[int], chance: random.Random) -> None:
    packets = build.timed(drawn)
    bounds = [0, *sorted(min(cut, len(packets)) for cut in cuts), len(packets)]
    parts = [build.pcap(packets[one:two], nanoseconds=True) for one, two in itertools.pairwise(bounds)]
    chance.shuffle(parts)
    whole = build.read_files(build.pcap(packets, nanoseconds=True))
    assert content(build.read_files(*parts), with_frames=False) == content(whole, with_frames=False)


@given(st.lists(frames(), max_size=20))
def test_every_packet_is_accounted_for(drawn: list[bytes]) -> None:
    found = build.read(drawn)
    assert build.accounted(found)
    assert found.counts.packets == len(drawn)


def test_flows_above_the_limit_are_folded_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folded by hosts and service; packets of further flows are counted."""
    monkeypatch.setattr(driver, "MAX_FLOWS", 40)
    drawn = [build.udp(STATION, 20000 + n, SERVER, 53, bytes(n)) for n in range(40)]
    drawn += [build.tcp(STATION, 30000 + n, SERVER, 443, SYN, n) for n in range(500)]
    drawn += [build.tcp(SERVER, 443, STATION, 30000 + n, SYN | ACK, n, b"") for n in range(500)]
    drawn += [build.echo(STATION, SERVER, 8, n) for n in range(300)]
    drawn += [build.udp(f"10.9.{n // 200}.{n % 200}", 5000, SERVER, 53, b"x") for n in range(400)]
    path = tmp_path / "flood.pcap"
    path.write_bytes(build.pcap(build.timed(drawn)))
    found = flows.read([str(path)])
    assert build.accounted(found)
    assert len(found) == 50
    assert found.counts.unreadable == {"too many flows to follow": 392}
    folded = [conversation for conversation in dissect_flows(found) if FOLDED in conversation.notes]
    tcp, icmp = folded[:2]
    assert (tcp.transport, tcp.originator, tcp.responder) == ("tcp", (STATION, None), (SERVER, 443))
    assert (icmp.transport, icmp.originator, icmp.responder) == ("icmp", (STATION, None), (SERVER, None))
    assert (tcp.packets, icmp.packets) == ((500, 500), (300, 0))
    assert found.counts.folded_flows == len(folded) == 10
    (notice,) = (finding for finding in audit(path).findings if finding.check == "TPE010")
    assert notice.count == 10
    assert notice.severity is Severity.MEDIUM
    monkeypatch.undo()
    assert "TPE010" not in {finding.check for finding in audit(path).findings}


def test_flows_do_not_depend_on_the_hash_secret() -> None:
    drawn = [build.udp(f"10.0.{n % 7}.{n % 200}", 1000 + n, SERVER, 53, b"x") for n in range(3000)]
    assert content(build.read(drawn)) == content(build.read(drawn))


# -- growth of the tables ---------------------------------------------------------------------------------------


@pytest.fixture
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "INITIAL_FLOWS", 1 << 8)


@pytest.mark.usefixtures("small_tables")
def test_the_flow_table_grows() -> None:
    frames = [build.udp(f"10.{n >> 8 & 255}.{n & 255}.1", 1024 + n, SERVER, 7000, b"hello") for n in range(10_000)]
    replies = [build.udp(SERVER, 7000, f"10.{n >> 8 & 255}.{n & 255}.1", 1024 + n, b"answer") for n in range(10_000)]
    found = build.read(frames + replies)
    assert len(found) == 10_000
    assert (found.side["packets"] == 1).all()
    assert found.flow["port0"].tolist() == list(range(1024, 11_024))
    assert found.flow["first_frame"].tolist() == list(range(1, 10_001))
    assert np.diff(found.piece_starts).tolist() == [2] * 10_000
    assert found.payload(int(found.pieces["arena"][19_999]), 6) == b"answer"


@pytest.mark.usefixtures("small_tables")
def test_the_arena_and_the_pieces_grow() -> None:
    noise = random.Random(3)
    payloads = [noise.randbytes(1400) for _ in range(20_000)]
    frames = [build.udp(STATION, 1024 + n // 40, SERVER, 7000, payload) for n, payload in enumerate(payloads)]
    found = build.read(frames)
    assert len(found.arena) > 3
    kept = [found.payload(int(row["arena"]), int(row["kept"])) for row in found.pieces]
    assert len(kept) == 20_000
    assert kept == payloads
