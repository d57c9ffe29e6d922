"""Payloads of base stations and their core network, for generated captures.

All of them are well-formed; encrypted parts are random bytes.
"""

from __future__ import annotations

import datetime
import random
import struct
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

CORE_NAME = "tpe.example.com"


def u16(body: bytes) -> bytes:
    """A body after its length of two bytes."""
    return struct.pack(">H", len(body)) + body


def u24(body: bytes) -> bytes:
    return struct.pack(">I", len(body))[1:] + body


# -- certificates -----------------------------------------------------------------------------------------------


def key(number: int) -> ec.EllipticCurvePrivateKey:
    """The private key of a number, so that every run makes the same certificates."""
    return ec.derive_private_key(number, ec.SECP256R1())


class Authority:
    """A certificate authority with deterministic signatures."""

    def __init__(self) -> None:
        self.key = key(0xCA)
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Example TPE CA")])
        self.certificate = self.issue("Example TPE CA", 0xCA, serial=1)

    def issue(self, common_name: str, number: int, serial: int) -> bytes:
        """A certificate in DER, valid from 2026 to 2035."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key(number).public_key())
            .serial_number(serial)
            .not_valid_before(datetime.datetime(2026, 1, 1))
            .not_valid_after(datetime.datetime(2035, 1, 1))
            .add_extension(x509.BasicConstraints(ca=number == 0xCA, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name.replace(" ", "-"))]), critical=False)
        )
        signed = builder.sign(self.key, hashes.SHA256(), ecdsa_deterministic=True)
        return signed.public_bytes(Encoding.DER)


# -- TLS 1.2 (RFC 5246, RFC 8422) -------------------------------------------------------------------------------

SUITES = (0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC023, 0xC027, 0x009C, 0x009D, 0x00FF)
CHOSEN_SUITE = 0xC02B  # TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256


def record(kind: int, body: bytes, version: int = 0x0303) -> bytes:
    return struct.pack(">BH", kind, version) + u16(body)


def handshake(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + u24(body)


def extension(kind: int, body: bytes) -> bytes:
    return struct.pack(">H", kind) + u16(body)


def signature(rng: random.Random) -> bytes:
    """An ECDSA signature in DER, with two random integers of 32 bytes."""
    integers = (b"\x02\x20" + bytes([rng.randrange(1, 0x80)]) + rng.randbytes(31) for _ in range(2))
    return b"\x30\x44" + b"".join(integers)


def point(rng: random.Random) -> bytes:
    return b"\x04" + rng.randbytes(64)


def chain(certificates: Iterable[bytes]) -> bytes:
    return handshake(11, u24(b"".join(map(u24, certificates))))


def tls_handshake(
    rng: random.Random, server_chain: Iterable[bytes], client_chain: Iterable[bytes] | None
) -> tuple[bytes, bytes, bytes, bytes]:
    """The four flights of a full handshake: client, server, client, server."""
    name = CORE_NAME.encode()
    extensions = b"".join(
        [
            extension(0, u16(b"\x00" + u16(name))),
            extension(11, b"\x03\x00\x01\x02"),
            extension(10, u16(struct.pack(">4H", 0x1D, 0x17, 0x18, 0x19))),
            extension(35, b""),
            extension(22, b""),
            extension(23, b""),
            extension(13, u16(struct.pack(">8H", 0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501))),
        ]
    )
    suites = struct.pack(f">{len(SUITES)}H", *SUITES)
    client_hello = handshake(1, b"\x03\x03" + rng.randbytes(32) + b"\x00" + u16(suites) + b"\x01\x00" + u16(extensions))
    answers = extension(0, b"") + extension(0xFF01, b"\x00") + extension(11, b"\x01\x00") + extension(23, b"")
    server_hello = b"\x03\x03" + rng.randbytes(32) + b"\x20" + rng.randbytes(32)
    server_hello += struct.pack(">HB", CHOSEN_SUITE, 0) + u16(answers)
    flight = [
        handshake(2, server_hello),
        chain(server_chain),
        handshake(12, b"\x03\x00\x17\x41" + point(rng) + b"\x04\x03" + u16(signature(rng))),
    ]
    if client_chain is not None:
        flight.append(handshake(13, b"\x02\x01\x40" + u16(b"\x04\x03\x04\x01") + u16(b"")))
    flight.append(handshake(14, b""))
    answer = [chain(client_chain)] if client_chain is not None else []
    answer.append(handshake(16, b"\x41" + point(rng)))
    if client_chain is not None:
        answer.append(handshake(15, b"\x04\x03" + u16(signature(rng))))
    return (
        record(22, client_hello, 0x0301),
        b"".join(record(22, message) for message in flight),
        b"".join(record(22, message) for message in answer) + finished(rng),
        finished(rng),
    )


def finished(rng: random.Random) -> bytes:
    """ChangeCipherSpec and an encrypted Finished."""
    return record(20, b"\x01") + record(22, rng.randbytes(40))


def tls_data(rng: random.Random, length: int) -> bytes:
    """A record of application data of ``length`` bytes in total."""
    return record(23, rng.randbytes(length - 5))


def close_notify(rng: random.Random) -> bytes:
    return record(21, rng.randbytes(26))


# -- IKEv2 (RFC 7296) -------------------------------------------------------------------------------------------


def ike_message(spis: bytes, exchange: int, flags: int, number: int, payloads: Iterable[tuple[int, bytes]]) -> bytes:
    """An IKE message. The header of every payload names the type of the next one."""
    listed = list(payloads)
    kinds = [kind for kind, _ in listed] + [0]
    body = b"".join(bytes([after, 0]) + u16_of(part) for after, (_, part) in zip(kinds[1:], listed, strict=True))
    return spis + struct.pack(">4BII", kinds[0], 0x20, exchange, flags, number, 28 + len(body)) + body


def u16_of(part: bytes) -> bytes:
    """The length of a generic payload header counts the header's 4 bytes."""
    return struct.pack(">H", len(part) + 4) + part


