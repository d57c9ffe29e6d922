"""The vendor's tables as data, the errors of invalid ones, and when files are parsed."""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from pathlib import Path

import pytest

from analyzer import expected
from analyzer.expected import (
    Deployment,
    ExpectedFlow,
    Occurrence,
    Peer,
    Requirement,
    RuleError,
    UsageError,
    load,
    parse_version,
    profiles,
)

VENDOR_PAGE = """
ipsec  i1  udp/500,4500 MUST/MUST         both from:strongswan to:TPE/strongswan
ipsec  i2  esp          MUST/MUST         both from:strongswan to:TPE/strongswan
ipsec  i3  icmp         MUST/MUST         out  from:OS         to:TPE/OS
ipsec  i4  tcp/22       MUST/MUST         out  from:Key        to:TPE/Key
ipsec  i5  tcp/22       MUST/MUST         out  from:OS         to:TPE/OS
ipsec  i38 tcp/3001     MUST/MUST         out  from:OS         to:TPE/server
ipsec  i39 tcp/3002     MUST/MUST         out  from:OS         to:TPE/server
ipsec  i40 tcp/3003     MUST/MUST         out  from:OS         to:TPE/OS
ipsec  n1  udp/123      OPTIONAL/OPTIONAL out  from:OS         to:NTP/service
ipsec  n2  udp/53       OPTIONAL/OPTIONAL out  from:OS         to:DNS/service
ipsec  n3  udp/123      OPTIONAL/OPTIONAL out  from:OS         to:TPE/NTP
ipsec  n4  udp/67,547   OPTIONAL/OPTIONAL out  from:OS         to:DHCP/service
tls    i3  icmp         MUST/MUST         out  from:OS         to:TPE/OS
tls    i4  tcp/22       MUST/MUST         out  from:Key        to:TPE/Key
tls    i5  tcp/22       MUST/MUST         out  from:OS         to:TPE/OS
tls    i38 tcp/3001     MUST/MUST         out  from:OS         to:TPE/server
tls    i39 tcp/3002     MUST/MUST         out  from:OS         to:TPE/server
tls    i40 tcp/3003     MUST/MUST         out  from:OS         to:TPE/OS
tls    n1  udp/123      OPTIONAL/OPTIONAL out  from:OS         to:NTP/service
tls    n2  udp/53       OPTIONAL/OPTIONAL out  from:OS         to:DNS/service
tls    n3  udp/123      OPTIONAL/OPTIONAL out  from:OS         to:TPE/NTP
tls    n4  udp/67,547   OPTIONAL/OPTIONAL out  from:OS         to:DHCP/service
plain  i3  icmp         MUST/MUST         out  from:OS         to:TPE/OS
plain  i5  tcp/22       MUST/MUST         out  from:OS         to:TPE/OS
plain  i6  tcp/2404     MUST/MUST         out  from:OS         to:TPE/server
plain  i7  tcp/21       MUST/MUST         out  from:OS         to:TPE/server
plain  i8  tcp/21       MUST/MUST         out  from:OS         to:TPE/OS
plain  n1  udp/123      OPTIONAL/OPTIONAL out  from:OS         to:NTP/service
plain  n2  udp/53       OPTIONAL/OPTIONAL out  from:OS         to:DNS/service
plain  n3  udp/123      OPTIONAL/OPTIONAL out  from:OS         to:TPE/NTP
plain  n4  udp/67,547   OPTIONAL/OPTIONAL out  from:OS         to:DHCP/service
basics i42 tcp/4443     MUST/MUST         out  from:Semtech    to:TPE/haproxy
basics i43 tcp/443      MUST/MUST         out  from:Semtech    to:TPE/RCA
basics n1  udp/123      OPTIONAL/OPTIONAL out  from:OS         to:NTP/service
basics n2  udp/53       OPTIONAL/OPTIONAL out  from:OS         to:DNS/service
basics n3  udp/123      OPTIONAL/OPTIONAL out  from:OS         to:TPE/NTP
basics n4  udp/67,547   OPTIONAL/OPTIONAL out  from:OS         to:DHCP/service
"""
"""The 37 lines of the vendor's page, copied by eye, with the first words of systems and applications.

The page gives no port for n4; 67 is where DHCP servers listen (RFC 2131).
"""

TABLES = load()
FLOWS = [flow for table in TABLES.values() for flow in table.flows]


def flow_id(flow: ExpectedFlow) -> str:
    return f"{flow.mode}-{flow.id}"


