from experiments.tables import markdown_table, percent


def test_narrow_column_has_a_valid_separator():
    assert markdown_table(("a", "n"), [("b", "3")]).splitlines()[1] == "| -- | -: |"


def test_columns_are_aligned():
    text = markdown_table(("", "mean ± std"), [("kd", "1.0"), ("scratch", "10.0")])
    assert text.splitlines() == [
        "|         | mean ± std |",
        "| ------- | ---------: |",
        "| kd      |        1.0 |",
        "| scratch |       10.0 |",
    ]


def test_percent_of_a_score_that_was_not_finite_is_a_dash():
    assert percent(0.12345) == "12.35%"
    assert percent(None) == "-"
    assert percent(float("nan")) == "-"
