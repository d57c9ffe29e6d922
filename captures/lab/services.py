"""What can run in the lab: servers of TPE and of the outside, and what the base station does, one function each.

A scenario names them by ``run``; its other keys are the function's keyword arguments.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import certificates
from network import BASE_STATION, CORE, DNS, GATEWAY, NTP, OUTSIDE, ROUTER, STATION, STRANGER, TPE, Lab

HERE = Path(__file__).parent
INNER_TPE, INNER_STATIONS = "10.251.0.1", "10.250.0.0/24"
_SSH_OPTIONS = "-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"


def prepare(lab: Lab) -> None:
    """Keys, certificates and files that the daemons serve."""
    certificates.write(lab.folder, TPE)
    served = lab.folder / "served"
    (served / "upload").mkdir(parents=True)
    (served / "key.tar").write_bytes(bytes(i * 31 & 0xFF for i in range(6000)))
    (served / "lrr-2.8.41.ipk").write_bytes(bytes(i * 17 & 0xFF for i in range(9000)))
    (lab.folder / "rfscan_0.csv.gz").write_bytes(bytes(i * 13 & 0xFF for i in range(4000)))
    for name in ("host", "login"):
        lab.run(BASE_STATION, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(lab.folder / name))
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


def dns(lab: Lab) -> None:
    names = {
        "lrc2.lab.example": TPE[1],
        "ntp.lab.example": NTP,
        **{each: TPE[0] for each in certificates.NAMES if "lrc2" not in each},
    }
    records = [f"--address=/{name}/{address}" for name, address in names.items()]
    words = ["dnsmasq", "-k", "-C", "/dev/null", "--no-hosts", "--no-resolv", "--pid-file=", "--user=root"]
    lab.start(OUTSIDE, *words, f"--listen-address={DNS}", "--bind-interfaces", *records)
    time.sleep(0.3)


def dhcp_server(lab: Lab) -> None:
    words = [
        "dnsmasq",
        "-k",
        "-C",
        "/dev/null",
        "--port=0",
        "--pid-file=",
        "--user=root",
        "--interface=lan",
        "--no-ping",
    ]
    leases = f"--dhcp-leasefile={lab.folder / 'leases'}"
    options = [f"--dhcp-option=3,{GATEWAY}", f"--dhcp-option=6,{DNS}", "--dhcp-broadcast"]
    lab.start(ROUTER, *words, leases, *options, f"--dhcp-range={STATION},{STATION},1h")
    time.sleep(0.3)


def ntp_server(lab: Lab, at: str = "service") -> None:
    """``at``: the NTP service outside, or ``tpe``. It never touches the machine's clock (-x)."""
    text = f"local stratum 3\nallow all\ncmdport 0\nbindcmdaddress /\npidfile {lab.folder}/chronyd-server.pid\n"
    configuration = _write(lab, "chronyd-server.conf", text)
    lab.start(CORE if at == "tpe" else OUTSIDE, "chronyd", "-x", "-d", "-u", "root", "-f", configuration)


def web(lab: Lab, port: int = 80) -> None:
    """A web server that nobody asked for, outside."""
    words = [
        sys.executable,
        "-m",
        "http.server",
        str(port),
        "--bind",
        STRANGER,
        "--directory",
        str(lab.folder / "served"),
    ]
    lab.start(OUTSIDE, *words)
    lab.wait_for(OUTSIDE, port)


def sshd(lab: Lab, port: int = 22) -> None:
    text = f"""\
Port {port}
HostKey {lab.folder}/host
AuthorizedKeysFile {lab.folder}/login.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
"""
    lab.start(CORE, "/usr/sbin/sshd", "-D", "-e", "-f", _write(lab, f"sshd-{port}.conf", text))
    lab.wait_for(CORE, port)


def tls(lab: Lab, port: int, to: int, certificate: str = "tpe", version: str = "", mutual: bool = True) -> None:
    """TPE's TLS front on a port, handing on to a port of its loopback. ``version``: the only one (``TLSv1``)."""
    text = f"""\
foreground = yes
pid =
[front]
accept = {port}
connect = 127.0.0.1:{to}
cert = {lab.folder}/{certificate}.pem
"""
    if mutual:
        text += f"verifyChain = yes\nCAfile = {lab.folder}/ca.crt\n"
    if version:
        text += f"sslVersion = {version}\n"
    if version in ("TLSv1", "TLSv1.1"):
        text += "securityLevel = 0\nciphers = ALL@SECLEVEL=0\n"
    lab.start(CORE, "stunnel", _write(lab, f"tls-{port}.conf", text))
    lab.wait_for(CORE, port)


