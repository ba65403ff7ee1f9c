// The overview: how the run did, round by round.
const STATES = {
  done: "done", on: "on: somebody drives it now",
  stopped: "stopped; nobody drives it", "not begun": "nothing has happened yet", Interrupted: "interrupted", BudgetSpent: "stopped: its budget is spent",
};
const stateOf = () =>
  data.held ? `round ${data.held} waits for a person's word`
  : data.state === "held" ? "decided; the next run goes on with it"
  : STATES[data.state] || `stopped: ${data.state}`;
const sum = (pick) => data.rounds.reduce((all, r) => all + (pick(r) || 0), 0);
const decisionKind = (decision) => ({ accept: "good", reject: "bad", hold: "wait" })[decision] || "";

function overview() {
  const out = [el("h1", {}, "Overview"), headline()];
  if (data.reason && data.state !== "done") out.push(note(`Why it ended: ${data.reason}`));
  for (const r of data.rounds.filter((one) => !one.committed)) {
    out.push(note(badge("wait", `round ${r.round} is open`), ` ${plural(r.edits, "edit")} of ${plural(r.tasks, "task")}, ${whole(r.trials)} of ${plural(r.candidates, "candidate")} tried${r.arms ? "" : "; it has no rewards yet"}.`));
  }
  if (sum((r) => r.deleted.length)) out.push(note("Tasks were deleted from this run. A round's means still count them; nothing else of them is left."));
  if (data.left_out) {
    out.push(note(`${plural(data.left_out, "task")} of earlier rounds or of gates ${data.left_out === 1 ? "has" : "have"} no page here, to keep this file small; \`seal-ray inspect\` shows them. The figures count all.`));
  }
  if (!data.rounds.length) {
    out.push(section("Nothing to show yet", "The run has been set up, and no round has begun. Make the report again later."));
  } else {
    out.push(control(), retention(), learning(), closedBook(), rewards(), votes(), longTail(), trust(), updates(), gates(), lineage());
  }
  return [...out, costs(), failures(), settings()];
}

function headline() {
  const failed = (n) => n > 0 && el("span", { class: "bad-text" }, `${whole(n)} failed`);
  const tile = (name, value, ...more) => el("div", { class: "tile" }, el("div", { class: "name" }, name), el("div", { class: "value" }, value), el("div", { class: "more" }, ...more));
  const deleted = sum((r) => r.deleted.length);
  const kept = data.rounds.filter((r) => r.arms?.kept?.likelihood && r.arms?.base?.likelihood).at(-1);
  const untried = sum((r) => r.untried);
  return el("div", { class: "tiles" },
    tile("rounds committed", data.rounds_wanted ? `${data.committed} of ${data.rounds_wanted}` : data.committed, stateOf()),
    tile("tasks", whole(sum((r) => r.tasks)), deleted > 0 && `${deleted} deleted since`),
    tile("edits", whole(sum((r) => r.edits)), failed(sum((r) => r.edits_failed)) || `${whole(sum((r) => r.kept))} kept`),
    tile("trials", whole(sum((r) => r.trials)), failed(sum((r) => r.trials_failed)), untried > 0 && ` ${whole(untried)} not tried`, !sum((r) => r.trials_failed) && !untried && "none failed"),
    kept && tile("kept edit over base", signed(kept.arms.kept.likelihood.mean - kept.arms.base.likelihood.mean, 2), `likelihood, round ${kept.round}`),
    tile("at work", lasting(data.time.seconds), plural(data.time.sittings.length, "sitting")),
  );
}

// learning

/** An experiment's control says so before any figure. */
function control() {
  const kind = data.config.select?.control;
  return kind && kind !== "none" && note(badge("wait", `control: ${kind} rewards`), " What was learned from was chosen by rewards that were dealt out anew within each task, so this run has nothing to learn from.");
}

function learning() {
  const points = data.curve || [];
  if (!points.length) return null;
  const series = (pick) => [["base", "base", (p) => pick(p, "base")], ["edit", "mean edit", (p) => pick(p, "edit")]].map(([arm, name, of]) => ({
    arm, name, points: points.map((p) => [p.after, of(p)]).filter(([, v]) => v).map(([r, v]) => [r, v.mean, v.error]),
  })).filter((s) => s.points.length);
  const measured = (measure) => series((p, arm) => p.arms[arm]?.[measure]);
  return section("Learning curve: held-out tasks",
    "How the edits of the version after so many rounds do on the same tasks of domain.test, from which no round learns; ± standard error over tasks. Base: that version without training on anything. Gain: the mean edit's over its own baseline, in the measure of the rewards.",
    legend([["base", "base"], ["edit", "mean edit"]]),
    el("div", { class: "two" },
      card("Accuracy", overRounds("held-out accuracy by round", measured("accuracy"), { form: percent, percentages: true })),
      card("Likelihood", overRounds("held-out likelihood by round", measured("likelihood"), { form: plain }))),
    table(["after round", "version", "gain of the mean edit", "accuracy", "likelihood", "edits tried", "tasks"],
      points.map((p) => [p.after, p.version, estimate(p.gain, signed), estimate(p.arms.edit?.accuracy, percent), estimate(p.arms.edit?.likelihood, plain), `${whole(p.tried)} of ${whole(p.written)}`, whole(p.tasks)]), [0, 1, 2, 3, 4, 6]));
}

