"""The command line: arguments, streams and exit codes.

Reports go to standard output, everything else to standard error. Modules that are slow to import are imported where
they are used.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn, TypeVar, cast

if TYPE_CHECKING:
    from tqdm import tqdm

    from analyzer.flows import Progress
    from analyzer.reports import Format
    from analyzer.result import Audit, FlowListing

    R = TypeVar("R", Audit, FlowListing)

CLEAN, FOUND, USAGE, DEFECT = 0, 1, 2, 3
"""Exit codes: nothing found at or above ``--fail-on``; something found, or no base station recognised; wrong usage or
unreadable input; a defect of this program."""

EXAMPLES = """examples:
  tpe-pcap audit capture.pcap
  tpe-pcap audit *.pcap --base-station 10.0.0.2 --deployment ha --format json --output report.json
  tcpdump -w - | tpe-pcap audit -
  tpe-pcap diff before.json after.json
  tpe-pcap flows capture.pcap
  tpe-pcap rules tls
  tpe-pcap explain TPE101

'tpe-pcap COMMAND --help' shows the options and exit codes of a command.
"""

PAGES = {
    "audit": (
        """Recognise the base stations of a capture and their connection modes, compare their flows with the
vendor's table of the mode, and report what is missing, malformed, blocked or unexpected.
Several captures are read as one timeline.""",
        """exit codes:
  0  nothing found at or above --fail-on
  1  something found, or no base station recognised
  2  wrong usage, or a file that cannot be read as a capture
  3  a defect of this program

examples:
  tpe-pcap audit capture.pcap
  tpe-pcap audit --quiet capture.pcap && echo as expected
  tpe-pcap audit ring.*.pcap.gz --tpe 10.0.9.0/24 --deployment ha --lrr-version 2.8
  tpe-pcap audit capture.pcap --base-station 70:76:ff:00:aa:10 --mode tls --fail-on high
  tcpdump -i eth0 -w - | tpe-pcap audit - --format json --output report.json
""",
    ),
    "diff": (
        "Compare two JSON reports: which findings, rows and services are new, gone or different.",
        """exit codes:
  0  nothing new at or above --fail-on
  1  something new
  2  wrong usage, or a file that is not a report

examples:
  tpe-pcap audit monday.pcap --format json --output monday.json
  tpe-pcap diff monday.json tuesday.json
""",
    ),
    "flows": (
        "List every flow of a capture and the protocol of its content, without judging it.",
        """exit codes:
  0  the flows are listed
  2  wrong usage, or a file that cannot be read as a capture
  3  a defect of this program

examples:
  tpe-pcap flows capture.pcap
  tpe-pcap flows capture.pcap --format json | jq '.flows[] | select(.protocol == "tls").facts'
""",
    ),
    "crosscheck": (
        """Compare the flows, protocols and facts of a capture with those that tshark (which must be installed)
finds. Differences in which both are right are explained.""",
        """exit codes:
  0  both agree
  1  they differ
  2  wrong usage, a file that cannot be read as a capture, or no tshark
  3  a defect of this program

examples:
  tpe-pcap crosscheck capture.pcap
  tpe-pcap crosscheck capture.pcap --format json --output differences.json
""",
    ),
    "rules": (
        "Print the tables of expected flows that audits use.",
        """exit codes:
  0  the tables are printed
  2  wrong usage, or a profile that cannot be read

examples:
  tpe-pcap rules tls
  tpe-pcap rules --format json
  tpe-pcap rules --profile ./our-site
""",
    ),
    "explain": (
        "Show what a check flags, why it matters, what the evidence is, and what to do about it.",
        """exit codes:
  0  the check is explained
  2  there is no such check

examples:
  tpe-pcap explain
  tpe-pcap explain TPE121
  tpe-pcap explain wrong-protocol
""",
    ),
    "completion": (
        "Print a script that completes commands, options, formats, checks and files in a shell.",
        """exit codes:
  0  the script is printed
  2  wrong usage

examples:
  tpe-pcap completion bash > ~/.local/share/bash-completion/completions/tpe-pcap
  tpe-pcap completion zsh > ~/.zfunc/_tpe-pcap         (a folder of $fpath, before compinit)
  tpe-pcap completion fish > ~/.config/fish/completions/tpe-pcap.fish
