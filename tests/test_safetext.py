"""Text from packets is printable, and terminals act on none of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.safetext import decode_text, escape_text, is_printable


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"gw\x1b[2J\x00\x7f\r\n", "gw\\x1b[2J\\x00\\x7f\\r\\n"),
        ("a\u202eb\x9b".encode(), "a\\u202eb\\x9b"),
        ("a\u3164\ufe0f\u034f\u2800\U000e0100".encode(), "a\\u3164\\ufe0f\\u034f\\u2800\\U000e0100"),
        (b"\xff\xfe", "\\xff\\xfe"),
        ("g\u00e2teau".encode(), "g\u00e2teau"),
    ],
)
def test_decode_text_escapes_controls_and_invisible_characters(raw: bytes, shown: str) -> None:
    assert decode_text(raw) == shown


def test_decode_text_marks_text_above_the_limit_with_an_ellipsis() -> None:
    assert decode_text(b"a" * 300) == "a" * 256 + "…"
    assert decode_text(b"abcdef", limit=3) == "abc…"


@given(st.binary(max_size=600))
def test_decoded_text_is_printable(raw: bytes) -> None:
    assert is_printable(decode_text(raw))


@given(st.text())
def test_escaped_text_is_printable_and_printable_text_stays(text: str) -> None:
    assert is_printable(escape_text(text))
    assert (escape_text(text) == text) == is_printable(text)
