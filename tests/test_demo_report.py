"""The demo's report: intervals, answers and links against what the run's files say; nothing of a corpus is HTML."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import needs_browser, stands_out
from conftest import write_rows

from demo import report
from mucpt_jax.evaluation.alias import wilson
from mucpt_jax.step.objective import OBJECTIVES

NAMES = ("base", "reference", "ntp", "rho1", "mucpt")
# Of 6 questions; by objective, who answers: 2 none, 1 mucpt, 1 rho1 and mucpt, 2 all.
RIGHT = {"ntp": (0, 0, 0, 0, 1, 1), "rho1": (0, 0, 0, 1, 1, 1), "mucpt": (0, 0, 1, 1, 1, 1)}
ATTACK = '<img src=x onerror="alert(1)">\u202e@TABLE@</td>'


def row_of(name: str, k: int, n: int) -> dict:
    low, high = wilson(k, n)
    row = {"objective": name, "questions": {"k": k, "n": n, "accuracy": k / n, "low": low, "high": high}}
    row["heldout"] = {"heldout_general_en": 0.65, "heldout_music_zh": 1.5}
    weights = {"weight_noise": 0.25, "weight_rest": 1.75, "noise_tokens": 50, "rest_tokens": 50}
    return row | (weights if name in RIGHT else {})


@pytest.fixture(scope="module")
def table() -> dict:
    right = {"base": 1, "reference": 284, "ntp": 47, "rho1": 74, "mucpt": 164}
    return {
        "rows": [row_of(name, right[name], 300) for name in NAMES],
        "noise_spans": {"found": 4146}, "corpus": {"mode": ATTACK}, "date": "2026-11-28", "seconds": 60.0,
        "counts": {role: {"read": 1369, "kept": 1329, "dropped": {"exact_duplicate": 40}}
                   for role in ("seed", "domain", "heldout")},
        "machine": {"cores": 2, "cpu": "some"},
    }  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory, table) -> Path:
    """The domain's and the seed's curation reports lie beside it, heldout's does not."""
    run = tmp_path_factory.mktemp("demo")
    for name, right in RIGHT.items():
        (run / name).mkdir()
        asked = [{"lang": "en" if i % 2 else "zh", "question": f"what {i}", "answer": "viola",
                  "correct": bool(is_right), "prediction": ATTACK if i == 0 else "viola" if is_right else f"harp {i}"}
                 for i, is_right in enumerate(right)]  # fmt: skip
        (run / name / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))
        sources = {"music": {"is_domain": True, "nll": 2.0, "tokens": 8},
                   "news": {"is_domain": False, "nll": 1.0, "tokens": 4}}  # fmt: skip
        steps = [{"step": step, "sources": sources} for step in (1, 20, 40)]
        (run / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in steps))
    edges = [0.0, 0.001, 0.1, 1.0, 10.0, 65504.0]
    write_rows(run / "data/domain/scored", {"music": 1}, scores={"histogram": {"edges": edges, "counts": [1] * 5}})
    for role in ("seed", "domain"):
        (run / "data" / role).mkdir(exist_ok=True)
        (run / "data" / role / "report.html").write_text("a report")
    (run / "audit.html").write_text("an audit")
    report.write(run, table)
    return run / "report.html"


class Tags(HTMLParser):
    def __init__(self, page: Path):
        super().__init__()
        self.tags = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def test_bars_and_intervals_are_those_of_the_answers(page, table):
    drawn = re.findall(
        r'var\(--(\w+)\)"[^>]*><span><b>\1</b>.*?<i style="width:([\d.]+)%"></i>'
        r'<u style="left:([\d.]+)%;width:([\d.]+)%"></u></span><span class="n">(\d+) of (\d+) <small>'
        r"([\d.]+)% to ([\d.]+)%",
        page.read_text(encoding="utf-8"),
    )
    assert {name for name, *_ in drawn} == set(NAMES) and drawn[-1][0] == "reference"
    for _, width, left, length, k, n, low, high in drawn:
        interval = [100 * bound for bound in wilson(int(k), int(n))]
        assert float(width) == pytest.approx(100 * int(k) / int(n), abs=0.006)
        assert [float(left), float(left) + float(length)] == pytest.approx(interval, abs=0.011)
        assert [float(low), float(high)] == pytest.approx(interval, abs=0.051)
    # By hand: 164 of 300 is 54.7%, with 49.0% to 60.2%.
    assert ("mucpt", "54.67", "49.01", "11.20", "164", "300", "49.0", "60.2") in drawn


def test_questions_are_grouped_by_who_answers_them(page):
    shown = page.read_text(encoding="utf-8")
    groups = re.findall(r'colspan="4">(.*?)<small>(\d) of 6 questions', shown)
    assert groups == [("none is right", "2"), ("all are right", "2"), ("mucpt right", "1"),
                      ("rho1 and mucpt right", "1")]  # fmt: skip
    rows = re.findall(r"<tr><td><bdi>what (\d)</bdi>(.*?)</tr>", shown)
    # A group of two has a question in each language, English first; the marks are the objectives' own.
    assert [int(i) for i, _ in rows] == [1, 0, 5, 4, 2, 3]
    for i, cells in rows:
        marks = re.findall(r'data-label="(\w+)" class="(right|wrong)"', cells)
        assert marks == [(name, "right" if right[int(i)] else "wrong") for name, right in RIGHT.items()]


def test_links_lead_to_pages_that_are_there(page):
    links = {attributes["href"] for tag, attributes in Tags(page).tags if tag == "a"}
    assert links == {"audit.html", "data/seed/report.html", "data/domain/report.html"}
    assert all((page.parent / link).is_file() for link in links)


def test_every_objective_has_its_colour_in_bars_answers_and_curves(page):
    shown = page.read_text(encoding="utf-8")
    for name in RIGHT:
        assert f"--{name}: color-mix(in oklab, {OBJECTIVES[name].colour}, var(--lift))" in shown
        assert len(re.findall(rf"--own:var\(--{name}\)", shown)) == 3  # bar, answers, key of the curves
        assert shown.count(f"stroke: var(--{name})") == 2
        assert OBJECTIVES[name].colour not in shown.partition("</style>")[2]


def test_the_page_runs_nothing_asks_for_nothing_and_tells_its_pictures(page):
    tags, shown = Tags(page).tags, page.read_text(encoding="utf-8")
    assert not {"script", "img", "link", "iframe"} & {tag for tag, _ in tags}
    assert not any(key == "src" or key.startswith("on") for _, attributes in tags for key in attributes)
    assert "default-src 'none'; style-src 'unsafe-inline'" in shown and "@TABLE@&lt;/td&gt;" in shown
    pictures = [attributes for tag, attributes in tags if tag == "svg"]
    assert len(pictures) == 3 and all(p["role"] == "img" and p["aria-label"] for p in pictures)


def test_the_report_is_the_same_each_time(page, table):
    before = page.read_bytes()
    report.write(page.parent, table)
    assert page.read_bytes() == before


@needs_browser
@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_stands_out_of_the_page(page, tmp_path, width):
    assert stands_out(page, tmp_path, width) == []
