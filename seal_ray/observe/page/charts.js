// Drawings. Each is made for the width that it has, and made again when that changes.
const watcher = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    const width = Math.round(contentRect.width);
    if (width && target.drawnAt !== width) {
      target.drawnAt = width;
      target.replaceChildren(target.draw(width));
    }
  }
});

function drawing(label, draw) {
  const host = el("div", { class: "drawing" });
  host.draw = (width) => {
    const { height, parts } = draw(width);
    return shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, parts);
  };
  watcher.observe(host);
  return host;
}

const text = (x, y, content, extra = {}) => shape("text", { x, y, ...extra }, content);
const line = (x1, y1, x2, y2, extra = {}) => shape("line", { x1, y1, x2, y2, ...extra });
const tip = (...content) => shape("title", {}, ...content);
const linear = (from, to, start, end) => (v) => start + ((v - from) / (to - from || 1)) * (end - start);

/** Round numbers between two values, about `count` of them. */
function ticks(low, high, count = 4) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) found.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  return found;
}

function range(values, { zero = false, margin = 0.06 } = {}) {
  let low = values.reduce((a, b) => Math.min(a, b), zero ? 0 : Infinity);
  let high = values.reduce((a, b) => Math.max(a, b), zero ? 0 : -Infinity);
  if (zero && low === 0 && high === 0) return [0, 0.1];
  if (!(high > low)) [low, high] = [low - (Math.abs(low) * 0.1 || 0.5), high + (Math.abs(high) * 0.1 || 0.5)];
  const more = (high - low) * margin;
  return [zero && low === 0 ? 0 : low - more, high + more];
}

const digitsFor = (marks) => {
  const step = marks.length > 1 ? Math.abs(marks[1] - marks[0]) : 1;
  return Math.max(0, Math.min(4, Math.ceil(-Math.log10(step) - 1e-9) + (String(step).includes("25") ? 1 : 0)));
};

const MARKS = {
  base: (x, y) => shape("circle", { cx: x, cy: y, r: 4, class: "mark base" }),
  context: (x, y) => shape("rect", { x: x - 3.8, y: y - 3.8, width: 7.6, height: 7.6, class: "mark context" }),
  edit: (x, y) => shape("path", { d: `M${x} ${y - 5.4}L${x + 5.4} ${y}L${x} ${y + 5.4}L${x - 5.4} ${y}Z`, class: "mark edit" }),
  kept: (x, y) => shape("path", { d: `M${x} ${y - 5.4}L${x + 5.2} ${y + 4}L${x - 5.2} ${y + 4}Z`, class: "mark kept" }),
};

const legend = (names) =>
  el("ul", { class: "legend" }, names.map(([arm, name]) =>
    el("li", {}, shape("svg", { width: 14, height: 14, "aria-hidden": "true" }, MARKS[arm](7, 7)), name)));

/** One series per arm over the rounds, with error bars. `series`: [{arm, name, points: [[round, mean, error]]}]. */
function overRounds(label, series, { form, percentages = false }) {
  return drawing(label, (width) => {
    const height = 250, left = 52, right = 12, top = 12, bottom = 30;
    const points = series.flatMap((s) => s.points);
    const rounds = [...new Set(points.map((p) => p[0]))].sort((a, b) => a - b);
    if (!rounds.length) return { height: 60, parts: [text(8, 32, "not known yet", { class: "tick" })] };
    const reach = ([, m, e]) => (percentages ? [Math.max(0, m - e), Math.min(1, m + e)] : [m - e, m + e]);
    const [low, high] = range(points.flatMap(reach), { zero: percentages });
    const across = linear(0, rounds.length, left, width - right);
    const x = (round, i) => across(rounds.indexOf(round) + 0.5) + (i - (series.length - 1) / 2) * Math.min(14, ((width - left - right) / rounds.length) * 0.18);
    const y = linear(low, high, height - bottom, top);
    const marks = ticks(low, high);
    const digits = percentages ? 0 : digitsFor(marks);
    const every = Math.ceil(rounds.length / Math.max(1, Math.floor((width - left - right) / 44)));
    const parts = [
      marks.map((v) => [line(left, y(v), width - right, y(v), { class: "grid" }),
        text(left - 8, y(v) + 4, percentages ? percent(v, marks[1] - marks[0] < 0.01 ? 1 : 0) : plain(v, digits), { class: "tick end" })]),
      rounds.map((r, i) => i % every === 0 && text(across(i + 0.5), height - 9, rounds.length > 6 ? r : `round ${r}`, { class: "tick middle" })),
    ];
    series.forEach((s, i) => {
      if (s.points.length > 1) {
        parts.push(shape("polyline", { class: `path ${s.arm}`, points: s.points.map(([r, m]) => `${x(r, i)},${y(m)}`).join(" ") }));
      }
      for (const [r, m, e] of s.points) {
        const at = x(r, i), [least, most] = reach([r, m, e]);
        parts.push(shape("g", {}, tip(`round ${r}, ${s.name}: ${form(m)} ±${form(e)}`),
          line(at, y(least), at, y(most), { class: `whisker ${s.arm}` }),
          line(at - 4, y(least), at + 4, y(least), { class: `whisker ${s.arm}` }),
          line(at - 4, y(most), at + 4, y(most), { class: `whisker ${s.arm}` }),
          MARKS[s.arm](at, y(m))));
      }
    });
    return { height, parts };
  });
}

