from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer import flows
from analyzer.conversations import Conversation, dissect_flows
from analyzer.heads import Direction, Frame, Head, Mark, Stream
from analyzer.messages import to_json
from analyzer.protocols import Dissection, dissect_as, ssh
from analyzer.protocols.ssh import Disconnect, Identification, KexInit, NewKeys, Packet, PrefaceLine, SshFacts
from analyzer.wire import Cause
from tests import samples

CORPUS = os.environ.get("TPE_PCAP_CORPUS")

BANNER = b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"
MODERN = (
    "curve25519-sha256,ext-info-c",
    "ssh-ed25519",
    "aes128-ctr,chacha20-poly1305@openssh.com",
    "hmac-sha2-256",
    "none",
)


def head_of(
    client: bytes = b"",
    server: bytes = b"",
    ports: tuple[int, int] = (40000, 22),
    begins: bool = True,
    ends: bool = False,
    cut: int = 1 << 30,
) -> Head:
    """A conversation of two byte streams in segments of ``cut`` bytes; odd frames: client, even ones: server."""
    streams = []
    for direction, data in zip(Direction, (client, server), strict=True):
        offsets = range(0, len(data), cut)
        marks = tuple(Mark(at, Frame(0, 1 + direction + 2 * n), 1000 * n) for n, at in enumerate(offsets))
        streams.append(Stream(data, marks, begins, ends))
    return Head("tcp", ports, (streams[0], streams[1]))


def one_side(direction: Direction, data: bytes) -> Head:
    """A conversation with one direction in the capture."""
    return head_of(data) if direction is Direction.ORIGINATOR else head_of(b"", data)


def packet(payload: bytes) -> bytes:
    padding = 8 - (len(payload) + 5) % 8 + (0 if 8 - (len(payload) + 5) % 8 >= 4 else 8)
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + b"\0" * padding


def string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def kexinit(kex: str, host_key: str, cipher: str, mac: str, compression: str, follows: bool = False) -> bytes:
    lists = (kex, host_key, cipher, cipher, mac, mac, compression, compression, "", "")
    rest = bytes([follows]) + bytes(4)
    return packet(b"\x14" + b"\xaa" * 16 + b"".join(string(names.encode()) for names in lists) + rest)


def reply(key: bytes) -> bytes:
    return packet(b"\x1f" + string(key) + string(b"\x02" * 32) + string(b"signature"))


ED25519 = string(b"ssh-ed25519") + string(b"\x01" * 32)
NEWKEYS = packet(b"\x15")


def session(
    client: tuple[str, str, str, str, str] = MODERN,
    server: tuple[str, str, str, str, str] = MODERN,
    key: bytes = ED25519,
    ends: bool = False,
    newkeys: bytes = NEWKEYS + b"\x99" * 40,
) -> Head:
    return head_of(
        BANNER + kexinit(*client) + packet(b"\x1e" + string(b"\x03" * 32)) + newkeys,
        b"SSH-2.0-dropbear_2022.83\r\n" + kexinit(*server) + reply(key) + newkeys,
        ends=ends,
        cut=100,
    )


STRICT = tuple(MODERN[0] + f",kex-strict-{side}-v00@openssh.com" for side in "cs")


def guessed(client_kex: str, server_kex: str) -> Head:
    """Both sides guess and send their first key exchange packet at once; the server's has another key."""
    rest = MODERN[1:]
    return head_of(
        BANNER + kexinit(client_kex, *rest, follows=True) + packet(b"\x1e" + string(b"\x04" * 32)) + NEWKEYS,
        BANNER
        + kexinit(server_kex, *rest, follows=True)
        + reply(string(b"ssh-ed25519") + string(b"\x09" * 32))
        + reply(ED25519)
        + NEWKEYS,
        cut=200,
    )


EXAMPLES: list[Head] = [
    session(),
    session((STRICT[0], *MODERN[1:]), (STRICT[1], *MODERN[1:])),
    guessed("a,b", "b,a"),
    head_of(BANNER, b"hello\r\n" + BANNER, ends=True),
]


def read(head: Head) -> Dissection:
    return dissect_as(ssh, head)


