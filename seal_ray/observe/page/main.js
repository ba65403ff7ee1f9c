// Which view is shown: all of it is in the address after #, so that every view can be linked to.
const VIEWS = { overview, tasks: (where) => listing("tasks", where), edits: (where) => listing("edits", where), task: taskPage, knowledge: knowledgeMap };
const main = document.getElementById("main");
const THEMES = ["auto", "light", "dark"];

const read = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
let shownAt = "";

/** Keep where we are in the address without drawing again. */
function remember(where) {
  shownAt = address(where);
  if (location.hash !== shownAt) history.replaceState(null, "", shownAt);
}

function show() {
  if (shownAt && location.hash === shownAt) return;
  const where = read();
  const view = VIEWS[where.view] ? where.view : where.q || where.sort || where.show ? "edits" : "overview";
  where.view = view;
  shownAt = location.hash;
  main.replaceChildren(...[VIEWS[view](where)].flat(Infinity).filter(Boolean));
  for (const tab of document.querySelectorAll("header nav a")) {
    if (tab.dataset.view === view || (tab.dataset.view === "tasks" && view === "task")) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  window.scrollTo(0, 0);
}

function themed(theme) {
  if (theme === "auto") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.dataset.theme = theme;
}

function remembered(theme) {
  try { // a browser may refuse to keep anything for a file
    if (theme) localStorage.setItem("seal-ray-theme", theme);
    return localStorage.getItem("seal-ray-theme");
  } catch { return null; }
}

function top() {
  let theme = THEMES.includes(remembered()) ? remembered() : "auto";
  themed(theme);
  const toggle = el("button", { type: "button", class: "theme", title: "light or dark", on: { click: () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    themed(theme);
    remembered(theme);
    toggle.textContent = theme;
  } } }, theme);
  const tab = (view, ...name) => el("a", { href: address({ view }), "data-view": view }, ...name);
  const count = (n) => el("span", { class: "quiet" }, ` ${whole(n)}`);
  const decided = data.rounds.at(-1)?.decision;
  document.getElementById("top").append(
    el("div", { class: "who" }, el("span", { class: "product" }, "seal_ray report"), el("span", { class: "uri" }, data.uri),
      badge(data.state === "done" ? "good" : data.state === "on" || data.state === "held" ? "wait" : "", data.held ? "held" : data.state.toLowerCase()), decided === "reject" && badge("bad", "last version rejected")),
    el("nav", { "aria-label": "views" }, tab("overview", "Overview"), tab("tasks", "Tasks", count(data.tasks.length + sum((r) => r.deleted.length))), tab("edits", "Edits", count(data.edits.length)),
      data.knowledge.length > 0 && tab("knowledge", "Knowledge"), toggle));
  document.getElementById("end").append(`Made ${moment(data.made)} by ${data.by}, from the run's ledger alone.`,
    data.longest < 20000 ? ` Texts over ${whole(data.longest)} characters are cut.` : "");
  document.title = `${data.uri} · seal_ray report`;
}

top();
show();
window.addEventListener("hashchange", show);
document.documentElement.dataset.ready = "yes";
