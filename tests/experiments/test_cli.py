import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import cli

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.student.epoch=3", "config.student.epoch: unknown field; did you mean 'epochs'?"),
        ("--config.metod=kd", "config.metod: unknown field; did you mean 'method'?"),
        (
            "--config.seed=1.5",
            "config.seed: expected a value of kind int, as 0 is, got '1.5'",
        ),
        (
            "--config.kd.weight=2",
            "config.kd.weight: expected less than or equal to 1, got 2.0",
        ),
        ("--config.method=akd", "config.method: expected one of scratch, kd, takd, annealing_kd"),
        ("--config.annealing_kd.max_temperature=31", "expected 1 to 30, the epochs of stage I"),
        ("--config.student=3", "config.student: expected one of its fields, got the section; set"),
        ("--confg=x", "Unknown command line flag 'confg'. Did you mean: config ?"),
        ("stray", "expected flags only, got 'stray'"),
    ],
)
def test_a_wrong_flag_is_one_line_and_writes_nothing(flag, message, tmp_path):
    workdir = tmp_path / "run"
    assert_refused(message, "--config=configs/digits.py", f"--workdir={workdir}", flag)
    assert not workdir.exists()


def test_flags_with_spaces_are_understood(tmp_path):
    flags = ("--config", "configs/digits.py", "--workdir", str(tmp_path / "run"))
    assert_refused("did you mean 'epochs'?", *flags, "--config.student.epoch=3")
    assert_refused("of kind int, as 0 is, got '1.5'", *flags, "--config.seed", "1.5")


def test_a_wrong_flag_that_is_not_the_configs(tmp_path):
    flags = ("--config=configs/digits.py", "--methods=kd", f"--workdir={tmp_path}", "--seeds=x")
    assert_refused("flag --seeds=x", *flags, module="compare")


def test_a_missing_config_file(tmp_path):
    message = "--config: expected a file such as configs/digits.py"
    assert_refused(message, "--config=configs/digit.py", f"--workdir={tmp_path / 'run'}")


def test_a_missing_flag():
    assert_refused("flag --workdir=None", "--config=configs/digits.py")


def assert_refused(message, *flags, module="train"):
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.{module}", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_a_narrow_column_is_markdown_too():
    assert cli.markdown_table(("a", "n"), [("b", "3")]).splitlines()[1] == "| -- | -: |"


def test_a_table_is_aligned_markdown():
    text = cli.markdown_table(("", "mean ± std"), [("kd", "1.0"), ("scratch", "10.0")])
    assert text.splitlines() == [
        "|         | mean ± std |",
        "| ------- | ---------: |",
        "| kd      |        1.0 |",
        "| scratch |       10.0 |",
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/a/file/of.flags", "/a/file/of.flags"),
        ("", "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"),
        (
            "--xla_dump_to=x",
            "--xla_dump_to=x --xla_cpu_experimental_ynn_fusion_type=-individual_convolution",
        ),
        (
            "--xla_cpu_experimental_ynn_fusion_type=reduce",
            "--xla_cpu_experimental_ynn_fusion_type=reduce",
        ),
    ],
)
def test_convolutions_are_eigens_unless_the_environment_says_otherwise(
    monkeypatch, given, expected
):
    monkeypatch.setenv("XLA_FLAGS", given)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "kept")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "")  # This process keeps its memory as it did.
    cli.set_up_jax()
    assert os.environ["XLA_FLAGS"] == expected


# How many pages the system fills for memory as large as some that was freed before.
PAGES = """
import ctypes, resource
from experiments import cli

cli.set_up_jax()
libc, size = ctypes.CDLL(None), 400_000_000
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
counts = []
for _ in range(3):
    memory = libc.malloc(size)
    ctypes.memset(memory, 1, size)
    libc.free(memory)
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(counts[2] - counts[1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
@pytest.mark.parametrize(
    ("environment", "kept"),
    [
        ({"JAX_PLATFORMS": "cpu"}, True),
        ({"JAX_PLATFORMS": "cpu", "MALLOC_TOP_PAD_": "0"}, False),
        ({"JAX_PLATFORMS": "cuda,cpu"}, False),
    ],
)
def test_freed_memory_is_kept_on_cpu_unless_the_environment_says_otherwise(environment, kept):
    found = subprocess.run(
        [sys.executable, "-c", PAGES],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (int(found.stdout) < 100) is kept  # Of 97,657; of 190, where the system's are large.