def facts(head: Head) -> SshFacts:
    found = read(head).facts
    assert isinstance(found, SshFacts)
    return found


def conversations(path: Path) -> tuple[Conversation, ...]:
    return tuple(dissect_flows(flows.read([str(path)])).expand())


def test_facts_of_a_key_exchange() -> None:
    found = read(session())
    assert not found.parse_errors
    assert to_json(found.facts) == {
        "client_banner": "SSH-2.0-OpenSSH_9.2p1 Debian-2",
        "server_banner": "SSH-2.0-dropbear_2022.83",
        "kex": "curve25519-sha256",
        "host_key": "ssh-ed25519",
        "cipher_client_to_server": "aes128-ctr",
        "cipher_server_to_client": "aes128-ctr",
        "mac_client_to_server": "hmac-sha2-256",
        "mac_server_to_client": "hmac-sha2-256",
        "compression_client_to_server": "none",
        "compression_server_to_client": "none",
        "host_key_fingerprint": "SHA256:RXm/ruZ0eTzRXKwi1AQEDynB0VgHQ2ac9KPSFdf/YnA",
        "strict_kex": False,
        "ext_info": ["client"],
        "key_exchange_completed": True,
    }


def test_strict_key_exchange_needs_both_sides() -> None:
    client, server = (STRICT[0], *MODERN[1:]), (STRICT[1], *MODERN[1:])
    assert facts(session(client, server)).strict_kex is True
    assert facts(session(client, MODERN)).strict_kex is False
    assert facts(session(MODERN, server)).strict_kex is False
    assert facts(head_of(BANNER + kexinit(*client))).strict_kex is None


@pytest.mark.parametrize("indicator", sorted(ssh.INDICATORS))
def test_an_indicator_is_never_negotiated(indicator: str) -> None:
    lists = (f"{indicator},curve25519-sha256", *MODERN[1:])
    assert facts(session(lists, lists)).kex == "curve25519-sha256"
    lists = (indicator, *MODERN[1:])
    assert facts(session(lists, lists)).kex is None


def test_the_packet_after_a_wrong_guess_is_ignored() -> None:
    right, wrong = facts(guessed("a,b", "a,b")), facts(guessed("a,b", "b,a"))
    assert (right.kex_guess, wrong.kex_guess) == ("right", "wrong")
    assert (right.kex, wrong.kex) == ("a", "a")
    assert right.host_key_fingerprint != wrong.host_key_fingerprint == facts(session()).host_key_fingerprint
    assert facts(session()).kex_guess is None


names = st.lists(st.sampled_from(("a", "b", "c", "d", *sorted(ssh.INDICATORS))), max_size=6, unique=True).map(",".join)


@given(names, names, st.booleans(), st.booleans())
def test_the_clients_first_common_algorithm_is_negotiated(
    client: str, server: str, guesses: bool, answers: bool
) -> None:
    rest = MODERN[1:]
    head = head_of(
        BANNER + kexinit(client, *rest, follows=guesses) + packet(b"\x1e" + string(b"e")) + NEWKEYS,
        BANNER + kexinit(server, *rest, follows=answers) + reply(ED25519) + NEWKEYS,
    )
    found = facts(head)
    mine, theirs = (tuple(names.split(",")) if names else () for names in (client, server))
    common = [name for name in mine if name in theirs and name not in ssh.INDICATORS]
    assert found.kex == (common[0] if common else None)
    assert (found.kex_guess is None) == (not guesses and not answers)
    assert found.kex_guess != "right" or mine[:1] == theirs[:1]
    lost = answers and found.kex_guess == "wrong"
    assert (found.host_key_fingerprint is None) == lost
    assert not read(head).parse_errors


def test_the_clients_preference_wins() -> None:
    mine = ("a,b,c", "x", "3des-cbc,aes128-ctr", "hmac-md5,hmac-sha2-256", "zlib,none")
    theirs = ("c,b", "y", "aes128-ctr,3des-cbc", "hmac-sha2-256", "none")
    found = facts(session(mine, theirs))
    assert (found.kex, found.host_key, found.cipher_client_to_server) == ("b", None, "3des-cbc")
    assert (found.mac_server_to_client, found.compression_client_to_server) == ("hmac-sha2-256", "none")


