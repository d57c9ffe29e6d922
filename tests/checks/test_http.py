"""HTTP in clear where TLS belongs: its issues, and that no secret is ever repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyzer.findings import Severity
from analyzer.reports import FORMATS, Format
from tests.protocols.test_http import SWITCHING, UPGRADE
from tests.synthetic import OTHER, STATION, TLS, TPE, Traffic, findings_of, statuses

CANARY = "NNSXS-canary-0123456789"
SECRETS = f"Authorization: Bearer {CANARY}\r\nCookie: session={CANARY}\r\n{CANARY}: x\r\nX-Token: {CANARY}\r\n".encode()
UPDATE_INFO = b"POST /update-info HTTP/1.1\r\nHost: cups.example\r\n" + SECRETS + b"\r\n" + b'{"router":1}'
OK = f"HTTP/1.1 200 OK\r\nSet-Cookie: {CANARY}\r\n\r\n".encode() + bytes(14)


def traffic() -> Traffic:
    asked = UPGRADE[:-2] + SECRETS + b"\r\n\x81\x85\1\1\1\1abcde"
    token = f"GET /{CANARY}-and-more?token={CANARY} HTTP/1.1\r\nAuthorization: {CANARY}\r\n\r\n".encode()
    return (
        Traffic()
        .tcp(STATION, 40000, TPE, 443, (UPDATE_INFO, OK))
        .tcp(STATION, 40001, TPE, 4443, (asked, SWITCHING + b"\x81\x05hello"))
        .tcp(STATION, 40002, OTHER, 80, (token, OK))
        .tcp(STATION, 40003, TPE, 443, TLS)
    )


def test_service_in_clear_is_named(tmp_path: Path) -> None:
    result = traffic().audit(tmp_path, mode="basics")
    assert {(finding.rows, finding.severity, finding.summary) for finding in findings_of(result, "TPE121")} == {
        (
            ("i43",),
            Severity.HIGH,
            "Row i43 expects TLS on tcp/443, but the content is HTTP in clear (CUPS update-info, POST /update-info, "
            "status 200).",
        ),
        (
            ("i42",),
            Severity.HIGH,
            "Row i42 expects TLS on tcp/4443, but the content is HTTP in clear (LNS router-info, GET /router-info, "
            "WebSocket, status 101).",
        ),
    }


def test_credentials_in_clear(tmp_path: Path) -> None:
    result = traffic().audit(tmp_path, mode="basics")
    issues = {
        finding.summary: (finding.severity, finding.rows, finding.count) for finding in findings_of(result, "TPE351")
    }
    assert issues == {
        f"Between {STATION} and {TPE} Authorization and Cookie and Set-Cookie cross the network in clear.": (
            Severity.HIGH,
            ("i43",),
            1,
        ),
        f"Between {STATION} and {TPE} Authorization and Cookie cross the network in clear.": (
            Severity.HIGH,
            ("i42",),
            1,
        ),
        f"Between {STATION} and {OTHER} Authorization and Set-Cookie cross the network in clear.": (
            Severity.HIGH,
            (),
            1,
        ),
    }
    assert statuses(result)["i42"] == "malformed"


def test_no_issue_without_credentials(tmp_path: Path) -> None:
    plain = Traffic().tcp(STATION, 40000, TPE, 443, (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"")).audit(tmp_path)
    assert findings_of(plain, "TPE351") == []


@pytest.mark.parametrize("report", FORMATS, ids=lambda report: report.name)
def test_no_secret_in_reports(report: Format, tmp_path: Path) -> None:
    assert CANARY not in str(report.render(traffic().audit(tmp_path, mode="basics")))


def test_no_secret_in_frames_and_texts(tmp_path: Path) -> None:
    result = traffic().audit(tmp_path, mode="basics")
    for shown in (repr(result), repr(result.flows), repr(result.conversations), result.flows_frame().to_csv()):
        assert CANARY not in shown
    assert CANARY not in result.findings_frame().to_csv() + result.rows_frame().to_csv()
    for conversation in result.flows:
        assert CANARY not in repr(conversation) and CANARY not in repr(list(conversation.dissection.items))
