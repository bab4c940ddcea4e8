"""Recognise AOTInductor packages whose code brings a libstdc++ of its own.

Such a shared object exports libstdc++'s locales. The loader makes their ``STB_GNU_UNIQUE`` ids one
with those of the libstdc++ that torch uses, the tables they index stay two, and ``std::regex``,
which the object uses to read its device, finds the wrong entry: ``std::bad_cast`` where g++ 12
built it, a segmentation fault from g++ 13 on, which no longer checks the entry's type
(``__try_use_facet`` in bits/locale_classes.tcc).

That an object needs no ``libstdc++.so`` is not enough: built with ``gcc``, or with the static
library's symbols hidden (``--exclude-libs``), it needs none and runs well.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import subprocess
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from inferload.machine.scratch import scratch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Content: TypeAlias = "bytes | memoryview"

#: ``std::locale::classic()``: only libstdc++ itself defines it.
_CLASSIC = "_ZNSt6locale7classicEv"
_PROBE = "#include <locale>\nconst std::locale& probe() { return std::locale::classic(); }\n"
_COMPILING_S = 30.0

# names and layouts: System V ABI, "Object Files" and "Dynamic Linking"
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_SYMTAB, _DT_GNU_HASH = 0, 1, 5, 6, 0x6FFF_FEF5
_SYMBOL_BYTES = 24
_LONGEST_NAME = 4096

#: What zipfile raises for an archive that is cut off, garbled, encrypted or packed in an odd way.
_UNREADABLE = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    RuntimeError,
)


def libraries_needed(content: Content) -> tuple[str, ...] | None:
    """The ``DT_NEEDED`` names of a shared object; ``None`` if it is no little-endian ELF64 one."""
    try:
        return _Dynamic.of(content).needed()
    except ValueError:
        return None


def shared_objects(path: Path) -> tuple[str, ...]:
    """The names of the shared objects in a package; none if it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(name for name in archive.namelist() if name.endswith(".so"))
    except _UNREADABLE:
        return ()


