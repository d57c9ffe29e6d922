"""The vendor's tables of expected flows: rules/<profile>/<mode>.toml → ExpectedTable, ExpectedFlow."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Deployment(enum.Enum):
    """Which of the vendor's two requirement columns counts."""

    STANDALONE = "standalone"
    HA = "ha"


class Requirement(enum.Enum):
    MUST = "MUST"
    OPTIONAL = "OPTIONAL"


class Occurrence(enum.Enum):
    """When a compliant base station uses the row."""

    CONTINUOUS = "continuous"
    """Some packet at least every ``period`` seconds, as long as it runs."""
    PERIODIC = "periodic"
    """One conversation about every ``period`` seconds."""
    STARTUP = "start-up"
    ON_DEMAND = "on-demand"


class Peer(enum.Enum):
    """Who stands at the other end of a row."""

    TPE = "tpe"
    NTP = "ntp"
    DNS = "dns"
    DHCP = "dhcp"


@dataclass(frozen=True, slots=True)
class Party:
    """One end of a row in the vendor's words."""

    system: str
    application: str


@dataclass(frozen=True, slots=True)
class ExpectedFlow:
    """One row of a vendor table, with what the machine needs beside it."""

    id: str
    """The vendor's row id: ``i38``."""
    mode: str
    """The table it stands in: ``ipsec``, ``tls``, ``plain``, ``basics``."""
    standalone: Requirement
    ha: Requirement
    source: Party
    """The vendor's From columns."""
    destination: Party
    """The vendor's To columns."""
    bidirectional: bool
    """The vendor's Type column. A unidirectional row is opened by the base station only."""
    service: str
    """The vendor's Protocol column, shortened to the protocol's names: "IEC 104 over TLS"."""
    description: str
    """What the row is for, in our words."""
    peer: Peer
    transport: str
    """``tcp``, ``udp``, ``icmp`` (either version) or ``esp``."""
    ports: tuple[int, ...]
    """Ports of the responder; empty where the transport has none."""
    protocol: str
    """Name of the protocol (``analyzer.protocols``) that its content must be."""
    occurrence: Occurrence
    period: float | None
    """Seconds; set for continuous and periodic rows."""
    tunnelled: bool
    """In mode ipsec an established tunnel may carry the row inside, where nobody sees it."""
    signature: bool
    """A base station that originates it shows by it that it lives by this table."""
    since: str | None = None
    """First LRR version that uses the row ("2.8"); ``None``: all."""
    decided_by: str | None = None
    """How rows that share their port are told apart: ``ssh-session``, ``ftp-retrieve``, ``ftp-store``, ``peer``."""
    ike_proposals: tuple[str, ...] = ()
    """Allowed IKE proposals in strongSwan's notation: ``aes128-sha256-ecp256``."""
    esp_proposals: tuple[str, ...] = ()
    """Allowed ESP proposals in strongSwan's notation: ``aes128gcm128``."""
    tls_floor: str | None = None
    """Lowest TLS version that the row allows: ``TLS 1.2``."""
    origins: tuple[tuple[str, str], ...] = field(default=())
    """(field, source) for every value that the vendor's page does not state: where it is from."""

    def requirement(self, deployment: Deployment) -> Requirement:
        return self.standalone if deployment is Deployment.STANDALONE else self.ha


@dataclass(frozen=True, slots=True)
class ExpectedTable:
    """All rows of one connectivity mode, in the vendor's order."""

    mode: str
    title: str
    flows: tuple[ExpectedFlow, ...]

    def flow(self, row: str) -> ExpectedFlow:
        """The row with an id; ``KeyError`` if the table has none."""
        for each in self.flows:
            if each.id == row:
                return each
        raise KeyError(row)
