"""Facts of rows: what the flows of a row negotiated and showed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from analyzer import anonymous
from analyzer.conversations import Conversation
from analyzer.expected import load
from analyzer.protocols.esp import EspFacts
from analyzer.protocols.ftp import FtpFacts, Transfer
from analyzer.protocols.iec104 import Iec104Facts
from analyzer.protocols.ssh import SshFacts
from analyzer.protocols.tls import TlsFacts
from analyzer.reports import FORMATS
from analyzer.reports.wording import facts_text
from analyzer.row_facts import COLLECTORS, MAX_VALUES, row_facts
from tests import samples
from tests.reports.audits import flow
from tests.reports.rendering import rendered

TABLES = load()
TLS_ROW = TABLES["tls"].flow("i38")


def facts_of(name: str, row: str) -> Any:
    """The facts of a row of the only base station of a recorded capture."""
    audit = samples.audit_of(name)
    (station,) = audit.base_stations
    return audit.row_facts[station.station.address, row]


def tls_flows(*facts: TlsFacts) -> list[Conversation]:
    return [flow(number, facts=content) for number, content in enumerate(facts, 1)]


def test_every_protocol_of_the_rows_has_a_collector() -> None:
    rows = [row for table in TABLES.values() for row in table.flows]
    assert {row.protocol for row in rows} <= set(COLLECTORS)


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("ipsec-full-raw-esp", "i1", {"version": "2.0", "chosen": "aes128-sha256-ecp256"}),
        (
            "ipsec-full-raw-esp",
            "i2",
            {"udp_encapsulated": False, "cipher_inferred": "counter mode, as AES-GCM (certain)"},
        ),
        ("tls-http-on-3001", "i3", {"targets": ["172.16.40.10"]}),
        ("tls-http-on-3001", "i38", {}),
        ("tls-http-on-3001", "i39", {"version": "TLS 1.2", "client_certificate": True}),
        ("ipsec-4500-blocked", "n1", {"servers": ["192.168.77.123"], "stratum": 3}),
        ("ipsec-4500-blocked", "n2", {"servers": ["192.168.77.53"]}),
    ],
)
def test_rows_of_captures(name: str, row: str, expected: dict[str, Any]) -> None:
    found = facts_of(name, row)
    assert {key: found.get(key) for key in expected} == expected
    assert bool(found) == bool(expected)


def test_equal_values_are_one_and_different_values_are_a_list() -> None:
    first = TlsFacts(version="TLS 1.2", server_name="a.example", client_certificate=True)
    found = row_facts(TLS_ROW, tls_flows(first, first, replace(first, server_name="b.example")))
    assert found == {"version": "TLS 1.2", "server_name": ["a.example", "b.example"], "client_certificate": True}


def test_values_beyond_the_limit_are_counted() -> None:
    names = [TlsFacts(server_name=f"{number}.example") for number in range(MAX_VALUES + 4)]
    found = row_facts(TLS_ROW, tls_flows(*names))
    assert len(found["server_name"]) == MAX_VALUES
    assert found["more"] == {"server_name": 4}
    assert facts_text(TLS_ROW, found) == "server name 0.example, 1.example, 2.example, +17"


def test_content_of_another_protocol_adds_nothing() -> None:
    assert row_facts(TLS_ROW, [flow(1, facts=SshFacts(client_banner="SSH-2.0-x"))]) == {}


def test_transfers_stand_with_their_row() -> None:
    row = TABLES["plain"].flow("i7")
    transfers = (Transfer("RETR", "/a", "i7"), Transfer("STOR", "/b", "i8"), Transfer("RETR", "/c", None))
    found = row_facts(row, [flow(1, protocol="ftp", facts=FtpFacts(transfers=transfers))])
    assert found == {"transfers": [{"verb": "RETR", "path": "/a"}, {"verb": "RETR", "path": "/c"}]}
    assert facts_text(row, found) == "RETR /a, RETR /c"


def test_apdus_are_added_up() -> None:
    row = next(row for row in TABLES["plain"].flows if row.protocol == "iec104")
    links = [flow(number, facts=Iec104Facts(600, "lrr", startdt_by="originator")) for number in (1, 2)]
    assert facts_text(row, row_facts(row, links)) == "dialect lrr; STARTDT from originator; 1,200 APDUs"


def test_esp_in_text_is_a_number_of_spis() -> None:
    row = TABLES["ipsec"].flow("i2")
    facts = EspFacts(("0x1", "0x2"), False, 2, 0, (), (), (), 0, None, None)
    assert facts_text(row, row_facts(row, [flow(1, facts=facts)])) == "2 SPIs; not in UDP"


def test_no_name_of_the_facts_is_in_an_anonymised_report() -> None:
    audit = samples.audit_of("tls-http-on-3001")
    names = facts_of("tls-http-on-3001", "i39")
    changed = anonymous(audit, bytes(range(32)))
    formats = {report.name: report for report in FORMATS}
    for name in ("json", "text", "markdown", "html"):
        report = str(rendered(formats[name], changed))
        assert names["server_name"] not in report
        assert names["certificates"][0]["subject"] not in report
    rows = json.loads(rendered(formats["json"], changed))["base_stations"][0]["rows"]
    assert next(row["facts"] for row in rows if row["id"] == "i39")["version"] == "TLS 1.2"
