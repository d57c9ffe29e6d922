"""A TLS 1.2 proxy with compression (DEFLATE, RFC 3749), an option that stunnel had until 2012 (CVE-2012-4929).

``compressing.py server PORT TO CERTIFICATE KEY`` forwards to a port of the loopback; ``compressing.py station LOCAL
HOST PORT`` accepts connections at one. Both serve one connection at a time. No TLS library of Debian compresses any
more, so this is an implementation of its own, with RSA key exchange (RFC 5246) and AES-128-GCM (RFC 5288). The client
accepts every certificate.
"""

from __future__ import annotations

import hmac
import os
import select
import socket
import ssl
import struct
import sys
import zlib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_pem_private_key

VERSION = 0x0303
CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
CLIENT_HELLO, SERVER_HELLO, CERTIFICATE, SERVER_HELLO_DONE, CLIENT_KEY_EXCHANGE, FINISHED = 1, 2, 11, 14, 16, 20
RSA_AES_128_GCM = b"\x00\x9c"
DEFLATE, UNCOMPRESSED = b"\x01", b"\x00"
CLOSE_NOTIFY = b"\x01\x00"


def listed(size: int, content: bytes) -> bytes:
    """A vector with a length field of ``size`` bytes (RFC 5246, section 4.3)."""
    return len(content).to_bytes(size, "big") + content


def prf(secret: bytes, label: bytes, seed: bytes, size: int) -> bytes:
    """The pseudorandom function of TLS 1.2 (RFC 5246, section 5)."""
    found, a = b"", label + seed
    while len(found) < size:
        a = hmac.digest(secret, a, "sha256")
        found += hmac.digest(secret, a + label + seed, "sha256")
    return found[:size]


class Protection:
    """Compression (DEFLATE) and encryption (AES-128-GCM) of the records of one direction."""

    def __init__(self, key: bytes, salt: bytes) -> None:
        self._cipher, self._salt, self._count = AESGCM(key), salt, 0
        self._deflate, self._inflate = zlib.compressobj(), zlib.decompressobj()

    def _next(self, kind: int, size: int) -> tuple[bytes, bytes]:
        number = struct.pack(">Q", self._count)
        self._count += 1
        return number, number + struct.pack(">BHH", kind, VERSION, size)

    def seal(self, kind: int, content: bytes) -> bytes:
        squeezed = self._deflate.compress(content) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        number, header = self._next(kind, len(squeezed))
        return number + self._cipher.encrypt(self._salt + number, squeezed, header)

    def open(self, kind: int, content: bytes) -> bytes:
        _, header = self._next(kind, len(content) - 24)
        return self._inflate.decompress(self._cipher.decrypt(self._salt + content[:8], content[8:], header))


