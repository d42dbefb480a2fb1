"use strict";
// What a token weighs, as objective.py has it, and where words stand: plain functions over the payload that audit.py
// writes.
// r in nats; null where a token has no score (the first of a segment).

const STEPS = [0.1, 0.25, 0.5, 0.8, 1.25, 2, 4]; // weights; a token's class is w0 below the first, w7 from the last

/** Corpus mean of 1 / max(r, floor): straight in log-log between the floors of the grid. */
function meanRawWeight(floors, means, floor) {
  const last = floors.length - 1, x = Math.log(Math.min(Math.max(floor, floors[0]), floors[last]));
  let i = 0;
  while (i < last - 1 && x > Math.log(floors[i + 1])) i++;
  const share = (x - Math.log(floors[i])) / (Math.log(floors[i + 1]) - Math.log(floors[i]));
  return Math.exp(Math.log(means[i]) * (1 - share) + Math.log(means[i + 1]) * share);
}

/** The nearest whole number, of two the even one. */
const rounded = (x) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

// What an objective makes of a token: `of` says by which number, its r or its excess loss r(start model) - r; weight()
// is a function of that number; line is where a histogram shows a dashed line; `ties` is how many of the tokens exactly
// on the line are selected, `tied` what each of these weighs.  An objective of objective.py that has no rule here is not offered.
const RULES = {
  ntp: () => ({ of: "r", line: null, ties: 0, weight: () => 1 }),

  rho1(facts, documents, s) {
    const found = documents.flatMap((d) => scoredOnly(d.r.map((r, i) => (r === null ? null : d.base[i] - r))));
    const excess = Float64Array.from(found).sort(), count = excess.length; // typed: by number, and ten times as fast
    const selected = Math.max(rounded(Math.fround(Math.fround(s.keep) * count)), 1); // float32, as in training
    const line = excess[count - selected], tied = count / selected, ties = selected - excess.filter((x) => x > line).length;
    return { of: "excess", line, ties, tied, weight: (x) => (x > line ? tied : 0) };
  },

  mucpt(facts, documents, s) {
    const mean = s.norm in facts.means ? meanRawWeight(facts.floors, facts.means[s.norm], s.floor) : 1;
    const capped = (w) => Math.min(Math.max(w, s.min_weight), s.max_weight);
    return { of: "r", line: s.floor, ties: 0, weight: (r) => s.alpha * capped(1 / Math.max(r, s.floor) / mean) };
  },
};

const ruleOf = (facts, documents, s) => RULES[s.objective](facts, documents, s);

/** Weight of every token of every document; null where it has no score. */
function weigh(documents, facts, s) {
  const rule = ruleOf(facts, documents, s);
  let { ties } = rule; // go to the earlier token
  return documents.map((d) => d.r.map((r, i) => {
    if (r === null) return null;
    const x = rule.of === "r" ? r : d.base[i] - r;
    return x === rule.line && ties-- > 0 ? rule.tied : rule.weight(x);
  }));
}

const stepOf = (w) => STEPS.filter((edge) => w >= edge).length;
const mean = (values) => values.reduce((a, b) => a + b, 0) / Math.max(values.length, 1);
const scoredOnly = (values) => values.filter((x) => x !== null);

/** The middle of a bin of r; of the last, open one its beginning. */
function middleOf(edges, i) {
  return i === 0 ? 0 : i === edges.length - 2 ? edges[i] : Math.sqrt(edges[i] * edges[i + 1]);
}

/** Share of a histogram above x, straight within the bin. */
function shareAbove(counts, edges, x) {
  const inside = (i) => Math.min(Math.max((edges[i + 1] - x) / (edges[i + 1] - edges[i]), 0), 1);
  return counts.reduce((sum, n, i) => sum + n * inside(i), 0) / Math.max(counts.reduce((a, b) => a + b, 0), 1);
}

/** Mean weight and mean squared weight of each source over the rows read. */
function bySource(facts, documents, s) {
  const rule = ruleOf(facts, documents, s);
  return facts.sources.map((source) => {
    if (rule.of === "excess") {
      const share = shareAbove(source.excess, facts.excess_edges, rule.line);
      return { ...source, mean: share * rule.tied, square: share * rule.tied ** 2 };
    }
    const total = Math.max(source.r.reduce((a, b) => a + b, 0), 1);
    const w = source.middle.map(rule.weight); // null where a bin is empty
    const over = (power) => source.r.reduce((sum, n, i) => sum + n * w[i] ** power, 0) / total;
    return { ...source, mean: over(1), square: over(2) };
  });
}

/** What a histogram counts, class of bar i, where the line stands. */
function histogramOf(facts, documents, s) {
  const { of, line, weight } = ruleOf(facts, documents, s);
  if (of === "excess") {
    const edges = facts.excess_edges, x = (e) => 190 + 15.5 * Math.min(Math.max(e, -10.3), 10.3);
    return { edges, kind: of, line, ticks: [-10, -5, 0, 5, 10], x, step: (i) => stepOf(weight(edges[i + 1])) };
  }
  const edges = facts.edges, x = (r) => 30 + ((Math.log10(Math.min(Math.max(r, 0.0008), 36)) + 3.1) / 4.66) * 320;
  return { edges, kind: of, line, ticks: [0.001, 0.01, 0.1, 1, 10], x, step: (i) => stepOf(weight(middleOf(edges, i))) };
}

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
