"""Compiler and cache of the kernels: compiled once per machine, then started without the compiler.

Importing numba takes longer than auditing a small capture. Therefore numba is imported only to compile: the machine
code is written to a file, and later runs load that file with llvmlite, numba's back end, alone. A file is loaded only
if nobody but this user and root can have written it, and if it was made from the same sources, by the same versions,
for the same processor.

This relies on how numba passes arguments and names functions, which its documentation does not promise. Where anything
about that differs, plain :func:`numba.njit` runs the same kernels: it starts more slowly and gives the same results.
:attr:`Library.fallback` tells the reason.

The arguments of a kernel are arrays (one dimension, contiguous, writable) and 64-bit integers; it returns an integer
and allocates nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import os
import shutil
import stat
import struct
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numpy as np
import numpy.typing as npt

MAGIC = b"tpe-pcap kernels\n"
"""First bytes of a cache file."""
PLAIN = b"plain numba: "
"""In a cache file: precedes the reason why there is no machine code."""
PREFIX = "tpe_pcap_"
"""Prefix of the kernels' symbols in the machine code."""
CACHE_FILES = 4
"""Cache files kept per folder: several machines or interpreters may share it, but those of old versions go."""

OPTIONS: dict[str, Any] = {"boundscheck": True, "nogil": True}
FAST_OPTIONS: dict[str, Any] = {**OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False}
"""Without the wrappers and the runtime of numba. The arrays come from outside and have no reference count; numba would
count all the same, which takes half of a kernel's time."""

# Types in the signatures of compiled functions. Numba infers the real ones; they tell the reader what is meant.
Buffer = Any
"""An array of bytes."""
Record = Any
"""A record of a structured array."""
Number = Any
"""An integer, or several of them."""


class KernelError(Exception):
    """A kernel failed (an index out of bounds, a division by zero), or nothing can run it."""


class Part:
    """A function that kernels call. Python cannot call it."""

    def __init__(self, function: FunctionType) -> None:
        self.function = function


class Integer:
    """A function that kernels call: (bytes, offset) → the unsigned integer of ``size`` bytes at any offset.

    All of its bytes take one check of the bounds. The result is an int64, of 8 bytes a uint64.
    """

    def __init__(self, size: int, big_endian: bool) -> None:
        self.size = size
        self.big_endian = big_endian


def compiled(function: Any) -> Any:
    """Declare a function that kernels call, in any module from which theirs import it."""
    return Part(function)


class Kernel:
    """A function that is compiled, and called like any other."""

    def __init__(self, library: Library, function: FunctionType, types: tuple[Any, ...]) -> None:
        self.library = library
        self.function = function
        self.types: tuple[Any, ...] = tuple(int if type_ is int else np.dtype(type_) for type_ in types)
        self.symbol = PREFIX + function.__name__
        self.entry: Callable[[bytes], int] | None = None
        """Machine code: takes the packed arguments, returns numba's status."""
        self.plain: Callable[..., int] | None = None
        """The function as plain numba compiled it, if that runs the kernels."""
        self.known: list[tuple[Callable[[], object], bytes]] = [(object, b"")] * len(types)
        """The array last given for each argument, by weak reference, and its description."""

    def __call__(self, *arguments: Any) -> int:
        if self.entry is None and self.plain is None:
            self.library.load()
        if self.entry is None:
            return self.call_plain(arguments)
        results = RESULTS()
        address = ctypes.addressof(results)
        frame = [PLACES.pack(address, address + 8)]
        for place, (argument, type_) in enumerate(zip(arguments, self.types, strict=True)):
            if type_ is int:
                frame.append(WORD.pack(argument))
                continue
            known, description = self.known[place]
            if known() is not argument:
                description = describe(argument, type_)
                self.known[place] = weakref.ref(argument), description
            frame.append(description)
        status = self.entry(b"".join(frame))
        if status:
            raise KernelError(f"{self.function.__name__} failed with status {status}")
        return results[0]

    def call_plain(self, arguments: tuple[Any, ...]) -> int:
        assert self.plain
        for argument, type_ in zip(arguments, self.types, strict=True):
            if type_ is not int:
                describe(argument, type_)
        try:
            return int(self.plain(*arguments))
        except Exception as error:
            raise KernelError(f"{self.function.__name__} failed: {error}") from error

    def signature(self) -> Any:
        """Numba's signature of the function."""
        import numba

        types: Any = numba.types
        from_dtype: Any = numba.from_dtype
        arguments = (types.int64 if type_ is int else types.Array(from_dtype(type_), 1, "C") for type_ in self.types)
        return types.int64(*arguments)

    def trampoline(self, inner: llvm.ValueRef) -> str:
        """Assembly of the entry: it unpacks the arguments and calls the machine code of numba with them.

        Numba's calling convention: the places of the result and of an exception, then all arguments, an array as in
        :data:`ARRAY`; the result is a status.
        """
        types = [str(argument.type) for argument in inner.arguments]
        kinds = "".join("P" if name.endswith(("*", "ptr")) else "q" if name == "i64" else "?" for name in types)
        if kinds != "PP" + "".join("q" if type_ is int else ARRAY for type_ in self.types):
            raise KernelError(f"unknown calling convention: {types}")
        pointer = "i64*" if "*" in types[0] else "ptr"
        lines = [f"declare i32 @{inner.name}({', '.join(types)})", f"define i32 @{self.symbol}(i64 %frame) {{"]
        for number, (type_, kind) in enumerate(zip(types, kinds, strict=True)):
            lines += [
                f"%at{number} = add i64 %frame, {8 * number}",
                f"%place{number} = inttoptr i64 %at{number} to {pointer}",
                f"%word{number} = load i64, {pointer} %place{number}, align 1",
                f"%value{number} = inttoptr i64 %word{number} to {type_}"
                if kind == "P"
                else f"%value{number} = add i64 %word{number}, 0",
            ]
        values = ", ".join(f"{type_} %value{number}" for number, type_ in enumerate(types))
        return "\n".join([*lines, f"%status = call i32 @{inner.name}({values})", "ret i32 %status", "}"])