def proposals(offers: Iterable[tuple[int, int, int, int]]) -> bytes:
    """An SA payload: offers of AES-CBC with (key bits, PRF, integrity, Diffie-Hellman group)."""
    listed = list(offers)
    out = b""
    for index, (bits, prf, integrity, group) in enumerate(listed, 1):
        transforms = [
            struct.pack(">BBHBBHHH", 3, 0, 12, 1, 0, 12, 0x800E, bits),
            struct.pack(">BBHBBH", 3, 0, 8, 3, 0, integrity),
            struct.pack(">BBHBBH", 3, 0, 8, 2, 0, prf),
            struct.pack(">BBHBBH", 0, 0, 8, 4, 0, group),
        ]
        body = b"".join(transforms)
        last = index == len(listed)
        out += struct.pack(">BBHBBBB", 0 if last else 2, 0, 8 + len(body), index, 1, 0, len(transforms)) + body
    return out


ALLOWED = ((128, 5, 12, 19), (128, 6, 13, 20), (256, 7, 14, 21))
GROUP_SIZE = {19: 64, 20: 96, 21: 132}


def notify(kind: int, data: bytes = b"") -> tuple[int, bytes]:
    return 41, struct.pack(">BBH", 0, 0, kind) + data


def ike_init(rng: random.Random, spis: bytes, response: bool) -> bytes:
    """IKE_SA_INIT: the three allowed proposals, or as a response the first of them."""
    offers = ALLOWED[:1] if response else ALLOWED
    group = ALLOWED[0][3]
    return ike_message(
        spis if response else spis[:8] + bytes(8),
        34,
        0x20 if response else 0x08,
        0,
        [
            (33, proposals(offers)),
            (34, struct.pack(">HH", group, 0) + rng.randbytes(GROUP_SIZE[group])),
            (40, rng.randbytes(32)),
            notify(16388, rng.randbytes(20)),
            notify(16389, rng.randbytes(20)),
            notify(16430),
            notify(16431, struct.pack(">4H", 2, 3, 4, 5)),
        ],
    )


def ike_encrypted(rng: random.Random, spis: bytes, exchange: int, flags: int, number: int, length: int) -> bytes:
    """An encrypted message of an exchange: 35 IKE_AUTH, 36 CREATE_CHILD_SA, 37 INFORMATIONAL."""
    return ike_message(spis, exchange, flags, number, [(46, rng.randbytes(length))])


# -- SSH (RFC 4253) ---------------------------------------------------------------------------------------------

CIPHERS = (
    b"chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com"
)
MACS = b"umac-128-etm@openssh.com,hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256"
EXCHANGES = b"curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,diffie-hellman-group14-sha256"
HOST_KEYS = b"ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512,rsa-sha2-256"


