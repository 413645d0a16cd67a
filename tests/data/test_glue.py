"""Small GLUE tasks, written by the tests in the published layouts and read by the library."""

import copy
import dataclasses
import shutil

import numpy as np
import pytest
from tensorflow_datasets.core import registered
from tensorflow_datasets.text.glue import Glue

from akd_jax import data
from akd_jax.data.readers import glue, tsv
from tests.support.errors import error_of


@dataclasses.dataclass(frozen=True)
class Layout:
    """The published layout of a task.

    Headers have spaces instead of tabs, and #1_ID stands for '#1 ID'.
    """

    folder: str
    train: str  # The columns of train.tsv; CoLA's file has no header.
    test: str
    texts: str
    label: str
    codes: tuple[str, ...]
    names: tuple[str, ...]
    metrics: tuple[str, ...]
    dev: str = ""  # The header of the dev files, if it differs from that of train.tsv.
    header: bool = True


def columns(names):
    return [name.replace("_", " ") if name[0] == "#" else name for name in names.split()]


ENTAILMENT = ("entailment", "not_entailment")
MNLI = (
    "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse"
    " sentence2_parse sentence1 sentence2"
)
STSB = "index genre filename year old_index source1 source2 sentence1 sentence2"
LAYOUTS = {
    "cola": Layout(
        "CoLA",
        "source label star sentence",
        "index sentence",
        "sentence",
        "label",
        ("0", "1"),
        ("unacceptable", "acceptable"),
        ("matthews",),
        header=False,
    ),
    "sst2": Layout(
        "SST-2",
        "sentence label",
        "index sentence",
        "sentence",
        "label",
        ("0", "1"),
        ("negative", "positive"),
        ("accuracy",),
    ),
    "mrpc": Layout(
        "MRPC",
        "Quality #1_ID #2_ID #1_String #2_String",
        "index #1_ID #2_ID #1_String #2_String",
        "#1_String #2_String",
        "Quality",
        ("0", "1"),
        ("not_equivalent", "equivalent"),
        ("f1", "accuracy"),
    ),
    "stsb": Layout(
        "STS-B",
        f"{STSB} score",
        STSB,
        "sentence1 sentence2",
        "score",
        (),
        (),
        ("pearson", "spearman"),
    ),
    "qqp": Layout(
        "QQP",
        "id qid1 qid2 question1 question2 is_duplicate",
        "id question1 question2",
        "question1 question2",
        "is_duplicate",
        ("0", "1"),
        ("not_duplicate", "duplicate"),
        ("accuracy", "f1"),
    ),
    "mnli": Layout(
        "MNLI",
        f"{MNLI} label1 gold_label",
        MNLI,
        "sentence1 sentence2",
        "gold_label",
        ("entailment", "neutral", "contradiction"),
        ("entailment", "neutral", "contradiction"),
        ("accuracy",),
        dev=f"{MNLI} label1 label2 label3 label4 label5 gold_label",
    ),
    "qnli": Layout(
        "QNLI",
        "index question sentence label",
        "index question sentence",
        "question sentence",
        "label",
        ENTAILMENT,
        ENTAILMENT,
        ("accuracy",),
    ),
    "rte": Layout(
        "RTE",
        "index sentence1 sentence2 label",
        "index sentence1 sentence2",
        "sentence1 sentence2",
        "label",
        ENTAILMENT,
        ENTAILMENT,
        ("accuracy",),
    ),
    "wnli": Layout(
        "WNLI",
        "index sentence1 sentence2 label",
        "index sentence1 sentence2",
        "sentence1 sentence2",
        "label",
        ("0", "1"),
        ("not_entailment", "entailment"),
        ("accuracy",),
    ),
}
SIZES = {"train": 12, "dev": 5, "dev_matched": 5, "dev_mismatched": 4, "test": 3}


def dev_files(name):
    return {"mnli": {"test": "dev_matched", "test_mismatched": "dev_mismatched"}}.get(
        name, {"test": "dev"}
    )


def text(file, number, column):
    return f'{file} {number}: "Ça va\u2028, {column} ?'