/** How often each reward was had, those that were kept on top in their own colour. */
function histogram(label, values, [low, high]) {
  return drawing(label, (width) => {
    const height = 130, left = 30, right = 10, top = 10, bottom = 24;
    const count = Math.max(14, Math.min(40, Math.round(Math.sqrt(values.length) * 1.6), Math.floor(width / 9)));
    const bins = Array.from({ length: count }, () => [0, 0]);
    for (const { value, kept } of values) {
      bins[Math.min(count - 1, Math.floor(((value - low) / (high - low)) * count))][kept ? 1 : 0] += 1;
    }
    const most = Math.max(...bins.map(([a, b]) => a + b));
    const x = linear(low, high, left, width - right), y = linear(0, most, height - bottom, top);
    const step = (width - left - right) / count;
    const marks = ticks(low, high, width < 320 ? 3 : 5);
    const parts = [
      ticks(0, most, 2).filter(Number.isInteger).map((v) => [line(left, y(v), width - right, y(v), { class: "grid" }), text(left - 6, y(v) + 4, v, { class: "tick end" })]),
      marks.map((v) => text(x(v), height - 7, plain(v, digitsFor(marks)), { class: "tick middle" })),
      low < 0 && high > 0 && line(x(0), top, x(0), height - bottom, { class: "zero" }),
      bins.map(([others, kept], i) => (others + kept) > 0 && shape("g", {},
        tip(`${signed(low + (i * (high - low)) / count)} to ${signed(low + ((i + 1) * (high - low)) / count)}: ${plural(others + kept, "edit")}, ${kept} kept`),
        others > 0 && shape("rect", { x: left + i * step + 1, y: y(others), width: Math.max(1, step - 2), height: y(0) - y(others), class: "bar edit" }),
        kept > 0 && shape("rect", { x: left + i * step + 1, y: y(others + kept), width: Math.max(1, step - 2), height: y(others) - y(others + kept), class: "bar kept" }))),
    ];
    return { height, parts };
  });
}

/** A value with its interval against zero. `bounds` are dashed lines with a name. */
function interval(label, { low, mean, high, bounds = [] }) {
  return drawing(label, (width) => {
    const height = 66, left = 14, right = 14;
    const [from, to] = range([low, high, 0, ...bounds.map(([v]) => v)], { margin: 0.12 });
    const x = linear(from, to, left, width - right);
    const marks = ticks(from, to, 4);
    const parts = [
      marks.map((v) => [line(x(v), 12, x(v), 44, { class: "grid" }), text(x(v), 60, signed(v, digitsFor(marks)), { class: "tick middle" })]),
      line(x(0), 8, x(0), 46, { class: "zero" }),
      bounds.map(([v, name]) => shape("g", {}, tip(name), line(x(v), 8, x(v), 46, { class: "bound" }))),
      shape("g", {}, tip(`${signed(mean)} (${signed(low)} to ${signed(high)})`),
        line(x(low), 28, x(high), 28, { class: "whisker edit thick" }), MARKS.edit(x(mean), 28)),
    ];
    return { height, parts };
  });
}

const CLOCK = [0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400]; // seconds

