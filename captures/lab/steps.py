"""What a scenario can let happen while it records; one function each.

A scenario names a step by ``run``; its other keys are the keyword arguments of the function. The base station takes
the step unless the docstring names another host; with ``second = true`` the neighbour takes it instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import ipsec
import tls
from network import (
    BASE_STATION,
    CORE,
    DNS,
    GATEWAY,
    HERE,
    NEIGHBOUR,
    NTP,
    OUTSIDE,
    STATION,
    THIRD_PARTY,
    TPE,
    Lab,
    script,
)

_SSH_OPTIONS = "-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"

# -- DHCP, DNS, NTP ---------------------------------------------------------------------------------------------


def dhcp(lab: Lab, options: str = "") -> None:
    """``options``: of udhcpc; with ``-a`` it first checks by ARP whether the address is in use."""
    words = ["busybox", "udhcpc", "-n", "-q", "-f", "-B", "-i", "eth0", "-s", "/bin/true", *options.split()]
    lab.run(BASE_STATION, *words)


def dhclient(lab: Lab, remembers: str, seconds: float = 6) -> None:
    """ISC's client, which leaves the interface as it is. ``remembers``: the address of an earlier lease."""
    leases = lab.folder / "dhclient.leases"
    expiry = "renew never; rebind never; expire never;"
    leases.write_text(f'lease {{\n  interface "eth0";\n  fixed-address {remembers};\n  {expiry}\n}}\n')
    files = ["-lf", str(leases), "-pf", str(lab.folder / "dhclient.pid"), "-cf", "/dev/null", "-sf", "/bin/true"]
    lab.run(BASE_STATION, "dhclient", "-4", "-1", "-d", *files, "eth0", timeout=seconds, check=False)


def resolve(lab: Lab, name: str = "lrc1.lab.example") -> None:
    lab.run(BASE_STATION, "getent", "ahosts", name)


def dig(lab: Lab, name: str = "lrc1.lab.example", options: str = "", server: str = DNS) -> None:
    lab.run(BASE_STATION, "dig", f"@{server}", name, "+tries=1", "+time=2", *options.split(), check=False)


def dns_guessed(lab: Lab, name: str, count: int = 12, port: int = 40053) -> None:
    """While a query waits, a host outside sends answers that guess its identifier; it knows the name and the port."""
    query = f"dig @{DNS} -b {STATION}#{port} {name} +tries=1 +time=2 || true"
    lab.start(BASE_STATION, "sh", "-c", query)
    time.sleep(0.5)
    lab.run(OUTSIDE, *script("imitations.py", "dns-guesses", DNS, STATION, str(port), name, str(count)))
    time.sleep(2)


def dns_tunnel(lab: Lab, record: str = "NULL") -> None:
    """iodine through the name server, and a few pings inside. ``record``: the type that carries the data."""
    lab.start(BASE_STATION, "iodine", "-f", "-r", "-P", "lab", "-T", record, "-I", "1", DNS, "t.lab.example")
    time.sleep(6)
    lab.run(BASE_STATION, "ping", "-n", "-c", "3", "-W", "2", "10.252.0.1", check=False)


def ntp(lab: Lab, server: str = NTP, version: int = 4, key: bool = False) -> None:
    """Query the time and print the offset (-Q): the machine's clock stays as it is.

    ``key``: authenticate with a symmetric key.
    """
    source = f"server {server} iburst maxsamples 1 version {version}"
    if key:
        source += f" key 1\nkeyfile {lab.write('ntp-keys', '1 SHA1 HEX:' + bytes(range(20)).hex())}"
    text = f"{source}\ncmdport 0\nbindcmdaddress /\npidfile {lab.folder}/chronyd-client.pid\n"
    configuration = lab.write("chronyd-client.conf", text)
    lab.run(BASE_STATION, "chronyd", "-x", "-Q", "-u", "root", "-t", "5", "-f", configuration, check=False)


# -- ICMP -------------------------------------------------------------------------------------------------------


def ping(lab: Lab, to: str = TPE[0], count: int = 2, pause: float = 0.5, options: str = "") -> None:
    words = ["ping", "-n", "-c", str(count), "-i", str(pause), "-W", "1", *options.split(), to]
    lab.run(BASE_STATION, *words, timeout=10 + count * pause, check=False)


def separate_pings(lab: Lab, to: str = TPE[0], count: int = 12, size: int = 600) -> None:
    """Pings from a new process each time, each with different data."""
    pinging = f"ping -n -c 1 -W 1 -s {size} -p $i$((i * 37 % 90 + 10))c0de {to}"
    lab.run(BASE_STATION, "sh", "-c", f"for i in $(seq 10 {9 + count}); do {pinging}; done")