""",
    ),
}
"""Command → beginning and end of its help."""


class Parser(argparse.ArgumentParser):
    """Reports errors on one line without control characters: arguments may be file names that somebody else chose."""

    def error(self, message: str) -> NoReturn:
        from analyzer.safetext import escape_text

        super().error(escape_text(message))


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    from analyzer.version import __version__

    top = Parser(
        prog="tpe-pcap",
        description="Audit captures of LoRaWAN base stations against the flows that ThingPark Enterprise expects.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"tpe-pcap {__version__}")
    commands = top.add_subparsers(prog="tpe-pcap", metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], short: str) -> argparse.ArgumentParser:
        description, epilog = PAGES[name]
        form = argparse.RawDescriptionHelpFormatter
        command = commands.add_parser(name, help=short, description=description, epilog=epilog, formatter_class=form)
        command.set_defaults(run=run)
        return command

    add_audit_options(add("audit", run_audit, "judge every base station of a capture against its mode's table"))
    add_diff_options(add("diff", run_diff, "what changed from one audit to another: two JSON reports"))
    add_flows_options(add("flows", run_flows, "list every flow of a capture with its protocol"))
    crosscheck = add("crosscheck", run_crosscheck, "compare flows and facts of a capture with what tshark sees")
    add_captures(crosscheck)
    add_format(crosscheck, ("text", "json"), "format of the comparison (text)")
    add_output(crosscheck)
    rules = add("rules", run_rules, "print the tables of expected flows")
    rules.add_argument("mode", nargs="?", metavar="MODE", help="ipsec, tls, plain or basics (all)")
    add_format(rules, ("text", "json"), "format of the tables (text)")
    add_output(rules)
    add_profile(rules)
    explain = add("explain", run_explain, "what a check flags, why, on what evidence, and what to do")
    explain.add_argument("check", nargs="?", metavar="CHECK", help="id or slug (list all)")
    completion = add("completion", run_completion, "print a script for completion in bash, zsh or fish")
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    return top


SHELLS = ("bash", "zsh", "fish")


def add_audit_options(audit: argparse.ArgumentParser) -> None:
    from analyzer.reports import FORMATS

    add_captures(audit)
    add_anonymize(audit)
    audit.add_argument(
        "--mode", metavar="MODE", help="judge by this table (ipsec, tls, plain, basics), not the detected one"
    )
    audit.add_argument(
        "--deployment",
        choices=("standalone", "ha"),
        default="standalone",
        help="deployment whose requirements apply (standalone)",
    )
    audit.add_argument(
        "--base-station",
        metavar="HOST",
        action="append",
        default=[],
        help="address, network or MAC address; repeatable",
    )
    audit.add_argument(
        "--tpe", metavar="HOST", action="append", default=[], help="address or network of TPE; repeatable"
    )
    audit.add_argument("--lrr-version", metavar="N.N", help="LRR version; decides which version-dependent rows apply")
    add_fail_on(audit, "exit with 1 from this severity on (medium)")
    keys = audit.add_argument_group("keys", "decryption keys (need tshark); never written to reports")
    keys.add_argument("--tls-keylog", metavar="FILE", help="SSLKEYLOGFILE: decrypts handshakes of TLS 1.3")
    keys.add_argument("--ike-keys", metavar="FILE", help="Wireshark's ikev2_decryption_table: decrypts IKE_AUTH")
    keys.add_argument("--embedded-keys", action="store_true", help="also use the TLS keys that a pcapng file carries")
    names = ", ".join(format_.name for format_ in FORMATS)
    audit.add_argument("--format", metavar="FORMAT", default="text", help=f"format of the report: {names} (text)")
    audit.add_argument(
        "--evidence", metavar="FILE", help="also write the cited packets to this file, as pcapng with comments"
    )
    add_output(audit)
    add_profile(audit)
    group = audit.add_mutually_exclusive_group()
    group.add_argument(
        "-q", "--quiet", action="store_true", help="print no report, only errors: the exit code gives the verdict"
    )
    add_verbose(group)


def add_diff_options(diff: argparse.ArgumentParser) -> None:
    diff.add_argument("old", metavar="OLD.json", help="written by audit --format json")
    diff.add_argument("new", metavar="NEW.json", help="likewise")
    add_fail_on(diff, "exit with 1 if something new is of this severity or above (medium)")
    add_format(diff, ("text", "json"), "format of the comparison (text)")
    add_output(diff)


def add_flows_options(flows: argparse.ArgumentParser) -> None:
    from analyzer.reports import FORMATS

    add_captures(flows)
    add_anonymize(flows)
    add_format(flows, [format_.name for format_ in FORMATS if format_.lists_flows], "format of the list (text)")
    add_output(flows)
    add_profile(flows)
    add_verbose(flows)


# -- options of several commands --------------------------------------------------------------------------------


def add_captures(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "captures", nargs="+", metavar="CAPTURE", help="pcap, pcapng or snoop, also compressed; - for standard input"
    )


def add_anonymize(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--anonymize",
        metavar="KEYFILE",
        help="replace addresses and names by pseudonyms derived from this file of 32 random bytes or more",
    )


def add_fail_on(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument("--fail-on", choices=("info", "low", "medium", "high"), default="medium", help=text)


def add_format(command: argparse.ArgumentParser, formats: Sequence[str], text: str) -> None:
    command.add_argument("--format", choices=formats, default="text", help=text)


def add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", metavar="FILE", help="write the report to this file, not to standard output")


def add_profile(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--profile",
        default="tpe-self-hosted",
        help="set of tables: a name, or a folder of .toml files (tpe-self-hosted)",
    )


def add_verbose(command: argparse._ActionsContainer) -> None:
    command.add_argument(
        "-v", "--verbose", action="store_true", help="print the time and amount of each stage to standard error"
    )


# -- commands ---------------------------------------------------------------------------------------------------


def run_audit(options: argparse.Namespace) -> int:
    from analyzer.expected import UsageError
    from analyzer.findings import Severity
    from analyzer.pipeline import audit
    from analyzer.reports import FORMATS

    formats = {format_.name: format_ for format_ in FORMATS}
    if options.format not in formats:
        raise UsageError(f"there is no format {options.format!r}: there are {', '.join(formats)}")
    report = formats[options.format]
    refuse_terminal(report, options.output)
    refuse_overwrite(options.captures, options.output)
    if options.evidence is not None:
        from analyzer.export import evidence

        if options.anonymize is not None:
            raise UsageError("--evidence writes packets as they are: it cannot be had with --anonymize")
        evidence.check_paths(options.captures, options.evidence, options.output)
    anonymize = anonymizer(options.anonymize)
    with show_progress(options.verbose, options.quiet) as progress:
        result = audit(
            options.captures,
            profile=options.profile,
            deployment=options.deployment,
            mode=options.mode,
            base_stations=options.base_station,
            tpe=options.tpe,
            lrr_version=options.lrr_version,
            fail_on=Severity[options.fail_on.upper()],
            tls_keylog=options.tls_keylog,
            ike_keys=options.ike_keys,
            embedded_keys=options.embedded_keys,
            progress=progress,
        )
        progress("writing", 0, "the report")
        if options.output is not None or not options.quiet:
            shown = anonymize(result)
            write_report(options.output, lambda colour: report.pieces(shown, colour))
        if options.evidence is not None:
            with atomic_write(Path(options.evidence)) as file:
                left_out = evidence.write(result, file)
            if left_out:
                print(f"tpe-pcap: {options.evidence}: {left_out:,} cited packets are left out", file=sys.stderr)
    if any(finding.check == "TPE900" for finding in result.findings):
        return DEFECT
    return FOUND if result.fails() else CLEAN


def run_diff(options: argparse.Namespace) -> int:
    from analyzer.export.diff import compare, load
    from analyzer.reports import difference

    found = compare(load(options.old), load(options.new))
    render = difference.render_json if options.format == "json" else difference.render_text
    write_report(options.output, lambda _: [render(found)])
    return FOUND if found.fails(options.fail_on) else CLEAN


def run_flows(options: argparse.Namespace) -> int:
    from analyzer.pipeline import list_flows
    from analyzer.reports import FORMATS

    report = next(format_ for format_ in FORMATS if options.format == format_.name)
    refuse_terminal(report, options.output)
    refuse_overwrite(options.captures, options.output)
    anonymize = anonymizer(options.anonymize)
    with show_progress(options.verbose) as progress:
        found = anonymize(list_flows(options.captures, profile=options.profile, progress=progress))
        progress("writing", 0, "the list")
        write_report(options.output, lambda _: report.flow_pieces(found.captures, found.conversations))
    return CLEAN


def run_crosscheck(options: argparse.Namespace) -> int:
    from analyzer.pipeline import crosscheck
    from analyzer.reports import crosscheck as report

    refuse_overwrite(options.captures, options.output)
    with show_progress(verbose=False):
        found = crosscheck(options.captures)
    render = report.render_json if options.format == "json" else report.render_text
    write_report(options.output, lambda _: [render(found)])
    return CLEAN if found.agrees else FOUND


def run_rules(options: argparse.Namespace) -> int:
    from analyzer import expected
    from analyzer.reports import rules

    tables = expected.load(options.profile)
    if options.mode is not None and options.mode not in tables:
        raise expected.UsageError(f"profile {options.profile} has no mode {options.mode!r}: it has {', '.join(tables)}")
    render = rules.render_json if options.format == "json" else rules.render_text
    write_report(options.output, lambda _: [render(tables, options.mode)])
    return CLEAN


def run_completion(options: argparse.Namespace) -> int:
    import shtab

    from analyzer import checks, expected
    from analyzer.reports import FORMATS

    words = {
        "CHECK": [name for check in checks.CHECKS for name in (check.id, check.slug)],
        "FORMAT": [format_.name for format_ in FORMATS],
        "MODE": list(expected.load(expected.DEFAULT_PROFILE)),
    }
    top = parser()
    for command in commands_of(top).values():
        for action in command._actions:
            name = action.metavar if isinstance(action.metavar, str) else ""
            if name in FILE_METAVARS:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif action.choices is None:
                action.choices = words.get(name)
    script = shtab.complete(top, options.shell)
    write_report(None, lambda _: [script])
    return CLEAN


FILE_METAVARS = ("CAPTURE", "FILE", "KEYFILE", "OLD.json", "NEW.json")
"""Placeholders for file names in the help."""


def commands_of(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Name of a command → its parser."""
    return next(dict(action.choices) for action in top._actions if isinstance(action, argparse._SubParsersAction))


