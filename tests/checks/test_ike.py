"""Checks of IKE."""

from __future__ import annotations

import dataclasses
import struct
from hashlib import sha1, sha256
from ipaddress import ip_address
from pathlib import Path

import pytest

from analyzer.checks.ike import CHECKS
from analyzer.findings import Kind, Scope, Severity
from analyzer.heads import Direction
from analyzer.protocols import ike
from tests import samples
from tests.checks.matches import STATION, TPE, issues_by_check, match_of
from tests.protocols.ike_messages import (
    AES128,
    AES256,
    AGGRESSIVE,
    ALLOWED,
    ECP256,
    ESP_BYTES,
    INIT_REQUEST,
    INIT_RESPONSE,
    KEEPALIVE,
    MARKED_AUTH,
    ORIGINATOR,
    PRF256,
    RESPONDER,
    SHA256,
    SPI_I,
    SPI_R,
    encrypted,
    fragment,
    head_of,
    isakmp_sa,
    message,
    notify,
    proposal,
)
from tests.synthetic import Traffic, findings_of


def issues_of(
    *sent: tuple[Direction, bytes], ports: tuple[int, int] = (500, 500)
) -> dict[str, tuple[Severity, str, tuple[int, ...]]]:
    """Issues about a flow that matches row i1, by check."""
    return issues_by_check(match_of(ike, head_of(*sent, ports=ports), "i1"), FLOW_CHECKS)


FLOW_CHECKS = tuple(check for check in CHECKS if check.scope is Scope.FLOW)

Transforms = tuple[tuple[int, int, int | None], ...]


def offer(*proposals: Transforms) -> bytes:
    """An IKE_SA_INIT request with several proposals."""
    last = len(proposals)
    parts = [proposal(number, *transforms, last=number == last) for number, transforms in enumerate(proposals, 1)]
    return message(34, (33, b"".join(parts)))


def choice(transforms: Transforms) -> bytes:
    """An IKE_SA_INIT response."""
    return message(34, (33, proposal(1, *transforms)), flags=0x20, spi_r=SPI_R)


def refusal(kind: int, data: bytes = b"") -> bytes:
    """An IKE_SA_INIT response with nothing but a notification."""
    return message(34, notify(kind, data), flags=0x20)


NEAR_MISS = (AES256, SHA256, PRF256, ECP256)
WEAK = ((1, 3, None), (3, 1, None), (2, 1, None), (4, 2, None))


def test_no_issue_with_compliant_tunnel() -> None:
    assert issues_of((ORIGINATOR, INIT_REQUEST), (RESPONDER, INIT_RESPONSE)) == {}
    assert issues_of(
        (ORIGINATOR, MARKED_AUTH), (ORIGINATOR, ESP_BYTES), (ORIGINATOR, KEEPALIVE), ports=(4500, 4500)
    ).keys() == {"TPE220"}


@pytest.mark.parametrize("aggressive", [False, True])
def test_version_1_is_high_in_aggressive_mode(aggressive: bool) -> None:
    sa = isakmp_sa(((1, 7), (14, 128), (2, 2), (4, 2), (3, 1)))
    main = (
        (ORIGINATOR, message(2, sa, version=0x10, flags=0)),
        (RESPONDER, message(2, sa, version=0x10, flags=0, spi_r=SPI_R)),
    )
    found = issues_of(*((ORIGINATOR, AGGRESSIVE[0]), (RESPONDER, AGGRESSIVE[1])) if aggressive else main)
    assert set(found) - {"TPE213"} == {"TPE201"}
    severity, sentence, frames = found["TPE201"]
    assert severity is (Severity.HIGH if aggressive else Severity.MEDIUM)
    assert ("Aggressive" if aggressive else "Main Mode") in sentence and "aes128-sha1-modp1024" in sentence
    assert frames == (1, 2)


def test_chosen_proposal_not_allowed() -> None:
    found = issues_of((ORIGINATOR, offer(ALLOWED, NEAR_MISS)), (RESPONDER, choice(NEAR_MISS)))
    severity, sentence, frames = found["TPE202"]
    assert severity is Severity.MEDIUM and frames == (2,)
    assert "aes256-sha256-ecp256" in sentence and "near miss" in sentence
    severity, sentence, _ = issues_of((ORIGINATOR, offer(ALLOWED, WEAK)), (RESPONDER, choice(WEAK)))["TPE202"]
    assert severity is Severity.HIGH and "near miss" not in sentence


def test_no_allowed_proposal_offered() -> None:
    found = issues_of((ORIGINATOR, offer(WEAK, NEAR_MISS)))
    assert set(found) == {"TPE203"}
    assert found["TPE203"][0] is Severity.HIGH and "3des-md5-modp1024" in found["TPE203"][1]


