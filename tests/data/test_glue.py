"""GLUE's tasks, written here in the layouts of its TSV files and read by the real code."""

import dataclasses
import shutil

import numpy as np
import pytest
from tensorflow_datasets.core import registered
from tensorflow_datasets.text.glue import Glue

from akd_jax import data
from akd_jax.data import glue, tsv
from tests.support.errors import error_of


@dataclasses.dataclass(frozen=True)
class Layout:
    """A task as GLUE publishes it; headers with spaces for tabs, and #1_ID for '#1 ID'."""

    folder: str
    train: str  # The header of train.tsv; CoLA's columns have no names in the file.
    test: str
    texts: str
    label: str
    codes: tuple[str, ...]
    names: tuple[str, ...]
    metrics: tuple[str, ...]
    dev: str = ""  # Its header, where it is another than that of train.tsv.
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
    """As the file has it, and as it is to be read."""
    codes = LAYOUTS[name].codes
    index = (number // 2 + 1) % (len(codes) or 1)
    return (codes[index], index) if codes else (f"{number * 0.4:.3f}", np.float32(number * 0.4))


def table(name, file):
    """The text of a file; cells that are no text or label tell of their place."""
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


def assert_is_what_was_written(name, source):
    layout = LAYOUTS[name]
    files = {"train": "train", **dev_files(name)}
    assert set(splits_of(source)) == set(files)
    for split, file in files.items():
        found, numbers = splits_of(source)[split], range(SIZES[file])
        expected = [[text(file, n, column) for column in columns(layout.texts)] for n in numbers]
        assert found.inputs.tolist() == expected
        assert all(type(cell) is str for row in found.inputs for cell in row)
        np.testing.assert_array_equal(found.labels, [label(name, n)[1] for n in numbers])
        assert found.labels.dtype == (np.int32 if layout.names else np.float32)
    assert source.validation is None
    assert source.normalise is None


def prepare(folder, name, files):
    """Prepared by the stock builder, which reads the same files, but for their download."""

    with registered.skip_registration():  # The stock one has the name already.

        class Prepared(Glue):
            name = "glue"

            def _split_generators(self, dl_manager):
                splits = {"train": "train"}
                for file in dev_files(name).values():
                    splits[file.replace("dev", "validation")] = file
                return {
                    split: self._generate_examples(files / f"{file}.tsv", file, mrpc_files(file))
                    for split, file in splits.items()
                }

    def mrpc_files(file):
        """Of MRPC it reads one file with the rows of both splits, and whose those of dev are."""
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


def test_the_nine_tasks_are_data_sets():
    assert set(glue.TASKS) == set(LAYOUTS)
    assert set(LAYOUTS) < set(data.DATASETS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_official_files_are_read_from_the_tasks_folder_and_from_the_one_above(tmp_path, name):
    layout = LAYOUTS[name]
    folder = write(tmp_path / layout.folder, name)
    for data_dir in (tmp_path, folder):
        assert_is_what_was_written(name, data.DATASETS[name](data_dir))


@pytest.mark.parametrize("name", LAYOUTS)
def test_tasks_have_the_labels_and_metrics_of_glue(tmp_path, name):
    layout = LAYOUTS[name]
    task = data.DATASETS[name](write(tmp_path, name)).task
    assert task.labels == layout.names
    assert task.metrics == layout.metrics
    assert task.outputs == max(len(layout.names), 1)
    assert task.regression == (name == "stsb")
    if name == "stsb":
        assert task.format_prediction(np.float32(2.5)) == "2.500"
    else:
        assert tuple(map(task.write, range(task.outputs))) == layout.codes


def to_predict_from(name, folder):
    """The columns that a source says texts without labels are in."""
    return glue.load(name, write(folder / "labelled", name)).columns


@pytest.mark.parametrize("name", LAYOUTS)
def test_texts_are_read_from_the_official_test_file(tmp_path, name):
    path = write(tmp_path, name, "test") / "test.tsv"
    texts = columns(LAYOUTS[name].texts)
    expected = [[text("test", number, column) for column in texts] for number in range(3)]
    assert tsv.texts(tsv.read(path, to_predict_from(name, tmp_path))).tolist() == expected


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if layout.header])
def test_texts_are_read_from_labelled_files_too(tmp_path, name):
    path = write(tmp_path, name, "train") / "train.tsv"
    texts = columns(LAYOUTS[name].texts)
    expected = [[text("train", number, column) for column in texts] for number in range(12)]
    assert tsv.texts(tsv.read(path, to_predict_from(name, tmp_path))).tolist() == expected


