"""Writes ``analyzer/protocols/tls/cipher_suites.csv``: the cipher suites that the installed tshark names.

tshark's table is IANA's registry "TLS Cipher Suites", with the names of drafts and of SSL 3.0 for a few code points
that IANA reserves. Run it when the registry grows: ``python tests/tools/tls_cipher_suites.py``.
"""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

TABLE = Path(__file__).parents[2] / "analyzer" / "protocols" / "tls" / "cipher_suites.csv"


def suites() -> dict[int, str]:
    """Cipher suite → name in the installed tshark."""
    values = subprocess.run(["tshark", "-G", "values"], check=True, capture_output=True, text=True).stdout
    rows = [line.split("\t") for line in values.splitlines()]
    return {
        int(row[2], 0): row[3]
        for row in rows
        if row[:2] == ["V", "tls.handshake.ciphersuite"] and row[3].startswith(("TLS_", "SSL_"))
    }


def main() -> None:
    with TABLE.open("w", newline="", encoding="ascii") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("value", "name"))
        writer.writerows((f"0x{value:04x}", name) for value, name in sorted(suites().items()))


if __name__ == "__main__":
    main()
