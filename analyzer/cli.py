"""The command line: arguments, streams and exit codes; nothing else.

Exit codes: 0 nothing found at or above ``--fail-on`` · 1 something found, or no base station recognised · 2 wrong
usage or unreadable input · 3 a defect of this program. The report goes to standard output, all else to standard
error. Modules that are slow to import are imported where they are used.
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
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, TypeVar, cast

if TYPE_CHECKING:
    from tqdm import tqdm

    from analyzer.flows import Progress
    from analyzer.reports import Format
    from analyzer.result import Audit, FlowListing

    R = TypeVar("R", Audit, FlowListing)

CLEAN, FOUND, USAGE, DEFECT = 0, 1, 2, 3

EXAMPLES = """examples:
  tpe-pcap audit capture.pcap
  tpe-pcap audit *.pcap --base-station 10.0.0.2 --deployment ha --format json --output report.json
  tcpdump -w - | tpe-pcap audit -
  tpe-pcap diff before.json after.json
  tpe-pcap flows capture.pcap
  tpe-pcap rules tls
  tpe-pcap explain TPE101

'tpe-pcap COMMAND --help' tells a command's options and exit codes.
"""

PAGES = {
    "audit": (
        """Recognise the base stations of a capture and the mode that each lives by, compare its flows with the
