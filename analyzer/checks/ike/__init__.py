"""Checks of IKE: versions, proposals against the row's list, errors, the path, and what decryption shows."""

from __future__ import annotations

from typing import Final

from analyzer.checks.ike.child_sas import (
    auth_encrypted,
    esp_chosen_proposal_not_allowed,
    esp_proposal_offered_not_allowed,
    mobike_unsupported,
)
from analyzer.checks.ike.negotiation import (
    choice_ambiguous,
    chosen_proposal_never_offered,
    chosen_proposal_not_allowed,
    extra_proposal_offered,
    key_exchange_contradiction,
    no_allowed_proposal_offered,
    nonce_length,
    proposal_not_seen,
    version_1,
    weak_proposal_chosen,
)
from analyzer.checks.ike.notifications import (
    authentication_failed,
    error_notify,
    invalid_ke_without_recovery,
    no_proposal_chosen,
    redirected,
)
from analyzer.checks.ike.path import foreign_datagram, fragments_lost, nat_in_path, request_unanswered
from analyzer.findings import Check

CHECKS: Final[tuple[Check, ...]] = (
    version_1,
    chosen_proposal_not_allowed,
    no_allowed_proposal_offered,
    extra_proposal_offered,
    no_proposal_chosen,
    invalid_ke_without_recovery,
    authentication_failed,
    weak_proposal_chosen,
    chosen_proposal_never_offered,
    error_notify,
    proposal_not_seen,
    foreign_datagram,
    nat_in_path,
    request_unanswered,
    redirected,
    key_exchange_contradiction,
    nonce_length,
    fragments_lost,
    choice_ambiguous,
    auth_encrypted,
    mobike_unsupported,
    esp_chosen_proposal_not_allowed,
    esp_proposal_offered_not_allowed,
)