def nping(lab: Lab, options: str, sender: str = "base-station") -> None:
    """ICMP and TCP by nping. ``sender``: ``base-station``, ``neighbour`` or ``tpe``."""
    namespace = {"base-station": BASE_STATION, "neighbour": NEIGHBOUR, "tpe": CORE}[sender]
    lab.run(namespace, "nping", *options.split())


def icmp_control(lab: Lab, kind: str, identifier: int, gateway: str = "10.20.30.66") -> None:
    """The neighbour sends ``redirect`` or ``quench`` with the gateway's address, about pings of that identifier."""
    words = ["icmp-control", kind, GATEWAY, STATION, TPE[0], gateway, str(identifier)]
    lab.run(NEIGHBOUR, "ip", "address", "add", f"{GATEWAY}/32", "dev", "lo")
    lab.run(NEIGHBOUR, *script("imitations.py", *words))


def icmp_tunnel(lab: Lab) -> None:
    """SFTP inside SSH inside ptunnel to TPE."""
    lab.start(BASE_STATION, "ptunnel", "-p", TPE[0], "-lp", "8022", "-da", "127.0.0.1", "-dp", "22")
    lab.wait_for(BASE_STATION, 8022)
    _sftp(lab, "127.0.0.1", 8022, _sftp_batch(lab, "get"))


# -- scans, discovery, and packets made by hand -----------------------------------------------------------------


def scan(lab: Lab, options: str, sender: str = "outside", to: str = STATION) -> None:
    """nmap. ``sender``: ``outside`` (the third party) or ``base-station``."""
    namespace, source = (BASE_STATION, STATION) if sender == "base-station" else (OUTSIDE, THIRD_PARTY)
    lab.run(namespace, "nmap", "-n", "-Pn", "-S", source, "-e", "eth0", *options.split(), to, timeout=60)


def name_discovery(lab: Lab) -> None:
    """avahi announces the base station, until the end of the recording."""
    text = "[server]\nuse-ipv6=no\nenable-dbus=no\nallow-interfaces=eth0\n[publish]\npublish-workstation=yes\n"
    words = ["--no-drop-root", "--no-chroot", "--no-rlimits", "-f", lab.write("avahi.conf", text)]
    lab.start(BASE_STATION, "avahi-daemon", *words)
    time.sleep(2)


def _hexadecimal(contents: list[str]) -> list[str]:
    return [content.replace(" ", "") for content in contents]


def datagrams(
    lab: Lab, port: int, contents: list[str], to: str = TPE[0], source_port: int = 40000, source: str = STATION
) -> None:
    """UDP datagrams with these contents (hexadecimal)."""
    words = ["datagrams", source, str(source_port), to, str(port), *_hexadecimal(contents)]
    lab.run(BASE_STATION, *script("imitations.py", *words))


def packets(lab: Lab, protocol: int, contents: list[str], to: str = TPE[0]) -> None:
    """IP packets of a protocol with these contents (hexadecimal)."""
    words = ["packets", str(protocol), STATION, to, *_hexadecimal(contents)]
    lab.run(BASE_STATION, *script("imitations.py", *words))


def fragments(lab: Lab, protocol: int, source: str, pieces: list[str]) -> None:
    """A host outside sends the base station fragments of one datagram (``offset: hexadecimal``)."""
    words = ["fragments", str(protocol), source, STATION, *_hexadecimal(pieces)]
    lab.run(OUTSIDE, *script("imitations.py", *words))


def frames(lab: Lab, contents: list[str]) -> None:
    """Ethernet frames with these contents (hexadecimal)."""
    lab.run(BASE_STATION, *script("imitations.py", "frames", *_hexadecimal(contents)))


def replay(lab: Lab, seconds: float = 3, count: int = 5) -> None:
    """Capture ESP packets of the base station for a time, then send the first ones again."""
    words = ["replay", str(seconds), STATION, str(count)]
    lab.run(BASE_STATION, *script("imitations.py", *words), timeout=seconds + 10)


def replay_later(lab: Lab, seconds: float = 3, count: int = 5, pause: float = 10) -> None:
    """The same in the background, after a pause."""
    lab.start(BASE_STATION, *script("imitations.py", "replay", str(seconds), STATION, str(count), str(pause)))
    time.sleep(seconds)


def noise(lab: Lab, port: int, to: str = TPE[0], size: int = 700) -> None:
    """Random bytes by TCP."""
    lab.run(BASE_STATION, *script("imitations.py", "noise", to, str(port), str(size)))


