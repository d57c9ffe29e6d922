"""The servers that a scenario can start, at TPE and elsewhere; one function each.

A scenario names a server by ``run``; its other keys are the keyword arguments of the function.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping

import certificates
import ipsec
import tls
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
    THIRD_PARTY,
    TPE,
    TPE_6,
    Lab,
    script,
)


def prepare(lab: Lab) -> None:
    """Make the keys, the certificates and the files that the daemons serve."""
    certificates.write(lab.folder, TPE)
    served = lab.folder / "served"
    (served / "upload").mkdir(parents=True)
    (served / "key.tar").write_bytes(bytes(i * 31 & 0xFF for i in range(6000)))
    (served / "lrr-2.8.41.ipk").write_bytes(bytes(i * 17 & 0xFF for i in range(9000)))
    (lab.folder / "rfscan_0.csv.gz").write_bytes(bytes(i * 13 & 0xFF for i in range(4000)))
    lab.write("shared-keys", f"{certificates.STATION}:{bytes(range(32)).hex()}\n")
    for name, kind, bits in (("host", "ed25519", 256), ("login", "ed25519", 256), ("short", "rsa", 1024)):
        words = ["-t", kind, "-b", str(bits), "-N", "", "-C", name, "-f", str(lab.folder / name)]
        lab.run(BASE_STATION, "ssh-keygen", "-q", *words)
    # vsftpd runs as the user ftp, who must be able to read the folder; nothing in it is secret.
    lab.folder.chmod(0o755)
    shutil.chown(served / "upload", "ftp")


# -- DNS, DHCP, NTP ---------------------------------------------------------------------------------------------


def dns(lab: Lab, lns: str = TPE[0], cups: str = TPE[0], ipv6: bool = False) -> None:
    """dnsmasq, which asks the third party for names below t.lab.example.

    ``lns``, ``cups``: addresses of these two names.
    """
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
    words += [f"--server=/t.lab.example/{THIRD_PARTY}", "--bind-interfaces", f"--listen-address={DNS}"]
    words += [f"--listen-address={DNS_6}"] * ipv6
    lab.start(OUTSIDE, *words, *records)
    time.sleep(0.3)


def dns_tunnel(lab: Lab) -> None:
    """iodined at the third party, for t.lab.example."""
    lab.start(OUTSIDE, "iodined", "-f", "-c", "-P", "lab", "-l", THIRD_PARTY, "10.252.0.1/24", "t.lab.example")
    time.sleep(0.5)


def dhcp(lab: Lab, at: str = "gateway", authoritative: bool = False, first: str = "", routes: str = "") -> None:
    """``at``: the gateway, a ``neighbour`` that names itself as the router, or, behind a relay, ``outside`` or ``tpe``.

    ``first``: the address that it prefers to offer the base station; ``routes``: the value of option 121.
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
    address, router = ("10.20.30.99", "10.20.30.66") if at == "neighbour" else (STATION, GATEWAY)
    options = [f"--dhcp-option=3,{router}", f"--dhcp-option=6,{DNS}"]
    options += [f"--dhcp-host={STATION_MAC},{first}"] * bool(first) + [f"--dhcp-option=121,{routes}"] * bool(routes)
    leases = f"--dhcp-range={address},{address},255.255.255.0,1h"
    lab.start(namespace, *words, f"--interface={interface}", *options, leases)
    time.sleep(0.3)


def dhcp_unnamed(lab: Lab) -> None:
    """A DHCP server of a neighbour that sends no server identifier."""
    lab.start(NEIGHBOUR, *script("imitations.py", "dhcp-unnamed", "eth0", STATION, GATEWAY))
    time.sleep(0.3)


def dhcp_relay(lab: Lab) -> None:
    """A relay at the gateway, to two DHCP servers: outside and at TPE."""
    words = ["dnsmasq", "-k", "-C", "/dev/null", "--port=0", "--pid-file=", "--user=root"]
    relays = [f"--dhcp-relay={GATEWAY},{server}" for server in (DNS, TPE[0])]
    lab.start(ROUTER, *words, "--interface=lan", "--interface=core", "--interface=world", *relays)
    time.sleep(0.3)


def ntp(lab: Lab, at: str = "service", synchronized: bool = True) -> None:
    """chronyd without access to the machine's clock (-x). ``at``: the NTP service outside, or ``tpe``."""
    local = "local stratum 3\n" if synchronized else ""
    text = f"{local}allow all\ncmdport 0\nbindcmdaddress /\npidfile {lab.folder}/chronyd-server.pid\n"
    configuration = lab.write("chronyd-server.conf", text)
    lab.start(CORE if at == "tpe" else OUTSIDE, "chronyd", "-x", "-d", "-u", "root", "-f", configuration)


def kiss_of_death(lab: Lab) -> None:
    """A time server that answers RATE to every client."""
    lab.start(OUTSIDE, *script("imitations.py", "kiss-of-death", NTP))


def crypto_nak(lab: Lab) -> None:
    """A time server that knows no client's key."""
    lab.start(OUTSIDE, *script("imitations.py", "crypto-nak", NTP))


# -- TPE's services ---------------------------------------------------------------------------------------------


