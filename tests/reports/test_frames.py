"""Audits as pandas DataFrames."""

from __future__ import annotations

import pandas as pd
import pytest

from analyzer import Audit
from analyzer.expected import UsageError
from analyzer.protocols import PROTOCOLS
from analyzer.reports.frames import ECS, FINDINGS, FLOWS, ROWS, findings_frame, flows_frame, rows_frame
from tests import samples
from tests.reports.audits import BARE, EXAMPLE, HOSTILE_AUDIT

NAMES = [*(module.NAME for module in PROTOCOLS), "ftp-data"]


@pytest.mark.parametrize("result", [EXAMPLE, BARE, HOSTILE_AUDIT], ids=["example", "empty", "hostile"])
def test_columns_and_types_do_not_depend_on_the_content(result: Audit) -> None:
    for render, columns in ((flows_frame, FLOWS), (findings_frame, FINDINGS), (rows_frame, ROWS)):
        table = render(result)
        assert list(table.columns) == list(columns)
        assert [str(kind) for kind in table.dtypes] == list(columns.values())


def test_one_row_per_flow_finding_and_row() -> None:
    assert len(flows_frame(EXAMPLE)) == len(EXAMPLE.flows)
    assert len(findings_frame(EXAMPLE)) == len(EXAMPLE.findings)
    assert len(rows_frame(EXAMPLE)) == sum(len(station.rows) for station in EXAMPLE.base_stations)


def test_row_of_a_flow() -> None:
    first = flows_frame(EXAMPLE).iloc[0]
    assert first["flow"] == 1
    assert first["rows"] == "i38"
    assert first["first"] == pd.Timestamp("2026-11-22T06:37:01.123456Z")
    assert first["facts"]["version"] == "TLS 1.2"
    assert (first["originator"], first["responder_port"]) == ("10.0.0.2", 3001)


def test_absent_values_are_missing() -> None:
    flows = flows_frame(EXAMPLE)
    assert flows.loc[flows["transport"] == "esp", "responder_port"].isna().all()
    assert findings_frame(EXAMPLE)["base_station"].isna().sum() == 1


def test_audit_has_methods_for_frames() -> None:
    pd.testing.assert_frame_equal(EXAMPLE.rows_frame(), rows_frame(EXAMPLE))
    pd.testing.assert_frame_equal(EXAMPLE.findings_frame(), findings_frame(EXAMPLE))
    assert EXAMPLE.flows_frame()["flow"].tolist() == flows_frame(EXAMPLE)["flow"].tolist()
    assert EXAMPLE.rows_frame().groupby("status", observed=True).size()["present"] == 2


def test_flows_of_a_conversation_have_rows_of_their_own() -> None:
    result = samples.audit_of("tls-blocked-rst-drop-icmp")
    flows = flows_frame(result)
    assert len(flows) == result.totals.flows > len(result.conversations)
    for flow, row in zip(result.flows, flows.to_dict("records"), strict=True):
        assert (flow.id, flow.originator.port, flow.first, flow.last, *flow.first_frame, flow.last_frame.number) == (
            row["flow"], row["originator_port"], row["first"].value, row["last"].value,
            row["capture"], row["first_frame"], row["last_frame"],
        )  # fmt: skip


def test_severities_are_ordered_in_concatenated_frames() -> None:
    several = [findings_frame(samples.audit_of(name)) for name in ("tls-http-on-3001", "tls-link-only")]
    together = pd.concat(several)
    assert together["severity"].dtype == several[0]["severity"].dtype
    assert set(together.loc[together["severity"] >= "medium", "severity"]) <= {"medium", "high"}
    assert (together["severity"] >= "medium").any()
    assert (together["severity"] < "medium").any()


def test_row_of_a_finding_has_its_frames_and_filter() -> None:
    finding = findings_frame(samples.audit_of("tls-http-on-3001")).iloc[0]
    assert (finding["capture"], finding["frames"]) == (0, [75, 77, 277, 279])
    assert finding["filter"] == "frame.number in {75, 77, 277, 279}"


def test_facts_of_a_protocol_are_columns() -> None:
    tls = flows_frame(samples.audit_of("tls-expired-cert"), facts="tls")
    assert set(tls["protocol"]) == {"tls"}
    assert "facts" not in tls
    assert tls["tls_version"].dtype == "string"
    assert tls["tls_client_certificate"].dtype == "boolean"
    assert "TLS 1.2" in set(tls["tls_version"].dropna())
    assert any(certificates for certificates in tls["tls_certificates"])


@pytest.mark.parametrize("protocol", NAMES)
def test_columns_of_facts_do_not_depend_on_the_content(protocol: str) -> None:
    none = flows_frame(BARE, facts=protocol)
    some = flows_frame(samples.audit_of("mixed-two-base-stations"), facts=protocol)
    assert none.dtypes.astype(str).to_dict() == some.dtypes.astype(str).to_dict()
    assert len(none) == 0
    assert any(name.startswith(f"{protocol}_") for name in none)


def test_names_of_the_elastic_common_schema() -> None:
    flows = flows_frame(EXAMPLE, names="ecs")
    assert set(ECS) < set(FLOWS)
    assert set(flows) == {*ECS.values(), *(f"tpe_pcap.{name}" for name in FLOWS.keys() - ECS.keys())}
    assert flows["source.ip"].tolist() == flows_frame(EXAMPLE)["originator"].tolist()
    ping = flows_frame(samples.audit_of("plain-ipv6"), names="ecs")["network.transport"]
    assert "ipv6-icmp" in set(ping)
    assert "icmpv6" not in set(ping)


@pytest.mark.parametrize("choice", [{"facts": "gopher"}, {"names": "zeek"}])
def test_unknown_protocol_or_names_are_a_usage_error(choice: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"there (is|are) no .*: there (is|are) "):
        EXAMPLE.flows_frame(**choice)