def label(name, number):
    """The label of a row in the file, and as the library reads it."""
    codes = LAYOUTS[name].codes
    index = (number // 2 + 1) % (len(codes) or 1)
    return (codes[index], index) if codes else (f"{number * 0.4:.3f}", np.float32(number * 0.4))


def table(name, file):
    """The content of a file. Cells other than texts and labels contain their position."""
    layout = LAYOUTS[name]
    headers = {"test": layout.test, "train": layout.train}
    names = columns(headers.get(file, layout.dev or layout.train))
    texts = columns(layout.texts)
    rows = [names] if layout.header or file == "test" else []
    for number in range(SIZES[file]):
        cells = {column: f"{column} of {number}" for column in names}
        cells |= {column: text(file, number, column) for column in texts}
        if layout.label in cells:
            cells[layout.label] = label(name, number)[0]
        rows.append([cells[column] for column in names])
    return "".join("\t".join(row) + "\n" for row in rows)


def write(folder, name, *files):
    folder.mkdir(parents=True, exist_ok=True)
    for file in files or ("train", *dev_files(name).values()):
        (folder / f"{file}.tsv").write_text(table(name, file), encoding="utf-8", newline="\n")
    return folder


def splits_of(source):
    return {"train": source.train, "test": source.test, **source.others}


def assert_contains_the_written_examples(name, source):
    layout = LAYOUTS[name]
    files = {"train": "train", **dev_files(name)}
    assert set(splits_of(source)) == set(files)
    for split, file in files.items():
        examples, numbers = splits_of(source)[split], range(SIZES[file])
        expected = [[text(file, n, column) for column in columns(layout.texts)] for n in numbers]
        assert examples.inputs.tolist() == expected
        assert all(type(cell) is str for row in examples.inputs for cell in row)
        np.testing.assert_array_equal(examples.labels, [label(name, n)[1] for n in numbers])
        assert examples.labels.dtype == (np.int32 if layout.names else np.float32)
    assert source.validation is None
    assert source.normalise is None


def prepare(folder, name, files, classes=None):
    """Prepares a task with the builder of tensorflow-datasets from local files.

    Args:
      folder: the folder to write.
      name: name of the task.
      files: folder with the TSV files.
      classes: the class names in the order of their indices, if it differs from the builder's.
    """
    task_config = copy.copy(Glue.builder_configs[name])
    task_config.label_classes = classes or task_config.label_classes

    with registered.skip_registration():  # The name is already registered.

        class Prepared(Glue):
            name = "glue"
            BUILDER_CONFIGS = (task_config,)

            def _split_generators(self, dl_manager):
                splits = {"train": "train"}
                for file in dev_files(name).values():
                    splits[file.replace("dev", "validation")] = file
                return {
                    split: self._generate_examples(files / f"{file}.tsv", file, mrpc_files(file))
                    for split, file in splits.items()
                }

    def mrpc_files(file):
        """For MRPC, the builder reads one file with all rows, and the ids of the dev rows."""
        if name != "mrpc":
            return None
        folder = files / file
        folder.mkdir()
        rows = table(name, file)
        (folder / "all").write_text(rows, encoding="utf-8-sig", newline="\n")
        ids = [row.split("\t")[1:3] for row in rows.split("\n")[1:-1]] if file == "dev" else []
        (folder / "ids").write_text("".join("\t".join(pair) + "\n" for pair in ids))
        return {"train": folder / "all", "dev_ids": folder / "ids"}

    Prepared(config=name, data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture(scope="module")
def rte_dir(tmp_path_factory):
    files = write(tmp_path_factory.mktemp("files"), "rte")
    return prepare(tmp_path_factory.mktemp("tfds"), "rte", files)


def test_all_tasks_are_registered_as_data_sets():
    assert set(glue.TASKS) == set(LAYOUTS)
    assert set(LAYOUTS) < set(data.DATASETS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_published_files_are_read_from_the_task_folder_and_from_its_parent(tmp_path, name):
    layout = LAYOUTS[name]
    folder = write(tmp_path / layout.folder, name)
    for data_dir in (tmp_path, folder):
        assert_contains_the_written_examples(name, data.DATASETS[name](data_dir))


@pytest.mark.parametrize("name", LAYOUTS)
def test_tasks_have_the_published_labels_and_metrics(tmp_path, name):
    layout = LAYOUTS[name]
    task = data.DATASETS[name](write(tmp_path, name)).task
    assert task.labels == layout.names
    assert task.metrics == layout.metrics
    assert task.outputs == max(len(layout.names), 1)
    assert task.regression == (name == "stsb")
    if name == "stsb":
        assert task.format_prediction(np.float32(2.5)) == "2.500000"
    else:
        assert tuple(map(task.format_prediction, range(task.outputs))) == layout.codes


def text_columns(name, folder):
    """The columns of the texts in unlabelled files."""
    return glue.load(name, write(folder / "labelled", name)).columns


@pytest.mark.parametrize("name", LAYOUTS)
def test_texts_are_read_from_the_published_test_file(tmp_path, name):
    path = write(tmp_path, name, "test") / "test.tsv"
    texts = columns(LAYOUTS[name].texts)
    expected = [[text("test", number, column) for column in texts] for number in range(3)]
    assert tsv.texts(tsv.read(path, text_columns(name, tmp_path))).tolist() == expected


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if layout.header])
def test_texts_are_read_from_labelled_files(tmp_path, name):
    path = write(tmp_path, name, "train") / "train.tsv"
    texts = columns(LAYOUTS[name].texts)
    expected = [[text("train", number, column) for column in texts] for number in range(12)]
    assert tsv.texts(tsv.read(path, text_columns(name, tmp_path))).tolist() == expected


@pytest.mark.parametrize("name", LAYOUTS)
def test_array_record_has_the_same_examples_in_the_same_order(tmp_path, name):
    data_dir = prepare(tmp_path / "tfds", name, write(tmp_path / "files", name))
    assert (data_dir / "glue" / name).is_dir()
    assert_contains_the_written_examples(name, data.DATASETS[name](data_dir))


@pytest.mark.parametrize("name", ["rte", "mnli"])
def test_prepared_labels_are_matched_by_name(tmp_path, name):
    reversed_labels = list(glue.TASKS[name].labels)[::-1]
    prepare(tmp_path, name, write(tmp_path, name), reversed_labels)
    assert_contains_the_written_examples(name, glue.load(name, tmp_path))


def test_broken_rows_of_qqp_are_skipped_and_counted(tmp_path, caplog):
    # The published train.tsv has some rows that end early.
    folder = write(tmp_path, "qqp")
    path = folder / "train.tsv"
    header, *rows = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([header, b"9\t9\t9", *rows[:-1], b"10\tonly", b""]))
    assert_contains_the_written_examples("qqp", glue.load("qqp", tmp_path))
    assert f"{path}: skipped 2 rows with missing columns" in caplog.text