def summary(flow: ExpectedFlow) -> str:
    """A row as a line of VENDOR_PAGE."""
    ports = "/" + ",".join(map(str, flow.ports)) if flow.ports else ""
    assert flow.source.system == "BASE STATION"
    return " ".join(
        (
            flow.mode,
            flow.id,
            flow.transport + ports,
            f"{flow.standalone.value}/{flow.ha.value}",
            "both" if flow.bidirectional else "out",
            "from:" + flow.source.application.split()[0],
            "to:" + "/".join(name.split()[0] for name in (flow.destination.system, flow.destination.application)),
        )
    )


def test_tables_have_every_line_of_the_vendor_page_in_its_order() -> None:
    lines = [" ".join(line.split()) for line in VENDOR_PAGE.strip().splitlines()]
    assert len(lines) == 37
    assert [summary(flow) for flow in FLOWS] == lines


def test_proposals_of_the_ipsec_table() -> None:
    ike = ("aes128-sha256-ecp256", "aes128-sha384-ecp384", "aes256-sha512-ecp521")
    ipsec = TABLES["ipsec"]
    assert ipsec.flow("i1").ike_proposals == ipsec.flow("i2").ike_proposals == ike
    assert ipsec.flow("i2").esp_proposals == ("aes128gcm128", "aes256gcm128")
    assert [flow_id(flow) for flow in FLOWS if flow.ike_proposals or flow.esp_proposals] == ["ipsec-i1", "ipsec-i2"]


def test_signature_and_tunnelled_rows() -> None:
    assert {mode: [flow.id for flow in table.flows if flow.signature] for mode, table in TABLES.items()} == {
        "ipsec": ["i1", "i2"],
        "tls": ["i38", "i39", "i40"],
        "plain": ["i6", "i7", "i8"],
        "basics": ["i42", "i43"],
    }
    for flow in FLOWS:
        assert flow.tunnelled == (flow.mode == "ipsec" and flow.id not in ("i1", "i2")), flow_id(flow)
        assert flow.since == ("2.8" if flow.mode == "ipsec" and flow.id in ("i38", "i39", "i40") else None)


def test_rows_that_share_a_port_have_a_deciding_property() -> None:
    for table in TABLES.values():
        for flow in table.flows:
            twins = [other for other in table.flows if (other.transport, other.ports) == (flow.transport, flow.ports)]
            assert (flow.decided_by is not None) == (len(twins) > 1), flow_id(flow)


def test_tls_rows_have_a_lowest_version() -> None:
    assert all((flow.tls_floor == "TLS 1.2") == (flow.protocol == "tls") for flow in FLOWS)
    assert [flow.id for flow in FLOWS if flow.tls_floor] == ["i38", "i39", "i40"] * 2 + ["i42", "i43"]


def test_equal_rows_of_two_tables_differ_only_in_what_the_tunnel_changes() -> None:
    for flow in FLOWS:
        if flow.id.startswith("n") or flow.id == "i3":
            twin = TABLES["tls" if flow.id == "i3" and flow.mode == "ipsec" else "plain"].flow(flow.id)
            assert (flow.description, flow.period, flow.protocol) == (twin.description, twin.period, twin.protocol)


@pytest.mark.parametrize("flow", FLOWS, ids=flow_id)
def test_every_derived_value_has_a_source(flow: ExpectedFlow) -> None:
    sources = dict(flow.origins)
    derived = ["period", "tunnelled", "signature", "since", "decided_by", "ike_proposals", "esp_proposals", "tls_floor"]
    assert {"occurrence", *(name for name in derived if getattr(flow, name))} <= set(sources)
    if flow.id == "n4":
        assert {"transport", "ports"} <= set(sources)
    if flow.id == "i4":
        assert "protocol" in sources
    for source in sources.values():
        assert len(source) > 8


@pytest.mark.parametrize("flow", FLOWS, ids=flow_id)
def test_descriptions_are_sentences(flow: ExpectedFlow) -> None:
    assert re.fullmatch(r"[A-Z].*\.", flow.description)
    for typo in ("sofware", "donwlink", "exchange."):
        assert typo not in flow.description


def test_periods_of_continuous_and_periodic_rows() -> None:
    assert TABLES["ipsec"].flow("i2").occurrence is TABLES["plain"].flow("i6").occurrence is Occurrence.CONTINUOUS
    assert TABLES["tls"].flow("i3").period == 61
    assert TABLES["basics"].flow("i43").period == 86_400
    assert TABLES["plain"].flow("i7").period is None


def test_peer_follows_from_the_destination() -> None:
    peers = {"TPE": Peer.TPE, "NTP service": Peer.NTP, "DNS service": Peer.DNS, "DHCP service": Peer.DHCP}
    assert all(flow.peer is peers[flow.destination.system] for flow in FLOWS)


