"""What can run in the lab: servers of TPE and of the outside, and what then happens, one function each.

A scenario names them by ``run``; its other keys are the function's keyword arguments. A step is the base station's
unless its docstring says whose it is; with ``second = true`` it is the neighbour's instead.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import certificates
import ipsec
from network import (
    BASE_STATION,
    CORE,
    DNS,
    DNS_6,
    GATEWAY,
    NEIGHBOUR,
    NTP,
    OUTSIDE,
    ROUTER,
    STATION,
    STATION_MAC,
    STRANGER,
    TPE,
    TPE_6,
    Lab,
)

HERE = Path(__file__).parent
_SSH_OPTIONS = "-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"


def prepare(lab: Lab) -> None:
    """Keys, certificates and files that the daemons serve."""
    certificates.write(lab.folder, TPE)
    served = lab.folder / "served"
    (served / "upload").mkdir(parents=True)
    (served / "key.tar").write_bytes(bytes(i * 31 & 0xFF for i in range(6000)))
    (served / "lrr-2.8.41.ipk").write_bytes(bytes(i * 17 & 0xFF for i in range(9000)))
    (lab.folder / "rfscan_0.csv.gz").write_bytes(bytes(i * 13 & 0xFF for i in range(4000)))
    _write(lab, "shared-keys", f"{certificates.STATION}:{bytes(range(32)).hex()}\n")
    for name, kind, bits in (("host", "ed25519", 256), ("login", "ed25519", 256), ("short", "rsa", 1024)):
        words = ["-t", kind, "-b", str(bits), "-N", "", "-C", name, "-f", str(lab.folder / name)]
        lab.run(BASE_STATION, "ssh-keygen", "-q", *words)
    # vsftpd serves it to the user ftp, who must get there; nothing of the lab is a secret.
    lab.folder.chmod(0o755)
    shutil.chown(served / "upload", "ftp")


def _script(name: str) -> list[str]:
    return [sys.executable, str(HERE / name)]


def _write(lab: Lab, name: str, text: str) -> str:
    path = lab.folder / name
    path.write_text(text)
    return str(path)


# -- servers ------------------------------------------------------------------------------------------------------


def dns(lab: Lab, lns: str = TPE[0], cups: str = TPE[0], ipv6: bool = False) -> None:
    """``lns``, ``cups``: the addresses of these two names. What is below t.lab.example, it asks the stranger for."""
    names = {
        "lrc1.lab.example": TPE_6 if ipv6 else TPE[0],
        "lrc2.lab.example": TPE[1],
        "lrc3.lab.example": TPE[2],
        "ntp.lab.example": NTP,
        "lns.lab.example": lns,
        "cups.lab.example": cups,
        "tpe.lab.example": TPE[0],
    }
    records = [f"--address=/{name}/{address}" for name, address in names.items()]
    words = ["dnsmasq", "-k", "-C", "/dev/null", "--no-hosts", "--no-resolv", "--pid-file=", "--user=root"]
    words += [f"--server=/t.lab.example/{STRANGER}", "--bind-interfaces", f"--listen-address={DNS}"]
    words += [f"--listen-address={DNS_6}"] * ipv6
    lab.start(OUTSIDE, *words, *records)
    time.sleep(0.3)


def dns_tunnel_server(lab: Lab) -> None:
    """iodined at the stranger, for t.lab.example."""
    lab.start(OUTSIDE, "iodined", "-f", "-c", "-P", "lab", "-l", STRANGER, "10.252.0.1/24", "t.lab.example")
    time.sleep(0.5)


def dhcp_server(lab: Lab, at: str = "gateway", authoritative: bool = False, first: str = "", routes: str = "") -> None:
    """``at``: the gateway, a ``neighbour`` that calls itself the router, or, behind a relay, ``outside`` or ``tpe``.

    ``first``: the address that it would give the base station before any other; ``routes``: what it hands out of them.
    """
    words = ["dnsmasq", "-k", "-C", "/dev/null", "--port=0", "--pid-file=", "--user=root", "--no-ping"]
    words += [f"--dhcp-leasefile={lab.folder / f'leases-{at}'}", "--dhcp-broadcast"]
    words += ["--dhcp-authoritative"] * authoritative
    namespace, interface = {
        "gateway": (ROUTER, "lan"),
        "neighbour": (NEIGHBOUR, "eth0"),
        "outside": (OUTSIDE, "eth0"),
        "tpe": (CORE, "eth0"),
    }[at]
    mine = at == "neighbour"
    address, router = ("10.20.30.99", "10.20.30.66") if mine else (STATION, GATEWAY)
    options = [f"--dhcp-option=3,{router}", f"--dhcp-option=6,{DNS}"]
    options += [f"--dhcp-host={STATION_MAC},{first}"] * bool(first) + [f"--dhcp-option=121,{routes}"] * bool(routes)
    leases = f"--dhcp-range={address},{address},255.255.255.0,1h"
    lab.start(namespace, *words, f"--interface={interface}", *options, leases)
    time.sleep(0.3)


def dhcp_unnamed(lab: Lab) -> None:
    """Something in the neighbourhood that gives addresses and does not say who it is."""
    lab.start(NEIGHBOUR, *_script("imitations.py"), "dhcp-unnamed", "eth0", STATION, GATEWAY)
    time.sleep(0.3)


def dhcp_relay(lab: Lab) -> None:
    """The gateway asks two DHCP servers, outside and at TPE."""
    words = ["dnsmasq", "-k", "-C", "/dev/null", "--port=0", "--pid-file=", "--user=root"]
    relays = [f"--dhcp-relay={GATEWAY},{server}" for server in (DNS, TPE[0])]
    lab.start(ROUTER, *words, "--interface=lan", "--interface=core", "--interface=world", *relays)
    time.sleep(0.3)


def ntp_server(lab: Lab, at: str = "service", synchronized: bool = True) -> None:
    """``at``: the NTP service outside, or ``tpe``. It never touches the machine's clock (-x)."""
    local = "local stratum 3\n" if synchronized else ""
    text = f"{local}allow all\ncmdport 0\nbindcmdaddress /\npidfile {lab.folder}/chronyd-server.pid\n"
    configuration = _write(lab, "chronyd-server.conf", text)
    lab.start(CORE if at == "tpe" else OUTSIDE, "chronyd", "-x", "-d", "-u", "root", "-f", configuration)


