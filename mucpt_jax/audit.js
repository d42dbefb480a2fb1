"use strict";
// What is seen of the weights (audit_weights.js) in the page that audit.py makes.  Whatever comes from documents enters
// the page as text, never as HTML.

const DEFAULTS = {
  objective: "mucpt", floor: 1, alpha: 1, norm: "corpus", smooth: "none", keep: 0.6, // how tokens are weighed
  source: "", order: "mixed", search: "", page: 1, document: -1, piece: -1, // what is shown
};
const PER_PAGE = 10;

/** First and last piece of each place where the text has the wanted word, letters large or small. */
function places(document, wanted) {
  if (!wanted) return [];
  const lower = document.pieces.map((text) => text.toLowerCase()), all = lower.join(""), ends = [], found = [];
  let end = 0;
  for (const text of lower) ends.push((end += text.length));
  const word = wanted.toLowerCase();
  for (let at = all.indexOf(word), piece = 0; at >= 0; at = all.indexOf(word, at + word.length)) {
    while (ends[piece] <= at) piece++;
    let last = piece;
    while (ends[last] < at + word.length) last++;
    found.push([piece, last]);
  }
  return found;
}

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
const whole = (x) => Math.round(x).toLocaleString("en-US");
const percent = (x) => `${(100 * x).toFixed(x > 0 && x < 0.0995 ? 1 : 0)}%`;
const fixed = (x, digits = 2) => (x >= 1000 ? whole(x) : x.toFixed(digits));
const visible = (text) => text.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ /g, "␣").replace(/[\u0000-\u001f]/g, "�");