def test_missing_files_are_reported_with_the_folder(tmp_path, monkeypatch):
    for name, layout in LAYOUTS.items():
        message = error_of(glue.load, name, tmp_path)
        for part in ("config.dataset.data_dir", f"glue/{name}/", f"{layout.folder}/train.tsv"):
            assert part in message
        assert f"in {tmp_path}, got none of them" in message
    monkeypatch.setenv("HOME", str(tmp_path))
    default = tmp_path / "tensorflow_datasets"
    assert f"in {default}, got none of them" in error_of(glue.load, "rte", None)


def test_missing_dev_file_is_reported(tmp_path):
    folder = write(tmp_path, "mnli", "train", "dev_matched")
    path = folder / "dev_mismatched.tsv"
    assert f"{path}: expected a file, got none" in error_of(glue.load, "mnli", folder)


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        ("cola", 5, "expected one of '0', '1' as the label"),
        ("rte", 6, "expected one of 'entailment', 'not_entailment' as the label"),
        ("stsb", 6, "expected a finite number as the label"),
    ],
)
def test_unknown_label_is_reported_with_its_line(tmp_path, name, line, expected):
    path = write(tmp_path, name) / "dev.tsv"
    code, _ = label(name, 4)
    rows = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    assert len(rows) == line
    cells = rows[-1].split("\t")
    cells[cells.index(code)] = "wrong"
    path.write_text("\n".join([*rows[:-1], "\t".join(cells)]), encoding="utf-8")
    message = error_of(glue.load, name, tmp_path)
    assert f"{path}, line {line}: {expected}, got 'wrong'" in message


def test_row_with_missing_columns_is_reported_with_its_line(tmp_path):
    path = write(tmp_path, "cola") / "train.tsv"
    path.write_text("gj04\t1\t\tGood .\ngj04\t0\t*\n")
    message = error_of(glue.load, "cola", tmp_path)
    assert f"{path}, line 2: expected at least 4 columns" in message
    assert "got 3" in message


def test_test_file_of_another_task_is_rejected(tmp_path):
    path = write(tmp_path, "rte", "test") / "test.tsv"
    message = error_of(tsv.read, path, text_columns("qnli", tmp_path))
    assert f"{path}, line 1: expected a header with question, sentence" in message


def test_array_record_is_preferred_to_tsv_files(tmp_path, rte_dir):
    shutil.copytree(rte_dir, tmp_path, dirs_exist_ok=True)
    write(tmp_path, "rte")
    (tmp_path / "train.tsv").write_text("not read")
    assert_contains_the_written_examples("rte", glue.load("rte", tmp_path))


def test_folder_that_is_not_prepared_as_array_record_is_rejected(tmp_path, rte_dir):
    (version,) = (rte_dir / "glue" / "rte").iterdir()
    folder = tmp_path / "glue" / "rte"
    folder.mkdir(parents=True)
    expected = f"expected glue/rte prepared as array_record in {folder}, got none"
    assert expected in error_of(glue.load, "rte", tmp_path)
    shutil.copytree(version, folder / version.name)
    info = folder / version.name / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    assert expected in error_of(glue.load, "rte", tmp_path)