def sshd(lab: Lab, port: int = 22, at: str = "tpe", host_key: str = "host", settings: str = "") -> None:
    """``at``: ``tpe`` or ``base-station``; ``settings``: more lines of sshd_config, such as old algorithms."""
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
    lab.start(namespace, "/usr/sbin/sshd", "-D", "-e", "-f", lab.write(f"sshd-{at}-{port}.conf", text))
    lab.wait_for(namespace, port)


def lrc(lab: Lab, port: int = 2404, address: str = "127.0.0.1", deviations: str = "") -> None:
    """The LRC's end of the IEC 104 link, in the LRR's dialect. ``deviations``: see lrr.py."""
    lab.start(CORE, *script("lrr.py", "server", address, str(port), *deviations.split()))
    lab.wait_for(CORE, port)


def iec104_standard(lab: Lab, port: int = 2404, address: str = TPE[0]) -> None:
    """A server of standard IEC 60870-5-104."""
    lab.start(CORE, *script("iec104.py", "server", address, str(port)))
    lab.wait_for(CORE, port)


def ftpd(
    lab: Lab,
    login: bool = True,
    passive_address: str = "",
    reachable: bool = False,
    secure: bool = False,
    ipv6: bool = False,
) -> None:
    """vsftpd. ``secure``: offer AUTH TLS.

    ``passive_address``: the address in its PASV replies, as behind a NAT; ``reachable``: forward data connections from
    there.
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
    lab.start(CORE, "vsftpd", lab.write("vsftpd.conf", text))
    lab.wait_for(CORE, 21)


def basics(
    lab: Lab, port: int, certificate: str = "tpe", mutual: bool = True, clear: bool = False, version: str = ""
) -> None:
    """LNS and CUPS on one port. ``version``: the only TLS version (``TLSv1.1``)."""
    words = ["server", str(port), *["--version", version] * bool(version)]
    if clear:
        words += ["--public", "ws://lns.lab.example:4443"]
    else:
        words += ["--certificate", str(lab.folder / f"{certificate}.pem")]
    if mutual and not clear:
        words += ["--authority", str(lab.folder / "ca.crt")]
    lab.start(CORE, *script("basics.py", *words))
    lab.wait_for(CORE, port)


# -- servers that a table does not expect -----------------------------------------------------------------------


def web(lab: Lab, port: int = 80, at: str = "outside") -> None:
    """A web server outside, or at ``tpe``."""
    namespace, address = (CORE, "0.0.0.0") if at == "tpe" else (OUTSIDE, THIRD_PARTY)
    served = str(lab.folder / "served")
    lab.start(namespace, sys.executable, "-m", "http.server", str(port), "--bind", address, "--directory", served)
    lab.wait_for(namespace, port)


def scripted(lab: Lab, port: int, opening: str = "", answer: str = "", pause: float = 3) -> None:
    """A TCP server at TPE that sends an opening, answers the first request, and closes."""
    words = [opening.encode().hex(), answer.encode().hex(), str(pause)]
    lab.start(CORE, *script("imitations.py", "scripted", str(port), *words))
    lab.wait_for(CORE, port)


def relay(lab: Lab, port: int, to: int, preface: str = "", insertion: str = "") -> None:
    """A relay at TPE before a port of the loopback.

    ``preface``: lines sent before the server's own; ``insertion``: bytes put after its first line (hexadecimal).
    """
    words = [preface.encode().hex(), insertion.replace(" ", "")]
    lab.start(CORE, *script("imitations.py", "relay", str(port), str(to), *words))
    lab.wait_for(CORE, port)


def false_echo(lab: Lab, address: str = TPE[0]) -> None:
    """TPE answers pings with data that they did not carry."""
    lab.run(CORE, "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
    lab.start(CORE, *script("imitations.py", "false-echo", address))


def icmp_tunnel(lab: Lab) -> None:
    """ptunnel's proxy at TPE; the kernel does not answer pings itself."""
    lab.run(CORE, "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
    lab.start(CORE, "ptunnel")


def ike_responder(lab: Lab, how: str) -> None:
    """An IKE responder at TPE that breaks the protocol: ``never-offered``, ``contradictory`` or ``redirect``."""
    port = 5500  # charon binds port 500 of every address
    lab.forward(TPE[0], "500", f"{TPE[0]}:{port}", "udp")
    lab.start(CORE, *script("imitations.py", "ike-responder", TPE[0], str(port), how, TPE[1]))


SERVERS: Mapping[str, Callable[..., None]] = {
    "basics": basics,
    "compressing": tls.compressing_server,
    "crypto-nak": crypto_nak,
    "dhcp": dhcp,
    "dhcp-relay": dhcp_relay,
    "dhcp-unnamed": dhcp_unnamed,
    "dns": dns,
    "dns-tunnel": dns_tunnel,
    "false-echo": false_echo,
    "ftp": ftpd,
    "gnutls": tls.gnutls_server,
    "icmp-tunnel": icmp_tunnel,
    "iec104-standard": iec104_standard,
    "ike-responder": ike_responder,
    "ipsec": ipsec.server,
    "kiss-of-death": kiss_of_death,
    "lrc": lrc,
    "ntp": ntp,
    "relay": relay,
    "scripted": scripted,
    "ssh": sshd,
    "tls": tls.server,
    "web": web,
}
