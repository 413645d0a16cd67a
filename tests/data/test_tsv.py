import numpy as np
import pytest

from akd_jax.data.readers import tsv
from akd_jax.host.errors import InputError
from tests.support.errors import error_of

TRAIN = "sentence\tlabel\nGood .\tpos\nBad .\tneg\n"
TEST = "sentence\tlabel\nFine .\tpos\n"


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        content = content if isinstance(content, bytes) else content.encode()
        (folder / f"{name}.tsv").write_bytes(content)
    return folder


def assert_parts(message, *parts):
    for part in parts:
        assert str(part) in message


def assert_examples(examples, texts, labels):
    assert examples.inputs.tolist() == texts
    assert examples.labels.tolist() == labels
    assert examples.labels.dtype == np.int32


def test_single_sentences_with_dev_and_test(tmp_path):
    dev = "sentence\tlabel\nSo .\tneg\nOh .\tpos\n"
    source = tsv.load(write(tmp_path, train=TRAIN, dev=dev, test=TEST))
    assert_examples(source.train, [["Good ."], ["Bad ."]], [1, 0])
    assert_examples(source.validation, [["So ."], ["Oh ."]], [0, 1])
    assert_examples(source.test, [["Fine ."]], [1])
    assert source.task.labels == ("neg", "pos")
    assert source.task.metrics == ("accuracy",)
    assert [source.task.format_prediction(index) for index in (0, 1)] == ["neg", "pos"]
    assert source.normalise is None
    assert source.others == {}


def test_pairs_are_read_by_column_name_and_other_columns_are_ignored(tmp_path):
    train = "label\tid\tsentence2\tgenre\tsentence1\nno\t7\tb\tx\ta\nyes\t8\td\ty\tc\n"
    test = "sentence1\tsentence2\tlabel\ne\tf\tyes\n"
    source = tsv.load(write(tmp_path, train=train, test=test))
    assert_examples(source.train, [["a", "b"], ["c", "d"]], [0, 1])
    assert_examples(source.test, [["e", "f"]], [1])


def test_additional_cells_of_a_row_are_ignored(tmp_path):
    source = tsv.load(write(tmp_path, train=TRAIN + "So .\tpos\tand\tmore\n", test=TEST))
    assert_examples(source.train, [["Good ."], ["Bad ."], ["So ."]], [1, 0, 1])


@pytest.mark.parametrize("name", ["dev", "test"])
def test_single_file_beside_train_is_the_test_split(tmp_path, name):
    source = tsv.load(write(tmp_path, train=TRAIN, **{name: TEST}))
    assert_examples(source.test, [["Fine ."]], [1])
    assert source.validation is None


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("10", "9", "2"), ("2", "9", "10")),
        (("10", "9", "two"), ("10", "9", "two")),
        (("no", "Yes", "maybe"), ("Yes", "maybe", "no")),
    ],
)
def test_labels_are_sorted_by_value_if_all_are_integers_and_by_name_otherwise(
    tmp_path, names, order
):
    train = "sentence\tlabel\n" + "".join(f"s\t{name}\n" for name in names)
    source = tsv.load(write(tmp_path, train=train, test=f"sentence\tlabel\ns\t{names[0]}\n"))
    assert source.task.labels == order
    assert [order[label] for label in source.train.labels] == list(names)
    assert [source.task.format_prediction(index) for index in range(3)] == list(order)


def test_windows_line_ends_and_byte_order_mark_are_removed(tmp_path):
    train = b"\xef\xbb\xbf" + TRAIN.replace("\n", "\r\n").encode()
    source = tsv.load(write(tmp_path, train=train, test=TEST.rstrip("\n")))
    assert_examples(source.train, [["Good ."], ["Bad ."]], [1, 0])
    assert_examples(source.test, [["Fine ."]], [1])