def run_explain(options: argparse.Namespace) -> int:
    from analyzer import checks
    from analyzer.expected import UsageError
    from analyzer.reports import explain

    if options.check is None:
        write_report(None, lambda _: [explain.render_catalogue(checks.CHECKS)])
        return CLEAN
    check = checks.find(options.check)
    if check is None:
        raise UsageError(f"there is no check {options.check!r}: 'tpe-pcap explain' lists all")
    write_report(None, lambda _: [explain.render_check(check)])
    return CLEAN


def anonymizer(keyfile: str | None) -> Callable[[R], R]:
    """A function that anonymises a result with the key in a file; without a file, one that returns it unchanged.

    The key is reusable, so the same captures give the same report and several reports can be compared. It is not an
    argument itself, because process lists show those. Raises ``UsageError`` for a key that is too short.
    """
    if keyfile is None:
        return lambda result: result
    from analyzer.export.anonymize import anonymous, check_key

    key = Path(keyfile).read_bytes()
    check_key(key)
    return lambda result: anonymous(result, key)


# -- streams ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def show_progress(verbose: bool, quiet: bool = False) -> Iterator[Stages]:
    """Show the stages of a command on standard error; ``verbose``: also their times."""
    from analyzer.scanner import kernels

    if not quiet and not kernels.LIBRARY.ready():
        print("tpe-pcap: compiling the scanner for this machine, once: some ten seconds", file=sys.stderr)
    stages = Stages(bars=not quiet and sys.stderr.isatty(), lines=verbose)
    try:
        yield stages
    except BaseException:
        stages.close(finished=False)
        raise
    stages.close()
    if verbose and kernels.LIBRARY.fallback is not None:
        reason = kernels.LIBRARY.fallback
        print(f"tpe-pcap: plain numba runs the scanner, which starts more slowly: {reason}", file=sys.stderr)


