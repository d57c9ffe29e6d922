"""Compiled kernels that start without their compiler.

Importing numba costs more than auditing a small capture. So it is imported only to compile: the machine code goes to
a file, and from then on llvmlite, numba's own back end, loads that file alone. There is one way to run a kernel,
whether it was compiled a moment or a month ago.

A file is loaded only if nobody but this user and root can have written it, and if it was made of these very sources
by these versions for this processor.

A kernel's arguments are arrays (one dimension, contiguous, writable) and 64-bit integers, and it returns an integer.
It allocates nothing. What it calls stands in the same file as itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import os
import re
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
PREFIX = "tpe_pcap_"
"""Of the names under which kernels are found in the machine code."""
KEPT = 4
"""Files in a folder: several machines or interpreters may share it, but those of former versions shall go."""

OPTIONS = {"boundscheck": True, "nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
COUNTING = r"(?m)^.* call void @NRT_(?:inc|dec)ref\(.*\n"
"""Numba counts references to arrays. Those that come from outside have no counter, and the calls keep the optimiser
from seeing through what stands between them: they are half of a kernel's time."""


class KernelError(Exception):
    """A kernel failed (an index out of bounds, a division by zero), or cannot be compiled."""


class Kernel:
    """A function to compile, and to call as if it were not."""

    def __init__(self, library: Library, function: FunctionType, types: tuple[Any, ...]) -> None:
        self.library = library
        self.function = function
        self.types: tuple[Any, ...] = tuple(int if each is int else np.dtype(each) for each in types)
        self.symbol = PREFIX + function.__name__
        self.entry: Callable[[bytes], int] | None = None
        self.known: list[tuple[Callable[[], object], bytes]] = [(object, b"")] * len(types)
        """Of each argument the array that was last given (kept alive by the caller only), and its description."""

    def __call__(self, *arguments: Any) -> int:
        entry = self.entry or self.library.load(self)
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
        status = entry(b"".join(frame))
        if status:
            raise KernelError(f"{self.function.__name__} failed with status {status}")
        return results[0]

    def trampoline(self, inner: llvm.ValueRef) -> str:
        """Assembly of what takes the packed arguments apart and calls the machine code with them.

        Numba's calling convention: where to put the result and an exception, then all arguments, arrays as in
        :data:`ARRAY`. The status comes back.
        """
        types = [str(each.type) for each in inner.arguments]
        kinds = "".join("P" if each.endswith(("*", "ptr")) else "q" if each == "i64" else "?" for each in types)
        if kinds != "PP" + "".join("q" if each is int else ARRAY for each in self.types):
            raise KernelError(f"this version of numba calls functions in a way that is unknown: {types}")
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
"""What numba is told of an array, 64 bits each: owner, parent, items, bytes of an item, address, shape, strides."""
WORDS = struct.Struct("=7q")
PLACES = struct.Struct("=2q")
WORD = struct.Struct("=q")
RESULTS = ctypes.c_int64 * 2


