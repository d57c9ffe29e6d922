"""Every recorded capture, from the file to the reports."""

from __future__ import annotations

from json import loads

import jsonschema
import pytest

from analyzer.reports import FORMATS, json, text
from tests import samples
from tests.reports.audits import rendered
from tests.reports.test_text import wide_lines

VALIDATOR = jsonschema.Draft202012Validator(
    json.schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)


@pytest.mark.parametrize("name", samples.names())
def test_the_reports_of_a_capture(name: str) -> None:
    result = samples.audit_of(name)
    VALIDATOR.validate(loads(json.render(result)))
    shown = text.render(result)
    assert [line for line in wide_lines(shown) if str(samples.CAPTURES) not in line] == []
    assert all(character == "\n" or character.isprintable() for character in shown)
    for finding in result.findings:
        assert finding.check in shown


def test_every_format_renders_in_one_way() -> None:
    result = samples.audit_of(samples.names()[0])
    for each in FORMATS:
        pieces = each.pieces(result, False)
        whole = b"".join(piece.encode() if isinstance(piece, str) else piece for piece in pieces)
        assert whole == rendered(result, each.name)
        assert each.binary or whole.endswith(b"\n")
