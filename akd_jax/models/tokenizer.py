"""Tokenizers, loaded from the files of a Hugging Face folder."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from akd_jax.host.errors import InputError, require
from akd_jax.host.files import Path
from akd_jax.models import unigram

if TYPE_CHECKING:  # tokenizers is an optional package.
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"  # GPT-2's only special token.
SENTENCEPIECE = "sentencepiece.bpe.model"
SIDES = ("source.spm", "target.spm")
FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    SENTENCEPIECE,
    *SIDES,
    "target_vocab.json",
)
_FOREIGN = "\ue000"  # In front of pieces of the other side, so that they match no text.


def load(path: Path) -> "Tokenizer":
    """Loads the tokenizer of a folder.

    The folder contains tokenizer.json, or vocab.txt (BERT and DistilBERT), or vocab.json and
    merges.txt (RoBERTa), or sentencepiece.bpe.model (XLM-RoBERTa). The first of these is used.

    Raises:
      InputError: the folder contains none of these files, a file is damaged, or a package is not
        installed.
    """
    tokenizers = require("tokenizers", "text")
    try:
        settings = path / "tokenizer_config.json"
        options = json.loads(settings.read_text(encoding="utf-8")) if settings.exists() else {}
        if (path / "tokenizer.json").exists():
            return tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
        if (path / "vocab.txt").exists():
            return _word_piece(path / "vocab.txt", options)
        if (path / "vocab.json").exists() and (path / "merges.txt").exists():
            return _byte_level(path / "vocab.json", path / "merges.txt", options)
        if (path / SENTENCEPIECE).exists():
            return _sentence_piece(path / SENTENCEPIECE)
    except InputError:
        raise
    except Exception as error:  # tokenizers raises plain Exception.
        raise InputError(
            f"{path}: expected a tokenizer, got a damaged one: {error}; fetch it again"
        ) from None
    raise InputError(
        f"{path}: expected tokenizer.json, or vocab.txt, or vocab.json with merges.txt, or"
        f" {SENTENCEPIECE}, got none of them; fetch the tokenizer of the model"
    )


def load_sides(path: Path) -> "tuple[Tokenizer, Tokenizer]":
    """Loads the tokenizers of sources and targets of a translation model of Marian.

    The folder contains source.spm, target.spm and vocab.json, the ids of the pieces of both; or
    target_vocab.json has those of the targets.

    Raises:
      InputError: a file is missing or damaged, or a package is not installed.
    """
    require("tokenizers", "text")
    source_ids = _read_ids(path / "vocab.json")
    target_file = path / "target_vocab.json"
    target_ids = _read_ids(target_file) if target_file.exists() else source_ids
    return (
        _sentence_piece_with_ids(path / SIDES[0], source_ids),
        _sentence_piece_with_ids(path / SIDES[1], target_ids),
    )


def _read_ids(path: Path) -> list[str]:
    """Returns the pieces of a vocabulary in the order of their ids."""
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
        pieces = sorted(numbers, key=numbers.get)
        if [numbers[piece] for piece in pieces] != list(range(len(pieces))):
            raise ValueError("ids with gaps")
        if missing := {"<pad>", "</s>", "<unk>"} - set(pieces):
            raise ValueError(f"no {min(missing)}")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: expected an object with the ids of all pieces, got: {error}; fetch the files"
            " of the model again"
        ) from None
    return pieces


def _sentence_piece_with_ids(file: Path, pieces: Sequence[str]) -> "Tokenizer":
    """Returns the tokenizer of a side; pieces that its file lacks are only decoded."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models

    vocabulary = unigram.read(file)
    scores = dict(vocabulary.pieces)
    lowest = min(scores.values())
    # A code such as >>fra<< in front of a source chooses the language of the target.
    codes = [piece for piece in pieces if re.fullmatch(">>.+<<", piece)]
    special = ["<pad>", "</s>", "<unk>"]
    known = {*scores, *special, *codes}
    names = [piece if piece in known else f"{_FOREIGN}{piece}" for piece in pieces]
    entries = [(name, scores.get(name, lowest)) for name in names]
    tokenizer = Tokenizer(
        models.Unigram(entries, unk_id=pieces.index("<unk>"), byte_fallback=False)
    )
    _split_at_spaces(tokenizer, vocabulary.charsmap)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(Regex(_FOREIGN), ""),
            decoders.Metaspace(replacement="▁", prepend_scheme="always"),
        ]
    )
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([AddedToken(code, normalized=False) for code in codes])
    # As read from a file, so that a saved tokenizer has the same description.
    return Tokenizer.from_str(tokenizer.to_str())


def _word_piece(vocab: Path, options: Mapping[str, Any]) -> "Tokenizer":
    """Returns BERT's tokenizer with the options of tokenizer_config.json."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece.from_file(str(vocab), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=options.get("tokenize_chinese_chars", True),
        strip_accents=options.get("strip_accents"),
        lowercase=options.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    cls, sep = ((name, _token_id(tokenizer, name)) for name in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = processors.BertProcessing(sep, cls)
    return tokenizer


def _byte_level(vocab: Path, merges: Path, options: Mapping[str, Any]) -> "Tokenizer":
    """Returns the tokenizer of RoBERTa or GPT-2 with the options of tokenizer_config.json."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    prefix_space = options.get("add_prefix_space", False)
    tokenizer = Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    if tokenizer.token_to_id("<s>") is None:  # GPT-2, which adds no token to a text.
        tokenizer.add_special_tokens([END_OF_TEXT])
        return tokenizer
    mask = AddedToken("<mask>", lstrip=True, special=True)
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", mask])
    cls, sep = ((name, _token_id(tokenizer, name)) for name in ("<s>", "</s>"))
    tokenizer.post_processor = processors.RobertaProcessing(sep, cls, add_prefix_space=prefix_space)
    return tokenizer


def _sentence_piece(file: Path) -> "Tokenizer":
    """Returns XLM-RoBERTa's tokenizer.

    The ids are those of fairseq: <s>, <pad>, </s> and <unk>, then the ordinary pieces, then <mask>.
    The tokens are those of transformers. SentencePiece itself has others where a combining mark
    follows a character that the normalisation replaces, such as a full-width letter: the package
    tokenizers drops the mark.
    """
    from tokenizers import AddedToken, Tokenizer, models, processors

    vocabulary = unigram.read(file)
    first = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    pieces = [*first, *vocabulary.pieces, ("<mask>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    _split_at_spaces(tokenizer, vocabulary.charsmap)
    mask = AddedToken("<mask>", lstrip=True, special=True)
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", mask])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(name, _token_id(tokenizer, name)) for name in ("<s>", "</s>")],
    )
    return tokenizer


def _split_at_spaces(tokenizer: "Tokenizer", charsmap: bytes) -> None:
    """Makes a tokenizer normalise and split texts as SentencePiece does."""
    from tokenizers import normalizers, pre_tokenizers

    if charsmap:
        tokenizer.normalizer = normalizers.Precompiled(charsmap)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
        ]
    )


def _token_id(tokenizer: "Tokenizer", token: str) -> int:
    token_id = tokenizer.token_to_id(token)
    assert token_id is not None, "expected a token that was just added"
    return token_id
