"""Who is recognised as a base station, and which addresses are one device."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyzer.expected import load
from analyzer.stations import NamedHosts, Station, find_stations, owned_macs
from tests.synthetic import ESP, HTTP, IKE_AUTH, IKE_INIT, NTP, OTHER, SSH, STATION, TLS, TPE, Scene

SECOND = "10.0.0.3"
V6, TPE6 = "2001:db8::2", "2001:db8:9::1"
MAC, ROUTER = "70:76:ff:00:aa:10", "00:00:5e:00:01:01"


def stations(scene: Scene, folder: Path, *names: str, tpe: tuple[str, ...] = ()) -> tuple[Station, ...]:
    found, unjudged = find_stations(scene.conversations(folder), load(), NamedHosts(names, tpe))
    assert not unjudged
    return found


def addresses(scene: Scene, folder: Path, *names: str, tpe: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    return [each.addresses for each in stations(scene, folder, *names, tpe=tpe)]


def busy() -> Scene:
    """Two base stations, their core, and a host that only asks for the time."""
    scene = Scene({STATION: MAC})
    scene.tcp(STATION, 40000, TPE, 3001, TLS).tcp(SECOND, 40000, TPE, 3001, TLS)
    return scene.ask("10.0.0.9", 123, OTHER, 123, NTP)


# -- named by the user ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (STATION, [STATION]),
        (MAC, [STATION]),
        (MAC.upper().replace(":", "-"), [STATION]),
        ("10.0.0.0/29", [STATION, SECOND]),
        ("10.0.0.9", ["10.0.0.9"]),
        ("10.7.7.7", []),
        ("02:00:00:00:00:99", []),
    ],
)
def test_named_hosts_are_the_base_stations_and_no_others(tmp_path: Path, name: str, expected: list[str]) -> None:
    found = stations(busy(), tmp_path, name)
    assert [each.address for each in found] == expected
    assert all(each.named and each.evidence == ("named by the user",) for each in found)


@pytest.mark.parametrize("name", ["", "bs1.example", "10.0.0", "10.0.0.2/33", "70:76:ff:00:aa", "10.0.0.2;rm"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no address, network or MAC address"):
        NamedHosts((name,))


def test_a_core_has_no_mac_address_as_its_name() -> None:
    with pytest.raises(ValueError, match="no address"):
        NamedHosts((), (MAC,))


# -- recognised by what they do ---------------------------------------------------------------------------------


def test_who_opens_a_flow_of_a_signature_row_is_a_base_station(tmp_path: Path) -> None:
    found = stations(busy(), tmp_path)
    assert [each.address for each in found] == [STATION, SECOND]
    assert not found[0].named
    assert found[0].mac == MAC
    assert found[0].evidence == ("opens flow 1 of row i38 (ipsec)", "opens flow 1 of row i38 (tls)")[-1:]


@pytest.mark.parametrize("reset", [False, True])
def test_an_attempt_is_enough(tmp_path: Path, reset: bool) -> None:
    assert addresses(Scene().syn(STATION, 40000, TPE, 2404, reset), tmp_path) == [(STATION,)]


def test_time_and_administration_show_no_base_station(tmp_path: Path) -> None:
    scene = Scene().ask(STATION, 123, TPE, 123, NTP).tcp(STATION, 40000, TPE, 22, SSH).echo(STATION, TPE)
    assert addresses(scene, tmp_path) == []


def test_the_core_is_no_base_station_even_where_it_opens_such_flows(tmp_path: Path) -> None:
    scene = Scene().tcp(TPE, 50000, STATION, 3001, HTTP)
    scene.tcp(STATION, 40000, TPE, 3001, TLS).tcp(STATION, 40001, TPE, 3002, TLS)
    assert addresses(scene, tmp_path) == [(STATION,)]


def test_who_scans_a_base_station_is_none(tmp_path: Path) -> None:
    scene = Scene()
    for port in (443, 2404, 3001, 3002, 3003, 4443):
        scene.syn("10.0.0.66", 50000, STATION, port, reset=True)
    scene.tcp(STATION, 40000, TPE, 3001, TLS)
    assert addresses(scene, tmp_path) == [(STATION,)]


def test_with_the_core_named_only_flows_to_it_count(tmp_path: Path) -> None:
    scene = Scene().tcp(STATION, 40000, TPE, 3001, TLS).tcp("10.0.0.50", 40000, OTHER, 443, TLS)
    assert addresses(scene, tmp_path) == [(STATION,), ("10.0.0.50",)]
    assert addresses(scene, tmp_path, tpe=("10.0.9.0/24",)) == [(STATION,)]


def test_ike_tells_its_initiator_even_in_mid_session(tmp_path: Path) -> None:
    scene = Scene().udp(TPE, 4500, STATION, 4500, ("<", IKE_AUTH), (">", ESP))
    assert addresses(scene, tmp_path) == [(STATION,)]


@pytest.mark.parametrize("names", [((STATION,), ()), ((), (TPE,))])
def test_esp_does_not_tell_who_began_but_the_user_does(
    tmp_path: Path, names: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    scene = Scene().packet(TPE, STATION, 50, ESP).packet(STATION, TPE, 50, ESP)
    ((found,), _) = find_stations(scene.conversations(tmp_path), load(), NamedHosts(*names))
    assert found.address == STATION
    assert {(each.client, each.server) for each in found.signatures} == {(STATION, TPE)}


# -- one device, several addresses ------------------------------------------------------------------------------


def test_ipv4_and_ipv6_behind_one_mac_address_are_one_station(tmp_path: Path) -> None:
    scene = Scene({STATION: MAC, V6: MAC, "fe80::2": MAC})
    scene.tcp(STATION, 40000, TPE, 3001, TLS).tcp(V6, 40000, TPE6, 3002, TLS).echo("fe80::2", "fe80::1")
    (found,) = stations(scene, tmp_path)
    assert found.addresses == (STATION, V6, "fe80::2")
    assert found.address == STATION


def test_what_a_router_forwards_stays_apart(tmp_path: Path) -> None:
    scene = Scene({STATION: ROUTER, SECOND: ROUTER, V6: ROUTER})
    scene.tcp(STATION, 40000, TPE, 3001, TLS).tcp(SECOND, 40000, TPE, 3001, TLS).tcp(V6, 40000, TPE6, 3001, TLS)
    found = stations(scene, tmp_path)
    assert [each.addresses for each in found] == [(STATION,), (SECOND,), (V6,)]
    assert [each.mac for each in found] == [None, None, None]
    assert ROUTER not in owned_macs(scene.conversations(tmp_path)).values()


def test_an_ike_sa_that_moves_to_another_address_stays_one_station(tmp_path: Path) -> None:
    elsewhere = "172.16.0.2"
    scene = Scene().ask(STATION, 500, TPE, 500, IKE_INIT)
    scene.udp(STATION, 4500, TPE, 4500, (">", IKE_AUTH), ("<", IKE_AUTH))
    scene.udp(elsewhere, 4500, TPE, 4500, (">", IKE_AUTH), ("<", IKE_AUTH), (">", ESP))
    assert addresses(scene, tmp_path) == [(STATION, elsewhere)]
    assert addresses(scene, tmp_path, STATION) == [(STATION, elsewhere)]


def test_several_stations_of_one_core_are_not_one(tmp_path: Path) -> None:
    other = bytes(4) + b"another1" + IKE_AUTH[12:]
    scene = Scene().udp(STATION, 4500, TPE, 4500, (">", IKE_AUTH), ("<", IKE_AUTH))
    scene.udp(SECOND, 4500, TPE, 4500, (">", other), ("<", other))
    assert addresses(scene, tmp_path) == [(STATION,), (SECOND,)]
