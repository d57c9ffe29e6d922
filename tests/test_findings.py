"""The catalogue of checks, and how what a check says becomes a finding."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

from analyzer import audit, checks
from analyzer.conversations import Endpoint
from analyzer.findings import (
    Check,
    Issue,
    Kind,
    Scope,
    Severity,
    flow_filter,
    frames_filter,
    sections,
    to_finding,
)
from analyzer.heads import Frame
from tests import samples
from tests.reports.audits import flow

FIRED_BY_CAPTURES = {
    "TPE005", "TPE101", "TPE102", "TPE103", "TPE111", "TPE112", "TPE121", "TPE122", "TPE132", "TPE133", "TPE201",
    "TPE202", "TPE203", "TPE211", "TPE224", "TPE245", "TPE261", "TPE264", "TPE269", "TPE271", "TPE274", "TPE277",
}  # fmt: skip
"""Checks that at least one recorded capture earns; no capture may stop earning its own."""


def modules() -> list[str]:
    return [each.name for each in pkgutil.iter_modules(checks.__path__)]


@pytest.mark.parametrize("name", modules())
def test_every_check_of_every_module_is_listed(name: str) -> None:
    module = importlib.import_module(f"analyzer.checks.{name}")
    assert module.CHECKS
    assert set(module.CHECKS) <= set(checks.CHECKS)
    defined = {each for each in vars(module).values() if type(each).__name__ == "Check"}
    assert defined == set(module.CHECKS), "defined, but not listed"


def test_ids_and_slugs_are_unique() -> None:
    assert len({check.id for check in checks.CHECKS}) == len(checks.CHECKS)
    assert len({check.slug for check in checks.CHECKS}) == len(checks.CHECKS)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.id)
def test_a_check_is_named_and_documented(check: Check) -> None:
    assert re.fullmatch(r"TPE\d{3}", check.id)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", check.slug)
    told = sections(check)
    assert list(told) == ["flags", "why", "evidence", "remedy"]
    for heading, said in told.items():
        assert said.endswith("."), heading
        assert said.isprintable()
    assert not re.search(r"[.!?] [A-Z]", told["remedy"]), "a remedy is one sentence"
    assert told["remedy"][0].isupper()


@pytest.mark.parametrize("check", checks.CHECKS[:3], ids=lambda check: check.id)
def test_a_check_is_found_by_id_and_slug(check: Check) -> None:
    assert checks.find(check.id) is checks.find(check.id.lower()) is checks.find(check.slug.upper()) is check
    assert checks.find("TPE999") is None


def test_the_recorded_captures_fire_what_they_were_recorded_for() -> None:
    fired: set[str] = set()
    for path in samples.all_captures():
        result = audit(path)
        fired |= {each.check for each in result.findings}
        for each in result.findings:
            assert each.summary.endswith(".") and each.summary.isprintable()
            assert each.count >= 1
            assert list(each.frames) == sorted(set(each.frames))
    named = samples.capture("unknown-only-optional-flows")
    fired |= {each.check for each in audit(named, base_stations=["10.20.30.10"]).findings}
    assert fired >= FIRED_BY_CAPTURES
    assert fired <= {check.id for check in checks.CHECKS}


def test_severities_and_kinds_are_called_as_in_the_report() -> None:
    assert [str(each) for each in Severity] == ["info", "low", "medium", "high"]
    assert [each.value for each in Kind] == ["unexpected", "missing", "malformed", "notice"]


# -- display filters --------------------------------------------------------------------------------------------


def test_filter_of_frames() -> None:
    assert frames_filter([Frame(0, 7)]) == "frame.number == 7"
    assert frames_filter([Frame(0, 7), Frame(0, 9)]) == "frame.number in {7, 9}"
    assert frames_filter([Frame(1, 7), Frame(2, 9)]) == "frame.number == 7"


@pytest.mark.parametrize(
    ("ends", "transport", "expected"),
    [
        (("10.0.0.2", 4000, "10.0.9.1", 22), "tcp", "ip.addr == 10.0.0.2 && ip.addr == 10.0.9.1 && tcp.port == 22"),
        (("fd00::2", 4000, "fd00::1", 53), "udp", "ipv6.addr == fd00::2 && ipv6.addr == fd00::1 && udp.port == 53"),
        (("10.0.0.2", None, "10.0.9.1", None), "esp", "ip.addr == 10.0.0.2 && ip.addr == 10.0.9.1 && esp"),
        (("10.0.0.2", None, "10.0.9.1", None), "ip-47", "ip.addr == 10.0.0.2 && ip.addr == 10.0.9.1 && ip.proto == 47"),
        (("fd00::2", None, "fd00::1", None), "ip-47", "ipv6.addr == fd00::2 && ipv6.addr == fd00::1 && ipv6.nxt == 47"),
    ],
)
def test_filter_of_a_flow(ends: tuple[str, int | None, str, int | None], transport: str, expected: str) -> None:
    assert flow_filter(flow(1, Endpoint(*ends[:2]), Endpoint(*ends[2:]), transport)) == expected


def test_a_finding_cites_a_frame_once() -> None:
    check = next(each for each in checks.CHECKS if each.scope is Scope.CAPTURE)
    several = (flow(1), flow(1), flow(2))
    shown = Issue("Said.", conversations=several), Issue("Said.", frames=(Frame(0, 3), Frame(0, 3), Frame(0, 1)))
    by_conversations, by_frames = (to_finding(check, each).frames for each in shown)
    assert len(by_conversations) == len(set(by_conversations)) > 0
    assert by_frames == (Frame(0, 1), Frame(0, 3))