class Stages:
    """Shows a progress bar for each slow stage, and a line with its time when it ends.

    An instance is a :data:`~analyzer.pipeline.ProgressCallback`.
    """

    def __init__(self, bars: bool, lines: bool) -> None:
        self.bars = bars
        self.lines = lines
        self.bar: tqdm[NoReturn] | None = None
        self.stage: tuple[str, float] | None = None
        """Description of the current stage, and when it began."""

    def __call__(self, name: str, total: int, unit: str) -> Progress:
        """Begin the next stage."""
        self.close()
        self.stage = f"{name} {total:,} {unit}" if total else f"{name} {unit}", time.perf_counter()
        if not self.bars or total < BAR_FROM.get(unit, sys.maxsize):
            return lambda done: None
        from tqdm import tqdm

        short = "B" if unit == "bytes" else f" {unit}"
        self.bar = tqdm(desc=name, total=total, unit=short, unit_scale=True, leave=False, file=sys.stderr)
        return self.bar.update

    def close(self, finished: bool = True) -> None:
        """End the current stage."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        if self.stage is not None and self.lines and finished:
            description, began = self.stage
            print(f"tpe-pcap: {description}: {time.perf_counter() - began:.2f} s", file=sys.stderr)
        self.stage = None


BAR_FROM = {"bytes": 64 << 20, "flows": 20_000, "base stations": 200}
"""Amounts from which a stage is slow enough for a bar."""


def refuse_overwrite(paths: Sequence[str], output: str | None) -> None:
    """Raise ``UsageError`` if the report would overwrite one of the captures."""
    from analyzer.expected import UsageError

    target = None if output is None else Path(output)
    if target is not None and target.is_file():
        for path in map(Path, paths):
            if path.is_file() and path.samefile(target):
                raise UsageError(f"{output}: is a capture to be read, and --output would replace it")


def refuse_terminal(format_: Format, output: str | None) -> None:
    """Raise ``UsageError`` if a binary report would go to a terminal."""
    from analyzer.expected import UsageError

    if format_.binary and output is None and sys.stdout.isatty():
        raise UsageError(f"{format_.name} is binary, and standard output is a terminal: name a file with --output")


def write_report(path: str | None, pieces: Callable[[bool], Iterable[str] | Iterable[bytes]]) -> None:
    """Write a report to a file, atomically, or to standard output. ``pieces`` takes whether to use colours."""
    if path is not None:
        with atomic_write(Path(path)) as file:
            file.writelines(piece.encode() if isinstance(piece, str) else piece for piece in pieces(False))
        return
    for piece in pieces(sys.stdout.isatty() and not os.environ.get("NO_COLOR")):
        if isinstance(piece, str):
            sys.stdout.write(piece)
        else:
            sys.stdout.buffer.write(piece)
    sys.stdout.flush()


@contextlib.contextmanager
def atomic_write(target: Path) -> Iterator[BinaryIO]:
    """A file that replaces ``target`` when it is complete; after an error nothing has changed.

    It is written to a temporary file in the same folder. A symbolic link is replaced and never followed, because
    somebody else may have chosen its target. Devices and pipes are written to directly, and so are links such as
    ``/dev/stdout``, even where it leads to a file.
    """
    if target.exists() and (not target.is_file() or target.is_relative_to("/dev")):
        with target.open("wb") as device:
            yield device
        return
    import tempfile

    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        try:
            yield cast(BinaryIO, file)
            os.fchmod(file.fileno(), 0o666 & ~umask())
            Path(file.name).replace(target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def umask() -> int:
    """The file mode creation mask of the process, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


