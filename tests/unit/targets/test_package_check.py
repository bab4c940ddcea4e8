from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from inferload.targets.kinds.package_check import (
    _holds_libstdcxx,
    libraries_needed,
    package_trouble,
    static_compiler,
    statically_linked_objects,
)
from support import models

FOLDER = "model/data/aotinductor/model"
OBJECT = f"{FOLDER}/abc.wrapper.so"
# std::regex, in the code of every package, comes to this
SOURCE = """
#include <locale>
extern "C" const void* used() { return &std::use_facet<std::collate<char>>(std::locale()); }
"""
STATIC = ("-static-libstdc++", "-static-libgcc")


def compiled(folder: Path, *flags: str, compiler: str = "g++") -> bytes:
    source, library = folder / "code.cpp", folder / "code.so"
    source.write_text(SOURCE)
    command = [compiler, "-shared", "-fPIC", "-o", library, source, *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "cannot find -lstdc++" in done.stderr:
        pytest.skip("libstdc++.a is not installed")
    assert not done.returncode, done.stderr
    return library.read_bytes()


def packed(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("model/archive_format", "pt2")
        archive.writestr(f"{FOLDER}/abc.wrapper.cpp", SOURCE)
        archive.writestr(OBJECT, content)
    return path


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("objects")


@pytest.fixture(scope="module")
def static(folder: Path) -> bytes:
    return compiled(folder, *STATIC)


@pytest.fixture(scope="module")
def shared(folder: Path) -> bytes:
    return compiled(folder)


@pytest.mark.native
def test_the_libraries_that_an_object_needs_are_read_in_their_order(tmp_path: Path):
    other = tmp_path / "other.so"
    other.write_bytes(compiled(tmp_path, "-Wl,-soname,libother.so"))
    content = compiled(tmp_path, "-Wl,--no-as-needed", str(other))
    needed = libraries_needed(content)
    assert needed is not None
    assert needed[:2] == ("libother.so", "libstdc++.so.6")
    assert libraries_needed(memoryview(content)) == needed


@pytest.mark.native
def test_an_object_without_section_headers_is_read_too(shared: bytes, static: bytes, folder: Path):
    def bare(content: bytes) -> bytes:
        # e_shoff, then e_shentsize, e_shnum and e_shstrndx
        return content[:40] + bytes(8) + content[48:58] + bytes(6) + content[64:]

    assert libraries_needed(bare(shared)) == libraries_needed(shared)
    assert statically_linked_objects(packed(folder / "bare.pt2", bare(static))) == (OBJECT,)


@pytest.mark.native
def test_no_damage_to_an_object_raises(static: bytes, tmp_path: Path):
    needed = libraries_needed(static)
    for length in (*range(0, 1200, 7), *range(1200, len(static), len(static) // 40)):
        assert libraries_needed(static[:length]) in {None, needed}
        assert _holds_libstdcxx(static[:length]) in {False, True}
    # every byte of the headers, one after the other
    broken = bytearray(static)
    for place in range(64 + 56 * 12):
        for byte in (0x00, 0x7F, 0xFF):
            broken[place] = byte
            libraries_needed(memoryview(broken))
            _holds_libstdcxx(memoryview(broken))
        broken[place] = static[place]
    # and one that must be read through the archive
    path = packed(tmp_path / "cut.pt2", static[: len(static) // 2])
    assert statically_linked_objects(path) in {(), (OBJECT,)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x7fELF",
        b"\x7fELF\x01\x01" + bytes(200),
        b"\x7fELF\x02\x02" + bytes(200),
        b"\x7fELF\x02\x01" + bytes(200),
        b"\x7fELF\x02\x01" + b"\xff" * 200,
        b"\x7fELF\x02\x01".ljust(16, b"\0") + b"\x03\x00" + b"\xff" * 200,
        bytes(range(256)) * 20,
    ],
)
def test_what_is_no_64_bit_little_endian_object_needs_nothing_known(content: bytes):
    assert libraries_needed(content) is None


@pytest.mark.native
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_package_with_a_libstdcxx_of_its_own_is_told(
    static: bytes, tmp_path: Path, compression: int
):
    path = packed(tmp_path / "model.pt2", static, compression)
    assert statically_linked_objects(path) == (OBJECT,)
    said = package_trouble(path)
    assert said is not None
    assert str(path) in said
    assert "abc.wrapper.so needs no libstdc++.so" in said
    assert "CXX=/usr/bin/g++" in said


@pytest.mark.native
@pytest.mark.parametrize(
    ("compiler", "flags"),
    [
        ("g++", ()),
        # these need no libstdc++.so either, and torch loads and runs them
        ("gcc", ()),
        ("g++", (*STATIC, "-Wl,--exclude-libs,ALL")),
    ],
)
def test_a_package_that_torch_can_load_is_not_flagged(
    tmp_path: Path, compiler: str, flags: tuple[str, ...]
):
    content = compiled(tmp_path, *flags, compiler=compiler)
    assert libraries_needed(content) is not None
    assert package_trouble(packed(tmp_path / "model.pt2", content)) is None


@pytest.mark.native
def test_a_preloaded_libstdcxx_is_used_by_the_package_too(static: bytes, tmp_path: Path):
    path = packed(tmp_path / "model.pt2", static)
    code = (
        "from pathlib import Path; from inferload.targets.kinds import package_check as check; "
        f"print(check.package_trouble(Path({str(path)!r})))"
    )
    preloaded = os.environ | {"LD_PRELOAD": "libstdc++.so.6"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=preloaded, capture_output=True, check=False)
    assert done.stdout.strip() == b"None", done.stderr


@pytest.mark.native
def test_a_damaged_or_missing_package_is_left_to_the_loader(static: bytes, tmp_path: Path):
    path = packed(tmp_path / "model.pt2", static, zipfile.ZIP_DEFLATED)
    whole = path.read_bytes()
    middle = len(whole) // 2
    damaged = [b"", b"no zip", whole[:middle], whole[:middle] + bytes(99) + whole[middle + 99 :]]
    for content in damaged:
        path.write_bytes(content)
        assert package_trouble(path) is None
    assert package_trouble(tmp_path / "missing.pt2") is None
    assert package_trouble(tmp_path) is None


@pytest.mark.native
def test_a_compiler_that_links_libstdcxx_statically_is_told(
    static: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    wrapper = script(tmp_path / "wrapper", f'exec g++ {" ".join(STATIC)} "$@"')
    monkeypatch.setenv("CXX", str(wrapper))
    said = static_compiler()
    assert said is not None
    assert said.startswith(f"CXX={wrapper} links libstdc++ statically")

    script(tmp_path / "g++", f'exec {shutil.which("g++")} {" ".join(STATIC)} "$@"')
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    said = static_compiler()
    assert said is not None
    assert said.startswith("g++ (CXX is not set) links libstdc++ statically")


@pytest.mark.native
def test_a_compiler_that_links_it_dynamically_is_well(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CXX", raising=False)
    assert static_compiler() is None


@pytest.mark.parametrize("text", ["exit 1", "exit 0", "kill -SEGV $$"])
def test_a_compiler_that_does_not_work_is_anothers_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
):
    for value in (str(script(tmp_path / "broken", text)), str(tmp_path / "missing"), "two words"):
        monkeypatch.setenv("CXX", value)
        assert static_compiler() is None


def test_a_compiler_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("inferload.targets.kinds.package_check._COMPILING_S", 0.1)
    monkeypatch.setenv("CXX", str(script(tmp_path / "slow", "exec sleep 20")))
    assert static_compiler() is None


@pytest.mark.slow
@pytest.mark.native
def test_a_package_of_torchs_is_not_flagged(package: Path):
    assert statically_linked_objects(package) == ()
    assert package_trouble(package) is None


@pytest.mark.slow
@pytest.mark.native
def test_torch_still_cannot_load_what_is_flagged(
    static: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    wrapper = script(tmp_path / "wrapper", f'exec g++ {" ".join(STATIC)} "$@"')
    path = tmp_path / "model.pt2"
    program = torch.export.export(models.mlp(), (torch.randn(2, 8),))
    settings: dict[str, object] = {"cpp.cxx": (None, str(wrapper))}
    # g++ tries to link a header that comes with a library; not every torch precompiles one
    if hasattr(torch._inductor.config.aot_inductor, "precompile_headers"):
        settings["aot_inductor.precompile_headers"] = False
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    with torch._inductor.config.patch(settings):
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    assert package_trouble(path) is not None

    code = f"import torch; torch._inductor.aoti_load_package({str(path)!r}); print('loaded')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode != 0
    assert b"loaded" not in done.stdout
