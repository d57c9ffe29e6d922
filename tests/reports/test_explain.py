"""The catalogue of checks as it is printed."""

from __future__ import annotations

from analyzer import checks
from analyzer.findings import sections
from analyzer.reports.explain import WIDTH, render_catalogue, render_check


def test_the_catalogue_has_one_line_for_each_check() -> None:
    lines = render_catalogue(checks.CHECKS).splitlines()
    assert lines[0].split() == ["check", "severity", "kind", "slug"]
    assert len(lines) == 2 + len(checks.CHECKS)
    for check, line in zip(checks.CHECKS, lines[2:], strict=True):
        assert line.split() == [check.id, str(check.severity), check.kind.value, check.slug]


def test_a_check_is_explained_in_its_own_words() -> None:
    for check in checks.CHECKS:
        shown = render_check(check)
        assert shown.startswith(f"{check.id} {check.slug} ({check.severity} {check.kind.value})\n")
        assert max(map(len, shown.splitlines())) <= WIDTH
        words = " ".join(shown.split())
        for heading, said in sections(check).items():
            assert f"{heading.capitalize()} {said}" in words
