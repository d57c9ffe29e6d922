"""Both ends of a Basics Station: ``basics.py server|station …``; LNS over WebSocket, CUPS by HTTP POST.

Shaped as the real station's traffic (no User-Agent, its constant Sec-WebSocket-Key and mask, two WebSockets in a
row, PONG but never PING); contents are invented.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import socket
import socketserver
import ssl
import struct
import time

KEY = "bpse8nVmEl6ZlX4lSb6RMw=="
MASK = b"\x01" * 4
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
EUI = "7076:ffff:fe00:aa10"


def frame(opcode: int, content: bytes, mask: bytes = b"") -> bytes:
    """One WebSocket frame (RFC 6455, 5.2), final, with a length below 65536."""
    masked = 0x80 if mask else 0
    size = len(content)
    length = bytes([masked | size]) if size < 126 else struct.pack(">BH", masked | 126, size)
    if mask:
        content = bytes(byte ^ mask[i % 4] for i, byte in enumerate(content))
    return bytes([0x80 | opcode]) + length + mask + content


class Wire:
    """A connection read head by head and frame by frame."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._file = connection.makefile("rb")

    def head(self) -> list[str]:
        """The lines of an HTTP head, without the empty one; none if the peer closed."""
        lines = []
        while line := self._file.readline().decode("latin-1").rstrip("\r\n"):
            lines.append(line)
        return lines

    def exactly(self, size: int) -> bytes:
        content = self._file.read(size)
        if len(content) < size:
            raise ConnectionError("closed by the peer")
        return content

    def frame(self) -> tuple[int, bytes]:
        first, second = self.exactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", self.exactly(2))
        mask = self.exactly(4) if second & 0x80 else bytes(4)
        content = self.exactly(size)
        return first & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(content))

    def send(self, *lines: str, body: bytes = b"") -> None:
        self.connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


# -- server -------------------------------------------------------------------------------------------------------