def kiss_of_death(lab: Lab) -> None:
    """A time server that says RATE to everybody."""
    lab.start(OUTSIDE, *_script("imitations.py"), "kiss-of-death", NTP)


def crypto_nak(lab: Lab) -> None:
    """A time server that knows nobody's key."""
    lab.start(OUTSIDE, *_script("imitations.py"), "crypto-nak", NTP)


def web(lab: Lab, port: int = 80, at: str = "outside") -> None:
    """A web server that nobody asked for: outside, or at ``tpe``."""
    namespace, address = (CORE, "0.0.0.0") if at == "tpe" else (OUTSIDE, STRANGER)
    served = str(lab.folder / "served")
    lab.start(namespace, sys.executable, "-m", "http.server", str(port), "--bind", address, "--directory", served)
    lab.wait_for(namespace, port)


def sshd(lab: Lab, port: int = 22, at: str = "tpe", host_key: str = "host", settings: str = "") -> None:
    """``at``: ``tpe`` or ``base-station``; ``settings``: further lines of sshd_config, such as old algorithms."""
    namespace = CORE if at == "tpe" else BASE_STATION
    text = f"""\
Port {port}
HostKey {lab.folder}/{host_key}
AuthorizedKeysFile {lab.folder}/login.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
{settings}
"""
    lab.start(namespace, "/usr/sbin/sshd", "-D", "-e", "-f", _write(lab, f"sshd-{at}-{port}.conf", text))
    lab.wait_for(namespace, port)


def says(lab: Lab, port: int, opening: str = "", answer: str = "", pause: float = 3) -> None:
    """Something at TPE that says these words when somebody comes, others when it hears something, and closes."""
    words = [opening.encode().hex(), answer.encode().hex(), str(pause)]
    lab.start(CORE, *_script("imitations.py"), "says", str(port), *words)
    lab.wait_for(CORE, port)


def relay(lab: Lab, port: int, to: int, preface: str = "", insertion: str = "") -> None:
    """Something before a server of TPE's loopback: it says lines of its own first, or inserts bytes (hexadecimal)."""
    words = [preface.encode().hex(), insertion.replace(" ", "")]
    lab.start(CORE, *_script("imitations.py"), "relay", str(port), str(to), *words)
    lab.wait_for(CORE, port)


