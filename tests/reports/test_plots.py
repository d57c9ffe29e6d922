"""The content of plots; people judge their looks."""

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


def lanes(figure: Figure) -> list[str]:
    """Labels of the lanes, from top to bottom."""
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def words(figure: Figure) -> list[str]:
    """All texts in the axes and in the figure."""
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [text.get_text() for text in figure.texts]


def colours(figure: Figure) -> dict[str, str]:
    """Label of the legend → colour."""
    legend = figure.legends[0]
    return {
        text.get_text(): to_hex(handle.get_facecolor())  # type: ignore[union-attr]
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }


@pytest.mark.parametrize("plot", PLOTS)
@pytest.mark.parametrize("example", [EXAMPLE, BARE, HOSTILE_AUDIT], ids=["example", "empty", "hostile"])
def test_every_audit_can_be_plotted(plot: Callable[[Audit], Figure], example: Audit) -> None:
    figure = plot(example)
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    if figure.axes:
        assert figure.axes[0].get_xlabel()
        assert lanes(figure)
    else:
        assert words(figure)[0].startswith("There is no ")


@pytest.mark.parametrize("plot", PLOTS)
def test_equal_audits_give_equal_pictures(plot: Callable[[Audit], Figure]) -> None:
    one, two = (plot(samples.audit_of("mixed-two-base-stations"))._repr_png_() for _ in range(2))  # type: ignore[attr-defined]
    assert one == two


def test_timeline_has_a_lane_per_row_with_flows() -> None:
    figure = timeline(samples.audit_of("tls-http-on-3001"))
    assert lanes(figure)[3] == "i38  IEC 104 over TLS"
    assert [name.split("  ")[0] for name in lanes(figure)] == ["i3", "i4", "i4, i5", "i38", "i39", "i40"]
    assert list(colours(figure)) == ["malformed", "undecided", "present"]
    assert colours(figure)["malformed"] == STATUSES[Status.MALFORMED].lower()
    line = figure.axes[0].collections[2 * 3]  # a lane is a collection of lines and one of their beginnings
    assert {to_hex(colour) for colour in line.get_edgecolor()} == {STATUSES[Status.MALFORMED].lower()}


def test_timeline_of_one_base_station() -> None:
    result = samples.audit_of("mixed-two-base-stations")
    one, two = (lanes(timeline(result, verdict.station.address)) for verdict in result.base_stations)
    assert one != two
    assert set(one) | set(two) == set(lanes(timeline(result)))


def test_flows_without_a_row_have_a_lane() -> None:
    figure = timeline(samples.audit_of("plain-portscan-of-bs"))
    assert lanes(figure)[-1] == "no row"
    assert "no row" in colours(figure)


def test_bars_of_all_rows_add_up_to_all_bytes() -> None:
    result = samples.audit_of("plain-portscan-of-bs")
    flows = result.flows_frame()
    total = sum(bar.get_width() for bar in bytes_per_row(result).axes[0].patches)  # type: ignore[attr-defined]
    assert total == (flows["bytes_originator"] + flows["bytes_responder"]).sum()


def test_block_padding_is_visible_in_remainders() -> None:
    cbc, gcm = esp_lengths(samples.audit_of("ipsec-esp-cbc")), esp_lengths(samples.audit_of("ipsec-full-raw-esp"))
    assert words(cbc)[:-1] == ["100%", "100%"]
    assert len(words(gcm)[:-1]) == 2 * 4
    assert "22 packets" in lanes(gcm)[1]
    lengths = {segment[0][0] for lines in gcm.axes[0].collections for segment in lines.get_segments()}  # type: ignore
    assert lengths == {4 * bit for conversation in samples.audit_of("ipsec-full-raw-esp").conversations
                       for association in conversation.head.associations
                       for bit in range(512) if association.lengths >> bit & 1}  # fmt: skip


def test_link_tests_are_plotted() -> None:
    figure = iec104_heartbeat(samples.audit_of("plain-ha-stopped-link"))
    assert "2 APDUs, 1 TESTFR act, 1 answered" in words(figure)[1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "I frame", "S frame", "STARTDT, STOPDT", "TESTFR act", "TESTFR con",
    ]  # fmt: skip


def test_tls_versions_count_flows() -> None:
    figure = tls_versions(samples.audit_of("tls-10-on-3001"))
    assert lanes(figure) == ["TLS 1.0", "TLS 1.3"]
    assert [bar.get_width() for bar in figure.axes[0].patches] == [1, 0, 0, 1, 0, 1]  # type: ignore[attr-defined]
    assert lanes(tls_versions(samples.audit_of("tls-hello-never-answered")))[-1] == "none agreed"


def test_matplotlib_settings_and_figures_are_untouched() -> None:
    code = (
        "import matplotlib; before = dict(matplotlib.rcParams)\n"
        "from analyzer import audit; from analyzer.reports import plots\n"
        f"plots.timeline(audit({str(samples.capture('tls-link-only'))!r}))._repr_png_()\n"
        "assert dict(matplotlib.rcParams) == before\n"
        "assert not __import__('matplotlib._pylab_helpers')._pylab_helpers.Gcf.figs\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_matplotlib_is_an_error_that_names_the_extra() -> None:
    code = "import sys; sys.modules['matplotlib'] = None; from analyzer.reports import plots"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("ImportError: plots need matplotlib")
    assert "pip install 'tpe-pcap[plots]'" in done.stderr.splitlines()[-1]


def test_title_counts_lanes_beyond_the_limit() -> None:
    assert plots.more(range(plots.LANES), "links") == ""
    assert plots.more(range(1234), "links") == f" (the first {plots.LANES} of 1,234 links)"