# -- exit codes -------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code."""
    try:
        return execute(arguments)
    except KeyboardInterrupt:  # also while modules are imported
        exit_interrupted()


def execute(arguments: Sequence[str] | None) -> int:
    """Run the command, print one line for an error, and return the exit code."""
    with contextlib.suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    try:
        options = parser().parse_args(arguments)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else USAGE
    # numpy's linear algebra, which is never used, would start a thread per core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Imported where the stack is shallow. Deep in a chain of imports, calls may cross the edge of a chunk of Python's
    # stack, which is then mapped and unmapped each time: importing numpy takes 10 ms longer.
    import numpy  # noqa: F401

    from analyzer.capture import CaptureError
    from analyzer.expected import UsageError

    try:
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except (CaptureError, UsageError) as error:
        return usage_error(error)
    except BrokenPipeError:
        # The reader of the report is gone; let Python's flush at exit write to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLEAN
    except OSError as error:
        return usage_error(f"{error.filename}: {(error.strerror or str(error)).lower()}" if error.filename else error)
    except Exception as error:
        return internal_error(error)


def run() -> NoReturn:
    """Run the command as a process, which exits as soon as everything is written, without freeing its memory."""
    # The process ends after one audit. Garbage collection would search all flows for cycles and double the time.
    gc.disable()
    code = main()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def usage_error(reason: object) -> int:
    """Print the reason on one line, and return the exit code."""
    from analyzer.safetext import escape_text

    print(f"tpe-pcap: {escape_text(str(reason))}", file=sys.stderr)
    return USAGE


def internal_error(error: Exception) -> int:
    """Print a defect of this program with its place, and return the exit code; raise it if tracebacks are enabled."""
    if os.environ.get("TPE_PCAP_TRACEBACK"):
        raise error
    import traceback

    from analyzer.safetext import escape_text

    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    reason = escape_text(" ".join(str(error).split()))
    print(f"tpe-pcap: defect of this program at {where}: {type(error).__name__}: {reason}", file=sys.stderr)
    print("tpe-pcap: set TPE_PCAP_TRACEBACK=1 for the details, and please report it", file=sys.stderr)
    return DEFECT


def exit_interrupted() -> NoReturn:
    """End the process by SIGINT, so that a shell loop around it ends too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    raise SystemExit(130)
