// Questions by kind, arm by arm: what a mean over all of them hides.
const armClass = (arms, arm) => (MARKS[arm] ? arm : ["base", "context", "edit", "kept"][arms.indexOf(arm) % 4]);

/** One line for each slice: every arm's mean with its interval. */
function slicesDrawn(label, arms, slices) {
  return drawing(label, (width) => {
    const left = Math.min(220, width * 0.42), right = 14, top = 6, bottom = 24, row = 10 + 9 * arms.length;
    const height = top + slices.length * row + bottom;
    const x = linear(0, 1, left, width - right);
    const marks = ticks(0, 1, width < 420 ? 2 : 5);
    const room = Math.floor(left / 7);
    return {
      height,
      parts: [
        marks.map((v) => [line(x(v), top, x(v), height - bottom + 4, { class: "grid" }), text(x(v), height - 6, percent(v, 0), { class: "tick middle" })]),
        slices.map((s, i) => {
          const y = top + i * row;
          return [text(0, y + row / 2 + 4, s.name.length > room ? `${s.name.slice(0, room - 1)}…` : s.name, { class: "tick" }),
            arms.filter((a) => s.arms[a]).map((a) => {
              const [mean, low, high, n] = s.arms[a], at = y + 9 + 9 * arms.indexOf(a), kind = armClass(arms, a);
              return shape("g", {}, tip(`${s.name}, ${a}: ${percent(mean)}${known(low) ? ` (${percent(low)} to ${percent(high)})` : ""}, ${plural(n, "question")}`),
                known(low) && line(x(low), at, x(high), at, { class: `whisker ${kind}` }), MARKS[kind](x(mean), at));
            })];
        }),
      ],
    };
  });
}

function longTail() {
  const tail = data.long_tail;
  if (!tail) return null;
  const kinds = [...new Set(tail.slices.map((s) => s.by))];
  const named = (arm) => (ARMS.find(([a]) => a === arm) || [arm, arm])[1];
  const others = tail.arms.filter((a) => a !== tail.against);
  const between = (v, form) => (v ? form(v[0]) + (known(v[1]) ? ` (${form(v[1])} to ${form(v[2])})` : "") : "–"); // of one task there is no interval
  const range_ = (v) => between(v, (share) => percent(share, 0));
  const gained = (v) => between(v, (share) => signed(100 * share, 0));
  return section("By kind of question",
    `Share of the questions of all rounds that are answered right, closed book, with the 90 % interval over tasks. Rarity: in how many passages of the run the answer stands. Base likelihood: thirds by what the model thought of the answer before training.${tail.cut ? " Only the first rounds are counted." : ""}`,
    legend(tail.arms.map((a) => [armClass(tail.arms, a), named(a)])),
    el("div", { class: "two" }, kinds.filter((by) => by !== "all").map((by) =>
      card(by, slicesDrawn(`accuracy by ${by}`, tail.arms, tail.slices.filter((s) => s.by === by))))),
    folded("The same as a table, with gains", () =>
      table(["by", "which", "questions", ...tail.arms.map(named), ...others.map((a) => `${named(a)} − ${named(tail.against)}, points`)],
        tail.slices.map((s) => [s.by, s.name, whole(s.questions), ...tail.arms.map((a) => range_(s.arms[a])), ...others.map((a) => gained(s.gains[a]))]),
        [2, ...tail.arms.map((_, i) => 3 + i), ...others.map((_, i) => 3 + tail.arms.length + i)])));
}
