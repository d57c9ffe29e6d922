from __future__ import annotations

import pytest

from analyzer.checks import ntp as checks
from analyzer.findings import ContentCheck, Severity
from analyzer.heads import Direction, Head
from analyzer.protocols import ntp
from tests.checks.test_ssh import fit_of, remarks
from tests.protocols.test_dns import CORPUS, udp, whole_captures
from tests.protocols.test_ntp import (
    ANSWER,
    CONTROL_REQUEST,
    CONTROL_RESPONSE,
    MONLIST_REQUEST,
    MONLIST_RESPONSE,
    REQUEST,
    asked,
    changed,
    exchange,
)


def said(check: ContentCheck, head: Head) -> list[tuple[Severity, str]]:
    return remarks(check, fit_of(ntp, head))


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.id)
def test_an_ordinary_exchange_is_fine(check: ContentCheck) -> None:
    assert said(check, exchange(REQUEST, ANSWER)) == []
    assert said(check, exchange(changed(REQUEST, first=0xDB), changed(ANSWER, first=0x1C))) == []


def test_control_messages() -> None:
    ((severity, sentence),) = said(checks.control_message, exchange(CONTROL_REQUEST, CONTROL_RESPONSE))
    assert severity is Severity.MEDIUM and "mode 6" in sentence
    assert said(checks.version, exchange(CONTROL_REQUEST, CONTROL_RESPONSE)) == []


def test_monlist() -> None:
    ((severity, sentence),) = said(checks.private_message, exchange(MONLIST_REQUEST, MONLIST_RESPONSE))
    assert severity is Severity.MEDIUM and "monlist" in sentence
    ((_, other),) = said(checks.private_message, asked(bytes.fromhex("17000301") + bytes(4)))
    assert "request code 1" in other


@pytest.mark.parametrize("version", [0, 1, 2, 5])
def test_old_and_unknown_versions(version: int) -> None:
    ((severity, sentence),) = said(checks.version, asked(changed(REQUEST, first=version << 3 | 3)))
    assert severity is Severity.MEDIUM and f"version {version} " in sentence


@pytest.mark.parametrize("mode", [0, 1, 2, 5])
def test_other_modes(mode: int) -> None:
    ((severity, sentence),) = said(checks.association_mode, asked(changed(REQUEST, first=4 << 3 | mode)))
    assert severity is Severity.MEDIUM and f"mode {mode} " in sentence


def test_a_kiss_of_death_is_not_called_unsynchronized() -> None:
    head = exchange(REQUEST, changed(ANSWER, first=0xE4, stratum=0, reference=b"RATE"))
    assert said(checks.kiss_of_death, head) == [
        (Severity.LOW, "The time server answers with a kiss-o'-death (RATE)."),
    ]
    assert said(checks.unsynchronized, head) == []


@pytest.mark.parametrize(
    ("first", "stratum", "sign"), [(0xE4, 2, "leap indicator 3"), (0x24, 16, "stratum 16"), (0x24, 0, "stratum 0")]
)
def test_an_unsynchronized_server(first: int, stratum: int, sign: str) -> None:
    head = exchange(REQUEST, changed(ANSWER, first=first, stratum=stratum, reference=bytes(4)))
    ((severity, sentence),) = said(checks.unsynchronized, head)
    assert severity is Severity.LOW and sign in sentence
    unset_client = changed(REQUEST, first=0xE3, stratum=0)
    assert said(checks.unsynchronized, asked(unset_client)) == []


def test_one_remark_for_many_packets() -> None:
    head = udp((123, 123), *((Direction.ORIGINATOR, changed(REQUEST, first=0x21)) for _ in range(40)))
    assert len(said(checks.association_mode, head)) == 1


@pytest.mark.skipif(CORPUS is None, reason="TPE_PCAP_CORPUS names no folder of captures")
def test_checks_on_the_corpus() -> None:
    fired: dict[str, set[str]] = {}
    for truth, found in whole_captures():
        for each in found:
            if each.protocol == "ntp":
                for check in checks.CHECKS:
                    if said(check, each.head):
                        fired.setdefault(check.slug, set()).add(truth["name"])
    assert fired["ntp-control-message"] == {"tcpdump_ntp-control.pcap"}
    assert fired["ntp-private-message"] == {"ndpi_NTPv2.pcap"}
    assert "zeek_NTP_sync.pcap" in fired["ntp-mode"]
    assert "zeek_ntp.pcap" not in set().union(*fired.values())