class Tls:
    """One end of a connection. Raises ``ConnectionError`` if the other end closes it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._transcript = b""
        self._writing: Protection | None = None
        self._reading: Protection | None = None

    def write(self, kind: int, content: bytes) -> None:
        content = self._writing.seal(kind, content) if self._writing else content
        self._connection.sendall(struct.pack(">BHH", kind, VERSION, len(content)) + content)

    def read(self) -> tuple[int, bytes]:
        kind, _, size = struct.unpack(">BHH", self._exactly(5))
        content = self._exactly(size)
        return kind, self._reading.open(kind, content) if self._reading else content

    def _exactly(self, size: int) -> bytes:
        content = self._connection.recv(size, socket.MSG_WAITALL)
        if len(content) < size:
            raise ConnectionError("closed by the peer")
        return content

    def _send(self, kind: int, body: bytes) -> None:
        message = bytes([kind]) + listed(3, body)
        self._transcript += message
        self.write(HANDSHAKE, message)

    def _receive(self, kind: int) -> bytes:
        """The body of the next handshake message, which must have this type. Every message has its own record."""
        _, message = self.read()
        if message[0] != kind:
            raise ConnectionError(f"handshake message {message[0]} instead of {kind}")
        self._transcript += message
        return message[4:]

    def serve(self, certificate: bytes, key: RSAPrivateKey) -> None:
        client_random = self._receive(CLIENT_HELLO)[2:34]
        random = os.urandom(32)
        self._send(SERVER_HELLO, struct.pack(">H", VERSION) + random + listed(1, b"") + RSA_AES_128_GCM + DEFLATE)
        self._send(CERTIFICATE, listed(3, listed(3, certificate)))
        self._send(SERVER_HELLO_DONE, b"")
        secret = key.decrypt(self._receive(CLIENT_KEY_EXCHANGE)[2:], PKCS1v15())
        master, client, server = self._keys(secret, client_random, random)
        self._receive_finished(master, b"client finished", client)
        self._send_finished(master, b"server finished", server)

    def connect(self, name: str) -> None:
        random = os.urandom(32)
        hello = struct.pack(">H", VERSION) + random + listed(1, b"")
        hello += listed(2, RSA_AES_128_GCM) + listed(1, DEFLATE + UNCOMPRESSED)
        names = listed(2, UNCOMPRESSED + listed(2, name.encode()))
        algorithms = listed(2, b"\x04\x01")  # RSA with SHA-256
        extensions = b"\x00\x00" + listed(2, names) + b"\x00\x0d" + listed(2, algorithms)
        self._send(CLIENT_HELLO, hello + listed(2, extensions))
        server_random = self._receive(SERVER_HELLO)[2:34]
        key = x509.load_der_x509_certificate(self._receive(CERTIFICATE)[6:]).public_key()
        assert isinstance(key, RSAPublicKey)
        self._receive(SERVER_HELLO_DONE)
        secret = struct.pack(">H", VERSION) + os.urandom(46)
        self._send(CLIENT_KEY_EXCHANGE, listed(2, key.encrypt(secret, PKCS1v15())))
        master, client, server = self._keys(secret, random, server_random)
        self._send_finished(master, b"client finished", client)
        self._receive_finished(master, b"server finished", server)

    def _keys(self, secret: bytes, client_random: bytes, server_random: bytes) -> tuple[bytes, Protection, Protection]:
        master = prf(secret, b"master secret", client_random + server_random, 48)
        block = prf(master, b"key expansion", server_random + client_random, 40)
        return master, Protection(block[:16], block[32:36]), Protection(block[16:32], block[36:])

    def _send_finished(self, master: bytes, label: bytes, protection: Protection) -> None:
        self.write(CHANGE_CIPHER_SPEC, b"\x01")
        self._writing = protection
        self._send(FINISHED, prf(master, label, sha256(self._transcript).digest(), 12))

    def _receive_finished(self, master: bytes, label: bytes, protection: Protection) -> None:
        self.read()
        self._reading = protection
        expected = prf(master, label, sha256(self._transcript).digest(), 12)
        if self._receive(FINISHED) != expected:
            raise ConnectionError("the handshake was tampered with")


def forward(inside: Tls, connection: socket.socket, outside: socket.socket) -> None:
    """Forward between a TLS connection and a plain one until one of them closes."""
    while True:
        for ready in select.select([connection, outside], [], [])[0]:
            if ready is outside:
                content = outside.recv(16384)
                if not content:
                    inside.write(ALERT, CLOSE_NOTIFY)
                    return
                inside.write(APPLICATION_DATA, content)
            else:
                kind, content = inside.read()
                if kind != APPLICATION_DATA:
                    return
                outside.sendall(content)


def connections(address: str, port: int) -> Iterator[socket.socket]:
    """Connections to a port, one after another."""
    with socket.create_server((address, port)) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                yield connection


def server(port: str, to: str, certificate: str, key: str) -> None:
    shown = ssl.PEM_cert_to_DER_cert(Path(certificate).read_text())
    secret = load_pem_private_key(Path(key).read_bytes(), None)
    assert isinstance(secret, RSAPrivateKey)
    for connection in connections("0.0.0.0", int(port)):
        with socket.create_connection(("127.0.0.1", int(to))) as outside:
            try:
                inside = Tls(connection)
                inside.serve(shown, secret)
                forward(inside, connection, outside)
            except OSError as error:
                print(error, flush=True)


def station(local: str, host: str, port: str) -> None:
    for outside in connections("127.0.0.1", int(local)):
        with socket.create_connection((host, int(port))) as connection:
            try:
                inside = Tls(connection)
                inside.connect(host)
                forward(inside, connection, outside)
            except OSError as error:
                print(error, flush=True)


if __name__ == "__main__":
    {"server": server, "station": station}[sys.argv[1]](*sys.argv[2:])