def test_requirement_follows_the_deployment(tmp_path: Path) -> None:
    changed = profile(tmp_path, "tls", 'ha = "MUST"', 'ha = "OPTIONAL"')
    flow = load(changed)["tls"].flow("i3")
    assert flow.requirement(Deployment.STANDALONE) is Requirement.MUST
    assert flow.requirement(Deployment.HA) is Requirement.OPTIONAL


def test_unknown_row_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        TABLES["tls"].flow("i6")


# -- profiles --------------------------------------------------------------------------------------------------


def profile(folder: Path, mode: str, old: str, new: str) -> str:
    """Write a profile of one table into ``folder``, with the first ``old`` replaced by ``new``."""
    text = (expected.rules_folder() / "tpe-self-hosted" / f"{mode}.toml").read_text(encoding="utf-8")
    assert old in text
    (folder / f"{mode}.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    return str(folder)


def test_bundled_profile() -> None:
    assert "tpe-self-hosted" in profiles()
    assert list(TABLES) == ["ipsec", "tls", "plain", "basics"] == list(expected.MODES)


def test_profile_in_a_folder_with_other_ports_and_fewer_tables(tmp_path: Path) -> None:
    tables = load(profile(tmp_path, "plain", "ports = [2404]", "ports = [2404, 2504]"))
    assert list(tables) == ["plain"]
    assert tables["plain"].flow("i6").ports == (2404, 2504)


def test_tables_are_in_the_vendors_order(tmp_path: Path) -> None:
    for file in (expected.rules_folder() / "tpe-self-hosted").glob("*.toml"):
        shutil.copy(file, tmp_path)
    assert list(load(str(tmp_path))) == ["ipsec", "tls", "plain", "basics"]


def test_profile_does_not_depend_on_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load() == TABLES


@pytest.mark.parametrize(
    ("mode", "old", "new", "message"),
    [
        ("tls", 'protocol = "tls"', 'prot = "tls"', "row i38: no key 'protocol'"),
        ("tls", 'protocol = "tls"', 'prot = 1\nprotocol = "tls"', "row i38: unknown key 'prot'"),
        ("tls", 'protocol = "tls"', 'protocol = "tsl"', "row i38: 'protocol' cannot be 'tsl'; it is one of "),
        ("tls", 'transport = "tcp"', 'transport = "sctp"', "row i4: 'transport' cannot be 'sctp'"),
        ("tls", 'ha = "MUST"', 'ha = "must"', "row i3: 'ha' cannot be 'must'; it is one of MUST, OPTIONAL"),
        ("tls", 'ha = "MUST"', "ha = []", "row i3: 'ha' cannot be []"),
        ("tls", "bidirectional = false", "bidirectional = 0", "row i3: 'bidirectional' must be true or false, not 0"),
        ("tls", "ports = [22]", "ports = [65536]", "row i4: 'ports' must be a list of port numbers"),
        ("tls", "ports = [22]", "ports = [true]", "row i4: 'ports' must be a list of port numbers"),
        ("tls", "ports = [22]", "ports = 22", "row i4: 'ports' must be a list of port numbers"),
        ("tls", "ports = [22]", "ports = [22, 22]", "row i4: 'ports' names a port twice"),
        ("tls", "ports = [22]", "ports = []", "row i4: 'ports': tcp needs at least one"),
        ("tls", "ports = []", "ports = [7]", "row i3: 'ports': icmp has none"),
        ("tls", "period = 61", "", "row i3: 'period': a row that is periodic needs one"),
        ("tls", "period = 61", "period = -1", "row i3: 'period' must be a number of seconds above 0, not -1"),
        ("tls", "period = 61", "period = nan", "row i3: 'period' must be a number of seconds above 0, not nan"),
        ("tls", 'occurrence = "on-demand"', 'occurrence = "on-demand"\nperiod = 1', "a row that is on-demand has none"),
        ("tls", 'description = "Pings', 'description = "\\u001b[2JPings', "row i3: 'description' must be printable"),
        ("tls", 'id = "i3"', 'id = "i 3"', "row i 3: 'id' cannot be 'i 3'"),
        ("tls", 'id = "i3"', 'id = "i\\n3"', "row 1: 'id' must be printable text"),
        ("tls", 'id = "i3"', "", "row 1: no key 'id'"),
        ("tls", 'id = "i4"', 'id = "i3"', "row i3: the id stands in the table twice"),
        ("tls", 'system = "TPE", ', "", "row i3: 'destination': no key 'system'"),
        ("tls", 'system = "TPE"', 'port = 1, system = "TPE"', "row i3: 'destination': unknown key 'port'"),
        ("tls", 'tls_floor = "TLS 1.2"', 'tls_floor = "1.2"', "row i38: 'tls_floor' cannot be '1.2'"),
        (
            "tls",
            'protocol = "ssh"',
            'protocol = "ssh"\ntls_floor = "TLS 1.2"',
            "'tls_floor': the row's protocol is ssh",
        ),
        ("tls", 'decided_by = "ssh-key-installer"', 'decided_by = "port"', "row i4: 'decided_by' cannot be 'port'"),
        ("tls", "[flow.origins]\n", '[flow.origins]\ncolour = "x"\n', "row i3: 'origins': unknown key 'colour'"),
        (
            "tls",
            "[flow.origins]\n",
            '[flow.origins]\nsince = "x"\n',
            "'origins': there is no value of which 'since' could",
        ),
        ("ipsec", 'since = "2.8"', 'since = "new"', "row i38: 'since' cannot be 'new'"),
        ("ipsec", '["aes128gcm128"', '["AES GCM"', "row i2: 'esp_proposals' must be a list of proposals like "),
        ("tls", 'title = "', 'titel = "', "tls.toml: no key 'title'"),
        ("tls", 'title = "', 'version = 2\ntitle = "', "tls.toml: unknown key 'version'"),
        ("tls", "[[flow]]\n", "[[flow]\n", "tls.toml: not TOML: "),
    ],
)
def test_invalid_row_is_an_error_of_one_line_with_file_and_row(
    tmp_path: Path, mode: str, old: str, new: str, message: str
) -> None:
    with pytest.raises(RuleError) as caught:
        load(profile(tmp_path, mode, old, new))
    assert str(caught.value).startswith(f"{tmp_path}/{mode}.toml: ")
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tls.toml", b"\xff", "tls.toml: not UTF-8 at byte 0"),
        ("tls.toml", b"title = 'x'", "tls.toml: no key 'flow'"),
        ("tls.toml", b"title = 'x'\nflow = []", "tls.toml: 'flow' must be a list of tables: [[flow]]"),
        ("tls.toml", b"title = 'x'\nflow = [1]", "tls.toml: 'flow' must be a list of tables: [[flow]]"),
        ("vpn.toml", b"", "vpn.toml: no mode of this name; the modes are ipsec, tls, plain, basics"),
        ("notes.txt", b"", "no .toml file in it"),
    ],
)
def test_invalid_file_is_an_error(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RuleError, match=re.escape(message)):
        load(str(tmp_path))


