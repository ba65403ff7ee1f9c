// The lists of tasks and edits: searched, sorted, and drawn a hundred lines at a time.
const STEP = 100;
const BLANKS = /\s+/;

const words = (value) => (value && typeof value === "object" ? Object.values(value).map(words).join(" ") : value ?? "");
const haystacks = new Map();

/** What a search looks through. Texts are read from the pages at the first search. */
function haystack(kind, row) {
  const key = `${kind} ${row.page} ${row.round} ${row.id}`;
  if (!haystacks.has(key)) {
    const body = row.page === undefined ? null : bodyOf(row.page);
    const edit = kind === "edit" && body?.edits.find((e) => e.id === row.id);
    const parts = kind === "edit"
      ? [row.id, row.task, row.title, row.style, row.why, row.failure?.kind, row.failure?.message, row.trial_failure, edit?.text, words(edit?.content)]
      : [row.id, row.title, row.part, row.abstained, words(body?.data), body?.edits.map((e) => e.text).join(" ")];
    haystacks.set(key, parts.filter(Boolean).join("\n").toLowerCase());
  }
  return haystacks.get(key);
}

const opened = (row, slot) => ({ view: "task", round: row.round, task: row.task ?? row.id, edit: slot });
const state = (row) =>
  row.deleted ? badge("bad", "deleted")
  : row.failure ? badge("bad", `failed: ${row.failure.kind}`)
  : row.weight > 0 ? badge("good", "kept")
  : row.weight < 0 ? badge("bad", "taught away from")
  : row.trials === 0 && row.trials_failed ? badge("bad", `trials failed: ${row.trial_failure}`)
  : row.trials === 0 && row.untried ? badge("wait", "not tried")
  : row.part !== "train" ? badge("", row.part)
  : known(row.failed) && row.failed ? badge("wait", `${plural(row.failed, "edit")} failed`)
  : row.trials_failed ? badge("wait", `${plural(row.trials_failed, "trial")} failed`) : null;

const LISTS = {
  edits: {
    title: "Edits", kind: "edit", first: "reward",
    about: "Every edit with its reward. The search looks through texts, tasks, styles and reasons.",
    rows: () => data.edits,
    shows: { all: () => true, kept: (e) => e.weight > 0, failed: (e) => e.failure || e.trials_failed, gate: (e) => e.part === "gate", "held out": (e) => e.part === "held out" },
    columns: [
      { key: "reward", name: "reward", value: (e) => e.reward?.[0], cell: (e) => e.reward ? [signed(e.reward[0]), el("span", { class: "quiet aside" }, estimate(e.reward, signed).slice(signed(e.reward[0]).length))] : "–", number: true },
      { key: "task", name: "edit", value: (e) => `${e.title} ${String(e.slot).padStart(4, "0")}`, wide: true,
        cell: (e) => [link(opened(e, e.slot), `${e.title}, edit ${e.slot}`), " ", state(e), el("div", { class: "head" }, e.head || el("em", {}, "an empty text"))] },
      { key: "style", name: "style", value: (e) => e.style, cell: (e) => e.style || "–", aside: true },
      { key: "accuracy", name: "accuracy", value: (e) => e.accuracy?.[0], cell: (e) => percent(e.accuracy?.[0]), number: true, aside: true },
      { key: "likelihood", name: "likelihood", value: (e) => e.likelihood?.[0], cell: (e) => plain(e.likelihood?.[0]), number: true, aside: true },
      { key: "loss", name: "loss", value: (e) => e.loss?.[1], cell: (e) => e.loss ? `${plain(e.loss[0], 2)} → ${plain(e.loss[1], 2)}` : "–", number: true, aside: true },
      { key: "trials", name: "trials", value: (e) => e.trials, cell: (e) => e.trials, number: true, aside: true },
      { key: "round", name: "round", value: (e) => e.round, cell: (e) => e.round, number: true },
    ],
  },
  tasks: {
    title: "Tasks", kind: "task", first: "best",
    about: "Every task of every round; those that a gate asked and held-out ones are marked. The search looks through passages, questions and edits.",
    rows: () => [
      ...data.tasks.map((t, page) => ({ ...t, page })),
      ...data.rounds.flatMap((r) => r.deleted.map((digest) => ({ round: r.round, id: digest, title: `a deleted task (${digest.slice(0, 12)})`, part: "train", deleted: true }))),
    ],
    shows: { all: () => true, kept: (t) => t.kept, failed: (t) => t.failed || t.trials_failed, gate: (t) => t.part === "gate", "held out": (t) => t.part === "held out", deleted: (t) => t.deleted },
    columns: [
      { key: "best", name: "best reward", value: (t) => t.best, cell: (t) => signed(t.best), number: true },
      { key: "task", name: "task", value: (t) => t.title, wide: true,
        cell: (t) => [t.deleted ? el("em", {}, t.title) : link(opened(t), t.title), " ", state(t), el("div", { class: "head" }, t.deleted ? "its texts were taken out of the run" : t.abstained ? `nothing kept: ${t.abstained}` : t.part === "gate" ? "of the validation split" : t.part === "held out" ? "of the test split" : t.id)] },
      { key: "mean", name: "mean reward", value: (t) => t.mean, cell: (t) => signed(t.mean), number: true, aside: true },
      { key: "accuracy", name: "base accuracy", value: (t) => t.base_accuracy, cell: (t) => percent(t.base_accuracy), number: true, aside: true },
      { key: "likelihood", name: "base likelihood", value: (t) => t.base_likelihood, cell: (t) => plain(t.base_likelihood), number: true, aside: true },
      { key: "edits", name: "edits", value: (t) => t.edits, cell: (t) => (t.deleted ? "–" : t.edits), number: true, aside: true },
      { key: "kept", name: "kept", value: (t) => t.kept, cell: (t) => (t.deleted ? "–" : t.kept), number: true, aside: true },
      { key: "failed", name: "failed", value: (t) => (t.deleted ? undefined : t.failed + t.trials_failed), cell: (t) => (t.deleted ? "–" : t.failed + t.trials_failed), number: true, aside: true },
      { key: "round", name: "round", value: (t) => t.round, cell: (t) => t.round, number: true },
    ],
  },
};

