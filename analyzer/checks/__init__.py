"""Opinions on what the facts say. Checks never parse; each is listed here once, in the order of the reports."""

from __future__ import annotations

from analyzer.checks import captures, dhcp, dns, esp, flows, ftp, http, icmp, iec104, ike, ntp, ssh, tls
from analyzer.findings import Check

CHECKS: tuple[Check, ...] = (
    *captures.CHECKS,
    *flows.CHECKS,
    *ike.CHECKS,
    *esp.CHECKS,
    *icmp.CHECKS,
    *ssh.CHECKS,
    *tls.CHECKS,
    *iec104.CHECKS,
    *ftp.CHECKS,
    *ntp.CHECKS,
    *dns.CHECKS,
    *dhcp.CHECKS,
    *http.CHECKS,
)
"""Every check there is."""


def find(name: str) -> Check | None:
    """The check with an id or slug, in any context."""
    return next((check for check in CHECKS if name.lower() in (check.id.lower(), check.slug)), None)