def statically_linked_objects(path: Path) -> tuple[str, ...]:
    """The shared objects in a package that hold and export a libstdc++; none if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".so")]
            found = []
            for name in names:
                with _content(path, archive, archive.getinfo(name)) as content:
                    if _holds_libstdcxx(content):
                        found.append(name)
            return tuple(found)
    except _UNREADABLE:
        return ()


def package_trouble(path: Path) -> str | None:
    """Why this process cannot load a package, and what to do; ``None`` if nothing is known.

    It can where libstdc++ is preloaded, alone or by an allocator that needs it: the package's code
    then uses that one.
    """
    objects = statically_linked_objects(path)
    if not objects or hasattr(ctypes.CDLL(None), _CLASSIC):
        return None
    name = objects[0].rpartition("/")[2]
    return (
        f"{path} was built by a compiler that links libstdc++ statically ({name} needs no "
        "libstdc++.so): torch's loader fails or crashes on it; build it again with "
        "CXX=/usr/bin/g++, or start with LD_PRELOAD=libstdc++.so.6"
    )


def static_compiler() -> str | None:
    """Why torch could not load the packages that it builds here; ``None`` if nothing is known.

    Compiles a small library with the compiler that torch's inductor uses: ``CXX`` as one word, or
    g++ (``cpp.cxx`` in torch/_inductor/config.py). ``None`` also where that does not compile.
    """
    compiler = os.environ.get("CXX", "g++")
    if not links_statically(compiler):
        return None
    named = f"CXX={compiler}" if "CXX" in os.environ else f"{compiler} (CXX is not set)"
    return (
        f"{named} links libstdc++ statically: torch's loader fails or crashes on an AOTInductor "
        "package that it builds; set CXX to a compiler that does not, such as /usr/bin/g++"
    )


def links_statically(compiler: str) -> bool:
    """Whether a compiler puts a libstdc++ of its own into a small library; false if it fails."""
    try:
        return _holds_libstdcxx(_probe_built_by(compiler))
    except (OSError, subprocess.SubprocessError):
        return False


def _probe_built_by(compiler: str) -> bytes:
    with scratch() as folder:
        source, library = folder / "probe.cpp", folder / "probe.so"
        source.write_text(_PROBE)
        subprocess.run(  # noqa: S603 the user's own choice of compiler
            [compiler, "-shared", "-fPIC", "-o", str(library), str(source)],
            check=True,
            timeout=_COMPILING_S,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return library.read_bytes()


def _holds_libstdcxx(content: Content) -> bool:
    needed = libraries_needed(content)
    if needed is None or any(name.startswith(("libstdc++.", "libc++.")) for name in needed):
        return False
    try:
        return _Dynamic.of(content).defines(_CLASSIC.encode())
    except ValueError:
        return False


@contextmanager
def _content(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[Content]:
    if entry.compress_type != zipfile.ZIP_STORED:
        yield archive.read(entry)
        return
    # torch stores them as they are, weights included: mapped, only what is looked at is read
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as whole,
    ):
        # sizes of name and extra field: the local header's may differ from the directory's
        sizes = _unpack("<HH", whole, entry.header_offset + 26)
        start = entry.header_offset + 30 + sum(sizes)
        with whole[start : start + entry.file_size] as own:
            yield own


def _unpack(layout: str, content: Content, offset: int) -> tuple[Any, ...]:
    if offset + struct.calcsize(layout) > len(content):
        raise ValueError(offset)
    return struct.unpack_from(layout, content, offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dynamic:
    """What the loader sees of a shared object: no section headers, which may be stripped.

    Whatever does not fit raises ``ValueError``.
    """

    content: Content
    #: Address, offset in the file and size there of each loaded segment.
    segments: tuple[tuple[int, int, int], ...]
    #: The entries of the dynamic segment: tag and value.
    entries: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, content: Content) -> _Dynamic:
        # 64 bits, little-endian, ET_DYN
        if bytes(content[:6]) != b"\x7fELF\x02\x01" or _unpack("<H", content, 16) != (3,):
            raise ValueError
        (first,) = _unpack("<Q", content, 32)
        step, count = _unpack("<HH", content, 54)
        headers = [_unpack("<IIQQQQ", content, first + step * n) for n in range(count)]
        loaded = [
            (at, offset, size) for kind, _, offset, at, _, size in headers if kind == _PT_LOAD
        ]
        dynamic = [(offset, size) for kind, _, offset, _, _, size in headers if kind == _PT_DYNAMIC]
        if not dynamic:
            raise ValueError
        entries = []
        offset, size = dynamic[0]
        for at in range(offset, offset + size - 15, 16):
            tag, value = _unpack("<QQ", content, at)
            if tag == _DT_NULL:
                break
            entries.append((tag, value))
        return cls(content=content, segments=tuple(loaded), entries=tuple(entries))

    def needed(self) -> tuple[str, ...]:
        return tuple(self._name(value) for tag, value in self.entries if tag == _DT_NEEDED)

    def defines(self, name: bytes) -> bool:
        """Whether others can link to ``name`` here, by the GNU hash table: it has no other names.

        Source: Ulrich Drepper, "How To Write Shared Libraries"; glibc's elf/dl-lookup.c.
        """
        wanted = 5381
        for letter in name:
            wanted = (wanted * 33 + letter) & 0xFFFF_FFFF
        table = self._offset(self._value(_DT_GNU_HASH))
        buckets, skipped, filters, _ = _unpack("<IIII", self.content, table)
        if not buckets:
            return False
        first = table + 16 + 8 * filters
        (symbol,) = _unpack("<I", self.content, first + 4 * (wanted % buckets))
        if symbol < skipped:
            return False
        symbols = self._offset(self._value(_DT_SYMTAB))
        while True:
            (found,) = _unpack("<I", self.content, first + 4 * (buckets + symbol - skipped))
            if found | 1 == wanted | 1:
                (place,) = _unpack("<I", self.content, symbols + _SYMBOL_BYTES * symbol)
                if self._name(place) == name.decode():
                    return True
            # the last bit ends the bucket's chain
            if found & 1:
                return False
            symbol += 1

    def _value(self, wanted: int) -> int:
        return dict(self.entries).get(wanted, -1)

    def _offset(self, address: int) -> int:
        for start, offset, size in self.segments:
            if start <= address < start + size:
                return offset + address - start
        raise ValueError(address)

    def _name(self, place: int) -> str:
        start = self._offset(self._value(_DT_STRTAB)) + place
        name, end, _ = bytes(self.content[start : start + _LONGEST_NAME]).partition(b"\0")
        if not end:
            raise ValueError(place)
        return name.decode(errors="replace")