@pytest.mark.parametrize("name", LAYOUTS)
def test_array_record_gives_the_same_examples_in_the_same_order(tmp_path, name):
    data_dir = prepare(tmp_path / "tfds", name, write(tmp_path / "files", name))
    assert (data_dir / "glue" / name).is_dir()
    assert_is_what_was_written(name, data.DATASETS[name](data_dir))


@pytest.mark.parametrize("name", ["rte", "mnli"])
def test_prepared_labels_are_matched_by_name(tmp_path, monkeypatch, name):
    files = write(tmp_path, name)
    reverse = reversed(glue.TASKS[name].labels)
    with monkeypatch.context() as patch:  # While it is prepared; not while it is read.
        patch.setattr(Glue.builder_configs[name], "label_classes", list(reverse))
        prepare(tmp_path, name, files)
    assert_is_what_was_written(name, glue.load(name, tmp_path))


def test_broken_rows_of_qqp_are_passed_over_with_their_number(tmp_path, caplog):
    # GLUE's own train.tsv has some that end early.
    folder = write(tmp_path, "qqp")
    path = folder / "train.tsv"
    header, *rows = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([header, b"9\t9\t9", *rows[:-1], b"10\tonly", b""]))
    assert_is_what_was_written("qqp", glue.load("qqp", tmp_path))
    assert f"{path}: 2 broken rows are passed over" in caplog.text


def test_missing_data_is_said_with_where_it_was_looked_for(tmp_path, monkeypatch):
    for name, layout in LAYOUTS.items():
        message = error_of(glue.load, name, tmp_path)
        for part in ("config.dataset.data_dir", f"glue/{name}/", f"{layout.folder}/train.tsv"):
            assert part in message
        assert f"in {tmp_path}, got none of them" in message
    monkeypatch.setattr(glue, "DEFAULT_DIR", tmp_path / "default")
    assert f"in {tmp_path / 'default'}, got none of them" in error_of(glue.load, "rte", None)


def test_a_missing_dev_file_is_named(tmp_path):
    folder = write(tmp_path, "mnli", "train", "dev_matched")
    path = folder / "dev_mismatched.tsv"
    assert f"{path}: expected a file, got none" in error_of(glue.load, "mnli", folder)


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        ("cola", 5, "expected one of '0', '1' as the label"),
        ("rte", 6, "expected one of 'entailment', 'not_entailment' as the label"),
        ("stsb", 6, "expected a number as the label"),
    ],
)
def test_a_wrong_label_is_named_by_its_line(tmp_path, name, line, expected):
    path = write(tmp_path, name) / "dev.tsv"
    code, _ = label(name, 4)
    rows = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    assert len(rows) == line
    cells = rows[-1].split("\t")
    cells[cells.index(code)] = "wrong"
    path.write_text("\n".join([*rows[:-1], "\t".join(cells)]), encoding="utf-8")
    message = error_of(glue.load, name, tmp_path)
    assert f"{path}, line {line}: {expected}, got 'wrong'" in message


def test_a_row_without_all_columns_is_named_by_its_line(tmp_path):
    path = write(tmp_path, "cola") / "train.tsv"
    path.write_text("gj04\t1\t\tGood .\ngj04\t0\t*\n")
    message = error_of(glue.load, "cola", tmp_path)
    assert f"{path}, line 2: expected at least 4 columns" in message
    assert "got 3" in message


def test_texts_of_another_tasks_file(tmp_path):
    path = write(tmp_path, "rte", "test") / "test.tsv"
    message = error_of(tsv.read, path, to_predict_from("qnli", tmp_path))
    assert f"{path}, line 1: expected a header with question, sentence" in message


def test_array_record_comes_first(tmp_path, rte_dir):
    shutil.copytree(rte_dir, tmp_path, dirs_exist_ok=True)
    write(tmp_path, "rte")
    (tmp_path / "train.tsv").write_text("not read")
    assert_is_what_was_written("rte", glue.load("rte", tmp_path))


def test_tfds_prepared_in_another_format_or_not_at_all_is_said_at_once(tmp_path, rte_dir):
    (version,) = (rte_dir / "glue" / "rte").iterdir()
    folder = tmp_path / "glue" / "rte"
    folder.mkdir(parents=True)
    expected = f"expected glue/rte prepared as array_record in {folder}, got none"
    assert expected in error_of(glue.load, "rte", tmp_path)
    shutil.copytree(version, folder / version.name)
    info = folder / version.name / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    assert expected in error_of(glue.load, "rte", tmp_path)
