"""The network of the lab: five namespaces, blocked ports, the capture, and the clean-up.

::

    base station ── cable ──┐
    10.20.30.10             lan ── gateway ── core ── TPE
    neighbour ──────────────┘      10.20.30.1        172.16.40.10, .11, .12
    10.20.30.66                      │
                                     └────── world ── services and others
                                                      192.168.77.53 DNS, .123 NTP, 203.0.113.9 a third party

With IPv6 the base station is 2001:db8:10::10, TPE 2001:db8:40::10 and DNS 2001:db8:77::53 too.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HERE = Path(__file__).resolve().parent

STATION = "10.20.30.10"
STATION_MAC = "70:76:ff:00:aa:10"
GATEWAY = "10.20.30.1"
GATEWAY_MAC = "02:00:00:00:aa:01"
TPE = ("172.16.40.10", "172.16.40.11", "172.16.40.12")
DNS = "192.168.77.53"
NTP = "192.168.77.123"
THIRD_PARTY = "203.0.113.9"
STATION_6, TPE_6, DNS_6 = "2001:db8:10::10", "2001:db8:40::10", "2001:db8:77::53"

DEBIAN_13 = Path("/var/lib/tpe-pcap-lab/trixie")
"""Where ``record --install`` puts Debian 13's strongSwan and its libraries."""

# The process identifier makes the names unique: several recordings may run at once.
BASE_STATION, NEIGHBOUR, ROUTER, CORE, OUTSIDE = (
    f"tpelab{os.getpid()}-{name}" for name in ("bs", "near", "gw", "tpe", "out")
)
NAMESPACES = (BASE_STATION, NEIGHBOUR, ROUTER, CORE, OUTSIDE)

_LAN = "lan"
_LINKS = (
    # (interface of the gateway, its address, namespace, addresses there); one without an address is a port of the LAN
    ("cable", None, BASE_STATION, (f"{STATION}/24",)),
    ("port2", None, NEIGHBOUR, ("10.20.30.66/24",)),
    ("core", "172.16.40.1/24", CORE, tuple(f"{address}/24" for address in TPE)),
    ("world", "192.168.77.1/24", OUTSIDE, (f"{DNS}/24", f"{NTP}/24", f"{THIRD_PARTY}/32")),
)
_IPV6 = (
    # (namespace, interface, its address, its default router)
    (ROUTER, _LAN, "2001:db8:10::1", None),
    (ROUTER, "core", "2001:db8:40::1", None),
    (ROUTER, "world", "2001:db8:77::1", None),
    (BASE_STATION, "eth0", STATION_6, "2001:db8:10::1"),
    (CORE, "eth0", TPE_6, "2001:db8:40::1"),
    (OUTSIDE, "eth0", DNS_6, "2001:db8:77::1"),
)


