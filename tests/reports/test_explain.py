"""The catalogue of checks and their documentation."""

from __future__ import annotations

from analyzer import checks
from analyzer.findings import sections
from analyzer.reports.explain import WIDTH, render_catalogue, render_check


def test_catalogue_has_one_line_per_check() -> None:
    lines = render_catalogue(checks.CHECKS).splitlines()
    assert lines[0].split() == ["check", "severity", "kind", "slug"]
    assert len(lines) == 2 + len(checks.CHECKS)
    for check, line in zip(checks.CHECKS, lines[2:], strict=True):
        assert line.split() == [check.id, str(check.severity), check.kind.value, check.slug]


def test_documentation_of_a_check_is_complete() -> None:
    for check in checks.CHECKS:
        text = render_check(check)
        assert text.startswith(f"{check.id} {check.slug} ({check.severity} {check.kind.value})\n")
        assert max(map(len, text.splitlines())) <= WIDTH
        words = " ".join(text.split())
        for heading, section in sections(check).items():
            assert f"{heading.capitalize()} {section}" in words
