"""The vendor's tables of expected flows: rules/<profile>/<mode>.toml → ExpectedTable, ExpectedFlow.

Each file holds one table: its ``title``, and one ``[[flow]]`` per row with the fields of :class:`ExpectedFlow` as
keys. Optional keys are those whose field has a default, ``period``, ``tunnelled`` and ``signature``.
``[flow.origins]`` names the source of every value that is not on the vendor's page.
"""

from __future__ import annotations

import dataclasses
import enum
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from analyzer.dataclass import dataclass
from analyzer.protocols import PROTOCOLS

MODES = ("ipsec", "tls", "plain", "basics")
"""The vendor's tables, in the order of the vendor's page."""

DEFAULT_PROFILE = "tpe-self-hosted"


class Deployment(enum.Enum):
    """Selects one of the vendor's two requirement columns."""

    STANDALONE = "standalone"
    HA = "ha"


class Requirement(enum.Enum):
    MUST = "MUST"
    OPTIONAL = "OPTIONAL"


class Occurrence(enum.Enum):
    """When a compliant base station uses the row."""

    CONTINUOUS = "continuous"
    """At least one packet every ``period`` seconds, as long as the base station runs."""
    PERIODIC = "periodic"
    """One conversation about every ``period`` seconds."""
    STARTUP = "start-up"
    ON_DEMAND = "on-demand"


class Peer(enum.Enum):
    """The system at the other end of a row."""

    TPE = "tpe"
    NTP = "ntp"
    DNS = "dns"
    DHCP = "dhcp"


@dataclass(frozen=True, slots=True)
class Party:
    """One end of a row, in the vendor's words."""

    system: str
    application: str


@dataclass(frozen=True, slots=True)
class ExpectedFlow:
    """One row of a vendor table, and the values that matching needs in addition."""

    id: str
    """The vendor's row id: ``i38``."""
    mode: str
    """The row's table: ``ipsec``, ``tls``, ``plain`` or ``basics``."""
    standalone: Requirement
    ha: Requirement
    source: Party
    """The vendor's From columns."""
    destination: Party
    """The vendor's To columns."""
    bidirectional: bool
    """The vendor's Type column. Only the base station opens the flows of a unidirectional row."""
    service: str
    """The vendor's Protocol column, reduced to names of protocols: "IEC 104 over TLS"."""
    description: str
    """The purpose of the row, in this project's words."""
    peer: Peer
    transport: str
    """``tcp``, ``udp``, ``icmp`` (either version) or ``esp``."""
    ports: tuple[int, ...]
    """Ports of the responder; empty if the transport has none."""
    protocol: str
    """Name of the protocol (:mod:`analyzer.protocols`) that the content must be."""
    occurrence: Occurrence
    period: float | None
    """Seconds. Set for continuous and periodic rows only."""
    tunnelled: bool
    """Mode ipsec: an established tunnel may carry the row inside, invisible to the capture."""
    signature: bool
    """A flow of this row identifies its originator as a base station in the row's mode."""
    since: str | None = None
    """First LRR version that uses the row ("2.8"); ``None``: all versions do."""
    decided_by: str | None = None
    """Property that distinguishes rows with the same port: the kind of session (``ssh-key-installer``,
    ``ssh-reverse``, ``ftp-retrieve``, ``ftp-store``) or the other end (``peer``)."""
    ike_proposals: tuple[str, ...] = ()
    """Allowed IKE proposals in strongSwan's notation: ``aes128-sha256-ecp256``."""
    esp_proposals: tuple[str, ...] = ()
    """Allowed ESP proposals in strongSwan's notation: ``aes128gcm128``."""
    tls_floor: str | None = None
    """Lowest TLS version that the row allows: ``TLS 1.2``."""
    origins: tuple[tuple[str, str], ...] = field(default=())
    """(field, source) of every value that the vendor's page does not state."""

    def requirement(self, deployment: Deployment) -> Requirement:
        """The requirement in a deployment."""
        return self.standalone if deployment is Deployment.STANDALONE else self.ha


@dataclass(frozen=True, slots=True)
class ExpectedTable:
    """All rows of one connectivity mode, in the vendor's order."""

    mode: str
    title: str
    flows: tuple[ExpectedFlow, ...]

    def flow(self, row: str) -> ExpectedFlow:
        """The row with an id; ``KeyError`` if the table has none."""
        for flow in self.flows:
            if flow.id == row:
                return flow
        raise KeyError(row)


def services(tables: Mapping[str, ExpectedTable]) -> dict[tuple[str, int], str]:
    """Transport and port of every row of every table → the row's protocol."""
    rows = (row for table in tables.values() for row in table.flows)
    return {(row.transport, port): row.protocol for row in rows for port in row.ports}