def command(*words: str, **options: Any) -> str:
    """The output of a command. ``CalledProcessError``, with the end of the output, if it fails."""
    done = subprocess.run(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    if done.returncode:
        failed = subprocess.CalledProcessError(done.returncode, words, done.stdout)
        failed.add_note(done.stdout[-2000:])
        raise failed
    return str(done.stdout)


def script(name: str, *arguments: str) -> list[str]:
    """The command line of a program of this folder."""
    return [sys.executable, str(HERE / name), *arguments]


class Lab:
    """The namespaces of one recording and every process in them. Leaving the context removes all of it."""

    def __init__(self, folder: Path, ipv6: bool = False) -> None:
        self.folder = folder
        """Scratch folder: configurations, logs, keys, served files."""
        self.keys = folder / "keys"
        """SSLKEYLOGFILE of the base station's TLS clients."""
        self.station_namespace = BASE_STATION
        """Where the base station's steps run; the neighbour's namespace for a second base station."""
        self._ipv6 = ipv6
        self._children: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Lab:
        try:
            self._set_up()
        except BaseException:
            self._tear_down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tear_down()

    # -- namespaces ---------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        for namespace in NAMESPACES:
            command("ip", "netns", "add", namespace)
            command("ip", "-n", namespace, "link", "set", "lo", "up")
            # IPv6 is off by default: router solicitations and neighbour discovery would fill the captures.
            self.run(namespace, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
            resolver = Path("/etc/netns") / namespace
            resolver.mkdir(parents=True, exist_ok=True)
            (resolver / "resolv.conf").write_text(f"nameserver {DNS}\n")
        command(*f"ip -n {ROUTER} link add {_LAN} address {GATEWAY_MAC} type bridge mcast_snooping 0".split())
        command("ip", "-n", ROUTER, "address", "add", f"{GATEWAY}/24", "dev", _LAN)
        command("ip", "-n", ROUTER, "link", "set", _LAN, "up")
        for interface, address, namespace, addresses in _LINKS:
            command("ip", "-n", ROUTER, "link", "add", interface, "type", "veth", "peer", "eth0", "netns", namespace)
            if namespace == BASE_STATION:
                command("ip", "-n", namespace, "link", "set", "eth0", "address", STATION_MAC)
            if address:
                command("ip", "-n", ROUTER, "address", "add", address, "dev", interface)
            else:
                command("ip", "-n", ROUTER, "link", "set", interface, "master", _LAN)
            for assigned in addresses:
                command("ip", "-n", namespace, "address", "add", assigned, "dev", "eth0")
            for owner, name in ((ROUTER, interface), (namespace, "eth0")):
                command("ip", "-n", owner, "link", "set", name, "up")
                # With offloading, the capture shows frames longer than the MTU and checksums that are not filled in.
                self.run(owner, "ethtool", "-K", name, "tx", "off", "gso", "off", "tso", "off", "gro", "off")
            command("ip", "-n", namespace, "route", "add", "default", "via", (address or GATEWAY).partition("/")[0])
        command("ip", "-n", ROUTER, "route", "add", THIRD_PARTY, "dev", "world")
        self.run(ROUTER, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        if self._ipv6:
            self._add_ipv6()

    def _add_ipv6(self) -> None:
        for namespace in (ROUTER, BASE_STATION, CORE, OUTSIDE):
            self.run(namespace, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0")
            self.run(namespace, "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        self.run(ROUTER, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        for namespace, interface, address, router in _IPV6:
            command("ip", "-n", namespace, "address", "add", f"{address}/64", "dev", interface, "nodad")
            if router:
                command("ip", "-n", namespace, "route", "add", "default", "via", router)

    def block(
        self,
        transport: str,
        port: int = 0,
        how: str = "drop",
        source: str = STATION,
        longer: int = 0,
        after_syn: bool = False,
        esp: bool = False,
        fragment: int = 0,
        ike_fragment: int = 0,
    ) -> None:
        """Block packets for a port at the gateway: ``drop``, ``reset`` or ``prohibit`` (ICMP 3/13).

        ``longer``: only packets with more bytes; ``after_syn``: only after the SYN; ``esp``: only ESP in UDP;
        ``fragment``: only fragments at this offset (bytes); ``ike_fragment``: only this fragment number of IKE messages
        on UDP/4500 (RFC 7383).
        """
        verdict = {
            "drop": "drop",
            "reset": "reject with tcp reset",
            "prohibit": "reject with icmp type admin-prohibited",
        }[how]
        match = [f"ip saddr {source}", f"{transport} dport {port}" if port else f"ip protocol {transport}"]
        match += [f"meta length > {longer}"] * bool(longer)
        match += ["tcp flags & syn == 0"] * after_syn
        match += ["@th,64,32 != 0"] * esp
        match += [f"ip frag-off & 0x1fff == {fragment // 8}"] * bool(fragment)
        # After the UDP header and the non-ESP marker: the type of the first payload; after its header, the number.
        match += [f"@th,64,32 == 0 @th,224,8 == 53 @th,352,16 == {ike_fragment}"] * bool(ike_fragment)
        self.run(ROUTER, "nft", "add", "table", "ip", "lab")
        self.run(ROUTER, "nft", "add chain ip lab crossing { type filter hook forward priority 0; }")
        self.run(ROUTER, "nft", f"add rule ip lab crossing {' '.join(match)} counter {verdict}")

    def blocked(self) -> int:
        """The smallest number of packets that a :meth:`block` has blocked; 0 if one has blocked none."""
        listing = self.run(ROUTER, "nft", "list", "ruleset")
        return min((int(count) for count in re.findall(r"counter packets (\d+)", listing)), default=0)

    def translate(self) -> None:
        """The gateway translates the base station's address to its own (NAT)."""
        self.run(ROUTER, "nft", "add", "table", "ip", "nat")
        self.run(ROUTER, "nft", "add chain ip nat leaving { type nat hook postrouting priority 100; }")
        self.run(ROUTER, "nft", 'add rule ip nat leaving oifname { "core", "world" } masquerade')

    def forward(self, address: str, ports: str, to: str, transport: str = "tcp") -> None:
        """TPE forwards some ports (``50000-50050``) of an address of its own to another address."""
        self.run(CORE, "nft", "add", "table", "ip", "nat")
        self.run(CORE, "nft", "add chain ip nat arriving { type nat hook prerouting priority -100; }")
        self.run(CORE, "nft", f"add rule ip nat arriving ip daddr {address} {transport} dport {ports} dnat to {to}")

    def write(self, name: str, text: str) -> str:
        """Write a file in the scratch folder; its path."""
        path = self.folder / name
        path.write_text(text)
        return str(path)

    # -- processes ----------------------------------------------------------------------------------------------

    def _where(self, namespace: str) -> str:
        return self.station_namespace if namespace == BASE_STATION else namespace

    def in_namespace(self, namespace: str, words: Sequence[str]) -> list[str]:
        # Every process gets its own /run (ip netns exec makes a mount namespace): otherwise the daemons of both sides
        # share the machine's, and leave files in it.
        own = 'mount -t tmpfs lab /run && mkdir -p /run/sshd /run/vsftpd/empty && exec "$@"'
        # TLS clients that support it log the keys of their sessions.
        keys = [f"SSLKEYLOGFILE={self.keys}"] * (namespace == BASE_STATION)
        return ["env", *keys, "ip", "netns", "exec", self._where(namespace), "sh", "-c", own, "lab", *words]

    def run(self, namespace: str, *words: str, timeout: float = 20, check: bool = True, stdin: str = "") -> str:
        """The output of a command in a namespace. ``check=False``: it may fail or exceed the timeout."""
        try:
            return command(*self.in_namespace(namespace, words), timeout=timeout, input=stdin)
        except subprocess.CalledProcessError as failed:
            if check:
                raise
            return str(failed.output)
        except subprocess.TimeoutExpired:
            if check:
                raise
            return ""

    def start(self, namespace: str, *words: str, environment: Mapping[str, str] | None = None) -> None:
        """Start a process in a namespace. It runs until :meth:`stop` or the end of the recording."""
        name = f"{self._where(namespace)}-{Path(words[0]).name}-{len(self._children)}"
        with (self.folder / f"{name}.log").open("wb") as log:
            child = subprocess.Popen(
                self.in_namespace(namespace, words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self._children.append((name, child))

    def kill(self, namespace: str, program: str) -> None:
        """Kill a started process, so that it closes no connection."""
        for name, child in self._children:
            if name.startswith(f"{namespace}-{program}-"):
                os.killpg(child.pid, signal.SIGKILL)
                child.wait(4)
                self._children.remove((name, child))
                return
        raise ValueError(f"no {program} runs in {namespace}")

    def check_processes(self) -> None:
        """``RuntimeError`` if a process has ended by itself with an error."""
        for name, child in self._children:
            if child.poll():
                log = (self.folder / f"{name}.log").read_text(errors="replace")
                raise RuntimeError(f"{name} ended with {child.returncode}:\n{log[-3000:]}")

    def wait_for(self, namespace: str, port: int, seconds: float = 8) -> None:
        """Wait until a process in the namespace listens on a TCP port."""
        deadline = time.monotonic() + seconds
        while f":{port} " not in self.run(namespace, "ss", "-Hltn"):
            self.check_processes()
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing listens on {port} in {namespace}")
            time.sleep(0.1)

    # -- capture ------------------------------------------------------------------------------------------------

    def capture(self, path: Path, options: CaptureOptions) -> Tcpdump | Dumpcap:
        """Capture packets, by default those of the base station's cable."""
        return Dumpcap(path, options) if options.stall else Tcpdump(path, options)

    def stop(self, namespace: str = "") -> None:
        """Stop the started processes (of one namespace), latest first: clients before their servers."""
        ending = [(name, child) for name, child in self._children if name.startswith(namespace)]
        for name, child in reversed(ending):
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGTERM)
                try:
                    child.wait(4)
                except subprocess.TimeoutExpired:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait(4)
            self._children.remove((name, child))
            time.sleep(0.3)  # It may still close connections through the next process: a tunnel, a TLS proxy.

    def _tear_down(self) -> None:
        self.stop()
        for namespace in NAMESPACES:
            listed = subprocess.run(["ip", "netns", "pids", namespace], text=True, capture_output=True, check=False)
            for pid in listed.stdout.split():  # daemons that have left their session
                os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
            resolver = Path("/etc/netns") / namespace
            (resolver / "resolv.conf").unlink(missing_ok=True)
            if resolver.is_dir():
                resolver.rmdir()


POINTS = {
    "cable": (ROUTER, "cable"),
    "lan": (ROUTER, _LAN),
    "core": (ROUTER, "core"),
    "gateway": (ROUTER, "any"),
    "base-station": (BASE_STATION, "any"),
}
"""Where packets can be captured: namespace and interface. ``any`` makes cooked captures."""


@dataclass(frozen=True)
class CaptureOptions:
    """The table ``[capture]`` of a scenario: where, how and when to capture, and how to change the file."""

    at: str = "cable"
    filter: str = ""
    snaplen: int = 0
    nanoseconds: bool = False
    link_type: str = ""
    """tcpdump's ``-y``; the default for ``any`` is LINUX_SLL2."""
    after: str = ""
    """The step after which the capture begins; without it, it begins before the first step."""
    ends_early: bool = False
    """Whether the capture ends before the connections do."""
    stall: float = 0
    """Seconds at the end during which the capturing program is stopped, so that the kernel drops packets."""
    vlan: int = 0
    """802.1Q tag to add to every frame of the file; the kernel may lack VLAN support."""
    files: int = 1
    """Number of files into which the capture is split."""
    cut: int = 0
    """Bytes to remove from the end, as by a full disk."""
    embed_keys: bool = False
    """Whether to embed the TLS keys of the Basics Station in the file."""
    vendor_block: int = 0
    """Type of a vendor-specific pcapng block to add."""


class _Program:
    """A capturing program that runs during a ``with`` block."""

    def __init__(self, path: Path, at: str, words: Sequence[str]) -> None:
        self._path, self._program = path, words[0]
        self._child = subprocess.Popen(
            ["ip", "netns", "exec", POINTS[at][0], *words], stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def __enter__(self) -> Self:
        deadline = time.monotonic() + 5
        while not self._path.exists() or self._path.stat().st_size == 0:
            if self._child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self._program} does not start")
            time.sleep(0.05)
        return self

    def end(self) -> str:
        """Stop the program; its messages."""
        time.sleep(1.5)  # It reads the kernel's buffer about once a second: the last packets need this time.
        os.killpg(self._child.pid, signal.SIGINT)
        return self._child.communicate(timeout=10)[1]


class Tcpdump(_Program):
    """tcpdump. ``RuntimeError`` if it loses packets."""

    def __init__(self, path: Path, options: CaptureOptions) -> None:
        interface = POINTS[options.at][1]
        self._all_interfaces = interface == "any"
        # In immediate mode every packet occupies a whole snap length of the buffer.
        buffering = ["--immediate-mode", "-U", "--buffer-size=65536"]
        words = ["tcpdump", "-n", "-i", interface, *buffering, "-w", str(path), "-Z", "root"]
        words += [f"--snapshot-length={options.snaplen}"] * bool(options.snaplen)
        words += ["--time-stamp-precision=nano"] * options.nanoseconds
        words += ["-y", options.link_type] if options.link_type else []
        words += [options.filter] if options.filter else []
        super().__init__(path, options.at, words)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        messages = self.end()
        counts = {
            line.split(maxsplit=1)[1]: int(line.split()[0]) for line in messages.splitlines() if line[:1].isdigit()
        }
        captured, received = counts["packets captured"], counts["packets received by filter"]
        # On all interfaces, packets of the loopback are received twice and captured once.
        if counts["packets dropped by kernel"] or (captured != received and not self._all_interfaces):
            raise RuntimeError(f"tcpdump lost packets: {messages}")


class Dumpcap(_Program):
    """dumpcap with its smallest buffer, stopped for a while, as on an overloaded machine.

    It writes the number of packets that the kernel dropped into the file. ``RuntimeError`` if it is 0.
    """

    def __init__(self, path: Path, options: CaptureOptions) -> None:
        self._stall = options.stall
        super().__init__(path, options.at, ["dumpcap", "-q", "-B", "1", "-i", POINTS[options.at][1], "-w", str(path)])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._child.pid, signal.SIGSTOP)
        time.sleep(self._stall)
        os.killpg(self._child.pid, signal.SIGCONT)
        messages = self.end()
        if "(pcap:0/" in messages:
            raise RuntimeError(f"dumpcap lost nothing: {messages}")
