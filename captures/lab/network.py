"""The lab's network: four namespaces, what is blocked between them, what is captured, and who cleans up.

::

    base station ── lan ── gateway ── tpe ── TPE
    10.20.30.10            │     172.16.40.10, .11
                           └── outside ── services and strangers
                                          192.168.77.53 DNS, .123 NTP, 203.0.113.9 nobody's
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

STATION = "10.20.30.10"
STATION_MAC = "70:76:ff:00:aa:10"
GATEWAY = "10.20.30.1"
TPE = ("172.16.40.10", "172.16.40.11")
DNS = "192.168.77.53"
NTP = "192.168.77.123"
STRANGER = "203.0.113.9"

BASE_STATION, ROUTER, CORE, OUTSIDE = "tpelab-bs", "tpelab-gw", "tpelab-tpe", "tpelab-out"

_LINKS = (
    # (interface of the gateway, its address, namespace, its addresses)
    ("lan", f"{GATEWAY}/24", BASE_STATION, (f"{STATION}/24",)),
    ("core", "172.16.40.1/24", CORE, tuple(f"{each}/24" for each in TPE)),
    ("world", "192.168.77.1/24", OUTSIDE, (f"{DNS}/24", f"{NTP}/24", f"{STRANGER}/32")),
)


def command(*words: str, **options: Any) -> str:
    """Run a command to its end; its output. ``CalledProcessError`` if it fails, with what it said."""
    done = subprocess.run(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    if done.returncode:
        failed = subprocess.CalledProcessError(done.returncode, words, done.stdout)
        failed.add_note(done.stdout[-2000:])
        raise failed
    return str(done.stdout)


class Lab:
    """The namespaces and every process in them, for one recording. Leaving it takes all of it down again."""

    def __init__(self, folder: Path, mtu: int = 1500) -> None:
        self.folder = folder
        """Scratch: configurations, logs, keys, served files."""
        self._mtu = mtu
        self._children: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Lab:
        try:
            self._build()
        except BaseException:
            self._take_down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._take_down()

    # -- namespaces ---------------------------------------------------------------------------------------------

    def _build(self) -> None:
        for namespace in (BASE_STATION, ROUTER, CORE, OUTSIDE):
            command("ip", "netns", "add", namespace)
            command("ip", "-n", namespace, "link", "set", "lo", "up")
            # No IPv6: router solicitations and neighbour discovery would only fill the captures.
            self.run(namespace, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
            resolver = Path("/etc/netns") / namespace
            resolver.mkdir(parents=True, exist_ok=True)
            (resolver / "resolv.conf").write_text(f"nameserver {DNS}\n")
        for interface, address, namespace, addresses in _LINKS:
            command("ip", "-n", ROUTER, "link", "add", interface, "type", "veth", "peer", "eth0", "netns", namespace)
            if namespace == BASE_STATION:
                command("ip", "-n", namespace, "link", "set", "eth0", "address", STATION_MAC)
            command("ip", "-n", ROUTER, "address", "add", address, "dev", interface)
            for each in addresses:
                command("ip", "-n", namespace, "address", "add", each, "dev", "eth0")
            for owner, name in ((ROUTER, interface), (namespace, "eth0")):
                command("ip", "-n", owner, "link", "set", name, "mtu", str(self._mtu), "up")
                # Else the capture shows frames longer than the wire carries, and checksums not yet filled in.
                self.run(owner, "ethtool", "-K", name, "tx", "off", "gso", "off", "tso", "off", "gro", "off")
            command("ip", "-n", namespace, "route", "add", "default", "via", address.partition("/")[0])
        command("ip", "-n", ROUTER, "route", "add", STRANGER, "dev", "world")
        self.run(ROUTER, "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def block(self, transport: str, port: int, how: str = "drop", source: str = STATION) -> None:
        """Keep packets for a port from crossing the gateway: ``drop``, ``reset`` or ``prohibit`` (ICMP 3/13)."""
        verdict = {
            "drop": "drop",
            "reset": "reject with tcp reset",
            "prohibit": "reject with icmp type admin-prohibited",
        }[how]
        self.run(ROUTER, "nft", "add", "table", "ip", "lab")
        self.run(ROUTER, "nft", "add chain ip lab crossing { type filter hook forward priority 0; }")
        self.run(
            ROUTER, "nft", f"add rule ip lab crossing ip saddr {source} {transport} dport {port} counter {verdict}"
        )

    def blocked(self) -> int:
        """Number of packets that :meth:`block` kept out."""
        listing = self.run(ROUTER, "nft", "list", "ruleset")
        return sum(int(count) for count in re.findall(r"counter packets (\d+)", listing))

    # -- processes ----------------------------------------------------------------------------------------------

    def inside(self, namespace: str, words: Sequence[str]) -> list[str]:
        # Every process gets a /run of its own (ip netns exec gives it its own mounts): daemons of the two sides
        # would fight over the one of the machine, and leave things in it.
        own = 'mount -t tmpfs lab /run && mkdir -p /run/sshd /run/vsftpd/empty && exec "$@"'
        return ["ip", "netns", "exec", namespace, "sh", "-c", own, "lab", *words]

    def run(self, namespace: str, *words: str, timeout: float = 20, check: bool = True, stdin: str = "") -> str:
        """Run a command inside, to its end; its output. ``check=False``: it may fail, or be cut off at the timeout."""
        try:
            return command(*self.inside(namespace, words), timeout=timeout, input=stdin)
        except subprocess.CalledProcessError as failed:
            if check:
                raise
            return str(failed.output)
        except subprocess.TimeoutExpired:
            if check:
                raise
            return ""

    def start(self, namespace: str, *words: str, environment: Mapping[str, str] | None = None) -> None:
        """Start a process inside that lives until :meth:`stop` or the end of the recording."""
        name = f"{namespace}-{Path(words[0]).name}-{len(self._children)}"
        with (self.folder / f"{name}.log").open("wb") as log:
            child = subprocess.Popen(
                self.inside(namespace, words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self._children.append((name, child))

    def alive(self) -> None:
        """Complain of a process that ended by itself with an error."""
        for name, child in self._children:
            if child.poll():
                log = (self.folder / f"{name}.log").read_text(errors="replace")
                raise RuntimeError(f"{name} ended with {child.returncode}:\n{log[-3000:]}")

    def wait_for(self, namespace: str, port: int, seconds: float = 8) -> None:
        """Wait until something inside listens on a TCP port."""
        deadline = time.monotonic() + seconds
        while f":{port} " not in self.run(namespace, "ss", "-Hltn"):
            self.alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing listens on {port} in {namespace}")
            time.sleep(0.1)

    # -- capture ------------------------------------------------------------------------------------------------

    def capture(self, path: Path) -> Tcpdump:
        """Capture what the base station's cable carries."""
        return Tcpdump(self, path)

    def stop(self, namespace: str = "") -> None:
        """End the started processes (of one namespace), youngest first: the clients before their servers."""
        ending = [each for each in self._children if each[0].startswith(namespace)]
        for name, child in reversed(ending):
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGTERM)
                try:
                    child.wait(4)
                except subprocess.TimeoutExpired:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait(4)
            self._children.remove((name, child))
            time.sleep(0.3)  # What it still says goodbye through may be the next to end: a tunnel, a TLS front.

    def _take_down(self) -> None:
        self.stop()
        for namespace in (BASE_STATION, ROUTER, CORE, OUTSIDE):
            listed = subprocess.run(["ip", "netns", "pids", namespace], text=True, capture_output=True, check=False)
            for pid in listed.stdout.split():  # A daemon that forked away from its session.
                os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
            resolver = Path("/etc/netns") / namespace
            (resolver / "resolv.conf").unlink(missing_ok=True)
            if resolver.is_dir():
                resolver.rmdir()


class Tcpdump:
    """tcpdump on the gateway's side of the base station's cable, for the time of a ``with`` block."""

    def __init__(self, lab: Lab, path: Path) -> None:
        self._path = path
        words = ["tcpdump", "-n", "-i", "lan", "--immediate-mode", "-U", "-w", str(path), "-Z", "root"]
        self._child = subprocess.Popen(
            ["ip", "netns", "exec", ROUTER, *words], stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def __enter__(self) -> Tcpdump:
        deadline = time.monotonic() + 5
        while not self._path.exists() or self._path.stat().st_size == 0:
            if self._child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("tcpdump does not start")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        time.sleep(1.5)  # tcpdump hands out what it has only so often: without this the last second is lost.
        os.killpg(self._child.pid, signal.SIGINT)
        said = self._child.communicate(timeout=10)[1]
        counts = {line.split(maxsplit=1)[1]: int(line.split()[0]) for line in said.splitlines() if line[:1].isdigit()}
        captured, received = counts["packets captured"], counts["packets received by filter"]
        if captured != received or counts["packets dropped by kernel"]:
            raise RuntimeError(f"tcpdump lost packets: {captured} of {received}")
