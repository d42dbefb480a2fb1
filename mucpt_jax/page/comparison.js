"use strict";
// The questions of a comparison: one set at a time, filtered, a few of them drawn.
const data = JSON.parse(document.getElementById("payload").textContent);
const SHOWN = 40;
const MARKS = { CORRECT: "✓", INCORRECT: "✗", NOT_ATTEMPTED: "–", ERROR: "!" };
const WORDS = { CORRECT: "right", INCORRECT: "wrong", NOT_ATTEMPTED: "not attempted", ERROR: "no verdict" };
const view = { set: 0, kind: "differ", text: "", shown: SHOWN };

function element(name, text, classes) {
  const node = document.createElement(name);
  if (text) node.textContent = text;
  if (classes) node.className = classes;
  return node;
}

const KINDS = {
  differ: ["runs differ", (q) => q.differ & 1],
  judges: ["judges differ", (q) => q.differ & 2],
  none: ["no run is right", (q) => q.answers.every((a) => !a || !a.verdicts.includes("CORRECT"))],
  all: ["all", () => true],
};

function matching() {
  const words = view.text.toLowerCase().split(/\s+/).filter(Boolean);
  return data.sets[view.set].questions.filter((q) => {
    if (!KINDS[view.kind][1](q)) return false;
    const text = [q.id, q.question, q.right, q.about, ...q.answers.map((a) => (a ? a.text : ""))].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

function answered(name, answer, judges) {
  const cell = element("div", "", "answer");
  cell.append(element("small", name));
  if (!answer) return cell.append(element("em", "not asked")), cell;
  const line = element("div");
  answer.verdicts.forEach((verdict, i) => {
    if (!verdict) return;
    const mark = element("b", MARKS[verdict], verdict.toLowerCase());
    mark.title = `${judges[i]}: ${WORDS[verdict]}`;
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", mark.title);
    line.append(mark);
  });
  line.append(answer.text ? element("bdi", answer.text) : element("em", "no answer"));
  cell.append(line);
  if (answer.reply) {
    const reply = element("details");
    reply.append(element("summary", "the judge's reply"), element("bdi", answer.reply));
    cell.append(reply);
  }
  return cell;
}

function question(q, judges) {
  const item = element("li");
  item.append(element("bdi", q.question || q.id, "question"));
  if (q.right) item.append(element("div", `right: ${q.right}`, "truth"));
  if (q.about) item.append(element("small", q.about));
  const answers = element("div", "", "answers");
  q.answers.forEach((answer, i) => answers.append(answered(data.runs[i], answer, judges)));
  item.append(answers);
  if (q.evidence) {
    const evidence = element("details");
    evidence.append(element("summary", `evidence: ${q.document}`), element("bdi", q.evidence));
    item.append(evidence);
  }
  return item;
}

function draw() {
  const set = data.sets[view.set];
  const all = matching();
  const list = document.getElementById("list");
  list.replaceChildren(...all.slice(0, view.shown).map((q) => question(q, set.judges)));
  const cut = set.total > set.questions.length ? `; the page holds ${set.questions.length} of ${set.total}` : "";
  document.getElementById("count").textContent =
    `${all.length} of ${set.questions.length} questions, ${Math.min(all.length, view.shown)} shown${cut}`;
  document.getElementById("more").hidden = all.length <= view.shown;
}

function option(select, value, text) {
  const node = element("option", text);
  node.value = value;
  select.append(node);
}

function start() {
  const section = document.getElementById("questions");
  if (!data.sets.length) return (section.hidden = true);
  const [set, kind, text] = ["set", "kind", "text"].map((id) => document.getElementById(id));
  data.sets.forEach((one, i) => option(set, i, one.name));
  set.parentElement.hidden = data.sets.length < 2;
  for (const [name, [words]] of Object.entries(KINDS)) option(kind, name, words);
  if (!matching().length) view.kind = kind.value = "all";
  set.onchange = () => Object.assign(view, { set: Number(set.value), shown: SHOWN }) && draw();
  kind.onchange = () => Object.assign(view, { kind: kind.value, shown: SHOWN }) && draw();
  text.oninput = () => Object.assign(view, { text: text.value, shown: SHOWN }) && draw();
  document.getElementById("more").onclick = () => ((view.shown += SHOWN), draw());
  draw();
}

start();
