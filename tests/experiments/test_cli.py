"""Errors of the command line, tested in this process."""

import os
import sys

import pytest
from absl import flags

from akd_jax import methods
from experiments import cli, compare, train

CONFIG = "--config=configs/digits.py"


@pytest.fixture
def assert_refused(run_launcher):
    """Asserts that a launcher ends with code 1 and prints one line on standard error."""

    def check(message, *arguments, main=train.main):
        required = ["config", "workdir"]
        ended = run_launcher(main, *arguments, required=required, several_processes=True)
        assert ended.code == 1
        assert ended.stdout == ""
        assert ended.stderr.startswith("error: ")
        assert ended.stderr.count("\n") == 1
        assert message in ended.stderr

    return check


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.student.epoch=3", "config.student.epoch: unknown field; did you mean 'epochs'?"),
        ("--config.metod=kd", "config.metod: unknown field; did you mean 'method'?"),
        ("--config.studnt.epochs=3", "config.studnt: unknown field; did you mean 'student'?"),
        (
            "--config.seed=1.5",
            "config.seed: expected a value of type int, such as 0, got '1.5'",
        ),
        (
            "--config.kd.temperature=hot",
            "config.kd.temperature: expected a value of type float, such as 4.0, got 'hot'",
        ),
        (
            "--config.seed.x=1",
            "config.seed.x: unknown field; config.seed is a value, not a section",
        ),
        (
            "--config.kd.weight=2",
            "config.kd.weight: expected less than or equal to 1, got 2.0",
        ),
        ("--config.method=akd", "config.method: expected one of scratch, kd, takd, annealing_kd"),
        ("--config.annealing_kd.max_temperature=31", "expected 1 to 30, the epochs of stage I"),
        ("--config.student=3", "config.student: expected one of its fields, got the section; set"),
        ("--confg=x", "Unknown command line flag 'confg'. Did you mean: config ?"),
        ("stray", "expected flags only, got 'stray'; write it as --flag=value"),
        ("--num_processes=2", "expected --coordinator_address, --num_processes and --process_id"),
        ("--num_processes=0", "flag --num_processes=0"),
    ],
)
def test_wrong_flag_is_reported_in_one_line_and_writes_nothing(
    argument, message, assert_refused, tmp_path
):
    workdir = tmp_path / "run"
    assert_refused(message, CONFIG, f"--workdir={workdir}", argument)
    assert not workdir.exists()


def test_value_can_follow_its_flag_after_a_space(assert_refused, tmp_path):
    arguments = ("--config", "configs/digits.py", "--workdir", str(tmp_path / "run"))
    assert_refused("did you mean 'epochs'?", *arguments, "--config.student.epoch=3")
    assert_refused("type int, such as 0, got '1.5'", *arguments, "--config.seed", "1.5")


def test_wrong_flag_of_one_launcher_is_reported(assert_refused, tmp_path):
    arguments = (CONFIG, "--methods=kd", f"--workdir={tmp_path}", "--seeds=x")
    assert_refused("flag --seeds=x", *arguments, main=compare.main)


def test_missing_config_file_is_reported(assert_refused, tmp_path):
    message = "--config: expected a file such as configs/digits.py"
    assert_refused(message, "--config=configs/digit.py", f"--workdir={tmp_path / 'run'}")


def test_config_file_that_raises_is_reported(assert_refused, tmp_path):
    message = "got 'configs/glue.py:imdb': ValueError: expected a task among cola"
    assert_refused(message, "--config=configs/glue.py:imdb", f"--workdir={tmp_path / 'run'}")


def test_missing_flag_is_reported(assert_refused):
    assert_refused("flag --workdir=None", CONFIG)


def test_successful_launch_runs_main_with_the_parsed_flags(run_launcher):
    def main():
        print(flags.FLAGS.config.student.epochs)
        sys.exit(0)

    arguments = (CONFIG, "--workdir=unused", "--config.student.epochs=7")
    ended = run_launcher(main, *arguments, required=["config"])
    assert (ended.code, ended.stdout, ended.stderr) == (0, "7\n", "")


REGISTRATION = """
from akd_jax.methods import METHODS, scratch

METHODS["mine"] = scratch.SPEC
"""


def test_imported_modules_register_methods(run_launcher, tmp_path, monkeypatch):
    (tmp_path / "my_methods.py").write_text(REGISTRATION)
    monkeypatch.syspath_prepend(tmp_path)
    arguments = [f"{CONFIG}:mine", f"--workdir={tmp_path / 'run'}", "--dry_run"]
    ended = run_launcher(train.main, *arguments)
    assert "got 'mine'; add a custom method" in ended.stderr
    try:
        ended = run_launcher(train.main, *arguments, "--imports=my_methods")
    finally:
        del methods.METHODS["mine"], sys.modules["my_methods"]
    assert (ended.code, ended.stderr) == (0, "")
    assert "Nothing was written." in ended.stdout


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No module named 'my_methods'"), ("1 / 0", "division by zero")],
)
def test_modules_that_cannot_be_imported_are_reported(
    assert_refused, tmp_path, monkeypatch, content, reason
):
    if content is not None:
        (tmp_path / "my_methods.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    message = f"--imports: expected Python modules, got 'my_methods': {reason}; correct it"
    assert_refused(message, CONFIG, f"--workdir={tmp_path}", "--imports=my_methods")


def test_full_disk_is_reported_in_one_line(run_launcher):
    def main():
        raise OSError(28, "No space left on device", "report.html")

    ended = run_launcher(main, CONFIG, "--workdir=unused", required=["config"])
    assert ended.code == 1
    assert ended.stderr.startswith("error: report.html: ")
    assert ended.stderr.count("\n") == 1


def test_interrupt_names_the_way_to_resume(run_launcher):
    def main():
        raise KeyboardInterrupt

    ended = run_launcher(main, CONFIG, "--workdir=unused", required=["config"])
    message = "interrupted; run the same command to resume from the last checkpoint"
    assert (ended.code, ended.stderr) == (1, f"error: {message}\n")


@pytest.mark.skipif(not hasattr(os, "EX_TEMPFAIL"), reason="Windows does not define EX_TEMPFAIL")
def test_exit_code_of_a_stopped_run_is_the_systems():
    assert os.EX_TEMPFAIL == cli.EX_TEMPFAIL
