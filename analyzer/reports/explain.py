"""The catalogue of checks and the documentation of each, taken from the checks' docstrings."""

from __future__ import annotations

from collections.abc import Iterable

from tabulate import tabulate

from analyzer.findings import Check, sections
from analyzer.reports.wording import wrap

WIDTH = 80


def render_catalogue(checks: Iterable[Check]) -> str:
    """All checks, one line each."""
    rows = [(check.id, str(check.severity), check.kind.value, check.slug) for check in checks]
    return tabulate(rows, headers=("check", "severity", "kind", "slug"), tablefmt="simple") + "\n"


def render_check(check: Check) -> str:
    """The documentation of one check: what it flags, why, on what evidence, and the remedy."""
    lines = [f"{check.id} {check.slug} ({check.severity} {check.kind.value})"]
    for heading, text in sections(check).items():
        lines += ["", heading.capitalize(), *wrap(text, WIDTH, "  ")]
    return "\n".join(lines) + "\n"