/** Rows of spans on one axis of time. `lanes`: [{name, spans: [{from, to, kind, tip, strength}]}]; `cuts`: where a sitting began. */
function lanes(label, rows, total, cuts = []) {
  return drawing(label, (width) => {
    const left = Math.min(150, Math.max(84, width * 0.2)), right = 12, top = 20, row = 22;
    const height = top + rows.length * row + 8;
    const x = linear(0, total || 1, left, width - right);
    const few = (total || 1) / (width < 500 ? 3 : 7);
    const step = CLOCK.find((s) => s >= few) || Math.ceil(few / 86400) * 86400;
    const marks = Array.from({ length: Math.floor((total || 1) / step) + 1 }, (_, i) => i * step);
    const parts = [
      marks.map((v) => [line(x(v), top - 4, x(v), height - 6, { class: "grid" }), text(x(v), 12, v ? lasting(v) : "0", { class: "tick middle" })]),
      cuts.map((v) => line(x(v), top - 4, x(v), height - 6, { class: "bound" })),
      rows.map(({ name, spans }, i) => {
        const y = top + i * row;
        const letters = Math.floor(left / 6.6) - 1;
        return [
          text(0, y + 14, name.length > letters ? `${name.slice(0, letters - 1)}…` : name, { class: "tick" }),
          spans.map((s) => shape("rect", { x: x(s.from), y: y + 3, width: Math.max(1.5, x(s.to) - x(s.from)), height: row - 7, rx: 2, class: `span ${s.kind}`, opacity: s.strength ?? 1 }, tip(s.tip))),
        ];
      }),
    ];
    return { height, parts };
  });
}

/** Losses by step. `curves`: [{points, width (steps that a point stands for), name}]. */
function lossCurve(label, curves) {
  return drawing(label, (width) => {
    const height = 92, left = 34, right = 8, top = 8, bottom = 20;
    const steps = Math.max(...curves.map((c) => c.points.length * c.width));
    const [low, high] = range(curves.flatMap((c) => c.points), { zero: true, margin: 0.04 });
    const x = linear(0, Math.max(1, steps - 1), left, width - right), y = linear(low, high, height - bottom, top);
    const marks = ticks(low, high, 2);
    return {
      height,
      parts: [
        marks.map((v) => [line(left, y(v), width - right, y(v), { class: "grid" }), text(left - 6, y(v) + 4, plain(v, digitsFor(marks)), { class: "tick end" })]),
        text(left, height - 5, "step 1", { class: "tick" }), text(width - right, height - 5, steps, { class: "tick end" }),
        curves.map((c) => {
          const at = c.points.map((v, i) => [x(Math.min(steps - 1, i * c.width + (c.width - 1) / 2)), y(v)]);
          return shape("g", {}, tip(c.name), at.length > 1
            ? shape("polyline", { class: "path edit", points: at.map((p) => p.join(",")).join(" ") })
            : shape("circle", { cx: at[0][0], cy: at[0][1], r: 3, class: "mark edit" }));
        }),
      ],
    };
  });
}

/** The edits of a task by reward, each with its error, one line each. */
function ladder(label, rungs, open) {
  return drawing(label, (width) => {
    const row = 20, top = 6, left = 64, right = 14, bottom = 24;
    const height = top + rungs.length * row + bottom;
    const [low, high] = range(rungs.flatMap((r) => [r.mean - r.error, r.mean + r.error, 0]));
    const x = linear(low, high, left, width - right);
    const marks = ticks(low, high, width < 420 ? 3 : 6);
    return {
      height,
      parts: [
        marks.map((v) => [line(x(v), top, x(v), height - bottom + 4, { class: "grid" }), text(x(v), height - 6, signed(v, digitsFor(marks)), { class: "tick middle" })]),
        line(x(0), top, x(0), height - bottom + 4, { class: "zero" }),
        rungs.map((r, i) => {
          const y = top + i * row + row / 2, arm = r.kept ? "kept" : "edit";
          return shape("g", { class: "rung", on: { click: () => open(r.slot) } },
            tip(`edit ${r.slot}: ${signed(r.mean)} ±${plain(r.error)}`),
            shape("rect", { x: 0, y: y - row / 2, width, height: row, class: "hit" }),
            text(0, y + 4, `edit ${r.slot}`, { class: r.kept ? "tick strong" : "tick" }),
            line(x(r.mean - r.error), y, x(r.mean + r.error), y, { class: `whisker ${arm}` }), MARKS[arm](x(r.mean), y));
        }),
      ],
    };
  });
}

/** A grid of colours 0 to 9. */
function colours(rows) {
  const size = Math.max(5, Math.min(16, Math.floor(150 / Math.max(rows.length, rows[0].length))));
  return shape("svg", { class: "grid-of-colours", width: rows[0].length * size + 1, height: rows.length * size + 1, role: "img", "aria-label": `grid of ${rows.length} by ${rows[0].length}` },
    rows.map((row, r) => row.map((v, c) => shape("rect", { x: c * size + 0.5, y: r * size + 0.5, width: size, height: size, class: `cell c${v}` }))));
}
