"""strongSwan on both sides, and what else speaks IKE in the lab.

A kernel without ESP leaves kernel-libipsec, which Debian 12 has only for ESP inside UDP/4500. ``raw_esp`` takes the
charon of Debian 13 instead, whose kernel-libipsec also speaks ESP as IP protocol 50.
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


def _charon(lab: Lab, namespace: str, certificate: str, connection: str, careless: bool, raw_esp: bool) -> None:
    """A charon with its own configuration. ``careless``: it accepts aggressive mode with a pre-shared key."""
    home = lab.folder / namespace
    for folder, file in (("x509", f"{certificate}.crt"), ("private", f"{certificate}.key"), ("x509ca", "ca.crt")):
        (home / folder).mkdir(parents=True)
        shutil.copy(lab.folder / file, home / folder)
    (home / "swanctl.conf").write_text(connection + "secrets {\n  ike {\n    secret = lab\n  }\n}\n")
    (home / "strongswan.conf").write_text(f"""\
charon {{
  load = {_PLUGINS}
  i_dont_care_about_security_and_use_aggressive_mode_psk = {"yes" if careless else "no"}
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
        # Its mounts are its own: it alone sees Debian 13 there.
        charon = ["sh", "-c", 'mount --bind "$0" /usr && exec "$1"', f"{DEBIAN_13}/usr", *charon]
    lab.start(namespace, *charon, environment=environment)
    deadline = time.monotonic() + 8
    while not (home / "vici").exists():
        lab.alive()
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
    """One side's authentication: by certificate, or by the pre-shared key that the lab has."""
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
    careless: bool = False,
    address: str = TPE[0],
    raw_esp: bool = False,
    dpd: int = 0,
) -> None:
    """TPE's strongSwan. ``dpd``: seconds of silence after which it asks whether the base station is alive."""
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
    _charon(lab, CORE, "tpe", connection, careless, raw_esp)


def tunnel(
    lab: Lab,
    ike: str = COMPLIANT_IKE,
    esp: str = COMPLIANT_ESP,
    version: int = 2,
    aggressive: bool = False,
    shared_key: bool = False,
    careless: bool = True,
    seconds: float = 20,
    to: str = TPE[0],
    up: bool = True,
    mobike: bool = True,
    raw_esp: bool = False,
) -> None:
    """The base station's strongSwan brings the tunnel up within that time. ``up``: whether it must succeed."""
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
    _charon(lab, BASE_STATION, "station", connection, careless, raw_esp)
    said = _swanctl(lab, BASE_STATION, "--initiate", "--child", "lrc", check=False, timeout=seconds)
    if up != ("initiate completed successfully" in said):
        raise RuntimeError(f"the tunnel is {'not ' if up else ''}up:\n{said[-2000:]}")


def peer_gone(lab: Lab) -> None:
    """TPE's strongSwan is there no longer, from one moment to the next, and does not say goodbye."""
    lab.kill(CORE, "charon")


def rekey(lab: Lab, what: str, at: str = "base-station") -> None:
    """Replace keys. ``what``: swanctl's words; ``at``: who begins, ``base-station`` or ``tpe``."""
    _swanctl(lab, CORE if at == "tpe" else BASE_STATION, "--rekey", *what.split())


def move(lab: Lab, to: str = "10.20.30.77") -> None:
    """The base station gets another address, and MOBIKE takes the tunnel along."""
    lab.run(BASE_STATION, "ip", "address", "add", f"{to}/24", "dev", "eth0")
    lab.run(BASE_STATION, "sysctl", "-qw", "net.ipv4.conf.eth0.promote_secondaries=1")
    lab.run(BASE_STATION, "ip", "address", "del", f"{STATION}/24", "dev", "eth0")
    lab.run(BASE_STATION, "ip", "route", "replace", "default", "via", "10.20.30.1", "src", to)
