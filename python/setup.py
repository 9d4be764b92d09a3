"""Builds the CPython module and puts libswiftmax.so.0 beside it.

The module needs no search path: it is linked to the library by its file name and finds it through
$ORIGIN, its own folder. It uses the limited API, so that one wheel serves every CPython from 3.11
on.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
HEADER = ROOT / "Include" / "swiftmax.h"
LIBRARY = "libswiftmax.so.0"
PACKAGE = "src/swiftmax"


def stop(sentence):
    """Ends the build with a sentence instead of a traceback."""
    raise SystemExit(f"swiftmax: {sentence}")


def version():
    """The version of the header; swiftmax.__version__ asks the library itself."""
    if not HEADER.exists():
        stop(f"{HEADER} is missing; install from a clone of the repository: pip install ./python")
    text = HEADER.read_text()
    parts = [re.search(rf"SMX_VERSION_{p} (\d+)", text)[1] for p in ("MAJOR", "MINOR", "PATCH")]
    return ".".join(parts)


def find_library():
    """SWIFTMAX_LIBRARY, or the one that `make build` has built, or builds it."""
    given = os.environ.get("SWIFTMAX_LIBRARY")
    if given:
        if not Path(given).is_file():
            stop(f"SWIFTMAX_LIBRARY names {given}, which is not a file")
        return Path(given).resolve()
    built = ROOT / "build" / LIBRARY
    if built.exists():
        return built
    swift = os.environ.get("SWIFT", "swift")
    if shutil.which(swift) is None:
        stop(
            f"{built.relative_to(ROOT)} is not built and the Swift toolchain (6.3 or later) that "
            "builds it is not on PATH; see https://swift.org/install, or name a built library in "
            "SWIFTMAX_LIBRARY"
        )
    if shutil.which("make") is None:
        stop(f"{built.relative_to(ROOT)} is not built and `make`, which builds it, is not on PATH")
    if subprocess.run(["make", "-C", str(ROOT), "build"], check=False).returncode != 0:
        stop("`make build` failed; its output above says why")
    return built


class BuildWithLibrary(build_ext):
    """build_ext, with the shared object in the package first, to be linked there."""

    def build_extension(self, extension):
        target = Path(self.get_ext_fullpath(extension.name)).parent / LIBRARY
        target.parent.mkdir(parents=True, exist_ok=True)
        # Written beside and renamed: a running program may have the old file mapped.
        fresh = target.with_suffix(".new")
        shutil.copyfile(find_library(), fresh)
        fresh.chmod(0o755)
        fresh.replace(target)
        extension.extra_objects = [str(target)]
        super().build_extension(extension)


setup(
    version=version(),
    license="Apache-2.0",
    cmdclass={"build_ext": BuildWithLibrary},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
    ext_modules=[
        Extension(
            "swiftmax._core",
            sources=[
                f"{PACKAGE}/_core_module.c",
                f"{PACKAGE}/_core_operations.c",
                f"{PACKAGE}/_core_attention.c",
                f"{PACKAGE}/_core_attention_vjp.c",
                f"{PACKAGE}/_core_scores.c",
                f"{PACKAGE}/_core_merge.c",
                f"{PACKAGE}/_core_gradients.c",
                f"{PACKAGE}/_core_losses.c",
                f"{PACKAGE}/_core_sampling.c",
                f"{PACKAGE}/_core_linear.c",
                f"{PACKAGE}/_core_additive.c",
                f"{PACKAGE}/_core_scoring.c",
                f"{PACKAGE}/_core_arguments.c",
                f"{PACKAGE}/_core_tensors.c",
                f"{PACKAGE}/_core_mask.c",
            ],
            depends=[f"{PACKAGE}/_core.h", *map(str, HEADER.parent.glob("*.h"))],
            include_dirs=[str(ROOT / "Include"), numpy.get_include()],
            define_macros=[("Py_LIMITED_API", "0x030B0000")],
            py_limited_api=True,
            # Python's own flags ask for debugging information, two thirds of the file.
            extra_compile_args=[
                "-std=c11", "-O2", "-g0", "-Wall", "-Wextra", "-fvisibility=hidden",
            ],
            # dladdr is in libdl before glibc 2.34.
            extra_link_args=["-Wl,-rpath,$ORIGIN", "-Wl,--as-needed", "-ldl"],
        )
    ],
)