@pytest.mark.parametrize("character", "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
def test_unicode_line_separators_are_part_of_a_sentence(tmp_path, character):
    assert len(f"a{character}b".splitlines()) == 2
    train = f"sentence\tlabel\nA{character}b{character}\tpos\nBad .\tneg\n"
    source = tsv.load(write(tmp_path, train=train, test=TEST))
    assert_examples(source.train, [[f"A{character}b{character}"], ["Bad ."]], [1, 0])


def test_quotes_and_white_space_are_kept(tmp_path):
    sentences = ['"Quoted" , he said', '"Only opened', 'it\'s ""\\t', " spaced  out ", "Łódź 東京"]
    train = "sentence\tlabel\n" + "".join(f"{s}\t{i % 2}\n" for i, s in enumerate(sentences))
    source = tsv.load(write(tmp_path, train=train, test="sentence\tlabel\n\t1\n"))
    assert source.train.inputs[:, 0].tolist() == sentences
    assert_examples(source.test, [[""]], [1])


def test_missing_data_dir_is_rejected():
    message = error_of(tsv.load, None)
    assert_parts(message, "config.dataset.data_dir", "expected the folder of the TSV files")


def test_missing_dev_and_test_are_rejected(tmp_path):
    message = error_of(tsv.load, write(tmp_path, train=TRAIN))
    assert_parts(message, tmp_path, "expected dev.tsv or test.tsv", "got neither")


def test_missing_train_is_rejected(tmp_path):
    message = error_of(tsv.load, write(tmp_path, dev=TEST))
    assert_parts(message, f"{tmp_path / 'train.tsv'}: expected a file, got none")
    assert "config.dataset.data_dir" in message


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        ("text\tlabel", ("sentence1 and sentence2", "text, label")),
        ("sentence1\tlabel", ("sentence1 and sentence2", "sentence1, label")),
        ("sentence,label", ("with sentence", "sentence,label")),
        ("sentence\tgold", ("sentence, label", "no 'label'", "sentence, gold")),
        ("sentence1\tsentence2", ("sentence1, sentence2, label", "no 'label'")),
    ],
)
def test_missing_column_is_reported_with_the_header(tmp_path, header, parts):
    message = error_of(tsv.load, write(tmp_path, train=f"{header}\na\tb\tc\n", test=TEST))
    assert_parts(message, f"{tmp_path / 'train.tsv'}, line 1: expected a header", *parts)


def test_test_file_must_have_the_columns_of_train(tmp_path):
    test = "sentence1\tsentence2\tlabel\na\tb\tpos\n"
    message = error_of(tsv.load, write(tmp_path, train=TRAIN, test=test))
    assert_parts(message, f"{tmp_path / 'test.tsv'}, line 1: expected a header", "no 'sentence'")


def test_row_with_missing_columns_is_reported_with_its_line(tmp_path):
    test = "sentence\tother\tlabel\na\tx\tpos\nb\ty\tneg\nc neg\tz\nd\tx\tpos\n"
    message = error_of(tsv.load, write(tmp_path, train=TRAIN, test=test))
    assert_parts(message, f"{tmp_path / 'test.tsv'}, line 4: expected at least 3 columns")
    assert_parts(message, "got 2", "c neg")


def test_empty_line_between_rows_is_rejected(tmp_path):
    train = "sentence\tlabel\r\na\tpos\r\n\r\nb\tneg\r\n"
    message = error_of(tsv.load, write(tmp_path, train=train, test=TEST))
    assert_parts(message, f"{tmp_path / 'train.tsv'}, line 3: expected at least 2 columns", "got 1")


def test_empty_lines_at_the_end_are_ignored(tmp_path):
    source = tsv.load(write(tmp_path, train=TRAIN + "\r\n\n\r\n", test=TEST))
    assert len(source.train) == 2


@pytest.mark.parametrize("name", ["dev", "test"])
def test_unknown_label_is_reported_with_its_line(tmp_path, name):
    files = {"train": TRAIN, "dev": TEST, "test": TEST, name: TEST + "So .\tpos \n"}
    message = error_of(tsv.load, write(tmp_path, **files))
    assert_parts(
        message, f"{tmp_path / name}.tsv, line 3: expected one of 'neg', 'pos' as the label"
    )
    assert message.endswith("got 'pos '; correct the row")


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", "\ufeff\r\n"])
@pytest.mark.parametrize("name", ["train", "test"])
def test_empty_file_is_rejected(tmp_path, name, content):
    message = error_of(tsv.load, write(tmp_path, **{"train": TRAIN, "test": TEST, name: content}))
    assert_parts(message, f"{tmp_path / name}.tsv: expected a header and rows, got an empty file")


@pytest.mark.parametrize("name", ["train", "test"])
def test_header_without_rows_is_rejected(tmp_path, name):
    files = {"train": TRAIN, "test": TEST, name: "sentence\tlabel\n"}
    message = error_of(tsv.load, write(tmp_path, **files))
    assert_parts(message, f"{tmp_path / name}.tsv: expected rows")


@pytest.mark.parametrize(("encoding", "line"), [("latin-1", 2), ("utf-16", 1)])
def test_other_encodings_are_rejected(tmp_path, encoding, line):
    test = "sentence\tlabel\nCafé\tpos\n".encode(encoding)
    message = error_of(tsv.load, write(tmp_path, train=TRAIN, test=test))
    assert_parts(message, f"{tmp_path / 'test.tsv'}, line {line}: expected a text file in UTF-8")


def test_folder_instead_of_file_is_rejected(tmp_path):
    write(tmp_path, train=TRAIN)
    (tmp_path / "test.tsv").mkdir()
    message = error_of(tsv.load, tmp_path)
    assert_parts(message, f"{tmp_path / 'test.tsv'}: expected a text file in UTF-8")