def false_echo(lab: Lab, address: str = TPE[0]) -> None:
    """TPE answers pings with other data than they brought."""
    lab.run(CORE, "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
    lab.start(CORE, *_script("imitations.py"), "false-echo", address)


def icmp_tunnel_server(lab: Lab) -> None:
    """ptunnel's proxy at TPE; the kernel leaves pings to it."""
    lab.run(CORE, "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
    lab.start(CORE, "ptunnel")


def ike_responder(lab: Lab, how: str) -> None:
    """Something at TPE that answers IKE as no daemon does: ``never-offered``, ``contradictory`` or ``redirect``."""
    port = 5500  # A charon has 500 of all addresses.
    lab.forward(TPE[0], "500", f"{TPE[0]}:{port}", "udp")
    lab.start(CORE, *_script("imitations.py"), "ike-responder", TPE[0], str(port), how, TPE[1])


def _stunnel_options(version: str, ciphers: str) -> str:
    """``version``: the only one (``TLSv1``); ``ciphers``: OpenSSL's words, down to no security at all."""
    text = f"sslVersion = {version}\n" if version else ""
    if version in ("TLSv1", "TLSv1.1") or ciphers:
        text += f"securityLevel = 0\nciphers = {ciphers or 'ALL'}:@SECLEVEL=0\n"
    return text


def tls(
    lab: Lab,
    port: int,
    to: int,
    certificate: str = "tpe",
    version: str = "",
    mutual: bool = True,
    ciphers: str = "",
    dh_bits: int = 0,
    address: str = "",
    shared_key: bool = False,
) -> None:
    """TPE's TLS front on a port, handing on to a port of its loopback.

    ``dh_bits``: of its Diffie-Hellman group; ``shared_key``: that instead of the certificate.
    """
    pem = (lab.folder / f"{certificate}.pem").read_text()
    if dh_bits:
        pem += lab.run(CORE, "openssl", "dhparam", "-dsaparam", str(dh_bits), timeout=60)
    name = f"{address or 'any'}-{port}"
    text = f"""\
foreground = yes
pid =
[front]
accept = {f"{address}:" if address else ""}{port}
connect = 127.0.0.1:{to}
"""
    if shared_key:
        text += f"PSKsecrets = {lab.folder}/shared-keys\n"
    else:
        text += f"cert = {_write(lab, f'tls-{name}.pem', pem)}\n"
    if mutual and not shared_key:
        text += f"verifyChain = yes\nCAfile = {lab.folder}/ca.crt\n"
    if certificate in ("rsa-1024", "sha1"):
        ciphers = ciphers or "ALL"
    lab.start(CORE, "stunnel", _write(lab, f"tls-{name}.conf", text + _stunnel_options(version, ciphers)))
    lab.wait_for(CORE, port)


def compressing(lab: Lab, port: int, to: int) -> None:
    """TPE's TLS front with compression, handing on to a port of its loopback."""
    files = [str(lab.folder / each) for each in ("tpe.crt", "tpe.key")]
    lab.start(CORE, *_script("compressing.py"), "server", str(port), str(to), *files)
    lab.wait_for(CORE, port)


def gnutls(lab: Lab, port: int, priority: str) -> None:
    """GnuTLS's own server, which still has what OpenSSL has lost; it echoes. ``priority``: GnuTLS's words."""
    certificate = ["--x509certfile", str(lab.folder / "tpe.crt"), "--x509keyfile", str(lab.folder / "tpe.key")]
    lab.start(CORE, "gnutls-serv", "--echo", "-p", str(port), "--priority", priority, *certificate)
    lab.wait_for(CORE, port)


def lrc(lab: Lab, port: int = 2404, address: str = "127.0.0.1", oddities: str = "") -> None:
    """The LRC's end of the IEC 104 link, in the LRR's dialect. ``oddities``: words of lrr.py."""
    lab.start(CORE, *_script("lrr.py"), "server", address, str(port), *oddities.split())
    lab.wait_for(CORE, port)


def iec104_standard_server(lab: Lab, port: int = 2404, address: str = TPE[0]) -> None:
    """An IEC 60870-5-104 server by the book."""
    lab.start(CORE, *_script("iec104.py"), "server", address, str(port))
    lab.wait_for(CORE, port)


def ftpd(
    lab: Lab,
    login: bool = True,
    passive_address: str = "",
    reachable: bool = False,
    secure: bool = False,
    ipv6: bool = False,
) -> None:
    """vsftpd. ``secure``: AUTH TLS is possible.

    ``passive_address``: what its PASV replies say, as behind a NAT; ``reachable``: data connections get through there.
    """
    options = {
        "listen": "NO" if ipv6 else "YES",
        "listen_ipv6": "YES" if ipv6 else "NO",
        "background": "NO",
        "anonymous_enable": "YES" if login else "NO",
        "local_enable": "NO" if login else "YES",
        "no_anon_password": "NO",
        "write_enable": "YES",
        "anon_upload_enable": "YES",
        "anon_mkdir_write_enable": "YES",
        "anon_umask": "022",
        "anon_root": f"{lab.folder}/served",
        "pasv_min_port": "50000",
        "pasv_max_port": "50050",
        "seccomp_sandbox": "NO",
        "xferlog_enable": "NO",
        "secure_chroot_dir": "/run/vsftpd/empty",
    }
    if passive_address:
        options["pasv_address"] = passive_address
    if reachable:
        lab.forward(passive_address, f"{options['pasv_min_port']}-{options['pasv_max_port']}", TPE[0])
    if secure:
        options |= {"ssl_enable": "YES", "allow_anon_ssl": "YES", "require_ssl_reuse": "NO"}
        options |= {"rsa_cert_file": f"{lab.folder}/tpe.crt", "rsa_private_key_file": f"{lab.folder}/tpe.key"}
    text = "".join(f"{key}={value}\n" for key, value in options.items())
    lab.start(CORE, "vsftpd", _write(lab, "vsftpd.conf", text))
    lab.wait_for(CORE, 21)


def basics_server(
    lab: Lab, port: int, certificate: str = "tpe", mutual: bool = True, clear: bool = False, version: str = ""
) -> None:
    """LNS and CUPS, whichever is asked for. ``version``: the only one (``TLSv1.1``)."""
    words = [*_script("basics.py"), "server", str(port), *["--version", version] * bool(version)]
    if clear:
        words += ["--public", "ws://lns.lab.example:4443"]
    else:
        words += ["--certificate", str(lab.folder / f"{certificate}.pem")]
    if mutual and not clear:
        words += ["--authority", str(lab.folder / "ca.crt")]
    lab.start(CORE, *words)
    lab.wait_for(CORE, port)


# -- steps --------------------------------------------------------------------------------------------------------


def dhcp(lab: Lab, options: str = "") -> None:
    """``options``: udhcpc's own; ``-a`` asks the link whether the address is used."""
    words = ["busybox", "udhcpc", "-n", "-q", "-f", "-B", "-i", "eth0", "-s", "/bin/true", *options.split()]
    lab.run(BASE_STATION, *words)


def dhclient(lab: Lab, remembers: str, seconds: float = 6) -> None:
    """ISC's client, which changes nothing on the interface. ``remembers``: an address that it had on a former day."""
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
    """While a query waits, somebody outside who knows its name and port sends answers that guess its identifier."""
    words = ["imitations.py", "dns-guesses", DNS, STATION, str(port), name, str(count)]
    asking = f"dig @{DNS} -b {STATION}#{port} {name} +tries=1 +time=2 || true"
    lab.start(BASE_STATION, "sh", "-c", asking)
    time.sleep(0.5)
    lab.run(OUTSIDE, *_script(words[0]), *words[1:])
    time.sleep(2)


def dns_tunnel(lab: Lab, record: str = "NULL") -> None:
    """iodine through the name server, and a few pings inside of it. ``record``: the type that carries the data."""
    lab.start(BASE_STATION, "iodine", "-f", "-r", "-P", "lab", "-T", record, "-I", "1", DNS, "t.lab.example")
    time.sleep(6)
    lab.run(BASE_STATION, "ping", "-n", "-c", "3", "-W", "2", "10.252.0.1", check=False)


def ntp(lab: Lab, server: str = NTP, version: int = 4, key: bool = False) -> None:
    """Ask for the time once and only print the offset (-Q): the machine's clock stays as it is.

    ``key``: prove with a shared key who asks.
    """
    source = f"server {server} iburst maxsamples 1 version {version}"
    if key:
        source += f" key 1\nkeyfile {_write(lab, 'ntp-keys', '1 SHA1 HEX:' + bytes(range(20)).hex())}"
    text = f"{source}\ncmdport 0\nbindcmdaddress /\npidfile {lab.folder}/chronyd-client.pid\n"
    configuration = _write(lab, "chronyd-client.conf", text)
    lab.run(BASE_STATION, "chronyd", "-x", "-Q", "-u", "root", "-t", "5", "-f", configuration, check=False)


def ping(lab: Lab, to: str = TPE[0], count: int = 2, pause: float = 0.5, options: str = "") -> None:
    words = ["ping", "-n", "-c", str(count), "-i", str(pause), "-W", "1", *options.split(), to]
    lab.run(BASE_STATION, *words, timeout=10 + count * pause, check=False)


def ping_each(lab: Lab, to: str = TPE[0], count: int = 12, size: int = 600) -> None:
    """Pings of a process each, and each with other data."""
    pinging = f"ping -n -c 1 -W 1 -s {size} -p $i$((i * 37 % 90 + 10))c0de {to}"
    lab.run(BASE_STATION, "sh", "-c", f"for i in $(seq 10 {9 + count}); do {pinging}; done")


def nping(lab: Lab, options: str, of: str = "base-station") -> None:
    """ICMP and TCP by nping. ``of``: who sends it, ``base-station``, ``neighbour`` or ``tpe``."""
    namespace = {"base-station": BASE_STATION, "neighbour": NEIGHBOUR, "tpe": CORE}[of]
    lab.run(namespace, "nping", *options.split())


def icmp_control(lab: Lab, kind: str, identifier: int, gateway: str = "10.20.30.66") -> None:
    """The neighbour, in the name of the gateway, sends ``redirect`` or ``quench`` for pings of that identifier."""
    words = [*_script("imitations.py"), "icmp-control", kind, GATEWAY, STATION, TPE[0], gateway, str(identifier)]
    lab.run(NEIGHBOUR, "ip", "address", "add", f"{GATEWAY}/32", "dev", "lo")
    lab.run(NEIGHBOUR, *words)


def icmp_tunnel(lab: Lab) -> None:
    """SFTP inside SSH inside ptunnel to TPE."""
    lab.start(BASE_STATION, "ptunnel", "-p", TPE[0], "-lp", "8022", "-da", "127.0.0.1", "-dp", "22")
    lab.wait_for(BASE_STATION, 8022)
    _sftp(lab, "127.0.0.1", 8022, _sftp_batch(lab, "get"))


def scan(lab: Lab, options: str, of: str = "outside", to: str = STATION) -> None:
    """nmap. ``of``: who scans, ``outside`` (the stranger) or ``base-station``."""
    namespace, source = (BASE_STATION, STATION) if of == "base-station" else (OUTSIDE, STRANGER)
    lab.run(namespace, "nmap", "-n", "-Pn", "-S", source, "-e", "eth0", *options.split(), to, timeout=60)


def name_discovery(lab: Lab) -> None:
    """avahi announces the base station, until the end."""
    text = "[server]\nuse-ipv6=no\nenable-dbus=no\nallow-interfaces=eth0\n[publish]\npublish-workstation=yes\n"
    words = ["--no-drop-root", "--no-chroot", "--no-rlimits", "-f", _write(lab, "avahi.conf", text)]
    lab.start(BASE_STATION, "avahi-daemon", *words)
    time.sleep(2)


def datagrams(
    lab: Lab, port: int, contents: list[str], to: str = TPE[0], source_port: int = 40000, source: str = STATION
) -> None:
    """UDP datagrams by hand (hexadecimal)."""
    words = [*_script("imitations.py"), "datagrams", source, str(source_port), to, str(port)]
    lab.run(BASE_STATION, *words, *(each.replace(" ", "") for each in contents))


def packets(lab: Lab, protocol: int, contents: list[str], to: str = TPE[0]) -> None:
    """IP packets of a protocol by hand (hexadecimal)."""
    words = [*_script("imitations.py"), "packets", str(protocol), STATION, to]
    lab.run(BASE_STATION, *words, *(each.replace(" ", "") for each in contents))


def fragments(lab: Lab, protocol: int, source: str, pieces: list[str]) -> None:
    """Somebody outside sends the base station fragments of a datagram by hand (``offset: hexadecimal``)."""
    words = [*_script("imitations.py"), "fragments", str(protocol), source, STATION]
    lab.run(OUTSIDE, *words, *(each.replace(" ", "") for each in pieces))


def frames(lab: Lab, contents: list[str]) -> None:
    """Ethernet frames by hand (hexadecimal)."""
    lab.run(BASE_STATION, *_script("imitations.py"), "frames", *(each.replace(" ", "") for each in contents))


def replay(lab: Lab, seconds: float = 3, count: int = 5) -> None:
    """Somebody on the base station's side watches its ESP packets for a time and sends the first once more."""
    words = [*_script("imitations.py"), "replay", str(seconds), STATION, str(count)]
    lab.run(BASE_STATION, *words, timeout=seconds + 10)


def replay_later(lab: Lab, seconds: float = 3, count: int = 5, pause: float = 10) -> None:
    """The same in the background, and some time after."""
    words = [*_script("imitations.py"), "replay", str(seconds), STATION, str(count), str(pause)]
    lab.start(BASE_STATION, *words)
    time.sleep(seconds)


def noise(lab: Lab, port: int, to: str = TPE[0], size: int = 700) -> None:
    """Random bytes by TCP."""
    lab.run(BASE_STATION, *_script("imitations.py"), "noise", to, str(port), str(size))


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
    """``options``: ssh's own, such as old algorithms."""
    _sftp(lab, to, 22, f"get {lab.folder}/served/key.tar {lab.folder}/key.tar\n", options, succeeds)


def old_key_installer(lab: Lab, to: str = TPE[0]) -> None:
    """The key installer by Debian's paramiko, which no recorder's Python has."""
    files = [str(lab.folder / each) for each in ("login", "served/key.tar", "key.tar")]
    lab.run(BASE_STATION, "/usr/bin/python3", str(HERE / "old_ssh.py"), to, *files)


def sftp(lab: Lab, port: int, verb: str, to: str = TPE[0]) -> None:
    """SFTP straight, without the TLS that belongs around it."""
    _sftp(lab, to, port, _sftp_batch(lab, verb))


def reverse_ssh(lab: Lab, to: str = TPE[0], options: str = "", port: int = 2009) -> None:
    """The remote administration tunnel, until the end. ``port``: TPE's end of it."""
    words = [*_ssh_words(lab, options), "-N", "-R", f"{port}:127.0.0.1:22", f"root@{to}"]
    lab.start(BASE_STATION, "ssh", *words)
    time.sleep(1)


def administer(lab: Lab, command: str = "uname -a; ls -l /usr/bin | head -60") -> None:
    """Somebody at TPE runs a command on the base station, through the reverse tunnel."""
    lab.run(CORE, "ssh", *_ssh_words(lab), "-p", "2009", "root@127.0.0.1", command)


def inbound_ssh(lab: Lab) -> None:
    """TPE opens SSH to the base station, in the direction that no row has."""
    lab.run(CORE, "ssh", *_ssh_words(lab), f"root@{STATION}", "uptime")


def _is_number(host: str) -> bool:
    return host.replace(".", "").isdigit()


def _stunnel(
    lab: Lab,
    port: int,
    local: int,
    host: str,
    version: str,
    careless: bool,
    ciphers: str,
    server_name: str,
    shared_key: bool,
) -> None:
    text = f"""\
foreground = yes
pid =
[station]
client = yes
accept = 127.0.0.1:{local}
connect = {host}:{port}
"""
    if server_name:
        text += f"sni = {server_name}\n"
    if shared_key:
        text += f"PSKidentity = {certificates.STATION}\nPSKsecrets = {lab.folder}/shared-keys\n"
    else:
        text += f"cert = {lab.folder}/station.pem\n"
    if not careless and not shared_key:
        check = "checkIP" if _is_number(host) else "checkHost"
        text += f"verifyChain = yes\nCAfile = {lab.folder}/ca.crt\n{check} = {host}\n"
    options = _stunnel_options(version, ciphers)
    lab.start(BASE_STATION, "stunnel", _write(lab, f"station-{local}.conf", text + options))
    lab.wait_for(BASE_STATION, local)


def _key_writing(lab: Lab, port: int, local: int, host: str) -> None:
    """OpenSSL's client behind socat, in stunnel's place: stunnel does not tell the keys of its sessions."""
    words = [*_s_client(lab, port, host), "-quiet", "-cert", str(lab.folder / "station.pem")]
    script = _write(lab, f"station-{local}.sh", f"exec {shlex.join(words)}\n")
    lab.start(BASE_STATION, "socat", f"TCP-LISTEN:{local},bind=127.0.0.1,fork", f"EXEC:sh {script}")
    lab.wait_for(BASE_STATION, local)


def tls_link(
    lab: Lab,
    port: int = 3001,
    host: str = "lrc1.lab.example",
    version: str = "",
    careless: bool = False,
    local: int = 12404,
    ciphers: str = "",
    server_name: str = "",
    shared_key: bool = False,
    keys: bool = False,
) -> None:
    """The IEC 104 link through stunnel, until the end. ``keys``: through a client that writes its keys down."""
    if keys:
        _key_writing(lab, port, local, host)
    else:
        _stunnel(lab, port, local, host, version, careless, ciphers, server_name, shared_key)
    lab.start(BASE_STATION, *_script("lrr.py"), "station", "127.0.0.1", str(local))


def compressing_link(lab: Lab, port: int = 3001, host: str = "lrc1.lab.example", local: int = 12404) -> None:
    """The IEC 104 link through TLS with compression, until the end."""
    lab.start(BASE_STATION, *_script("compressing.py"), "station", str(local), host, str(port))
    lab.wait_for(BASE_STATION, local)
    lab.start(BASE_STATION, *_script("lrr.py"), "station", "127.0.0.1", str(local))


def tls_sftp(
    lab: Lab,
    port: int,
    verb: str,
    host: str = "lrc1.lab.example",
    version: str = "",
    careless: bool = False,
    ciphers: str = "",
    server_name: str = "",
    shared_key: bool = False,
    succeeds: bool = True,
    keys: bool = False,
) -> None:
    """SFTP through stunnel: ``get`` or ``put``. ``keys``: through a client that writes its keys down."""
    local = port - 981
    if keys:
        _key_writing(lab, port, local, host)
    else:
        _stunnel(lab, port, local, host, version, careless, ciphers, server_name, shared_key)
    _sftp(lab, "127.0.0.1", local, _sftp_batch(lab, verb), check=succeeds)


def _s_client(lab: Lab, port: int, host: str) -> list[str]:
    """OpenSSL's client, which accepts the right certificate only; a number is no server's name in TLS (RFC 6066, 3)."""
    named = ["-servername", host, "-verify_hostname", host]
    if _is_number(host):
        named = ["-noservername", "-verify_ip", host]
    verify = ["-CAfile", str(lab.folder / "ca.crt"), "-verify_return_error", *named]
    return ["openssl", "s_client", "-connect", f"{host}:{port}", "-keylogfile", str(lab.keys), *verify]


def tls_check(lab: Lab, port: int, host: str = "tpe.lab.example", options: str = "", seconds: float = 5) -> None:
    """Look at the server's certificate and hang up, as the LRR does in mode ipsec. ``options``: of s_client."""
    words = [*_s_client(lab, port, host), *options.split()]
    lab.run(BASE_STATION, *words, timeout=seconds, check=False, stdin="Q\n")


def tls_hello(lab: Lab, port: int, host: str = "tpe.lab.example") -> None:
    """Say hello and hang up when the server has answered."""
    lab.run(BASE_STATION, *_script("imitations.py"), "hello", host, str(port))


def tls_resume(lab: Lab, port: int, host: str = "tpe.lab.example") -> None:
    """Two TLS 1.2 sessions of which the second resumes the first."""
    session = str(lab.folder / "session")
    tls_check(lab, port, host, f"-tls1_2 -sess_out {session}")
    tls_check(lab, port, host, f"-tls1_2 -sess_in {session}")


def gnutls_client(lab: Lab, port: int, priority: str, to: str = TPE[0]) -> None:
    """A few lines to GnuTLS's echo server. ``priority``: GnuTLS's words."""
    words = ["gnutls-cli", "--insecure", "--priority", priority, "-p", str(port), to]
    lab.run(BASE_STATION, "sh", "-c", f"(sleep 1; echo hello; sleep 1) | {' '.join(words)}", check=False)


def link(lab: Lab, port: int = 2404, to: str = TPE[0], oddities: str = "", seconds: float = 0) -> None:
    """The IEC 104 link in the LRR's dialect without anything around it, for a time or until the end.

    ``oddities``: words of lrr.py.
    """
    words = [*_script("lrr.py"), "station", to, str(port), *oddities.split()]
    if seconds:
        lab.run(BASE_STATION, *words, timeout=seconds, check=False)
    else:
        lab.start(BASE_STATION, *words)


def iec104_standard(lab: Lab, port: int = 2404, to: str = TPE[0]) -> None:
    """An IEC 60870-5-104 link by the book, until the end."""
    lab.start(BASE_STATION, *_script("iec104.py"), "station", to, str(port))


def ftp(lab: Lab, verb: str, to: str = TPE[0], options: str = "--disable-eprt", path: str = "") -> None:
    """curl, anonymous: ``get`` or ``put``. ``options``: its own, passive by default. A refusal is not the lab's."""
    host = f"[{to}]" if ":" in to else to
    login = ["--user", "ftp:lrr@lab", *options.split(), "-sS", "--max-time", "8"]
    if verb == "get":
        words = ["-o", str(lab.folder / "got.ipk"), f"ftp://{host}/{path or 'lrr-2.8.41.ipk'}"]
    else:
        words = ["-T", str(lab.folder / "rfscan_0.csv.gz"), f"ftp://{host}/{path or 'upload/rfscan_0.csv.gz'}"]
    lab.run(BASE_STATION, "curl", *login, *words, check=False)


def ftp_bounce(lab: Lab, to: str = TPE[0], third: str = TPE[1]) -> None:
    """Ask the FTP server to send a file to a third host, then leave one there."""
    lab.run(BASE_STATION, *_script("imitations.py"), "ftp-bounce", to, third)


def ftp_guess(lab: Lab, to: str = TPE[0]) -> None:
    """Try one password after another."""
    lab.run(BASE_STATION, *_script("imitations.py"), "ftp-guess", to)


def ftp_distrust(lab: Lab, to: str = TPE[0]) -> None:
    """Do not trust the address of a PASV reply, and go on in active mode."""
    lab.run(BASE_STATION, *_script("imitations.py"), "ftp-distrust", to)


def basics(
    lab: Lab,
    service: str,
    host: str,
    port: int,
    clear: bool = False,
    careless: bool = False,
    uplinks: int = 5,
    version: str = "",
    token: str = "",
    succeeds: bool = True,
) -> None:
    """One turn of the Basics Station: ``cups`` or ``lns``.

    ``version``: the newest of TLS that it knows; ``token``: what it authorizes itself with to CUPS.
    """
    words = [*_script("basics.py"), "station", service, host, str(port), "--uplinks", str(uplinks)]
    words += ["--certificate", str(lab.folder / "station.pem"), "--authority", str(lab.folder / "ca.crt")]
    words += ["--version", version] * bool(version) + ["--clear"] * clear + ["--careless"] * careless
    words += ["--token", token] * bool(token)
    words += ["--keys", str(lab.keys)]
    lab.run(BASE_STATION, *words, timeout=60, check=succeeds)


def http(lab: Lab, port: int = 80, to: str = STRANGER, path: str = "", options: str = "") -> None:
    """``options``: curl's own."""
    words = ["curl", "-sS", "--max-time", "5", *options.split()]
    lab.run(BASE_STATION, *words, f"http://{to}:{port}/{path}", check=False)


def wait(lab: Lab, seconds: float) -> None:
    """Let what runs in the background run."""
    time.sleep(seconds)
    lab.alive()


Service = Callable[..., None]

SERVERS: Mapping[str, Service] = {
    "basics": basics_server,
    "compressing": compressing,
    "crypto-nak": crypto_nak,
    "dhcp": dhcp_server,
    "dhcp-relay": dhcp_relay,
    "dhcp-unnamed": dhcp_unnamed,
    "dns": dns,
    "dns-tunnel": dns_tunnel_server,
    "false-echo": false_echo,
    "ftp": ftpd,
    "gnutls": gnutls,
    "icmp-tunnel": icmp_tunnel_server,
    "iec104-standard": iec104_standard_server,
    "ike-responder": ike_responder,
    "ipsec": ipsec.server,
    "kiss-of-death": kiss_of_death,
    "lrc": lrc,
    "ntp": ntp_server,
    "relay": relay,
    "says": says,
    "ssh": sshd,
    "tls": tls,
    "web": web,
}
STEPS: Mapping[str, Service] = {
    "administer": administer,
    "basics": basics,
    "compressing-link": compressing_link,
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
    "gnutls": gnutls_client,
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
    "ping-each": ping_each,
    "rekey": ipsec.rekey,
    "replay": replay,
    "replay-later": replay_later,
    "resolve": resolve,
    "reverse-ssh": reverse_ssh,
    "scan": scan,
    "sftp": sftp,
    "telnet": telnet,
    "tls-check": tls_check,
    "tls-hello": tls_hello,
    "tls-link": tls_link,
    "tls-resume": tls_resume,
    "tls-sftp": tls_sftp,
    "tunnel": ipsec.tunnel,
    "wait": wait,
}
