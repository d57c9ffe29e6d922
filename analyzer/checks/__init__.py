"""Checks: opinions on facts. A check never parses."""

from __future__ import annotations

from analyzer.checks import (
    captures,
    dhcp,
    dns,
    esp,
    flows,
    frames,
    ftp,
    hosts,
    http,
    icmp,
    iec104,
    ike,
    ntp,
    preambles,
    ssh,
    tls,
)
from analyzer.findings import Check

CHECKS: tuple[Check, ...] = (
    *captures.CHECKS,
    *hosts.CHECKS,
    *flows.CHECKS,
    *frames.CHECKS,
    *preambles.CHECKS,
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
"""All checks, in the order in which they run and in which the catalogue lists them."""


def find(name: str) -> Check | None:
    """The check with an id or slug, in upper or lower case; ``None``: there is none."""
    return next((check for check in CHECKS if name.lower() in (check.id.lower(), check.slug)), None)
