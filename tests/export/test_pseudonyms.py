"""Pseudonyms of addresses, hardware addresses and names."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.export.pseudonyms import BLOCKS, Address, CryptoPan, Pseudonyms

REFERENCE_KEY = bytes.fromhex("1522178d33a4cf80130a5b164990 7d10 d8988f8379796527 62574c2d2a842202".replace(" ", ""))
"""Key of the sample of Crypto-PAn 1.0, the authors' reference implementation."""
KEY = bytes(range(32))
NAMES = Pseudonyms(KEY)


def pseudonym(text: str) -> str:
    return NAMES.address(text)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("128.11.68.132", "135.242.180.132"),
        ("129.118.74.4", "134.136.186.123"),
        ("130.132.252.244", "133.68.164.234"),
        ("141.223.7.43", "141.167.8.160"),
        ("192.41.57.43", "252.222.221.184"),
        ("192.102.249.13", "252.138.62.131"),
        ("24.0.250.221", "100.15.198.226"),
        ("216.95.144.0", "235.160.108.114"),
    ],
)
def test_ipv4_matches_the_reference_implementation(address: str, expected: str) -> None:
    assert str(CryptoPan(REFERENCE_KEY, ())(ipaddress.ip_address(address))) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("::1", "703:fdfa:ff99:ff01:fe7e:f0:39:fd9a"),
        ("::ffff", "703:fdfa:ff99:ff01:fe7e:f0:39:2f00"),
        ("2001:db8::1", "27fe:8bc7:fee:1e:1e1f:f0fe:f0e1:83fd"),
        ("192.0.2.1", "192.0.125.244"),
    ],
)
def test_ipv6_matches_yacryptopan(address: str, expected: str) -> None:
    """yacryptopan 1.0.2, which extends the scheme to IPv6 in the usual way, with the key of its documentation."""
    key = b"32-char-str-for-AES-key-and-pad."
    assert str(CryptoPan(key, ())(ipaddress.ip_address(address))) == expected


def common_prefix(one: Address, two: Address) -> int:
    """Number of leading bits that two addresses of one version have in common."""
    return one.max_prefixlen - (int(one) ^ int(two)).bit_length()


V4, V6 = st.ip_addresses(v=4), st.ip_addresses(v=6)
PAIRS = st.one_of(st.tuples(V4, V4), st.tuples(V6, V6))
NEAR = st.one_of(V4, V6).flatmap(
    lambda one: st.integers(0, one.max_prefixlen - 1).map(lambda bit: (one, type(one)(int(one) ^ 1 << bit)))
)


@given(st.one_of(PAIRS, NEAR))
def test_prefixes_are_preserved_and_pseudonyms_are_unique(pair: tuple[Address, Address]) -> None:
    one, two = pair
    assert common_prefix(NAMES.addresses(one), NAMES.addresses(two)) == common_prefix(one, two)
    assert (NAMES.addresses(one) == NAMES.addresses(two)) == (one == two)


@given(st.sampled_from(BLOCKS), st.integers(0, (1 << 128) - 1))
def test_special_use_addresses_stay_in_their_network(block: object, number: int) -> None:
    network, whole = block  # type: ignore[misc]
    address = network[number % network.num_addresses]
    changed = NAMES.addresses(address)
    assert changed in network
    if whole and not str(address).startswith("ff02::1:ff"):
        assert changed == address


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "224.0.0.251", "255.255.255.255", "::", "::1", "ff02::fb"])
def test_addresses_of_no_host_are_kept(address: str) -> None:
    assert pseudonym(address) == address


@pytest.mark.parametrize(
    "address",
    ["10.0.0.2", "172.16.40.10", "192.168.1.1", "169.254.3.4", "8.8.8.8", "fd00::2", "fe80::1", "2001:db8::1"],
)
def test_addresses_of_hosts_change(address: str) -> None:
    changed = ipaddress.ip_address(pseudonym(address))
    before = ipaddress.ip_address(address)
    assert changed != before
    assert (changed.is_link_local, changed.is_multicast) == (before.is_link_local, before.is_multicast)
    assert changed.is_private or not before.is_private or address.startswith("2001:db8")


def test_solicited_node_address_hides_the_host() -> None:
    changed = pseudonym("ff02::1:ff12:3456")
    assert changed != "ff02::1:ff12:3456" and changed.startswith("ff02::1:ff")


def test_network_becomes_that_of_its_addresses() -> None:
    network = ipaddress.ip_network(pseudonym("10.20.30.0/24"))
    assert network.prefixlen == 24 and str(network) != "10.20.30.0/24"
    assert ipaddress.ip_address(pseudonym("10.20.30.77")) in network
    assert ipaddress.ip_address(pseudonym("10.20.31.77")) not in network
    assert pseudonym("0.0.0.0/0") == "0.0.0.0/0"


@given(st.binary(min_size=6, max_size=6), st.binary(min_size=6, max_size=6))
def test_hardware_addresses_keep_their_vendor_and_are_unique(one: bytes, two: bytes) -> None:
    changed = bytes.fromhex(NAMES.mac(one.hex(":")).replace(":", ""))
    kept = 3 if not one[0] & 3 else 1
    assert changed[:kept] == one[:kept]
    assert (NAMES.mac(one.hex(":")) == NAMES.mac(two.hex(":"))) == (one == two)


def test_hardware_addresses_of_no_device_are_kept() -> None:
    for address in ("ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "01:00:5e:00:00:fb", "33:33:00:00:00:01"):
        assert NAMES.mac(address) == address
    assert NAMES.mac("33:33:ff:12:34:56")[:8] == "33:33:ff" and NAMES.mac("33:33:ff:12:34:56") != "33:33:ff:12:34:56"
    assert NAMES.mac("70-76-FF-00-AA-10").startswith("70-76-ff-") and NAMES.mac("02:42:0a:00:00:02")[:5] != "02:42"


@given(st.text(min_size=1), st.text(min_size=1))
def test_labels_are_unique_regardless_of_case(one: str, two: str) -> None:
    assert re.fullmatch("x[a-z2-7]{9}", NAMES.label(one))
    assert (NAMES.label(one) == NAMES.label(two)) == (one.casefold() == two.casefold())


def test_pseudonyms_depend_on_the_key() -> None:
    other = Pseudonyms(KEY[::-1])
    for name, value in (("address", "10.0.0.2"), ("mac", "70:76:ff:00:aa:10"), ("label", "gw")):
        assert getattr(NAMES, name)(value) == getattr(Pseudonyms(KEY), name)(value) != getattr(other, name)(value)
