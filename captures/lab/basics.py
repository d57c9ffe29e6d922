"""Both ends of a Basics Station: ``basics.py server|station …``; LNS over WebSocket, CUPS by HTTP POST.

The traffic has the shape of the real station's: no User-Agent, its constant Sec-WebSocket-Key and mask, two WebSockets
in a row, PONG but never PING. Contents are invented.
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
    """A final WebSocket frame of fewer than 65,536 bytes (RFC 6455, section 5.2)."""
    masked = 0x80 if mask else 0
    size = len(content)
    length = bytes([masked | size]) if size < 126 else struct.pack(">BH", masked | 126, size)
    if mask:
        content = bytes(byte ^ mask[i % 4] for i, byte in enumerate(content))
    return bytes([0x80 | opcode]) + length + mask + content


class Connection:
    """A connection, read as HTTP heads and WebSocket frames."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._file = sock.makefile("rb")

    def head(self) -> list[str]:
        """The lines of an HTTP head without the empty one; no line if the peer has closed."""
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
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


# -- server -----------------------------------------------------------------------------------------------------


class Handler(socketserver.BaseRequestHandler):
    """Answers /update-info as CUPS does, and any other path as an LNS does."""

    context: ssl.SSLContext | None = None
    public = "wss://lns.lab.example:4443"

    def handle(self) -> None:
        try:
            sock = self.context.wrap_socket(self.request, server_side=True) if self.context else self.request
            self._answer(Connection(sock))
        except OSError as error:
            print(error, flush=True)

    def _answer(self, connection: Connection) -> None:
        head = connection.head()
        if not head:
            return
        path = head[0].split()[1]
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        if path == "/update-info":
            connection.exactly(int(fields["content-length"]))
            connection.send(
                "HTTP/1.1 200 OK", "Content-Type: application/octet-stream", "Content-Length: 14", body=bytes(14)
            )
            return
        accept = base64.b64encode(
            hashlib.sha1((fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        ).decode()
        connection.send(
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept}",
        )
        connection.socket.settimeout(1.5)
        while True:
            try:
                opcode, content = connection.frame()
            except TimeoutError:
                return
            if opcode == CLOSE:
                connection.socket.sendall(frame(CLOSE, content))
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
                connection.socket.sendall(frame(TEXT, json.dumps(answer).encode()))


def _restrict(context: ssl.SSLContext, version: str) -> None:
    """Restrict a context to one TLS version, which may be ``TLSv1.1`` or older."""
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
        Handler.context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF  # clients may close without close_notify
        if arguments.version:
            _restrict(Handler.context, arguments.version)
        if arguments.authority:
            Handler.context.load_verify_locations(arguments.authority)
            Handler.context.verify_mode = ssl.CERT_REQUIRED
    Handler.public = arguments.public
    with Server(("0.0.0.0", arguments.port), Handler) as server:
        server.serve_forever()


# -- station ----------------------------------------------------------------------------------------------------


def _connect(arguments: argparse.Namespace, host: str, port: int, clear: bool) -> Connection:
    sock = socket.create_connection((host, port), timeout=10)
    if clear:
        return Connection(sock)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # the station's mbedTLS has no TLS 1.3
    if arguments.version:
        _restrict(context, arguments.version)
    context.load_verify_locations(arguments.authority)
    context.load_cert_chain(arguments.certificate)
    context.keylog_filename = arguments.keys
    if arguments.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return Connection(context.wrap_socket(sock, server_hostname=host))


def cups(arguments: argparse.Namespace, host: str, port: int, clear: bool) -> None:
    """Ask CUPS for updates once."""
    connection = _connect(arguments, host, port, clear)
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
    connection.send(
        "POST /update-info HTTP/1.1",
        f"Host: {host}:{port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *[f"Authorization: {arguments.token}"] * bool(arguments.token),
        body=body,
    )
    connection.head()
    connection.exactly(14)
    connection.socket.close()


def _websocket(connection: Connection, host: str, port: int, path: str) -> None:
    connection.send(
        f"GET {path} HTTP/1.1",
        f"Host: {host}:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
    )
    connection.head()


def lns(arguments: argparse.Namespace, host: str, port: int, clear: bool) -> None:
    """Ask for the address of the router, then connect to it and send uplinks."""
    connection = _connect(arguments, host, port, clear)
    _websocket(connection, host, port, "/router-info")
    connection.socket.sendall(frame(TEXT, json.dumps({"router": EUI}).encode(), MASK))
    path = "/" + json.loads(connection.frame()[1])["uri"].rsplit("/", 1)[1]
    connection.socket.sendall(frame(CLOSE, struct.pack(">H", 1000), MASK))
    connection.frame()
    connection.socket.close()

    connection = _connect(arguments, host, port, clear)
    _websocket(connection, host, port, path)
    version = {"msgtype": "version", "station": "2.0.6(lab)", "protocol": 2, "features": "rmtsh gps"}
    connection.socket.sendall(frame(TEXT, json.dumps(version).encode(), MASK))
    connection.frame()
    for count in range(arguments.uplinks):
        uplink = {
            "msgtype": "updf",
            "MHdr": 64,
            "DevAddr": 637610635,
            "FCnt": count,
            "FRMPayload": "5f11c09e",
            "MIC": 71,
        }
        connection.socket.sendall(frame(TEXT, json.dumps(uplink).encode(), MASK))
        connection.frame()
        time.sleep(1)
    connection.socket.sendall(frame(CLOSE, struct.pack(">H", 1000), MASK))
    connection.frame()
    connection.socket.close()


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
    station.add_argument("--insecure", action="store_true")
    station.add_argument("--certificate", required=True)
    station.add_argument("--authority", required=True)
    station.add_argument("--keys", help="file to which the keys of the TLS sessions are written")
    station.add_argument("--version")
    station.add_argument("--token", help="authorization for CUPS")
    station.add_argument("--uplinks", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.role == "server":
        serve(arguments)
    else:
        {"cups": cups, "lns": lns}[arguments.service](arguments, arguments.host, arguments.port, arguments.clear)


if __name__ == "__main__":
    main()
