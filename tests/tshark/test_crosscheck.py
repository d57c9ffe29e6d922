"""Whether differences from tshark are found, explained where both are right, and how they are told."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from analyzer import CaptureError, cli, crosscheck, tshark
from analyzer.reports import json as report
from analyzer.tshark.crosscheck import Crosscheck
from tests import build
from tests.synthetic import OTHER, STATION, TPE, Scene

CAPTURES = Path(__file__).parents[2] / "captures"
CORPUS = os.environ.get("TPE_PCAP_CORPUS")
pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")

Told = dict[str, list[str]]


def unexplained(result: Crosscheck) -> list[tuple[str, str | None, str | None]]:
    return [(each.subject, each.ours, each.theirs) for each in result.differences if each.explanation is None]


def reasons(result: Crosscheck) -> list[str]:
    return [each.explanation or "" for each in result.differences]


@pytest.mark.parametrize(
    "name",
    [
        "basics-compliant.pcap",
        "ipsec-peer-gone.pcap",
        "ipsec-ike-invalid-ke-retry.pcap",
        "plain-iec104-by-the-book.pcap",
        "plain-ipv6.pcap",
        "tls-captured-twice.pcap",
        "tls-dns-tunnel.pcap",
        "tls-overlapping-fragments.pcap",
        "tls-scans-the-network.pcap",
    ],
)
def test_recorded_captures_look_the_same_to_both(name: str) -> None:
    result = crosscheck(CAPTURES / name)
    assert result.agrees and {each.subject for each in result.differences} <= {"IEC 104 APDUs"}
    assert result.flows > 0 and result.facts > 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("plain-link-only.pcap", "the LRR's dialect"),
        ("plain-ftp-auth-tls.pcap", "goes on in TLS"),
        ("tls-snaplen-96.pcap", "a message is broken off"),
        ("tls-broken-dns-and-ntp.pcap", "tshark calls the packet malformed"),
        ("basics-ssh-on-443-random-on-4443.pcap", "tshark goes by the port number"),
        ("plain-sll-nano.pcap", "the capture lacks bytes of the stream"),
    ],
)
def test_known_differences_are_shown_with_their_reason(name: str, reason: str) -> None:
    result = crosscheck(CAPTURES / name)
    assert result.agrees
    assert any(reason in each for each in reasons(result))
    assert all(each.frames and each.filter for each in result.differences)


def test_packets_that_are_no_flow_here_and_fragments_without_their_first(tmp_path: Path) -> None:
    whole = build.ip(STATION, TPE, 17, build.udp_datagram(500, 500, bytes(64)))
    late = build.fragments(whole, 32)[1:]
    cut = build.ethernet(build.ip(STATION, OTHER, 6, b"\x01\x02"))
    path = tmp_path / "odd.pcap"
    path.write_bytes(build.pcap(build.timed([*map(build.ethernet, late), cut])))
    result = crosscheck(path)
    assert unexplained(result) == []


def test_several_files_are_one_timeline() -> None:
    paths = sorted(CAPTURES.glob("plain-ring-of-three-files.*.pcap"))
    result = crosscheck(paths)
    assert result.agrees and len(result.captures) == len(paths) > 1


Change = Callable[[Told], Told | None]


def altered(change: Change) -> Callable[..., Iterator[Told]]:
    """tshark's answers, changed packet by packet; ``None``: the packet is kept back."""
    real = tshark.ask

    def answers(*arguments: Any) -> Iterator[Told]:
        for told in real(*arguments):
            changed = change(dict(told))
            if changed is not None:
                yield changed

    return answers


def swap(name: str, before: str, after: str) -> Change:
    def change(told: Told) -> Told:
        if name in told:
            told[name] = [value.replace(before, after) for value in told[name]]
        return told

    return change


