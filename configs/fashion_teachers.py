r"""RL-KD on Fashion-MNIST: three CNNs of different sizes and seeds teach a small one.

python -m experiments.compare --config=configs/fashion_teachers.py --references=uniform,random \
    --methods=labels,uniform,random,rl_r2 --seeds=3 --workdir=runs/fashion_teachers

The rows of a comparison are those of reviews.py, without cross-fitted teachers. The policy sees no
vector of the images, only the teachers' probabilities and cross-entropies. The rows with weights
have a half for each teacher; set others by flags, such as those of experiments.weigh_teachers.
"""

from ml_collections.config_dict import ConfigDict

from configs import fashion_mnist, named_teachers

TEACHERS = {
    "large": "plain_cnn:16 16 M 32 32 M 64 64 64 M FC64 FC",
    "medium": "plain_cnn:16 M 16 16 M FC",
    "small": "plain_cnn:8 M 16 M FC",
}


def get_config() -> ConfigDict:
    """Returns the settings of fashion_mnist.py:small with three teachers; the method is rl_kd."""
    config = fashion_mnist.get_config("rl_kd,small")
    config.rl_kd.teachers = ConfigDict(
        {
            name: named_teachers.teacher(
                model, epochs=20, seed=seed, optimizer=config.teacher.optimizer.to_dict()
            )
            for seed, (name, model) in enumerate(TEACHERS.items())
        }
    )
    config.rl_kd.temperature = config.kd.temperature
    config.rl_kd.optimizer.update(
        name="adam", learning_rate=5e-3, weight_decay=0.0, schedule="constant"
    )
    config.dataset.reward_size = 1000
    half = dict.fromkeys(TEACHERS, 0.5)
    named_teachers.set_rows(config, rates=half, mixture=half, logistic=half)
    return config