// closed book

function closedBook() {
  const told = data.rounds.filter((r) => r.arms);
  const series = (measure) => ARMS.map(([arm, name]) => ({
    arm, name, points: told.map((r) => [r.round, r.arms[arm]?.[measure]]).filter(([, v]) => v).map(([r, v]) => [r, v.mean, v.error]),
  })).filter((s) => s.points.length);
  const cells = (r, measure, form) => [
    ...ARMS.map(([arm]) => estimate(r.arms[arm]?.[measure], form)),
    r.arms.edit?.[measure] && r.arms.base?.[measure] ? (measure === "accuracy" ? `${signed(100 * (r.arms.edit.accuracy.mean - r.arms.base.accuracy.mean), 1)} points` : signed(r.arms.edit[measure].mean - r.arms.base[measure].mean)) : "–",
  ];
  const rows = told.flatMap((r) => [
    [r.round, "accuracy", ...cells(r, "accuracy", percent)],
    [r.round, "likelihood", ...cells(r, "likelihood", plain)],
  ]);
  return section("Closed book, by round",
    "Means over the round's tasks, ± standard error. Likelihood: mean log-probability of a gold answer's token; it moves long before accuracy does. Kept edits were chosen by these very trials, so they flatter themselves.",
    legend(ARMS.filter(([arm]) => told.some((r) => r.arms[arm]?.likelihood || r.arms[arm]?.accuracy))),
    el("div", { class: "two" },
      card("Accuracy", overRounds("accuracy by round", series("accuracy"), { form: percent, percentages: true })),
      card("Likelihood", overRounds("likelihood by round", series("likelihood"), { form: plain }))),
    told.length > 0 && folded("The same as a table", () => table(["round", "closed book", ...ARMS.map(([, n]) => n), "mean edit − base"], rows, [0, 2, 3, 4, 5, 6])));
}

// rewards

function rewards() {
  const told = data.rounds.map((r) => [r, r.rewards.map(([value, kept]) => ({ value, kept }))]).filter(([, values]) => values.length);
  if (!told.length) return section("Rewards", "No edit has a reward yet.");
  const bounds = range(told.flatMap(([, values]) => values.map((v) => v.value)), { zero: true, margin: 0.02 });
  return section("Rewards", "What each edit is worth: the gain over its task's baseline, shrunk towards the task's mean as far as repeats disagree. The line stands at no gain. Rubric: what a judge says of the edit itself.",
    el("ul", { class: "legend" }, [["edit", "edits"], ["kept", "kept"]].map(([arm, name]) => el("li", {}, el("span", { class: `swatch ${arm}` }), name))),
    el("div", { class: told.length > 1 ? "two" : "" }, told.map(([r, values]) => {
      const above = values.filter((v) => v.value > 0).length;
      const mean = values.reduce((a, v) => a + v.value, 0) / values.length;
      return card(`Round ${r.round}`, histogram(`rewards of round ${r.round}`, values, bounds),
        note(`${plural(values.length, "edit")} with a reward (${r.measure}), mean ${signed(mean)}; ${whole(above)} above their baseline; `,
          link({ view: "edits", round: r.round, show: "kept" }, `${whole(r.kept)} kept`), r.abstained > 0 && `; ${plural(r.abstained, "task")} gave none`));
    })));
}

// votes in the place of answers

function votes() {
  const told = data.rounds.filter((r) => r.votes);
  if (!told.length) return null;
  const series = [["edit", "agreement", (v) => v.agreement], ["base", "entropy", (v) => v.entropy]].map(([arm, name, of]) => ({ arm, name, points: told.map((r) => [r.round, of(r.votes), 0]) }));
  const limits = data.config.grading || {};
  return section("Votes",
    `What is right was elected by the version's own answers before it learned from an edit. Agreement: share of the votes for the answer that most give. Entropy: 1 where each says something else. A version that is rewarded for agreeing with itself may end up sure and wrong: the run stops where agreement has risen by more than ${percent(limits.vote_rise, 0)} since the first round and entropy has fallen by more than ${plain(limits.vote_fall, 2)}.`,
    legend([["edit", "agreement"], ["base", "entropy"]]),
    card("Agreement and entropy", overRounds("agreement and entropy of the votes by round", series, { form: percent, percentages: true })),
    table(["round", "questions", "with a winner", "tied", "nothing to read", "agreement", "entropy", "winners that are one answer", "winners that are right"],
      told.map((r) => [r.round, ...["questions", "elected", "tied", "unread"].map((k) => whole(r.votes[k])), percent(r.votes.agreement), plain(r.votes.entropy, 2), percent(r.votes.commonest, 0), known(r.votes.correct) ? percent(r.votes.correct, 0) : "not known"]), [0, 1, 2, 3, 4, 5, 6, 7, 8]));
}

