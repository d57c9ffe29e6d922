"""Compiled kernels: kept on disk, loaded without their compiler, and never from where somebody else may write."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analyzer import scanner
from analyzer.scanner import jit as kernels
from analyzer.scanner.jit import KernelError, Library
from tests import samples

ROOT = Path(__file__).parents[2]

SOURCE = """
import numpy as np

from analyzer.scanner.jit import Library

ITEM = np.dtype([("tag", np.uint8), ("value", np.int64), ("pair", np.int32, 2)])
LIBRARY = Library(__file__)


@LIBRARY.part
def weight(item):
    return item.value * 2 + item.pair[1]


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
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of compiled kernels, which no test should have to compile again."""
    folder = tmp_path_factory.mktemp("compiled")
    module = load(folder, SOURCE)
    assert not module.LIBRARY.ready()
    assert module.divide(7, 2) == 3
    return kept(folder).read_bytes()


@pytest.fixture
def folder(tmp_path: Path, compiled: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the source and its compiled kernels."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "source.py").write_text(SOURCE)
    cache = tmp_path / "__pycache__"
    cache.mkdir(mode=0o755)
    name, _ = load(tmp_path, SOURCE).LIBRARY.name_and_key()
    (cache / name).write_bytes(compiled)
    (cache / name).chmod(0o644)
    return tmp_path


def load(folder: Path, source: str) -> Any:
    """The module anew, as another process would see it."""
    path = folder / "source.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("source", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kept(folder: Path) -> Path:
    (file,) = folder.glob("**/*.kernels")
    return file


def ready(folder: Path, source: str = SOURCE) -> bool:
    return bool(load(folder, source).LIBRARY.ready())


def items(count: int) -> Any:
    array = np.zeros(count, [("tag", np.uint8), ("value", np.int64), ("pair", np.int32, 2)])
    array["value"] = np.arange(count)
    array["pair"][:, 1] = 1
    return array


# -- calling ----------------------------------------------------------------------------------------------------


def test_kernels_compute(folder: Path) -> None:
    module = load(folder, SOURCE)
    assert module.LIBRARY.ready()
    assert module.total(items(10), 10) == 100
    assert module.total(items(10), np.int64(4)) == 16
    assert module.divide(-7, 2) == -4
    assert module.divide(1 << 40, -1) == -(1 << 40)


def test_arrays_may_be_replaced_between_calls(folder: Path) -> None:
    module = load(folder, SOURCE)
    for size in (1, 1000, 3, 100_000, 0):
        target = np.zeros(size, np.uint8)
        assert module.fill(target, size & 0xFF) == size
        assert (target == size & 0xFF).all()
        del target
        gc.collect()


def test_an_array_does_not_move_behind_the_kernel_s_back(folder: Path) -> None:
    module = load(folder, SOURCE)
    target = np.zeros(10, np.uint8)
    module.fill(target, 1)
    with pytest.raises(ValueError, match="resize"):
        target.resize(1 << 20)


def test_arrays_are_not_kept_alive(folder: Path) -> None:
    module = load(folder, SOURCE)
    target = np.zeros(10, np.uint8)
    module.fill(target, 1)
    alive = weakref.ref(target)
    del target
    assert alive() is None


@pytest.mark.parametrize("count", [11, 1 << 40])
def test_an_index_out_of_bounds_raises(folder: Path, count: int) -> None:
    module = load(folder, SOURCE)
    with pytest.raises(KernelError, match="total failed"):
        module.total(items(10), count)
    assert module.total(items(10), 10) == 100


def test_a_division_by_zero_raises(folder: Path) -> None:
    with pytest.raises(KernelError, match="divide failed"):
        load(folder, SOURCE).divide(1, 0)


def read_only() -> Any:
    array = np.zeros(8, np.uint8)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(8, np.int8),
        np.zeros(8, np.uint16),
        np.zeros((2, 4), np.uint8),
        np.zeros((), np.uint8),
        np.zeros(8, np.uint8)[::2],
        np.zeros(8, np.uint8)[::-1],
        read_only(),
    ],
)
def test_an_array_that_the_kernel_is_not_made_for_is_refused(folder: Path, array: Any) -> None:
    with pytest.raises(TypeError, match="contiguous, writable row of uint8"):
        load(folder, SOURCE).fill(array, 1)


@pytest.mark.parametrize("arguments", [(), (1,), (1, 2, 3)])
def test_another_number_of_arguments_is_refused(folder: Path, arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="zip"):
        load(folder, SOURCE).divide(*arguments)


def test_threads_share_a_kernel(folder: Path) -> None:
    module = load(folder, SOURCE)
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


# -- what may be loaded -----------------------------------------------------------------------------------------


def test_what_was_compiled_is_found(folder: Path) -> None:
    assert ready(folder)


PARTS = {"magic": 0, "key": 20, "digest": 60, "code": 90, "middle": 1000, "end": -1}


@pytest.mark.parametrize("at", PARTS.values(), ids=PARTS)
def test_a_damaged_file_is_not_loaded(folder: Path, at: int) -> None:
    content = bytearray(kept(folder).read_bytes())
    content[at] ^= 1
    kept(folder).write_bytes(content)
    assert not ready(folder)


@pytest.mark.parametrize("size", [0, 1, 17, 49, 81, 82, 1000])
def test_a_truncated_file_is_not_loaded(folder: Path, size: int) -> None:
    kept(folder).write_bytes(kept(folder).read_bytes()[:size])
    assert not ready(folder)


def test_a_lengthened_file_is_not_loaded(folder: Path) -> None:
    kept(folder).write_bytes(kept(folder).read_bytes() + b"\0")
    assert not ready(folder)


def test_a_damaged_file_is_replaced(folder: Path, compiled: bytes) -> None:
    kept(folder).write_bytes(b"damage")
    assert load(folder, SOURCE).divide(7, 2) == 3
    assert kept(folder).read_bytes()[:17] == compiled[:17]
    assert ready(folder)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_may_write_is_not_loaded(folder: Path, mode: int) -> None:
    kept(folder).chmod(mode)
    assert not ready(folder)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_folder_that_others_may_write_is_not_used(folder: Path, mode: int) -> None:
    (folder / "__pycache__").chmod(mode)
    assert not ready(folder)


@pytest.mark.parametrize("whose", ["folder", "file"])
def test_what_belongs_to_another_user_is_not_loaded(folder: Path, whose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = folder / "__pycache__" if whose == "folder" else kept(folder)
    if os.geteuid() == 0:
        os.chown(foreign, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not ready(folder)


@pytest.mark.parametrize("place", [Path.symlink_to, Path.hardlink_to])
def test_links_to_elsewhere(folder: Path, place: Callable[[Path, Path], None]) -> None:
    """A link is somebody's way to a file, not the file; a second name of a file is the file."""
    file = kept(folder)
    file.rename(folder / "elsewhere")
    place(file, folder / "elsewhere")
    assert ready(folder) == (place is Path.hardlink_to)