class UsageError(ValueError):
    """Invalid input from the user. The message is one line."""


class RuleError(UsageError):
    """Unusable profile. The message is one line that names the file and the row."""


def parse_version(text: str) -> tuple[int, ...]:
    """``"2.8.10"`` → (2, 8, 10). Raises :class:`UsageError` for anything else."""
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})*", text, re.ASCII):
        raise UsageError(f"{text!r} is no version: write it like 2.8 or 2.8.10")
    return tuple(int(part) for part in text.split("."))


def profiles() -> tuple[str, ...]:
    """Names of the bundled profiles, sorted."""
    return tuple(sorted(folder.name for folder in rules_folder().iterdir() if any(folder.glob("*.toml"))))


def load(profile: str = DEFAULT_PROFILE) -> dict[str, ExpectedTable]:
    """Load the tables of a profile by mode, in the order of :data:`MODES`.

    ``profile`` is one of :func:`profiles`, or the path of a folder with a file ``<mode>.toml`` for at least one mode.
    Raises :class:`RuleError` if there is no such profile, or if one of its files does not hold a table.

    The files are read in every call; a table is parsed again only after its file has changed.
    """
    if profile in profiles():
        folder, shown = rules_folder() / profile, f"rules/{profile}"
    else:
        folder, shown = Path(profile), profile.rstrip("/") or "/"
        if not folder.is_dir():
            raise RuleError(f"profile {profile!r}: neither one of {', '.join(profiles())} nor a folder")
    files = {path.stem: path for path in sorted(folder.glob("*.toml"))}
    if not files:
        raise RuleError(f"{shown}: no .toml file in it")
    for mode in files:
        if mode not in MODES:
            raise RuleError(f"{shown}/{mode}.toml: no mode of this name; the modes are {', '.join(MODES)}")
    return {mode: read_table(files[mode], mode, f"{shown}/{mode}.toml") for mode in MODES if mode in files}


def rules_folder() -> Path:
    """The folder of the bundled profiles: inside the package if installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "rules"
    return inside if inside.is_dir() else package.parent / "rules"


def read_table(path: Path, mode: str, shown: str) -> ExpectedTable:
    """Read the table in a file. ``shown`` is the file's name in errors."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RuleError(f"{shown}: {error.strerror}") from error
    return parse_table(content, mode, shown)


