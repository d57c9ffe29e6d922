"""Who is who in a capture: base stations, their modes, and TPE.

Signatures (flows of signature rows) make candidates; candidates make base stations, which are devices with one or
several addresses; the signatures of a base station show its mode; their servers are TPE.
"""

from analyzer.services import carries_esp, has_service
from analyzer.stations.hosts import Hosts, addresses, capture_tunnels, identify_hosts, stations_by_flow
from analyzer.stations.interfaces import Interfaces, is_group_address
from analyzer.stations.modes import UNKNOWN, Mode, detect_mode
from analyzer.stations.recognition import Station, Stranger, find_stations
from analyzer.stations.signatures import NamedHosts, Signature, is_named

__all__ = [
    "UNKNOWN",
    "Hosts",
    "Interfaces",
    "Mode",
    "NamedHosts",
    "Signature",
    "Station",
    "Stranger",
    "addresses",
    "capture_tunnels",
    "carries_esp",
    "detect_mode",
    "find_stations",
    "has_service",
    "identify_hosts",
    "is_group_address",
    "is_named",
    "stations_by_flow",
]
