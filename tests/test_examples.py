"""The notebooks: they have run to their ends, and run again."""

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.launching import GUARD_SECONDS, ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
# What the last cells show.
SHOWN = {
    "compose_losses": "composed: ",
    "text_classifier": "this story is a waste of time: negative",
    "translation": "of the dates are right",
}


def text_of(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.output_type == "error"]
    pictures = [x for x in outputs if "image/png" in x.get("data", {})]
    assert len(pictures) == 1
    return "".join(output.get("text", "") for output in outputs)


def test_there_are_three_notebooks():
    assert [path.stem for path in NOTEBOOKS] == list(SHOWN)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_show_what_they_did(path):
    assert SHOWN[path.stem] in text_of(nbformat.read(path, as_version=4))


@pytest.mark.slow  # Each takes up to a minute. The library's calls are those of other tests.
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path):
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(ROOT)}}
    client = NotebookClient(
        notebook, timeout=GUARD_SECONDS, kernel_name="python3", resources=resources
    )
    client.execute()
    assert SHOWN[path.stem] in text_of(notebook)
