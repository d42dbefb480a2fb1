"use strict";
// What is seen of the weights (audit_weights.js) in the page that audit.py makes.  Whatever comes from documents enters
// the page as text, never as HTML.

const DEFAULTS = {
  objective: "", floor: 1, alpha: 1, norm: "corpus_mean_one", // how tokens are weighed
  min_weight: 0, max_weight: Infinity, keep: 0.6,
  source: "", order: "mixed", search: "", page: 1, document: -1, piece: -1, // what is shown
};
const PER_PAGE = 10;

/** An element with attributes, and children that are elements or text. */
function make(name, attributes = {}, ...children) {
  const svg = ["svg", "rect", "line", "text"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const $ = (id) => document.getElementById(id);
const typed = (value) => (value === Infinity ? "" : value);
const whole = (x) => Math.round(x).toLocaleString("en-US");
const percent = (x) => `${(100 * x).toFixed(x > 0 && x < 0.0995 ? 1 : 0)}%`;
const fixed = (x, digits = 2) => (x >= 1000 ? whole(x) : x.toFixed(digits));
const short = (w) => (w >= 999.5 ? whole(w) : w.toPrecision(3));
const SIGNS = { "\n": "↵", "\t": "⇥", " ": "␣" };
/** Text with a sign or a code point for each character that shows nothing. */
const visible = (text) => text.replace(/[\p{C}\p{Z}]/gu, (c) =>
  SIGNS[c] ?? `[U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);

function start() {
  const facts = JSON.parse($("payload").textContent), documents = facts.documents, controls = $("controls").elements;
  const named = Object.keys(facts.objectives), unshaded = named.filter((name) => !(name in RULES));
  const offered = named.filter((name) => name in RULES && (facts.base_hash || !facts.objectives[name].needs_nll));
  const objective = offered.includes(facts.objective) ? facts.objective : offered.at(-1);
  const defaults = { ...DEFAULTS, objective, floor: facts.floor };
  const lowest = facts.floors[0], highest = facts.floors.at(-1);
  let state = readState(), weights = [];

  documents.forEach((d, number) => {
    d.number = number;
    d.starts = []; // of each piece in r
    d.pieces.reduce((at, _, i) => (d.starts.push(at), at + (d.joined[i] ?? 1)), 0);
  });
  controls.source.append(...facts.sources.map((s) => make("option", { value: s.name }, s.name)));
  controls.objective.append(...offered.map((name) => make("option", { value: name }, name)));
  if (!facts.means.loss_match) controls.norm.querySelector("[value=loss_match]").remove();
  Object.assign(controls.floor, { min: lowest, max: highest });
  Object.assign($("slider"), { min: Math.log10(lowest), max: Math.log10(highest) });

  // State: what differs from the defaults stands behind # in the address, so that a view can be sent to others.

  function readState() {
    const found = { ...defaults }, given = new URLSearchParams(location.hash.slice(1));
    for (const [key, value] of given) {
      if (!(key in found)) continue;
      if (typeof found[key] === "string") found[key] = value;
      else if (value !== "" && Number.isFinite(Number(value))) found[key] = Number(value);
    }
    return checked(found);
  }

  function checked(s) {
    const one = (key, allowed) => (allowed.includes(s[key]) ? s[key] : defaults[key]);
    return { ...s, objective: one("objective", offered), norm: one("norm", [...Object.keys(facts.means), "none"]),
      order: one("order", ["mixed", "least", "most", "source"]),
      source: one("source", facts.sources.map((x) => x.name)),
      floor: Math.min(Math.max(s.floor, lowest), highest), alpha: Math.max(s.alpha, 0),
      min_weight: Math.max(s.min_weight, 0), max_weight: Math.max(s.max_weight, 0),
      keep: Math.min(Math.max(s.keep, 0.001), 1) };
  }

  function remember(values) {
    state = checked({ ...state, document: -1, piece: -1, page: 1, ...values });
    const told = Object.entries(state).filter(([key, value]) => value !== defaults[key]);
    try { // Safari refuses more than 100 in half a minute; the view shall change all the same
      history.replaceState(null, "", `#${new URLSearchParams(told)}`);
    } catch {}
  }

  function change(values) {
    remember(values);
    render();
  }

  addEventListener("hashchange", () => { state = readState(); render(); });
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("controls").addEventListener("input", (event) => {
    const { id, name, value, type } = event.target;
    if (id === "slider") change({ floor: Number((10 ** value).toPrecision(2)) });
    else if (type !== "number") change({ [name]: value });
    else if (value === "" && name === "max_weight") change({ max_weight: Infinity });
    else if (value !== "" && (value > 0 || !["floor", "keep"].includes(name))) change({ [name]: Number(value) });
  });
  $("controls").addEventListener("change", ({ target }) => { // a number that was cut to its range
    if (target.name) target.value = typed(state[target.name]);
  });
  for (const button of document.querySelectorAll("[data-to]")) {
    button.addEventListener("click", () => $(button.dataset.to).scrollIntoView());
  }

  function showControls() {
    for (const key of Object.keys(DEFAULTS).filter((key) => controls[key])) {
      const busy = controls[key] === document.activeElement && controls[key].tagName !== "SELECT";
      if (!busy) controls[key].value = typed(state[key]);
    }
    if ($("slider") !== document.activeElement) $("slider").value = Math.log10(state.floor);
    const { colour, knobs } = facts.objectives[state.objective];
    document.documentElement.style.setProperty("--objective", colour);
    for (const label of document.querySelectorAll("[data-knob]")) {
      const off = !knobs.includes(label.dataset.knob);
      label.classList.toggle("off", off);
      for (const input of label.querySelectorAll("input, select")) input.disabled = off;
    }
  }

  // Everything is made anew whenever something changed.

  function render() {
    weights = weigh(documents, facts, state);
    documents.forEach((d, i) => {
      d.mean = mean(scoredOnly(weights[i]));
      d.places = places(d, state.search);
    });
    showControls();
    showLegend();
    showDocuments();
    showRanks();
    showMasses();
    showPhrases();
    showHistograms();
  }

  function showLegend() {
    const counts = Array(STEPS.length + 1).fill(0);
    for (const w of weights) for (const x of w) if (x !== null) counts[stepOf(x)]++;
    const names = STEPS.map((edge, i) => (i ? `${STEPS[i - 1]} to ${edge}` : `below ${edge}`));
    names.push(`${STEPS.at(-1)} and more`);
    const shares = counts.map((n) => percent(n / Math.max(sum(counts), 1)));
    const item = (name, told, kind = "") => make("li", {}, make("span", { class: kind }, name), make("small", {}, told));
    $("legend").replaceChildren(item("weight", "tokens"), ...names.map((name, i) => item(name, shares[i], `w${i}`)),
      item("no score", "first of a segment", "u"));
  }

  function listed() {
    const wanted = (d) => (!state.source || d.source === state.source) && (!state.search || d.places.length);
    const place = (d) => facts.sources.findIndex((s) => s.name === d.source);
    const key = { mixed: (d) => d.number, least: (d) => d.mean, most: (d) => -d.mean, source: place }[state.order];
    return documents.filter(wanted).sort((a, b) => key(a) - key(b));
  }

  function showDocuments() {
    $("tip").hidden = true;
    const found = listed(), pages = Math.max(Math.ceil(found.length / PER_PAGE), 1);
    const at = found.findIndex((d) => d.number === state.document);
    const page = at >= 0 ? Math.floor(at / PER_PAGE) + 1 : Math.min(Math.max(Math.round(state.page), 1), pages);
    const hits = found.reduce((sum, d) => sum + d.places.length, 0);
    const told = `${state.search ? `${whole(hits)} places in ` : ""}${whole(found.length)} documents`;
    const turn = (to, name) => {
      const button = make("button", { type: "button", onclick: () => { change({ page: to }); scrollTo(0, 0); } }, name);
      button.disabled = to < 1 || to > pages;
      return button;
    };
    const pager = () => make("div", { class: "bar pager" }, make("b", {}, told),
      make("span", { class: "right" }, `page ${page} of ${pages}`), turn(page - 1, "Previous"), turn(page + 1, "Next"));
    const cards = found.slice((page - 1) * PER_PAGE, page * PER_PAGE).map(card);
    $("documents").replaceChildren(pager(), ...cards, ...(cards.length > 2 ? [pager()] : []));
    const chosen = document.querySelector("article.chosen");
    if (!chosen) return;
    chosen.scrollIntoView();
    const token = chosen.querySelector(`[data-i="${state.piece}"]`);
    if (token) pointAt(token);
  }

  function card(d) {
    const shown = d.r.length, scored = scoredOnly(weights[d.number]).length;
    const means = `mean weight ${fixed(d.mean)} · mean r ${fixed(mean(scoredOnly(d.r)))}`;
    const drawn = `drawn as ${d.pick} of its source, by mean mucpt weight at a floor of ${facts.floor} nats`;
    const head = make("header", {}, make("h3", {}, d.id), make("span", { class: "tag" }, d.source),
      make("span", { class: "tag", title: drawn }, d.pick),
      make("span", { class: "mean" }, `${means} · ${whole(scored)} scored tokens`));
    const made = make("article", { class: d.number === state.document ? "chosen" : "" }, head, text(d));
    const cut = `The first ${whole(shown)} of ${whole(d.tokens)} tokens; ${whole(d.tokens - shown)} are left out.`;
    if (shown < d.tokens) made.append(make("p", { class: "cut" }, cut));
    const absent = `${whole(d.absent)} tokens before its last are not in these rows: the text has gaps.`;
    if (d.absent > 0) made.append(make("p", { class: "cut" }, absent));
    return made;
  }

  function text(d) {
    const hit = new Set();
    for (const [first, last] of d.places) for (let i = first; i <= last; i++) hit.add(i);
    const spans = d.pieces.map((piece, i) => {
      const known = scoredOnly(weightsOf(d, i)), step = known.length ? `w${stepOf(mean(known))}` : "u";
      return make("span", { class: hit.has(i) ? `${step} hit` : step, "data-i": i }, piece);
    });
    return make("div", { class: "text", tabindex: 0, role: "group", "data-d": d.number,
      "aria-label": `Text of ${d.id}; the left and right arrow keys go from token to token` }, ...spans);
  }

  const weightsOf = (d, i) => weights[d.number].slice(d.starts[i], d.starts[i] + (d.joined[i] ?? 1));

  // The token pointed at, by mouse or arrow keys: its text, r and weight; of a character of several tokens each one.

  function pointAt(span) {
    document.querySelector(".text .now")?.classList.remove("now");
    span.classList.add("now");
    const d = documents[span.parentElement.dataset.d], i = Number(span.dataset.i), from = d.starts[i];
    const lines = weightsOf(d, i).map((w, k) => {
      if (w === null) return "no score: first of a segment";
      const base = d.base ? `   start model ${d.base[from + k]}` : "";
      return `r ${d.r[from + k]}${base}   w ${short(w)}`;
    });
    $("tip").textContent = [visible(d.pieces[i]), ...lines].join("\n");
    $("tip").hidden = false;
    const box = span.getBoundingClientRect(), tip = $("tip").getBoundingClientRect();
    const above = box.top - tip.height - 6;
    $("tip").style.left = `${Math.max(Math.min(box.left, innerWidth - tip.width - 8), 8)}px`;
    $("tip").style.top = `${above > 0 ? above : box.bottom + 6}px`;
  }

  const leave = () => {
    document.querySelector(".text .now")?.classList.remove("now");
    $("tip").hidden = true;
  };
  const area = $("documents");
  area.addEventListener("mouseover", (event) => (event.target.dataset.i ? pointAt(event.target) : leave()));
  area.addEventListener("mouseleave", leave);
  area.addEventListener("focusout", leave);
  area.addEventListener("click", ({ target }) => { // the address becomes a link to this very token
    const { i } = target.dataset;
    if (i) remember({ page: state.page, document: Number(target.parentElement.dataset.d), piece: Number(i) });
  });
  area.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") leave();
    if (!step || !event.target.classList.contains("text")) return;
    const now = event.target.querySelector(".now");
    const next = now ? event.target.children[Number(now.dataset.i) + step] : event.target.children[0];
    if (next) { next.scrollIntoView({ block: "nearest" }); pointAt(next); event.preventDefault(); }
  });

  function showRanks() {
    const ranked = documents.filter((d) => scoredOnly(d.r).length >= facts.enough).sort((a, b) => a.mean - b.mean);
    const length = Math.min(8, Math.ceil(ranked.length / 2));
    const open = (d) => () => change({ document: d.number, source: "", search: "" });
    const beginning = (d) => [...d.pieces.slice(0, 60).join("").trim()].slice(0, 60).join("") || d.id;
    const line = (d) => make("li", {}, make("span", {}, fixed(d.mean)),
      make("button", { class: "link", type: "button", title: `${d.id} (${d.source})`, onclick: open(d) }, beginning(d)));
    const list = (name, chosen) => [make("h3", {}, name), make("ol", { class: "ranked" }, ...chosen.map(line))];
    $("rank-note").textContent = "Of the documents in this page, by mean weight of the tokens shown; " +
      `those of fewer than ${facts.enough} scored tokens are left out.`;
    $("ranked").replaceChildren(...list("Least weight", ranked.slice(0, length)),
      ...list("Most weight", ranked.slice(-length).reverse()));
  }

  const heading = (...names) => make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name)));
  const sum = (values) => values.reduce((a, b) => a + b, 0);

  function showMasses() {
    const found = bySource(facts, documents, state), tokens = sum(found.map((s) => s.targets));
    const mass = sum(found.map((s) => s.targets * s.mean)), square = sum(found.map((s) => s.targets * s.square));
    const rows = found.map((s) => {
      const shares = [s.targets / tokens, mass ? (s.targets * s.mean) / mass : 0];
      const bars = make("div", { class: "mass", "aria-hidden": "true" }, make("i"), make("i"));
      shares.forEach((share, i) => (bars.children[i].style.width = `${100 * share}%`));
      const cells = [...shares.map(percent), fixed(s.mean)].map((cell) => make("td", {}, cell));
      return make("tbody", {}, make("tr", {}, make("th", { colspan: 4, scope: "rowgroup" }, make("bdi", {}, s.name))),
        make("tr", {}, make("td", {}, bars), ...cells));
    });
    const head = make("thead", {}, heading("source", "tokens", "weight", "mean weight"));
    $("masses").lastElementChild.replaceChildren(make("table", {}, head, ...rows));
    const shown = facts.objectives[state.objective].needs_nll ? " The threshold is that of the tokens shown here." : "";
    $("mass-note").textContent = "Share of all tokens (grey) and of all weight (in the objective's colour), by the " +
      `${whole(facts.rows_read)} rows that were read.${shown}`;
    $("summary").textContent = `mean weight ${fixed(mass / tokens)} · ` +
      `effective sample ${percent(square ? mass ** 2 / (tokens * square) : 0)} of the tokens`;
  }

  function showPhrases() {
    const corpus = meanRawWeight(facts.floors, facts.means.corpus_mean_one, state.floor);
    const ranked = facts.phrases.map((p) => ({ ...p, w: meanRawWeight(facts.floors, p.means, state.floor) / corpus }));
    for (const p of ranked) p.lost = p.count * p.tokens * (1 - p.w);
    ranked.sort((a, b) => b.lost - a.lost);
    const find = (p) => () => { change({ search: p.text, source: "" }); scrollTo(0, 0); };
    const rows = ranked.map((p) => make("tr", {},
      make("td", {}, make("button", { class: "link", type: "button", title: "search the documents for it", onclick: find(p) },
        p.text.replace(/\s+/g, " "))),
      make("td", {}, p.tokens), make("td", {}, whole(p.count)), make("td", { class: `w${stepOf(p.w)}` }, fixed(p.w)),
      make("td", {}, whole(p.lost))));
    $("phrases").lastElementChild.replaceChildren(
      make("table", {}, heading("phrase", "tokens", "occurrences", "mean weight", "weight lost"), ...rows));
    $("phrase-note").textContent = `Runs of 3 to 6 tokens in the ${whole(facts.rows_read)} rows that were read, by the ` +
      `sum of 1 − w over all their tokens (mucpt, floor ${state.floor} nats, corpus mean one). They were ` +
      `found at a floor of ${facts.floor} nats; of runs that share three tokens one is shown.`;
  }

  function showHistograms() {
    const { edges, kind, step, line, ticks, x } = histogramOf(facts, documents, state), excess = kind === "excess";
    const counted = excess ? "The start model's −log p less r, in nats (the last bars: all beyond 10)" :
      "r = −log p of the reference model in nats (logarithmic)";
    $("histogram-note").textContent = `${counted}, as shares of each source's tokens in the rows that were read. Bars are ` +
      `shaded by the weight that such a token has now; the dashed line is the ${excess ? "threshold" : "floor"}.`;
    $("histograms").replaceChildren(...facts.sources.map((source) => {
      const counts = source[kind], top = Math.max(...counts, 1);
      const bars = counts.map((n, i) => {
        const left = x(edges[i]), width = Math.max(x(edges[i + 1]) - left - 0.4, 0.5), height = (90 * n) / top;
        return make("rect", { class: `f${step(i)}`, x: left, y: 100 - height, width, height });
      });
      const marks = ticks.map((at) => make("text", { x: x(at), y: 113, "text-anchor": "middle" }, at));
      const about = `Histogram of ${excess ? "excess loss" : "r"} of ${source.name}`;
      const picture = make("svg", { viewBox: "0 0 360 118", role: "img", "aria-label": about },
        ...bars, make("line", { class: "axis", x1: 30, x2: 350, y1: 100, y2: 100 }), ...marks,
        make("text", { x: 27, y: 18, "text-anchor": "end" }, percent(top / Math.max(sum(counts), 1))));
      if (line !== null) picture.append(make("line", { class: "floor", x1: x(line), x2: x(line), y1: 6, y2: 100 }));
      const name = make("bdi", {}, make("b", {}, source.name));
      return make("figure", {}, make("figcaption", {}, name, ` ${whole(source.targets)} tokens`), picture);
    }));
  }

  function about() {
    const means = facts.floors.map((f, i) => `${f}\u00a0→\u00a0${facts.means.corpus_mean_one[i].toPrecision(3)}`);
    const lines = {
      folder: facts.folder,
      "reference model": facts.scores.rm_hash,
      "start model": facts.base_hash ?? `not given, so no ${named.filter((n) => facts.objectives[n].needs_nll).join(", ")}`,
      "computed in": `${facts.scores.compute_dtype}, stored as ${facts.scores.encoding}`,
      tokenizer: facts.tokenizer_hash.slice(0, 16),
      "tokens scored": whole(facts.scores.tokens),
      "rows read": facts.rows_read < facts.rows ? `${whole(facts.rows_read)} of ${whole(facts.rows)}` : whole(facts.rows),
      "tokens in a row": whole(facts.sequence_length),
      "floor → corpus mean of 1/max(r, floor)": means.join(", "),
    };
    if (unshaded.length) lines["not offered"] = `${unshaded.join(", ")}: audit_weights.js has no rule for it`;
    $("about").lastElementChild.append(...Object.entries(lines).map(([name, value]) =>
      make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value))));
  }

  about();
  render();
}

if (document.getElementById("payload")) start();
