"""Community IDs equal the published values of the reference implementation (corelight/pycommunityid)."""

from __future__ import annotations

import pytest

from analyzer.community_id import COUNTERPARTS, community_id
from analyzer.conversations import Conversation, Endpoint, State
from analyzer.heads import Datagram, Direction, Frame, Head
from analyzer.protocols import Dissection

FRAME = Frame(0, 1)


def conversation(
    transport: str, source: str, destination: str, ports: tuple[int, int] | None = None, head: Head | None = None
) -> Conversation:
    left, right = ports or (None, None)
    return Conversation(
        id=1,
        transport=transport,
        originator=Endpoint(source, left),
        responder=Endpoint(destination, right),
        originator_certain=True,
        state=State.ONEWAY,
        packets=(1, 0),
        bytes=(98, 0),
        payload=(64, 0),
        first=0,
        last=0,
        first_frame=FRAME,
        last_frame=FRAME,
        macs=(None, None),
        head=head or Head(transport),
        dissection=Dissection(),
    )


def icmp(transport: str, kind: int, code: int, direction: Direction = Direction.ORIGINATOR) -> Head:
    return Head(transport, datagrams=(Datagram(direction, bytes((kind, code, 0, 0)), 64, FRAME, 0),))


@pytest.mark.parametrize(
    ("transport", "source", "destination", "ports", "expected"),
    [
        ("tcp", "128.232.110.120", "66.35.250.204", (34855, 80), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
        ("tcp", "66.35.250.204", "128.232.110.120", (80, 34855), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
        ("tcp", "10.0.0.1", "10.0.0.2", (10, 11569), "1:SXBGMX1lBOwhhoDrZynfROxnhnM="),
        ("tcp", "192.168.1.42", "192.168.1.42", (41, 42), "1:eRcf7I/xocOxnYo5pbJBV5NhVm0="),
        ("tcp", "192.168.1.42", "192.168.1.42", (42, 41), "1:eRcf7I/xocOxnYo5pbJBV5NhVm0="),
        ("tcp", "2001:db8::1", "2001:db8::2", (443, 51000), "1:2TiKiiiSIuDma9IxOEOpx4wCXWM="),
        ("udp", "192.168.1.52", "8.8.8.8", (54585, 53), "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
        ("ip-46", "1.2.3.4", "5.6.7.8", None, "1:ikv3kmf89luf73WPz1jOs49S768="),
        ("ip-46", "5.6.7.8", "1.2.3.4", None, "1:ikv3kmf89luf73WPz1jOs49S768="),
    ],
)
def test_published_values(
    transport: str, source: str, destination: str, ports: tuple[int, int] | None, expected: str
) -> None:
    assert community_id(conversation(transport, source, destination, ports)) == expected


@pytest.mark.parametrize(
    ("transport", "source", "destination", "kind", "code", "expected"),
    [
        ("icmp", "192.168.0.89", "192.168.0.1", 8, 0, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
        ("icmp", "192.168.0.1", "192.168.0.89", 0, 0, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
        ("icmp", "192.168.0.89", "192.168.0.1", 20, 0, "1:3o2RFccXzUgjl7zDpqmY7yJi8rI="),
        ("icmp", "192.168.0.89", "192.168.0.1", 20, 1, "1:tz/fHIDUHs19NkixVVoOZywde+I="),
        ("icmpv6", "fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea", 135, 0, "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
        (
            "icmpv6",
            "3ffe:507:0:1:200:86ff:fe05:80da",
            "3ffe:507:0:1:260:97ff:fe07:69ea",
            3,
            0,
            "1:/OGBt9BN1ofenrmSPWYicpij2Vc=",
        ),
        (
            "icmpv6",
            "3ffe:501:0:1802:260:97ff:feb6:7ff0",
            "3ffe:507:0:1:200:86ff:fe05:80da",
            3,
            0,
            "1:bnQKq8A2r//dWnkRW2EYcMhShjc=",
        ),
    ],
)
def test_published_values_of_icmp(
    transport: str, source: str, destination: str, kind: int, code: int, expected: str
) -> None:
    assert community_id(conversation(transport, source, destination, head=icmp(transport, kind, code))) == expected
    answered = conversation(transport, destination, source, head=icmp(transport, kind, code, Direction.RESPONDER))
    assert community_id(answered) == expected


def test_the_id_of_esp_depends_on_the_addresses_only() -> None:
    there = community_id(conversation("esp", "10.0.0.2", "10.0.9.1"))
    assert there == community_id(conversation("esp", "10.0.9.1", "10.0.0.2"))
    assert there == community_id(conversation("ip-50", "10.0.0.2", "10.0.9.1"))


def test_no_id_without_icmp_type_or_sctp_ports() -> None:
    assert community_id(conversation("icmp", "10.0.0.2", "10.0.9.1")) is None
    assert community_id(conversation("ip-132", "10.0.0.2", "10.0.9.1")) is None


@pytest.mark.parametrize("transport", ["icmp", "icmpv6"])
def test_counterparts_are_mutual(transport: str) -> None:
    assert all(COUNTERPARTS[transport][other] == kind for kind, other in COUNTERPARTS[transport].items())
