// One task: what is to be learned, its edits side by side, and what was answered before and after.
const pageOf = (where) => data.tasks.findIndex((t) => String(t.round) === where.round && t.id === where.task);

function taskPage(where) {
  const number = pageOf(where);
  if (number < 0) {
    return [el("h1", {}, "No such task"), note(`Round ${where.round} has no page for the task ${where.task}; it may have been deleted, or left out to keep this file small.`), link({ view: "tasks" }, "all tasks")];
  }
  const task = data.tasks[number], body = bodyOf(number);
  const near = (step) => {
    const other = data.tasks[number + step];
    return other && link(opened(other), step < 0 ? "← previous" : "next →");
  };
  const kept = body.edits.filter((e) => e.weight > 0).length;
  const said = task.part === "gate" ? "asked by the gate" : task.part === "held out" ? "held out: a point of the learning curve"
    : kept ? `${kept} of ${plural(body.edits.length, "edit")} kept` : task.abstained ? `nothing kept: ${task.abstained}` : plural(body.edits.length, "edit");
  const cards = el("div", { class: "side-by-side" });
  const arrange = (order) => {
    const edits = [...body.edits];
    if (order === "reward") edits.sort((a, b) => (b.reward?.[0] ?? -Infinity) - (a.reward?.[0] ?? -Infinity));
    cards.replaceChildren(...edits.map((e) => editCard(e, task)));
  };
  const order = el("select", { on: { change: (e) => { where.order = e.target.value; remember(where); arrange(where.order); } } },
    [["", "by slot"], ["reward", "by reward"]].map(([value, name]) => el("option", { value, selected: (where.order || "") === value }, name)));
  arrange(where.order);
  const cardOf = (slot) => cards.querySelector(`[data-slot="${Number(slot)}"]`);
  const reach = (slot) => cardOf(slot)?.scrollIntoView({ behavior: "smooth", block: "nearest", inline: "center" });
  if (where.edit !== undefined) requestAnimationFrame(() => { cards.scrollLeft = (cardOf(where.edit)?.offsetLeft ?? 0) - cards.offsetLeft - 16; });
  const rungs = body.edits.filter((e) => e.reward).map((e) => ({ slot: e.slot, mean: e.reward[0], error: e.reward[1], kept: e.weight > 0 })).sort((a, b) => b.mean - a.mean);
  return [
    el("nav", { class: "crumbs", "aria-label": "task" }, link({ view: "tasks" }, "tasks"), el("span", { class: "grow" }), near(-1), near(1)),
    el("h1", {}, task.title),
    el("p", { class: "quiet" }, `Round ${task.round} · ${said} · `, el("code", {}, task.id)),
    subject(task, body),
    rungs.length > 0 && section("Rewards", "Gain over the baseline ± standard error; green: kept.", ladder("rewards of the edits", rungs, reach)),
    section("Edits side by side", null, body.edits.length ? [el("label", { class: "tools" }, "order ", order), cards] : note("No edit has been written yet.")),
    questions(body),
    alone(body),
  ];
}

// what is to be learned

function subject(task, body) {
  if (!body.data) return section("What it is", "A gate's tasks come from the validation split, held-out ones from the test split: the run keeps their edits and trials, not their texts.");
  const { title, questions: asked, train, test, ...rest } = body.data;
  const parts = [];
  for (const [name, value] of Object.entries(rest)) {
    if (typeof value !== "string") parts.push(folded(name, () => el("pre", {}, JSON.stringify(value, null, 1))));
    else parts.push(value.length > 2400 ? [el("p", { class: "passage" }, `${value.slice(0, 1200)}…`), folded(`all of its ${whole(value.length)} characters`, () => el("p", { class: "passage" }, value))] : el("p", { class: "passage" }, value));
  }
  if (Array.isArray(train)) {
    const pair = (p) => el("div", { class: "pair" }, picture(p.input), el("span", { class: "quiet" }, "→"), p.output ? picture(p.output) : note("not told"));
    parts.push(el("h3", {}, "Demonstrations"), el("div", { class: "pairs" }, train.map(pair)), el("h3", {}, "Tests"), el("div", { class: "pairs" }, (test || []).map(pair)));
  }
  return section("What is to be learned", null, parts);
}

