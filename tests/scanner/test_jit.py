"""Kernels: compiled once, loaded from a trusted file without the compiler, and run by plain numba where that fails."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from analyzer.scanner import jit, kernels
from analyzer.scanner.columns import FLOW
from analyzer.scanner.jit import KernelError, Library
from tests import samples

ROOT = Path(__file__).parents[2]
CAPTURE = samples.capture("tls-http-on-3001")

SOURCE = """
import numpy as np

from analyzer.scanner.jit import Integer, Library
from parts import weight

ITEM = np.dtype([("tag", np.uint8), ("value", np.int64), ("pair", np.int32, 2)])
LIBRARY = Library(__file__)

big16, little32, big64 = Integer(2, True), Integer(4, False), Integer(8, True)


@LIBRARY.kernel(ITEM, int)
def total(items, count):
    found = 0
    for index in range(count):
        found += weight(items[index])
    return found


@LIBRARY.kernel(np.uint8, int)
def fill(target, value):
    for index in range(len(target)):
        target[index] = value
    return len(target)


@LIBRARY.kernel(int, int)
def divide(one, two):
    return one // two


@LIBRARY.kernel(np.uint8, int, int)
def integer(data, offset, size):
    if size == 2:
        return big16(data, offset)
    if size == 4:
        return little32(data, offset)
    return np.int64(big64(data, offset) >> np.uint64(1))
"""

PARTS = """
from analyzer.scanner.jit import compiled

FACTOR = 2


@compiled
def weight(item):
    return item.value * FACTOR + item.pair[1]
"""
"""A module from which the kernels' module imports."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The cache file of the kernels: compiling takes seconds, so most tests start from it."""
    folder = tmp_path_factory.mktemp("compiled")
    module = load(folder)
    assert not module.LIBRARY.ready()
    assert module.divide(7, 2) == 3
    assert module.LIBRARY.fallback is None
    return cache_file(folder).read_bytes()


