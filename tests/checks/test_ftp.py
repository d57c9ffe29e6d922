"""Checks of FTP control connections."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analyzer.checks import ftp as checks
from analyzer.findings import Check, Kind, Severity
from analyzer.heads import Head
from analyzer.protocols import ftp
from tests.checks.matches import STATION, issues, match_of
from tests.protocols.test_ftp import DOWNLOAD, LOGIN, UPLOAD, talk


def issues_of(check: Check, head: Head, client: str = STATION) -> list[tuple[Severity, str]]:
    return issues(check, match_of(ftp, head, client=client))


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.id)
def test_no_issue_with_passive_session(check: Check) -> None:
    assert issues_of(check, talk(*LOGIN, *DOWNLOAD, *UPLOAD)) == []


def test_active_mode_to_own_address_is_no_bounce() -> None:
    head = talk(*LOGIN, ("C", "PORT 10,20,30,10,198,55"), ("S", "200 ok"), ("C", "EPRT |1|10.20.30.10|4000|"))
    assert checks.active_mode.kind is Kind.NOTICE
    assert issues_of(checks.active_mode, head) == [(Severity.INFO, "The client asks for active mode (PORT or EPRT).")]
    assert issues_of(checks.bounce, head) == []
    assert issues_of(checks.bounce, talk(*LOGIN, ("C", "EPRT |2|::ffff:10.20.30.10|4000|")), "10.20.30.10") == []
    assert issues_of(checks.bounce, talk(*LOGIN, ("C", "PORT 10,20,30,10,1,1")), "::ffff:10.20.30.10") == []


def test_bounce() -> None:
    head = talk(*LOGIN, ("C", "PORT 172,16,40,11,0,80"), ("S", "200 ok"), ("C", "PORT 172,16,40,11,0,80"))
    assert issues_of(checks.bounce, head) == [
        (Severity.HIGH, "The client 10.20.30.10 asks the server to connect to 172.16.40.11:80."),
    ]


def test_bounce_that_may_be_nat_is_low() -> None:
    head = talk(*LOGIN, ("C", "PORT 192,168,1,5,200,1"))
    assert [severity for severity, _ in issues_of(checks.bounce, head, "8.8.4.4")] == [Severity.LOW]
    elsewhere = talk(*LOGIN, ("C", "PORT 9,9,9,9,200,1"))
    assert [severity for severity, _ in issues_of(checks.bounce, elsewhere, "8.8.4.4")] == [Severity.HIGH]


def test_passive_elsewhere() -> None:
    head = talk(*LOGIN, ("C", "PASV"), ("S", "227 Entering Passive Mode (10,9,9,9,195,127)."))
    assert issues_of(checks.passive_elsewhere, head) == [
        (Severity.LOW, "The server 172.16.40.10 sends the client to 10.9.9.9:50047 for data."),
    ]


def test_auth_tls_states_outcome() -> None:
    accepted = talk(("S", "220 ready"), ("C", "AUTH TLS"), ("S", "234 go on"))
    assert checks.auth_tls.kind is Kind.NOTICE
    assert issues_of(checks.auth_tls, accepted) == [
        (Severity.INFO, "The client asks for AUTH TLS and the server accepts."),
    ]
    refused = talk(("S", "220 ready"), ("C", "AUTH TLS"), ("S", "500 what"))
    assert issues_of(checks.auth_tls, refused) == [
        (Severity.INFO, "The client asks for AUTH TLS and the server refuses it with 500."),
    ]


def test_transfer_failed() -> None:
    head = talk(*LOGIN, ("C", "EPSV"), ("S", "229 ok (|||7|)"), ("C", "RETR lrr.tar.gz"), ("S", "550 No such file."))
    assert issues_of(checks.transfer_failed, head) == [
        (Severity.LOW, "RETR of lrr.tar.gz fails with 550."),
    ]


def test_logins_refused_from_three_on() -> None:
    guess: tuple[tuple[str, str], ...] = (("C", "USER a"), ("S", "331 ok"), ("C", "PASS b"), ("S", "530 no"))
    assert issues_of(checks.logins_refused, talk(LOGIN[0], *guess, *guess)) == []
    assert issues_of(checks.logins_refused, talk(LOGIN[0], *guess, *guess, *guess)) == [
        (Severity.LOW, "The server refuses 3 logins."),
    ]


@pytest.mark.parametrize("path", ["../../etc/passwd", "/UPLOAD_LRR/../x", "a\\..\\b"])
def test_path_escapes(path: str) -> None:
    assert [severity for severity, _ in issues_of(checks.path_escapes, talk(*LOGIN, ("C", f"RETR {path}")))] == [
        Severity.LOW
    ]
    assert issues_of(checks.path_escapes, talk(*LOGIN, ("C", "RETR a..b"))) == []


@pytest.mark.parametrize("argument", ["EXEC id", "exec id", "CPFR /etc/passwd"])
def test_site_command(argument: str) -> None:
    ((severity, sentence),) = issues_of(checks.site_command, talk(*LOGIN, ("C", f"SITE {argument}")))
    assert severity is Severity.MEDIUM and "once" in sentence
    assert issues_of(checks.site_command, talk(*LOGIN, ("C", "SITE CHMOD 644 a"), ("C", "SITE HELP"))) == []


def test_not_read_whole() -> None:
    match = match_of(ftp, talk(*LOGIN))
    sent = len(match.conversation.head.streams[0].data) + 1000, match.conversation.payload[1]
    longer = replace(match, conversation=match.conversation._replace(payload=sent))
    assert issues(checks.not_read_whole, longer) == [
        (Severity.INFO, "Of what the client says, 33 of 1,033 bytes were read."),
    ]
