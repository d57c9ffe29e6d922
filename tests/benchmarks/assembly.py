"""Scripted traffic as columns of packets, and columns as the records of a pcap file."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tests.benchmarks.traffic import (
    ACK,
    BEGIN,
    CLIENT,
    ESP,
    ICMP,
    MSS,
    PSH,
    SECOND,
    SERVER,
    SYN,
    TCP,
    UDP,
    LongFlow,
    Schedule,
)

Column = npt.NDArray[Any]

RECORD = np.dtype(
    [
        *(("seconds", "<u4"), ("micros", "<u4"), ("captured", "<u4"), ("original", "<u4")),
        *(("to", "u1", 6), ("from", "u1", 6), ("ethertype", ">u2")),
        *(("version", "u1"), ("tos", "u1"), ("total", ">u2"), ("id", ">u2"), ("fragment", ">u2")),
        *(("ttl", "u1"), ("protocol", "u1"), ("ip_sum", ">u2"), ("source", ">u4"), ("destination", ">u4")),
        *(("sport", ">u2"), ("dport", ">u2"), ("seq", ">u4"), ("ack", ">u4")),
        *(("offset", "u1"), ("flags", "u1"), ("window", ">u2"), ("tcp_sum", ">u2"), ("urgent", ">u2")),
    ]
)
"""Headers of a pcap record, Ethernet, IPv4 and TCP. ``seq`` holds length and checksum of UDP."""
BEFORE_TRANSPORT = 16 + 14 + 20
HEADER = {TCP: 20, UDP: 8, ICMP: 0, ESP: 0}
FLOW = np.dtype(
    [
        *(("protocol", "u1"), ("client", "u4"), ("server", "u4"), ("sport", "u2"), ("dport", "u2")),
        *(("client_mac", "u1", 6), ("server_mac", "u1", 6)),
    ]
)


def spread(schedule: Schedule, count: int, repeat: int, rng: np.random.Generator) -> dict[str, Column]:
    """All packets as columns, ordered by time: scripted ones, and ``count * repeat`` packets of long flows."""
    shares = np.array([long.weight for long in schedule.long_flows])
    edges = np.round(np.concatenate([[0], np.cumsum(shares) / shares.sum()]) * count).astype(int)
    parts: dict[str, list[Column]] = {name: [np.array(column)] for name, column in vars(schedule.packets).items()}
    parts["prefix"] = [np.zeros((len(schedule.packets.time), 8), np.uint8)]
    parts["prefix_length"] = [np.zeros(len(schedule.packets.time), np.uint8)]
    late = (repeat - 1) * schedule.duration
    long_flows = {long.flow: long for long in schedule.long_flows}
    for long, amount in zip(schedule.long_flows, np.diff(edges) * repeat, strict=True):
        columns = packets_of(long, int(amount), long.end + late, rng)
        for name, column in columns.items():
            parts[name].append(column)
    whole = {name: np.concatenate(columns) for name, columns in parts.items()}
    close_after(whole, schedule, long_flows, len(schedule.packets.time), late)
    order = np.argsort(whole["time"], kind="stable")
    return {name: column[order] for name, column in whole.items()}


def packets_of(long: LongFlow, amount: int, end: float, rng: np.random.Generator) -> dict[str, Column]:
    index = np.arange(amount) % len(long.pattern)
    side = np.array([step.side for step in long.pattern], np.uint8)[index]
    length = np.array([step.length for step in long.pattern], np.int32)[index]
    sent = [np.where(side == way, length, 0).astype(np.int64) for way in (CLIENT, SERVER)]
    before = [np.cumsum(lengths) - lengths + long.seq[way] for way, lengths in enumerate(sent)]
    times = np.sort(rng.uniform(long.begin, max(end, long.begin + 1), amount)) * SECOND
    empty = np.flatnonzero((length == 0) & (np.arange(amount) > 0))
    times[empty] = np.minimum(times[empty], times[empty - 1] + 400)  # acknowledgements follow at once
    prefix, prefix_length = np.zeros((amount, 8), np.uint8), np.zeros(amount, np.uint8)
    if long.prefix is not None:
        within = np.where(side == CLIENT, np.cumsum(side == CLIENT), np.cumsum(side == SERVER)) - 1
        front = long.prefix(within, side)
        prefix[:, : front.shape[1]] = front
        prefix_length[:] = np.where(length > 0, front.shape[1], 0)
    return {
        "time": times.astype(np.int64),
        "flow": np.full(amount, long.flow, np.int32),
        "side": side,
        "offset": np.array([step.offset for step in long.pattern], np.int64)[index],
        "length": length,
        "seq": np.where(side == CLIENT, before[CLIENT], before[SERVER]).astype(np.uint32),
        "ack": np.where(side == CLIENT, before[SERVER], before[CLIENT]).astype(np.uint32),
        "flags": np.where(length == MSS, ACK, ACK | np.where(length > 0, PSH, 0)).astype(np.uint8),
        "prefix": prefix,
        "prefix_length": prefix_length,
    }


def close_after(
    columns: dict[str, Column], schedule: Schedule, long_flows: dict[int, LongFlow], scripted: int, late: float
) -> None:
    """Move the scripted packets that follow a long flow's pattern (its FINs) to its end, in sequence and time."""
    flow, time, side = columns["flow"], columns["time"], columns["side"]
    sent = np.zeros((len(schedule.flows), 2), np.int64)
    np.add.at(sent, (flow[scripted:], side[scripted:]), columns["length"][scripted:])
    ends = np.full(len(schedule.flows), np.inf)
    for number, long in long_flows.items():
        ends[number] = long.end * SECOND
    follow = np.flatnonzero((time[:scripted] >= ends[flow[:scripted]]) & (columns["flags"][:scripted] > 0))
    own, other = sent[flow[follow], side[follow]], sent[flow[follow], 1 - side[follow]]
    columns["seq"][follow] += own.astype(np.uint32)
    columns["ack"][follow] += other.astype(np.uint32)
    columns["time"][follow] += int(late * SECOND)


