"""Write a capture of many base stations for measurements. The same arguments give the same bytes.

``python -m tests.benchmarks.generate OUT.pcap --stations 400 --packets 2000000``

A quarter of the stations each run IPsec, TLS, plain and Basics Station. Start-up, pings, DNS, NTP, DHCP and short
connections are scripted (:mod:`tests.benchmarks.traffic`); the remaining packets are those of long flows (ESP, IEC 104,
LNS) and of one transfer (a software download) per station. ``--repeat K`` keeps the flows, and makes the long ones and
the transfers K times as long, with K times as many packets.

Two more kinds measure the cost of one protocol: ``--kind tls-heads --flows 100000`` writes TLS connections that close
after their handshake, no two alike; ``--kind dns --packets 1000000`` writes lookups, a share of them for names that
occur once.
"""

from __future__ import annotations

import argparse
import random
import struct
from pathlib import Path

import numpy as np

from tests.benchmarks import payloads
from tests.benchmarks.assembly import Assembler, spread
from tests.benchmarks.traffic import BATCH, KINDS, PACKETS, SECOND, Schedule, script, station_of

CHUNK = 1 << 15
"""Packets that are assembled at once."""
FILE_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)


def generate(
    path: Path,
    stations: int = 400,
    packets: int = 2_000_000,
    seed: int = 1,
    repeat: int = 1,
    duration: float | None = None,
) -> int:
    """Write a capture and return the number of its packets. ``ValueError`` if ``packets`` is too small.

    ``duration``: seconds; a shorter capture has fewer of the flows that recur every minute.
    """
    duration = duration or min(3600.0, max(300.0, 0.72 * packets / stations))
    schedule = script(stations, duration, seed)
    count = packets - len(schedule.packets.time)
    if count < 0:
        raise ValueError(f"{stations} stations need at least {len(schedule.packets.time)} packets")
    columns = spread(schedule, count, repeat, np.random.default_rng(seed))
    assembler = Assembler(schedule)
    total = len(columns["time"])
    with path.open("wb") as file:
        file.write(FILE_HEADER)
        for first in range(0, total, CHUNK):
            part = {name: column[first : first + CHUNK] for name, column in columns.items()}
            file.write(assembler.records(part, first))
    return total


def generate_kind(path: Path, kind: str, stations: int, flows: int, seed: int) -> int:
    """Write a capture of one protocol, in whole batches; returns the number of its packets."""
    rng = random.Random(seed)
    authority = payloads.Authority()
    chain = (authority.issue(payloads.CORE_NAME, 0x5E, 2), authority.certificate)
    clients = [station_of(number) for number in range(stations)]
    total = 0
    with path.open("wb") as file:
        file.write(FILE_HEADER)
        for first in range(0, flows, BATCH):
            schedule = Schedule(rng, BATCH / 100)
            KINDS[kind](schedule, clients, chain, first)
            columns = spread(schedule, 0, 1, np.random.default_rng(seed))
            columns["time"] += int(first / 100 * SECOND)
            file.write(Assembler(schedule).records(columns, total))
            total += len(columns["time"])
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a capture of many base stations for measurements.")
    parser.add_argument("out", type=Path, metavar="OUT.pcap")
    parser.add_argument("--kind", choices=("stations", *KINDS), default="stations")
    parser.add_argument("--stations", type=int, default=400)
    parser.add_argument("--flows", type=int, help="of one protocol (default: as many as make about --packets)")
    parser.add_argument("--packets", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=1, help="makes the long flows this many times as long")
    parser.add_argument(
        "--duration", type=float, metavar="SECONDS", help="default: from the number of packets, an hour at most"
    )
    arguments = parser.parse_args()
    try:
        if arguments.kind == "stations":
            total = generate(
                arguments.out,
                arguments.stations,
                arguments.packets,
                arguments.seed,
                arguments.repeat,
                arguments.duration,
            )
        else:
            flows = arguments.flows or arguments.packets // PACKETS[arguments.kind]
            total = generate_kind(arguments.out, arguments.kind, arguments.stations, flows, arguments.seed)
    except ValueError as error:
        parser.error(str(error))
    print(f"{arguments.out}: {total} packets, {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