/** A grid as colours, from rows of numbers or from a text that holds nothing else; otherwise null. */
function gridIn(value) {
  let rows = value;
  if (typeof value === "string") {
    const lines = value.trim().split("\n").map((l) => l.trim());
    try {
      rows = value.trim().startsWith("[[") ? JSON.parse(value) : lines.every((l) => /^\d( ?\d)*$/.test(l)) && lines.length > 1 ? lines.map((l) => [...l.replaceAll(" ", "")].map(Number)) : null;
    } catch { return null; }
  }
  const good = Array.isArray(rows) && rows.length > 0 && rows.length <= 30 && rows.every((r) => Array.isArray(r) && r.length === rows[0].length && r.length > 0 && r.length <= 30 && r.every((v) => Number.isInteger(v) && v >= 0 && v < 10));
  return good ? rows : null;
}

function picture(value) {
  const rows = gridIn(value);
  return rows ? colours(rows) : el("span", { class: "said" }, typeof value === "string" ? value : JSON.stringify(value));
}

// an edit

function editCard(e, task) {
  const state = e.failure ? badge("bad", `failed: ${e.failure.kind}`) : e.weight > 0 ? badge("good", "kept") : e.weight < 0 ? badge("bad", "taught away from") : e.against ? badge("bad", "preferred against") : null;
  const curves = e.candidates.filter((c) => c.losses?.length).map((c) => ({ points: c.losses, width: c.per_point, name: `repeat ${c.repeat}: ${plain(c.first_last[0], 2)} → ${plain(c.first_last[1], 2)}` }));
  return el("article", { class: e.weight > 0 ? "edit-card kept" : "edit-card", "data-slot": e.slot },
    el("header", {}, el("h3", {}, `Edit ${e.slot}`), e.style && el("span", { class: "quiet" }, e.style), task.part !== "train" && known(e.version) && badge("", `version ${e.version}`), state),
    e.reward ? el("div", { class: "worth" }, el("strong", {}, signed(e.reward[0])), estimate(e.reward, signed).slice(signed(e.reward[0]).length), el("span", { class: "quiet" }, ` raw ${signed(e.raw[0])}, ${plural(e.reward[2], "repeat")}`))
      : task.part !== "train" ? null : el("div", { class: "worth quiet" }, "no reward"),
    e.reward && note(`accuracy ${estimate(e.accuracy, percent)} · likelihood ${estimate(e.likelihood)}`),
    e.why && note(known(e.weight) && e.weight !== 1 ? `weight ${plain(e.weight, 2)}: ${e.why}` : e.why), e.against && note(e.against),
    e.failure && el("p", { class: "bad-text" }, e.failure.message),
    e.asked.map((why) => note(`more repeats were asked for: ${why}`)),
    content(e),
    trained(e),
    curves.length > 0 && [el("h4", {}, "Loss"), lossCurve("loss by step", curves)],
    el("h4", {}, "Trials"), e.candidates.length ? el("ul", { class: "trials" }, e.candidates.map(trialLine)) : note(e.failure ? "An edit that failed is not tried." : e.rubric.length ? "None: its reward is what the judge says of the edit itself." : "None yet."),
    e.rubric.length > 0 && [el("h4", {}, "The judge's rubric"), facts(e.rubric.map((v) => [v.axis, v.failure ? `failed: ${v.failure.kind}` : plain(v.score, 2)]))],
    el("p", { class: "quiet small" }, `${plural(e.tokens, "token")}, ${e.finish === "length" ? "cut at its limit" : "ended by itself"}${known(e.logprob) ? `, log-probability ${plain(e.logprob, 2)} a token` : ""} · `, el("code", {}, e.id.slice(0, 12))));
}

function content(e) {
  if (e.content && typeof e.content === "object") {
    return [facts(Object.entries(e.content).map(([name, v]) => [name.replaceAll("_", " "), v === true ? "yes" : v === false ? "no" : typeof v === "object" ? JSON.stringify(v) : String(v)])),
      folded("As it was written", () => el("pre", { class: "written" }, e.text))];
  }
  const other = e.content && e.content.trim() !== e.text.trim();
  return [el("pre", { class: "written" }, e.content || e.text || "(an empty text)"), other && folded("As it was written", () => el("pre", { class: "written" }, e.text))];
}

function trained(e) {
  const t = e.trained;
  if (!t) {
    const tried = e.candidates.find((c) => c.state === "tried");
    return tried && note(`Trained for ${plural(tried.steps, "step")} on ${plural(tried.tokens, "token")} that the domain made of it and of the task.`);
  }
  return folded(`${e.candidates.length ? "Trained on" : "It would train on"} ${plural(t.texts.length, "text")}${t.context ? " and the passage itself" : ""}`, () => [
    t.title && note(`Each stands under the title “${t.title}”.`), el("ol", { class: "texts" }, t.texts.map((x) => el("li", {}, x)))]);
}