@pytest.mark.parametrize(
    ("change", "subject", "ours", "theirs"),
    [
        (lambda told: told if told["frame_number"] != ["10"] else None, "packets", None, None),
        (swap("frame_len", "66", "67"), "bytes", None, None),
        (
            swap("tls_handshake_ciphersuite", "0xc030", "0x009c"),
            "TLS cipher suite",
            "TLS_ECDHE_RSA",
            "TLS_RSA_WITH_AES",
        ),
        (swap("tls_handshake_version", "0x0303", "0x0302"), "TLS version", "TLS 1.2", "TLS 1.1"),
        (swap("ssh_protocol", "9.2p1", "9.2p2"), "SSH banners", "9.2p1", "9.2p2"),
        (swap("dns_qry_name", "lrc", "lrx"), "DNS names", "lrc", "lrx"),
        (swap("ntp_flags_mode", "3", "1"), "NTP modes", "3", "1"),
        (swap("dhcp_option_dhcp", "1", "7"), "DHCP messages", "DISCOVER", "RELEASE"),
        (swap("frame_protocols", "ssh", "http"), "protocol", "ssh", "http"),
        (swap("ip_src", "192.168.77.123", "192.168.77.124"), "flow", None, "192.168.77.124"),
    ],
)
def test_a_difference_is_found_and_fails(
    monkeypatch: pytest.MonkeyPatch, change: Change, subject: str, ours: str | None, theirs: str | None
) -> None:
    monkeypatch.setattr(tshark, "ask", altered(change))
    name = "tls-full-tls12-mutual.pcap" if subject.startswith("TLS") else "tls-compliant.pcap"
    result = crosscheck(CAPTURES / name)
    found = [each for each in result.differences if each.subject == subject and each.explanation is None]
    assert not result.agrees and found
    for wanted, told in ((ours, found[0].ours), (theirs, found[0].theirs)):
        assert wanted is None or any(wanted in (each.ours or "") + (each.theirs or "") for each in found), told
    assert all(each.frames and each.filter.startswith("frame.number") for each in found)


def test_ike_offers_and_choices_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tshark, "ask", altered(swap("isakmp_ike2_attr_key_length", "128", "192")))
    result = crosscheck(CAPTURES / "ipsec-full-raw-esp.pcap")
    assert {each.subject for each in result.differences} == {"IKE offer", "IKE choice"}
    assert not result.agrees


# -- how it is told ---------------------------------------------------------------------------------------------


def test_the_command_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["crosscheck", str(CAPTURES / "plain-link-only.pcap")]) == 0
    told = capsys.readouterr()
    assert "1 pair of ends and 1 fact compared: 1 difference, 1 explained." in told.out
    assert "differs IEC 104 APDUs" in told.out and "LRR's dialect" in told.out and told.err == ""


def test_the_command_disagrees(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(tshark, "ask", altered(swap("ssh_protocol", "OpenSSH", "\x1b[31mOpenSSH")))
    output = tmp_path / "report.json"
    path = str(CAPTURES / "tls-compliant.pcap")
    assert cli.main(["crosscheck", path]) == 1
    told = capsys.readouterr().out
    assert "DIFFERS SSH banners" in told and "\x1b" not in told
    assert cli.main(["crosscheck", path, "--format", "json", "--output", str(output)]) == 1
    document = json.loads(output.read_text())
    schema = report.schema()
    jsonschema.validate(document, {**schema["$defs"]["crosscheck_report"], "$defs": schema["$defs"]})
    assert document["agrees"] is False and document["differences"][0]["explanation"] is None


def test_what_cannot_be_compared_is_told_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["crosscheck", str(tmp_path / "absent.pcap")]) == 2
    assert capsys.readouterr().err == f"tpe-pcap: {tmp_path}/absent.pcap: no such file or directory\n"


# -- all captures there are -------------------------------------------------------------------------------------

OUR_WAY = {
    "suricata_bug-6875-01_fuzz.pcap": "tshark takes the damaged file for another dialect of pcap; tcpdump does not",
    "zeek_mpls-6in6-broken.pcap.gz": "random bytes behind MPLS labels: where the stack ends is anybody's guess",
}
"""Captures whose differences stay unexplained, and why nobody is wrong."""


@pytest.mark.skipif(not CORPUS, reason="TPE_PCAP_CORPUS names no folder of captures")
@pytest.mark.parametrize(
    "path",
    [
        each
        for folder in (CAPTURES, Path(CORPUS or "."))
        for each in sorted(folder.iterdir())
        if CORPUS and {".pcap", ".pcapng", ".snoop", ".cap", ".gz"} & set(each.suffixes)
    ],
    ids=lambda path: path.name,
)
def test_all_captures_look_the_same_to_both(path: Path) -> None:
    try:
        result = crosscheck(path)
    except CaptureError as error:
        assert "\n" not in str(error)
        return
    assert result.agrees or path.name in OUR_WAY, unexplained(result)


def test_a_length_that_cannot_be_is_told_with_its_reason(tmp_path: Path) -> None:
    frame = build.tcp(STATION, 40000, TPE, 3001, build.SYN)
    path = tmp_path / "long.pcap"
    path.write_bytes(build.pcap([build.Packet(frame, build.SECOND, 3_599_899_676)]))
    (told,) = crosscheck(path).differences
    assert (told.subject, told.ours) == ("bytes", "3599899676") and "longer than tshark can count" in str(
        told.explanation
    )


def test_a_scene_by_hand(tmp_path: Path) -> None:
    scene = Scene().echo(STATION, TPE).syn(STATION, 40000, TPE, 3001, reset=True)
    assert crosscheck(scene.save(tmp_path / "scene.pcap")).differences == ()
