"""Strict settings for all tests: four virtual devices, no implicit promotion, no NaN."""

import gc
import os
import shutil
import tempfile
from pathlib import Path

# XLA reads the size of its thread pools from NPROC. With two cores and four devices, the
# collectives of several dispatched steps can deadlock in smaller pools.
os.environ["NPROC"] = "16"
# The optimizations of XLA would take half of the tests' time. To test with them, as users run the
# package, use `JAX_DISABLE_MOST_OPTIMIZATIONS=0 make test`.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1":
    # Small programs compile twice as fast in one piece and without XLA's newer code generator. A
    # process ends at a flag that its XLA does not know: remove a flag when that happens.
    _FAST = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FAST}".strip()

import hypothesis
import jax
import pytest
from ml_collections.config_dict import ConfigDict

from akd_jax import runs
from akd_jax.runs.creation import obtain_teacher
from tests.support.configs import small_config

# Tracing creates many objects that are freed without the collector of cycles, which would take a
# twentieth of the tests' time.
gc.set_threshold(100_000, 50, 1000)

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_debug_nans", True)
# The processes of a test session, which inherit the environment, share their compiled programs.
_IS_FIRST_PROCESS = "AKD_JAX_TEST_CACHE" not in os.environ
_CACHE = os.environ.get("AKD_JAX_TEST_CACHE") or tempfile.mkdtemp(prefix="akd_jax_tests_")
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ["AKD_JAX_TEST_CACHE"] = _CACHE
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
jax.config.update("jax_compilation_cache_dir", _CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

# No deadline, because the first example of a test compiles. The examples are the same in every
# run, so that a test fails in all runs or in none.
hypothesis.settings.register_profile(
    "akd_jax",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("akd_jax")


def pytest_unconfigure():
    if _IS_FIRST_PROCESS:
        shutil.rmtree(_CACHE, ignore_errors=True)


_TESTS = Path(__file__).parent
# Files of few tests that take long. They run first: the two processes of pytest take whole files,
# and would otherwise end far apart.
_LONG_FILES = [
    _TESTS / name
    for name in (
        "test_golden.py",
        "runs/test_resume.py",
        "experiments/test_cluster.py",
        "runs/test_text_methods.py",
        "host/test_processes.py",
        "test_readme.py",
        "test_remote.py",
        "runs/test_text.py",
        "test_fuzz.py",
        "runs/test_stored_outputs.py",
        "runs/test_stages.py",
        "runs/test_cache.py",
    )
]


def pytest_collection_modifyitems(items):
    missing = [str(path) for path in _LONG_FILES if not path.exists()]
    if missing:
        raise pytest.UsageError(
            f"tests/conftest.py: _LONG_FILES: expected existing files, got {', '.join(missing)}"
        )

    def rank(item):
        return _LONG_FILES.index(item.path) if item.path in _LONG_FILES else len(_LONG_FILES)

    items.sort(key=rank)


@pytest.fixture
def config() -> ConfigDict:
    """The configuration of a small run, which a test may change."""
    return small_config()


@pytest.fixture(scope="session")
def teacher_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a finished teacher of `small_config`. Tests must not change it."""
    workdir = tmp_path_factory.mktemp("run")
    obtain_teacher(runs.make_plan(small_config()), "teacher", workdir)
    return str(workdir / "teacher")


@pytest.fixture(scope="session")
def finished_run(teacher_path: str) -> Path:
    """The workdir of a finished run of `small_config`. Tests must not change it."""
    workdir = Path(teacher_path).parent
    runs.run(small_config(), workdir)
    return workdir