def lrc(lab: Lab, port: int = 2404, address: str = "127.0.0.1") -> None:
    """The LRC's end of the IEC 104 link, in the LRR's dialect."""
    lab.start(CORE, *_script("lrr.py"), "server", address, str(port))
    lab.wait_for(CORE, port)


def iec104_standard_server(lab: Lab, port: int = 2404, address: str = TPE[0]) -> None:
    """An IEC 60870-5-104 server by the book."""
    lab.start(CORE, *_script("iec104.py"), "server", address, str(port))
    lab.wait_for(CORE, port)


def ftpd(lab: Lab, login: bool = True) -> None:
    text = f"""\
listen=YES
background=NO
anonymous_enable={"YES" if login else "NO"}
local_enable={"NO" if login else "YES"}
no_anon_password=NO
write_enable=YES
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_umask=022
anon_root={lab.folder}/served
pasv_min_port=50000
pasv_max_port=50050
seccomp_sandbox=NO
xferlog_enable=NO
secure_chroot_dir=/run/vsftpd/empty
"""
    lab.start(CORE, "vsftpd", _write(lab, "vsftpd.conf", text))
    lab.wait_for(CORE, 21)


def basics_server(lab: Lab, port: int, certificate: str = "tpe", mutual: bool = True, clear: bool = False) -> None:
    """LNS and CUPS, whichever is asked for."""
    words = [*_script("basics.py"), "server", str(port)]
    if not clear:
        words += ["--certificate", str(lab.folder / f"{certificate}.pem")]
    if mutual and not clear:
        words += ["--authority", str(lab.folder / "ca.crt")]
    lab.start(CORE, *words)
    lab.wait_for(CORE, port)


def _charon(lab: Lab, namespace: str, certificate: str, connection: str) -> dict[str, str]:
    """A charon with its own configuration; the environment in which swanctl speaks to it."""
    home = lab.folder / namespace
    for folder, file in (("x509", f"{certificate}.crt"), ("private", f"{certificate}.key"), ("x509ca", "ca.crt")):
        (home / folder).mkdir(parents=True)
        shutil.copy(lab.folder / file, home / folder)
    (home / "swanctl.conf").write_text(connection)
    (home / "strongswan.conf").write_text(f"""\
charon {{
  load = random nonce openssl aes sha1 sha2 hmac kdf gcm x509 pem pkcs1 pkcs8 pubkey constraints vici \
kernel-libipsec kernel-netlink socket-default
  plugins {{
    vici {{
      socket = unix://{home}/vici
    }}
  }}
}}
""")
    environment = {"STRONGSWAN_CONF": str(home / "strongswan.conf"), "SWANCTL_DIR": str(home)}
    lab.start(namespace, "/usr/lib/ipsec/charon", environment=environment)
    deadline = time.monotonic() + 8
    while not (home / "vici").exists():
        lab.alive()
        if time.monotonic() > deadline:
            raise TimeoutError("charon does not start")
        time.sleep(0.1)
    _swanctl(lab, namespace, "--load-all")
    return environment


def _swanctl(lab: Lab, namespace: str, *words: str, check: bool = True, timeout: float = 20) -> str:
    home = lab.folder / namespace
    environment = [f"STRONGSWAN_CONF={home}/strongswan.conf", f"SWANCTL_DIR={home}"]
    uri = f"unix://{home}/vici"
    return lab.run(namespace, "env", *environment, "swanctl", *words, "--uri", uri, check=check, timeout=timeout)


_COMPLIANT_IKE = "aes128-sha256-ecp256,aes128-sha384-ecp384,aes256-sha512-ecp521"
_COMPLIANT_ESP = "aes128gcm128,aes256gcm128"


def ipsec_server(lab: Lab, ike: str = _COMPLIANT_IKE, esp: str = _COMPLIANT_ESP, version: int = 2) -> None:
    """TPE's strongSwan. ESP is always inside UDP/4500: the machine has no ESP in its kernel (kernel-libipsec)."""
    lab.run(CORE, "ip", "address", "add", f"{INNER_TPE}/32", "dev", "lo")
    connection = f"""\
connections {{
  stations {{
    version = {version}
    local_addrs = {TPE[0]}
    proposals = {ike}
    pools = stations
    local {{
      auth = pubkey
      certs = tpe.crt
      id = {certificates.NAMES[0]}
    }}
    remote {{
      auth = pubkey
      id = {certificates.STATION}
    }}
    children {{
      lrc {{
        local_ts = {INNER_TPE}/32
        esp_proposals = {esp}
      }}
    }}
  }}
}}
pools {{
  stations {{
    addrs = {INNER_STATIONS}
  }}
}}
"""
    _charon(lab, CORE, "tpe", connection)


