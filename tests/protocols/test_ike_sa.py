"""IKE SAs across messages, and the facts that follow."""

from __future__ import annotations

import pytest

from analyzer.messages import to_json
from tests.protocols.ike_messages import (
    AES128,
    AES256,
    AGGRESSIVE,
    ALLOWED,
    ECP256,
    INIT_REQUEST,
    INIT_RESPONSE,
    ORIGINATOR,
    PRF256,
    QUICK_MODE,
    REDIRECT_DATA,
    RESPONDER,
    SHA256,
    SPI_I,
    SPI_R,
    choice,
    encrypted,
    facts_of,
    fragment,
    message,
    notify,
    offer,
    proposal,
    sa_of,
)


def test_ike_sa_init_shows_offer_and_choice() -> None:
    shown = to_json(facts_of((ORIGINATOR, INIT_REQUEST), (RESPONDER, INIT_RESPONSE)))
    assert shown["version"] == "2.0"
    assert shown["exchanges"] == ["IKE_SA_INIT"]
    assert shown["offered"] == ["aes128-sha256-ecp256", "aes128-sha384-ecp384", "aes256-sha512-ecp521"]
    assert shown["chosen"] == "aes128-sha256-ecp256"
    assert shown["nat_traversal"] is False
    assert shown["notifies"][:2] == ["NAT_DETECTION_SOURCE_IP", "NAT_DETECTION_DESTINATION_IP"]
    assert (shown["initiator_spi"], shown["responder_spi"]) == ("0cacfbd6a5133f55", "83bfd4ba6392f1ac")
    assert not [key for key in shown if key.startswith("_")]


def test_ikev1_shows_its_proposals_until_encryption_begins() -> None:
    facts = facts_of((ORIGINATOR, AGGRESSIVE[0]), (RESPONDER, AGGRESSIVE[1]), (ORIGINATOR, QUICK_MODE))
    assert facts.version == "1.0"
    assert facts.exchanges == ("Aggressive", "Quick Mode")
    assert facts.offered == ("aes128-sha1-modp1024", "3des-md5-modp1536")
    assert facts.chosen == "aes128-sha1-modp1024"
    assert facts.vendor_ids == ("afcad71368a1f1c96b8696fc77570100",)


def test_aggressive_mode_shows_authentication_and_identity() -> None:
    sa = sa_of((ORIGINATOR, AGGRESSIVE[0]), (RESPONDER, AGGRESSIVE[1]), (ORIGINATOR, QUICK_MODE))
    assert sa.authentication == ("pre-shared key",) and sa.identities == ("station",)
    assert sa.exchanges == {"Aggressive": 2, "Quick Mode": 1}


def test_the_last_agreed_sa_stands_for_the_flow() -> None:
    second = b"\x22" * 8
    facts = facts_of(
        (ORIGINATOR, INIT_REQUEST),
        (ORIGINATOR, INIT_REQUEST),
        (RESPONDER, INIT_RESPONSE),
        (ORIGINATOR, message(34, (33, proposal(1, AES256, SHA256, PRF256, ECP256)), spi_i=second)),
    )
    assert facts.initiator_spi == SPI_I.hex()
    assert [(sa.retransmissions, sa.chosen is not None) for sa in facts._sas] == [(1, True), (0, False)]


def test_an_sa_after_create_child_sa_follows_the_rekeyed_one() -> None:
    facts = facts_of(
        (ORIGINATOR, INIT_REQUEST),
        (RESPONDER, INIT_RESPONSE),
        (ORIGINATOR, encrypted(36, 2)),
        (RESPONDER, encrypted(36, 2, flags=0x20)),
        (ORIGINATOR, encrypted(37, 0, spi_i=b"\x33" * 8)),
        ports=(4500, 4500),
    )
    assert [(sa.mid_session, sa.follows) for sa in facts.sas] == [(False, None), (True, SPI_I.hex())]


def test_an_sa_older_than_the_capture_shows_unanswered_and_unasked_messages() -> None:
    sa = sa_of(
        (RESPONDER, encrypted(37, 4, flags=0x20)),
        (ORIGINATOR, encrypted(37, 5)),
        (RESPONDER, encrypted(37, 5, flags=0x20)),
        (RESPONDER, encrypted(36, 0, flags=0x00)),
        (ORIGINATOR, encrypted(36, 0, flags=0x28)),
        (ORIGINATOR, encrypted(37, 6)),
        (ORIGINATOR, encrypted(37, 6)),
        ports=(4500, 4500),
    )
    assert sa.mid_session and sa.chosen is None and sa.rekeys == 1
    assert sa.unasked == ("INFORMATIONAL 4 of the initiator",)
    assert sa.unanswered == ("INFORMATIONAL 6 of the initiator",)
    assert sa.exchanges == {"INFORMATIONAL": 4, "CREATE_CHILD_SA": 2} and sa.retransmissions == 1


