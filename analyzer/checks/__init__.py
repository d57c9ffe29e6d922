"""Opinions on what the facts say. Checks never parse; each is listed here once, in the order of the reports."""

from __future__ import annotations

from analyzer.checks import captures, flows, ftp, iec104, ssh
from analyzer.findings import Check

CHECKS: tuple[Check, ...] = (*captures.CHECKS, *flows.CHECKS, *ssh.CHECKS, *iec104.CHECKS, *ftp.CHECKS)
"""Every check there is."""


def find(name: str) -> Check | None:
    """The check with an id or slug, in any case."""
    return next((check for check in CHECKS if name.lower() in (check.id.lower(), check.slug)), None)
