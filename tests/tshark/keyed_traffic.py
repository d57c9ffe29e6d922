"""Traffic whose keys are known: TLS 1.3 handshakes of the standard library, IKE_AUTH from known keys."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import ipaddress
import ssl
import struct
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.protocols.ike_messages import SPI_I, SPI_R, message
from tests.synthetic import START, STATION, TPE, Traffic

TODAY = datetime.datetime.fromtimestamp(START, datetime.UTC)
DAY = datetime.timedelta(days=1)

# -- TLS 1.3 ----------------------------------------------------------------------------------------------------


def certificate(folder: Path, begins: int = -10, ends: int = 10, extra: int = 0) -> tuple[Path, Path]:
    """Write a certificate for TPE's address, and its key. Returns both files.

    ``begins``, ``ends``: days from the beginning of the traffic. ``extra``: bytes of an unknown extension.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tpe")])
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Root")])
    made = x509.CertificateBuilder(issuer, name, key.public_key(), 7, TODAY + begins * DAY, TODAY + ends * DAY)
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(TPE))]), False)
    if extra:
        made = made.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.9"), bytes(extra)), False)
    signed = made.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    paths = folder / "tpe.crt", folder / "tpe.key"
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return paths


def handshake(
    folder: Path, files: tuple[Path, Path], verify: bool = False, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> tuple[list[tuple[str, bytes]], Path]:
    """The flights of client and server, each with its direction, and the file with the keys.

    ``verify``: the client trusts no issuer, so it refuses the certificate.
    """
    keylog = folder / "keys.log"
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*files)
    server.maximum_version = newest
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    client.keylog_filename = str(keylog)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        (">", client.wrap_bio(to_client, to_server, server_hostname=TPE), to_server),
        ("<", server.wrap_bio(to_server, to_client, server_side=True), to_client),
    )
    flights: list[tuple[str, bytes]] = []
    pending = {">": b"", "<": b""}
    for _ in range(6):
        for direction, end, out in ends:
            try:
                end.do_handshake()
                if not pending[direction]:
                    end.write(b"data")
                    pending[direction] = b"data"
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                pending[direction] = b"over"
            if out.pending:
                # The flight stays in the peer's buffer until the peer reads it: copy it and put it back.
                flight = out.read()
                flights.append((direction, flight))
                out.write(flight)
    return flights, keylog


def tls_traffic(flights: list[tuple[str, bytes]], port: int = 40001, service: int = 3001) -> Traffic:
    """The base station opens the link of mode tls, in segments of at most 1000 bytes."""
    segments = [(direction, data[at : at + 1000]) for direction, data in flights for at in range(0, len(data), 1000)]
    return Traffic().dialogue(STATION, port, TPE, service, *segments, duration=1)


# -- IKE --------------------------------------------------------------------------------------------------------

KEYS = {"ei": b"\x01" * 16, "er": b"\x02" * 16, "ai": b"\x03" * 32, "ar": b"\x04" * 32}
TABLE = (
    f'{SPI_I.hex()},{SPI_R.hex()},{KEYS["ei"].hex()},{KEYS["er"].hex()},"AES-CBC-128 [RFC3602]",'
    f'{KEYS["ai"].hex()},{KEYS["ar"].hex()},"HMAC_SHA2_256_128 [RFC4868]"\n'
)

Payloads = tuple[tuple[int, bytes], ...]


def chain(payloads: Payloads) -> bytes:
    """A chain of payloads without the IKE header."""
    return message(35, *payloads)[28:]


def sealed(plain: bytes, side: str, kind: int, front: bytes = b"") -> tuple[int, bytes]:
    """An encrypted payload (46), or a fragment (53) whose numbers are in ``front``, from initiator (``i``) or responder
    (``r``). Its checksum is zero; :func:`checked` computes it."""
    padding = -(len(plain) + 1) % 16
    padded = plain + bytes(padding) + bytes([padding])
    encryptor = Cipher(algorithms.AES(KEYS[f"e{side}"]), modes.CBC(bytes(16))).encryptor()
    return kind, front + bytes(16) + encryptor.update(padded) + encryptor.finalize() + bytes(16)


def checked(datagram: bytes, side: str) -> bytes:
    """The message with its integrity checksum, after the non-ESP marker."""
    return bytes(4) + datagram[:-16] + hmac.digest(KEYS[f"a{side}"], datagram[:-16], hashlib.sha256)[:16]


def auth(payloads: Payloads, response: bool = False, exchange: int = 35, message_id: int = 1) -> bytes:
    """An encrypted message with these payloads."""
    side = "r" if response else "i"
    body = sealed(chain(payloads), side, 46)
    flags = 0x20 if response else 0x08
    sent = message(exchange, body, flags=flags, spi_r=SPI_R, message_id=message_id, next_payload=payloads[0][0])
    return checked(sent, side)


def auth_in_fragments(payloads: Payloads, size: int) -> list[bytes]:
    """The initiator's IKE_AUTH in fragments (RFC 7383) of ``size`` bytes of plain text."""
    plain = chain(payloads)
    pieces = [plain[at : at + size] for at in range(0, len(plain), size)]
    found = []
    for number, piece in enumerate(pieces, 1):
        body = sealed(piece, "i", 53, struct.pack(">HH", number, len(pieces)))
        inside = payloads[0][0] if number == 1 else 0
        found.append(checked(message(35, body, spi_r=SPI_R, message_id=1, next_payload=inside), "i"))
    return found


def tunnel(spi: int, *alternatives: tuple[tuple[int, int, int | None], ...]) -> tuple[int, bytes]:
    """An SA payload that proposes ESP under an SPI."""
    body = b""
    for number, transforms in enumerate(alternatives, 1):
        parts = b""
        for index, (kind, identifier, bits) in enumerate(transforms):
            attribute = b"" if bits is None else struct.pack(">HH", 0x800E, bits)
            more = 3 if index + 1 < len(transforms) else 0
            parts += struct.pack(">BBHBBH", more, 0, 8 + len(attribute), kind, 0, identifier) + attribute
        last = 0 if number == len(alternatives) else 2
        head = struct.pack(">BBHBBBB", last, 0, 12 + len(parts), number, 3, 4, len(transforms))
        body += head + struct.pack(">I", spi) + parts
    return 33, body


def notification(kind: int, data: bytes = b"") -> tuple[int, bytes]:
    return 41, struct.pack(">BBH", 0, 0, kind) + data