# -- what the base station does -----------------------------------------------------------------------------------


def dhcp(lab: Lab) -> None:
    words = ["busybox", "udhcpc", "-n", "-q", "-f", "-B", "-i", "eth0", "-s", "/bin/true"]
    lab.run(BASE_STATION, *words)


def resolve(lab: Lab, name: str = "lrc1.lab.example") -> None:
    lab.run(BASE_STATION, "getent", "ahosts", name)


def ntp(lab: Lab, server: str = NTP) -> None:
    """Ask for the time once and only print the offset (-Q): the machine's clock stays as it is."""
    text = (
        f"server {server} iburst maxsamples 1\ncmdport 0\nbindcmdaddress /\npidfile {lab.folder}/chronyd-client.pid\n"
    )
    configuration = _write(lab, "chronyd-client.conf", text)
    lab.run(BASE_STATION, "chronyd", "-x", "-Q", "-u", "root", "-t", "5", "-f", configuration, check=False)


def ping(lab: Lab, to: str = TPE[0], count: int = 2) -> None:
    lab.run(BASE_STATION, "ping", "-n", "-c", str(count), "-i", "0.5", "-W", "1", to, check=False)


def _sftp(lab: Lab, host: str, port: int, batch: str) -> None:
    options = [*_SSH_OPTIONS.split(), "-i", str(lab.folder / "login")]
    lab.run(BASE_STATION, "sftp", *options, "-P", str(port), "-b", "-", f"root@{host}", stdin=batch)


def _sftp_batch(lab: Lab, verb: str) -> str:
    return {
        "get": f"get {lab.folder}/served/lrr-2.8.41.ipk {lab.folder}/got.ipk\n",
        "put": f"put {lab.folder}/rfscan_0.csv.gz {lab.folder}/served/upload/rfscan_0.csv.gz\n",
    }[verb]


def key_installer(lab: Lab, to: str = TPE[0]) -> None:
    _sftp(lab, to, 22, f"get {lab.folder}/served/key.tar {lab.folder}/key.tar\n")


def sftp(lab: Lab, port: int, verb: str, to: str = TPE[0]) -> None:
    """SFTP straight, without the TLS that belongs around it."""
    _sftp(lab, to, port, _sftp_batch(lab, verb))


def reverse_ssh(lab: Lab, to: str = TPE[0]) -> None:
    """The remote administration tunnel, until the end."""
    words = [*_SSH_OPTIONS.split(), "-i", str(lab.folder / "login"), "-N", "-R", "2009:127.0.0.1:22", f"root@{to}"]
    lab.start(BASE_STATION, "ssh", *words)
    time.sleep(1)


def _stunnel(lab: Lab, port: int, local: int, host: str, version: str, careless: bool) -> None:
    text = f"""\
foreground = yes
pid =
[station]
client = yes
accept = 127.0.0.1:{local}
connect = {host}:{port}
cert = {lab.folder}/station.pem
"""
    if not careless:
        text += f"verifyChain = yes\nCAfile = {lab.folder}/ca.crt\ncheckHost = {host}\n"
    if version:
        text += f"sslVersion = {version}\n"
    if version in ("TLSv1", "TLSv1.1"):
        text += "securityLevel = 0\nciphers = ALL@SECLEVEL=0\n"
    lab.start(BASE_STATION, "stunnel", _write(lab, f"station-{local}.conf", text))
    lab.wait_for(BASE_STATION, local)


def tls_link(
    lab: Lab,
    port: int = 3001,
    host: str = "lrc1.lab.example",
    version: str = "",
    careless: bool = False,
    local: int = 12404,
) -> None:
    """The IEC 104 link through stunnel, until the end."""
    _stunnel(lab, port, local, host, version, careless)
    lab.start(BASE_STATION, *_script("lrr.py"), "station", "127.0.0.1", str(local))


def tls_sftp(
    lab: Lab, port: int, verb: str, host: str = "lrc1.lab.example", version: str = "", careless: bool = False
) -> None:
    """SFTP through stunnel: ``get`` or ``put``."""
    local = port - 981
    _stunnel(lab, port, local, host, version, careless)
    _sftp(lab, "127.0.0.1", local, _sftp_batch(lab, verb))


