"""Host names, IP literals, and the names of certificates that cover them."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

HOST_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*")
"""RFC 1123, section 2.1, and the underscores that are in use; without a final dot (RFC 6066, section 3)."""
LONGEST_HOST_NAME: Final = 253
"""Characters; the limit of 255 octets includes the lengths of the first label and of the root (RFC 1035, 3.1)."""


def is_host_name(name: str) -> bool:
    return len(name) <= LONGEST_HOST_NAME and HOST_NAME.fullmatch(name) is not None


def is_address(name: str) -> bool:
    """Whether a name is an IP literal, with or without brackets."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def covers(pattern: str, name: str) -> bool:
    """Whether a DNS name of a certificate covers a host name; a wildcard stands for exactly the first label."""
    labels, wanted = (text.rstrip(".").lower().split(".") for text in (pattern, name))
    if labels[0] == "*" and len(labels) > 1:
        return len(labels) == len(wanted) and labels[1:] == wanted[1:]
    return labels == wanted
