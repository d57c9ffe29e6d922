"""SFTP by an SSH client without strict key exchange: ``old_ssh.py HOST KEY FILE TO``.

The paramiko of Debian 12 is such a client. It also negotiates CBC with encrypt-then-MAC.
"""

from __future__ import annotations

import sys

import paramiko


def fetch(host: str, key: str, file: str, to: str) -> None:
    transport = paramiko.Transport((host, 22))
    options = transport.get_security_options()
    options.ciphers = ("aes128-cbc",)
    options.digests = ("hmac-sha2-256-etm@openssh.com",)
    transport.connect(username="root", pkey=paramiko.Ed25519Key.from_private_key_file(key))
    client = paramiko.SFTPClient.from_transport(transport)
    assert client
    client.get(file, to)
    transport.close()


if __name__ == "__main__":
    fetch(*sys.argv[1:])
