from __future__ import annotations

from dataclasses import replace

import pytest

from analyzer.checks import ftp as checks
from analyzer.findings import Check, Kind, Severity
from analyzer.heads import Head
from analyzer.protocols import ftp
from tests.checks.test_ssh import fit_of, remarks
from tests.protocols.test_ftp import DOWNLOAD, LOGIN, UPLOAD, talk


def said(check: Check, head: Head, client: str = "10.20.30.10") -> list[tuple[Severity, str]]:
    return remarks(check, fit_of(ftp, head, client))


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.id)
def test_a_passive_session_is_fine(check: Check) -> None:
    assert said(check, talk(*LOGIN, *DOWNLOAD, *UPLOAD)) == []


def test_active_mode_is_a_notice_and_no_bounce() -> None:
    head = talk(*LOGIN, ("C", "PORT 10,20,30,10,198,55"), ("S", "200 ok"), ("C", "EPRT |1|10.20.30.10|4000|"))
    assert checks.active_mode.kind is Kind.NOTICE
    assert said(checks.active_mode, head) == [(Severity.INFO, "The client asks for active mode (PORT and EPRT).")]
    assert said(checks.bounce, head) == []
    assert said(checks.bounce, talk(*LOGIN, ("C", "EPRT |2|::ffff:10.20.30.10|4000|")), "10.20.30.10") == []
    assert said(checks.bounce, talk(*LOGIN, ("C", "PORT 10,20,30,10,1,1")), "::ffff:10.20.30.10") == []


def test_a_port_of_somebody_else_is_a_bounce() -> None:
    head = talk(*LOGIN, ("C", "PORT 172,16,40,11,0,80"), ("S", "200 ok"), ("C", "PORT 172,16,40,11,0,80"))
    assert said(checks.bounce, head) == [
        (Severity.HIGH, "The client 10.20.30.10 asks the server to connect to 172.16.40.11:80."),
    ]


def test_a_private_address_from_a_public_client_may_be_a_nat() -> None:
    head = talk(*LOGIN, ("C", "PORT 192,168,1,5,200,1"))
    assert [each[0] for each in said(checks.bounce, head, "8.8.4.4")] == [Severity.LOW]
    elsewhere = talk(*LOGIN, ("C", "PORT 9,9,9,9,200,1"))
    assert [each[0] for each in said(checks.bounce, elsewhere, "8.8.4.4")] == [Severity.HIGH]


def test_a_server_that_sends_its_client_elsewhere() -> None:
    head = talk(*LOGIN, ("C", "PASV"), ("S", "227 Entering Passive Mode (10,9,9,9,195,127)."))
    assert said(checks.passive_elsewhere, head) == [
        (Severity.LOW, "The server 172.16.40.10 sends the client to 10.9.9.9:50047 for data."),
    ]


def test_auth_tls_is_a_notice() -> None:
    accepted = talk(("S", "220 ready"), ("C", "AUTH TLS"), ("S", "234 go on"))
    assert checks.auth_tls.kind is Kind.NOTICE
    assert said(checks.auth_tls, accepted) == [
        (Severity.INFO, "The client asks for AUTH TLS and the server accepts."),
    ]
    refused = talk(("S", "220 ready"), ("C", "AUTH TLS"), ("S", "500 what"))
    assert said(checks.auth_tls, refused) == [
        (Severity.INFO, "The client asks for AUTH TLS and the server is not seen to accept."),
    ]


def test_transfers_that_fail() -> None:
    head = talk(*LOGIN, ("C", "EPSV"), ("S", "229 ok (|||7|)"), ("C", "RETR lrr.tar.gz"), ("S", "550 No such file."))
    assert said(checks.transfer_failed, head) == [
        (Severity.LOW, "RETR of lrr.tar.gz fails with 550."),
    ]


def test_guesses_at_the_password() -> None:
    guess: tuple[tuple[str, str], ...] = (("C", "USER a"), ("S", "331 ok"), ("C", "PASS b"), ("S", "530 no"))
    assert said(checks.logins_refused, talk(LOGIN[0], *guess, *guess)) == []
    assert said(checks.logins_refused, talk(LOGIN[0], *guess, *guess, *guess)) == [
        (Severity.LOW, "The server refuses 3 logins."),
    ]


@pytest.mark.parametrize("path", ["../../etc/passwd", "/UPLOAD_LRR/../x", "a\\..\\b"])
def test_paths_that_go_up(path: str) -> None:
    assert [each[0] for each in said(checks.path_escapes, talk(*LOGIN, ("C", f"RETR {path}")))] == [Severity.LOW]
    assert said(checks.path_escapes, talk(*LOGIN, ("C", "RETR a..b"))) == []


def test_a_control_connection_that_was_not_read_whole() -> None:
    fit = fit_of(ftp, talk(*LOGIN))
    sent = len(fit.conversation.head.streams[0].data) + 1000, fit.conversation.payload[1]
    longer = replace(fit, conversation=fit.conversation._replace(payload=sent))
    assert remarks(checks.not_read_whole, longer) == [
        (Severity.INFO, "Of what the client says, 33 of 1,033 bytes were read."),
    ]


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.id)
def test_documentation_has_its_four_paragraphs(check: Check) -> None:
    paragraphs = [part.strip() for part in check.documentation.strip().split("\n\n")]
    assert [part.split(":")[0] for part in paragraphs] == ["Flags", "Why", "Evidence", "Remedy"]