function trialLine(c) {
  const name = c.kind === "edit" ? `repeat ${c.repeat}` : c.kind === "baseline" ? `base${known(c.version) ? `, version ${c.version}` : ""}` : `context alone, repeat ${c.repeat}`;
  if (c.state === "failed") return el("li", {}, name, " ", badge("bad", `failed: ${c.failure.kind}`), " ", el("span", { class: "bad-text" }, c.failure.message));
  if (c.state === "waiting") return el("li", {}, name, " ", badge("wait", "not tried yet"));
  if (c.state === "lost") return el("li", {}, name, " ", badge("bad", "no trial: it was lost"));
  return el("li", {}, `${name}: accuracy ${percent(c.accuracy)}, likelihood ${plain(c.likelihood)}`, el("span", { class: "quiet" }, `, ${lasting(c.seconds)} on ${c.worker || "?"}`));
}

// before and after

function questions(body) {
  if (!body.questions.length) return section("Questions", "Nothing has been asked yet.");
  const arms = [
    ...body.alone.filter((c) => c.kind === "baseline").map((c) => [`before${known(c.version) ? `, version ${c.version}` : ""}`, [c], ""]),
    ["context alone", body.alone.filter((c) => c.kind === "context"), ""],
    ...body.edits.map((e) => [`edit ${e.slot}${e.weight > 0 ? " (kept)" : ""}${known(body.alone[0]?.version) && known(e.version) ? `, version ${e.version}` : ""}`, e.candidates, e.weight > 0 ? "kept" : ""]),
  ].filter(([, mine]) => mine.length);
  return section("Questions, before and after", "Asked closed book. The number is the mean log-probability of the gold answer's tokens.",
    body.questions.map((q, i) => el("article", { class: "question" },
      el("h3", {}, q.text || q.id),
      q.gold?.length > 0 && el("p", { class: "gold" }, el("span", { class: "quiet" }, "gold: "), q.gold.map((g, n) => [n > 0 && el("span", { class: "quiet" }, " or "), g === null ? "not told" : picture(g)])),
      el("table", { class: "answers" }, el("tbody", {}, arms.map(([name, mine, kind]) => el("tr", { class: kind || null }, el("th", { scope: "row" }, name), el("td", {}, replies(mine, i)), el("td", { class: "number" }, likely(mine, i)))))))));
}

/** The answers of an arm's trials; the same answer with the same verdict is shown once. */
function replies(mine, i) {
  const groups = new Map();
  for (const c of mine) {
    const key = c.state === "tried" ? JSON.stringify([c.answers[i], c.verdicts[i]]) : c.state + (c.failure?.kind || "");
    groups.set(key, [...(groups.get(key) || []), c]);
  }
  return [...groups.values()].map((same) => {
    const c = same[0], times = same.length > 1 && el("span", { class: "quiet" }, ` ×${same.length}`);
    if (c.state !== "tried") return el("div", { class: "reply" }, c.state === "failed" ? badge("bad", `failed: ${c.failure.kind}`) : badge("wait", c.state === "lost" ? "lost" : "not tried yet"), times);
    const v = c.verdicts[i], answers = c.answers[i];
    return el("div", { class: "reply" }, mark(v), el("div", {}, answers.length ? answers.map(([said, finish]) => el("div", { class: "answer" }, picture(said.trim() || "(an empty answer)"), finish === "length" && el("span", { class: "quiet" }, " …"))) : el("em", {}, "no answer"), v?.failure && el("span", { class: "bad-text" }, v.failure.message), times));
  });
}

function mark(v) {
  if (!v) return el("span", { class: "verdict unknown", title: "no verdict" }, "?");
  if (v.failure) return badge("bad", `no verdict: ${v.failure.kind}`);
  const says = `${v.correct ? "right" : "wrong"}, says ${v.grader}${known(v.score) ? ` (score ${plain(v.score, 2)})` : ""}`;
  return el("span", { class: v.correct ? "verdict right" : "verdict wrong", title: says, role: "img", "aria-label": says }, v.correct ? "✓" : "✗");
}

function likely(mine, i) {
  const values = mine.filter((c) => c.state === "tried").map((c) => c.likely[i]).filter(known);
  return values.length ? plain(values.reduce((a, b) => a + b, 0) / values.length, 2) : "–";
}

function alone(body) {
  if (!body.alone.length) return null;
  const curves = body.alone.filter((c) => c.losses?.length).map((c) => ({ points: c.losses, width: c.per_point, name: `repeat ${c.repeat}` }));
  return section("Without an edit", "The base is asked as it is; the context alone is an adapter trained on the passage itself.",
    el("ul", { class: "trials" }, body.alone.map(trialLine)), curves.length > 0 && el("div", { class: "narrow" }, lossCurve("loss on the context alone", curves)));
}