function start() {
  const facts = JSON.parse($("payload").textContent), documents = facts.documents, controls = $("controls").elements;
  const defaults = { ...DEFAULTS, objective: facts.objective, floor: facts.floor };
  let state = readState(), weights = [];

  documents.forEach((d, number) => {
    d.number = number;
    d.starts = []; // of each piece in r
    d.pieces.reduce((at, _, i) => (d.starts.push(at), at + (d.joined[i] ?? 1)), 0);
  });
  controls.source.append(...facts.sources.map((s) => make("option", { value: s.name }, s.name)));
  if (!facts.base_hash) controls.objective.querySelector("[value=rho1]").remove();
  controls.floor.min = facts.floors[0];
  controls.floor.max = facts.floors.at(-1);
  $("slider").min = Math.log10(facts.floors[0]);
  $("slider").max = Math.log10(facts.floors.at(-1));

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
    return { ...s, objective: one("objective", facts.base_hash ? ["mucpt", "rho1", "ntp"] : ["mucpt", "ntp"]),
      norm: one("norm", ["corpus", "none"]), smooth: one("smooth", ["none", "mean", "median"]),
      order: one("order", ["mixed", "least", "most", "source"]), source: one("source", facts.sources.map((x) => x.name)),
      floor: Math.min(Math.max(s.floor, facts.floors[0]), facts.floors.at(-1)), alpha: Math.max(s.alpha, 0),
      keep: Math.min(Math.max(s.keep, 0.001), 1) };
  }

  function remember(values) {
    state = checked({ ...state, document: -1, piece: -1, page: 1, ...values });
    const told = Object.entries(state).filter(([key, value]) => value !== defaults[key]);
    history.replaceState(null, "", `#${new URLSearchParams(told)}`);
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
    else if (value !== "" && (name === "alpha" || value > 0)) change({ [name]: Number(value) });
  });
  $("controls").addEventListener("change", ({ target }) => { // a number that was cut to its range
    if (target.name) target.value = state[target.name];
  });
  for (const button of document.querySelectorAll("[data-to]")) {
    button.addEventListener("click", () => $(button.dataset.to).scrollIntoView());
  }

  function showControls() {
    for (const key of ["objective", "floor", "alpha", "norm", "smooth", "keep", "source", "order", "search"]) {
      if (controls[key] !== document.activeElement || controls[key].tagName === "SELECT") controls[key].value = state[key];
    }
    if ($("slider") !== document.activeElement) $("slider").value = Math.log10(state.floor);
    for (const label of document.querySelectorAll("[data-for]")) {
      const off = label.dataset.for !== state.objective;
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
    const total = counts.reduce((a, b) => a + b, 0), names = STEPS.map((edge, i) => `${i ? STEPS[i - 1] : 0}–${edge}`);
    names.push(`${STEPS.at(-1)} and more`);
    const items = names.map((name, i) =>
      make("li", {}, make("span", { class: `w${i}` }, name), make("small", {}, percent(counts[i] / Math.max(total, 1)))));
    const none = make("li", {}, make("span", { class: "u" }, "no score"), make("small", {}, "first of a segment"));
    $("legend").replaceChildren(make("li", {}, "Weight"), ...items, none);
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
      return `r ${d.r[from + k]}${base}   w ${w.toPrecision(3)}`;
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
    const ranked = documents.filter((d) => scoredOnly(d.r).length).sort((a, b) => a.mean - b.mean);
    const length = Math.min(8, ranked.length);
    const open = (d) => () => change({ document: d.number, source: "", search: "" });
    const beginning = (d) => d.pieces.slice(0, 60).join("").trim().slice(0, 60) || d.id;
    const line = (d) => make("li", {}, make("span", {}, fixed(d.mean)),
      make("button", { class: "link", type: "button", title: `${d.id} (${d.source})`, onclick: open(d) }, beginning(d)));
    const list = (name, chosen) => [make("h3", {}, name), make("ol", { class: "ranked" }, ...chosen.map(line))];
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
      return make("tr", {}, make("td", {}, s.name, bars), ...cells);
    });
    $("masses").lastElementChild.replaceChildren(make("table", {}, heading("source", "tokens", "weight", "mean w"), ...rows));
    const smooth = state.objective === "mucpt" && state.smooth !== "none";
    $("mass-note").textContent = "Share of all tokens (grey) and of all weight (blue), by the " +
      `${whole(facts.rows_read)} rows that were read.` + (smooth ? " Counted without smoothing." : "") +
      (state.objective === "rho1" ? " The threshold is that of the tokens shown here." : "");
    $("summary").textContent = `mean weight ${fixed(mass / tokens)} · ` +
      `effective sample ${percent(square ? mass ** 2 / (tokens * square) : 0)} of the tokens${smooth ? ", without smoothing" : ""}`;
  }

  function showPhrases() {
    const corpus = meanRawWeight(facts.floors, facts.means.none, state.floor);
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
      make("table", {}, heading("phrase", "tokens", "occurrences", "mean w", "weight lost"), ...rows));
    $("phrase-note").textContent = `Runs of 3 to 6 tokens in the ${whole(facts.rows_read)} rows that were read, by the ` +
      `sum of 1 − w over all their tokens (mucpt, floor ${state.floor} nats, corpus mean one, no smoothing). They were ` +
      `found at a floor of ${facts.floor} nats; of runs that share three tokens one is shown.`;
  }

  function showHistograms() {
    const scale = scaleOf(facts, { ...state, smooth: "none" }), edges = facts.edges;
    const stepAt = (r) => stepOf(state.objective === "mucpt" ? scale / Math.max(r, state.floor) : 1);
    const x = (r) => 30 + ((Math.log10(Math.min(Math.max(r, 0.0008), 36)) + 3.1) / 4.66) * 320;
    $("histograms").replaceChildren(...facts.sources.map((source) => {
      const top = Math.max(...source.r, 1);
      const bars = source.r.map((n, i) => {
        const left = x(edges[i]), width = Math.max(x(edges[i + 1]) - left - 0.4, 0.5), height = (90 * n) / top;
        return make("rect", { class: `f${stepAt(middleOf(edges, i))}`, x: left, y: 100 - height, width, height });
      });
      const ticks = [0.001, 0.01, 0.1, 1, 10].map((r) => make("text", { x: x(r), y: 113, "text-anchor": "middle" }, r));
      const picture = make("svg", { viewBox: "0 0 360 118", role: "img", "aria-label": `Histogram of r of ${source.name}` },
        ...bars, make("line", { class: "axis", x1: 30, x2: 350, y1: 100, y2: 100 }), ...ticks,
        make("text", { x: 27, y: 18, "text-anchor": "end" }, percent(top / Math.max(sum(source.r), 1))));
      const floor = x(state.floor);
      if (state.objective === "mucpt") picture.append(make("line", { class: "floor", x1: floor, x2: floor, y1: 6, y2: 100 }));
      const caption = make("figcaption", {}, make("b", {}, source.name), ` ${whole(source.targets)} tokens`);
      return make("figure", {}, caption, picture);
    }));
  }

  function about() {
    const means = facts.floors.map((f, i) => `${f}\u00a0→\u00a0${facts.means.none[i].toPrecision(3)}`);
    const lines = {
      folder: facts.folder,
      "reference model": facts.scores.rm_hash,
      "start model": facts.base_hash ?? "not given, so no rho1",
      "computed in": `${facts.scores.compute_dtype}, stored as ${facts.scores.encoding}`,
      tokenizer: facts.tokenizer_hash.slice(0, 16),
      "tokens scored": whole(facts.scores.tokens),
      "rows read": facts.rows_read < facts.rows ? `${whole(facts.rows_read)} of ${whole(facts.rows)}` : whole(facts.rows),
      "tokens in a row": whole(facts.sequence_length),
      "floor → corpus mean of 1/max(r, floor)": means.join(", "),
    };
    $("about").lastElementChild.append(...Object.entries(lines).map(([name, value]) =>
      make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value))));
  }

  about();
  render();
}

if (document.getElementById("payload")) start();
