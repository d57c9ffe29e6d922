"""Differences from tshark: found, explained where both are right, and reported."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from analyzer import CaptureError, cli, crosscheck
from analyzer.reports import json as report
from analyzer.tshark import client
from analyzer.tshark.crosscheck import Crosscheck
from tests import build, samples
from tests.synthetic import OTHER, STATION, TPE, Traffic

CORPUS = os.environ.get("TPE_PCAP_CORPUS")
pytestmark = pytest.mark.tshark

Packet = dict[str, list[str]]


def unexplained(result: Crosscheck) -> list[tuple[str, str | None, str | None]]:
    return [
        (difference.subject, difference.ours, difference.theirs)
        for difference in result.differences
        if difference.explanation is None
    ]


@pytest.mark.parametrize(
    "name",
    [
        "basics-compliant",
        "ipsec-peer-gone",
        "ipsec-ike-invalid-ke-retry",
        "plain-iec104-by-the-book",
        "plain-ipv6",
        "tls-captured-twice",
        "tls-dns-tunnel",
        "tls-overlapping-fragments",
        "tls-scans-the-network",
    ],
)
def test_recorded_captures_agree(name: str) -> None:
    result = crosscheck(samples.capture(name))
    assert result.agrees and {difference.subject for difference in result.differences} <= {"IEC 104 APDUs"}
    assert result.flows > 0 and result.facts > 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("plain-link-only", "the LRR's dialect"),
        ("plain-ftp-auth-tls", "goes on in TLS"),
        ("tls-snaplen-96", "a message is broken off"),
        ("tls-broken-dns-and-ntp", "tshark calls the packet malformed"),
        ("basics-ssh-on-443-random-on-4443", "tshark goes by the port number"),
        ("plain-sll-nano", "the capture lacks bytes of the stream"),
    ],
)
def test_known_differences_are_explained(name: str, reason: str) -> None:
    result = crosscheck(samples.capture(name))
    assert result.agrees
    assert any(reason in (difference.explanation or "") for difference in result.differences)
    assert all(difference.frames and difference.filter for difference in result.differences)


def test_unreadable_packets_and_orphan_fragments_are_explained(tmp_path: Path) -> None:
    datagram = build.ip(STATION, TPE, 17, build.udp_datagram(500, 500, bytes(64)))
    orphans = build.fragments(datagram, 32)[1:]
    truncated = build.ethernet(build.ip(STATION, OTHER, 6, b"\x01\x02"))
    path = tmp_path / "odd.pcap"
    path.write_bytes(build.pcap(build.timed([*map(build.ethernet, orphans), truncated])))
    result = crosscheck(path)
    assert unexplained(result) == []


def test_several_captures_are_compared_as_one() -> None:
    paths = samples.files("plain-ring-of-three-files")
    result = crosscheck(paths)
    assert result.agrees and len(result.captures) == len(paths) > 1


Change = Callable[[Packet], Packet | None]


def altered(change: Change) -> Callable[..., Iterator[Packet]]:
    """:func:`client.run` with its packets changed; a packet that becomes ``None`` is dropped."""
    run = client.run

    def packets(*arguments: Any) -> Iterator[Packet]:
        for packet in run(*arguments):
            changed = change(dict(packet))
            if changed is not None:
                yield changed

    return packets


def substitute(name: str, before: str, after: str) -> Change:
    """Replace a text in the values of one field."""

    def change(packet: Packet) -> Packet:
        if name in packet:
            packet[name] = [value.replace(before, after) for value in packet[name]]
        return packet

    return change


@pytest.mark.parametrize(
    ("change", "subject", "ours", "theirs"),
    [
        (lambda packet: packet if packet["frame_number"] != ["10"] else None, "packets", None, None),
        (substitute("frame_len", "66", "67"), "bytes", None, None),
        (
            substitute("tls_handshake_ciphersuite", "0xc030", "0x009c"),
            "TLS cipher suite",
            "TLS_ECDHE_RSA",
            "TLS_RSA_WITH_AES",
        ),
        (substitute("tls_handshake_version", "0x0303", "0x0302"), "TLS version", "TLS 1.2", "TLS 1.1"),
        (substitute("ssh_protocol", "9.2p1", "9.2p2"), "SSH banners", "9.2p1", "9.2p2"),
        (substitute("dns_qry_name", "lrc", "lrx"), "DNS names", "lrc", "lrx"),
        (substitute("ntp_flags_mode", "3", "1"), "NTP modes", "3", "1"),
        (substitute("dhcp_option_dhcp", "1", "7"), "DHCP messages", "DISCOVER", "RELEASE"),
        (substitute("frame_protocols", "ssh", "http"), "protocol", "ssh", "http"),
        (substitute("ip_src", "192.168.77.123", "192.168.77.124"), "flow", None, "192.168.77.124"),
    ],
)
def test_unexplained_difference(
    monkeypatch: pytest.MonkeyPatch, change: Change, subject: str, ours: str | None, theirs: str | None
) -> None:
    monkeypatch.setattr(client, "run", altered(change))
    name = "tls-full-tls12-mutual" if subject.startswith("TLS") else "tls-compliant"
    result = crosscheck(samples.capture(name))
    found = [
        difference
        for difference in result.differences
        if difference.subject == subject and difference.explanation is None
    ]
    assert not result.agrees and found
    assert ours is None or any(ours in (difference.ours or "") for difference in found)
    assert theirs is None or any(theirs in (difference.theirs or "") for difference in found)
    assert all(difference.frames and difference.filter.startswith("frame.number") for difference in found)


def test_ike_offers_and_choices_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "run", altered(substitute("isakmp_ike2_attr_key_length", "128", "192")))
    result = crosscheck(samples.capture("ipsec-full-raw-esp"))
    assert {difference.subject for difference in result.differences} == {"IKE offer", "IKE choice"}
    assert not result.agrees


# -- the command -----------------------------------------------------------------------------------------------


def test_command_exits_0_if_every_difference_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["crosscheck", str(samples.capture("plain-link-only"))]) == 0
    output = capsys.readouterr()
    assert "1 pair of ends and 1 fact compared: 1 difference, 1 explained." in output.out
    assert "differs IEC 104 APDUs" in output.out and "LRR's dialect" in output.out and output.err == ""


def test_command_exits_1_for_an_unexplained_difference(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(client, "run", altered(substitute("ssh_protocol", "OpenSSH", "\x1b[31mOpenSSH")))
    output = tmp_path / "report.json"
    path = str(samples.capture("tls-compliant"))
    assert cli.main(["crosscheck", path]) == 1
    text = capsys.readouterr().out
    assert "DIFFERS SSH banners" in text and "\x1b" not in text
    assert cli.main(["crosscheck", path, "--format", "json", "--output", str(output)]) == 1
    document = json.loads(output.read_text())
    schema = report.schema()
    jsonschema.validate(document, {**schema["$defs"]["crosscheck_report"], "$defs": schema["$defs"]})
    assert document["agrees"] is False and document["differences"][0]["explanation"] is None


def test_command_reports_an_unreadable_file_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["crosscheck", str(tmp_path / "absent.pcap")]) == 2
    assert capsys.readouterr().err == f"tpe-pcap: {tmp_path}/absent.pcap: no such file or directory\n"


# -- the corpus -------------------------------------------------------------------------------------------------

UNEXPLAINED = {
    "tls-other-services.pcap": "tshark does not dissect what follows the SOCKS preamble",
    "tls-preambles.pcap": "tshark does not dissect what follows proxies and StartTLS of LDAP and XMPP",
    "suricata_bug-6875-01_fuzz.pcap": "tshark reads the damaged file as another variant of pcap; tcpdump does not",
    "zeek_mpls-6in6-broken.pcap.gz": "random bytes after MPLS labels: the end of the label stack is ambiguous",
}
"""Captures with unexplained differences, and why neither program is wrong."""


@pytest.mark.skipif(not CORPUS, reason="TPE_PCAP_CORPUS names no folder of captures")
@pytest.mark.parametrize(
    "path",
    [
        path
        for path in (*samples.all_captures(), *sorted(Path(CORPUS or ".").iterdir()))
        if CORPUS and {".pcap", ".pcapng", ".snoop", ".cap", ".gz"} & set(path.suffixes)
    ],
    ids=lambda path: path.name,
)
def test_corpus_agrees(path: Path) -> None:
    try:
        result = crosscheck(path)
    except CaptureError as error:
        assert "\n" not in str(error)
        return
    assert result.agrees or path.name in UNEXPLAINED, unexplained(result)


def test_packet_length_beyond_tsharks_limit_is_explained(tmp_path: Path) -> None:
    frame = build.tcp(STATION, 40000, TPE, 3001, build.SYN)
    path = tmp_path / "long.pcap"
    path.write_bytes(build.pcap([build.Packet(frame, build.SECOND, 3_599_899_676)]))
    (difference,) = crosscheck(path).differences
    assert (difference.subject, difference.ours) == ("bytes", "3599899676")
    assert "longer than tshark can count" in str(difference.explanation)


def test_synthetic_capture_agrees(tmp_path: Path) -> None:
    traffic = Traffic().echo(STATION, TPE).syn(STATION, 40000, TPE, 3001, reset=True)
    assert crosscheck(traffic.save(tmp_path / "a.pcap")).differences == ()
