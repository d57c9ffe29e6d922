"""The pipeline at a glance: capture files → flows → conversations → stations → matches → verdicts → findings.

The module is not called ``audit``, because importing a submodule binds its name in the package, over the function.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike, fspath
from typing import TYPE_CHECKING, TypeVar

from analyzer import expected, flows
from analyzer.aggregate import in_report_order, malformed_flows, merge_equal
from analyzer.capture import CaptureFile
from analyzer.checking import AGGREGATED, run_capture_checks, run_flow_checks
from analyzer.conversations import Conversations, KeyUse, dissect_flows
from analyzer.expected import Deployment, ExpectedTable, UsageError, parse_version, services
from analyzer.findings import AuditContext, Severity
from analyzer.flows import Flows, Progress
from analyzer.frame_totals import count_frames
from analyzer.ftp_data import identify_data_connections
from analyzer.matching import match_stations, rows_by_flow, with_transfer_rows
from analyzer.naming import resolved_names
from analyzer.result import Audit, FlowListing, count_totals
from analyzer.stations import NamedHosts, capture_tunnels, identify_hosts, stations_by_flow
from analyzer.unexpected import group_unexpected
from analyzer.verdicts import judge

if TYPE_CHECKING:
    from analyzer.tshark.crosscheck import Crosscheck

T = TypeVar("T")

CapturePath = str | PathLike[str]

ProgressCallback = Callable[[str, int, str], Progress]
"""Called at the beginning of each stage with its activity, amount of work (0: unknown) and unit, such as
``("dissecting", 7, "flows")``. Returns a function that is called with each amount of work done."""


def audit(
    captures: CapturePath | Sequence[CapturePath],
    *,
    profile: str = expected.DEFAULT_PROFILE,
    deployment: Deployment | str = Deployment.STANDALONE,
    mode: str | None = None,
    base_stations: Sequence[str] = (),
    tpe: Sequence[str] = (),
    lrr_version: str | None = None,
    fail_on: Severity = Severity.MEDIUM,
    tls_keylog: CapturePath | None = None,
    ike_keys: CapturePath | None = None,
    embedded_keys: bool = False,
    progress: ProgressCallback | None = None,
) -> Audit:
    """Audit one capture, or several as one timeline.

    ``mode`` overrides the detected mode. ``base_stations`` and ``tpe`` name hosts by address, network or (base
    stations) MAC address. ``lrr_version`` ("2.8") decides whether rows apply that only newer stations use. A finding of
    severity ``fail_on`` or above fails the audit.

    Given keys, tshark decrypts the handshakes of TLS 1.3 and IKEv2 in a process of its own: ``tls_keylog`` is an
    SSLKEYLOGFILE, ``ike_keys`` Wireshark's ``ikev2_decryption_table``, and ``embedded_keys`` permits the use of the
    keys in pcapng files.

    Raises ``CaptureError`` for a file that is not a capture, or if tshark is needed and fails; ``RuleError`` for an
    invalid profile; ``UsageError`` for any other invalid argument. The last two are kinds of ``ValueError``.
    """
    tables = load_tables(profile, mode)
    deployment, named = Deployment(deployment), NamedHosts(tuple(base_stations), tuple(tpe))
    lrr = parse_version(lrr_version) if lrr_version is not None else None
    progress = progress or no_progress

    # capture files → flow table → conversations
    table, conversations = read_conversations(captures, tables, progress)
    conversations, keys = decrypt(conversations, table.captures, tls_keylog, ike_keys, embedded_keys)

    # conversations → base stations, modes, TPE → rows, or unexpected
    hosts = identify_hosts(conversations, tables, named, deployment, mode)
    conversations = conversations.without(capture_tunnels(conversations, hosts.stations))
    matching = progress("matching", len(hosts.stations), "base stations")
    matches = tuple(counted(match_stations(hosts, tables, table.timeline), matching))

    # rows → status; checks → findings
    unexpected = group_unexpected(matches, conversations)
    frames = count_frames(table, conversations, hosts, matches)
    unread = {address: found.unread_share for address, found in frames.items()}
    capture = table.captures, table.counts, table.timeline
    context = AuditContext(*capture, deployment, conversations, hosts, matches, unexpected, keys, table.strays, unread)
    row_findings = run_flow_checks(counted(matches, progress("judging", len(matches), "base stations")))
    row_findings += run_capture_checks(context, malformed=True)
    verdicts = judge(matches, deployment, malformed_flows(row_findings), lrr, hosts.tpe, unread)
    names = resolved_names(conversations) if unexpected else {}
    other_findings = run_capture_checks(replace(context, verdicts=verdicts, names=names), malformed=False)
    findings = in_report_order(merge_equal(row_findings, AGGREGATED) + other_findings)

    flow_rows, flow_stations = rows_by_flow(matches), stations_by_flow(hosts.conversations)
    return Audit(
        profile,
        deployment,
        table.captures,
        verdicts,
        findings,
        with_transfer_rows(conversations, flow_rows, tables),
        flow_rows,
        flow_stations,
        count_totals(table.counts, conversations, flow_stations),
        frames,
        fail_on,
    )


def list_flows(
    captures: CapturePath | Sequence[CapturePath],
    *,
    profile: str = expected.DEFAULT_PROFILE,
    progress: ProgressCallback | None = None,
) -> FlowListing:
    """List the flows of captures without judging them. Raises the exceptions of :func:`audit`."""
    table, conversations = read_conversations(captures, expected.load(profile), progress or no_progress)
    return FlowListing(table.captures, conversations.without(capture_tunnels(conversations)))


def crosscheck(captures: CapturePath | Sequence[CapturePath]) -> Crosscheck:
    """Compare flows, protocols and facts of captures with what tshark sees.

    Raises ``CaptureError`` for a file that this program or tshark cannot read, and if tshark cannot be run.
    """
    from analyzer.tshark.crosscheck import compare

    found = list_flows(captures)
    return compare(found.captures, found.conversations)


def load_tables(profile: str, mode: str | None) -> dict[str, ExpectedTable]:
    """The tables of a profile. Raises :class:`UsageError` if the profile has no table of the mode."""
    tables = expected.load(profile)
    if mode is not None and mode not in tables:
        raise UsageError(f"profile {profile} has no mode {mode!r}: it has {', '.join(tables)}")
    return tables


def read_conversations(
    captures: CapturePath | Sequence[CapturePath], tables: Mapping[str, ExpectedTable], progress: ProgressCallback
) -> tuple[Flows, Conversations]:
    """Read captures into the flow table, and dissect its flows."""
    paths = as_paths(captures)
    table = flows.read(paths, progress("reading", sum(map(file_size, paths)), "bytes"))
    conversations = dissect_flows(table, services(tables), progress("dissecting", len(table), "flows"))
    return table, identify_data_connections(conversations)


def decrypt(
    conversations: Conversations,
    captures: tuple[CaptureFile, ...],
    tls_keylog: CapturePath | None,
    ike_keys: CapturePath | None,
    embedded: bool,
) -> tuple[Conversations, tuple[KeyUse, ...]]:
    """Decrypt what the keys open. Without keys, no module that runs tshark is imported."""
    if tls_keylog is None and ike_keys is None and not embedded:
        return conversations, ()
    from analyzer.tshark import decryption

    keylog, table = (None if path is None else fspath(path) for path in (tls_keylog, ike_keys))
    found = decryption.decrypt(decryption.Keys(keylog, table, embedded), captures, conversations)
    return found.conversations, found.uses


def as_paths(captures: CapturePath | Sequence[CapturePath]) -> list[str]:
    """One path or several, as a list of text."""
    return [fspath(captures)] if isinstance(captures, (str, PathLike)) else [fspath(path) for path in captures]


def file_size(path: str) -> int:
    """Bytes of a file; 0 for standard input and for a file that cannot be read, as reading it raises the error."""
    try:
        file = pathlib.Path(path)
        return file.stat().st_size if file.is_file() else 0
    except OSError:
        return 0


def no_progress(*_: object) -> Progress:
    """A progress callback that does nothing."""
    return lambda done: None


def counted(values: Iterable[T], progress: Progress) -> Iterator[T]:
    """Iterate over values, and report each as one unit of work once it is done."""
    for value in values:
        yield value
        progress(1)
