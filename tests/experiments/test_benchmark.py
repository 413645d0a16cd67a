from experiments import benchmark


def test_markdown_shows_command_environment_and_tables():
    record = {
        "machine": {
            "devices": {"count": 1, "kind": "cpu"},
            "cores": 2,
            "python": "3.11",
            "jax": "0.10.2",
            "command": "python -m experiments.benchmark --suite=cache",
        },
        "repeats": 9,
        "seconds": {"step": 0.25, "short step": 0.00072},
        "ratios": {"live / cached": 4.0},
        "table": {"headers": ["", "bytes"], "rows": [["resnet:8", "312,168"]]},
        "notes": ["The loop compiles once."],
    }
    assert (
        benchmark.markdown(record)
        == """\
`python -m experiments.benchmark --suite=cache`

1 x cpu, 2 cores, Python 3.11, JAX 0.10.2; medians of 9 paired repeats.

|            |    ms |
| ---------- | ----: |
| step       | 250.0 |
| short step |  0.72 |

|               | ratio |
| ------------- | ----: |
| live / cached |  4.00 |

|          |   bytes |
| -------- | ------: |
| resnet:8 | 312,168 |

- The loop compiles once.
"""
    )


def test_markdown_leaves_out_empty_tables():
    record = {
        "machine": {
            "devices": {"count": 1, "kind": "cpu"},
            "cores": 2,
            "python": "3.11",
            "jax": "0.10.2",
            "command": "COMMAND",
        },
        "repeats": 1,
        "seconds": {},
        "ratios": {},
    }
    assert "|" not in benchmark.markdown(record)