def test_extra_proposal_offered() -> None:
    found = issues_of((ORIGINATOR, offer(ALLOWED, WEAK)), (RESPONDER, choice(ALLOWED)))
    assert set(found) == {"TPE204"}
    severity, sentence, frames = found["TPE204"]
    assert severity is Severity.LOW and "3des-md5-modp1024" in sentence and "broken today: 3des" in sentence
    assert frames == (1,)


def test_explicit_prf_makes_another_proposal() -> None:
    other = (AES128, SHA256, (2, 6, None), ECP256)
    found = issues_of((ORIGINATOR, offer(other)), (RESPONDER, choice(other)))
    assert "aes128-sha256-prfsha384-ecp256" in found["TPE202"][1]


def test_no_proposal_chosen_names_the_offer() -> None:
    found = issues_of((ORIGINATOR, offer(NEAR_MISS)), (RESPONDER, refusal(14)))
    severity, sentence, frames = found["TPE205"]
    assert severity is Severity.MEDIUM and frames == (2,)
    assert "NO_PROPOSAL_CHOSEN" in sentence and "aes256-sha256-ecp256" in sentence
    later = issues_of(
        (ORIGINATOR, offer(NEAR_MISS)), (RESPONDER, refusal(14)), (ORIGINATOR, INIT_REQUEST), (RESPONDER, INIT_RESPONSE)
    )
    assert later["TPE205"][0] is Severity.LOW


def test_invalid_ke_without_recovery() -> None:
    other = (AES128, (3, 13, None), (2, 6, None), (4, 20, None))
    attempt = ((ORIGINATOR, offer(other, ALLOWED)), (RESPONDER, refusal(17, b"\x00\x13")))
    assert issues_of(*attempt)["TPE206"][0] is Severity.MEDIUM
    assert issues_of(*attempt, (ORIGINATOR, offer(other, ALLOWED)), (RESPONDER, choice(ALLOWED))) == {}


def test_authentication_failed_and_other_errors_in_clear() -> None:
    assert issues_of((ORIGINATOR, INIT_REQUEST), (RESPONDER, refusal(24)))["TPE207"][0] is Severity.MEDIUM
    severity, sentence, _ = issues_of((ORIGINATOR, INIT_REQUEST), (RESPONDER, refusal(7)))["TPE210"]
    assert severity is Severity.LOW and "INVALID_SYNTAX" in sentence


def test_weak_proposal_chosen_where_the_row_lists_none() -> None:
    match = match_of(ike, head_of((ORIGINATOR, offer(WEAK)), (RESPONDER, choice(WEAK))), "i1")
    without_list = dataclasses.replace(match, rows=(dataclasses.replace(match.row, ike_proposals=()),))
    found = issues_by_check(without_list, FLOW_CHECKS)
    assert set(found) == {"TPE208"} and "modp1024" in found["TPE208"][1]


def test_chosen_proposal_never_offered() -> None:
    other = (AES128, (3, 13, None), (2, 6, None), (4, 20, None))
    found = issues_of((ORIGINATOR, offer(ALLOWED)), (RESPONDER, choice(other)))
    assert found["TPE209"][0] is Severity.HIGH and found["TPE209"][2] == (1, 2)


def test_tunnel_older_than_the_capture_is_a_notice(tmp_path: Path) -> None:
    dpd = bytes(4) + message(37, (46, bytes(52)), flags=0x20, spi_r=SPI_R, message_id=2)
    traffic = Traffic().udp(STATION, 4500, TPE, 4500, ("<", dpd), (">", dpd), (">", ESP_BYTES), ("<", ESP_BYTES))
    (finding,) = findings_of(traffic.audit(tmp_path), "TPE211")
    assert (finding.kind, finding.severity, finding.rows) == (Kind.NOTICE, Severity.INFO, ("i1",))


def test_proposal_not_seen_counts_rekeyings(tmp_path: Path) -> None:
    rekeyed = ((">", encrypted(36, 7)), ("<", encrypted(36, 7, flags=0x20)))
    (finding,) = findings_of(Traffic().udp(STATION, 4500, TPE, 4500, *rekeyed).audit(tmp_path), "TPE211")
    assert finding.summary.endswith("; 1 rekeying in it is encrypted, too.")


def test_proposal_is_seen_where_another_flow_of_the_sa_shows_it() -> None:
    """MOBIKE moves the SA to other addresses; TPE133 says that it is one."""
    result = samples.audit_of("ipsec-mobike")
    assert not findings_of(result, "TPE211")
    (finding,) = findings_of(result, "TPE133")
    assert "one IKE SA answers from 172.16.40.10, 172.16.40.11 and 172.16.40.12" in finding.summary