def test_no_mac_is_negotiated_with_an_aead_cipher() -> None:
    found = facts(session(("k", "h", "chacha20-poly1305@openssh.com", "hmac-md5", "none"), MODERN))
    assert found.cipher_client_to_server == "chacha20-poly1305@openssh.com"
    assert found.mac_client_to_server is None


def test_items_have_the_offset_and_frame_of_their_first_byte() -> None:
    items = [item for item in read(session()).items if item.direction is Direction.ORIGINATOR]
    assert [type(item.message) for item in items] == [Identification, KexInit, Packet, NewKeys]
    assert [item.offset for item in items][:2] == [0, len(BANNER)]
    assert items[1].frame == Frame(0, 1) and items[-1].frame.number > 1


def test_lines_before_the_servers_identification_are_counted() -> None:
    found = read(head_of(BANNER, b"Welcome\r\n\x1b[2Jto you\n" + BANNER))
    assert not found.parse_errors
    lines = [item.message for item in found.items if isinstance(item.message, PrefaceLine)]
    assert lines == [PrefaceLine("Welcome"), PrefaceLine("\\x1b[2Jto you")]
    assert facts(head_of(BANNER, b"Welcome\r\n\x1b[2Jto you\n" + BANNER)).preface_lines == 2
    assert facts(head_of(BANNER, b"Welcome\r\n" + BANNER)).server_banner == "SSH-2.0-OpenSSH_9.2p1 Debian-2"


def test_ssh_1_is_read_up_to_its_identification() -> None:
    old = b"SSH-1.5-OpenSSH_6.2\n"
    found = read(
        head_of(old + b"\0\0\0\x0c" + b"\x07" * 16, b"SSH-1.99-OpenSSH_3.9p1\n\0\0\1\x0b\0\0\0\0\0\2" + b"\5" * 300)
    )
    assert not found.parse_errors
    assert facts(head_of(old)).client_banner == "SSH-1.5-OpenSSH_6.2"
    versions = [item.message.protoversion for item in found.items if isinstance(item.message, Identification)]
    assert versions == ["1.5", "1.99"]


def test_lengths_of_an_rsa_key_and_a_group() -> None:
    modulus = b"\0" + b"\xff" * 128
    rsa = string(b"ssh-rsa") + string(b"\1\0\1") + string(modulus)
    group = packet(b"\x1f" + string(b"\0" + b"\xc0" * 128) + string(b"\x02"))
    head = head_of(BANNER, BANNER + group + packet(b"\x21" + string(rsa) + string(b"f") + string(b"sig")) + NEWKEYS)
    found = facts(head)
    assert (found.host_key_bits, found.group_bits, found.key_exchange_completed) == (1024, 1024, True)


def test_a_token_of_gss_api_key_exchange_is_no_group() -> None:
    found = read(head_of(BANNER + packet(b"\x1f" + string(b"\xff" * 64)) + NEWKEYS))
    assert not found.parse_errors
    assert [item.message for item in found.items][1:] == [Packet(31), NewKeys()]


def test_reason_of_a_disconnect() -> None:
    bye = packet(b"\x01" + struct.pack(">I", 2) + string(b"no matching cipher") + string(b""))
    found = read(head_of(BANNER, BANNER + bye))
    assert Disconnect(2, "no matching cipher") in [item.message for item in found.items]


@pytest.mark.parametrize(
    ("client", "field"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "identification string"),
        (b"SSH-two-nonsense\r\n", "identification string"),
        (b"SSH-2.0-" + b"x" * 300 + b"\r\n", "identification string"),
        (b"SSH-2.0-" + b"x" * 9000, "identification string"),
        (BANNER + b"Protocol mismatch.\n", "packet_length"),
        (BANNER + b"\0\0\0\0" + b"\0" * 16, "packet_length"),
        (BANNER + b"\0\0\0\x0c\x02\x15" + b"\0" * 16, "padding_length"),
        (
            BANNER + packet(b"\x14" + b"\xaa" * 16 + string(b"x") + struct.pack(">I", 1 << 31)),
            "server_host_key_algorithms",
        ),
        (BANNER + packet(kexinit(*MODERN)[5:-8] + b"surplus bytes"), "payload"),
    ],
)
def test_malformed_messages_name_the_field(client: bytes, field: str) -> None:
    broken = read(head_of(client, BANNER)).parse_errors
    assert [(error.anomaly.cause, error.anomaly.field) for error in broken] == [(Cause.MALFORMED, field)]
    assert facts(head_of(client, BANNER)).server_banner