def test_movie_reviews_have_named_labels_and_write_predictions_as_codes(tmp_path):
    files = {"train": "a\t0\nb\t1\n", "dev": "c\t1\n", "test": "d\t1\ne\t0\n"}
    files = {name: "sentence\tlabel\n" + rows for name, rows in files.items()}
    source = tsv.load_movie_reviews(write(tmp_path, **files))
    assert_examples(source.train, [["a"], ["b"]], [0, 1])
    assert_examples(source.validation, [["c"]], [1])
    assert_examples(source.test, [["d"], ["e"]], [1, 0])
    assert source.task.labels == ("negative", "positive")
    assert source.task.codes == ("0", "1")
    assert [source.task.format_prediction(index) for index in (0, 1)] == ["0", "1"]


def test_movie_reviews_reject_other_labels(tmp_path):
    files = dict.fromkeys(("train", "dev", "test"), "sentence\tlabel\na\t0\nb\t2\n")
    message = error_of(tsv.load_movie_reviews, write(tmp_path, **files))
    assert_parts(message, f"{tmp_path / 'train.tsv'}, line 3: expected one of '0', '1'", "got '2'")


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("sentence\na\nb c\n", [["a"], ["b c"]]),
        ("index\tsentence\n0\ta\n1\tb c\n", [["a"], ["b c"]]),
        ("sentence\tlabel\na\tpos\nb c\tunknown\n", [["a"], ["b c"]]),
        ("sentence2\tindex\tsentence1\nb\t0\ta\nd\t1\tc\n", [["a", "b"], ["c", "d"]]),
        ("sentence1\tsentence2\tlabel\na\tb\t0\n", [["a", "b"]]),
    ],
)
def test_texts_are_read_from_labelled_and_unlabelled_files(tmp_path, content, texts):
    columns = ("sentence1", "sentence2") if len(texts[0]) == 2 else ("sentence",)
    cells = tsv.texts(tsv.read(write(tmp_path, some=content) / "some.tsv", columns))
    assert cells.shape == (len(texts), len(texts[0]))
    assert cells.tolist() == texts


def test_source_has_the_text_columns_of_train(tmp_path):
    pairs = "sentence1\tsentence2\tlabel\na\tb\t0\nc\td\t1\n"
    single = "sentence\tlabel\na\t0\nc\t1\n"
    one = tsv.load(write(tmp_path / "one", train=single, dev=single))
    two = tsv.load(write(tmp_path / "two", train=pairs, dev=pairs))
    assert (one.columns, two.columns) == (("sentence",), ("sentence1", "sentence2"))
    message = error_of(tsv.read, tmp_path / "two/dev.tsv", one.columns)
    assert_parts(message, "line 1: expected a header with sentence, got no 'sentence'")
    assert_parts(
        error_of(tsv.read, tmp_path / "none.tsv", one.columns), "expected a file, got none"
    )


@pytest.mark.parametrize("labels", [("x", "x"), ("x", "")])
def test_fewer_than_two_labels_are_rejected(tmp_path, labels):
    rows = "".join(f"text\t{label}\n" for label in labels)
    folder = write(tmp_path, train=f"sentence\tlabel\n{rows}", dev=f"sentence\tlabel\n{rows}")
    message = error_of(tsv.load, folder)
    assert_parts(message, f"{folder / 'train.tsv'}: expected at least two different labels")


def test_integer_labels_are_sorted_by_value_and_ties_by_name(tmp_path):
    rows = "".join(f"text\t{label}\n" for label in ("10", "-2", "1", "01", "9", "-1"))
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text(f"sentence\tlabel\n{rows}")
    assert tsv.load(tmp_path).task.labels == ("-2", "-1", "01", "1", "9", "10")


def test_carriage_return_within_a_sentence_is_kept(tmp_path):
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_bytes(b"sentence\tlabel\r\none\rline\t0\r\ntwo\t1\r\n")
    assert tsv.load(tmp_path).train.inputs.tolist() == [["one\rline"], ["two"]]


@pytest.mark.parametrize("label", ["nan", "inf", "five"])
def test_regression_rejects_labels_that_are_not_finite_numbers(tmp_path, label):
    path = tmp_path / "scores.tsv"
    path.write_text(f"sentence\tscore\none\t1.5\ntwo\t{label}\n")
    with pytest.raises(InputError, match=f"line 3: expected a finite number .*, got '{label}'"):
        tsv.examples(tsv.read(path, ["sentence", "score"]), {})


def test_error_lists_only_some_of_many_labels(tmp_path):
    labels = {str(number): str(number) for number in range(3000)}
    path = tmp_path / "many.tsv"
    path.write_text("sentence\tlabel\none\tother\n")
    with pytest.raises(InputError, match=r"one of '0', .* '9' \.\.\. as the label") as error:
        tsv.examples(tsv.read(path, ["sentence", "label"]), labels)
    assert len(str(error.value)) < 300