ARRAY = "PPqqPqq"
"""What numba passes of an array, 64 bits each: owner, parent, items, bytes per item, address, shape, strides."""
WORDS = struct.Struct("=7q")
PLACES = struct.Struct("=2q")
WORD = struct.Struct("=q")
RESULTS = ctypes.c_int64 * 2


def describe(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> bytes:
    """An array packed as :data:`ARRAY`; :class:`TypeError` if the kernel is not made for it."""
    if array.dtype != dtype or array.ndim != 1 or not (array.flags.c_contiguous and array.flags.writeable):
        raise TypeError(f"not a contiguous, writable row of {dtype}: {array.dtype}, {array.ndim} dimensions")
    return WORDS.pack(0, 0, len(array), array.itemsize, array.ctypes.data, len(array), array.itemsize)


class Library:
    """The kernels of one module with all that they call, compiled together."""

    def __init__(self, source: str, *constants: str) -> None:
        """``source``: file of the module; ``constants``: files of further modules whose constants are compiled in."""
        self.source = Path(source)
        self.constants = constants
        self.kernels: list[Kernel] = []
        self.engine: llvm.ExecutionEngine | None = None
        self.fallback: str | None = None
        """Why plain numba runs the kernels; None if it does not, or nothing has run yet."""
        self.lock = threading.RLock()

    def kernel(self, *types: Any) -> Callable[[Any], Kernel]:
        """Declare a kernel and its arguments: ``int``, or the dtype of an array's items."""

        def declare(function: Any) -> Kernel:
            self.kernels.append(Kernel(self, function, types))
            return self.kernels[-1]

        return declare

    def modules(self) -> list[dict[str, Any]]:
        """Name spaces of all modules with compiled functions: the kernels', and those from which they import."""
        found: list[dict[str, Any]] = []
        waiting = [kernel.function.__globals__ for kernel in self.kernels]
        while waiting:
            names = waiting.pop()
            if not any(names is known for known in found):
                found.append(names)
                waiting += [value.function.__globals__ for value in names.values() if isinstance(value, Part)]
        return found

    # -- loading --------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Make the kernels callable: from the cache, else with the compiler."""
        with self.lock:
            if not self.ready():
                self.write(self.build())
            if self.fallback is not None and any(kernel.plain is None for kernel in self.kernels):
                self.compile_plain()

    def build(self) -> bytes:
        """Compile and link the kernels, or find out why plain numba has to run them; returns what the cache keeps."""
        import numba

        if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
            raise KernelError("NUMBA_DISABLE_JIT leaves nothing to run")
        try:
            code = self.compile()
            self.link(code)
            return code
        except MemoryError:
            raise
        except Exception as error:  # numba or llvmlite differs from what this module knows
            self.fallback = reason(error)
            return PLAIN + self.fallback.encode()

    def ready(self) -> bool:
        """Whether the kernels start at once; else the first call waits for the compiler."""
        with self.lock:
            if self.engine is None and self.fallback is None:
                try:
                    code = self.read()
                    if code is not None and code.startswith(PLAIN):
                        self.fallback = code.removeprefix(PLAIN).decode()
                    elif code is not None:
                        self.link(code)
                except Exception as error:
                    self.fallback = reason(error)
            return self.engine is not None or self.fallback is not None

    def link(self, code: bytes) -> None:
        """Load object code, and find the kernels in it."""
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        addresses = [engine.get_function_address(kernel.symbol) for kernel in self.kernels]
        if not all(addresses):
            raise KernelError("kernels are missing from the machine code")
        for kernel, address in zip(self.kernels, addresses, strict=True):
            kernel.entry = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_char_p)(address)
        self.engine = engine

    # -- compiling ------------------------------------------------------------------------------------------

    def compile(self) -> bytes:
        """Object code of all kernels."""
        import numba

        njit: Any = numba.njit
        whole = llvm.parse_assembly("")
        for kernel, function in self.bind(FAST_OPTIONS, fast_reader):
            signature = kernel.signature()
            module = llvm.parse_assembly(njit(signature, **FAST_OPTIONS)(function).inspect_llvm(signature.args))
            entries = [
                value
                for value in module.functions
                if value.linkage == llvm.Linkage.external and not value.is_declaration
            ]
            if len(entries) != 1:
                raise KernelError(f"unknown names of functions: {entries}")
            trampoline = kernel.trampoline(entries[0])
            whole.link_in(module)
            whole.link_in(llvm.parse_assembly(trampoline))
        whole.verify()
        for value in whole.functions:  # what is not called from outside can be inlined and left out
            if not value.is_declaration and not value.name.startswith(PREFIX):
                value.linkage = llvm.Linkage.internal
        target = target_machine()
        passes = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=3))
        passes.getModulePassManager().run(whole, passes)
        missing = [
            value.name
            for value in (*whole.functions, *whole.global_variables)
            if value.is_declaration and not value.name.startswith("llvm.")
        ]
        if missing:
            raise KernelError(f"symbols that only numba has: {', '.join(missing)}")
        return bytes(target.emit_object(whole))

    def compile_plain(self) -> None:
        """Compile the kernels in numba's documented way, or load them from numba's own cache."""
        import numba

        njit: Any = numba.njit
        config: Any = numba.config
        folder = self.plain_folder()
        known = config.CACHE_DIR
        try:
            # Numba's cache notices changes of one file only; a folder per digest of all files makes up for that.
            config.CACHE_DIR = str(folder or "")
            for kernel, function in self.bind(OPTIONS, plain_reader):
                kernel.plain = njit(kernel.signature(), cache=folder is not None, **OPTIONS)(function)
        finally:
            config.CACHE_DIR = known

    def bind(self, options: dict[str, Any], reader: Callable[[Integer], Any]) -> Iterator[tuple[Kernel, FunctionType]]:
        """Each kernel as a function that finds all that it calls under numba.

        The functions themselves stay as they are: they get copies of their modules' name spaces.
        """
        import numba

        njit: Any = numba.njit(**options)
        spaces = {id(names): dict(names) for names in self.modules()}
        bound: dict[Part | Integer, Any] = {}
        for names in spaces.values():
            for name, value in names.items():
                if isinstance(value, Part) and value not in bound:
                    bound[value] = njit(FunctionType(value.function.__code__, spaces[id(value.function.__globals__)]))
                elif isinstance(value, Integer) and value not in bound:
                    bound[value] = njit(reader(value))
                if isinstance(value, Part | Integer):
                    names[name] = bound[value]
        for kernel in self.kernels:
            yield kernel, FunctionType(kernel.function.__code__, spaces[id(kernel.function.__globals__)])

    # -- files ----------------------------------------------------------------------------------------------

    def name_and_key(self) -> tuple[str, bytes]:
        """Name of the cache file, and a digest of everything that the machine code depends on."""
        sources = {names["__file__"] for names in self.modules()}.union(self.constants)
        key = hashlib.blake2b(digest_size=32)
        for value in (
            *(Path(source).read_bytes() for source in sorted(sources)),
            Path(__file__).read_bytes(),
            numba_version(),
            repr([kernel.types for kernel in self.kernels]),
            repr(sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_"))),
            *(sys.version, np.__version__, llvmlite.__version__),
            *(llvm.get_process_triple(), llvm.get_host_cpu_name(), cpu_features()),
        ):
            part = value if isinstance(value, bytes) else value.encode()
            key.update(len(part).to_bytes(8) + part)
        return f"{self.source.stem}-{key.hexdigest()[:32]}.kernels", key.digest()

    def folders(self) -> Iterator[Path]:
        """Where the cache file may be: beside the byte code of the source, else in the user's cache."""
        yield Path(importlib.util.cache_from_source(str(self.source))).parent
        user = Path(os.environ.get("XDG_CACHE_HOME", ""))
        with contextlib.suppress(RuntimeError):  # there is no home
            if not user.is_absolute():
                user = Path("~/Library/Caches" if sys.platform == "darwin" else "~/.cache").expanduser()
            yield user / "tpe-pcap"

    def read(self) -> bytes | None:
        """What :meth:`write` kept, if anything."""
        name, key = self.name_and_key()
        return next(filter(None, (read(folder, name, key) for folder in self.folders())), None)

    def write(self, code: bytes) -> None:
        """Keep the code in the first usable folder; without one it serves this run only."""
        name, key = self.name_and_key()
        for folder in self.folders():
            with contextlib.suppress(OSError):
                folder.mkdir(mode=0o755, parents=True, exist_ok=True)
                if trusted(folder.stat()):
                    replace(folder / name, MAGIC + key + digest(key, code) + code)
                    tidy(folder, f"{self.source.stem}-*.kernels*")
                    return

    def plain_folder(self) -> Path | None:
        """A folder for numba's own cache. Numba runs whatever it finds there, so only this user may enter it."""
        try:
            name, _ = self.name_and_key()
        except Exception:  # it may be the reason of the fallback
            return None
        for folder in self.folders():
            with contextlib.suppress(OSError):
                folder.mkdir(mode=0o755, parents=True, exist_ok=True)
                own = folder / f"{name}.numba"
                own.mkdir(mode=0o700, exist_ok=True)
                status = own.stat()
                if trusted(folder.stat()) and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
                    tidy(folder, f"{self.source.stem}-*.numba")
                    return own
        return None


def reason(error: Exception) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def fast_reader(integer: Integer) -> Any:
    """An :class:`Integer` as one load from memory and, if need be, one swap of its bytes."""
    import numba
    from llvmlite import ir
    from numba.extending import intrinsic

    types: Any = numba.types
    size = integer.size
    result = types.uint64 if size == 8 else types.int64

    def load(context: Any, data: Any, offset: Any) -> Any:
        def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            view = target.make_array(signature.args[0])(target, builder, arguments[0])
            place = builder.gep(view.data, [arguments[1]])
            value = builder.load(builder.bitcast(place, ir.IntType(8 * size).as_pointer()), align=1)
            if integer.big_endian != (sys.byteorder == "big"):
                value = builder.bswap(value)
            return value if size == 8 else builder.zext(value, ir.IntType(64))

        return result(data, types.int64), generate

    unchecked: Any = intrinsic(load)

    def read(data: Any, offset: Any) -> Any:
        if offset < 0 or offset + size > len(data):
            raise IndexError
        return unchecked(data, offset)

    return read


def plain_reader(integer: Integer) -> Any:
    """An :class:`Integer`, put together from its bytes."""
    size = integer.size
    number: Any = np.uint64 if size == 8 else np.int64
    first, step = (0, 1) if integer.big_endian else (size - 1, -1)

    def read(data: Any, offset: Any) -> Any:
        if offset < 0 or offset + size > len(data):
            raise IndexError
        value = number(0)
        for index in range(size):
            value = value << number(8) | number(data[offset + first + step * index])
        return value

    return read


def replace(path: Path, content: bytes) -> None:
    """Write a file so that others see all of it or nothing."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
            file.write(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def tidy(folder: Path, pattern: str) -> None:
    """Remove all but the newest of our cache files or folders."""
    with contextlib.suppress(FileNotFoundError):  # another process tidies too
        for old in sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)[:-CACHE_FILES]:
            if old.is_dir():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.unlink()


def read(folder: Path, name: str, key: bytes) -> bytes | None:
    """Code from a cache file that is trusted and complete, else None."""
    try:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if not trusted(os.fstat(directory)):
                return None
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        finally:
            os.close(directory)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not trusted(status) or not stat.S_ISREG(status.st_mode):
                return None
            content = file.read()
    except OSError:
        return None
    header = MAGIC + key
    code = content[len(header) + 32 :]
    return code if content.startswith(header + digest(key, code)) else None


def trusted(status: os.stat_result) -> bool:
    """Whether only this user and root can have written there: this process runs what it finds."""
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def digest(key: bytes, code: bytes) -> bytes:
    return hashlib.blake2b(code, key=key, digest_size=32).digest()


def numba_version() -> bytes:
    """The version of numba, or a file that contains it, without importing numba."""
    spec = importlib.util.find_spec("numba")
    if spec is None or spec.origin is None:
        return b""
    try:
        return Path(spec.origin).with_name("_version.py").read_bytes()
    except OSError:
        from importlib.metadata import version

        return version("numba").encode()


def target_machine() -> llvm.TargetMachine:
    """The processor of this machine, with the settings of just-in-time compilers."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=cpu_features(), opt=3, reloc="default", codemodel="jitdefault", jit=True
    )


def cpu_features() -> str:
    try:
        return str(llvm.get_host_cpu_features().flatten())
    except RuntimeError:  # LLVM knows none of this architecture
        return ""
