"""tpe-pcap: audits packet captures of LoRaWAN base stations against the flows that ThingPark Enterprise expects.

>>> from analyzer import audit
>>> audit("captures/tls/full-tls12-mutual/tls-full-tls12-mutual.pcap").base_stations[0].mode
'tls'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyzer.version import __version__

if TYPE_CHECKING:
    from analyzer.capture import CaptureError
    from analyzer.expected import RuleError
    from analyzer.export.anonymize import anonymous
    from analyzer.pipeline import audit, crosscheck
    from analyzer.result import Audit
    from analyzer.tshark.crosscheck import Crosscheck

__all__ = ["Audit", "CaptureError", "Crosscheck", "RuleError", "__version__", "anonymous", "audit", "crosscheck"]

MODULES = {
    "Audit": "result",
    "CaptureError": "capture",
    "Crosscheck": "tshark.crosscheck",
    "RuleError": "expected",
    "anonymous": "export.anonymize",
    "audit": "pipeline",
    "crosscheck": "pipeline",
}
"""Public name → the module that defines it."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``tpe-pcap --help`` needs none of them."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"analyzer.{MODULES[name]}"), name)
    globals()[name] = value
    return value