vendor's table of that mode, and report what is missing, malformed, blocked or unexpected.
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
        "Compare two reports in JSON: which findings, rows and services are new, gone or otherwise.",
        """exit codes:
  0  nothing new at or above --fail-on
  1  something new
  2  wrong usage, or a file that is no report

examples:
  tpe-pcap audit monday.pcap --format json --output monday.json
  tpe-pcap diff monday.json tuesday.json
""",
    ),
    "flows": (
        "List every flow of a capture with what its content is, without judging it.",
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
        """Compare what this program and tshark, which has to be installed, see in a capture: flows, protocols
and facts. Differences in which both are right are said to be so, and why.""",
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
        "Print the tables of expected flows by which audits judge.",
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
        "Say what a check flags, why that matters, on what evidence, and what to do about it.",
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
"""Of each command: what its help begins and ends with."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong with arguments, which may be names of files that a stranger chose, on one harmless line."""

    def error(self, message: str) -> NoReturn:
        from analyzer.safetext import escape_text

        super().error(escape_text(message))


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from analyzer.reports import FORMATS
    from analyzer.version import __version__

    top = Parser(
        prog="tpe-pcap",
        description="Audit captures of LoRaWAN base stations against the flows that ThingPark Enterprise expects.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"tpe-pcap {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    audit = commands.add_parser(
        "audit", help="judge every base station of a capture against its mode's table", **page("audit")
    )
    captures(audit)
    anonymize_option(audit)
    audit.add_argument(
        "--mode", metavar="MODE", help="judge by this table (ipsec, tls, plain, basics), not the detected one"
    )
    audit.add_argument(
        "--deployment", choices=("standalone", "ha"), default="standalone", help="which requirements count (standalone)"
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
    audit.add_argument("--lrr-version", metavar="N.N", help="settles rows that only newer base stations use")
    fail_option(audit, "exit with 1 from this severity on (medium)")
    keys = audit.add_argument_group("keys", "with which tshark, if it is installed, decrypts; they appear nowhere")
    keys.add_argument("--tls-keylog", metavar="FILE", help="SSLKEYLOGFILE: opens the handshakes of TLS 1.3")
    keys.add_argument("--ike-keys", metavar="FILE", help="Wireshark's ikev2_decryption_table: opens IKE_AUTH")
    keys.add_argument("--embedded-keys", action="store_true", help="also use the TLS keys that a pcapng file carries")
    formats = ", ".join(each.name for each in FORMATS)
    audit.add_argument("--format", metavar="FORMAT", default="text", help=f"of the report: {formats} (text)")
    audit.add_argument(
        "--evidence", metavar="FILE", help="also write the packets that findings cite there, as pcapng with comments"
    )
    report_options(audit)
    talk_options(audit, quiet=True)
    audit.set_defaults(run=run_audit)

    diff = commands.add_parser(
        "diff", help="what changed from one audit to another: two reports in JSON", **page("diff")
    )
    diff.add_argument("old", metavar="OLD.json", help="written by audit --format json")
    diff.add_argument("new", metavar="NEW.json", help="likewise")
    fail_option(diff, "exit with 1 if something new is of this severity or above (medium)")
    diff.add_argument("--format", choices=("text", "json"), default="text", help="of the comparison (text)")
    output_option(diff)
    diff.set_defaults(run=run_diff)

    flows = commands.add_parser("flows", help="list every flow of a capture with its protocol", **page("flows"))
    captures(flows)
    anonymize_option(flows)
    formats_of_flows = [each.name for each in FORMATS if each.lists_flows]
    flows.add_argument("--format", choices=formats_of_flows, default="text", help="of the list (text)")
    report_options(flows)
    talk_options(flows, quiet=False)
    flows.set_defaults(run=run_flows)

    crosscheck = commands.add_parser(
        "crosscheck", help="compare flows and facts of a capture with what tshark sees", **page("crosscheck")
    )
    captures(crosscheck)
    crosscheck.add_argument("--format", choices=("text", "json"), default="text", help="of the comparison (text)")
    output_option(crosscheck)
    crosscheck.set_defaults(run=run_crosscheck)

    rules = commands.add_parser("rules", help="print the tables of expected flows", **page("rules"))
    rules.add_argument("mode", nargs="?", metavar="MODE", help="ipsec, tls, plain or basics (all)")
    rules.add_argument("--format", choices=("text", "json"), default="text", help="of the tables (text)")
    report_options(rules)
    rules.set_defaults(run=run_rules)

    explain = commands.add_parser(
        "explain", help="what a check flags, why, on what evidence, and what to do", **page("explain")
    )
    explain.add_argument("check", nargs="?", metavar="CHECK", help="id or slug (list all)")
    explain.set_defaults(run=run_explain)

    completion = commands.add_parser(
        "completion", help="print a script for completion in bash, zsh or fish", **page("completion")
    )
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    completion.set_defaults(run=run_completion)
    return top


SHELLS = ("bash", "zsh", "fish")


def page(command: str) -> dict[str, Any]:
    """What a command's help says around its options."""
    description, epilog = PAGES[command]
    return {"description": description, "epilog": epilog, "formatter_class": argparse.RawDescriptionHelpFormatter}


def talk_options(command: argparse.ArgumentParser, quiet: bool) -> None:
    """How much a command says beside its report."""
    group = command.add_mutually_exclusive_group()
    if quiet:
        group.add_argument(
            "-q", "--quiet", action="store_true", help="print no report, only errors: the exit code tells the verdict"
        )
    group.add_argument(
        "-v", "--verbose", action="store_true", help="tell on standard error what each stage took, and of how much"
    )


def captures(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "captures", nargs="+", metavar="CAPTURE", help="pcap, pcapng or snoop, also compressed; - for standard input"
    )


def anonymize_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--anonymize",
        metavar="KEYFILE",
        help="replace addresses and names by pseudonyms that follow from this file's 32 random bytes or more",
    )


def fail_option(command: argparse.ArgumentParser, said: str) -> None:
    command.add_argument("--fail-on", choices=("info", "low", "medium", "high"), default="medium", help=said)


def output_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", metavar="FILE", help="write the report there, not to standard output")


def report_options(command: argparse.ArgumentParser) -> None:
    """Options of every command that reports by a profile."""
    output_option(command)
    command.add_argument(
        "--profile",
        default="tpe-self-hosted",
        help="set of tables: a name, or a folder of .toml files (tpe-self-hosted)",
    )


# -- commands ---------------------------------------------------------------------------------------------------


def run_audit(options: argparse.Namespace) -> int:
    from analyzer.expected import UsageError
    from analyzer.findings import Severity
    from analyzer.pipeline import audit
    from analyzer.reports import FORMATS

    rendered = next((each for each in FORMATS if options.format == each.name), None)
    if rendered is None:
        raise UsageError(f"there is no format {options.format!r}: there are {', '.join(each.name for each in FORMATS)}")
    keep_from_terminals(rendered, options.output)
    keep_captures(options.captures, options.output)
    if options.evidence is not None:
        from analyzer.export import evidence

        if options.anonymize is not None:
            raise UsageError("--evidence writes packets as they are: it cannot be had with --anonymize")
        evidence.check_paths(options.captures, options.evidence, options.output)
    shareable = anonymizer(options.anonymize)
    with progress(options.verbose, options.quiet) as told:
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
            progress=told,
        )
        told("writing", 0, "the report")
        if options.output is not None or not options.quiet:
            shown = shareable(result)
            deliver(options.output, lambda colour: rendered.pieces(shown, colour))
        if options.evidence is not None:
            with whole(Path(options.evidence)) as file:
                left = evidence.write(result, file)
            if left:
                print(f"tpe-pcap: {options.evidence}: {left:,} cited packets are left out", file=sys.stderr)
    if any(finding.check == "TPE900" for finding in result.findings):
        return DEFECT
    return FOUND if result.fails() else CLEAN


def run_diff(options: argparse.Namespace) -> int:
    from analyzer.export.diff import compare, load
    from analyzer.reports import difference

    found = compare(load(options.old), load(options.new))
    render = difference.render_json if options.format == "json" else difference.render_text
    deliver(options.output, lambda _: [render(found)])
    return FOUND if found.fails(options.fail_on) else CLEAN


def run_flows(options: argparse.Namespace) -> int:
    from analyzer.pipeline import list_flows
    from analyzer.reports import FORMATS

    rendered = next(each for each in FORMATS if options.format == each.name)
    keep_from_terminals(rendered, options.output)
    keep_captures(options.captures, options.output)
    shareable = anonymizer(options.anonymize)
    with progress(options.verbose) as told:
        found = shareable(list_flows(options.captures, profile=options.profile, progress=told))
        told("writing", 0, "the list")
        deliver(options.output, lambda _: rendered.flow_pieces(found.captures, found.conversations))
    return CLEAN


def run_crosscheck(options: argparse.Namespace) -> int:
    from analyzer.pipeline import crosscheck
    from analyzer.reports import crosscheck as report

    keep_captures(options.captures, options.output)
    with progress(verbose=False):
        found = crosscheck(options.captures)
    render = report.render_json if options.format == "json" else report.render_text
    deliver(options.output, lambda _: [render(found)])
    return CLEAN if found.agrees else FOUND


def run_rules(options: argparse.Namespace) -> int:
    from analyzer import expected
    from analyzer.reports import rules

    tables = expected.load(options.profile)
    if options.mode is not None and options.mode not in tables:
        raise expected.UsageError(f"profile {options.profile} has no mode {options.mode!r}: it has {', '.join(tables)}")
    render = rules.render_json if options.format == "json" else rules.render_text
    deliver(options.output, lambda _: [render(tables, options.mode)])
    return CLEAN


def run_completion(options: argparse.Namespace) -> int:
    import shtab

    from analyzer import checks, expected
    from analyzer.reports import FORMATS

    known = {
        "CHECK": [name for check in checks.CHECKS for name in (check.id, check.slug)],
        "FORMAT": [report.name for report in FORMATS],
        "MODE": list(expected.load(expected.DEFAULT_PROFILE)),
    }
    top = parser()
    for command in commands_of(top).values():
        for action in command._actions:
            name = action.metavar if isinstance(action.metavar, str) else ""
            if name in FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif action.choices is None:
                action.choices = known.get(name)
    script = shtab.complete(top, options.shell)
    deliver(None, lambda _: [script])
    return CLEAN


FILES = ("CAPTURE", "FILE", "KEYFILE", "OLD.json", "NEW.json")
"""What stands in the help for a name of a file."""


def commands_of(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of all commands by name."""
    return next(dict(action.choices) for action in top._actions if isinstance(action, argparse._SubParsersAction))


def run_explain(options: argparse.Namespace) -> int:
    from analyzer import checks
    from analyzer.expected import UsageError
    from analyzer.reports import explain

    if options.check is None:
        deliver(None, lambda _: [explain.render_catalogue(checks.CHECKS)])
        return CLEAN
    check = checks.find(options.check)
    if check is None:
        raise UsageError(f"there is no check {options.check!r}: 'tpe-pcap explain' lists all")
    deliver(None, lambda _: [explain.render_check(check)])
    return CLEAN


def anonymizer(keyfile: str | None) -> Callable[[R], R]:
    """What makes a result shareable under the key in a file; without one, what leaves it as it is.

    The key comes from a file, so that the same captures give the same report and several reports fit together, and it
    is no argument, which every process list would show. ``UsageError`` for a key that is none, before anything is read.
    """
    if keyfile is None:
        return lambda result: result
    from analyzer.export.anonymize import anonymous, checked

    key = checked(Path(keyfile).read_bytes())
    return lambda result: anonymous(result, key)


# -- streams ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def progress(verbose: bool, quiet: bool = False) -> Iterator[Stages]:
    """What the user sees of the stages of a command, on standard error."""
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
    """One stage after the other: a bar while one takes time, on a terminal only; a line behind each, if wanted.

    It is what :func:`analyzer.pipeline.audit` takes for ``progress``.
    """

    def __init__(self, bars: bool, lines: bool) -> None:
        self.bars = bars
        self.lines = lines
        self.bar: tqdm[NoReturn] | None = None
        self.stage: tuple[str, float] | None = None
        """What the stage does, and when it began."""

    def __call__(self, does: str, total: int, unit: str) -> Progress:
        """The next stage begins."""
        self.close()
        self.stage = f"{does} {total:,} {unit}" if total else f"{does} {unit}", time.perf_counter()
        if not self.bars or total < SLOW.get(unit, sys.maxsize):
            return lambda done: None
        from tqdm import tqdm

        short = "B" if unit == "bytes" else f" {unit}"
        self.bar = tqdm(desc=does, total=total, unit=short, unit_scale=True, leave=False, file=sys.stderr)
        return self.bar.update

    def close(self, finished: bool = True) -> None:
        """The stage is over."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        if self.stage is not None and self.lines and finished:
            does, began = self.stage
            print(f"tpe-pcap: {does}: {time.perf_counter() - began:.2f} s", file=sys.stderr)
        self.stage = None


SLOW = {"bytes": 64 << 20, "flows": 20_000, "base stations": 200}
"""How much of each a stage does without a bar."""


def keep_captures(paths: Sequence[str], output: str | None) -> None:
    """Refuse to put a report in the place of a capture that it is about, before any is read."""
    from analyzer.expected import UsageError

    target = None if output is None else Path(output)
    if target is not None and target.is_file():
        for path in map(Path, paths):
            if path.is_file() and path.samefile(target):
                raise UsageError(f"{output}: is a capture to be read, and --output would replace it")


def keep_from_terminals(format_: Format, output: str | None) -> None:
    """Refuse to write a binary format to a terminal, before any capture is read."""
    from analyzer.expected import UsageError

    if format_.binary and output is None and sys.stdout.isatty():
        raise UsageError(f"{format_.name} is binary, and standard output is a terminal: name a file with --output")


def deliver(path: str | None, pieces: Callable[[bool], Iterable[str] | Iterable[bytes]]) -> None:
    """Write a report to standard output, or to a file: wholly or not at all. ``pieces`` is asked with colour or not."""
    if path is not None:
        with whole(Path(path)) as file:
            file.writelines(piece.encode() if isinstance(piece, str) else piece for piece in pieces(False))
        return
    for piece in pieces(sys.stdout.isatty() and not os.environ.get("NO_COLOR")):
        if isinstance(piece, str):
            sys.stdout.write(piece)
        else:
            sys.stdout.buffer.write(piece)
    sys.stdout.flush()


@contextlib.contextmanager
def whole(target: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of an older one once all is written; after an error nothing has changed.

    The file is written under a name of its own beside ``target``, which it then replaces. A symbolic link there is
    replaced as well, and never followed: what it leads to may be somebody else's choice. Devices and pipes, also behind
    links like ``/dev/stdout``, are written to.
    """
    if target.exists() and not target.is_file():  # a device or a pipe is written to, never replaced
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
    """The process's file mode creation mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    try:
        return perform(arguments)
    except KeyboardInterrupt:  # also while modules are imported
        interrupted()


def perform(arguments: Sequence[str] | None) -> int:
    """Run the command, with a line for what goes wrong; returns the exit code."""
    with contextlib.suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    try:
        options = parser().parse_args(arguments)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else USAGE
    # Numpy's linear algebra, which nothing here needs, would start a thread for every core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from analyzer.capture import CaptureError
    from analyzer.expected import UsageError

    try:
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except (CaptureError, UsageError) as error:
        return complain(error)
    except BrokenPipeError:
        # Whoever read the report has seen enough; nothing more can be written, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLEAN
    except OSError as error:
        return complain(f"{error.filename}: {(error.strerror or str(error)).lower()}" if error.filename else error)
    except Exception as error:
        return confess(error)


def run() -> NoReturn:
    """The command as a process: once all is written it ends at once, without freeing what it holds object by object."""
    # One audit, then the process ends: looking for reference cycles among all flows would cost half of the time.
    gc.disable()
    code = main()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def complain(reason: object) -> int:
    from analyzer.safetext import escape_text

    print(f"tpe-pcap: {escape_text(str(reason))}", file=sys.stderr)
    return USAGE


def confess(error: Exception) -> int:
    """A defect of this program: said in one line, with the place; the traceback only for who asks for it."""
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


def interrupted() -> NoReturn:
    """End as a process does that was interrupted, so that a shell loop around it ends too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    raise SystemExit(130)
