"""audit.html in headless Chromium: switching, searching, pointing, and that nothing of a document runs."""

import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audit_rows import write_scored
from browser import browse, needs_browser, stands_out

from mucpt_jax import audit, config
from mucpt_jax.formats.decode import read_json
from mucpt_jax.formats.files import write_json
from mucpt_jax.formats.manifest import INDEX_SCHEMA, write_index
from mucpt_jax.formats.rows import target_mask
from mucpt_jax.step import objective

pytestmark = needs_browser
ATTACK = "<script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\"></script><!--"


@pytest.fixture(scope="module")
def page(audited) -> Path:
    return audited / "audit.html"


def dom(page: Path, settings: str = "") -> str:
    """The page as Chromium shows it, with the settings that stand behind # in the address."""
    return browse(page, f"#{settings}")[0]


def shading(shown: str) -> dict[str, int]:
    """Pieces of each class in the documents' text."""
    found = re.findall(r'<span class="(w\d|u)[^"]*" data-i=', shown)
    return {step: found.count(step) for step in sorted(set(found))}


def read_weights(tmp_path: Path, documents: list[dict], facts: dict, setting: dict) -> list:
    """audit_weights.js's weigh() in Chromium."""
    script = (Path(audit.__file__).with_name("page") / "audit_weights.js").read_text(encoding="utf-8")
    asked = ", ".join(json.dumps(value) for value in (documents, facts, setting))
    file = tmp_path / "weigh.html"
    file.write_text(
        f"<pre></pre><script>{script}; document.querySelector('pre').textContent = "
        f"JSON.stringify(weigh({asked}))</script>"
    )
    return json.loads(html.unescape(re.search("<pre>(.*?)</pre>", dom(file)).group(1)))


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        ("ntp", {}),
        ("mucpt", {"rm_floor": 0.1, "weight_norm": "none"}),
        ("mucpt", {"alpha": 2.0, "rm_floor": 1.0, "mean_raw_weight": 0.5}),
        ("mucpt", {"alpha": 0.5, "min_weight": 0.4, "max_weight": 1.5, "mean_raw_weight": 0.5}),
        ("mucpt", {"max_weight": 0.0, "mean_raw_weight": 0.5}),
        ("mucpt", {"weight_norm": "loss_match", "mean_raw_weight": 0.5}),
        ("rho1", {"keep": 0.4}),
        ("rho1", {"keep": 0.5}),
    ],
)
def test_the_page_weighs_as_training_does(tmp_path, kind, loss):
    rng = np.random.default_rng(1)
    segment_ids = np.array([[1] * 6 + [2] * 3 + [3] + [4] * 7, [1] * 17], np.uint16)
    mask = target_mask(segment_ids)
    r, base = rng.choice([0.0, 0.25, 0.5, 1.0, 2.0, 8.0], (2, *mask.shape)).astype(np.float32)
    rm_nll = np.pad(np.where(mask, r, np.nan), ((0, 0), (1, 0)), constant_values=np.nan)
    batch = {"segment_ids": segment_ids, "rm_nll": rm_nll, "is_domain": np.array([True, True])}
    wanted = np.asarray(objective.token_weights(base, batch, config.Loss(kind=kind, **loss)))

    def listed(values, fill):
        return [
            [fill] + [v if m else fill for v, m in zip(*row, strict=True)]
            for row in zip(values.tolist(), mask, strict=True)
        ]

    documents = [{"r": a, "base": b} for a, b in zip(listed(r, None), listed(base, 0), strict=True)]
    mean, norm = loss.get("mean_raw_weight", 1.0), loss.get("weight_norm", "corpus_mean_one")
    means = {name: [mean, mean] for name in ("corpus_mean_one", "loss_match")}
    if norm == "loss_match":
        means["corpus_mean_one"] = [9.0, 9.0]  # of the corpus, which this norm does not divide by
    facts = {"floors": [0.001, 10.0], "means": means}
    setting = {
        "objective": kind, "floor": loss.get("rm_floor", 1.0), "alpha": loss.get("alpha", 1.0),
        "norm": norm,
        "min_weight": loss.get("min_weight", 0.0), "max_weight": loss.get("max_weight", 1e30),
        "keep": loss.get("keep", 0.6),
    }  # fmt: skip
    found = read_weights(tmp_path, documents, facts, setting)
    for row, weights, targets in zip(found, wanted, mask, strict=True):
        assert [w is not None for w in row] == [False, *targets]
        np.testing.assert_allclose([w for w in row if w is not None], weights[targets], rtol=1e-5)


