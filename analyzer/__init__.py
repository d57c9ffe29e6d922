"""tpe-pcap: audits packet captures of LoRaWAN base stations against the flows that ThingPark Enterprise expects.

>>> from analyzer import audit
>>> audit("captures/tls-full-tls12-mutual.pcap").base_stations[0].mode
'tls'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyzer.version import __version__

if TYPE_CHECKING:
    from analyzer.anonymity import anonymous
    from analyzer.auditing import Audit, audit
    from analyzer.capture import CaptureError
    from analyzer.crosschecking import Crosscheck, crosscheck
    from analyzer.expected import RuleError

__all__ = ["Audit", "CaptureError", "Crosscheck", "RuleError", "__version__", "anonymous", "audit", "crosscheck"]

HOMES = {
    "Audit": "auditing",
    "CaptureError": "capture",
    "Crosscheck": "crosschecking",
    "RuleError": "expected",
    "anonymous": "anonymity",
    "audit": "auditing",
    "crosscheck": "crosschecking",
}


def __getattr__(name: str) -> Any:
    """Load the public names when they are used: ``tpe-pcap --help`` needs none of them."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"analyzer.{HOMES[name]}"), name)
    globals()[name] = value
    return value