def checksum(total: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint16]:
    """The Internet checksum (RFC 1071) from sums of 16-bit words."""
    for _ in range(3):
        total = (total & np.uint64(0xFFFF)) + (total >> np.uint64(16))
    return (total ^ np.uint64(0xFFFF)).astype(np.uint16)


def word_sums(matrix: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """The sum of the 16-bit words of every row."""
    sums: npt.NDArray[np.uint64] = np.ascontiguousarray(matrix).view(">u2").sum(axis=1, dtype=np.uint64)
    return sums


class Assembler:
    """Makes pcap records of columns."""

    def __init__(self, schedule: Schedule) -> None:
        self.flows = np.array([tuple(map(plain_value, flow)) for flow in schedule.flows], FLOW)
        self.pool = np.frombuffer(bytes(schedule.pool.data), np.uint8)
        self.sums = np.concatenate([[0], np.cumsum(self.pool.view(">u2"), dtype=np.uint64)]).astype(np.uint64)

    def payload_sums(self, offset: npt.NDArray[np.int64], length: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        half = self.sums[(offset + length) // 2] - self.sums[offset // 2]
        odd = np.where(length % 2, self.pool[np.minimum(offset + length - 1, len(self.pool) - 1)], 0)
        sums: npt.NDArray[np.uint64] = half + (odd.astype(np.uint64) << np.uint64(8))
        return sums

    def records(self, columns: dict[str, Column], first: int) -> bytes:
        """Records of packets. ``first``: number of packets before them."""
        flow, client = self.flows[columns["flow"]], columns["side"] == CLIENT
        time, offset, length = columns["time"], columns["offset"], columns["length"].astype(np.int64)
        count, protocol = len(time), flow["protocol"]
        is_tcp, is_udp = protocol == TCP, protocol == UDP
        header = np.where(is_tcp, 20, np.where(is_udp, 8, 0))
        padded = np.maximum(14 + 20 + header + length, 60)

        head = np.zeros(count, RECORD)
        head["seconds"], head["micros"] = BEGIN + time // SECOND, time % SECOND
        head["captured"] = head["original"] = padded
        head["from"] = np.where(client[:, None], flow["client_mac"], flow["server_mac"])
        head["to"] = np.where(client[:, None], flow["server_mac"], flow["client_mac"])
        head["ethertype"], head["version"] = 0x0800, 0x45
        head["total"], head["id"], head["fragment"] = 20 + header + length, (first + np.arange(count)) & 0xFFFF, 0x4000
        head["ttl"], head["protocol"] = np.where(client, 62, 64), protocol
        head["source"] = np.where(client, flow["client"], flow["server"])
        head["destination"] = np.where(client, flow["server"], flow["client"])
        raw = head.view(np.uint8).reshape(count, -1)
        head["ip_sum"] = checksum(word_sums(raw[:, 30:50]))

        head["sport"] = np.where(client, flow["sport"], flow["dport"])
        head["dport"] = np.where(client, flow["dport"], flow["sport"])
        head["seq"] = np.where(is_tcp, columns["seq"], (8 + length) << 16)
        options = np.where(columns["flags"] & SYN, length, 0)
        head["ack"], head["offset"] = columns["ack"], (20 + options) // 4 << 4
        head["flags"], head["window"] = columns["flags"], 0x7210
        total = self.payload_sums(offset, length) + word_sums(columns["prefix"]) * (columns["prefix_length"] > 0)
        total += word_sums(raw[:, 42:50]) + protocol.astype(np.uint64) + (header + length).astype(np.uint64)
        head["tcp_sum"] = np.where(is_tcp, checksum(total + word_sums(raw[:, 50:70])), 0)
        udp_sum = checksum(total + word_sums(raw[:, 50:58]))
        head["seq"] |= np.where(is_udp, udp_sum, 0)

        begins = np.concatenate([[0], np.cumsum(16 + padded)])
        out = np.zeros(begins[-1], np.uint8)
        for kind, size in HEADER.items():
            chosen = np.flatnonzero(protocol == kind)
            scatter(out, begins[chosen], raw[chosen, : BEFORE_TRANSPORT + size])
        payload = begins[:-1] + BEFORE_TRANSPORT + header
        shift = np.repeat(offset - np.concatenate([[0], np.cumsum(length)[:-1]]), length)
        target = np.repeat(payload - np.concatenate([[0], np.cumsum(length)[:-1]]), length)
        run = np.arange(len(shift))
        out[target + run] = self.pool[shift + run]
        for size in np.unique(columns["prefix_length"]):
            chosen = np.flatnonzero(columns["prefix_length"] == size)
            scatter(out, payload[chosen], columns["prefix"][chosen, :size])
        return out.tobytes()


def plain_value(value: object) -> object:
    return np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value


def scatter(out: npt.NDArray[np.uint8], begins: npt.NDArray[np.int64], rows: npt.NDArray[np.uint8]) -> None:
    """Write every row of bytes at its offset."""
    if rows.size:
        out[begins[:, None] + np.arange(rows.shape[1])] = rows
