// The overview's second half: where time and devices went, and what went wrong.
const PHASES = ["sampling", "trials", "grading", "update", "gate", "evaluation", "probe"];
const COSTS = { baseline: "base", context: "context alone", edit: "edits", heat: "heats of edits", gate: "gate", evaluation: "held-out tasks" };

function costs() {
  const time = data.time;
  if (!time.sittings.length) return null;
  const cuts = time.sittings.slice(1).map((s) => s.at);
  const rows = PHASES.map((phase) => ({
    name: phase,
    spans: time.spans.filter((s) => s.phase === phase).map((s) => ({ ...s, kind: phase, tip: `round ${s.round}, ${phase}: ${lasting(s.to - s.from)}` })),
  })).filter((r) => r.spans.length);
  const took = new Map();
  for (const s of time.spans) took.set(`${s.round}/${s.phase}`, (took.get(`${s.round}/${s.phase}`) || 0) + s.to - s.from);
  return [
    section("Time", `${lasting(time.seconds)} of work in ${plural(time.sittings.length, "sitting")}${cuts.length ? "; dashed lines: where the run stopped and went on" : ""}. Phases overlap where the cluster has room.`,
      rows.length > 0 && lanes("phases over time", rows, time.seconds, cuts),
      rows.length > 0 && table(["round", ...PHASES], data.rounds.map((r) => [r.round, ...PHASES.map((p) => lasting(took.get(`${r.round}/${p}`)))]), [0, ...PHASES.map((_, i) => i + 1)]),
      el("ul", { class: "quiet" }, time.sittings.length > 1 && time.sittings.map((s, i) => el("li", {}, `sitting ${i + 1}: ${moment(s.began)}, ${lasting(s.seconds)}, ${s.outcome || "no end was told"}`)))),
    occupancy(time, cuts), spent(time),
  ];
}

function occupancy(time, cuts) {
  const actors = time.actors;
  if (!actors.length) return null;
  const names = [...new Set(actors.map((a) => a.name))];
  const shown = names.slice(0, 64);
  const rows = shown.map((name) => ({
    name,
    spans: actors.filter((a) => a.name === name).flatMap((a) => [
      { from: a.from, to: a.to, kind: a.role === "trainer" ? "update" : "idle", tip: `${a.name}: ${lasting(a.alive)}, ${a.state || "there"}` },
      ...a.blocks.map((b) => ({ from: b.at, to: b.at + b.seconds, kind: "trials", strength: 0.35 + 0.65 * Math.max(0, b.occupied < 0 ? 1 : b.occupied),
        tip: `wave of ${plural(b.candidates, "candidate")}, ${lasting(b.seconds)}${b.occupied < 0 ? "" : `, at work for ${percent(b.occupied, 0)} of its life by then`}` })),
    ]),
  }));
  const busy = ["sampler", "worker"].map((role) => {
    const mine = actors.filter((a) => a.role === role && a.alive > 0);
    return mine.length && `${role}s were at work ${percent(mine.reduce((s, a) => s + a.busy, 0) / mine.reduce((s, a) => s + a.alive, 0), 0)}`;
  }).filter(Boolean).join(", ");
  const named = (id) => (/^[0-9a-f]{32,}$/.test(id) ? id.slice(0, 10) : id);
  return section("Occupancy", `Each line is an actor while it was there. Blocks are waves of trials, the fuller the stronger.${busy && ` Of the time that they were there, ${busy}.`}`,
    lanes("actors over time", rows, time.seconds, cuts),
    names.length > shown.length && note(`${names.length - shown.length} more actors are only in the table.`),
    folded(plural(actors.length, "actor"), () => table(["actor", "node", "last state", "there for", "at work", "share", "waves"],
      actors.map((a) => [a.name, named(a.node) || "–", [a.state, a.reason && `: ${a.reason}`], lasting(a.alive), lasting(a.busy), known(a.busy) && a.alive ? percent(a.busy / a.alive, 0) : "–", a.role === "worker" ? whole(a.waves) : "–"]), [3, 4, 5, 6])));
}

function spent(time) {
  const arms = Object.keys(COSTS).filter((arm) => data.rounds.some((r) => r.cost[arm]));
  const rows = data.rounds.flatMap((r) => arms.filter((arm) => r.cost[arm]).map((arm) => {
    const c = r.cost[arm];
    return [r.round, COSTS[arm], whole(c.trials), lasting(c.seconds), lasting(c.fit), lasting(c.answer), whole(c.steps), whole(c.tokens)];
  }));
  const hours = (s) => `${(s / 3600).toFixed(s < 3600 ? 3 : 1)} h`;
  const calls = data.grading.filter((g) => g.calls || g.cost);
  return section("Cost", "Seconds are device time: a trial's share of its wave.",
    rows.length > 0 && table(["round", "trials of", "trials", "seconds", "training", "answering", "steps", "tokens"], rows, [0, 2, 3, 4, 5, 6, 7]),
    time.leases.length > 0 && table(["held", "", "for", "actors' time", "GPU time"],
      time.leases.map((l) => [l.role, l.resources, hours(l.seconds), hours(l.actor_seconds), l.gpus ? hours(l.gpus * l.actor_seconds) : "no GPU"]), [2, 3, 4]),
    calls.length > 0 && table(["grader", "calls", "from its cache", "dollars"], calls.map((g) => [g.grader, whole(g.calls), whole(g.cached), plain(g.cost, 2)]), [1, 2, 3]));
}

// what went wrong

function failures() {
  const rows = data.failures.map((f) => [f.round, f.what, el("code", {}, f.kind), f.blame, whole(f.count), f.like]);
  return section("Failures and warnings", "A failure is never a score: what failed has no reward and is in no mean. “infra”: it may work elsewhere and is tried again on resume.",
    rows.length ? table(["round", "what", "kind", "to blame", "count", "like"], rows, [0, 4]) : note("Nothing failed."),
    data.store_retries > 0 && note(`${plural(data.store_retries, "operation")} on the run's store had to be tried again.`),
    data.warnings.length > 0 && folded(plural(data.warnings.length, "warning"), () => table(["round", "count", "warning"], data.warnings.map((w) => [w.round || "–", whole(w.count), w.message]), [0, 1])));
}

function settings() {
  const flat = (value, prefix) => Object.entries(value || {}).flatMap(([k, v]) =>
    v && typeof v === "object" && !Array.isArray(v) && Object.keys(v).length ? flat(v, `${prefix}${k}.`) : [[`${prefix}${k}`, JSON.stringify(v)]]);
  return section("Configuration", null,
    folded("The resolved configuration", () => table(["key", "value"], flat(data.config, "").map(([k, v]) => [el("code", {}, k), el("code", {}, v)]))),
    folded("Software", () => facts(Object.entries(data.software || {}))));
}
