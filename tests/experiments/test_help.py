"""The text of --help, tested in this process."""

import pytest

from configs import default
from experiments import compare, predict, train

TRAIN = {"required": ["config", "workdir"], "several_processes": True}


def option(line):
    """The option that a line of the text starts with, without its default value."""
    return line.strip().split("  ")[0].split("=")[0]


@pytest.mark.parametrize("flag", ["--help", "-help", "--helpshort", "-?"])
def test_help_exits_with_0_and_lists_flags_and_config_fields(flag, run_launcher):
    ended = run_launcher(train.main, flag, **TRAIN)
    assert (ended.code, ended.stderr) == (0, "")
    description, rest = ended.stdout.split("\nFlags:\n")
    own_flags, fields = rest.split("\nFields of the configuration:\n")
    assert description.strip() == train.__doc__.strip()
    assert {"--config", "--workdir", "--dry_run", "--num_processes"} <= {
        option(line) for line in own_flags.splitlines()
    }
    lines = {option(line): line.strip() for line in fields.splitlines()}
    epochs = default.get_config().student.epochs
    assert lines["--config.student.epochs"].startswith(f"--config.student.epochs={epochs}")
    assert "--config.annealing_kd.stage_1.optimizer.learning_rate" in lines


def test_help_takes_the_defaults_from_the_given_file(run_launcher):
    ended = run_launcher(train.main, "--config=configs/digits.py:kd", "--help", **TRAIN)
    assert ended.code == 0
    assert "--config.method=kd" in ended.stdout
    assert "--config.batch_size=40" in ended.stdout
    assert "--config.student.model='plain_cnn:4 M 4 M FC'" in ended.stdout


def test_help_lists_only_the_flags_of_the_launcher(run_launcher):
    ended = run_launcher(predict.main, "--help", required=["workdir", "input", "output"])
    assert ended.code == 0
    options = {option(line) for line in ended.stdout.split("\nFlags:\n")[1].splitlines()}
    assert options >= {"--workdir", "--input", "--output"}
    assert not options & {"--config", "--methods", "--seeds", "--verbosity", "--num_processes"}


def test_help_marks_required_flags_and_shows_defaults(run_launcher):
    ended = run_launcher(compare.main, "--help", required=["config", "methods", "workdir"])
    lines = {option(line): line for line in ended.stdout.splitlines()}
    assert lines["--workdir"].endswith("(required)")
    assert lines["--seeds"].strip().startswith("--seeds=3")


def test_help_is_wrapped_at_the_width_of_the_terminal(run_launcher, monkeypatch):
    lines = {}
    for width in (60, 500):
        monkeypatch.setenv("COLUMNS", str(width))
        ended = run_launcher(train.main, "--help", **TRAIN)
        lines[width] = ended.stdout.split("\nFlags:\n")[1].splitlines()
    # A single option can be wider than a narrow terminal.
    assert all(len(line) <= 60 or len(line.split()) == 1 for line in lines[60])
    assert len(lines[60]) > len(lines[500])


def test_help_reports_a_config_file_that_cannot_be_read(run_launcher):
    ended = run_launcher(train.main, "--config=configs/digit.py", "--help", **TRAIN)
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: --config: expected a file such as configs/digits.py")