@pytest.fixture
def folder(tmp_path: Path, compiled: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the sources and the cache file of their kernels."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache = tmp_path / "__pycache__"
    cache.mkdir(mode=0o755)
    name, _ = load(tmp_path).LIBRARY.name_and_key()
    (cache / name).write_bytes(compiled)
    (cache / name).chmod(0o644)
    return tmp_path


def load(folder: Path, source: str = SOURCE, parts: str = PARTS) -> Any:
    """The kernels' module anew, as another process would import it."""
    sys.modules["parts"] = module_from(folder / "parts.py", parts)
    return module_from(folder / "source.py", source)


def module_from(path: Path, source: str) -> ModuleType:
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cache_file(folder: Path) -> Path:
    (file,) = folder.glob("**/*.kernels")
    return file


def ready(folder: Path, source: str = SOURCE, parts: str = PARTS) -> bool:
    return bool(load(folder, source, parts).LIBRARY.ready())


def items(count: int) -> Any:
    array = np.zeros(count, [("tag", np.uint8), ("value", np.int64), ("pair", np.int32, 2)])
    array["value"] = np.arange(count)
    array["pair"][:, 1] = 1
    return array


# -- calling ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["machine code", "plain numba"])
def module(request: pytest.FixtureRequest, folder: Path) -> Any:
    """The kernels, run in each of the two ways."""
    module = load(folder)
    if request.param == "plain numba":
        module.LIBRARY.write(jit.PLAIN + b"a test")
    assert module.LIBRARY.ready()
    assert (module.LIBRARY.fallback is None) == (request.param == "machine code")
    return module


def test_kernels_compute(module: Any) -> None:
    assert module.total(items(10), 10) == 100
    assert module.total(items(10), np.int64(4)) == 16
    assert module.divide(-7, 2) == -4
    assert module.divide(1 << 40, -1) == -(1 << 40)


def test_integers_are_read_at_any_offset_and_nowhere_else(module: Any) -> None:
    data = np.frombuffer(bytearray(range(0xF0, 0x100)), np.uint8)
    for size, order, shift in ((2, "big", 0), (4, "little", 0), (8, "big", 1)):
        for offset in range(16 - size + 1):
            expected = int.from_bytes(data[offset : offset + size].tobytes(), order) >> shift
            assert module.integer(data, offset, size) == expected
        for offset in (-1, 16 - size + 1, 1 << 40):
            with pytest.raises(KernelError, match="integer failed"):
                module.integer(data, offset, size)


def test_arrays_may_be_replaced_between_calls(module: Any) -> None:
    for size in (1, 1000, 3, 100_000, 0):
        target = np.zeros(size, np.uint8)
        assert module.fill(target, size & 0xFF) == size
        assert (target == size & 0xFF).all()
        del target
        gc.collect()


def test_an_array_cannot_be_moved_once_a_kernel_knows_its_address(folder: Path) -> None:
    module = load(folder)
    target = np.zeros(10, np.uint8)
    module.fill(target, 1)
    with pytest.raises(ValueError, match="resize"):
        target.resize(1 << 20)


def test_arrays_are_not_kept_alive(module: Any) -> None:
    target = np.zeros(10, np.uint8)
    module.fill(target, 1)
    alive = weakref.ref(target)
    del target
    assert alive() is None


@pytest.mark.parametrize("count", [11, 1 << 40])
def test_an_index_out_of_bounds_raises(module: Any, count: int) -> None:
    with pytest.raises(KernelError, match="total failed"):
        module.total(items(10), count)
    assert module.total(items(10), 10) == 100


def test_a_division_by_zero_raises(module: Any) -> None:
    with pytest.raises(KernelError, match="divide failed"):
        module.divide(1, 0)


def read_only() -> Any:
    array = np.zeros(8, np.uint8)
    array.flags.writeable = False
    return array


UNSUITABLE = [
    np.zeros(8, np.int8),
    np.zeros(8, np.uint16),
    np.zeros((2, 4), np.uint8),
    np.zeros((), np.uint8),
    np.zeros(8, np.uint8)[::2],
    np.zeros(8, np.uint8)[::-1],
    read_only(),
]


def test_unsuitable_arrays_are_refused(module: Any) -> None:
    for array in UNSUITABLE:
        with pytest.raises(TypeError, match="contiguous, writable row of uint8"):
            module.fill(array, 1)


@pytest.mark.parametrize("arguments", [(), (1,), (1, 2, 3)])
def test_a_wrong_number_of_arguments_is_refused(folder: Path, arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="zip"):
        load(folder).divide(*arguments)


def test_threads_share_a_kernel(module: Any) -> None:
    wrong = []

    def run(value: int) -> None:
        for size in range(300):
            target = np.zeros(size, np.uint8)
            if module.fill(target, value) != size or not (target == value).all():
                wrong.append(size)

    threads = [threading.Thread(target=run, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# -- trust ------------------------------------------------------------------------------------------------------


def test_the_cache_file_is_found(folder: Path) -> None:
    assert ready(folder)


PLACES = {"magic": 0, "key": 20, "digest": 60, "code": 90, "middle": 1000, "end": -1}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_damaged_file_is_not_loaded(folder: Path, place: int) -> None:
    content = bytearray(cache_file(folder).read_bytes())
    content[place] ^= 1
    cache_file(folder).write_bytes(content)
    assert not ready(folder)


@pytest.mark.parametrize("size", [0, 1, 17, 49, 81, 82, 1000])
def test_a_truncated_file_is_not_loaded(folder: Path, size: int) -> None:
    cache_file(folder).write_bytes(cache_file(folder).read_bytes()[:size])
    assert not ready(folder)


def test_a_lengthened_file_is_not_loaded(folder: Path) -> None:
    cache_file(folder).write_bytes(cache_file(folder).read_bytes() + b"\0")
    assert not ready(folder)


def test_a_damaged_file_is_replaced(folder: Path, compiled: bytes) -> None:
    cache_file(folder).write_bytes(b"damage")
    assert load(folder).divide(7, 2) == 3
    assert cache_file(folder).read_bytes()[:17] == compiled[:17]
    assert ready(folder)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_may_write_is_not_loaded(folder: Path, mode: int) -> None:
    cache_file(folder).chmod(mode)
    assert not ready(folder)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_folder_that_others_may_write_is_not_used(folder: Path, mode: int) -> None:
    (folder / "__pycache__").chmod(mode)
    assert not ready(folder)


@pytest.mark.parametrize("owned", ["folder", "file"])
def test_nothing_of_another_user_is_loaded(folder: Path, owned: str, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = folder / "__pycache__" if owned == "folder" else cache_file(folder)
    if os.geteuid() == 0:
        os.chown(foreign, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not ready(folder)


@pytest.mark.parametrize("make_link", [Path.symlink_to, Path.hardlink_to])
def test_hard_links_are_followed_and_symbolic_links_are_not(
    folder: Path, make_link: Callable[[Path, Path], None]
) -> None:
    file = cache_file(folder)
    file.rename(folder / "elsewhere")
    make_link(file, folder / "elsewhere")
    assert ready(folder) == (make_link is Path.hardlink_to)


def test_a_pipe_does_not_block_the_program(folder: Path) -> None:
    file = cache_file(folder)
    file.unlink()
    os.mkfifo(file, 0o600)
    assert not ready(folder)


# -- the key ----------------------------------------------------------------------------------------------------


def test_a_change_of_any_source_is_compiled_anew(folder: Path) -> None:
    assert not ready(folder, source=SOURCE + "\n")
    assert not ready(folder, parts=PARTS.replace("FACTOR = 2", "FACTOR = 3"))


def test_a_change_of_the_constants_is_compiled_anew(folder: Path) -> None:
    constants = folder / "constants.py"
    constants.write_text("ONE = 1\n")
    library = Library(__file__, str(constants))
    before = library.name_and_key()
    constants.write_text("ONE = 2\n")
    assert library.name_and_key() != before


def test_the_key_covers_every_module_from_which_kernels_import() -> None:
    """Constants are compiled in, so machine code would be stale if only their module changed."""
    modules = [Path(names["__file__"]) for names in kernels.LIBRARY.modules()]
    covered = {*modules, *map(Path, kernels.LIBRARY.constants), Path(jit.__file__)}
    for module in modules:
        for line in module.read_text().splitlines():
            if line.startswith("from analyzer.scanner.") and " import " in line:
                assert module.with_name(line.split()[1].rpartition(".")[2] + ".py") in covered, line


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("numpy.__version__", "0.1"),
        ("llvmlite.__version__", "0.1"),
        ("sys.version", "3.99"),
        ("analyzer.scanner.jit.numba_version", lambda: b"0.1"),
        ("analyzer.scanner.jit.cpu_features", lambda: "+none"),
        ("llvmlite.binding.get_host_cpu_name", lambda: "i386"),
    ],
)
def test_another_version_or_processor_is_compiled_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch, target: str, value: Any
) -> None:
    monkeypatch.setattr(target, value)
    assert not ready(folder)


def test_other_settings_of_the_compiler_are_compiled_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_BOUNDSCHECK", "0")
    assert not ready(folder)


def test_the_version_of_numba_is_known_without_importing_it() -> None:
    from numba import __version__

    assert __version__.encode() in jit.numba_version()


# -- folders ----------------------------------------------------------------------------------------------------


def test_old_files_are_removed(folder: Path) -> None:
    for number in range(6):
        old = folder / "__pycache__" / f"source-{number}.kernels"
        old.touch()
        os.utime(old, (number, number))
    other = folder / "__pycache__" / "other.kernels"
    other.touch()
    os.utime(other, (0, 0))
    load(folder).LIBRARY.write(b"code")
    left = sorted(path.name for path in (folder / "__pycache__").glob("source-?.kernels"))
    assert left == [f"source-{number}.kernels" for number in (3, 4, 5)]
    assert other.exists()


def test_without_a_folder_of_its_own_it_uses_the_cache_of_the_user(folder: Path) -> None:
    (folder / "__pycache__").chmod(0o777)
    cache_file(folder).unlink()
    assert load(folder).divide(7, 2) == 3
    assert cache_file(folder).parent == folder / "cache" / "tpe-pcap"
    assert ready(folder)


def test_without_any_folder_the_code_serves_one_run(folder: Path) -> None:
    shutil.rmtree(folder / "__pycache__")
    for name in ("__pycache__", "cache"):
        (folder / name).touch()
    assert load(folder).divide(7, 2) == 3
    assert not ready(folder)


def test_a_user_without_a_home_has_no_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert len(list(Library(str(folder / "source.py")).folders())) == 1


def test_two_first_runs_at_once(folder: Path) -> None:
    cache_file(folder).unlink()
    code = "import source; print(source.divide(7, 2))"
    both = [
        subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [run.communicate()[0] for run in both] == ["3\n", "3\n"]
    assert ready(folder)
    assert cache_file(folder).name == load(folder).LIBRARY.name_and_key()[0]
    assert not list(folder.glob("**/*.kernels.*"))


def environment() -> dict[str, str]:
    user = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    return {**user, "PYTHONPATH": str(ROOT)}


# -- compiling --------------------------------------------------------------------------------------------------


def unavailable(*_: Any, **__: Any) -> Any:
    raise AttributeError("a future version has it no more")


@pytest.mark.parametrize(
    ("target", "value", "reason"),
    [
        ("analyzer.scanner.jit.ARRAY", "PPqqPq", "KernelError: unknown calling convention"),
        ("analyzer.scanner.jit.FAST_OPTIONS", {"no_such_option": True}, "no_such_option"),
        ("analyzer.scanner.jit.fast_reader", unavailable, "AttributeError: a future version"),
        ("analyzer.scanner.jit.target_machine", unavailable, "AttributeError: a future version"),
        ("llvmlite.binding.ExecutionEngine.get_function_address", lambda *_: 0, "KernelError: kernels are missing"),
    ],
)
def test_plain_numba_takes_over_where_the_inside_of_numba_is_unknown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, target: str, value: Any, reason: str
) -> None:
    cache_file(folder).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(target, value)
        module = load(folder)
        assert module.total(items(10), 10) == 100
        assert reason in module.LIBRARY.fallback
    again = load(folder)
    assert again.LIBRARY.ready() and again.LIBRARY.fallback == module.LIBRARY.fallback
    assert again.divide(7, 2) == 3


def test_plain_numba_takes_over_where_there_is_no_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analyzer.scanner.jit.cpu_features", unavailable)
    module = load(folder)
    assert module.divide(7, 2) == 3
    assert module.LIBRARY.fallback == "AttributeError: a future version has it no more"


def test_plain_numba_runs_a_kernel_that_needs_the_runtime_of_numba(folder: Path) -> None:
    source = SOURCE.replace("return one // two", "return np.zeros(one + two, np.uint8)[one]")
    module = load(folder, source)
    assert module.divide(7, 2) == 0
    assert module.LIBRARY.fallback is not None


def test_the_scanner_itself_needs_no_fallback() -> None:
    find_nothing()
    assert kernels.LIBRARY.fallback is None


def test_the_cache_of_plain_numba_is_for_this_user_alone(folder: Path) -> None:
    module = load(folder)
    module.LIBRARY.write(jit.PLAIN + b"a test")
    module = load(folder)
    assert module.divide(7, 2) == 3
    (cache,) = (folder / "__pycache__").glob("*.numba")
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert list(cache.glob("**/*.nbc"))
    cache.chmod(0o755)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    assert load(folder).LIBRARY.plain_folder().parent == folder / "cache" / "tpe-pcap"


def test_plain_numba_runs_without_a_cache(folder: Path) -> None:
    module = load(folder)
    module.LIBRARY.write(jit.PLAIN + b"a test")
    assert module.LIBRARY.ready()
    shutil.rmtree(folder / "__pycache__")
    for name in ("__pycache__", "cache"):
        (folder / name).touch()
    assert module.divide(7, 2) == 3


def test_nothing_runs_where_numba_is_switched_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    with pytest.raises(KernelError, match="NUMBA_DISABLE_JIT"):
        load(folder, SOURCE + "\n").divide(7, 2)


# -- the command ------------------------------------------------------------------------------------------------


def find_nothing() -> None:
    """Call a kernel of the scanner, so that all are compiled."""
    kernels.fill_slots(np.full(4, -1, np.int32), np.zeros(1, FLOW), 0, np.ones(3, np.uint64))


def audit(code: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """An audit in a process of its own; ``code`` runs around ``main(arguments)``. ``variables``: of the environment."""
    arguments = ["audit", str(CAPTURE), *options]
    code = f"import os, sys; from analyzer.cli import main; arguments = {arguments!r}\n{code}"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )


def warm(expression: str) -> str:
    """What an expression says after an audit that finds its kernels compiled."""
    find_nothing()
    done = audit(f"main(arguments); print({expression})")
    assert done.stderr == ""
    return done.stdout.splitlines()[-1]


def test_a_warm_audit_loads_neither_the_compiler_nor_other_heavy_libraries() -> None:
    assert not {"numba", "pandas", "pyshark", "dpkt", "asyncio", "tqdm"} & set(warm("*sys.modules").split())


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads where Linux lists them")
def test_an_audit_starts_no_threads() -> None:
    assert warm("len(os.listdir('/proc/self/task'))") == "1"


@pytest.mark.deep
def test_the_report_is_the_same_with_plain_numba(tmp_path: Path) -> None:
    find_nothing()
    forced = (
        "from pathlib import Path; from analyzer.scanner import kernels\n"
        "def fail(): raise RuntimeError('this llvmlite is of the future')\n"
        f"kernels.LIBRARY.folders = lambda: iter([Path({str(tmp_path)!r})])\n"
        "kernels.LIBRARY.compile = fail\n"
        "main(arguments)"
    )
    expected = audit("main(arguments)", "--format", "json").stdout
    assert len(expected) > 1000
    # Without LLVM's optimisation, compiling takes two thirds of the time; a test above holds the cache.
    done = audit(forced, "--format", "json", "--verbose", NUMBA_OPT="0")
    assert done.stdout == expected
    assert "once: some ten seconds" in done.stderr
    assert "plain numba" in done.stderr and "this llvmlite is of the future" in done.stderr