@lru_cache(maxsize=64)
def parse_table(file: bytes, mode: str, shown: str) -> ExpectedTable:
    """Parse the content of a file. Cached by content: parsing takes half of the time of a small audit."""
    try:
        content = tomllib.loads(file.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RuleError(f"{shown}: not UTF-8 at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise RuleError(f"{shown}: not TOML: {' '.join(str(error).split())}") from error
    table = Row(content, shown)
    title = table.text("title")
    flows: list[ExpectedFlow] = []
    for number, values in enumerate(table.tables("flow"), 1):
        name = values.get("id")
        row = Row(values, f"{shown}: row {name if isinstance(name, str) and name.isprintable() else number}")
        flows.append(read_flow(row, mode))
        if any(flow.id == flows[-1].id for flow in flows[:-1]):
            row.fail("the id stands in the table twice")
    table.finish()
    return ExpectedTable(mode, title, tuple(flows))


def read_flow(row: Row, mode: str) -> ExpectedFlow:
    """Read and validate one row."""
    transport = row.choice("transport", ("tcp", "udp", "icmp", "esp"))
    occurrence = row.member("occurrence", Occurrence)
    flow = ExpectedFlow(
        id=row.pattern("id", r"[A-Za-z][A-Za-z0-9]*"),
        mode=mode,
        standalone=row.member("standalone", Requirement),
        ha=row.member("ha", Requirement),
        source=row.party("source"),
        destination=row.party("destination"),
        bidirectional=row.boolean("bidirectional"),
        service=row.text("service"),
        description=row.text("description"),
        peer=row.member("peer", Peer),
        transport=transport,
        ports=row.ports("ports"),
        protocol=row.choice("protocol", tuple(module.NAME for module in PROTOCOLS)),
        occurrence=occurrence,
        period=row.seconds("period"),
        tunnelled=row.boolean("tunnelled", False),
        signature=row.boolean("signature", False),
        since=row.optional("since", lambda name: row.pattern(name, r"\d+(\.\d+)*")),
        decided_by=row.optional("decided_by", lambda name: row.choice(name, DECIDERS)),
        ike_proposals=row.proposals("ike_proposals"),
        esp_proposals=row.proposals("esp_proposals"),
        tls_floor=row.optional("tls_floor", lambda name: row.choice(name, TLS_VERSIONS)),
        origins=row.origins("origins"),
    )
    row.finish()
    if (transport in ("tcp", "udp")) != bool(flow.ports):
        row.fail(f"'ports': {transport} " + ("has none" if flow.ports else "needs at least one"))
    if (occurrence in (Occurrence.CONTINUOUS, Occurrence.PERIODIC)) != (flow.period is not None):
        row.fail(f"'period': a row that is {occurrence.value} " + ("has none" if flow.period else "needs one"))
    if flow.tls_floor and flow.protocol != "tls":
        row.fail(f"'tls_floor': the row's protocol is {flow.protocol}")
    for name, _ in flow.origins:
        if not getattr(flow, name):
            row.fail(f"'origins': there is no value of which {name!r} could be the source")
    return flow


DECIDERS = ("ssh-key-installer", "ssh-reverse", "ftp-retrieve", "ftp-store", "peer")
TLS_VERSIONS = ("TLS 1.0", "TLS 1.1", "TLS 1.2", "TLS 1.3")

T = TypeVar("T")
E = TypeVar("E", bound=enum.Enum)


class Row:
    """The keys of one TOML table. Each key is taken once and validated as it is taken."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        self.values = dict(values)
        self.where = where

    def fail(self, reason: str) -> NoReturn:
        raise RuleError(f"{self.where}: {reason}")

    def finish(self) -> None:
        """Fail if a key was not taken: it is unknown."""
        for name in self.values:
            self.fail(f"unknown key {name!r}")

    def take(self, name: str) -> Any:
        if name not in self.values:
            self.fail(f"no key {name!r}")
        return self.values.pop(name)

    def optional(self, name: str, taker: Callable[[str], T]) -> T | None:
        return taker(name) if name in self.values else None

    def text(self, name: str) -> str:
        value = self.take(name)
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            self.fail(f"{name!r} must be printable text, not {value!r}")
        return value

    def pattern(self, name: str, expression: str) -> str:
        value = self.text(name)
        if not re.fullmatch(expression, value, re.ASCII):
            self.fail(f"{name!r} cannot be {value!r}")
        return value

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        value = self.take(name)
        if value not in choices:
            self.fail(f"{name!r} cannot be {value!r}; it is one of {', '.join(choices)}")
        return str(value)

    def member(self, name: str, kind: type[E]) -> E:
        return kind(self.choice(name, tuple(member.value for member in kind)))

    def boolean(self, name: str, default: bool | None = None) -> bool:
        value = self.take(name) if default is None or name in self.values else default
        if not isinstance(value, bool):
            self.fail(f"{name!r} must be true or false, not {value!r}")
        return value

    def seconds(self, name: str) -> float | None:
        value = self.values.pop(name, None)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            self.fail(f"{name!r} must be a number of seconds above 0, not {value!r}")
        return float(value)

    def ports(self, name: str) -> tuple[int, ...]:
        value = self.take(name)
        if not isinstance(value, list) or any(type(port) is not int or not 0 < port < 65536 for port in value):
            self.fail(f"{name!r} must be a list of port numbers, not {value!r}")
        if len(set(value)) < len(value):
            self.fail(f"{name!r} names a port twice")
        return tuple(value)

    def proposals(self, name: str) -> tuple[str, ...]:
        value = self.values.pop(name, [])
        if not isinstance(value, list) or any(
            not isinstance(proposal, str) or not re.fullmatch(r"[a-z0-9_]+(-[a-z0-9_]+)*", proposal)
            for proposal in value
        ):
            self.fail(f"{name!r} must be a list of proposals like 'aes128-sha256-ecp256', not {value!r}")
        return tuple(value)

    def party(self, name: str) -> Party:
        row = Row(self.table(name), f"{self.where}: {name!r}")
        party = Party(row.text("system"), row.text("application"))
        row.finish()
        return party

    def origins(self, name: str) -> tuple[tuple[str, str], ...]:
        row = Row(self.table(name) if name in self.values else {}, f"{self.where}: {name!r}")
        fields = [field.name for field in dataclasses.fields(ExpectedFlow) if field.name != name]
        origins = tuple((field, row.text(field)) for field in fields if field in row.values)
        row.finish()
        return origins

    def table(self, name: str) -> dict[str, Any]:
        value = self.take(name)
        if not isinstance(value, dict):
            self.fail(f"{name!r} must be a table, not {value!r}")
        return value

    def tables(self, name: str) -> list[dict[str, Any]]:
        value = self.take(name)
        if not isinstance(value, list) or not value or any(not isinstance(table, dict) for table in value):
            self.fail(f"{name!r} must be a list of tables: [[{name}]]")
        return value
