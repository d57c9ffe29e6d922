"""The keys of a recording in the formats of Wireshark, from the base station's charon and its TLS clients."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = ("keylog", "ikev1_decryption_table", "ikev2_decryption_table", "esp_sa")
_LINE = re.compile(r"(\d\d)\[[A-Z]{3}\] (.*)")
_SPIS = re.compile(r"checkin IKEv\d SA \S+ with SPIs (\w{16})_i (\w{16})_r")
_SELECTED = re.compile(r"selected proposal: (?:IKE|ESP):(\S+)")
_SECRET = re.compile(r"(.*) => \d+ bytes @")
_BYTES = re.compile(r" +\d+: ((?:[0-9A-F]{2} )+)")
_SENDER = re.compile(r"  SPI 0x\w+, src (\S+) dst ")
_PARSED = re.compile(r"parsed \S+ (request|response) ")
_CHILD = re.compile(r"(?:inbound )?CHILD_SA \S+ established with SPIs (\w{8})_i (\w{8})_o")
_ENCRYPTION = {"AES_CBC": "AES-CBC [RFC3602]", "AES_GCM_16": "AES-GCM with 16 octet ICV [RFC4106]", "NULL": "NULL"}
_INTEGRITY = {
    "HMAC_SHA1_96": "[RFC2404]",
    "HMAC_SHA2_256_128": "[RFC4868]",
    "HMAC_SHA2_384_192": "[RFC4868]",
    "HMAC_SHA2_512_256": "[RFC4868]",
}


def tables(folder: Path, captured: bytes) -> dict[str, str]:
    """The contents of the key files by suffix, limited to keys of sessions that were captured.

    ``folder``: the scratch folder of a lab, after its recording.
    """
    found = {"keylog": (folder / "keys").read_text()} if (folder / "keys").exists() else {}
    for log in folder.glob("*/initiator.log"):
        found |= _tables(log.read_text())
    contents = {}
    for suffix, content in found.items():
        lines = [line for line in content.splitlines(keepends=True) if not line.startswith("#")]
        lines = [line for line in lines if identifier(suffix, line) in captured]
        if lines:
            contents[suffix] = "".join(lines)
    return contents


def identifier(suffix: str, line: str) -> bytes:
    """The bytes that name a line's session in its packets: the client random of TLS, the SPI of IKE and ESP."""
    if suffix == "keylog":
        return bytes.fromhex(line.split()[1])
    fields = line.split(",")
    return bytes.fromhex(fields[3].strip('"')[2:] if suffix == "esp_sa" else fields[0])


@dataclass
class _Thread:
    """The state of one thread of charon, from its log lines."""

    responding: bool = False
    """Whether it handles a request of the peer."""
    outer: str = "IPv4"
    """IP version outside of the tunnel that it sets up."""
    proposal: list[str] = field(default_factory=list)
    secrets: defaultdict[str, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    secret: str = ""
    """Name of the latest secret."""


def _tables(log: str) -> dict[str, str]:
    """Wireshark's tables of IKE and ESP keys, from the log of a charon that initiated all of its IKE SAs."""
    threads: defaultdict[str, _Thread] = defaultdict(_Thread)
    version_1, version_2, esp = "", "", ""
    for line in log.splitlines():
        match = _LINE.match(line)
        if not match:
            continue
        thread, text = threads[match[1]], match[2]
        if parsed := _PARSED.match(text):
            thread.responding = parsed[1] == "request"
        elif selected := _SELECTED.match(text):
            thread.proposal, thread.secrets = selected[1].split("/"), defaultdict(bytearray)
        elif secret := _SECRET.match(text):
            thread.secret = secret[1]
        elif dumped := _BYTES.match(text):
            thread.secrets[thread.secret] += bytes.fromhex(dumped[1])
        elif spis := _SPIS.match(text):
            # The log names the IKE SA after its keys.
            if key := thread.secrets.pop("encryption key Ka", None):
                version_1 += f"{spis[1]},{key.hex()}\n"
            if "Sk_er secret" in thread.secrets:
                version_2 += _ike(spis[1], spis[2], thread)
                thread.secrets.clear()
        elif sender := _SENDER.match(text):
            thread.outer = "IPv6" if ":" in sender[1] else "IPv4"
        elif child := _CHILD.match(text):
            esp += _esp(child[1], child[2], thread)
    return {"ikev1_decryption_table": version_1, "ikev2_decryption_table": version_2, "esp_sa": esp}


def _ike(initiator: str, responder: str, thread: _Thread) -> str:
    cipher, integrity = thread.proposal[:2]
    keys = {name: thread.secrets[f"Sk_{name} secret"].hex() for name in ("ei", "er", "ai", "ar")}
    encryption = f'{keys["ei"]},{keys["er"]},"{cipher.replace("_", "-")} [RFC3602]"'
    return f'{initiator},{responder},{encryption},{keys["ai"]},{keys["ar"]},"{integrity} {_INTEGRITY[integrity]}"\n'


def _esp(inbound: str, outbound: str, thread: _Thread) -> str:
    """Two lines, for inbound and outbound packets, valid for any address: MOBIKE may change it."""
    cipher = _ENCRYPTION[re.sub(r"_\d{3}$", "", thread.proposal[0])]
    integrity = next((name for name in thread.proposal if name in _INTEGRITY), "")
    name = f"{integrity.replace('_', '-').replace('SHA2', 'SHA')} {_INTEGRITY[integrity]}" if integrity else "NULL"
    lines = ""
    peer, own = ("initiator", "responder") if thread.responding else ("responder", "initiator")
    for spi, sender in ((inbound, peer), (outbound, own)):
        encryption, authentication = (
            thread.secrets[f"{purpose} {sender} key"].hex() for purpose in ("encryption", "integrity")
        )
        lines += f'"{thread.outer}","*","*","0x{spi}","{cipher}","0x{encryption}","{name}","0x{authentication}"\n'
    return lines