def tls_check(lab: Lab, port: int, host: str = "tpe.lab.example") -> None:
    """Look at the server's certificate and hang up, as the LRR does in mode ipsec."""
    verify = ["-CAfile", str(lab.folder / "ca.crt"), "-verify_return_error", "-verify_hostname", host]
    words = ["openssl", "s_client", "-connect", f"{host}:{port}", "-servername", host, *verify]
    lab.run(BASE_STATION, *words, timeout=5, check=False, stdin="Q\n")


def link(lab: Lab, port: int = 2404, to: str = TPE[0]) -> None:
    """The IEC 104 link in the LRR's dialect without anything around it, until the end."""
    lab.start(BASE_STATION, *_script("lrr.py"), "station", to, str(port))


def iec104_standard(lab: Lab, port: int = 2404, to: str = TPE[0]) -> None:
    """An IEC 60870-5-104 link by the book, until the end."""
    lab.start(BASE_STATION, *_script("iec104.py"), "station", to, str(port))


def ftp(lab: Lab, verb: str, to: str = TPE[0]) -> None:
    """curl, passive, anonymous: ``get`` or ``put``. A refused login is not the lab's failure."""
    login = ["--user", "ftp:lrr@lab", "--disable-eprt", "-sS", "--max-time", "8"]
    if verb == "get":
        words = ["-o", str(lab.folder / "got.ipk"), f"ftp://{to}/lrr-2.8.41.ipk"]
    else:
        words = ["-T", str(lab.folder / "rfscan_0.csv.gz"), f"ftp://{to}/upload/rfscan_0.csv.gz"]
    lab.run(BASE_STATION, "curl", *login, *words, check=False)


def basics(
    lab: Lab, service: str, host: str, port: int, clear: bool = False, careless: bool = False, uplinks: int = 5
) -> None:
    """One turn of the Basics Station: ``cups`` or ``lns``."""
    words = [*_script("basics.py"), "station", service, host, str(port), "--uplinks", str(uplinks)]
    words += ["--certificate", str(lab.folder / "station.pem"), "--authority", str(lab.folder / "ca.crt")]
    lab.run(BASE_STATION, *words, *["--clear"] * clear, *["--careless"] * careless, timeout=60)


def tunnel(
    lab: Lab, ike: str = _COMPLIANT_IKE, esp: str = _COMPLIANT_ESP, version: int = 2, seconds: float = 20
) -> None:
    """The base station's strongSwan brings the tunnel up, if it can within that time."""
    connection = f"""\
connections {{
  tpe {{
    version = {version}
    local_addrs = {STATION}
    remote_addrs = {TPE[0]}
    vips = 0.0.0.0
    proposals = {ike}
    local {{
      auth = pubkey
      certs = station.crt
      id = {certificates.STATION}
    }}
    remote {{
      auth = pubkey
      id = {certificates.NAMES[0]}
    }}
    children {{
      lrc {{
        remote_ts = {INNER_TPE}/32
        esp_proposals = {esp}
      }}
    }}
  }}
}}
"""
    _charon(lab, BASE_STATION, "station", connection)
    said = _swanctl(lab, BASE_STATION, "--initiate", "--child", "lrc", check=False, timeout=seconds)
    (lab.folder / "initiate.log").write_text(said)


def http(lab: Lab, port: int = 80, to: str = STRANGER) -> None:
    lab.run(BASE_STATION, "curl", "-sS", "--max-time", "5", f"http://{to}:{port}/", check=False)


def wait(lab: Lab, seconds: float) -> None:
    """Let what runs in the background run."""
    time.sleep(seconds)
    lab.alive()


Service = Callable[..., None]

SERVERS: Mapping[str, Service] = {
    "basics": basics_server,
    "dhcp": dhcp_server,
    "dns": dns,
    "ftp": ftpd,
    "iec104-standard": iec104_standard_server,
    "ipsec": ipsec_server,
    "lrc": lrc,
    "ntp": ntp_server,
    "ssh": sshd,
    "tls": tls,
    "web": web,
}
STATION_STEPS: Mapping[str, Service] = {
    "basics": basics,
    "dhcp": dhcp,
    "ftp": ftp,
    "http": http,
    "iec104-standard": iec104_standard,
    "key-installer": key_installer,
    "link": link,
    "ntp": ntp,
    "ping": ping,
    "resolve": resolve,
    "reverse-ssh": reverse_ssh,
    "sftp": sftp,
    "tls-check": tls_check,
    "tls-link": tls_link,
    "tls-sftp": tls_sftp,
    "tunnel": tunnel,
    "wait": wait,
}