def test_rho1_keeps_as_many_tokens_as_training_where_the_product_is_a_half(tmp_path):
    # .07 * 150 is 10.5 in float32, 10.500000000000002 in JavaScript's numbers: 10, the even one, are kept.
    documents = [{"r": [None] + [0] * 150, "base": [0, *range(150)]}]
    (found,) = read_weights(tmp_path, documents, {}, {"objective": "rho1", "keep": 0.07})
    assert found == [None] + [0] * 140 + [15] * 10


def test_the_switch_changes_the_shading(page):
    # Of music 40 pieces of r 0.5 and 40 of r 8, of 歌 16 pieces of r 0.5 and 40 of r 8; mean raw at floor 1
    # is (1 + 1/8) / 2 = 0.5625: weights 1.78 (w5) and 0.22 (w1).
    assert shading(dom(page)) == {"u": 4, "w1": 80, "w5": 56}
    assert shading(dom(page, "objective=ntp")) == {"u": 4, "w4": 136}
    # Floor 0.5: raw 2 and 1/8, mean 1.0625: 1.88 and 0.118.  Not normalised: 2 (w6) and 0.125 (w1).
    assert shading(dom(page, "floor=0.5&norm=none")) == {"u": 4, "w1": 80, "w6": 56}
    assert shading(dom(page, "norm=none&alpha=0.5")) == {"u": 4, "w0": 80, "w3": 56}
    # The start model's 2 - 0.5 exceeds 2 - 8: half of the 160 tokens are kept, with weight 2.
    assert shading(dom(page, "objective=rho1&keep=0.5")) == {"u": 4, "w0": 80, "w6": 56}


def test_caps_are_switched_by_number_and_an_empty_most_is_none(page):
    # 1.78 and 0.22 between 0.3 and 1.
    shown = dom(page, "min_weight=0.3&max_weight=1")
    assert shading(shown) == {"u": 4, "w2": 80, "w4": 56} and "mean weight 0.65" in shown
    assert shading(dom(page, "max_weight=")) == shading(dom(page))


def test_loss_match_is_offered_where_the_manifest_knows_it(audited, page, tmp_path):
    assert "loss match" not in dom(page)
    shutil.copytree(audited / "scored", tmp_path / "scored")
    manifest = read_json(tmp_path / "scored/manifest.json")
    manifest["scores"]["mean_raw_weight_by_base_nll"] = dict.fromkeys(manifest["scores"]["mean_raw_weight"], 0.25)
    write_json(tmp_path / "scored/manifest.json", manifest)
    page = audit.run([str(tmp_path / "scored"), f"--tokenizer={audited / 'tokenizer'}"])
    assert shading(dom(page, "norm=loss_match")) == {"u": 4, "w3": 80, "w7": 56}  # 0.5 and 4


def test_mean_weight_and_mass_by_source_are_told(page):
    shown = dom(page)
    assert "mean weight 1.00" in shown and "<td>start</td>" in shown  # the start model's hash
    # ess = (0.5625)^2 / ((1 + 1/64) / 2) = 0.623
    assert "effective sample 62% of the tokens" in shown
    assert shown.count("<td>50%</td>") == 4
    # Half of the tokens with weight 2.
    assert "mean weight 1.00 · effective sample 50%" in dom(page, "objective=rho1&keep=0.5")
    assert shown.count("<svg") == 2


def test_search_finds_words_across_tokens_and_in_chinese(page):
    shown = dom(page, "search=ALBUM")
    assert "1 places in 1 documents" in shown and shown.count("<article") == 1
    assert len(re.findall(r'class="w\d hit"', shown)) == 5
    shown = dom(page, "search=在唱")
    assert "3 places in 1 documents" in shown and len(re.findall(r'class="w\d hit"', shown)) == 6
    assert "0 places in 0 documents" in dom(page, "search=nowhere")