def test_allowed_proposal_among_many_combinations_is_found() -> None:
    many = (*((1, 12, bits) for bits in (128, 192, 256)), *((3, kind, None) for kind in (2, 12, 13, 14)))
    many += (*((2, kind, None) for kind in (2, 5, 6, 7)), *((4, kind, None) for kind in (14, 19, 20, 21)))
    found = issues_of((ORIGINATOR, offer(many)), (RESPONDER, choice(ALLOWED)))
    assert set(found) == {"TPE204"}


def test_additional_key_exchange_none_is_ignored() -> None:
    hybrid = (*ALLOWED, (6, 0, None))
    assert issues_of((ORIGINATOR, offer(hybrid)), (RESPONDER, choice(hybrid))) == {}


def test_choice_may_omit_only_optional_types() -> None:
    found = issues_of((ORIGINATOR, offer(ALLOWED)), (RESPONDER, choice((AES128, PRF256, ECP256))))
    assert "TPE209" in found
    assert "TPE209" not in issues_of(
        (ORIGINATOR, offer((*ALLOWED, (6, 36, None), (6, 0, None)))), (RESPONDER, choice(ALLOWED))
    )


def test_foreign_datagram() -> None:
    found = issues_of((ORIGINATOR, INIT_REQUEST), (RESPONDER, INIT_RESPONSE), (ORIGINATOR, b"what is this doing here?"))
    assert set(found) == {"TPE212"} and found["TPE212"][2] == (3,)


def nat_detection(spi_r: bytes, source: tuple[str, int], destination: tuple[str, int]) -> list[tuple[int, bytes]]:
    """NAT detection notifications of a message from ``source`` to ``destination``."""
    return [
        notify(kind, sha1(SPI_I + spi_r + ip_address(address).packed + struct.pack(">H", port)).digest())
        for kind, (address, port) in ((16388, source), (16389, destination))
    ]


STATION_END, TPE_END, PUBLIC_END = (STATION, 500), (TPE, 500), ("198.51.100.9", 31234)


@pytest.mark.parametrize(
    ("asked", "answered", "clause"),
    [
        ((STATION_END, TPE_END), (TPE_END, STATION_END), None),
        # The capture point is inside the station's NAT, outside of it, outside of both NATs, or inside TPE's.
        (
            (STATION_END, TPE_END),
            (TPE_END, PUBLIC_END),
            f"A NAT is in the path: {STATION} is translated between the capture point",
        ),
        (
            (PUBLIC_END, TPE_END),
            (TPE_END, STATION_END),
            f"A NAT may be in the path: {STATION} is translated before the capture",
        ),
        ((PUBLIC_END, PUBLIC_END), (PUBLIC_END, PUBLIC_END), "No peer hashes an address of the packets"),
        (
            (STATION_END, PUBLIC_END),
            (TPE_END, STATION_END),
            f"A NAT is in the path: {TPE} is translated between the capture point",
        ),
    ],
)
def test_nat_in_path_names_the_translated_address(
    asked: tuple[tuple[str, int], tuple[str, int]],
    answered: tuple[tuple[str, int], tuple[str, int]],
    clause: str | None,
) -> None:
    found = issues_of(
        (ORIGINATOR, message(34, (33, proposal(1, *ALLOWED)), *nat_detection(bytes(8), *asked))),
        (
            RESPONDER,
            message(34, (33, proposal(1, *ALLOWED)), *nat_detection(SPI_R, *answered), flags=0x20, spi_r=SPI_R),
        ),
    )
    assert ("TPE213" in found) == (clause is not None)
    assert clause is None or found["TPE213"][1].startswith(clause)


@pytest.mark.parametrize("translated", [False, True])
def test_nat_detection_of_ikev1_uses_the_chosen_hash(translated: bool) -> None:
    sa = isakmp_sa(((1, 7), (14, 128), (2, 4), (4, 19), (3, 1)))
    source = PUBLIC_END if translated else STATION_END
    hashes = (
        (20, sha256(SPI_I + SPI_R + ip_address(address).packed + struct.pack(">H", port)).digest())
        for address, port in (TPE_END, source)
    )
    found = issues_of(
        (ORIGINATOR, message(2, sa, version=0x10, flags=0)),
        (RESPONDER, message(2, sa, version=0x10, flags=0, spi_r=SPI_R)),
        (ORIGINATOR, message(2, (4, bytes(64)), (10, bytes(32)), *hashes, version=0x10, flags=0, spi_r=SPI_R)),
    )
    assert set(found) == {"TPE201", *(["TPE213"] if translated else [])}


