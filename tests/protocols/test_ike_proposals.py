"""IKE proposals and strongSwan's notation for them."""

from __future__ import annotations

import pytest

from analyzer.protocols.ike.proposals import contains
from tests.protocols.ike_messages import (
    AES128,
    AES256,
    ALLOWED,
    ECP256,
    HYBRID,
    ORIGINATOR,
    PRF256,
    RESPONDER,
    SHA256,
    choice,
    facts_of,
    isakmp_sa,
    message,
    offer,
    proposal,
    sa_of,
)


@pytest.mark.parametrize(
    ("transforms", "notation"),
    [
        (ALLOWED, ["aes128-sha256-ecp256"]),
        (((1, 20, 128), PRF256, ECP256), ["aes128gcm16-prfsha256-ecp256"]),
        ((AES128, (3, 12, None), (2, 6, None), ECP256), ["aes128-sha256-prfsha384-ecp256"]),
        ((AES128, AES256, SHA256, PRF256, ECP256), ["aes128-sha256-ecp256", "aes256-sha256-ecp256"]),
        (((1, 3, None), (3, 1, None), (2, 1, None), (4, 2, None)), ["3des-md5-modp1024"]),
        (((1, 28, None), (2, 7, None), (4, 31, None)), ["chacha20poly1305-prfsha512-curve25519"]),
        (((1, 99, None), (3, 98, None), (2, 97, None), (4, 96, None)), ["encr_99-integ_98-prf_97-ke_96"]),
        (((1, 20, 256), (2, 6, None), (4, 20, None), (6, 36, None)), ["aes256gcm16-prfsha384-ecp384-ke1_mlkem768"]),
        (((1, 20, 256), (3, 0, None), (2, 6, None), (4, 20, None)), ["aes256gcm16-prfsha384-ecp384"]),
    ],
)
def test_proposals_have_strongswans_notation(
    transforms: tuple[tuple[int, int, int | None], ...], notation: list[str]
) -> None:
    offered = facts_of((ORIGINATOR, message(34, (33, proposal(1, *transforms))))).offered
    assert list(offered) == notation


def test_an_offer_of_too_many_combinations_is_written_once() -> None:
    many = (*((1, 12, bits) for bits in (128, 192, 256)), *((3, kind, None) for kind in (12, 13, 14)))
    many += (*((2, kind, None) for kind in (5, 6, 7)), *((4, kind, None) for kind in (19, 20, 21)))
    offered = facts_of((ORIGINATOR, message(34, (33, proposal(1, *many))))).offered
    assert offered == ("aes128-aes192-aes256-sha256-sha384-sha512-ecp256-ecp384-ecp521",)


def test_additional_key_exchanges_are_named() -> None:
    facts = facts_of((ORIGINATOR, offer(*HYBRID)), (RESPONDER, choice(*ALLOWED, (6, 36, None), (7, 37, None))))
    assert facts.chosen == "aes128-sha256-ecp256-ke1_mlkem768-ke2_mlkem1024"
    assert "aes128-sha256-ecp256-ke1_none-ke2_mlkem1024" in facts.offered


@pytest.mark.parametrize(
    ("combination", "contained"),
    [
        ("aes128-sha256-ecp256", True),
        ("aes256-sha384-ecp384", True),
        ("aes128-sha256-prfsha384-ecp256", True),
        ("aes128-sha256-prfsha1-ecp256", False),
        ("aes128-sha256", False),
        ("aes128-aes256-sha256-ecp256", False),
        ("aes128gcm16-prfsha256-ecp256", False),
    ],
)
def test_a_proposal_contains_exactly_its_combinations(combination: str, contained: bool) -> None:
    many = (*((1, 12, bits) for bits in (128, 192, 256)), *((3, kind, None) for kind in (12, 13, 14)))
    many += (*((2, kind, None) for kind in (5, 6, 7)), *((4, kind, None) for kind in (19, 20, 21)))
    (sa,) = facts_of((ORIGINATOR, offer(*many)))._sas
    assert contains(sa.proposals[0], frozenset(combination.split("-"))) is contained


def test_main_mode_shows_proposal_and_authentication() -> None:
    transform = ((1, 7), (14, 128), (2, 4), (4, 15), (3, 3))
    sa = sa_of((ORIGINATOR, message(2, isakmp_sa(transform), version=0x10, flags=0)))
    assert sa.offered == ("aes128-sha256-modp3072",) and sa.authentication == ("RSA signatures",)
