"""strongSwan on both sides.

The lab does not need a kernel with ESP: strongSwan's kernel-libipsec makes it. In Debian 12 it supports ESP inside
UDP/4500 only. ``raw_esp`` selects the charon of Debian 13, which also supports ESP as IP protocol 50.
"""

from __future__ import annotations

import shutil
import time

import certificates
from network import BASE_STATION, CORE, DEBIAN_13, STATION, TPE, Lab

INNER_TPE, INNER_STATIONS = "10.251.0.1", "10.250.0.0/24"
COMPLIANT_IKE = "aes128-sha256-ecp256,aes128-sha384-ecp384,aes256-sha512-ecp521"
COMPLIANT_ESP = "aes128gcm128,aes256gcm128"
_PLUGINS = """random nonce openssl aes sha1 sha2 md5 hmac kdf gcm x509 pem pkcs1 pkcs8 pubkey constraints vici \
kernel-libipsec kernel-netlink socket-default"""


def _charon(lab: Lab, namespace: str, certificate: str, connection: str, insecure: bool, raw_esp: bool) -> None:
    """Start a charon. ``insecure``: allow aggressive mode with a pre-shared key."""
    home = lab.folder / namespace
    for folder, file in (("x509", f"{certificate}.crt"), ("private", f"{certificate}.key"), ("x509ca", "ca.crt")):
        (home / folder).mkdir(parents=True)
        shutil.copy(lab.folder / file, home / folder)
    (home / "swanctl.conf").write_text(connection + "secrets {\n  ike {\n    secret = lab\n  }\n}\n")
    (home / "strongswan.conf").write_text(f"""\
charon {{
  load = {_PLUGINS}
  i_dont_care_about_security_and_use_aggressive_mode_psk = {"yes" if insecure else "no"}
  plugins {{
    vici {{
      socket = unix://{home}/vici
    }}
    kernel-libipsec {{
      raw_esp = {"yes" if raw_esp else "no"}
    }}
  }}
  filelog {{
    secrets {{
      path = {home}/{"initiator" if namespace == BASE_STATION else "responder"}.log
      flush_line = yes
      mgr = 2
      ike = 4
      chd = 4
    }}
  }}
}}
""")
    environment = {"STRONGSWAN_CONF": str(home / "strongswan.conf"), "SWANCTL_DIR": str(home)}
    charon = ["/usr/lib/ipsec/charon"]
    if raw_esp:
        # The process has its own mount namespace: only it sees Debian 13 in /usr.
        charon = ["sh", "-c", 'mount --bind "$0" /usr && exec "$1"', f"{DEBIAN_13}/usr", *charon]
    lab.start(namespace, *charon, environment=environment)
    deadline = time.monotonic() + 8
    while not (home / "vici").exists():
        lab.check_processes()
        if time.monotonic() > deadline:
            raise TimeoutError("charon does not start")
        time.sleep(0.1)
    _swanctl(lab, namespace, "--load-all")


def _swanctl(lab: Lab, namespace: str, *words: str, check: bool = True, timeout: float = 20) -> str:
    home = lab.folder / namespace
    environment = [f"STRONGSWAN_CONF={home}/strongswan.conf", f"SWANCTL_DIR={home}"]
    uri = f"unix://{home}/vici"
    return lab.run(namespace, "env", *environment, "swanctl", *words, "--uri", uri, check=check, timeout=timeout)


def _end(side: str, identity: str, certificate: str, shared_key: bool) -> str:
    """The authentication of one side: by certificate or by the lab's pre-shared key."""
    how = "auth = psk" if shared_key else "auth = pubkey" + (f"\n      certs = {certificate}" if certificate else "")
    return f"""\
    {side} {{
      {how}
      id = {identity}
    }}
"""


def server(
    lab: Lab,
    ike: str = COMPLIANT_IKE,
    esp: str = COMPLIANT_ESP,
    version: int = 2,
    aggressive: bool = False,
    shared_key: bool = False,
    insecure: bool = False,
    address: str = TPE[0],
    raw_esp: bool = False,
    dpd: int = 0,
) -> None:
    """TPE's strongSwan. ``dpd``: seconds without traffic before it checks whether the base station is alive."""
    lab.run(CORE, "ip", "address", "add", f"{INNER_TPE}/32", "dev", "lo")
    connection = f"""\
connections {{
  stations {{
    version = {version}
    aggressive = {"yes" if aggressive else "no"}
    local_addrs = {address}
    dpd_delay = {dpd}s
    proposals = {ike}
    pools = stations
{_end("local", certificates.NAMES[0], "tpe.crt", shared_key)}\
{_end("remote", certificates.STATION, "", shared_key)}\
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
    _charon(lab, CORE, "tpe", connection, insecure, raw_esp)


def tunnel(
    lab: Lab,
    ike: str = COMPLIANT_IKE,
    esp: str = COMPLIANT_ESP,
    version: int = 2,
    aggressive: bool = False,
    shared_key: bool = False,
    insecure: bool = True,
    seconds: float = 20,
    to: str = TPE[0],
    up: bool = True,
    mobike: bool = True,
    raw_esp: bool = False,
) -> None:
    """The base station's strongSwan sets up the tunnel within ``seconds``. ``up``: whether it must succeed."""
    connection = f"""\
connections {{
  tpe {{
    version = {version}
    aggressive = {"yes" if aggressive else "no"}
    mobike = {"yes" if mobike else "no"}
    local_addrs = %any
    remote_addrs = {to}
    vips = 0.0.0.0
    dpd_delay = 5s
    proposals = {ike}
{_end("local", certificates.STATION, "station.crt", shared_key)}\
{_end("remote", certificates.NAMES[0], "", shared_key)}\
    children {{
      lrc {{
        remote_ts = {INNER_TPE}/32
        esp_proposals = {esp}
      }}
    }}
  }}
}}
"""
    _charon(lab, BASE_STATION, "station", connection, insecure, raw_esp)
    output = _swanctl(lab, BASE_STATION, "--initiate", "--child", "lrc", check=False, timeout=seconds)
    if up != ("initiate completed successfully" in output):
        raise RuntimeError(f"the tunnel is {'not ' if up else ''}up:\n{output[-2000:]}")


def peer_gone(lab: Lab) -> None:
    """Kill TPE's strongSwan, so that it sends no DELETE."""
    lab.kill(CORE, "charon")


def rekey(lab: Lab, what: str, at: str = "base-station") -> None:
    """Rekey. ``what``: arguments of swanctl; ``at``: the initiator, ``base-station`` or ``tpe``."""
    _swanctl(lab, CORE if at == "tpe" else BASE_STATION, "--rekey", *what.split())


def move(lab: Lab, to: str = "10.20.30.77") -> None:
    """The base station changes its address; MOBIKE keeps the tunnel."""
    lab.run(BASE_STATION, "ip", "address", "add", f"{to}/24", "dev", "eth0")
    lab.run(BASE_STATION, "sysctl", "-qw", "net.ipv4.conf.eth0.promote_secondaries=1")
    lab.run(BASE_STATION, "ip", "address", "del", f"{STATION}/24", "dev", "eth0")
    lab.run(BASE_STATION, "ip", "route", "replace", "default", "via", "10.20.30.1", "src", to)
