"""tpe-pcap: audits packet captures of LoRaWAN base stations against the flows that ThingPark Enterprise expects.

>>> from analyzer import audit
>>> audit("captures/tls-full-tls12-mutual.pcap").base_stations[0].mode
'tls'
"""

from __future__ import annotations

from analyzer.audit import Audit, audit
from analyzer.capture import CaptureError
from analyzer.expected import RuleError

__version__ = "0.1.0"

__all__ = ["Audit", "CaptureError", "RuleError", "__version__", "audit"]