// how far it can be trusted

function trust() {
  const told = data.rounds.filter((r) => r.arms);
  if (!told.length) return null;
  const notes = told.flatMap((r) => (r.notes || []).map((n) => `round ${r.round}: ${n}`));
  return section("How far the rewards can be trusted",
    "Reliability: how much of the difference between edits of a task would come back on fresh training seeds (with one repeat it can't be told). Diversity: how much the edits of a task differ, 0 to 1. Coverage: share of the candidates with a verdict.",
    table(["round", "reliability of accuracy", "of likelihood", "of contrast", "of the blend", "reward and accuracy", "predicted and measured gain", "diversity", "coverage", "rewards are made of"],
      told.map((r) => [r.round, ...["accuracy", "likelihood", "contrast", "blend"].map((m) => plain(r.reliability?.[m], 2)), plain(r.agreement, 2), plain(r.calibration?.correlation, 2), plain(r.diversity, 2), percent(r.coverage, 0), r.measure]), [0, 1, 2, 3, 4, 5, 6, 7, 8]),
    notes.length > 0 && folded(plural(notes.length, "note"), () => el("ul", {}, notes.map((n) => el("li", {}, n)))));
}

// update and gate

function updates() {
  const told = data.rounds.filter((r) => r.update);
  if (!told.length) return null;
  return section("Policy updates", "How the policy was trained on from the kept edits. In nats per token: KL is how far it moved from the version before, on these edits; drift, how far it is off the base, on a probe.",
    el("div", { class: "cards" }, told.map((r) => {
      const u = r.update;
      if (!known(u.version)) return card(`Round ${r.round}`, badge("wait", "no update"), note(u.reason || "no reason was told"));
      const losses = (u.losses || []).filter(known), held = (u.validation_losses || []).filter(known);
      return card(`Round ${r.round}: version ${r.version ?? "?"} → ${u.version}`,
        losses.length > 0 && lossCurve("loss of the update", [{ points: losses, width: 1, name: "loss of the update" }]),
        facts([["edits learned from", whole(u.edits)], ["steps", whole(u.steps)], losses.length > 0 && ["loss", `${plain(losses[0], 2)} → ${plain(losses.at(-1), 2)}`],
          held.length > 0 && ["loss on edits held back", held.map((v) => plain(v, 2)).join(" → ")],
          ["KL", plain(u.kl, 4)], ["drift from base", plain(u.drift, 4)], known(u.entropy_before) && ["entropy", `${plain(u.entropy_before, 2)} → ${plain(u.entropy, 2)}`], ["took", lasting(u.seconds)]]));
    })));
}

function gates() {
  const told = data.rounds.filter((r) => r.gate || r.decision || r.rollback);
  if (!told.length) return null;
  const rule = data.config.gate || {};
  return section("Gate", "Whether the new version became current: its edits against the old version's on validation tasks (gain with its interval), questions lost, and drift. Dashed: the loss that gate.tolerance allows.",
    el("div", { class: "cards" }, told.map((r) => gate(r, rule))));
}

function began({ by, version }) {
  return by?.startsWith("run.parent: ") ? `It began with version ${version?.number}, by ${by}`
    : `Before this round ${by || "somebody"} made version ${version?.number} current again`;
}

function gate(r, rule) {
  const g = r.gate, f = g?.figures || {};
  const decision = r.decision || r.word?.decision || g?.decision;
  return card([`Round ${r.round} `, decision && badge(decisionKind(decision), decision)],
    r.rollback && note(`${began(r.rollback)}${r.rollback.why ? `: ${r.rollback.why}` : ""}.`),
    !g && note(decision === "no update" ? "There was no new version." : rule.mode === "off" ? "gate.mode is off: every version is accepted." : "No comparison was made."),
    g && known(f.gain) && interval("gain of the new version", { low: f.gain_low, mean: f.gain, high: f.gain_high, bounds: known(rule.tolerance) ? [[-rule.tolerance, `tolerance ${rule.tolerance}`]] : [] }),
    g && el("ul", { class: "reasons" }, (g.reasons || []).map((why) => el("li", {}, why))),
    g && g.decision === "hold" && note(`The rule would have said: ${g.advice}.`),
    r.word && note(`${r.word.by || "A person"} decided: ${r.word.decision}${r.word.why ? ` (${r.word.why})` : ""}.`),
    g && facts([["old version", plain(f.old)], ["new version", plain(f.new)], ["validation tasks", whole(f.tasks)], f.unpaired > 0 && ["unpaired", whole(f.unpaired)],
      known(f.regression_lost) && ["questions lost", `${percent(f.regression_lost)} of ${whole(f.regression_questions)}`], ["drift", plain(f.drift, 4)]]));
}

/** Which version came of which: a line, or with `run.parent: archive`, a rollback or a study's arms a tree. */
function lineage() {
  return data.lineage && section("Versions", "Each stands under the version that it was trained on from. A rejected one may have children too.",
    el("pre", { class: "tree" }, data.lineage));
}