def test_missing_bytes_are_truncated() -> None:
    whole = session().streams[Direction.ORIGINATOR].data
    found = read(head_of(whole[:200]))
    assert [error.anomaly.cause for error in found.parse_errors] == [Cause.TRUNCATED]
    assert facts(head_of(whole[:200])).client_banner


def test_encrypted_bytes_are_not_read() -> None:
    assert not read(session(newkeys=NEWKEYS + os.urandom(500))).parse_errors


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (head_of(BANNER), True),
        (head_of(b"", BANNER, ports=(5555, 2009)), True),
        (head_of(b"", b"hi\r\n" + BANNER), True),
        (head_of(b"GET / HTTP/1.1\r\n", BANNER), True),
        (head_of(b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n\r\n\nSSH-2.0-"), False),
        (head_of(b"\x16\x03\x01\0\5hello", b""), False),
        (head_of(b"", b"220 FTP ready\r\n"), False),
        (head_of(), False),
    ],
)
def test_probe(head: Head, expected: bool) -> None:
    assert ssh.probe(head) is expected


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300), st.booleans())
def test_any_bytes_cause_no_defect(client: bytes, server: bytes, ends: bool) -> None:
    for start in (b"", BANNER, BANNER + kexinit(*MODERN)):
        found = read(head_of(start + client, start + server, ends=ends))
        assert all(error.anomaly.cause is not Cause.DEFECT for error in found.parse_errors)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2000))
def test_a_prefix_gives_a_prefix_of_the_messages(size: int) -> None:
    whole = session()
    full = read(head_of(whole.streams[0].data, cut=100)).items
    part = read(head_of(whole.streams[0].data[:size], cut=100))
    assert part.items == full[: len(part.items)]
    assert all(error.anomaly.cause is Cause.TRUNCATED for error in part.parse_errors)


def test_facts_of_recorded_sessions() -> None:
    found = [flow for flow in conversations(samples.capture("plain-full-passive")) if flow.protocol == "ssh"]
    assert len(found) == 1 and not found[0].dissection.parse_errors
    actual = found[0].dissection.facts
    assert isinstance(actual, SshFacts)
    assert actual.client_banner == "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10"
    assert (actual.kex, actual.host_key, actual.key_exchange_completed) == (
        "sntrup761x25519-sha512",
        "ssh-ed25519",
        True,
    )


SERVER_BANNER_AFTER_LINES = "zeek_server-pre-banner-data.pcap"
"""Captures in which tshark does not recognise the server's identification string after other lines."""


@pytest.mark.skipif(CORPUS is None, reason="TPE_PCAP_CORPUS names no folder of captures")
def test_corpus_banners_agree_with_tshark() -> None:
    assert CORPUS is not None
    compared = 0
    for line in (Path(CORPUS) / "truth.jsonl").read_text().splitlines():
        truth = json.loads(line)
        if "ssh" not in truth or "malformed" in truth["tags"]:
            continue
        shown = {}
        for flow in conversations(Path(CORPUS) / truth["name"]):
            actual = flow.dissection.facts
            if isinstance(actual, SshFacts):
                ends = (
                    f"{flow.originator.address}:{flow.originator.port}",
                    f"{flow.responder.address}:{flow.responder.port}",
                )
                shown[ends] = (actual.client_banner, actual.server_banner)
                assert not flow.dissection.malformed or truth["name"] == "ndpi_ssh_unidirectional.pcap", truth["name"]
        for stream in truth["ssh"]:
            wanted = (stream["client_banner"], stream["server_banner"])
            if truth["name"] == SERVER_BANNER_AFTER_LINES:
                wanted = (wanted[0], "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u5")
            if wanted != (None, None):
                assert shown.get((stream["client"], stream["server"])) == wanted, (truth["name"], stream)
                compared += 1
    assert compared > 20
