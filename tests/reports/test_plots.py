"""Pictures of audits: what stands where in them. Whether they are good to look at, people judge."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analyzer.reports import plots
from analyzer.reports.plots import STATUSES, bytes_per_row, esp_lengths, iec104_heartbeat, timeline, tls_versions
from analyzer.result import Audit
from analyzer.verdicts import Status
from tests import samples
from tests.reports.audits import BARE, EXAMPLE, HOSTILE_AUDIT

PLOTS = (timeline, bytes_per_row, esp_lengths, iec104_heartbeat, tls_versions)


def of(name: str) -> Audit:
    return samples.audit_of(name)


def lanes(figure: Figure) -> list[str]:
    """Names of the lanes, from top to bottom."""
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def words(figure: Figure) -> list[str]:
    """Every text in the axes, and the figure's own."""
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [text.get_text() for text in figure.texts]


def colours(figure: Figure) -> dict[str, str]:
    """Word of the legend → colour."""
    legend = figure.legends[0]
    return {
        text.get_text(): to_hex(handle.get_facecolor())  # type: ignore[union-attr]
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }


@pytest.mark.parametrize("plot", PLOTS)
@pytest.mark.parametrize("example", [EXAMPLE, BARE, HOSTILE_AUDIT], ids=["example", "empty", "hostile"])
def test_every_audit_can_be_drawn(plot: Callable[[Audit], Figure], example: Audit) -> None:
    figure = plot(example)
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    if figure.axes:
        assert figure.axes[0].get_xlabel()
        assert lanes(figure)
    else:
        assert words(figure)[0].startswith("There is no ")


@pytest.mark.parametrize("plot", PLOTS)
def test_the_same_audit_gives_the_same_picture(plot: Callable[[Audit], Figure]) -> None:
    one, two = (plot(of("mixed-two-base-stations"))._repr_png_() for _ in range(2))  # type: ignore[attr-defined]
    assert one == two


def test_a_timeline_has_a_lane_for_each_row_that_has_flows() -> None:
    figure = timeline(of("tls-http-on-3001"))
    assert lanes(figure)[3] == "i38  IEC 104 over TLS"
    assert [name.split("  ")[0] for name in lanes(figure)] == ["i3", "i4", "i4, i5", "i38", "i39", "i40"]
    assert list(colours(figure)) == ["malformed", "undecided", "present"]
    assert colours(figure)["malformed"] == STATUSES[Status.MALFORMED].lower()
    line = figure.axes[0].collections[2 * 3]  # each lane is lines, and where they begin
    assert {to_hex(colour) for colour in line.get_edgecolor()} == {STATUSES[Status.MALFORMED].lower()}


def test_a_timeline_of_one_base_station_leaves_out_the_others() -> None:
    result = of("mixed-two-base-stations")
    one, two = (lanes(timeline(result, each.station.address)) for each in result.base_stations)
    assert one != two
    assert set(one) | set(two) == set(lanes(timeline(result)))


def test_flows_that_fit_no_row_have_a_lane_of_their_own() -> None:
    figure = timeline(of("plain-portscan-of-bs"))
    assert lanes(figure)[-1] == "no row"
    assert "no row" in colours(figure)


def test_the_bars_of_all_rows_are_all_bytes() -> None:
    result = of("plain-portscan-of-bs")
    flows = result.flows_frame()
    total = sum(bar.get_width() for bar in bytes_per_row(result).axes[0].patches)  # type: ignore[attr-defined]
    assert total == (flows["bytes_originator"] + flows["bytes_responder"]).sum()


def test_padding_to_a_block_shows() -> None:
    cbc, gcm = esp_lengths(of("ipsec-esp-cbc")), esp_lengths(of("ipsec-full-raw-esp"))
    assert words(cbc)[:-1] == ["100%", "100%"]
    assert len(words(gcm)[:-1]) == 2 * 4
    assert "22 packets" in lanes(gcm)[1]
    lengths = {segment[0][0] for lines in gcm.axes[0].collections for segment in lines.get_segments()}  # type: ignore
    assert lengths == {4 * bit for each in of("ipsec-full-raw-esp").conversations
                       for association in each.head.associations
                       for bit in range(512) if association.lengths >> bit & 1}  # fmt: skip


def test_the_tests_of_a_link_show() -> None:
    figure = iec104_heartbeat(of("plain-ha-stopped-link"))
    assert "2 APDUs, 1 TESTFR act, 1 answered" in words(figure)[1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "I frame", "S frame", "STARTDT, STOPDT", "TESTFR act", "TESTFR con",
    ]  # fmt: skip


def test_versions_are_counted_by_flows() -> None:
    figure = tls_versions(of("tls-10-on-3001"))
    assert lanes(figure) == ["TLS 1.0", "TLS 1.3"]
    assert [bar.get_width() for bar in figure.axes[0].patches] == [1, 0, 0, 1, 0, 1]  # type: ignore[attr-defined]
    assert lanes(tls_versions(of("tls-hello-never-answered")))[-1] == "none agreed"


def test_nothing_of_matplotlib_is_changed() -> None:
    """No window, no list of open figures, no settings: what a notebook set up stays as it is."""
    code = (
        "import matplotlib; before = dict(matplotlib.rcParams)\n"
        "from analyzer import audit; from analyzer.reports import plots\n"
        f"plots.timeline(audit({str(samples.capture('tls-link-only'))!r}))._repr_png_()\n"
        "assert dict(matplotlib.rcParams) == before\n"
        "assert not __import__('matplotlib._pylab_helpers')._pylab_helpers.Gcf.figs\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['matplotlib'] = None; from analyzer.reports import plots"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("ImportError: plots need matplotlib")
    assert "pip install 'tpe-pcap[plots]'" in done.stderr.splitlines()[-1]


def test_more_lanes_than_can_be_read_are_named() -> None:
    assert plots.more(range(plots.LANES), "links") == ""
    assert plots.more(range(1234), "links") == f" (the first {plots.LANES} of 1,234 links)"