/** The rows that a search leaves, in their order. What has no value comes last, whichever way it is sorted. */
function found(list, { q = "", round = "", show = "all", sort = "", dir = "" }) {
  const terms = q.toLowerCase().split(BLANKS).filter(Boolean);
  const passes = list.shows[show] || list.shows.all;
  const rows = list.rows().filter((r) => (!round || String(r.round) === round) && passes(r) && terms.every((t) => haystack(list.kind, r).includes(t)));
  const column = list.columns.find((c) => c.key === sort) || list.columns.find((c) => c.key === list.first);
  const down = dir ? dir === "down" : Boolean(column.number);
  const empty = (v) => v === undefined || v === null || v === "";
  return {
    column, down,
    rows: rows.map((row, i) => [column.value(row), i, row]).sort(([a, i], [b, j]) => {
      if (empty(a) || empty(b)) return empty(a) - empty(b) || i - j;
      const order = typeof a === "string" ? a.localeCompare(b) : a - b;
      return (down ? -order : order) || i - j;
    }).map(([, , row]) => row),
  };
}

function listing(name, where) {
  const list = LISTS[name];
  const body = el("tbody"), head = el("tr"), count = el("span", { class: "count", role: "status" });
  const end = el("div", { class: "end" });
  let rows = [], drawn = 0;
  const more = () => {
    body.append(...rows.slice(drawn, drawn + STEP).map((row) => el("tr", {}, list.columns.map((c) => el("td", { class: classes(c) }, c.cell(row))))));
    drawn = Math.min(rows.length, drawn + STEP);
  };
  const classes = (c) => [c.number && "number", c.aside && "aside", c.wide && "wide"].filter(Boolean).join(" ") || null;
  const update = (changes) => {
    Object.assign(where, changes);
    remember(where);
    const { column, down, rows: now } = found(list, where);
    [rows, drawn] = [now, 0];
    head.replaceChildren(...list.columns.map((c) => el("th", { class: classes(c), scope: "col", "aria-sort": c === column ? (down ? "descending" : "ascending") : "none" },
      el("button", { type: "button", on: { click: () => update({ sort: c.key, dir: c === column ? (down ? "up" : "down") : "" }) } }, c.name, el("span", { class: "arrow", "aria-hidden": "true" }, c === column ? (down ? " ↓" : " ↑") : "")))));
    body.replaceChildren();
    more();
    count.textContent = rows.length === 1 ? "1 line" : `${whole(rows.length)} lines`;
  };
  new IntersectionObserver((seen) => seen.some((s) => s.isIntersecting) && drawn < rows.length && more(), { rootMargin: "600px" }).observe(end);
  const choose = (key, label, options) => el("label", {}, el("span", { class: "unseen" }, label),
    el("select", { on: { change: (e) => update({ [key]: e.target.value }) } }, options.map(([value, title]) => el("option", { value, selected: (where[key] || "") === value }, title))));
  let typing;
  const search = el("input", { type: "search", placeholder: "search", "aria-label": `search ${name}`, value: where.q || "", on: {
    input: (e) => { clearTimeout(typing); typing = setTimeout(() => update({ q: e.target.value }), 120); } } });
  update({});
  return [
    el("h1", {}, list.title), note(list.about),
    el("div", { class: "tools" }, search,
      choose("round", "round", [["", "all rounds"], ...data.rounds.map((r) => [String(r.round), `round ${r.round}`])]),
      choose("show", "which", Object.keys(list.shows).map((s) => [s === "all" ? "" : s, s])), count),
    el("div", { class: "list" }, el("table", {}, el("thead", {}, head), body)), end,
  ];
}
