"""Host names from DNS and capture files, and DHCP data of base stations, in the reports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from analyzer import audit
from analyzer.reports import json as json_report
from analyzer.reports import text
from tests import build
from tests.protocols import test_dhcp, test_dns
from tests.reports.audits import EXAMPLE, HOSTILE
from tests.synthetic import OTHER, REQUEST, STATION, TLS, TPE, Traffic

RESOLVER = "10.0.9.53"


def answer(address: str, name: bytes) -> tuple[bytes, bytes]:
    """A DNS query for a name, and its response."""
    question = name + b"\0\1\0\1"
    packed = bytes(map(int, address.split(".")))
    return (
        test_dns.message(question=question, flags=0x100),
        test_dns.message(test_dns.record(1, packed), question=question),
    )


def acknowledged(client: str) -> bytes:
    return test_dhcp.message(test_dhcp.ACK, op=2, yiaddr=bytes(map(int, client.split("."))))


def traffic(name: bytes = b"\x04lrc1\x07example\x03com\0") -> Traffic:
    return (
        Traffic()
        .udp(STATION, 68, "10.20.30.2", 67, (">", REQUEST), ("<", acknowledged(STATION)))
        .exchange(STATION, 40000, RESOLVER, 53, answer(TPE, name))
        .tcp(STATION, 40000, TPE, 3001, TLS)
        .tcp(STATION, 40001, TPE, 8080, (b"\0\1\2\3", b""))
    )


def test_text_names_tpe_and_the_peers_of_findings(tmp_path: Path) -> None:
    report = text.render(traffic().audit(tmp_path))
    assert f"  TPE   {TPE} (lrc1.example.com)\n" in report
    assert f"{TPE}:8080\n" in report.replace(f"{TPE}:8080 (lrc1.example.com)", f"{TPE}:8080\n")
    assert f"-> {TPE}:8080 (lrc1.example.com)" in " ".join(report.split())


def test_json_has_all_names(tmp_path: Path) -> None:
    value = json.loads(json_report.render(traffic().audit(tmp_path)))
    jsonschema.Draft202012Validator(json_report.schema()).validate(value)
    assert value["names"] == {TPE: ["lrc1.example.com"]}


def test_dhcp_data_of_a_base_station(tmp_path: Path) -> None:
    """The client is found by its leased address: the MAC address in the frames is a router's."""
    result = traffic().audit(tmp_path)
    report = " ".join(text.render(result).split())
    assert "DHCP host name vm, asked for 10.20.30.10, given 10.0.0.2 for 600 s by 10.20.30.2" in report
    (station,) = json.loads(json_report.render(result))["base_stations"]
    assert station["dhcp"] == {
        "mac": "70:76:ff:00:aa:10",
        "host_name": "vm",
        "requested": "10.20.30.10",
        "address": STATION,
        "lease_seconds": 600,
        "server": "10.20.30.2",
    }


def test_mac_address_behind_a_router_is_that_of_dhcp(tmp_path: Path) -> None:
    macs = {STATION: "02:00:00:00:00:01", OTHER: "02:00:00:00:00:01"}
    behind = Traffic(macs, times_to_live={STATION: 63, OTHER: 63}).udp(
        STATION, 68, "10.20.30.2", 67, (">", REQUEST), ("<", acknowledged(STATION))
    )
    behind.tcp(STATION, 40000, TPE, 3001, TLS).tcp(OTHER, 40000, TPE, 9)
    report = text.render(behind.audit(tmp_path))
    assert "  MAC   70:76:ff:00:aa:10 (as DHCP tells it)\n" in report


@pytest.mark.parametrize(
    "name", [b"\x0aa) -> evil\0", b"\x05a\x1b[2J\0", b"\x03a b\0", b"\x04\xe2\x80\xae.\0", b"\0", b"\x01-\0"]
)
def test_invalid_host_name_is_shown_in_json_only(name: bytes, tmp_path: Path) -> None:
    result = traffic(name).audit(tmp_path)
    report = text.render(result)
    assert f"  TPE   {TPE}\n" in report and "evil" not in report
    json_text = json_report.render(result)
    assert "\x1b" not in json_text and "\u202e" not in json_text
    assert len(json.loads(json_text)["names"][TPE]) == 1


def test_names_from_dns_precede_those_of_the_file(tmp_path: Path) -> None:
    resolved = b"\1\0" + (4 + 21).to_bytes(2, "little") + bytes([10, 0, 9, 1]) + b"old.example\0lrc9.a.b\0"
    resolved += bytes(-len(resolved) % 4) + bytes(4)
    frames = [data for _, data in traffic().packets]
    path = tmp_path / "named.pcapng"
    blocks = [build.enhanced(data, ticks) for ticks, data in enumerate(frames)]
    path.write_bytes(build.section() + build.interface() + build.block(4, resolved) + b"".join(blocks))
    result = audit(path)
    assert result.captures[0].facts.names == {TPE: ("old.example", "lrc9.a.b")}
    assert result.names == {TPE: ("lrc1.example.com", "old.example", "lrc9.a.b")}


def test_multicast_responses_give_no_names(tmp_path: Path) -> None:
    _, response = answer(TPE, b"\x04evil\0")
    result = traffic().udp(OTHER, 5353, "224.0.0.251", 5353, (">", response)).audit(tmp_path)
    assert result.names == {TPE: ("lrc1.example.com",)}


def test_names_from_a_file_are_escaped() -> None:
    capture = replace(EXAMPLE.captures[1], facts=replace(EXAMPLE.captures[1].facts, names={"10.0.9.1": (HOSTILE,)}))
    result = replace(EXAMPLE, captures=(EXAMPLE.captures[0], capture))
    assert all(character == "\n" or character.isprintable() for character in text.render(result))
    json_report.render(result).encode("utf-8")
