import os
import platform
import subprocess
import sys

import jaxlib.version
import pytest

from experiments.jax_setup import set_up_jax
from tests.support.launching import GUARD_SECONDS, ROOT

XLA_VERSION = jaxlib.version.__version_info__[:2]
FLAG = "--xla_cpu_experimental_ynn_fusion_type"
# Other versions of XLA abort on the flag.
EIGEN = f"{FLAG}=-individual_convolution" if (0, 10) <= XLA_VERSION <= (0, 12) else ""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/a/file/of.flags", "/a/file/of.flags"),
        ("", EIGEN),
        ("--xla_dump_to=x", f"--xla_dump_to=x {EIGEN}".strip()),
        (f"{FLAG}=reduce", f"{FLAG}=reduce"),
    ],
)
def test_convolutions_use_eigen_unless_the_environment_sets_the_flag(monkeypatch, given, expected):
    monkeypatch.setenv("XLA_FLAGS", given)
    # set_up_jax leaves the cache and the allocator of this process as they are.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unused")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "")
    set_up_jax()
    assert os.environ["XLA_FLAGS"] == expected


# Prints the page faults of an allocation that is as large as one freed before. Cases run in
# forks, since the allocator's settings are those of the process, and an import takes seconds.
PAGE_FAULTS = """
import ctypes, os, resource
from experiments.jax_setup import set_up_jax
from tests.support.launching import GUARD_SECONDS, ROOT
import jax


def page_faults():
    set_up_jax()
    libc, size = ctypes.CDLL(None), 400_000_000
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    counts = []
    for _ in range(3):
        memory = libc.malloc(size)
        ctypes.memset(memory, 1, size)
        libc.free(memory)
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    return counts[2] - counts[1]


for platforms, variables in (("cpu", {}), ("cpu", {"MALLOC_TOP_PAD_": "0"}), ("cuda,cpu", {})):
    child = os.fork()
    if child == 0:
        jax.config.update("jax_platforms", platforms)
        os.environ.update(variables)
        print(page_faults(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_freed_memory_is_kept_on_cpu_unless_the_environment_configures_malloc():
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MALLOC_") and name != "GLIBC_TUNABLES"
    }
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PAGE_FAULTS],
        cwd=ROOT,
        env={**environment, "JAX_COMPILATION_CACHE_DIR": "unused"},
        capture_output=True,
        text=True,
        timeout=GUARD_SECONDS,
        check=True,
    )
    kept, configured_by_user, on_gpu = map(int, result.stdout.split())
    # The allocation has 97,657 pages of 4 KB, or 190 huge pages of 2 MB.
    assert kept < 100
    assert configured_by_user >= 100
    assert on_gpu >= 100
