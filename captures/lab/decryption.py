"""The secrets of what was recorded, as Wireshark wants them: from the base station's charon and its TLS clients."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

ENDINGS = ("keylog", "ikev1_decryption_table", "ikev2_decryption_table", "esp_sa")
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


def secrets(folder: Path, captured: bytes) -> dict[str, str]:
    """The content of each file of secrets, by the ending of its name, as far as the captured bytes have a use for it.

    ``folder`` is a lab's, after its recording.
    """
    found = {"keylog": (folder / "keys").read_text()} if (folder / "keys").exists() else {}
    for log in folder.glob("*/initiator.log"):
        found |= _tables(log.read_text())
    contents = {}
    for ending, content in found.items():
        lines = [line for line in content.splitlines(keepends=True) if not line.startswith("#")]
        lines = [line for line in lines if identifier(ending, line) in captured]
        if lines:
            contents[ending] = "".join(lines)
    return contents


def identifier(ending: str, line: str) -> bytes:
    """What packets carry that a line's secrets are for: the client's random of TLS, the SPI of IKE and ESP."""
    if ending == "keylog":
        return bytes.fromhex(line.split()[1])
    fields = line.split(",")
    return bytes.fromhex(fields[3].strip('"')[2:] if ending == "esp_sa" else fields[0])


@dataclass
class _Thread:
    """What a thread of charon has said last."""

    asked: bool = False
    """Whether the message that it handles is a request of the peer."""
    outside: str = "IPv4"
    """What carries the tunnel that it sets up."""
    proposal: list[str] = field(default_factory=list)
    secrets: defaultdict[str, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    secret: str = ""
    """The name of the last."""


def _tables(log: str) -> dict[str, str]:
    """Wireshark's tables of IKE and ESP secrets, from the log of a charon that began all of its IKE SAs."""
    threads: defaultdict[str, _Thread] = defaultdict(_Thread)
    version_1, version_2, esp = "", "", ""
    for line in log.splitlines():
        match = _LINE.match(line)
        if not match:
            continue
        thread, said = threads[match[1]], match[2]
        if parsed := _PARSED.match(said):
            thread.asked = parsed[1] == "request"
        elif selected := _SELECTED.match(said):
            thread.proposal, thread.secrets = selected[1].split("/"), defaultdict(bytearray)
        elif secret := _SECRET.match(said):
            thread.secret = secret[1]
        elif dumped := _BYTES.match(said):
            thread.secrets[thread.secret] += bytes.fromhex(dumped[1])
        elif spis := _SPIS.match(said):
            # Behind the keys that it made, the thread tells first whose they are.
            if key := thread.secrets.pop("encryption key Ka", None):
                version_1 += f"{spis[1]},{key.hex()}\n"
            if "Sk_er secret" in thread.secrets:
                version_2 += _ike(spis[1], spis[2], thread)
                thread.secrets.clear()
        elif sender := _SENDER.match(said):
            thread.outside = "IPv6" if ":" in sender[1] else "IPv4"
        elif child := _CHILD.match(said):
            esp += _esp(child[1], child[2], thread)
    return {"ikev1_decryption_table": version_1, "ikev2_decryption_table": version_2, "esp_sa": esp}


def _ike(initiator: str, responder: str, thread: _Thread) -> str:
    cipher, integrity = thread.proposal[:2]
    keys = {each: thread.secrets[f"Sk_{each} secret"].hex() for each in ("ei", "er", "ai", "ar")}
    encryption = f'{keys["ei"]},{keys["er"]},"{cipher.replace("_", "-")} [RFC3602]"'
    return f'{initiator},{responder},{encryption},{keys["ai"]},{keys["ar"]},"{integrity} {_INTEGRITY[integrity]}"\n'


def _esp(inbound: str, outbound: str, thread: _Thread) -> str:
    """Two lines, for what comes in and what goes out; the addresses may change."""
    cipher = _ENCRYPTION[re.sub(r"_\d{3}$", "", thread.proposal[0])]
    integrity = next((each for each in thread.proposal if each in _INTEGRITY), "")
    name = f"{integrity.replace('_', '-').replace('SHA2', 'SHA')} {_INTEGRITY[integrity]}" if integrity else "NULL"
    lines = ""
    peer, own = ("initiator", "responder") if thread.asked else ("responder", "initiator")
    for spi, sender in ((inbound, peer), (outbound, own)):
        encryption, authentication = (
            thread.secrets[f"{each} {sender} key"].hex() for each in ("encryption", "integrity")
        )
        lines += f'"{thread.outside}","*","*","0x{spi}","{cipher}","0x{encryption}","{name}","0x{authentication}"\n'
    return lines
