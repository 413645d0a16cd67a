from experiments import benchmark
from experiments.benchmarks import measure


def test_variants_take_turns_and_the_first_is_dropped(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    turns = []
    variants = {"a": lambda: turns.append("a"), "b": lambda: (turns.append("b"), next(clock))}
    assert measure.medians(variants, repeats=3) == {"a": 1, "b": 2}
    assert turns == ["a", "b"] * 4


def test_the_table_says_how_it_was_measured():
    record = {
        "machine": {
            "devices": {"count": 1, "kind": "cpu"},
            "cores": 2,
            "python": "3.11",
            "jax": "0.10.2",
            "command": "python -m experiments.benchmark --suite=cache",
        },
        "repeats": 9,
        "seconds": {"step": 0.25},
        "ratios": {"live / cached": 4.0},
    }
    text = benchmark.markdown(record)
    for part in ("--suite=cache", "JAX 0.10.2", "| step | 250.0 |", "| live / cached |  4.00 |"):
        assert part in text
