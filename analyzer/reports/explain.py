"""The catalogue of checks, from the only place where it is written: their docstrings."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from tabulate import tabulate

from analyzer.findings import Check, sections

WIDTH = 80


def render_catalogue(checks: Iterable[Check]) -> str:
    """All checks, one line each."""
    rows = [(check.id, str(check.severity), check.kind.value, check.slug) for check in checks]
    return tabulate(rows, headers=("check", "severity", "kind", "slug"), tablefmt="simple") + "\n"


def render_check(check: Check) -> str:
    """One check: what it flags, why, on what evidence, and what to do."""
    lines = [f"{check.id} {check.slug} ({check.severity} {check.kind.value})"]
    for heading, said in sections(check).items():
        lines += [
            "",
            heading.capitalize(),
            *textwrap.wrap(said, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False),
        ]
    return "\n".join(lines) + "\n"
