"""XLM-RoBERTa's tokenizer from a file of SentencePiece, against transformers and SentencePiece."""

import numpy as np
import pytest
import sentencepiece
import transformers
from sentencepiece import sentencepiece_model_pb2

from akd_jax.data.text import tokenise
from akd_jax.host.errors import InputError
from akd_jax.models import tokenizer, unigram
from akd_jax.models.huggingface import Folder
from tests.support import multilingual
from tests.support.encoders import save_tokenizer, train_sentencepiece

FILE = "sentencepiece.bpe.model"
TEXTS = multilingual.sentences(1000, seed=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder whose only tokenizer is a small vocabulary in a file. Tests must not change it."""
    path = tmp_path_factory.mktemp("folder")
    vocabulary = save_tokenizer(path, "xlm-roberta", multilingual.sentences(2000, 0), 400)
    assert len(vocabulary) > 200
    (path / "config.json").write_text('{"model_type": "xlm-roberta"}')
    return path


def ids_of(path, texts):
    """The ids of texts, or of pairs, with our tokenizer of a folder."""
    return [encoding.ids for encoding in tokenizer.load(path).encode_batch(texts)]


def write(path, model):
    """Writes a serialised model, or a tokenizer of SentencePiece, into a folder."""
    content = model if isinstance(model, bytes) else model.serialized_model_proto()
    (path / FILE).write_bytes(content)


def assert_refused(path, match):
    with pytest.raises(InputError, match=match) as error:
        tokenizer.load(path)
    assert "\n" not in str(error.value)
    assert str(path / FILE) in str(error.value)


def test_tokens_equal_those_of_sentencepiece(folder):
    library = sentencepiece.SentencePieceProcessor(model_file=str(folder / FILE))
    # Fairseq's ids: <unk> is 3, and the pieces from 3 on move up by 1, after <pad>.
    expected = [[0, *(n + 1 if n else 3 for n in library.encode(text)), 2] for text in TEXTS]
    assert ids_of(folder, TEXTS) == expected
    assert 100 < sum(3 in ids for ids in expected) < 500  # Some texts have unknown characters.


def test_tokens_equal_those_of_transformers(folder):
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    assert isinstance(reference, transformers.XLMRobertaTokenizer)
    assert ids_of(folder, TEXTS) == reference(TEXTS)["input_ids"]
    special = [
        "<s> a</s>",
        "the <mask> fox<mask>.",
        "<pad>x",
        "<unk>",
        "",
        " ",
        "▁ a▁b",
        # The normalisation replaces these characters.
        "\uff1cs\uff1e",
        "\uff41\u0301",
        "a\u3000\u0301",
    ]
    assert ids_of(folder, special) == reference(special)["input_ids"]
    ours = tokenizer.load(folder)
    for name in ("<s>", "<pad>", "</s>", "<unk>", "<mask>"):
        assert ours.token_to_id(name) == reference.convert_tokens_to_ids(name)
    assert ours.get_vocab_size() == len(reference)


def test_pairs_equal_those_of_transformers(folder):
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    pairs = list(zip(TEXTS[:500], TEXTS[500:], strict=True))
    first, second = map(list, zip(*pairs, strict=True))
    assert ids_of(folder, pairs) == reference(first, second)["input_ids"]
    tokens, truncated = tokenise(tokenizer.load(folder), np.array(pairs, object), 32)
    expected = reference(first, second, truncation=True, max_length=32)["input_ids"]
    assert 50 < truncated.sum() < 500
    for row, length, ids in zip(tokens.ids, tokens.lengths, expected, strict=True):
        assert row[:length].tolist() == ids
    assert not tokens.token_type_ids.any()


def test_tokenizer_that_transformers_saves_gives_the_same_tokens(folder, tmp_path):
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").exists()
    assert ids_of(tmp_path, TEXTS) == ids_of(folder, TEXTS)


def test_vocabulary_without_normalisation_is_read(tmp_path):
    model = train_sentencepiece(TEXTS, 400, normalization_rule_name="identity")
    write(tmp_path, model)
    assert unigram.read(tmp_path / FILE).charsmap == b""
    expected = [
        [0, *(n + 1 if n else 3 for n in model.encode(text)), 2] for text in ("ＡＢ①", "ab")
    ]
    assert ids_of(tmp_path, ["ＡＢ①", "ab"]) == expected


def test_pieces_and_scores_equal_those_of_sentencepiece(folder):
    library = sentencepiece.SentencePieceProcessor(model_file=str(folder / FILE))
    numbers = range(3, library.vocab_size())
    expected = [(library.id_to_piece(n), library.get_score(n)) for n in numbers]
    assert list(unigram.read(folder / FILE).pieces) == expected


def test_incomplete_files_are_refused(folder, tmp_path):
    cls = sentencepiece_model_pb2.ModelProto
    whole = cls.FromString((folder / FILE).read_bytes())
    parts = {name: getattr(whole, name) for name in ("pieces", "trainer_spec", "normalizer_spec")}
    content = cls(**parts).SerializeToString()
    write(tmp_path, content)
    assert ids_of(tmp_path, TEXTS[:5]) == ids_of(folder, TEXTS[:5])
    del parts["normalizer_spec"]
    without_normalizer = cls(**parts).ByteSize()
    del parts["trainer_spec"]
    only_pieces = cls(**parts).ByteSize()
    assert 1000 < only_pieces < without_normalizer < len(content)
    cuts = np.linspace(0, len(content) - 1, 30, dtype=int).tolist()
    for cut in (without_normalizer, only_pieces, only_pieces - 1, *cuts):
        write(tmp_path, content[:cut])
        assert_refused(tmp_path, "expected a file of SentencePiece.*; fetch it again")


@pytest.mark.parametrize(
    "content",
    [b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", b"<html>\n</html>\n"],
    ids=["pointer", "page"],
)
def test_other_files_are_refused(content, tmp_path):
    write(tmp_path, content)
    assert_refused(tmp_path, "expected a file of SentencePiece, got a damaged one: ")


def test_damaged_normalisation_is_refused(folder, tmp_path):
    model = sentencepiece_model_pb2.ModelProto.FromString((folder / FILE).read_bytes())
    model.normalizer_spec.precompiled_charsmap = b"123"
    write(tmp_path, model.SerializeToString())
    with pytest.raises(InputError, match="expected a tokenizer, got a damaged one: ") as error:
        tokenizer.load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"model_type": "bpe"},
            "got a vocabulary of the model_type 2; use a folder with tokenizer",
        ),
        ({"user_defined_symbols": ["<a>", "<b>"]}, "got other pieces, such as <a>; use"),
        ({"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3}, "got <pad>, <unk>, <s> first; use"),
        ({"pad_id": 3}, "got other pieces, such as <pad>; use"),
    ],
    ids=["bpe", "user-defined", "order", "padding"],
)
def test_vocabularies_of_other_models_are_refused(options, match, tmp_path):
    write(tmp_path, train_sentencepiece(TEXTS, 400, **options))
    assert_refused(tmp_path, f"a unigram vocabulary with the pieces <unk>, <s>, </s> and .*{match}")


def test_digest_covers_the_file(folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    write(tmp_path, (folder / FILE).read_bytes())
    assert Folder(tmp_path).digest() == Folder(folder).digest()
    write(tmp_path, train_sentencepiece(TEXTS, 200))
    assert Folder(tmp_path).digest() != Folder(folder).digest()
