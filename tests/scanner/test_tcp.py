"""TCP over the whole flow."""

from __future__ import annotations

from tests import build
from tests.build import SERVER, STATION


def test_a_second_syn_ack_with_another_number_moves_the_stream_only_until_the_first_is_acknowledged() -> None:
    def server(flags: int, sequence: int, payload: bytes = b"") -> bytes:
        segment = build.tcp_header(80, 4000, flags, sequence, 101) + payload
        return build.ethernet(build.ip4(SERVER, STATION, 6, segment))

    def client(flags: int, sequence: int, acknowledgement: int = 0) -> bytes:
        return build.ethernet(
            build.ip4(STATION, SERVER, 6, build.tcp_header(4000, 80, flags, sequence, acknowledgement))
        )

    answer = b"HTTP/1.1 200 OK\r\n\r\n"
    opening = [client(2, 100), server(18, 500)]
    late = [*opening, client(16, 101, 501), server(18, 7_000_000), server(24, 501, answer)]
    (flow,) = build.conversations(late)
    assert flow.head.streams[1].data == answer
    early = [*opening, server(18, 7_000_000), client(16, 101, 7_000_001), server(24, 7_000_001, answer)]
    (flow,) = build.conversations(early)
    assert flow.head.streams[1].data == answer
