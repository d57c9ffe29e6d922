"""Print ``docs/checks.md``, the catalogue of checks: ``python -m tests.tools.checks_page > docs/checks.md``."""

from __future__ import annotations

from itertools import groupby

from analyzer.checks import CHECKS
from analyzer.findings import Check, sections

HEAD = """# Checks

Every check of tpe-pcap, in the order of its reports. `tpe-pcap explain ID` prints one of them. This page is generated
from the checks themselves: `python -m tests.tools.checks_page > docs/checks.md`.
"""
TITLES = {
    "captures": "The capture",
    "hosts": "Who is who",
    "flows": "Flows and rows",
    "frames": "Frames beside the rows",
    "preambles": "Proxies and other preambles",
    "icmp": "ICMP",
    "ike": "IKE",
    "esp": "ESP",
    "ssh": "SSH",
    "tls": "TLS",
    "iec104": "IEC 104",
    "ftp": "FTP",
    "ntp": "NTP",
    "dns": "DNS",
    "dhcp": "DHCP",
    "http": "HTTP",
}


def module(check: Check) -> str:
    """Name of the file or folder in ``analyzer/checks`` that defines a check."""
    return check.run.__module__.split(".")[2]


def page() -> str:
    """The whole page, as Markdown."""
    parts = [HEAD]
    for name, checks in groupby(CHECKS, module):
        parts.append(f"## {TITLES[name]}\n")
        for check in checks:
            text = sections(check)
            parts.append(f"### {check.id} {check.slug}\n")
            parts.append(f"{text['flags']}\n")
            parts.append(f"- **Severity**: {text['severity'].removesuffix('.')}; **kind**: {check.kind.value}")
            parts += [f"- **{heading.capitalize()}**: {text[heading]}" for heading in ("why", "evidence", "remedy")]
            parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
