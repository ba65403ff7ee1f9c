// Building the page: every string from the data becomes a text node, never markup.
const data = JSON.parse(document.getElementById("overview").textContent);
const bodies = new Map();

/** What is shown of a task when it is opened; parsed at first use. */
function bodyOf(number) {
  if (!bodies.has(number)) bodies.set(number, JSON.parse(document.getElementById(`page-${number}`).textContent));
  return bodies.get(number);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const shape = (tag, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

// numbers as text

const MINUS = "−";
const known = (x) => typeof x === "number" && Number.isFinite(x);
const plain = (x, digits = 3) => (known(x) ? x.toFixed(digits).replace("-", MINUS) : "–");
const signed = (x, digits = 3) => (known(x) ? (x > 0 ? "+" : "") + plain(x, digits) : "–");
const percent = (x, digits = 1) => (known(x) ? `${plain(100 * x, digits)} %` : "–");
const whole = (x) => (known(x) ? Math.round(x).toLocaleString("en") : "–");
const plural = (n, one, many = `${one}s`) => `${whole(n)} ${n === 1 ? one : many}`;

function lasting(seconds) {
  if (!known(seconds)) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

const moment = (seconds) => new Date(1000 * seconds).toISOString().slice(0, 16).replace("T", " ") + " UTC";
/** An estimate [mean, error, n] or {mean, error, n} as text. One repeat alone has no error to tell. */
function estimate(value, form = plain) {
  if (!value) return "–";
  const [mean, error, n] = Array.isArray(value) ? value : [value.mean, value.error, value.n];
  return n <= 1 && error === 0 ? form(mean) : `${form(mean)} ±${form(error).replace("+", "")}`;
}

// small parts that every view has

const ARMS = data.arms; // pairs of an arm and its title
const badge = (kind, ...text) => el("span", { class: `badge ${kind}` }, ...text);
const note = (...text) => el("p", { class: "quiet" }, ...text);
const link = (where, ...text) => el("a", { href: address(where) }, ...text);
const address = (where) => "#" + new URLSearchParams(Object.entries(where).filter(([, v]) => v !== "" && v != null));

function section(title, about, ...children) {
  return el("section", {}, el("h2", {}, title), about && note(about), ...children);
}

function card(title, ...children) {
  return el("div", { class: "card" }, title && el("h3", {}, title), ...children);
}

/** A small table: titles and rows of cells; `numbers` says which columns hold numbers. */
function table(titles, rows, numbers = []) {
  const cell = (tag) => (content, i) => el(tag, { class: numbers.includes(i) && "number" }, content);
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": titles.join(", ") },
    el("table", {}, el("thead", {}, el("tr", {}, titles.map(cell("th")))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell("td")))))),
  );
}

/** Pairs of a name and what it is. */
const facts = (pairs) =>
  el("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));

function folded(title, make) {
  const box = el("details", {}, el("summary", {}, title));
  box.addEventListener("toggle", () => { if (box.open && box.children.length === 1) fill(box, {}, [make()]); });
  return box;
}
