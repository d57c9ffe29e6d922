"""By which table a base station is judged, and who its core is."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyzer.findings import Severity
from tests.synthetic import (
    ESP,
    HTTP,
    IEC104,
    IKE_AUTH,
    IKE_INIT,
    NTP,
    OTHER,
    SSH,
    STATION,
    TLS,
    TPE,
    Scene,
    found,
    statuses,
)


def mode(scene: Scene, folder: Path, **options: object) -> str:
    (station,) = scene.audited(folder, **options).base_stations
    return station.mode


def tunnel(scene: Scene) -> Scene:
    scene.ask(STATION, 500, TPE, 500, IKE_INIT)
    return scene.udp(STATION, 4500, TPE, 4500, (">", IKE_AUTH), ("<", IKE_AUTH), (">", ESP), ("<", ESP))


def plain(scene: Scene) -> Scene:
    return scene.tcp(STATION, 40000, TPE, 2404, IEC104)


def tls(scene: Scene) -> Scene:
    return scene.tcp(STATION, 41000, TPE, 3001, TLS)


def basics(scene: Scene) -> Scene:
    return scene.tcp(STATION, 42000, TPE, 4443, TLS)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ((tunnel,), "ipsec"),
        ((tls,), "tls"),
        ((basics,), "basics"),
        ((plain,), "plain"),
        ((plain, basics, tls, tunnel), "ipsec"),
        ((plain, basics, tls), "tls"),
        ((plain, basics), "basics"),
    ],
)
def test_the_more_protected_mode_is_the_claim(tmp_path: Path, shown: tuple[object, ...], expected: str) -> None:
    scene = Scene()
    for each in shown:
        each(scene)  # type: ignore[operator]
    assert mode(scene, tmp_path) == expected


def test_an_established_conversation_outranks_an_attempt(tmp_path: Path) -> None:
    scene = plain(Scene().syn(STATION, 40009, TPE, 3001).udp(STATION, 500, TPE, 500, (">", IKE_INIT[0])))
    assert mode(scene, tmp_path) == "plain"


def test_among_attempts_the_more_protected_mode_is_the_claim(tmp_path: Path) -> None:
    assert mode(Scene().syn(STATION, 1, TPE, 2404).syn(STATION, 2, TPE, 3001, reset=True), tmp_path) == "tls"


def test_the_content_does_not_make_another_mode(tmp_path: Path) -> None:
    assert mode(Scene().tcp(STATION, 40000, TPE, 3001, HTTP), tmp_path) == "tls"


def test_tls_beside_a_tunnel_is_the_tunnels_own_and_no_contradiction(tmp_path: Path) -> None:
    result = tls(tunnel(Scene())).audited(tmp_path)
    assert [each.mode for each in result.base_stations] == ["ipsec"]
    assert statuses(result)["i38"] == "present"
    assert not found(result, "TPE131") and not found(result, "TPE104")


def test_clear_text_beside_a_tunnel_is_named_by_its_own_row(tmp_path: Path) -> None:
    result = plain(tunnel(Scene())).audited(tmp_path)
    (notice,) = found(result, "TPE131")
    assert "also shows flows of mode plain" in notice.summary
    (finding,) = found(result, "TPE104")
    assert finding.severity is Severity.HIGH
    assert (finding.rows, finding.mismatch) == (("i6",), "mode")
    assert "row i6 of mode plain" in finding.summary and "its mode ipsec" in finding.summary


def test_the_user_overrides(tmp_path: Path) -> None:
    result = tls(Scene()).audited(tmp_path, mode="plain")
    (station,) = result.base_stations
    assert (station.mode, station.mode_evidence, station.tpe) == ("plain", ("named by the user",), ())
    assert statuses(result)["i6"] == "missing, weak"
    assert [each.mode for each in tls(Scene()).audited(tmp_path, mode="ipsec").base_stations] == ["ipsec"]


def test_a_mode_that_the_user_names_keeps_the_core_that_the_flows_show(tmp_path: Path) -> None:
    result = tls(Scene()).echo(STATION, TPE).audited(tmp_path, mode="plain")
    assert statuses(result)["i3"] == "present"


def test_without_a_sign_the_mode_is_unknown_and_no_row_is_missing(tmp_path: Path) -> None:
    scene = Scene().ask(STATION, 123, OTHER, 123, NTP).tcp(STATION, 40000, OTHER, 8080, HTTP)
    result = scene.audited(tmp_path, base_stations=[STATION])
    assert [each.mode for each in result.base_stations] == ["unknown"]
    assert set(statuses(result).values()) == {"present", "absent"}
    assert [each.count for each in found(result, "TPE132")] == [1]
    assert not [each for each in result.findings if each.kind.value == "missing"]
    (finding,) = found(result, "TPE101")
    assert "tcp/8080" in finding.summary


# -- TPE --------------------------------------------------------------------------------------------------------


def test_tpe_is_a_set_and_more_than_one_is_said_where_one_node_is_deployed(tmp_path: Path) -> None:
    scene = tls(Scene()).tcp(STATION, 41001, "10.0.9.2", 3002, TLS)
    result = scene.audited(tmp_path)
    assert [each.tpe for each in result.base_stations] == [(TPE, "10.0.9.2")]
    (notice,) = found(result, "TPE133")
    assert "10.0.9.1 serves i38; 10.0.9.2 serves i39" in notice.summary
    assert not found(scene.audited(tmp_path, deployment="ha"), "TPE133")
    assert not found(scene.audited(tmp_path, tpe=["10.0.9.0/28"]), "TPE133")


def test_who_never_answers_is_no_tpe_where_another_host_does(tmp_path: Path) -> None:
    """As after a forged IKE REDIRECT, or a forged answer of DNS. Of several nodes one may be down."""
    scene = Scene().tcp(STATION, 40000, TPE, 3001, TLS).syn(STATION, 40001, OTHER, 3001)
    result = scene.audited(tmp_path)
    assert result.base_stations[0].tpe == (TPE,)
    (finding,) = found(result, "TPE101")
    assert (finding.rows, finding.mismatch) == (("i38",), "destination")
    assert set(scene.audited(tmp_path, deployment="ha").base_stations[0].tpe) == {TPE, OTHER}
    alone = Scene().syn(STATION, 40001, OTHER, 3001).audited(tmp_path)
    assert alone.base_stations[0].tpe == (OTHER,)


def test_with_tpe_named_its_rows_lead_there_only(tmp_path: Path) -> None:
    scene = tls(Scene()).tcp(STATION, 41001, "10.0.9.2", 3002, TLS).tcp(STATION, 41002, "10.0.9.2", 22, SSH)
    result = scene.audited(tmp_path, tpe=[TPE])
    assert statuses(result)["i39"] == "missing, weak"
    assert {(each.rows, each.mismatch) for each in found(result, "TPE101")} == {
        (("i39",), "destination"),
        (("i4",), "destination"),
    }
