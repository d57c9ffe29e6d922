"""TLS around other services: TPE's side and the base station's, by stunnel, OpenSSL, GnuTLS and by hand."""

from __future__ import annotations

import shlex

import certificates
from network import BASE_STATION, CORE, TPE, Lab, script


def _version_options(version: str, ciphers: str) -> str:
    """Lines of stunnel's configuration for one TLS version only (``TLSv1``) and for OpenSSL's cipher names."""
    text = f"sslVersion = {version}\n" if version else ""
    if version in ("TLSv1", "TLSv1.1") or ciphers:
        text += f"securityLevel = 0\nciphers = {ciphers or 'ALL'}:@SECLEVEL=0\n"
    return text


# -- servers ----------------------------------------------------------------------------------------------------


def server(
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
    """stunnel at TPE, in front of a port of the loopback.

    ``dh_bits``: size of the Diffie-Hellman group; ``shared_key``: authenticate by a pre-shared key, not a certificate.
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
        text += f"cert = {lab.write(f'tls-{name}.pem', pem)}\n"
    if mutual and not shared_key:
        text += f"verifyChain = yes\nCAfile = {lab.folder}/ca.crt\n"
    if certificate in ("rsa-1024", "sha1"):
        ciphers = ciphers or "ALL"
    lab.start(CORE, "stunnel", lab.write(f"tls-{name}.conf", text + _version_options(version, ciphers)))
    lab.wait_for(CORE, port)


def compressing_server(lab: Lab, port: int, to: int) -> None:
    """TLS with compression at TPE, in front of a port of the loopback."""
    files = [str(lab.folder / name) for name in ("tpe.crt", "tpe.key")]
    lab.start(CORE, *script("compressing.py", "server", str(port), str(to), *files))
    lab.wait_for(CORE, port)


def gnutls_server(lab: Lab, port: int, priority: str) -> None:
    """GnuTLS's echo server, for algorithms that OpenSSL has dropped. ``priority``: a GnuTLS priority string."""
    certificate = ["--x509certfile", str(lab.folder / "tpe.crt"), "--x509keyfile", str(lab.folder / "tpe.key")]
    lab.start(CORE, "gnutls-serv", "--echo", "-p", str(port), "--priority", priority, *certificate)
    lab.wait_for(CORE, port)


# -- steps ------------------------------------------------------------------------------------------------------


def _is_address(host: str) -> bool:
    return host.replace(".", "").isdigit()


def stunnel_client(
    lab: Lab,
    port: int,
    local: int,
    host: str,
    version: str = "",
    insecure: bool = False,
    ciphers: str = "",
    server_name: str = "",
    shared_key: bool = False,
) -> None:
    """stunnel at the base station, from a port of its loopback. ``insecure``: accept any certificate."""
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
    if not insecure and not shared_key:
        check = "checkIP" if _is_address(host) else "checkHost"
        text += f"verifyChain = yes\nCAfile = {lab.folder}/ca.crt\n{check} = {host}\n"
    options = _version_options(version, ciphers)
    lab.start(BASE_STATION, "stunnel", lab.write(f"station-{local}.conf", text + options))
    lab.wait_for(BASE_STATION, local)


def openssl_client(lab: Lab, port: int, local: int, host: str) -> None:
    """OpenSSL's client behind socat, from a port of the loopback: stunnel cannot log the keys of its sessions."""
    words = [*_s_client(lab, port, host), "-quiet", "-cert", str(lab.folder / "station.pem")]
    command = lab.write(f"station-{local}.sh", f"exec {shlex.join(words)}\n")
    lab.start(BASE_STATION, "socat", f"TCP-LISTEN:{local},bind=127.0.0.1,fork", f"EXEC:sh {command}")
    lab.wait_for(BASE_STATION, local)


def link(
    lab: Lab,
    port: int = 3001,
    host: str = "lrc1.lab.example",
    version: str = "",
    insecure: bool = False,
    local: int = 12404,
    ciphers: str = "",
    server_name: str = "",
    shared_key: bool = False,
    keys: bool = False,
) -> None:
    """The IEC 104 link through TLS, until the end of the recording. ``keys``: use a client that logs its keys."""
    if keys:
        openssl_client(lab, port, local, host)
    else:
        stunnel_client(lab, port, local, host, version, insecure, ciphers, server_name, shared_key)
    lab.start(BASE_STATION, *script("lrr.py", "station", "127.0.0.1", str(local)))


def compressing_link(lab: Lab, port: int = 3001, host: str = "lrc1.lab.example", local: int = 12404) -> None:
    """The IEC 104 link through TLS with compression, until the end of the recording."""
    lab.start(BASE_STATION, *script("compressing.py", "station", str(local), host, str(port)))
    lab.wait_for(BASE_STATION, local)
    lab.start(BASE_STATION, *script("lrr.py", "station", "127.0.0.1", str(local)))


def _s_client(lab: Lab, port: int, host: str) -> list[str]:
    """The words of an OpenSSL client that verifies the certificate.

    It sends no server name for an address: RFC 6066, section 3, allows host names only.
    """
    named = ["-servername", host, "-verify_hostname", host]
    if _is_address(host):
        named = ["-noservername", "-verify_ip", host]
    verify = ["-CAfile", str(lab.folder / "ca.crt"), "-verify_return_error", *named]
    return ["openssl", "s_client", "-connect", f"{host}:{port}", "-keylogfile", str(lab.keys), *verify]


def check(lab: Lab, port: int, host: str = "tpe.lab.example", options: str = "", seconds: float = 5) -> None:
    """Complete a handshake and close, as the LRR does in mode ipsec. ``options``: for s_client."""
    words = [*_s_client(lab, port, host), *options.split()]
    lab.run(BASE_STATION, *words, timeout=seconds, check=False, stdin="Q\n")


def hello(lab: Lab, port: int, host: str = "tpe.lab.example") -> None:
    """Send a ClientHello and close when the server has answered."""
    lab.run(BASE_STATION, *script("imitations.py", "hello", host, str(port)))


def resume(lab: Lab, port: int, host: str = "tpe.lab.example") -> None:
    """Two TLS 1.2 sessions; the second resumes the first."""
    session = str(lab.folder / "session")
    check(lab, port, host, f"-tls1_2 -sess_out {session}")
    check(lab, port, host, f"-tls1_2 -sess_in {session}")


def gnutls_client(lab: Lab, port: int, priority: str, to: str = TPE[0]) -> None:
    """Send a line to GnuTLS's echo server. ``priority``: a GnuTLS priority string."""
    words = ["gnutls-cli", "--insecure", "--priority", priority, "-p", str(port), to]
    lab.run(BASE_STATION, "sh", "-c", f"(sleep 1; echo hello; sleep 1) | {' '.join(words)}", check=False)
