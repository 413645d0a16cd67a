from experiments.tables import markdown_table


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
