"""The reports of every recorded capture."""

from __future__ import annotations

from json import loads

import jsonschema
import pytest

from analyzer.reports import FORMATS, Format, json, text
from tests import samples
from tests.reports.audits import rendered
from tests.reports.test_text import wide_lines

VALIDATOR = jsonschema.Draft202012Validator(
    json.schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)


@pytest.mark.parametrize("name", samples.names())
def test_json_and_text_of_a_capture(name: str) -> None:
    result = samples.audit_of(name)
    VALIDATOR.validate(loads(json.render(result)))
    report = text.render(result)
    assert [line for line in wide_lines(report) if str(samples.CAPTURES) not in line] == []
    assert all(character == "\n" or character.isprintable() for character in report)
    for finding in result.findings:
        assert finding.check in report


@pytest.mark.parametrize("format_", FORMATS, ids=lambda format_: format_.name)
def test_pieces_and_render_give_the_same_report(format_: Format) -> None:
    result = samples.audit_of(samples.names()[0])
    pieces = [piece.encode() if isinstance(piece, str) else piece for piece in format_.pieces(result)]
    assert b"".join(pieces) == rendered(result, format_.name)
    assert format_.binary or pieces[-1].endswith(b"\n")
