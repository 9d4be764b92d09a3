"""Fixtures that several test files use; the slow reference stands in reference.py."""

import ctypes
import platform
import shutil
import subprocess

import pytest

import swiftmax as smx

# MXCSR as a function pair: nothing in Python can set it.
_MODE_SOURCE = """
#include <xmmintrin.h>
unsigned get_mode(void) { return _mm_getcsr(); }
void set_mode(unsigned mode) { _mm_setcsr(mode); }
"""


def pytest_report_header():
    config = smx.show_config("dicts")
    return f"swiftmax {config['version']}, {config['isa']}, {config['threads']} threads"


@pytest.fixture(scope="session")
def mode_library(tmp_path_factory):
    """Path of a library that reads and sets the floating-point mode of the calling thread."""
    if shutil.which("gcc") is None or platform.machine() != "x86_64":
        pytest.skip("needs gcc on x86-64")
    folder = tmp_path_factory.mktemp("mode")
    source, library = folder / "mode.c", folder / "mode.so"
    source.write_text(_MODE_SOURCE)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    ctypes.CDLL(str(library))
    return library


@pytest.fixture(params=["softmax", "log_softmax", "logsumexp"])
def function(request):
    return getattr(smx, request.param)


@pytest.fixture(params=["softmax", "log_softmax"])
def elementwise(request):
    """The functions whose result has the shape of x."""
    return getattr(smx, request.param)