def test_fragments_are_counted_per_message_and_smaller_ones_start_again() -> None:
    sa = sa_of(
        *((ORIGINATOR, fragment(number, 3)) for number in (1, 3, 3)),
        (RESPONDER, fragment(1, 2, flags=0x20)),
        (RESPONDER, fragment(2, 2, flags=0x20)),
        ports=(4500, 4500),
    )
    assert [(message.message, message.total, message.read) for message in sa.fragments] == [
        ("IKE_AUTH 1 of the initiator", 3, 2),
        ("IKE_AUTH 1 of the initiator (response)", 2, 2),
    ]
    smaller = sa_of(
        *((ORIGINATOR, fragment(number, total)) for number, total in ((1, 2), (1, 4), (2, 4), (2, 2))),
        ports=(4500, 4500),
    )
    assert [(message.total, message.read) for message in smaller.fragments] == [(4, 2)]


@pytest.mark.parametrize(
    ("data", "gateway"),
    [
        (REDIRECT_DATA, "192.0.2.7"),
        (b"\x02\x10" + bytes(15) + b"\x01" + bytes(16), "::1"),
        (b"\x03\x0btpe.example" + bytes(16), "tpe.example"),
        (b"\x09\x02\x1b[", "\\x1b["),
    ],
)
def test_redirect_names_the_new_gateway(data: bytes, gateway: str) -> None:
    sa = sa_of((ORIGINATOR, offer()), (RESPONDER, message(34, notify(16407, data), flags=0x20)))
    assert sa.redirected_to == gateway and sa.redirected_from is None


def test_redirected_from_names_the_old_gateway() -> None:
    sa = sa_of((ORIGINATOR, message(34, notify(16408, b"\x01\x04\xc0\x00\x02\x07"), (33, proposal(1, *ALLOWED)))))
    assert sa.redirected_from == "192.0.2.7"


def test_vendor_ids_are_named() -> None:
    ids = ("882fe56d6fd20dbc2251613b2ebe5beb", "afcad71368a1f1c96b8696fc77570100", "00ff", "464c455856504e")
    facts = facts_of((ORIGINATOR, message(34, *((43, bytes.fromhex(vendor_id)) for vendor_id in ids))))
    assert facts.vendor_ids == ids
    assert facts.vendors == ("strongSwan", "RFC 3706 (dead peer detection)", "FLEXVPN")


# -- retries ------------------------------------------------------------------------------------------------------


def test_a_retry_with_another_group_belongs_to_the_same_sa_and_its_offer_counts() -> None:
    other = (AES128, (3, 13, None), (2, 6, None), (4, 20, None))
    facts = facts_of(
        (ORIGINATOR, message(34, (33, proposal(1, *other)))),
        (RESPONDER, message(34, notify(17, b"\x00\x13"), flags=0x20)),
        (ORIGINATOR, message(34, (33, proposal(1, *ALLOWED)))),
        (RESPONDER, message(34, (33, proposal(1, *ALLOWED)), flags=0x20, spi_r=SPI_R)),
    )
    (sa,) = facts._sas
    assert sa.retries == ["INVALID_KE_PAYLOAD"] and not sa.retransmissions
    assert facts.offered == ("aes128-sha256-ecp256",) and facts.chosen == "aes128-sha256-ecp256"
    assert "INVALID_KE_PAYLOAD" in facts.notifies


def test_an_unanswered_cookie_request_is_pending() -> None:
    (sa,) = facts_of((ORIGINATOR, INIT_REQUEST), (RESPONDER, message(34, notify(16390, b"cookie"), flags=0x20)))._sas
    assert sa.pending_retry == "COOKIE" and sa.chosen is None


def test_cookie_and_invalid_ke_payload_are_two_retries_of_one_sa() -> None:
    other = (AES128, (3, 13, None), (2, 6, None), (4, 20, None))
    sa = sa_of(
        (ORIGINATOR, offer(*other)),
        (RESPONDER, message(34, notify(16390, bytes(20)), flags=0x20)),
        (ORIGINATOR, message(34, notify(16390, bytes(20)), (33, proposal(1, *other)))),
        (RESPONDER, message(34, notify(17, b"\x00\x13"), flags=0x20)),
        (ORIGINATOR, message(34, notify(16390, bytes(20)), (33, proposal(1, *ALLOWED)))),
        (RESPONDER, choice()),
    )
    assert sa.retries == ("COOKIE", "INVALID_KE_PAYLOAD") and sa.requested_group == "ecp256"
    assert (sa.retransmissions, sa.exchanges) == (0, {"IKE_SA_INIT": 6})
    assert sa.offered == ("aes128-sha256-ecp256",) == (sa.chosen,)


def test_a_retransmission_is_no_retry_and_another_spi_is_another_sa() -> None:
    facts = facts_of(
        (ORIGINATOR, offer()),
        (RESPONDER, message(34, notify(16390, bytes(20)), flags=0x20)),
        (ORIGINATOR, offer()),
        (ORIGINATOR, message(34, (33, proposal(1, *ALLOWED)), spi_i=b"\x22" * 8)),
    )
    assert [(sa.retransmissions, sa.retries) for sa in facts.sas] == [(1, ()), (0, ())]
