r"""RL-KD on sentences of four domains: six teachers, and a student with two layers of MiniLM.

python -m experiments.prepare --dataset=sentiment_domains --data_dir=DIR
python -m experiments.compare --config=configs/reviews.py --references=uniform,random --seeds=10 \
    --methods=labels,uniform,random,rl_r2 --workdir=runs/reviews --config.dataset.data_dir=DIR

Four teachers are MiniLM, fine-tuned on the sentences of one domain each: reviews of movies, tweets,
reviews of products, and editorials. `all` learns from all of them, and so does `ngrams`, a network
of another architecture. Each sentence is taught by teachers that have not seen it, in three folds.

The rows of a comparison are

  labels                  the student without a teacher
  single_NAME             the soft labels of one teacher
  uniform                 the mean of all teachers
  mixture, logistic       a weighted mean; experiments.weigh_teachers chooses the weights
  random_teacher          one random teacher for each update
  lowest_error            for each example the teacher with the lowest cross-entropy
  rl_r1, rl_r2, rl_r3     RL-KD with each of the rewards; rl_r3 has a running mean as the baseline
  rl_no_labels            rl_r2, whose policy does not see the teachers' cross-entropies
  random, fixed_rates     random teachers with the rates of the policy of rl_r2, and a weighted mean

With other teachers, give the rows with weights those that experiments.weigh_teachers prints, and
the rates that the records of rl_r2 show in the last epoch, by flags such as
--config.variants.random.rl_kd.weights.movie=0.6.

A half of the validation split is set apart in all rows, since r3 uses it as a reward.
"""

from typing import Any

from ml_collections.config_dict import ConfigDict

from configs import default, movie_reviews, named_teachers

DOMAINS = ("amazon", "movie", "nyt", "tweet")
TEACHERS = ("all", *DOMAINS, "ngrams")
# The mean rates of rl_r2 in its last epoch, over ten seeds.
RATES = {
    "all": 0.441,
    "amazon": 0.79,
    "movie": 0.259,
    "nyt": 0.846,
    "tweet": 0.252,
    "ngrams": 0.975,
}
# What experiments.weigh_teachers prints for these teachers.
MIXTURE = {
    "all": 0.614,
    "amazon": 0.182,
    "movie": 0.138,
    "nyt": 0.0,
    "tweet": 0.015,
    "ngrams": 0.051,
}
LOGISTIC = {
    "all": 0.510,
    "amazon": 0.222,
    "movie": 0.111,
    "nyt": 0.0,
    "tweet": 0.0,
    "ngrams": 0.174,
}


def get_config() -> ConfigDict:
    """Returns the settings; the method is rl_kd."""
    minilm = movie_reviews.minilm_folder()
    config = default.get_config()
    config.method = "rl_kd"
    config.batch_size = 32
    config.dataset.name = "sentiment_domains"
    config.dataset.validation_size = 0  # The data set has its own validation split.
    config.dataset.reward_size = 936  # Of 1,872.
    config.dataset.train_size = 3000  # Of 13,426, to be fast on two cores.
    config.dataset.max_length = 32  # A few of them are longer.
    config.teacher.views = 1  # The texts have no augmentation.
    config.student.model = f"huggingface:{minilm},first=2"
    config.student.frozen = "embeddings,layer_0"  # Halves the time of an update.
    config.student.epochs = 2
    default.fit_annealing(config)
    config.checkpoint_every = 6
    default.set_optimizers(
        config,
        name="adamw",
        learning_rate=1e-3,  # The rows `labels` of 5e-4 to 2e-3 differ by 0.2 points of validation.
        weight_decay=0.01,
        clip_norm=1.0,
        schedule="linear",
    )
    config.rl_kd.optimizer.update(
        name="adam", learning_rate=5e-3, weight_decay=0.0, clip_norm=0.0, schedule="constant"
    )
    config.rl_kd.folds = 3
    config.rl_kd.sentence_encoder = f"sentence:{minilm}"
    tuned = {**config.teacher.optimizer.to_dict(), "learning_rate": 5e-5}
    encoder: dict[str, Any] = {"model": f"huggingface:{minilm}", "epochs": 3, "optimizer": tuned}
    of_domain = {**encoder, "epochs": 6, "optimizer": {**tuned, "learning_rate": 1e-4}}
    config.rl_kd.teachers = ConfigDict(
        {
            "all": named_teachers.teacher(**encoder),
            # The domains have fewer sentences, so that an epoch has fewer updates.
            **{name: named_teachers.teacher(**of_domain, group=name) for name in DOMAINS},
            "ngrams": named_teachers.teacher(
                "ngrams:16384x64,64", epochs=10, optimizer={**tuned, "learning_rate": 1e-3}
            ),
        }
    )
    named_teachers.set_rows(config, rates=RATES, mixture=MIXTURE, logistic=LOGISTIC)
    return config
