"""Pseudonyms: what stands for an address or a name in a report that is given away.

All follow from a key: the same key gives the same pseudonyms, and without it nobody finds the way back. Who knows some
of the originals can tell more, as with every such scheme: the structure of networks stays visible on purpose.
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
"""Least length of a key."""

GROUPS = tuple(map(bytes.fromhex, ("ffffffffffff", "01005e", "0180c2", "01000c", "3333", "000000000000")))
"""How hardware addresses begin that no device has: broadcast, those of IP multicast (RFC 1112, RFC 2464), of bridges
and of Cisco's protocols, and the unknown one."""
SOLICITED = bytes.fromhex("3333ff")
"""So does one that ends with a host's own bits (RFC 4291, section 2.7.1)."""


class Block(NamedTuple):
    """Addresses whose first bits mean the same everywhere, so that they stay."""

    network: Network
    whole: bool
    """Its addresses stay as they are; else only their first bits do."""


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
"""Special-use addresses (RFC 6890): unspecified, loopback, multicast and broadcast stay; private ones stay private. A
solicited-node multicast address (RFC 4291, section 2.7.1) ends with a host's own bits."""


class CryptoPan:
    """Prefix-preserving pseudonyms of addresses.

    J. Xu, J. Fan, M. Ammar, S. Moon: Prefix-Preserving IP Address Anonymization, IEEE ICNP 2002. Two addresses that
    share their first n bits have pseudonyms that share their first n bits, and no two have the same pseudonym. IPv6
    uses the whole of the cipher's block in the same way.

    ``blocks``: networks that keep their first bits. What is decided above them must then be decided so for their
    neighbours as well: of 192.169.1.2 the first 16 bits stay, because all but the last of them are those of a private
    network.
    """

    def __init__(self, key: bytes, blocks: Sequence[Block] = BLOCKS) -> None:
        """``key``: 32 bytes, half for the cipher and half for the padding."""
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        # One block at a time, each of them an independent question to a pseudorandom function: what ECB is right for.
        self.encrypt = Cipher(algorithms.AES(key[:16]), modes.ECB()).encryptor().update
        self.pad = int.from_bytes(self.encrypt(key[16:32]), "big")
        self.blocks = blocks

    def __call__(self, address: Address) -> Address:
        """The pseudonym of an address; of a special-use one itself."""
        width = address.max_prefixlen
        number = int(address)
        fixed = 0
        for network, whole in self.blocks:
            if network.version == address.version:
                shared = width - (number ^ int(network.network_address)).bit_length()
                if shared >= network.prefixlen:
                    if whole and not any(address in each.network for each in self.blocks if not each.whole):
                        return address
                    shared = network.prefixlen - 1
                # All bits up to the first that tells the two apart are decided as for the block: they stay.
                fixed = max(fixed, shared + 1)
        return type(address)(self.flipped(number, width, fixed))

    def flipped(self, number: int, width: int, fixed: int) -> int:
        """A number of ``width`` bits of which each bit behind the first ``fixed`` is flipped or not, as the key and all
        bits before it decide."""
        above = 128 - width
        questions = b"".join(
            ((number >> width - bits << width - bits << above) | (self.pad & (1 << 128 - bits) - 1)).to_bytes(16, "big")
            for bits in range(fixed, width)
        )
        answers = self.encrypt(questions)
        flips = 0
        for at in range(0, len(answers), 16):
            flips = flips << 1 | answers[at] >> 7
        return number ^ flips


class Pseudonyms:
    """The pseudonyms of a key."""

    def __init__(self, key: bytes) -> None:
        """``key``: any :data:`KEY_BYTES` secret bytes or more."""
        self.key = key

    def derived(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose."""
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
        """Of an IPv4 or IPv6 address, in canonical text form; ``ValueError`` for what is none.

        A network in CIDR notation becomes the network that its addresses go to.
        """
        if "/" in address:
            network = ipaddress.ip_interface(address).network
            changed = self.addresses(network.network_address)
            return str(ipaddress.ip_network(f"{changed}/{network.prefixlen}", strict=False))
        return str(self.addresses(ipaddress.ip_address(address)))

    def mac(self, address: str) -> str:
        """Of a hardware address of six or eight octets with colons or hyphens.

        The vendor's half stays, for it tells what the device is and not whose; of a locally administered address, which
        has none and may be made of an IP address, only the first octet stays. Addresses of groups stay.
        """
        octets = bytes.fromhex(re.sub("[:-]", "", address))
        if octets.startswith(GROUPS) and not octets.startswith(SOLICITED):
            return address
        kept = 24 if octets.startswith(SOLICITED) or not octets[0] & 3 else 8
        changed = self.hardware.flipped(int.from_bytes(octets, "big"), 8 * len(octets), kept)
        return changed.to_bytes(len(octets), "big").hex("-" if "-" in address else ":")

    def label(self, label: str) -> str:
        """Of one label of a name, in any case: ``x`` and nine letters and digits."""
        hidden = hmac.digest(self.names_key, label.casefold().encode("utf-8", "surrogatepass"), hashlib.sha256)
        return "x" + base64.b32encode(hidden[:6]).decode("ascii").rstrip("=").lower()[:9]