def describe(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> bytes:
    """An array as :data:`ARRAY`, packed; :class:`TypeError` if the kernel is not made for it."""
    if array.dtype != dtype or array.ndim != 1 or not (array.flags.c_contiguous and array.flags.writeable):
        raise TypeError(f"not a contiguous, writable row of {dtype}: {array.dtype}, {array.ndim} dimensions")
    return WORDS.pack(0, 0, len(array), array.itemsize, array.ctypes.data, len(array), array.itemsize)


class Library:
    """The kernels of one source file, compiled together."""

    def __init__(self, source: str) -> None:
        self.source = Path(source)
        self.parts: list[FunctionType] = []
        self.words: dict[str, tuple[int, bool]] = {}
        self.kernels: list[Kernel] = []
        self.engine: llvm.ExecutionEngine | None = None
        self.lock = threading.RLock()

    def part(self, function: Any) -> Any:
        """Declare a function that kernels call."""
        self.parts.append(function)
        return function

    def word(self, name: str, size: int, big: bool) -> Any:
        """Declare a function that kernels call by this name: (bytes, offset) → the integer of ``size`` bytes there.

        It is unsigned; of 8 bytes its type is so, too. One check of the bounds serves all of its bytes.
        """
        self.words[name] = size, big
        return name

    def kernel(self, *types: Any) -> Callable[[Any], Kernel]:
        """Declare a kernel and its arguments: ``int``, or what the items of an array are."""

        def declare(function: Any) -> Kernel:
            self.kernels.append(Kernel(self, function, types))
            return self.kernels[-1]

        return declare

    # -- loading --------------------------------------------------------------------------------------------

    def load(self, kernel: Kernel) -> Callable[[bytes], int]:
        """The machine code of a kernel, compiled if need be."""
        with self.lock:
            if not self.ready():
                code = self.compile()
                self.write(code)
                self.link(code)
            assert self.engine
            address = self.engine.get_function_address(kernel.symbol)
            kernel.entry = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_char_p)(address)
            return kernel.entry

    def ready(self) -> bool:
        """Whether the kernels run at once; else the first call waits for the compiler."""
        with self.lock:
            if self.engine is None:
                name, key = self.name_and_key()
                code = next(filter(None, (read(folder, name, key) for folder in self.folders())), None)
                if code is not None:
                    self.link(code)
            return self.engine is not None

    def link(self, code: bytes) -> None:
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        self.engine = engine

    # -- compiling ------------------------------------------------------------------------------------------

    def compile(self) -> bytes:
        """Object code of all kernels."""
        import numba

        if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
            raise KernelError("there is nothing to run with NUMBA_DISABLE_JIT")
        njit: Any = numba.njit
        from_dtype: Any = numba.from_dtype
        types: Any = numba.types
        # The functions as they are, in a name space where they find each other compiled.
        names: dict[str, Any] = dict(self.kernels[0].function.__globals__)
        for name, (size, big) in self.words.items():
            names[name] = word_reader(size, big)
        for part in self.parts:
            names[part.__name__] = njit(**OPTIONS)(FunctionType(part.__code__, names))
        whole = llvm.parse_assembly("")
        for kernel in self.kernels:
            arguments = (types.int64 if each is int else types.Array(from_dtype(each), 1, "C") for each in kernel.types)
            signature = types.int64(*arguments)
            function = njit(signature, **OPTIONS)(FunctionType(kernel.function.__code__, names))
            module = llvm.parse_assembly(re.sub(COUNTING, "", function.inspect_llvm(signature.args)))
            entries = [each for each in module.functions if each.linkage == llvm.Linkage.external and has_body(each)]
            if len(entries) != 1:
                raise KernelError(f"this version of numba names functions in a way that is unknown: {entries}")
            trampoline = kernel.trampoline(entries[0])
            whole.link_in(module)
            whole.link_in(llvm.parse_assembly(trampoline))
        whole.verify()
        for each in whole.functions:  # what nobody calls from outside may be taken apart, and left out
            if has_body(each) and not each.name.startswith(PREFIX):
                each.linkage = llvm.Linkage.internal
        target = target_machine()
        passes = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=3))
        passes.getModulePassManager().run(whole, passes)
        missing = [
            each.name
            for each in (*whole.functions, *whole.global_variables)
            if not has_body(each) and not each.name.startswith("llvm.")
        ]
        if missing:
            raise KernelError(f"the kernels need what only numba has: {', '.join(missing)}")
        return bytes(target.emit_object(whole))

    # -- files ----------------------------------------------------------------------------------------------

    def name_and_key(self) -> tuple[str, bytes]:
        """Name of the file, and a digest of all that the machine code depends on."""
        key = hashlib.blake2b(digest_size=32)
        for each in (
            self.source.read_bytes(),
            Path(__file__).read_bytes(),
            numba_version(),
            repr([kernel.types for kernel in self.kernels]),
            repr(sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_"))),
            *(sys.version, np.__version__, llvmlite.__version__),
            *(llvm.get_process_triple(), llvm.get_host_cpu_name(), cpu_features()),
        ):
            part = each if isinstance(each, bytes) else each.encode()
            key.update(len(part).to_bytes(8) + part)
        return f"{self.source.stem}-{key.hexdigest()[:32]}.kernels", key.digest()

    def folders(self) -> Iterator[Path]:
        """Where the file may be: beside the byte code of the source, else in the user's cache."""
        yield Path(importlib.util.cache_from_source(str(self.source))).parent
        user = Path(os.environ.get("XDG_CACHE_HOME", ""))
        with contextlib.suppress(RuntimeError):  # there is no home
            if not user.is_absolute():
                user = Path("~/Library/Caches" if sys.platform == "darwin" else "~/.cache").expanduser()
            yield user / "tpe-pcap"

    def write(self, code: bytes) -> None:
        """Keep the code in the first folder that lets us; without any it serves this run only."""
        name, key = self.name_and_key()
        for folder in self.folders():
            with contextlib.suppress(OSError):
                folder.mkdir(mode=0o755, parents=True, exist_ok=True)
                if trusted(folder.stat()):
                    replace(folder / name, MAGIC + key + digest(key, code) + code)
                    tidy(folder, f"{self.source.stem}-*.kernels*")
                    return


def word_reader(size: int, big: bool) -> Any:
    """What :meth:`Library.word` declares, compiled: it may stand at any offset (``align=1``)."""
    import numba
    from llvmlite import ir
    from numba.extending import intrinsic

    njit: Any = numba.njit
    types: Any = numba.types
    result = types.uint64 if size == 8 else types.int64

    def load(context: Any, array: Any, at: Any) -> Any:
        def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            view = target.make_array(signature.args[0])(target, builder, arguments[0])
            place = builder.gep(view.data, [arguments[1]])
            value = builder.load(builder.bitcast(place, ir.IntType(8 * size).as_pointer()), align=1)
            if big != (sys.byteorder == "big"):
                value = builder.bswap(value)
            return value if size == 8 else builder.zext(value, ir.IntType(64))

        return result(array, types.int64), generate

    unchecked: Any = intrinsic(load)

    def word(b: Any, at: Any) -> Any:
        if at < 0 or at + size > len(b):
            raise IndexError
        return unchecked(b, at)

    return njit(**OPTIONS)(word)


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
    """Remove all but the newest of our files."""
    with contextlib.suppress(FileNotFoundError):  # another process tidies too
        for old in sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            old.unlink()


def read(folder: Path, name: str, key: bytes) -> bytes | None:
    """Object code of a file that may be trusted and is whole, else None."""
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
    """Whether only this user and root can have written there: object code from others would be theirs to run."""
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def digest(key: bytes, code: bytes) -> bytes:
    return hashlib.blake2b(code, key=key, digest_size=32).digest()


def numba_version() -> bytes:
    """What tells numba's version, without importing it."""
    spec = importlib.util.find_spec("numba")
    if spec is None or spec.origin is None:
        return b""
    try:
        return Path(spec.origin).with_name("_version.py").read_bytes()
    except OSError:
        from importlib.metadata import version

        return version("numba").encode()


def target_machine() -> llvm.TargetMachine:
    """This machine's processor, as just-in-time compilers use it."""
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


def has_body(value: llvm.ValueRef) -> bool:
    return not value.is_declaration
