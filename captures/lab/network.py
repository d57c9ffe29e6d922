"""The lab's network: five namespaces, what is blocked between them, what is captured, and who cleans up.

::

    base station ── cable ──┐
    10.20.30.10             lan ── gateway ── core ── TPE
    neighbour ──────────────┘      10.20.30.1        172.16.40.10, .11, .12
    10.20.30.66                      │
                                     └────── world ── services and strangers
                                                      192.168.77.53 DNS, .123 NTP, 203.0.113.9 nobody's

With IPv6 the base station is 2001:db8:10::10, TPE 2001:db8:40::10 and DNS 2001:db8:77::53 as well.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

STATION = "10.20.30.10"
STATION_MAC = "70:76:ff:00:aa:10"
GATEWAY = "10.20.30.1"
GATEWAY_MAC = "02:00:00:00:aa:01"
TPE = ("172.16.40.10", "172.16.40.11", "172.16.40.12")
DNS = "192.168.77.53"
NTP = "192.168.77.123"
STRANGER = "203.0.113.9"
STATION_6, TPE_6, DNS_6 = "2001:db8:10::10", "2001:db8:40::10", "2001:db8:77::53"

DEBIAN_13 = Path("/var/lib/tpe-pcap-lab/trixie")
"""Where ``record --install`` puts the next Debian's strongSwan with the libraries that it needs."""

# Names of this process alone, so that several recordings may run at once.
BASE_STATION, NEIGHBOUR, ROUTER, CORE, OUTSIDE = (
    f"tpelab{os.getpid()}-{each}" for each in ("bs", "near", "gw", "tpe", "out")
)
NAMESPACES = (BASE_STATION, NEIGHBOUR, ROUTER, CORE, OUTSIDE)