# -- SSH and SFTP -----------------------------------------------------------------------------------------------


def telnet(lab: Lab, port: int = 22, to: str = TPE[0]) -> None:
    """A login by telnet."""
    typing = "sleep 1; echo root; sleep 1; echo lab; sleep 1"
    lab.run(BASE_STATION, "sh", "-c", f"({typing}) | telnet {to} {port}", check=False)


def _ssh_words(lab: Lab, options: str = "") -> list[str]:
    return [*_SSH_OPTIONS.split(), *options.split(), "-i", str(lab.folder / "login")]


def _sftp(lab: Lab, host: str, port: int, batch: str, options: str = "", check: bool = True) -> None:
    words = ["sftp", *_ssh_words(lab, options), "-P", str(port), "-b", "-", f"root@{host}"]
    lab.run(BASE_STATION, *words, stdin=batch, check=check)


def _sftp_batch(lab: Lab, verb: str) -> str:
    return {
        "get": f"get {lab.folder}/served/lrr-2.8.41.ipk {lab.folder}/got.ipk\n",
        "put": f"put {lab.folder}/rfscan_0.csv.gz {lab.folder}/served/upload/rfscan_0.csv.gz\n",
    }[verb]


def key_installer(lab: Lab, to: str = TPE[0], options: str = "", succeeds: bool = True) -> None:
    """``options``: of ssh, such as old algorithms."""
    _sftp(lab, to, 22, f"get {lab.folder}/served/key.tar {lab.folder}/key.tar\n", options, succeeds)


def old_key_installer(lab: Lab, to: str = TPE[0]) -> None:
    """The key installer by Debian's paramiko, which only the system's Python can import."""
    files = [str(lab.folder / name) for name in ("login", "served/key.tar", "key.tar")]
    lab.run(BASE_STATION, "/usr/bin/python3", str(HERE / "old_ssh.py"), to, *files)


def sftp(lab: Lab, port: int, verb: str, to: str = TPE[0]) -> None:
    """SFTP without the TLS that the port requires."""
    _sftp(lab, to, port, _sftp_batch(lab, verb))


def tls_sftp(
    lab: Lab,
    port: int,
    verb: str,
    host: str = "lrc1.lab.example",
    version: str = "",
    insecure: bool = False,
    ciphers: str = "",
    server_name: str = "",
    shared_key: bool = False,
    succeeds: bool = True,
    keys: bool = False,
) -> None:
    """SFTP through TLS: ``get`` or ``put``. ``keys``: use a client that logs its keys."""
    local = port - 981
    if keys:
        tls.openssl_client(lab, port, local, host)
    else:
        tls.stunnel_client(lab, port, local, host, version, insecure, ciphers, server_name, shared_key)
    _sftp(lab, "127.0.0.1", local, _sftp_batch(lab, verb), check=succeeds)


def reverse_ssh(lab: Lab, to: str = TPE[0], options: str = "", port: int = 2009) -> None:
    """The tunnel for remote administration, until the end of the recording. ``port``: the one forwarded at TPE."""
    words = [*_ssh_words(lab, options), "-N", "-R", f"{port}:127.0.0.1:22", f"root@{to}"]
    lab.start(BASE_STATION, "ssh", *words)
    time.sleep(1)


def administer(lab: Lab, command: str = "uname -a; ls -l /usr/bin | head -60") -> None:
    """An administrator at TPE runs a command on the base station, through the reverse tunnel."""
    lab.run(CORE, "ssh", *_ssh_words(lab), "-p", "2009", "root@127.0.0.1", command)


def inbound_ssh(lab: Lab) -> None:
    """TPE opens SSH to the base station, a direction that no row allows."""
    lab.run(CORE, "ssh", *_ssh_words(lab), f"root@{STATION}", "uptime")


# -- IEC 104, FTP, HTTP, Basics Station -------------------------------------------------------------------------


def link(lab: Lab, port: int = 2404, to: str = TPE[0], deviations: str = "", seconds: float = 0) -> None:
    """The IEC 104 link in the LRR's dialect without TLS, for some seconds or until the end of the recording.

    ``deviations``: see lrr.py.
    """
    words = script("lrr.py", "station", to, str(port), *deviations.split())
    if seconds:
        lab.run(BASE_STATION, *words, timeout=seconds, check=False)
    else:
        lab.start(BASE_STATION, *words)


def iec104_standard(lab: Lab, port: int = 2404, to: str = TPE[0]) -> None:
    """A link of standard IEC 60870-5-104, until the end of the recording."""
    lab.start(BASE_STATION, *script("iec104.py", "station", to, str(port)))


