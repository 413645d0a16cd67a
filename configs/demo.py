r"""Small runs of five systems on real data, each in a few minutes on two CPU cores.

    make demo-speech demo-quality demo-teachers demo-translation demo-stream

prepares the data, and compares a few rows of each. The argument is the name of the system. The
networks and the numbers of examples are smaller than those of the system's configuration, so that
the numbers are lower; the rows are the same.

  speech        speech.py: spoken commands
  quality       quality.py: scores of translations by apertium
  teachers      fashion_teachers.py with names in 94 languages and n-grams in place of images
  translation   translation.py: texts of LibreOffice
  stream        stream.py: pronunciations. `stream` pretrains the network, and `stream,FOLDER` is
                the stream with the exported network
"""

from ml_collections.config_dict import ConfigDict

from configs import default, language_names, named_teachers, quality, speech, stream, translation

_TEACHERS = ("large", "medium", "small")


def get_config(system: str = "teachers") -> ConfigDict:
    """Returns the settings of a small run.

    Args:
      system: speech, quality, teachers, translation, stream, or stream,FOLDER.
    """
    name, _, base = system.partition(",")
    makers = {
        "speech": _speech,
        "quality": _quality,
        "teachers": _teachers,
        "translation": _translation,
        "stream": lambda: _stream(base or "base"),
    }
    if name not in makers or (base and name != "stream"):
        raise ValueError(f"expected one of {', '.join(makers)} or stream,FOLDER, got {system!r}")
    return makers[name]()


def _speech() -> ConfigDict:
    """Returns `speech.py` with shorter stages."""
    config = speech.get_config("ft_kd")
    config.textual_kd.masked_codes.epochs = 3
    config.textual_kd.sentence.epochs = 8
    config.student.epochs = 12
    config.teacher.epochs = 4
    default.fit_annealing(config)
    return config


def _quality() -> ConfigDict:
    """Returns `quality.py` with 2,000 labelled pairs and 7,000 unlabelled ones."""
    config = quality.get_config("catalogs")
    config.teacher.epochs = 3
    config.student.epochs = 20
    quality.set_rows(config, 2000, [7000])
    return config


def _teachers() -> ConfigDict:
    """Returns three teachers of different sizes for names in 94 languages."""
    config = language_names.get_config("rl_kd")
    networks = ("ngrams:32768x128", "ngrams:8192x32,64", "ngrams:4096x16")
    optimizer = config.teacher.optimizer.to_dict()
    config.rl_kd.teachers = ConfigDict(
        {
            name: named_teachers.teacher(network, epochs=10, seed=seed, optimizer=optimizer)
            for seed, (name, network) in enumerate(zip(_TEACHERS, networks, strict=True))
        }
    )
    config.rl_kd.optimizer.update(
        name="adam", learning_rate=5e-3, weight_decay=0.0, schedule="constant"
    )
    config.dataset.reward_size = 2000
    half = dict.fromkeys(_TEACHERS, 0.5)
    named_teachers.set_rows(config, rates=half, mixture=half, logistic=half)
    return config


def _translation() -> ConfigDict:
    """Returns `translation.py` with smaller networks and a third of the texts."""
    config = translation.get_config("imitkd")
    config.dataset.train_size = 12000
    config.dataset.max_length = 32
    config.teacher.model = "transformer:4000,2+2x128,joint"
    config.teacher.epochs = 6
    config.student.model = "transformer:4000,1+1x64,joint"
    config.student.epochs = 5
    config.teacher.optimizer.learning_rate = 2e-3
    default.fit_annealing(config)
    return config


def _stream(base: str) -> ConfigDict:
    """Returns `stream.py` with fewer epochs, and 1,000 words of each language."""
    config = stream.get_config(base)
    if base == "base":
        config.student.epochs = 3
        default.fit_annealing(config)
        return config
    config.l2kd.task_size = 1000
    config.student.epochs = 8
    config.teacher.epochs = 20
    return config
