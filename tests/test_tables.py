import xml.etree.ElementTree as ElementTree

from test_compare import BY_SEED, write_run

from mucpt_jax import compare
from mucpt_jax.evaluation import tables


def test_text_of_others_neither_breaks_a_table_nor_steers_a_terminal():
    rows = [["run"], ["a\n|\x1b[2J歌"]]
    assert tables.text(rows) == "run\na\\n|\\x1b[2J歌"
    assert tables.markdown(rows) == "| run |\n| --- |\n| a\\n\\|\\x1b[2J歌 |"


def test_a_picture_writes_the_names_of_runs_as_they_are(tmp_path):
    """No formulas: $\\frac{$ was one that cannot be drawn."""
    run = write_run(tmp_path / "$\\frac{$", "+-")
    tables.plot(compare.compare([run], None, None, BY_SEED), tmp_path / "p.svg")
    words = [e.text for e in ElementTree.parse(tmp_path / "p.svg").iter() if e.tag.endswith("text")]
    assert run in words


def test_folders_that_are_all_unset_share_nothing(tmp_path):
    assert tables.without_shared([]) == []
    runs = [write_run(tmp_path / str(i), init_from=value) for i, value in enumerate((None, ""))]
    title, rows = tables.of(compare.compare(runs, None, None, BY_SEED))[0]
    assert title == "Runs" and rows[0][2] == "init_from"
