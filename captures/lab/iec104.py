"""Both ends of a standard IEC 60870-5-104 link, with c104: ``iec104.py station|server ADDRESS PORT``."""

from __future__ import annotations

import sys
import time

import c104


def station(address: str, port: int) -> None:
    client = c104.Client(tick_rate_ms=100, command_timeout_ms=2000)
    connection = client.add_connection(ip=address, port=port, init=c104.Init.NONE)
    assert connection
    connection.add_station(common_address=47)
    client.start()
    while not connection.is_connected:
        time.sleep(0.1)
    connection.unmute()  # with Init.NONE, c104 sends no STARTDT
    while True:
        connection.interrogation(common_address=47)
        time.sleep(3)


def server(address: str, port: int) -> None:
    """An outstation with one measured value, which changes every second."""
    listening = c104.Server(ip=address, port=port, tick_rate_ms=100)
    outstation = listening.add_station(common_address=47)
    assert outstation
    point = outstation.add_point(io_address=11, type=c104.Type.M_ME_NC_1)
    assert point
    value = 8.0
    listening.start()
    while True:
        time.sleep(1)
        value += 0.25
        point.value = value
        point.transmit(cause=c104.Cot.SPONTANEOUS)


if __name__ == "__main__":
    {"station": station, "server": server}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
