"""The families of encoders in Hugging Face folders, and their names of settings and tensors."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Family:
    """What a family of encoders calls its classes, settings and tensors in transformers.

    Names of modules are those of their tensors, without '.weight' and '.bias'.

    Attributes:
      class_prefix: what the names of the classes start with.
      prefix: what the names of the encoder's tensors start with if the model has a head.
      layers: the name of the list of layers.
      embeddings: names of the embeddings' modules, by the names of Flax.
      layer: names of the modules of a layer, by the names of Flax.
      pooler: name of the head's first layer.
      classifier: name of the head's last layer.
      pretrained_pooler: whether the pooler belongs to the encoder. If not, it is initialised at
        random, like the classifier, if the folder has no head for the task.
      fields: names of fields of config.json, by those of `EncoderConfig` that differ.
      defaults: values of fields of `EncoderConfig` that config.json may lack, where they differ
        from those of `EncoderConfig`.
      constants: values of fields of `EncoderConfig` that config.json does not set.
    """

    class_prefix: str
    prefix: str
    layers: str
    embeddings: Mapping[str, str]
    layer: Mapping[str, str]
    pooler: str
    classifier: str
    pretrained_pooler: bool = False
    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    constants: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def field(self, name: str) -> str:
        """Returns the name of a field of `EncoderConfig` in config.json."""
        return self.fields.get(name, name)


_BERT_EMBEDDINGS = {
    "word": "word_embeddings",
    "position": "position_embeddings",
    "type": "token_type_embeddings",
    "norm": "LayerNorm",
}
_BERT_LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}
_ROBERTA = Family(
    class_prefix="Roberta",
    prefix="roberta.",
    layers="encoder.layer",
    embeddings=_BERT_EMBEDDINGS,
    layer=_BERT_LAYER,
    pooler="classifier.dense",
    classifier="classifier.out_proj",
    defaults={"pad_token_id": 1},
)

FAMILIES: Mapping[str, Family] = {
    "bert": Family(
        class_prefix="Bert",
        prefix="bert.",
        layers="encoder.layer",
        embeddings=_BERT_EMBEDDINGS,
        layer=_BERT_LAYER,
        pooler="pooler.dense",
        classifier="classifier",
        pretrained_pooler=True,
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": dataclasses.replace(_ROBERTA, class_prefix="XLMRoberta"),
    "distilbert": Family(
        class_prefix="DistilBert",
        prefix="distilbert.",
        layers="transformer.layer",
        embeddings={
            "word": "word_embeddings",
            "position": "position_embeddings",
            "norm": "LayerNorm",
        },
        layer={
            "query": "attention.q_lin",
            "key": "attention.k_lin",
            "value": "attention.v_lin",
            "attention_output": "attention.out_lin",
            "attention_norm": "sa_layer_norm",
            "intermediate": "ffn.lin1",
            "output": "ffn.lin2",
            "output_norm": "output_layer_norm",
        },
        pooler="pre_classifier",
        classifier="classifier",
        fields={
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim",
            "hidden_act": "activation",
            "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
            "classifier_dropout": "seq_classif_dropout",
        },
        defaults={"classifier_dropout": 0.2},
        constants={"type_vocab_size": 1, "layer_norm_eps": 1e-12},
    ),
}
