"""Who is who in a capture: base stations, and the services that they talk to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Station:
    """One base station: a device, which may have several addresses."""

    address: str
    """The address under which it is reported, in canonical text form."""
    addresses: tuple[str, ...]
    """All of its addresses, ``address`` among them."""
    mac: str | None
    """Its MAC address in lower case with colons; ``None`` where the capture shows only a router's, or none."""
    named: bool
    """The user named it; else its flows gave it away."""
    evidence: tuple[str, ...]
    """Why it is held for a base station, one clause each."""
