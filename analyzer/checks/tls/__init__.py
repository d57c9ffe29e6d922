"""Checks of TLS: versions, cipher suites, the handshake's course, and the server's certificates."""

from __future__ import annotations

from typing import Final

from analyzer.checks.tls.certificates import (
    certificate_expired,
    certificate_name_mismatch,
    certificate_not_yet_valid,
    certificate_self_signed,
    certificate_unreadable,
    certificate_weak_key,
    certificate_weak_signature,
    chain_out_of_order,
    chain_signature_wrong,
    issuer_certificate_not_valid,
)
from analyzer.checks.tls.handshake import (
    certificates_hidden,
    client_certificate_withheld,
    encrypted_alert,
    handshake_abandoned,
    handshake_not_seen,
    handshake_refused,
    server_name_malformed,
    server_without_certificate,
    session_resumed,
)
from analyzer.checks.tls.negotiation import (
    broken_cipher_suite,
    compression,
    no_forward_secrecy,
    obsolete_version,
    small_block_cipher_suite,
    small_dh_group,
    version_above_row,
    version_below_row,
)
from analyzer.checks.tls.stream import not_encrypted, out_of_order, records_not_read
from analyzer.findings import Check

CHECKS: Final[tuple[Check, ...]] = (
    obsolete_version,
    version_below_row,
    version_above_row,
    handshake_refused,
    handshake_abandoned,
    broken_cipher_suite,
    small_block_cipher_suite,
    small_dh_group,
    certificate_expired,
    certificate_not_yet_valid,
    certificate_self_signed,
    certificate_weak_key,
    certificate_weak_signature,
    certificate_name_mismatch,
    issuer_certificate_not_valid,
    certificate_unreadable,
    certificates_hidden,
    session_resumed,
    handshake_not_seen,
    chain_out_of_order,
    chain_signature_wrong,
    server_name_malformed,
    encrypted_alert,
    server_without_certificate,
    client_certificate_withheld,
    no_forward_secrecy,
    compression,
    out_of_order,
    not_encrypted,
    records_not_read,
)