def test_what_a_document_holds_is_shown_and_never_run(audited, tmp_path):
    write_scored(tmp_path / "scored", audited / "tokenizer", {"s": {ATTACK: [(ATTACK, 1.0)]}})
    page = audit.run([str(tmp_path / "scored"), f"--tokenizer={audited / 'tokenizer'}"])
    # Without the page's policy: escaping alone must do.
    page.write_text(re.sub("<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8")), encoding="utf-8")
    shown = dom(page, "search=script")
    assert "<title>Token weights</title>" in shown and "<img" not in shown.lower()
    assert len(re.findall("<script", shown)) == 2  # the payload and the page's own
    for shown_as in ('class="text"[^>]*>(.*?)</div>', "<h3>(.*?)</h3>"):
        text = re.search(shown_as, shown).group(1)
        assert html.unescape(re.sub("<[^>]*>", "", text)) == ATTACK


def test_a_script_that_got_into_the_page_would_be_refused(page, tmp_path):
    forged = page.read_text(encoding="utf-8").replace("</body>", "<script>document.title='hacked'</script></body>")
    (tmp_path / "forged.html").write_text(forged, encoding="utf-8")
    shown = dom(tmp_path / "forged.html")
    assert "<title>Token weights</title>" in shown and shading(shown)


def test_pointing_at_a_token_tells_text_score_and_weight(audited, tmp_path):
    # 歌 has three tokens.  Raw weights at floor 1: three of 1, one of 1/8, mean 0.78125.
    write_scored(tmp_path / "scored", audited / "tokenizer", {"s": {"d": [("?歌", 0.5), ("!", 8.0)]}})
    page = audit.run([str(tmp_path / "scored"), f"--tokenizer={audited / 'tokenizer'}"])
    for piece, told in ((1, ["歌"] + ["r 0.5   w 1.28"] * 3), (2, ["!", "r 8   w 0.160"])):
        shown = dom(page, f"document=0&piece={piece}")
        tip = re.search(r'<div id="tip"[^>]*>(.*?)</div>', shown, re.DOTALL).group(1)
        assert tip.splitlines() == told


def test_what_shows_nothing_is_named_where_it_is_pointed_at(audited, tmp_path):
    write_scored(tmp_path / "scored", audited / "tokenizer", {"s": {"d": [("a\u3000\u202e\r b", 1.0)]}})
    page = audit.run([str(tmp_path / "scored"), f"--tokenizer={audited / 'tokenizer'}"])
    told = [re.search(r'<div id="tip"[^>]*>(.*?)\n', dom(page, f"document=0&piece={i}")) for i in (1, 2, 3, 4)]
    assert [line.group(1) for line in told] == ["[U+3000]", "[U+202E]", "[U+000D]", "␣"]


def test_documents_of_few_tokens_are_neither_worst_nor_best(audited, tmp_path):
    texts = {"short": ("ab", 0.5), "low": ("low" * 9, 8.0), "middle": ("mid" * 9, 2.0), "high": ("top" * 9, 1.0)}
    sources = {"s": {name: [span] for name, span in texts.items()}}
    write_scored(tmp_path / "scored", audited / "tokenizer", sources)
    shown = dom(audit.run([str(tmp_path / "scored"), f"--tokenizer={audited / 'tokenizer'}"]))
    ranked = re.search('<div id="ranked">(.*?)</div>', shown).group(1)
    assert re.findall(r'title="(\w+) ', ranked) == ["low", "middle", "high", "middle"]


def test_the_legend_names_weights_and_their_shares_apart(page):
    legend = re.search('<ul id="legend".*?</ul>', dom(page), re.DOTALL).group(0)
    items = re.findall(r"<li><span[^>]*>(.*?)</span><small>(.*?)</small>", legend)
    # 80 of 160 tokens weigh 0.22, 80 weigh 1.78.
    assert items == [
        ("weight", "tokens"), ("below 0.1", "0%"), ("0.1 to 0.25", "50%"), ("0.25 to 0.5", "0%"), ("0.5 to 0.8", "0%"),
        ("0.8 to 1.25", "0%"), ("1.25 to 2", "50%"), ("2 to 4", "0%"), ("4 and more", "0%"),
        ("no score", "first of a segment"),
    ]  # fmt: skip