def ftp(lab: Lab, verb: str, to: str = TPE[0], options: str = "--disable-eprt", path: str = "") -> None:
    """curl, anonymous: ``get`` or ``put``. ``options``: of curl, which is passive by default. It may be refused."""
    host = f"[{to}]" if ":" in to else to
    login = ["--user", "ftp:lrr@lab", *options.split(), "-sS", "--max-time", "8"]
    if verb == "get":
        words = ["-o", str(lab.folder / "got.ipk"), f"ftp://{host}/{path or 'lrr-2.8.41.ipk'}"]
    else:
        words = ["-T", str(lab.folder / "rfscan_0.csv.gz"), f"ftp://{host}/{path or 'upload/rfscan_0.csv.gz'}"]
    lab.run(BASE_STATION, "curl", *login, *words, check=False)


def ftp_bounce(lab: Lab, to: str = TPE[0], third: str = TPE[1]) -> None:
    """Ask the FTP server to send a file to a third host, then upload one."""
    lab.run(BASE_STATION, *script("imitations.py", "ftp-bounce", to, third))


def ftp_guess(lab: Lab, to: str = TPE[0]) -> None:
    """Try one password after another."""
    lab.run(BASE_STATION, *script("imitations.py", "ftp-guess", to))


def ftp_distrust(lab: Lab, to: str = TPE[0]) -> None:
    """Ignore the address of a PASV reply and continue in active mode."""
    lab.run(BASE_STATION, *script("imitations.py", "ftp-distrust", to))


def basics(
    lab: Lab,
    service: str,
    host: str,
    port: int,
    clear: bool = False,
    insecure: bool = False,
    uplinks: int = 5,
    version: str = "",
    token: str = "",
    succeeds: bool = True,
) -> None:
    """One session of the Basics Station with ``cups`` or ``lns``.

    ``version``: the only TLS version that it speaks; ``token``: its authorization for CUPS.
    """
    words = ["station", service, host, str(port), "--uplinks", str(uplinks)]
    words += ["--certificate", str(lab.folder / "station.pem"), "--authority", str(lab.folder / "ca.crt")]
    words += ["--version", version] * bool(version) + ["--clear"] * clear + ["--insecure"] * insecure
    words += ["--token", token] * bool(token)
    words += ["--keys", str(lab.keys)]
    lab.run(BASE_STATION, *script("basics.py", *words), timeout=60, check=succeeds)


def http(lab: Lab, port: int = 80, to: str = THIRD_PARTY, path: str = "", options: str = "") -> None:
    """``options``: of curl."""
    words = ["curl", "-sS", "--max-time", "5", *options.split()]
    lab.run(BASE_STATION, *words, f"http://{to}:{port}/{path}", check=False)


def wait(lab: Lab, seconds: float) -> None:
    """Let the processes in the background run."""
    time.sleep(seconds)
    lab.check_processes()


STEPS: Mapping[str, Callable[..., None]] = {
    "administer": administer,
    "basics": basics,
    "compressing-link": tls.compressing_link,
    "datagrams": datagrams,
    "dhclient": dhclient,
    "dhcp": dhcp,
    "dig": dig,
    "dns-guessed": dns_guessed,
    "dns-tunnel": dns_tunnel,
    "fragments": fragments,
    "frames": frames,
    "ftp": ftp,
    "ftp-bounce": ftp_bounce,
    "ftp-distrust": ftp_distrust,
    "ftp-guess": ftp_guess,
    "gnutls": tls.gnutls_client,
    "http": http,
    "icmp-control": icmp_control,
    "icmp-tunnel": icmp_tunnel,
    "iec104-standard": iec104_standard,
    "inbound-ssh": inbound_ssh,
    "key-installer": key_installer,
    "link": link,
    "move": ipsec.move,
    "name-discovery": name_discovery,
    "noise": noise,
    "nping": nping,
    "ntp": ntp,
    "old-key-installer": old_key_installer,
    "packets": packets,
    "peer-gone": ipsec.peer_gone,
    "ping": ping,
    "rekey": ipsec.rekey,
    "replay": replay,
    "replay-later": replay_later,
    "resolve": resolve,
    "reverse-ssh": reverse_ssh,
    "scan": scan,
    "separate-pings": separate_pings,
    "sftp": sftp,
    "telnet": telnet,
    "tls-check": tls.check,
    "tls-hello": tls.hello,
    "tls-link": tls.link,
    "tls-resume": tls.resume,
    "tls-sftp": tls_sftp,
    "tunnel": ipsec.tunnel,
    "wait": wait,
}
