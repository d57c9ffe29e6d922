"""Pseudonyms of addresses, hardware addresses and names.

All derive from a key: the same key gives the same pseudonyms, and they cannot be reversed without it. As with every
prefix-preserving scheme, someone who knows some of the originals can infer more, because the structure of networks is
kept on purpose.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

KEY_BYTES = 32
"""Minimum length of a key."""

GROUPS = tuple(map(bytes.fromhex, ("ffffffffffff", "01005e", "0180c2", "01000c", "3333", "000000000000")))
"""Beginnings of hardware addresses that belong to no device: broadcast, IPv4 multicast (RFC 1112), bridges, Cisco
protocols, IPv6 multicast (RFC 2464), and the unspecified address."""
SOLICITED = bytes.fromhex("3333ff")
"""Beginning of solicited-node multicast addresses, which end with bits of a host's address (RFC 4291, section
2.7.1)."""


class Block(NamedTuple):
    """A network whose prefix is kept, because it has the same meaning everywhere."""

    network: Network
    whole: bool
    """Whether the whole addresses are kept, not only the prefix."""


BLOCKS = tuple(
    Block(ipaddress.ip_network(network), whole)
    for network, whole in (
        ("0.0.0.0/8", True),
        ("10.0.0.0/8", False),
        ("100.64.0.0/10", False),
        ("127.0.0.0/8", True),
        ("169.254.0.0/16", False),
        ("172.16.0.0/12", False),
        ("192.168.0.0/16", False),
        ("224.0.0.0/4", True),
        ("255.255.255.255/32", True),
        ("::/127", True),
        ("::ffff:0:0/96", False),
        ("fc00::/7", False),
        ("fe80::/64", False),
        ("ff00::/8", True),
        ("ff02::1:ff00:0/104", False),
    )
)
"""Special-use addresses (RFC 6890): unspecified, loopback, multicast and broadcast are kept; private ones stay private.
Solicited-node multicast addresses (RFC 4291, section 2.7.1) end with bits of a host's address."""


class CryptoPan:
    """Prefix-preserving pseudonyms of addresses (Crypto-PAn).

    J. Xu, J. Fan, M. Ammar, S. Moon: Prefix-Preserving IP Address Anonymization, IEEE ICNP 2002. Two addresses that
    share their first n bits have pseudonyms that share exactly their first n bits, so pseudonyms are unique. IPv6 uses
    the whole cipher block in the same way.

    ``blocks``: networks that keep their prefix. Neighbours then keep the bits that they share with them, and one more:
    192.169.1.2 keeps its first 16 bits, because the first 15 are those of the private network 192.168.0.0/16.
    """

    def __init__(self, key: bytes, blocks: Sequence[Block] = BLOCKS) -> None:
        """``key``: 32 bytes, half for the cipher and half for the padding."""
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        # The cipher is a pseudorandom function of single blocks here, which is what ECB provides.
        self.encrypt = Cipher(algorithms.AES(key[:16]), modes.ECB()).encryptor().update
        self.pad = int.from_bytes(self.encrypt(key[16:32]), "big")
        self.blocks = blocks

    def __call__(self, address: Address) -> Address:
        """The pseudonym of an address; special-use addresses are returned unchanged."""
        width = address.max_prefixlen
        number = int(address)
        fixed = 0
        for network, whole in self.blocks:
            if network.version == address.version:
                shared = width - (number ^ int(network.network_address)).bit_length()
                if shared >= network.prefixlen:
                    if whole and not any(address in block.network for block in self.blocks if not block.whole):
                        return address
                    shared = network.prefixlen - 1
                # The bits up to and including the first that differs from the block are kept.
                fixed = max(fixed, shared + 1)
        return type(address)(self.flipped(number, width, fixed))

    def flipped(self, number: int, width: int, fixed: int) -> int:
        """A number of ``width`` bits with those after the first ``fixed`` flipped or not, depending on the key and the
        preceding bits."""
        above = 128 - width
        blocks = b"".join(
            ((number >> width - bits << width - bits << above) | (self.pad & (1 << 128 - bits) - 1)).to_bytes(16, "big")
            for bits in range(fixed, width)
        )
        encrypted = self.encrypt(blocks)
        flips = 0
        for at in range(0, len(encrypted), 16):
            flips = flips << 1 | encrypted[at] >> 7
        return number ^ flips


class Pseudonyms:
    """The pseudonyms that derive from a key."""

    def __init__(self, key: bytes) -> None:
        """``key``: at least :data:`KEY_BYTES` secret bytes."""
        self.key = key

    def derived(self, purpose: str) -> bytes:
        """A derived key of 32 bytes for one purpose."""
        return hmac.digest(self.key, b"tpe-pcap " + purpose.encode("ascii"), hashlib.sha256)

    @cached_property
    def addresses(self) -> CryptoPan:
        return CryptoPan(self.derived("addresses"))

    @cached_property
    def hardware(self) -> CryptoPan:
        return CryptoPan(self.derived("hardware addresses"), ())

    @cached_property
    def names_key(self) -> bytes:
        return self.derived("names")

    def address(self, address: str) -> str:
        """The pseudonym of an IPv4 or IPv6 address in canonical text form; ``ValueError`` if it is none.

        A network in CIDR notation becomes the network of its addresses' pseudonyms.
        """
        if "/" in address:
            network = ipaddress.ip_interface(address).network
            changed = self.addresses(network.network_address)
            return str(ipaddress.ip_network(f"{changed}/{network.prefixlen}", strict=False))
        return str(self.addresses(ipaddress.ip_address(address)))

    def mac(self, address: str) -> str:
        """The pseudonym of a hardware address of six or eight octets with colons or hyphens.

        The vendor's half is kept, because it shows the kind of device and not its owner. Of a locally administered
        address, which may contain an IP address, only the first octet is kept. Group addresses are kept.
        """
        octets = bytes.fromhex(re.sub("[:-]", "", address))
        if octets.startswith(GROUPS) and not octets.startswith(SOLICITED):
            return address
        kept = 24 if octets.startswith(SOLICITED) or not octets[0] & 3 else 8
        changed = self.hardware.flipped(int.from_bytes(octets, "big"), 8 * len(octets), kept)
        return changed.to_bytes(len(octets), "big").hex("-" if "-" in address else ":")

    def label(self, label: str) -> str:
        """The pseudonym of a label of a name, whatever its case: ``x`` and nine letters and digits."""
        digest = hmac.digest(self.names_key, label.casefold().encode("utf-8", "surrogatepass"), hashlib.sha256)
        return "x" + base64.b32encode(digest[:6]).decode("ascii").rstrip("=").lower()[:9]
