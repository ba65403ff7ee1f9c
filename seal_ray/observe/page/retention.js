// A stream of studies: what each step's tasks score after each step, and how much of what was learned is left.
const SAID = {
  base: "before any study", immediate: "right after its own study", retained: "after the last study", kept: "share of what was learned that is left",
  forgetting: "lost since its best", backward: "change by later studies", forward: "change by earlier studies",
};
const CELL = 26;

/** Rows are studies done, columns the tasks of each study; the darker, the higher. */
function heatMap(label, matrix) {
  const values = matrix.flat().filter(known);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return drawing(label, (width) => {
    const left = 34, top = 20, across = matrix[0].length;
    const size = Math.min(CELL, (width - left) / across);
    const every = Math.ceil(22 / size);
    const cell = (value, i, j) => known(value) && shape("g", {},
      shape("rect", { x: left + j * size, y: top + i * size, width: size - (size > 6 ? 1 : 0), height: size - (size > 6 ? 1 : 0), class: i === j + 1 ? "heat own" : "heat", "fill-opacity": 0.08 + 0.92 * ((value - low) / (high - low || 1)) }),
      tip(`after ${plural(i, "study", "studies")}, tasks of study ${j + 1}: ${plain(value)}`));
    return { height: top + matrix.length * size + 6, parts: [
      matrix[0].map((_, j) => j % every === 0 && text(left + (j + 0.5) * size, top - 6, j + 1, { class: "tick middle" })),
      matrix.map((_, i) => i % every === 0 && text(left - 6, top + (i + 0.5) * size + 4, i, { class: "tick end" })),
      matrix.map((row, i) => row.map((value, j) => cell(value, i, j))),
    ] };
  });
}

function retention() {
  const stream = data.stream;
  if (!stream || !Object.keys(stream.measures).length) return null;
  const between = (f) => (f ? `${plain(f.mean)}${known(f.low) ? ` (${plain(f.low)} to ${plain(f.high)})` : ""}` : "–");
  const parts = Object.entries(stream.measures).map(([measure, own]) => {
    const series = [["edit", "immediate"], ["kept", "retained"]].map(([arm, name]) => ({
      arm, name, points: own.curves.filter((c) => known(c[name])).map((c) => [c.step, c[name], 0]),
    })).filter((s) => s.points.length);
    return el("div", { class: "two" },
      card(`${measure}: after so many studies (down), the tasks of each (across)`, heatMap(`retention matrix, ${measure}`, own.matrix)),
      card(`${measure}: right after a study, and of all studied by then`, overRounds(`immediate and retained ${measure} by study`, series, { form: plain })));
  });
  const rows = Object.keys(SAID).map((name) => [name, SAID[name], ...Object.values(stream.measures).map((own) => between(own.figures[name]))]);
  return section(`What the stream keeps: method ${stream.method}`,
    `${plural(stream.sequences, "sequence")} of ${plural(stream.steps, "study", "studies")}, ${whole(stream.done)} done; row 0 is the base. In brackets: 95 % interval over sequences. A cell on the edge is a study's own tasks right after it.`,
    legend([["edit", "immediate"], ["kept", "retained"]]), parts,
    table(["figure", "", ...Object.keys(stream.measures)], rows, Object.keys(stream.measures).map((_, i) => i + 2)),
    besides(stream));
}

/** What no study was about, before the first and after the last that was looked at. */
function besides(stream) {
  const ends = (values) => { const seen = (values || []).filter(known); return seen.length ? [plain(seen[0]), plain(seen[seen.length - 1])] : null; };
  const rows = [
    ...Object.entries(stream.skills).map(([measure, values]) => [`held-out questions, ${measure}`, ends(values)]),
    ["held-out texts, log-probability of a token", ends(stream.probe)],
    ["KL from the first version, nats per token", ends(stream.kl)],
  ].filter(([, values]) => values).map(([name, values]) => [name, ...values]);
  return rows.length ? table(["what no study is about", "before", "after"], rows, [1, 2]) : null;
}