def test_a_pipe_does_not_stop_the_program(folder: Path) -> None:
    file = kept(folder)
    file.unlink()
    os.mkfifo(file, 0o600)
    assert not ready(folder)


# -- what the code depends on -----------------------------------------------------------------------------------


def test_another_source_is_compiled_anew(folder: Path) -> None:
    assert not ready(folder, SOURCE + "\n")


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


def test_the_version_of_numba_is_known_without_it() -> None:
    from numba import __version__

    assert __version__.encode() in kernels.numba_version()


# -- where it is kept -------------------------------------------------------------------------------------------


def write(folder: Path) -> None:
    load(folder, SOURCE).LIBRARY.write(b"code")


def test_old_files_go(folder: Path) -> None:
    for number in range(6):
        old = folder / "__pycache__" / f"source-{number}.kernels"
        old.touch()
        os.utime(old, (number, number))
    other = folder / "__pycache__" / "other.kernels"
    other.touch()
    os.utime(other, (0, 0))
    write(folder)
    left = sorted(path.name for path in (folder / "__pycache__").glob("source-?.kernels"))
    assert left == [f"source-{number}.kernels" for number in (3, 4, 5)]
    assert other.exists()


def test_without_a_folder_of_its_own_the_user_s_cache_serves(folder: Path) -> None:
    (folder / "__pycache__").chmod(0o777)
    kept(folder).unlink()
    module = load(folder, SOURCE)
    assert module.divide(7, 2) == 3
    assert kept(folder).parent == folder / "cache" / "tpe-pcap"
    assert ready(folder)


def test_without_any_folder_it_serves_one_run(folder: Path) -> None:
    shutil.rmtree(folder / "__pycache__")
    for name in ("__pycache__", "cache"):
        (folder / name).touch()
    module = load(folder, SOURCE)
    assert module.divide(7, 2) == 3
    assert not ready(folder)


def test_a_user_without_a_home_has_no_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert len(list(Library(str(folder / "source.py")).folders())) == 1


def test_two_first_runs_at_once(folder: Path) -> None:
    kept(folder).unlink()
    code = "import source; print(source.divide(7, 2))"
    both = [
        subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [run.communicate()[0] for run in both] == ["3\n", "3\n"]
    assert ready(folder)
    assert kept(folder).name == load(folder, SOURCE).LIBRARY.name_and_key()[0]
    assert not list(folder.glob("**/*.kernels.*"))


def environment() -> dict[str, str]:
    user = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    return {**user, "PYTHONPATH": str(ROOT)}


# -- compiling --------------------------------------------------------------------------------------------------


def test_a_kernel_that_allocates_is_refused(folder: Path) -> None:
    source = SOURCE.replace("return one // two", "return np.zeros(one + two, np.uint8)[one]")
    with pytest.raises(KernelError, match="only numba has: NRT_"):
        load(folder, source).divide(7, 2)


def test_another_calling_convention_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(folder, SOURCE + "\n")
    monkeypatch.setattr(kernels, "ARRAY", "PPqqPq")
    with pytest.raises(KernelError, match="version of numba"):
        module.fill(np.zeros(1, np.uint8), 2)


def test_without_a_compiler_there_is_nothing_to_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    with pytest.raises(KernelError, match="NUMBA_DISABLE_JIT"):
        load(folder, SOURCE + "\n").divide(7, 2)


# -- the command ------------------------------------------------------------------------------------------------


def warm(say: str) -> str:
    """The last line of an audit that finds its kernels compiled."""
    scanner.index(np.full(4, -1, np.int32), np.zeros(1, scanner.FLOW), 0, np.ones(3, np.uint64))
    capture = samples.capture("tls-http-on-3001")
    code = f"import os, sys; from analyzer.cli import main; main(['audit', {str(capture)!r}]); print({say})"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()[-1]


def test_a_warm_audit_loads_neither_the_compiler_nor_other_heavy_libraries() -> None:
    assert not {"numba", "pandas", "pyshark", "dpkt", "asyncio", "tqdm"} & set(warm("*sys.modules").split())


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads where Linux lists them")
def test_an_audit_starts_no_threads() -> None:
    assert warm("len(os.listdir('/proc/self/task'))") == "1"