def test_unreadable_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tls.toml").mkdir()
    with pytest.raises(RuleError, match=r"tls\.toml: Is a directory"):
        load(str(tmp_path))


def test_unknown_profile_is_an_error() -> None:
    with pytest.raises(RuleError, match=r"profile 'tpe-saas': neither one of .*tpe-self-hosted.* nor a folder"):
        load("tpe-saas")


def test_error_in_a_bundled_profile_names_no_folder_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected, "MODES", ("ipsec", "plain", "basics"))
    with pytest.raises(RuleError, match=r"^rules/tpe-self-hosted/tls\.toml: no mode of this name"):
        load()


# -- caching ----------------------------------------------------------------------------------------------------


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The TOML files that are parsed during the test."""
    texts: list[str] = []
    parse = tomllib.loads

    def loads(text: str) -> dict[str, object]:
        texts.append(text)
        return parse(text)

    monkeypatch.setattr(tomllib, "loads", loads)
    expected.parse_table.cache_clear()
    return texts


def test_profile_is_parsed_once_per_process(parsed: list[str]) -> None:
    first = load()
    assert len(parsed) == 4
    assert load() == first and all(load()[mode] is first[mode] for mode in first)
    assert len(parsed) == 4


def test_changed_file_is_parsed_again(tmp_path: Path, parsed: list[str]) -> None:
    """Also if size and modification time stay the same."""
    name = profile(tmp_path, "tls", "ports = [3001]", "ports = [3001]")
    before, times = load(name), (tmp_path / "tls.toml").stat()
    assert profile(tmp_path, "tls", "ports = [3001]", "ports = [3009]") == name
    os.utime(tmp_path / "tls.toml", ns=(times.st_atime_ns, times.st_mtime_ns))
    after = load(name)
    assert (before["tls"].flow("i38").ports, after["tls"].flow("i38").ports) == ((3001,), (3009,))
    assert load(name) == after
    assert len(parsed) == 2


def test_change_of_the_result_does_not_change_the_profile() -> None:
    tables = load()
    tables.clear()
    assert list(load()) == list(expected.MODES)


# -- versions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "version"), [("2", (2,)), ("2.8", (2, 8)), ("2.8.10", (2, 8, 10))])
def test_parse_version(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("text", ["", "v2", "2.", ".8", "2..8", "2.8-rc1", "\u0662", "2" * 10])
def test_invalid_version_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="is no version: write it like"):
        parse_version(text)
