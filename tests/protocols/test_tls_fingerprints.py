"""JA3 and JA4."""

from __future__ import annotations

import struct

import pytest

from tests.protocols.tls_messages import client_hello, client_only, extension, facts_of, listed, record


# Vectors that the inventors published: github.com/salesforce/ja3, README; github.com/FoxIO-LLC/ja4, technical details.
@pytest.mark.parametrize(
    ("version", "suites", "extensions", "groups", "formats", "digest"),
    [
        (
            769,
            (47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4),
            (0, 10, 11),
            (23, 24, 25),
            (0,),
            "ada70206e40642a3e4461f35503241d5",
        ),
        (769, (4, 5, 10, 9, 100, 98, 3, 6, 19, 18, 99), (), (), (), "de350869b8c85de67a350c8d186f11e6"),
    ],
)
def test_ja3_agrees_with_published_vectors(
    version: int,
    suites: tuple[int, ...],
    extensions: tuple[int, ...],
    groups: tuple[int, ...],
    formats: tuple[int, ...],
    digest: str,
) -> None:
    bodies = {
        0: listed(2, b"\0" + listed(2, b"a.example")),
        10: listed(2, b"".join(struct.pack(">H", group) for group in groups)),
        11: listed(1, bytes(formats)),
    }
    hello = client_hello(
        b"".join(extension(kind, bodies[kind]) for kind in extensions),
        version,
        b"".join(struct.pack(">H", suite) for suite in suites),
    )
    assert facts_of(client_only(record(22, hello, 0x0301))).ja3 == digest


def test_ja4_agrees_with_the_published_vector() -> None:
    numbers = "1301 1302 1303 c02b c02f c02c c030 cca9 cca8 c013 c014 009c 009d 002f 0035"
    algorithms = bytes.fromhex("04030804040105030805050108060601")
    kinds = (0x1B, 0, 0x33, 0x10, 0x4469, 0x17, 0x2D, 0x0D, 5, 0x23, 0x12, 0x2B, 0xFF01, 0x0B, 0x0A, 0x15)
    bodies = {
        0: listed(2, b"\0" + listed(2, b"a.example")),
        5: b"\1\0\0\0\0",
        10: listed(2, b"\0\x1d"),
        11: listed(1, b"\0"),
        0x0D: listed(2, algorithms),
        0x10: listed(2, listed(1, b"h2") + listed(1, b"http/1.1")),
        0x2B: listed(1, bytes.fromhex("2a2a03040303")),
        0x33: listed(2, b"\0\x1d" + listed(2, b"k" * 32)),
    }
    grease = extension(0x5A5A, b"")
    hello = client_hello(
        grease + b"".join(extension(kind, bodies.get(kind, b"")) for kind in kinds) + extension(0x6A6A, b"\0"),
        suites=bytes.fromhex("3a3a" + numbers.replace(" ", "")),
    )
    assert facts_of(client_only(record(22, hello, 0x0301))).ja4 == "t13d1516h2_8daaf6152771_e5627efa2ab1"
