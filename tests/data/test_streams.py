"""Streams of tasks: their files, and the rows of both views."""

import json
import shutil

import numpy as np
import pytest
from tokenizers import Tokenizer

from akd_jax.data import completions, sequences
from akd_jax.data.readers import streams
from akd_jax.data.readers.streams import StreamOptions
from akd_jax.types import COMPLETION, PROMPT, UNLABELLED
from experiments.preparation import streams as preparation
from tests.support.errors import error_of
from tests.support.streaming import TASKS, write_stream


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp("stream"))


@pytest.fixture
def changed(stream, tmp_path):
    return shutil.copytree(stream, tmp_path / "changed")


@pytest.fixture(scope="module")
def tokenizer(stream):
    return Tokenizer.from_file(str(stream / streams.TOKENIZER))


def test_tasks_and_their_splits(stream):
    source = streams.load(stream, StreamOptions(tasks="reverse,copy"))
    assert source.task.group_metrics == (("reverse", "phoneme_accuracy"), ("copy", "exact_match"))
    assert source.task.metrics == ("score", "exact_match")
    assert source.train.groups.tolist() == ["reverse"] * 24 + ["copy"] * 24
    assert set(source.others) == {"test_reverse", "test_copy"}
    context, question, answer = source.others["test_reverse"].inputs[0]
    assert (question, answer) == ("backwards?", context[::-1])
    # All tasks of the folder have a token.
    assert [name for name, _ in source.task.target.tasks] == sorted(TASKS)
    everything = streams.load(stream)
    assert [name for name, _ in everything.task.group_metrics] == sorted(TASKS)


def test_the_tokenizer_has_a_token_for_each_character_and_question(tokenizer):
    tokens = tokenizer.encode("abca backwards? acba", add_special_tokens=False).tokens
    assert tokens == ["a", "b", "c", "a", "Ġbackwards?", "Ġ", "a", "c", "b", "a"]
    for text in ("abca backwards? acba", "<answer> ä", "one\nline"):
        tokenizer.encode_special_tokens = True
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids) == text


def test_rows_of_both_views(stream, tokenizer):
    task = streams.load(stream).task
    vocabulary = completions.vocabulary(tokenizer, task.target)
    texts = np.array([["ab", "backwards?", "ba"], ["", "c which first?", "c"]], object)
    rows, truncated = vocabulary.read(texts, (), {"text": 8})
    labels = vocabulary.label(texts, 8)
    a, b, c = (tokenizer.token_to_id(x) for x in "abc")
    backwards, start = tokenizer.token_to_id("Ġbackwards?"), task.target.start
    which = tokenizer.token_to_id("ĠwhichĠfirst?")
    end = task.target.end
    assert not truncated.any()
    assert rows.lengths.tolist() == [6, 4]
    assert rows.ids.tolist() == [
        [a, b, backwards, start, b, a, 0, 0],
        [c, which, start, c, *[0] * 4],
    ]
    assert rows.token_type_ids[0].tolist() == [PROMPT] * 3 + [COMPLETION] * 3 + [PROMPT] * 2
    no = UNLABELLED
    assert labels.tolist() == [[no, no, no, b, a, end, no, no], [no, no, c, end, *[no] * 4]]
    # As whole texts, which begin with the token of the task.
    tasks = dict(task.target.tasks)
    starts = np.array([tasks["reverse"], tasks["first"]], np.int32)
    whole, labels = completions.language_rows(rows, task.target, starts)
    assert whole.lengths.tolist() == [7, 5]
    assert whole.ids[0].tolist() == [starts[0], a, b, backwards, start, b, a, 0]
    assert (whole.token_type_ids == COMPLETION).all()
    assert labels[0].tolist() == [a, b, backwards, start, b, a, end, no]
    assert labels[1].tolist() == [c, which, start, c, end, *[no] * 3]


def test_prompts_lose_their_beginning_and_then_completions_their_end(stream, tokenizer):
    target = streams.load(stream).task.target
    vocabulary = completions.vocabulary(tokenizer, target)
    texts = np.array([["abcd", "again?", "abc"], ["", "again?", "abcdab"]], object)
    rows, truncated = vocabulary.read(texts, (), {"text": 6})
    labels = vocabulary.label(texts, 6)
    assert truncated.tolist() == [True, True]
    assert (
        tokenizer.decode(rows.ids[0].tolist(), skip_special_tokens=False) == "d again?<answer>abc"
    )
    assert tokenizer.decode(rows.ids[1].tolist(), skip_special_tokens=False) == "ain?<answer>abcd"
    assert labels[0, -1] == target.end
    assert target.end not in labels[1]
    # A whole text that is one token too long loses its last token, and has no end.
    whole, labels = completions.language_rows(rows, target, np.full(2, target.tasks[0][1]))
    assert whole.lengths.tolist() == [6, 6]
    assert labels[0].tolist() == rows.ids[0].tolist()


def test_bad_streams_are_refused_in_one_line(stream, changed, tmp_path):
    def message(tasks="", folder=stream):
        return error_of(streams.load, folder, StreamOptions(tasks=tasks))

    assert message("copy,copy") == (
        "config.dataset.tasks: expected each task once, got copy twice; remove one"
    )
    assert message("copy,sort") == (
        "config.dataset.tasks: expected tasks among copy, first, reverse, got 'sort'; correct the"
        f" name, or add sort/train.tsv to {stream}"
    )
    (tmp_path / "empty").mkdir()
    assert message(folder=tmp_path / "empty") == (
        f"{tmp_path / 'empty'}: expected a subfolder for each task, with train.tsv, dev.tsv and"
        " test.tsv, got none; correct config.dataset.data_dir"
    )
    (changed / "copy" / streams.METRIC).write_text(json.dumps({"metric": "bleu"}))
    assert message(folder=changed).startswith(
        f'{changed / "copy" / "metric.json"}: expected {{"metric": NAME}} with a name among'
    )
    (changed / "copy" / streams.METRIC).unlink()
    with (changed / "copy/dev.tsv").open("a") as file:
        file.write("abc\tagain?\t \n")
    assert message(folder=changed) == (
        f"{changed}/copy/dev.tsv, line 10: expected text as the answer, got an empty cell; remove"
        " the row"
    )
    shutil.copytree(changed / "first", changed / "sort")
    shutil.copy(stream / "copy/dev.tsv", changed / "copy/dev.tsv")
    assert message(folder=changed) == (
        f"{changed / streams.TOKENIZER}: expected the token <task:sort>, got none; delete the file"
        " and run experiments.prepare again"
    )


def test_prepared_tokenizer_extends_that_of_gpt2(stream, tmp_path):
    """The first ids are those of the folder; the special tokens follow."""
    folder = tmp_path / "gpt2"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    vocabulary = {x: n for n, x in enumerate([*"abcd?Ġ", "ab", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")
    data = shutil.copytree(stream, tmp_path / "data")
    (data / streams.TOKENIZER).unlink()
    preparation.prepare(data, preparation.Options(folder=folder))
    extended = Tokenizer.from_file(str(data / streams.TOKENIZER))
    assert extended.encode("abcd ab", add_special_tokens=False).tokens == [
        "ab",
        "c",
        "d",
        "Ġ",
        "ab",
    ]
    target = sequences.target_vocabulary((data / streams.TOKENIZER,) * 2)
    assert target.end == vocabulary["<|endoftext|>"]
    assert extended.token_to_id("ab") == vocabulary["ab"]
    assert min(target.start, target.pad) >= len(vocabulary)
    assert target.size == len(vocabulary) + 2 + len(TASKS)