def ssh_string(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def ssh_packet(body: bytes) -> bytes:
    padding = 8 - (len(body) + 5) % 8
    padding += 8 if padding < 4 else 0
    return struct.pack(">IB", len(body) + 1 + padding, padding) + body + bytes(padding)


def ssh_opening(rng: random.Random) -> list[tuple[int, bytes]]:
    """The session up to NEWKEYS, as (sender, bytes). Sender 0 is the client."""

    def kexinit() -> bytes:
        lists = (EXCHANGES, HOST_KEYS, CIPHERS, CIPHERS, MACS, MACS, b"none", b"none", b"", b"")
        return ssh_packet(b"\x14" + rng.randbytes(16) + b"".join(map(ssh_string, lists)) + bytes(5))

    host_key = ssh_string(ssh_string(b"ssh-ed25519") + ssh_string(rng.randbytes(32)))
    signed = ssh_string(ssh_string(b"ssh-ed25519") + ssh_string(rng.randbytes(64)))
    reply = ssh_packet(b"\x1f" + host_key + ssh_string(rng.randbytes(32)) + signed)
    return [
        (0, b"SSH-2.0-dropbear_2020.81\r\n"),
        (1, b"SSH-2.0-OpenSSH_9.6\r\n"),
        (0, kexinit()),
        (1, kexinit()),
        (0, ssh_packet(b"\x1e" + ssh_string(rng.randbytes(32)))),
        (1, reply + ssh_packet(b"\x15")),
        (0, ssh_packet(b"\x15")),
    ]


# -- IEC 104, the LRR's dialect ---------------------------------------------------------------------------------

STARTDT_ACT, STARTDT_CON = b"\x68\x04\x07\x00\x00\x00", b"\x68\x04\x0b\x00\x00\x00"
TESTFR_ACT, TESTFR_CON = b"\x68\x04\x43\x00\x00\x00", b"\x68\x04\x83\x00\x00\x00"
MODULUS = 32767


def lrr_asdu(rng: random.Random, lrr: int, kind: int, flags: int, size: int) -> bytes:
    """The LRR's little-endian header of 20 bytes and a body of ``size`` bytes."""
    header = struct.pack("<BBHHHIIHBB", 1, 0, 20 + min(size, 75), flags, kind, lrr, 0, 0, 0, 0)
    return header + rng.randbytes(size)


def numbered(send: int, receive: int) -> bytes:
    """The control bytes of an I frame."""
    return struct.pack("<HH", send % MODULUS << 1, receive % MODULUS << 1)


def i_frame(send: int, receive: int, asdu: bytes) -> bytes:
    control = numbered(send, receive)
    length = len(control) + len(asdu)
    start = bytes([0x68, length]) if length <= 253 else b"\x69" + struct.pack(">H", length)
    return start + control + asdu


def s_frame(receive: int) -> bytes:
    return b"\x68\x04\x01\x00" + struct.pack("<H", receive % MODULUS << 1)


# -- DNS, NTP, DHCP, ICMP ---------------------------------------------------------------------------------------


def dns_name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\x00"


def dns_query(identifier: int, name: str, kind: int) -> bytes:
    return struct.pack(">6H", identifier, 0x0100, 1, 0, 0, 0) + dns_name(name) + struct.pack(">HH", kind, 1)


def dns_answer(identifier: int, name: str, kind: int, address: bytes | None) -> bytes:
    question = dns_name(name) + struct.pack(">HH", kind, 1)
    answer = b"" if address is None else b"\xc0\x0c" + struct.pack(">HHI", kind, 1, 300) + u16(address)
    return struct.pack(">6H", identifier, 0x8180, 1, 1 if answer else 0, 0, 0) + question + answer


def ntp_time(seconds: float) -> bytes:
    return struct.pack(">II", int(seconds) + 2208988800, int(seconds % 1 * 2**32))


def ntp_request(seconds: float) -> bytes:
    return b"\x23\x00\x06\xec" + bytes(36) + ntp_time(seconds)


def ntp_reply(seconds: float) -> bytes:
    stamps = ntp_time(seconds - 100) + ntp_time(seconds) + ntp_time(seconds) + ntp_time(seconds)
    return b"\x24\x02\x06\xe9" + struct.pack(">II4s", 0x200, 0x300, b"\x0a\x00\x00\x01") + stamps


def dhcp(kind: int, transaction: int, mac: bytes, client: bytes, yours: bytes, server: bytes) -> bytes:
    """A DHCP message (RFC 2131); kind 1 DISCOVER, 2 OFFER, 3 REQUEST, 5 ACK."""
    reply = kind in (2, 5)
    fixed = struct.pack(">4BIHH", 2 if reply else 1, 1, 6, 0, transaction, 0, 0)
    fixed += client + yours + bytes(8) + mac + bytes(10 + 64 + 128) + b"\x63\x82\x53\x63"
    options = bytes([53, 1, kind])
    if reply:
        options += b"\x36\x04" + server + b"\x33\x04" + struct.pack(">I", 86400) + b"\x01\x04\xff\xff\x00\x00"
    else:
        options += b"\x3d\x07\x01" + mac + b"\x37\x04\x01\x03\x06\x2a"
    return (fixed + options + b"\xff").ljust(300, b"\x00")


def icmp_echo(kind: int, identifier: int, sequence: int, body: bytes) -> bytes:
    message = struct.pack(">BBHHH", kind, 0, 0, identifier, sequence) + body
    total = sum(struct.unpack(f">{len(message) // 2}H", message))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return message[:2] + struct.pack(">H", total ^ 0xFFFF) + message[4:]