class Handler(socketserver.BaseRequestHandler):
    """Answers /update-info as CUPS does, anything else as an LNS does."""

    context: ssl.SSLContext | None = None
    public = "wss://lns.lab.example:4443"

    def handle(self) -> None:
        try:
            connection = self.context.wrap_socket(self.request, server_side=True) if self.context else self.request
            self._answer(Wire(connection))
        except OSError as broken:
            print(broken, flush=True)

    def _answer(self, wire: Wire) -> None:
        head = wire.head()
        if not head:
            return
        path = head[0].split()[1]
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        if path == "/update-info":
            wire.exactly(int(fields["content-length"]))
            wire.send("HTTP/1.1 200 OK", "Content-Type: application/octet-stream", "Content-Length: 14", body=bytes(14))
            return
        accept = base64.b64encode(
            hashlib.sha1((fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        ).decode()
        wire.send(
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept}",
        )
        wire.connection.settimeout(1.5)
        while True:
            try:
                opcode, content = wire.frame()
            except TimeoutError:
                return
            if opcode == CLOSE:
                wire.connection.sendall(frame(CLOSE, content))
                return
            message = json.loads(content) if opcode == TEXT else {}
            answer: dict[str, object] = {}
            if "router" in message:
                answer = {"router": message["router"], "muxs": "::0", "uri": f"{self.public}/router-7076ff000056aa10"}
            elif message.get("msgtype") == "version":
                answer = {"msgtype": "router_config", "NetID": [0], "region": "EU863", "DRs": [[12, 125, 0]] * 6}
            elif message.get("msgtype") == "updf":
                answer = {
                    "msgtype": "dnmsg",
                    "DevEui": "00-00-00-00-00-00-00-01",
                    "diid": 1,
                    "pdu": "60aabb",
                    "RX1DR": 5,
                }
            if answer:
                wire.connection.sendall(frame(TEXT, json.dumps(answer).encode()))


def _only(context: ssl.SSLContext, version: str) -> None:
    """Let a context speak one version only, ``TLSv1.1`` and below as well."""
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion[version.replace(".", "_")]
    context.minimum_version = context.maximum_version


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def serve(arguments: argparse.Namespace) -> None:
    if arguments.certificate:
        Handler.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        Handler.context.load_cert_chain(arguments.certificate)
        Handler.context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF  # No alert for a client that just leaves.
        if arguments.version:
            _only(Handler.context, arguments.version)
        if arguments.authority:
            Handler.context.load_verify_locations(arguments.authority)
            Handler.context.verify_mode = ssl.CERT_REQUIRED
    Handler.public = arguments.public
    with Server(("0.0.0.0", arguments.port), Handler) as server:
        server.serve_forever()


# -- station ------------------------------------------------------------------------------------------------------


def _connect(arguments: argparse.Namespace, host: str, port: int, clear: bool) -> Wire:
    connection = socket.create_connection((host, port), timeout=10)
    if clear:
        return Wire(connection)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # The station's mbedTLS knows no 1.3.
    if arguments.version:
        _only(context, arguments.version)
    context.load_verify_locations(arguments.authority)
    context.load_cert_chain(arguments.certificate)
    context.keylog_filename = arguments.keys
    if arguments.careless:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return Wire(context.wrap_socket(connection, server_hostname=host))


def cups(arguments: argparse.Namespace, host: str, port: int, clear: bool) -> None:
    """Ask CUPS once whether anything is new."""
    wire = _connect(arguments, host, port, clear)
    body = json.dumps(
        {
            "router": EUI,
            "cupsUri": f"http{'' if clear else 's'}://{host}:{port}",
            "tcUri": "wss://lns.lab.example:4443",
            "cupsCredCrc": 0x1234ABCD,
            "tcCredCrc": 0x4321DCBA,
            "station": "2.0.6(lab)",
            "model": "lab",
            "package": "1.0",
            "keys": [0],
        }
    ).encode()
    wire.send(
        "POST /update-info HTTP/1.1",
        f"Host: {host}:{port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *[f"Authorization: {arguments.token}"] * bool(arguments.token),
        body=body,
    )
    wire.head()
    wire.exactly(14)
    wire.connection.close()


def _websocket(wire: Wire, host: str, port: int, path: str) -> None:
    wire.send(
        f"GET {path} HTTP/1.1",
        f"Host: {host}:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
    )
    wire.head()


def lns(arguments: argparse.Namespace, host: str, port: int, clear: bool) -> None:
    """Ask for the router's address, then stay connected there and send uplinks."""
    wire = _connect(arguments, host, port, clear)
    _websocket(wire, host, port, "/router-info")
    wire.connection.sendall(frame(TEXT, json.dumps({"router": EUI}).encode(), MASK))
    path = "/" + json.loads(wire.frame()[1])["uri"].rsplit("/", 1)[1]
    wire.connection.sendall(frame(CLOSE, struct.pack(">H", 1000), MASK))
    wire.frame()
    wire.connection.close()

    wire = _connect(arguments, host, port, clear)
    _websocket(wire, host, port, path)
    version = {"msgtype": "version", "station": "2.0.6(lab)", "protocol": 2, "features": "rmtsh gps"}
    wire.connection.sendall(frame(TEXT, json.dumps(version).encode(), MASK))
    wire.frame()
    for count in range(arguments.uplinks):
        uplink = {
            "msgtype": "updf",
            "MHdr": 64,
            "DevAddr": 637610635,
            "FCnt": count,
            "FRMPayload": "5f11c09e",
            "MIC": 71,
        }
        wire.connection.sendall(frame(TEXT, json.dumps(uplink).encode(), MASK))
        wire.frame()
        time.sleep(1)
    wire.connection.sendall(frame(CLOSE, struct.pack(">H", 1000), MASK))
    wire.frame()
    wire.connection.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    roles = parser.add_subparsers(dest="role", required=True)
    server = roles.add_parser("server")
    server.add_argument("port", type=int)
    server.add_argument("--certificate")
    server.add_argument("--authority")
    server.add_argument("--version")
    server.add_argument("--public", default=Handler.public)
    station = roles.add_parser("station")
    station.add_argument("service", choices=("cups", "lns"))
    station.add_argument("host")
    station.add_argument("port", type=int)
    station.add_argument("--clear", action="store_true")
    station.add_argument("--careless", action="store_true")
    station.add_argument("--certificate", required=True)
    station.add_argument("--authority", required=True)
    station.add_argument("--keys", help="file that gets the keys of its TLS sessions")
    station.add_argument("--version")
    station.add_argument("--token", help="what it authorizes itself with to CUPS")
    station.add_argument("--uplinks", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.role == "server":
        serve(arguments)
    else:
        {"cups": cups, "lns": lns}[arguments.service](arguments, arguments.host, arguments.port, arguments.clear)


if __name__ == "__main__":
    main()
