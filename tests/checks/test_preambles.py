"""The notice that names proxies, load balancers and STARTTLS."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from analyzer.findings import Severity
from analyzer.reports import FORMATS, Format, html, text
from analyzer.reports import json as json_report
from tests import samples
from tests.protocols.test_preambles import (
    CONNECT,
    ESTABLISHED,
    FORBIDDEN,
    LDAP,
    PROXY_V1,
    SMTP,
    SOCKS5,
    SOCKS5_OK,
    SSL_REQUEST,
)
from tests.reports.rendering import rendered
from tests.synthetic import OTHER, STATION, TLS, TPE, Traffic, findings_of

SERVER = f"{OTHER}, tcp/3128"


@pytest.mark.parametrize(
    ("client", "server", "tls", "severity", "sentence"),
    [
        (
            CONNECT,
            ESTABLISHED,
            TLS,
            Severity.LOW,
            f"{STATION} connects to tpe.example:3001 through the proxy {SERVER} (HTTP CONNECT); TLS follows.",
        ),
        (
            CONNECT,
            FORBIDDEN,
            (b"", b""),
            Severity.LOW,
            f"The proxy {SERVER}, refused to connect {STATION} to tpe.example:3001 (HTTP CONNECT): HTTP 403.",
        ),
        (
            CONNECT,
            b"",
            (b"", b""),
            Severity.LOW,
            f"The proxy {SERVER}, did not answer the request of {STATION} to connect to tpe.example:3001 "
            "(HTTP CONNECT).",
        ),
        (
            SOCKS5,
            SOCKS5_OK,
            TLS,
            Severity.LOW,
            f"{STATION} connects to tpe.example:3001 through the proxy {SERVER} (SOCKS 5); TLS follows.",
        ),
        (
            PROXY_V1,
            b"",
            TLS,
            Severity.INFO,
            f"A PROXY protocol v1 header precedes the TLS between {STATION} and {OTHER} on tcp/3128, which names "
            "203.0.113.7 as the client.",
        ),
        (*SMTP, TLS, Severity.INFO, f"{STATION} and {OTHER} on tcp/3128 switched to TLS with STARTTLS."),
        (*LDAP, TLS, Severity.INFO, f"{STATION} and {OTHER} on tcp/3128 switched to TLS with StartTLS of LDAP."),
        (
            SSL_REQUEST,
            b"N",
            (b"", b""),
            Severity.LOW,
            f"{OTHER} on tcp/3128 refused the SSLRequest of PostgreSQL of {STATION}.",
        ),
    ],
)
def test_preamble_is_named(
    client: bytes, server: bytes, tls: tuple[bytes, bytes], severity: Severity, sentence: str, tmp_path: Path
) -> None:
    traffic = Traffic().tcp(STATION, 40000, OTHER, 3128, (client + tls[0], server + tls[1]))
    (finding,) = findings_of(traffic.audit(tmp_path, base_stations=[STATION]), "TPE141")
    assert (finding.severity, finding.summary) == (severity, sentence)
    assert finding.frames


def test_services_behind_one_load_balancer_are_one_notice(tmp_path: Path) -> None:
    traffic = Traffic()
    for number, port in enumerate((3001, 3002)):
        traffic.tcp(STATION, 40000 + number, TPE, port, (PROXY_V1 + TLS[0], TLS[1]))
    result = traffic.audit(tmp_path)
    (finding,) = findings_of(result, "TPE141")
    assert "on tcp/3001 and tcp/3002" in finding.summary
    assert not findings_of(result, "TPE121")


def test_each_of_several_preambles_is_named(tmp_path: Path) -> None:
    traffic = Traffic().tcp(STATION, 40000, OTHER, 3128, (PROXY_V1 + CONNECT + TLS[0], ESTABLISHED + TLS[1]))
    result = traffic.audit(tmp_path, base_stations=[STATION])
    assert [finding.summary for finding in findings_of(result, "TPE141")] == [
        f"{STATION} connects to tpe.example:3001 through the proxy {SERVER} (HTTP CONNECT); TLS follows.",
        f"A PROXY protocol v1 header precedes the HTTP CONNECT between {STATION} and {OTHER} on tcp/3128, which names "
        "203.0.113.7 as the client.",
    ]
    report = json.loads(json_report.render(result))
    jsonschema.Draft202012Validator(json_report.schema()).validate(report)
    assert report["flows"][0]["preamble"]["inner"]["name"] == "HTTP CONNECT"


def test_flows_of_the_json_report_show_the_preamble_without_credentials(tmp_path: Path) -> None:
    traffic = Traffic().tcp(STATION, 40000, OTHER, 3128, (CONNECT + TLS[0], ESTABLISHED + TLS[1]))
    result = traffic.audit(tmp_path, base_stations=[STATION])
    (flow,) = json.loads(json_report.render(result))["flows"]
    assert flow["preamble"] == {
        "name": "HTTP CONNECT",
        "target": "tpe.example",
        "port": 3001,
        "outcome": "accepted",
    }
    for report in (json_report, text, html):
        assert "hunter2" not in report.render(result)


@pytest.mark.parametrize("name", ["tls-other-services", "tls-preambles"])
@pytest.mark.parametrize("report", FORMATS, ids=lambda report: report.name)
def test_secrets_of_other_protocols_reach_no_report(report: Format, name: str) -> None:
    """The captures hold an MQTT password, an SNMP community, and passwords of TR-069, SOCKS and an HTTP proxy."""
    assert samples.capture(name).read_bytes().count(b"hunter2") > 3
    content = rendered(report, samples.audit_of(name))
    assert "hunter" not in (content if isinstance(content, str) else content.decode("latin-1"))
