import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_example_runs_and_learns(tmp_path):
    # In an empty folder and a fresh process: as a reader runs it, with JAX's own settings.
    script = tmp_path / "example.py"
    script.write_text(EXAMPLE)
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"temperature (\d+): loss (\d+\.\d+)", done.stdout)
    assert [int(temperature) for temperature, _ in lines] == list(range(10, 0, -1))
    assert float(lines[4][1]) < float(lines[0][1])


def test_the_example_fits_on_a_page():
    assert len([line for line in EXAMPLE.splitlines() if line.strip()]) <= 25


def test_nothing_is_left_to_fill_in():
    assert not re.findall(r"[A-Z]+_TEXT|TODO|XXX", README)
