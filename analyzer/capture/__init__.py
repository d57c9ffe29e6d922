"""Capture files as a stream of bytes, and what their headers say.

``source`` opens files and standard input, ``compression`` decompresses them, ``formats`` detects the format and reads
the headers of pcap and snoop, ``pcapng`` reads the blocks that carry no packet, ``timeline`` orders several files.
Packet records are decoded by :mod:`analyzer.scanner`.
"""

from analyzer.capture.model import CaptureError, CaptureFacts, CaptureFile

__all__ = ["CaptureError", "CaptureFacts", "CaptureFile"]