def test_request_unanswered_after_three_transmissions() -> None:
    established = ((ORIGINATOR, encrypted(37, 4)), (RESPONDER, encrypted(37, 4, flags=0x20)))
    assert "TPE214" not in issues_of(*established, *[(ORIGINATOR, encrypted(37, 5))] * 2, ports=(4500, 4500))
    found = issues_of(*established, *[(ORIGINATOR, encrypted(37, 5))] * 4, ports=(4500, 4500))
    severity, sentence, frames = found["TPE214"]
    assert severity is Severity.LOW and frames == (3, 4, 5, 6)
    assert sentence == "Nobody answers INFORMATIONAL 5 of the initiator."
    answered = (*[(ORIGINATOR, encrypted(37, 5))] * 4, (RESPONDER, encrypted(37, 5, flags=0x20)))
    assert "TPE214" not in issues_of(*established, *answered, ports=(4500, 4500))


def test_redirected_names_the_gateway() -> None:
    found = issues_of(
        (ORIGINATOR, offer(ALLOWED)), (RESPONDER, refusal(16407, b"\x01\x04\xc0\x00\x02\x07" + bytes(32)))
    )
    assert set(found) == {"TPE215"} and "192.0.2.7" in found["TPE215"][1] and found["TPE215"][2] == (2,)


def exchanged(group: int, length: int, transforms: Transforms = ALLOWED) -> bytes:
    return message(34, (33, proposal(1, *transforms)), (34, struct.pack(">HH", group, 0) + bytes(length)))


@pytest.mark.parametrize(
    ("sent", "clause"),
    [
        (exchanged(19, 64), None),
        (exchanged(19, 65), "65 bytes instead of 64"),
        (exchanged(20, 96), "of group ecp384, which is not proposed"),
        (exchanged(96, 17, (*ALLOWED, (4, 96, None))), None),
    ],
)
def test_key_exchange_contradiction(sent: bytes, clause: str | None) -> None:
    found = issues_of((ORIGINATOR, sent))
    assert ("TPE216" in found) == (clause is not None)
    assert clause is None or (clause in found["TPE216"][1] and found["TPE216"][0] is Severity.MEDIUM)


def test_key_exchange_of_another_group_than_the_chosen_one() -> None:
    answer = message(
        34, (33, proposal(1, *ALLOWED)), (34, struct.pack(">HH", 20, 0) + bytes(96)), flags=0x20, spi_r=SPI_R
    )
    assert "ecp384, which is not chosen" in issues_of((ORIGINATOR, exchanged(19, 64)), (RESPONDER, answer))["TPE216"][1]


@pytest.mark.parametrize(("length", "allowed"), [(15, False), (16, True), (256, True), (257, False)])
def test_nonce_length(length: int, allowed: bool) -> None:
    found = issues_of((ORIGINATOR, message(34, (33, proposal(1, *ALLOWED)), (40, bytes(length)))))
    assert ("TPE217" not in found) == allowed


def test_fragments_lost() -> None:
    lost = ((ORIGINATOR, fragment(1, 3)), (ORIGINATOR, fragment(3, 3)))
    severity, sentence, frames = issues_of(*lost, ports=(4500, 4500))["TPE218"]
    assert severity is Severity.LOW and frames == (1, 2)
    assert sentence == "Of IKE_AUTH 1 of the initiator, in 3 fragments, these never appear: 2; it is not answered."
    assert "TPE218" not in issues_of(*lost, (ORIGINATOR, fragment(2, 3)), ports=(4500, 4500))
    assert "TPE218" not in issues_of(*lost, (RESPONDER, fragment(1, 1, flags=0x20)), ports=(4500, 4500))


def test_choice_ambiguous() -> None:
    both = (AES128, AES256, SHA256, PRF256, ECP256)
    found = issues_of((ORIGINATOR, offer(both)), (RESPONDER, choice(both)))
    assert found["TPE219"][0] is Severity.MEDIUM and found["TPE219"][2] == (2,)
    two = message(34, (33, proposal(1, *ALLOWED, last=False) + proposal(2, *ALLOWED)), flags=0x20, spi_r=SPI_R)
    assert "TPE219" in issues_of((ORIGINATOR, offer(ALLOWED)), (RESPONDER, two))
    assert "TPE219" not in issues_of((ORIGINATOR, offer(both)), (RESPONDER, choice(ALLOWED)))


def test_cited_frames_are_bounded() -> None:
    sent = [(ORIGINATOR, message(34, (33, proposal(1, *WEAK)), (40, bytes(32 + at)))) for at in range(40)]
    assert len(issues_of(*sent)["TPE203"][2]) == 8
