"""Which version of the program this is."""

from __future__ import annotations


def version() -> str:
    """The installed version: ``0.1.0``."""
    from importlib import metadata  # takes longer to import than most commands need it

    return metadata.version("tpe-pcap")
