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

/** r over each token and its two neighbours; null starts another segment, so nothing crosses it. */
function smoothed(r, kind) {
  if (kind === "none") return r;
  return r.map((own, i) => {
    if (own === null) return null;
    const near = [r[i - 1] ?? null, own, r[i + 1] ?? null].filter((x) => x !== null).sort((a, b) => a - b);
    if (kind === "mean") return near.reduce((a, b) => a + b) / near.length;
    return (near[(near.length - 1) >> 1] + near[near.length >> 1]) / 2;
  });
}

/** mucpt's weight of a token, by its r; as in training, loss_match of smoothed r is the mean of the corpus. */
function mucptRule(facts, s) {
  const grid = s.norm === "loss_match" && s.smooth === "none" ? "loss_match" : s.smooth;
  const mean = s.norm === "none" ? 1 : meanRawWeight(facts.floors, facts.means[grid], s.floor);
  return (r) => s.alpha * Math.min(Math.max(1 / Math.max(r, s.floor) / mean, s.min_weight), s.max_weight);
}

/** The nearest whole number, of two the even one. */
const rounded = (x) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/** Excess loss r(start model) - r above which rho1 keeps a token, ties that it still keeps, weight of the kept. */
function rho1Rule(documents, keep) {
  const found = documents.flatMap((d) => scoredOnly(d.r.map((r, i) => (r === null ? null : d.base[i] - r))));
  const excess = Float64Array.from(found).sort(), count = excess.length; // typed: by number, and ten times as fast
  const selected = Math.max(rounded(Math.fround(Math.fround(keep) * count)), 1); // float32, as in training
  const threshold = excess[count - selected];
  return { threshold, ties: selected - excess.filter((x) => x > threshold).length, weight: count / selected };
}

/** Weight of every token of every document; null where it has no score. */
function weigh(documents, facts, s) {
  if (s.objective === "ntp") return documents.map((d) => d.r.map((r) => (r === null ? null : 1)));
  if (s.objective === "mucpt") {
    const rule = mucptRule(facts, s);
    return documents.map((d) => smoothed(d.r, s.smooth).map((r) => (r === null ? null : rule(r))));
  }
  const rule = rho1Rule(documents, s.keep);
  let ties = rule.ties; // go to the earlier token
  return documents.map((d) => d.r.map((r, i) => {
    if (r === null) return null;
    const excess = d.base[i] - r;
    return excess > rule.threshold || (excess === rule.threshold && ties-- > 0) ? rule.weight : 0;
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

/** Mean weight and mean squared weight of each source over the rows read; from histograms, so without smoothing. */
function bySource(facts, documents, s) {
  const rule = s.objective === "rho1" ? rho1Rule(documents, s.keep) : null;
  const weightOf = mucptRule(facts, { ...s, smooth: "none" });
  return facts.sources.map((source) => {
    if (s.objective === "ntp") return { ...source, mean: 1, square: 1 };
    if (rule) {
      const share = shareAbove(source.excess, facts.excess_edges, rule.threshold);
      return { ...source, mean: share * rule.weight, square: share * rule.weight ** 2 };
    }
    const total = Math.max(source.r.reduce((a, b) => a + b, 0), 1);
    const w = source.middle.map(weightOf); // null where a bin is empty
    const over = (power) => source.r.reduce((sum, n, i) => sum + n * w[i] ** power, 0) / total;
    return { ...source, mean: over(1), square: over(2) };
  });
}

/** What a histogram counts, class of bar i, where the line stands: rho1 weighs by excess loss, all else by r. */
function histogramOf(facts, documents, s) {
  if (s.objective === "rho1") {
    const { threshold, weight } = rho1Rule(documents, s.keep), edges = facts.excess_edges;
    return { edges, kind: "excess", step: (i) => stepOf(edges[i + 1] > threshold ? weight : 0), line: threshold,
      ticks: [-10, -5, 0, 5, 10], x: (e) => 190 + 15.5 * Math.min(Math.max(e, -10.3), 10.3) };
  }
  const weightOf = mucptRule(facts, { ...s, smooth: "none" }), edges = facts.edges, mucpt = s.objective === "mucpt";
  return { edges, kind: "r", line: mucpt ? s.floor : null, ticks: [0.001, 0.01, 0.1, 1, 10],
    step: (i) => stepOf(mucpt ? weightOf(middleOf(edges, i)) : 1),
    x: (r) => 30 + ((Math.log10(Math.min(Math.max(r, 0.0008), 36)) + 3.1) / 4.66) * 320 };
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
