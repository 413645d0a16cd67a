"""Tokenizers from the files that a Hugging Face folder holds."""

import json
from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from akd_jax.errors import InputError
from akd_jax.files import Path

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)


def load(path: Path) -> Tokenizer:
    """The tokenizer in a folder: tokenizer.json; or vocab.txt, BERT's; or vocab.json and
    merges.txt, RoBERTa's.

    Raises:
      InputError: there is none of them, or a damaged one.
    """
    try:
        settings = path / "tokenizer_config.json"
        options = json.loads(settings.read_text(encoding="utf-8")) if settings.exists() else {}
        if (path / "tokenizer.json").exists():
            return Tokenizer.from_file(str(path / "tokenizer.json"))
        if (path / "vocab.txt").exists():
            return _word_piece(path / "vocab.txt", options)
        if (path / "vocab.json").exists() and (path / "merges.txt").exists():
            return _byte_level(path / "vocab.json", path / "merges.txt", options)
    except Exception as error:  # Tokenizers raises this very class.
        raise InputError(f"{path}: expected a tokenizer, got a damaged one: {error}") from None
    raise InputError(
        f"{path}: expected tokenizer.json, or vocab.txt, or vocab.json with merges.txt, got none of"
        " them; fetch the tokenizer of the model"
    )


def _word_piece(vocab: Path, options: Mapping[str, Any]) -> Tokenizer:
    """BERT's tokenizer, by the options of its tokenizer_config.json."""
    tokenizer = Tokenizer(models.WordPiece.from_file(str(vocab), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=options.get("tokenize_chinese_chars", True),
        strip_accents=options.get("strip_accents"),
        lowercase=options.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    cls, sep = ((name, _id(tokenizer, name)) for name in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = processors.BertProcessing(sep, cls)
    return tokenizer


def _byte_level(vocab: Path, merges: Path, options: Mapping[str, Any]) -> Tokenizer:
    """RoBERTa's tokenizer, by the options of its tokenizer_config.json."""
    prefix_space = options.get("add_prefix_space", False)
    tokenizer = Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    mask = AddedToken("<mask>", lstrip=True, special=True)
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", mask])
    cls, sep = ((name, _id(tokenizer, name)) for name in ("<s>", "</s>"))
    tokenizer.post_processor = processors.RobertaProcessing(sep, cls, add_prefix_space=prefix_space)
    return tokenizer


def _id(tokenizer: Tokenizer, token: str) -> int:
    number = tokenizer.token_to_id(token)
    assert number is not None, "expected a token that was just added"
    return number
