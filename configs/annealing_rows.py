"""Variants of Annealing-KD that show what its parts add, and the ranges of a search over them.

  scratch, kd           without a teacher, and vanilla KD
  unannealed            the squared error of the teacher's logits, and then the labels: tau_max = 1
  annealing_kd          the same with Phi, as in the paper; the search also chooses the schedule of
                        stage I, its clipping, the targets and the student that stage II starts from
  annealing_weighted    the error of stage I weighted by the teacher's probabilities
  annealing_kept        the same, with the teacher as a part of the loss of stage II
  continuation_kd       both losses, with a weight that moves to the labels
  annealing_published   each stage has as many epochs as the whole training of kd: twice the updates

The last row makes more updates than the others; compare it with --equal_updates=False.
"""

from typing import Any

from ml_collections.config_dict import ConfigDict

_SHARES = (0.3, 0.5, 0.7, 0.85)  # Of the epochs, for stage I.


def set_rows(
    config: ConfigDict,
    *,
    rates: tuple[float, float],
    stage_1_rates: tuple[float, float],
    temperatures: tuple[int, ...],
    weight_decays: tuple[float, float] | None = None,
) -> None:
    """Sets the rows and the ranges of their settings.

    Args:
      config: the configuration, with the epochs of the student.
      rates: the smallest and the largest learning rate of losses with labels.
      stage_1_rates: those of squared errors of logits.
      temperatures: the choices of tau_max; none exceeds the rounded 0.3 of the epochs.
      weight_decays: the smallest and the largest weight decay; None to search none.
    """
    epochs = config.student.epochs
    shares = tuple(round(share * epochs) for share in _SHARES)
    schedule = ["choice", "constant", "step", "cosine"]
    decay = {} if weight_decays is None else {"weight_decay": ["log", *weight_decays]}
    labels: dict[str, Any] = {
        "optimizer": {"learning_rate": ["log", *rates], "schedule": schedule, **decay}
    }
    of_errors: dict[str, Any] = {
        "learning_rate": ["log", *stage_1_rates],
        "schedule": schedule,
        **decay,
    }
    kd = {"temperature": ["log", 1.0, 10.0], "weight": ["linear", 0.5, 1.0]}
    optimizer: dict[str, Any] = {
        **of_errors,
        "restart_each_temperature": ["choice", False, True],
        "clip_norm": ["choice", 0.0, 1.0],
    }
    stage_1 = {
        "epochs": ["choice", *shares],
        "optimizer": optimizer,
        "teacher_logits": ["choice", "raw", "centred", "scaled"],
        "student": ["choice", "best", "last"],
    }
    once = {**optimizer}
    del once["restart_each_temperature"]  # A single temperature restarts nothing.
    annealed = {"max_temperature": ["choice", *temperatures], "stage_1": stage_1}
    weighted = {
        "max_temperature": ["choice", *temperatures],
        "stage_1": {
            **{name: x for name, x in stage_1.items() if name != "teacher_logits"},
            "weight_temperature": ["log", 1.0, 8.0],
        },
    }
    kept = {
        **weighted,
        "stage_2": {"kd_weight": ["linear", 0.3, 1.0], "temperature": ["log", 1.0, 10.0]},
    }
    error = {"stage_1": {"error": "weighted"}}
    published = {
        "student": {"epochs": 2 * epochs},
        "annealing_kd": {"stage_1": {"epochs": epochs}},
    }
    of_annealing = {"method": "annealing_kd"}
    config.variants = ConfigDict(
        {
            "unannealed": {**of_annealing, "annealing_kd": {"max_temperature": 1}},
            "annealing_weighted": {**of_annealing, "annealing_kd": error},
            "annealing_kept": {
                **of_annealing,
                "annealing_kd": {**error, "stage_2": {"kd_weight": 0.5}},
            },
            "annealing_published": {**of_annealing, **published},
        }
    )
    config.search = ConfigDict(
        {
            "scratch": {"student": labels},
            "kd": {"student": labels, "kd": kd},
            "unannealed": {
                "student": labels,
                "annealing_kd": {"stage_1": {**stage_1, "optimizer": once}},
            },
            "annealing_kd": {"student": labels, "annealing_kd": annealed},
            "annealing_weighted": {"student": labels, "annealing_kd": weighted},
            "annealing_kept": {"student": labels, "annealing_kd": kept},
            "annealing_published": {
                "student": labels,
                "annealing_kd": {
                    "max_temperature": ["choice", *temperatures],
                    "stage_1": {"optimizer": of_errors},
                },
            },
            "continuation_kd": {
                "continuation_kd": {
                    "max_temperature": ["choice", *temperatures],
                    "psi_epochs": ["choice", *shares, 2 * epochs],
                    "psi_until": ["choice", *shares],
                    "optimizer": of_errors,
                },
            },
        }
    )
