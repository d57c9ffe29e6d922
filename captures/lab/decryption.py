"""The secrets of what was recorded, as Wireshark wants them: from the base station's charon and its TLS clients."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

ENDINGS = ("keylog", "ikev1_decryption_table", "ikev2_decryption_table", "esp_sa")
_LINE = re.compile(r"(\d\d)\[[A-Z]{3}\] (.*)")
_SPIS = re.compile(r"checkout IKEv\d SA by message with SPIs (\w{16})_i (\w{16})_r")
_SELECTED = re.compile(r"selected proposal: (?:IKE|ESP):(\S+)")
_SECRET = re.compile(r"(.*) => \d+ bytes @")
_BYTES = re.compile(r" +\d+: ((?:[0-9A-F]{2} )+)")
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


def _tables(log: str) -> dict[str, str]:
    """Wireshark's tables of IKE and ESP secrets, from the log of a charon that began all of its IKE SAs."""
    ends: dict[str, tuple[str, str]] = {}
    proposal: dict[str, list[str]] = {}
    asked: dict[str, bool] = {}
    told: dict[str, defaultdict[str, bytearray]] = defaultdict(lambda: defaultdict(bytearray))
    last: dict[str, bytearray] = {}
    version_1, version_2, esp = [], [], []
    for line in log.splitlines():
        match = _LINE.match(line)
        if not match:
            continue
        thread, said = match.groups()
        if spis := _SPIS.match(said):
            ends[thread] = spis[1], spis[2]
        elif parsed := _PARSED.match(said):
            asked[thread] = parsed[1] == "request"
        elif selected := _SELECTED.match(said):
            proposal[thread] = selected[1].split("/")
            told[thread] = defaultdict(bytearray)
        elif secret := _SECRET.match(said):
            last[thread] = told[thread][secret[1]] = bytearray()
            if secret[1] == "encryption key Ka":
                version_1.append((ends[thread], last[thread]))
            elif secret[1] == "Sk_er secret":
                version_2.append((ends[thread], proposal[thread], told[thread]))
        elif dumped := _BYTES.match(said):
            last[thread] += bytes.fromhex(dumped[1])
        elif child := _CHILD.match(said):
            esp.append((child.groups(), asked[thread], proposal[thread], told[thread]))
    return {
        "ikev1_decryption_table": "".join(f"{ends[0]},{key.hex()}\n" for ends, key in version_1),
        "ikev2_decryption_table": "".join(_ike(*each) for each in version_2),
        "esp_sa": "".join(_esp(*each) for each in esp),
    }


def _ike(spis: tuple[str, str], proposal: list[str], told: dict[str, bytearray]) -> str:
    cipher, integrity = proposal[:2]
    keys = {each: told[f"Sk_{each} secret"].hex() for each in ("ei", "er", "ai", "ar")}
    encryption = f'{keys["ei"]},{keys["er"]},"{cipher.replace("_", "-")} [RFC3602]"'
    return f'{spis[0]},{spis[1]},{encryption},{keys["ai"]},{keys["ar"]},"{integrity} {_INTEGRITY[integrity]}"\n'


def _esp(spis: tuple[str, ...], asked: bool, proposal: list[str], told: dict[str, bytearray]) -> str:
    """Two lines, for what comes in and what goes out; the addresses may change. ``asked``: by the peer."""
    cipher = _ENCRYPTION[re.sub(r"_\d{3}$", "", proposal[0])]
    integrity = next((each for each in proposal if each in _INTEGRITY), "")
    name = f"{integrity.replace('_', '-').replace('SHA2', 'SHA')} {_INTEGRITY[integrity]}" if integrity else "NULL"
    return "".join(
        f'"IPv4","*","*","0x{spi}","{cipher}","0x{told[f"encryption {sender} key"].hex()}"'
        f',"{name}","0x{told[f"integrity {sender} key"].hex()}"\n'
        for spi, sender in zip(spis, ("initiator", "responder")[:: 1 if asked else -1], strict=True)
    )