@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_stands_out_of_the_page(page, tmp_path, width):
    assert stands_out(page, tmp_path, width) == []


def test_histograms_are_shaded_by_what_the_objective_weighs(page):
    # Excess -6 is dropped, 1.5 is kept with weight 2; 40 targets of each source.
    shown = dom(page, "objective=rho1&keep=0.5")
    for picture in re.findall("<svg.*?</svg>", shown):
        bars = re.findall(r'<rect class="(f\d)" x="([\d.]+)" y="10"', picture)
        assert [step for step, _ in bars] == ["f0", "f6"]
        assert [(float(x) - 190) / 15.5 for _, x in bars] == pytest.approx([-6, 1.5], abs=0.01)
    # By r: 0.5 of weight 1.78, 8 of weight 0.22.
    for picture in re.findall("<svg.*?</svg>", dom(page)):
        assert re.findall(r'<rect class="(f\d)" x="[\d.]+" y="10"', picture) == ["f5", "f1"]


def test_a_name_that_turns_the_writing_direction_turns_nothing_else(audited, tmp_path):
    write_scored(tmp_path / "scored", audited / "tokenizer", {"\u202eevil": {"d": [("a" * 20, 1.0)]}})
    shown = dom(audit.run([str(tmp_path / "scored"), f"--tokenizer={audited / 'tokenizer'}"]))
    assert "<figcaption><bdi><b>\u202eevil</b></bdi> 19 tokens" in shown


def test_a_document_without_some_of_its_segments_says_so(audited, tmp_path):
    folder = write_scored(tmp_path / "scored", audited / "tokenizer", {"s": {"d": [("a" * 200, 1.0)]}})
    tokenizer = f"--tokenizer={audited / 'tokenizer'}"
    assert not re.search(r"\d tokens before its last", dom(audit.run([str(folder), tokenizer])))
    lines = pq.read_table(folder / "index.parquet").to_pylist()
    moved = [line | {"offset": line["offset"] + 1000 * (line["offset"] > 64)} for line in lines]
    write_index(folder, [pa.Table.from_pylist(moved, INDEX_SCHEMA)])
    assert "1,000 tokens before its last are not in these rows" in dom(audit.run([str(folder), tokenizer]))


def test_controls_switch_the_page_and_the_address_keeps_the_view(page, tmp_path):
    """As if typed; without the page's policy, which would refuse this script."""
    typed = """<script>
      const set = (name, value) => {
        const control = document.getElementById("controls").elements[name];
        control.value = value;
        control.dispatchEvent(new Event("input", { bubbles: true }));
      };
      set("objective", "rho1"); set("keep", "0.5"); set("source", "music"); set("search", "xx");
      document.querySelector(".text").focus();
      const key = { key: "ArrowRight", bubbles: true };
      for (let i = 0; i < 3; i++) document.querySelector(".text").dispatchEvent(new KeyboardEvent("keydown", key));
      document.body.append(Object.assign(document.createElement("output"), { textContent: location.hash }));
    </script></body>"""
    free = re.sub("<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8")).replace("</body>", typed)
    (tmp_path / "typed.html").write_text(free, encoding="utf-8")
    shown = dom(tmp_path / "typed.html")
    kept = html.unescape(re.search("<output>(.*?)</output>", shown).group(1))
    assert kept == "#objective=rho1&keep=0.5&source=music&search=xx"
    assert shading(shown) == {"u": 1, "w0": 40} and "20 places in 1 documents" in shown
    assert re.search(r'now" data-i="2"', shown) and "r 8   start model 2   w 0.00" in shown
    assert shading(dom(page, kept[1:])) == {"u": 1, "w0": 40}


def test_nonsense_in_the_address_falls_back_to_the_defaults(page):
    settings = "objective=x&floor=-3&alpha=y&norm=z&keep=9&page=77&document=99&piece=1&source=none&__proto__=1"
    assert shading(dom(page, settings)) == shading(dom(page, "floor=0.001"))
