"""Names of TLS code points."""

from __future__ import annotations

import pytest

from analyzer.protocols.tls import registry
from tests.tools import tls_cipher_suites


@pytest.mark.tshark
def test_cipher_suite_names_agree_with_tshark() -> None:
    """Versions of tshark know more suites or fewer; those that both tables have must have the same name."""
    ours, theirs = registry.cipher_suites(), tls_cipher_suites.suites()
    both = ours.keys() & theirs.keys()
    assert {value: ours[value] for value in both} == {value: theirs[value] for value in both}
    assert len(both) > 350