_LAN = "lan"
_LINKS = (
    # (the gateway's end, its address, namespace, its addresses); ends without an address are ports of the LAN
    ("cable", None, BASE_STATION, (f"{STATION}/24",)),
    ("port2", None, NEIGHBOUR, ("10.20.30.66/24",)),
    ("core", "172.16.40.1/24", CORE, tuple(f"{each}/24" for each in TPE)),
    ("world", "192.168.77.1/24", OUTSIDE, (f"{DNS}/24", f"{NTP}/24", f"{STRANGER}/32")),
)
_IPV6 = (
    # (namespace, interface, its address, the way to everybody else)
    (ROUTER, _LAN, "2001:db8:10::1", None),
    (ROUTER, "core", "2001:db8:40::1", None),
    (ROUTER, "world", "2001:db8:77::1", None),
    (BASE_STATION, "eth0", STATION_6, "2001:db8:10::1"),
    (CORE, "eth0", TPE_6, "2001:db8:40::1"),
    (OUTSIDE, "eth0", DNS_6, "2001:db8:77::1"),
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

    def __init__(self, folder: Path, ipv6: bool = False) -> None:
        self.folder = folder
        """Scratch: configurations, logs, keys, served files."""
        self.keys = folder / "keys"
        """SSLKEYLOGFILE of the base station's TLS clients."""
        self.acting = BASE_STATION
        """Where the base station's steps run: the neighbour can be a second base station."""
        self._ipv6 = ipv6
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
        for namespace in NAMESPACES:
            command("ip", "netns", "add", namespace)
            command("ip", "-n", namespace, "link", "set", "lo", "up")
            # No IPv6 by itself: router solicitations and neighbour discovery would only fill the captures.
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
            for each in addresses:
                command("ip", "-n", namespace, "address", "add", each, "dev", "eth0")
            for owner, name in ((ROUTER, interface), (namespace, "eth0")):
                command("ip", "-n", owner, "link", "set", name, "up")
                # Else the capture shows frames longer than the wire carries, and checksums not yet filled in.
                self.run(owner, "ethtool", "-K", name, "tx", "off", "gso", "off", "tso", "off", "gro", "off")
            command("ip", "-n", namespace, "route", "add", "default", "via", (address or GATEWAY).partition("/")[0])
        command("ip", "-n", ROUTER, "route", "add", STRANGER, "dev", "world")
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
        """Keep packets for a port from crossing the gateway: ``drop``, ``reset`` or ``prohibit`` (ICMP 3/13).

        ``longer``: only packets of more bytes; ``after_syn``: all but the SYN; ``esp``: what UDP carries that is ESP;
        ``fragment``: only fragments at this offset (bytes); ``ike_fragment``: only this one of an IKE message on
        UDP/4500 (RFC 7383).
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
        # Behind UDP's header and the marker of four zeros: the first payload's type, and behind its header the number.
        match += [f"@th,64,32 == 0 @th,224,8 == 53 @th,352,16 == {ike_fragment}"] * bool(ike_fragment)
        self.run(ROUTER, "nft", "add", "table", "ip", "lab")
        self.run(ROUTER, "nft", "add chain ip lab crossing { type filter hook forward priority 0; }")
        self.run(ROUTER, "nft", f"add rule ip lab crossing {' '.join(match)} counter {verdict}")

    def blocked(self) -> int:
        """Number of packets that the least used :meth:`block` kept out; 0 if one kept out nothing."""
        listing = self.run(ROUTER, "nft", "list", "ruleset")
        return min((int(count) for count in re.findall(r"counter packets (\d+)", listing)), default=0)

    def translate(self) -> None:
        """The gateway hides the base station behind its own address (NAT)."""
        self.run(ROUTER, "nft", "add", "table", "ip", "nat")
        self.run(ROUTER, "nft", "add chain ip nat leaving { type nat hook postrouting priority 100; }")
        self.run(ROUTER, "nft", 'add rule ip nat leaving oifname { "core", "world" } masquerade')

    def forward(self, address: str, ports: str, to: str, transport: str = "tcp") -> None:
        """TPE hands on what comes to some ports (``50000-50050``) of an address to another of its, or elsewhere."""
        self.run(CORE, "nft", "add", "table", "ip", "nat")
        self.run(CORE, "nft", "add chain ip nat arriving { type nat hook prerouting priority -100; }")
        self.run(CORE, "nft", f"add rule ip nat arriving ip daddr {address} {transport} dport {ports} dnat to {to}")

    # -- processes ----------------------------------------------------------------------------------------------

    def _where(self, namespace: str) -> str:
        return self.acting if namespace == BASE_STATION else namespace

    def inside(self, namespace: str, words: Sequence[str]) -> list[str]:
        # Every process gets a /run of its own (ip netns exec gives it its own mounts): daemons of the two sides
        # would fight over the one of the machine, and leave things in it.
        own = 'mount -t tmpfs lab /run && mkdir -p /run/sshd /run/vsftpd/empty && exec "$@"'
        # Its TLS clients write down the keys that decrypt their sessions, where they are able to.
        keys = [f"SSLKEYLOGFILE={self.keys}"] * (namespace == BASE_STATION)
        return ["env", *keys, "ip", "netns", "exec", self._where(namespace), "sh", "-c", own, "lab", *words]

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
        name = f"{self._where(namespace)}-{Path(words[0]).name}-{len(self._children)}"
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

    def kill(self, namespace: str, program: str) -> None:
        """End a started process without a chance to say goodbye."""
        for name, child in self._children:
            if name.startswith(f"{namespace}-{program}-"):
                os.killpg(child.pid, signal.SIGKILL)
                child.wait(4)
                self._children.remove((name, child))
                return
        raise ValueError(f"no {program} runs in {namespace}")

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

    def capture(self, path: Path, options: Capturing) -> Tcpdump | Dumpcap:
        """Capture, by default what the base station's cable carries."""
        return Dumpcap(path, options) if options.held_up else Tcpdump(path, options)

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
        for namespace in NAMESPACES:
            listed = subprocess.run(["ip", "netns", "pids", namespace], text=True, capture_output=True, check=False)
            for pid in listed.stdout.split():  # A daemon that forked away from its session.
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
"""Where a capture can be taken: namespace and interface. ``any`` makes cooked captures."""


@dataclass(frozen=True)
class Capturing:
    """A scenario's ``[capture]``: where, how and when is captured, and what becomes of the file."""

    at: str = "cable"
    filter: str = ""
    snaplen: int = 0
    nanoseconds: bool = False
    link_type: str = ""
    """tcpdump's ``-y``; ``any`` gives LINUX_SLL2 without it."""
    after: str = ""
    """The step after which the capture begins; at once by default."""
    ends_early: bool = False
    """Whether the capture ends before the connections do."""
    held_up: float = 0
    """Seconds at the end during which the capturing program does not run, so that the kernel loses packets."""
    vlan: int = 0
    """802.1Q tag to write into every frame afterwards, for the kernel may know none."""
    files: int = 1
    """Into how many files to cut the capture."""
    cut: int = 0
    """Bytes to cut off the end, as by a full disk."""
    secrets: bool = False
    """Whether to write the Basics Station's TLS keys into the file."""
    vendor_block: int = 0
    """Kind of pcapng block to add, as by a vendor's own program."""


class _Program:
    """A capturing program, for the time of a ``with`` block."""

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
        """End it; what it said."""
        time.sleep(1.5)  # It hands out what it has only so often: without this the last second is lost.
        os.killpg(self._child.pid, signal.SIGINT)
        return self._child.communicate(timeout=10)[1]


class Tcpdump(_Program):
    """tcpdump, which must not lose a packet."""

    def __init__(self, path: Path, options: Capturing) -> None:
        interface = POINTS[options.at][1]
        self._everywhere = interface == "any"
        # In immediate mode each packet takes a whole snap length of the buffer.
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
        said = self.end()
        counts = {line.split(maxsplit=1)[1]: int(line.split()[0]) for line in said.splitlines() if line[:1].isdigit()}
        captured, received = counts["packets captured"], counts["packets received by filter"]
        # On all interfaces the loopback's packets are received twice and captured once.
        if counts["packets dropped by kernel"] or (captured != received and not self._everywhere):
            raise RuntimeError(f"tcpdump lost packets: {said}")


class Dumpcap(_Program):
    """dumpcap with its smallest buffer, stopped for a while as on a machine that is too busy.

    It writes into its file how many packets the kernel had to drop, and it must be some.
    """

    def __init__(self, path: Path, options: Capturing) -> None:
        self._held_up = options.held_up
        super().__init__(path, options.at, ["dumpcap", "-q", "-B", "1", "-i", POINTS[options.at][1], "-w", str(path)])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._child.pid, signal.SIGSTOP)
        time.sleep(self._held_up)
        os.killpg(self._child.pid, signal.SIGCONT)
        said = self.end()
        if "(pcap:0/" in said:
            raise RuntimeError(f"dumpcap lost nothing: {said}")
