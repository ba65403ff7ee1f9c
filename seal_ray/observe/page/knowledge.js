// What a version knew: documents, their passages, their questions, one within the other.
const doubtBar = (doubt) =>
  known(doubt)
    ? [el("meter", { min: 0, max: 1, value: doubt, "aria-label": `doubt ${percent(doubt, 0)}` }), " ", el("span", { class: "quiet" }, `${percent(doubt, 0)} doubt`)]
    : el("span", { class: "quiet" }, "not asked");

/** Something to open, whose inside is made when it is opened first. */
function opening(line, inside, open = false) {
  const box = el("details", { class: "knowledge", open }, el("summary", {}, line));
  const fillOnce = () => box.childElementCount === 1 && box.append(el("div", { class: "inside" }, inside()));
  box.addEventListener("toggle", () => box.open && fillOnce());
  if (open) fillOnce();
  return box;
}

function askedQuestion(q) {
  const said = q.answers.map((a) => a.trim() || "(nothing)");
  return opening(
    [q.text, " ", doubtBar(q.doubt), q.held_out && el("span", { class: "quiet" }, " held out")],
    () => table(["right answer", "what was said", "right", "disagreement", "entropy", "likelihood"],
      [[q.gold.join(" / "), said.join(" · "), percent(q.right, 0), percent(q.disagreement, 0), plain(q.entropy, 2), plain(q.likelihood, 2)]], [2, 3, 4, 5]));
}

function askedPassage(p) {
  return opening(
    [p.title, " ", doubtBar(p.doubt), p.weight === 0 && el("span", { class: "quiet" }, " known: no training")],
    () => (p.questions.length ? p.questions.map(askedQuestion) : note("No question about it stood its checks.")));
}

function funnelLine(funnel) {
  if (!funnel) return null;
  const lost = Object.entries(funnel.lost).map(([name, count]) => `${name} ${count}`).join(", ");
  return note(`${plural(funnel.written, "question")} written, ${funnel.by_people} by people; ${funnel.kept} stood every check`,
    lost && ` (failed: ${lost})`, `. They ask about ${funnel.passages_asked} of ${plural(funnel.passages, "passage")}.`);
}

function sliceTable(rows) {
  if (!rows.length) return null;
  const cells = rows.map((s) => [s.by, s.name, s.questions, percent(s.before, 0), percent(s.after, 0), signed(100 * s.gain, 0),
    known(s.low) ? `${signed(100 * s.low, 0)} to ${signed(100 * s.high, 0)}` : "–", plain(s.likelihood_before, 2), plain(s.likelihood_after, 2)]);
  return card("Before and after, by kind of question",
    table(["by", "which", "questions", "before", "after", "gain (points)", "interval", "likelihood before", "after"], cells, [2, 3, 4, 5, 6, 7, 8]));
}

function knowledgeMap() {
  return [el("h1", {}, "Knowledge"), data.knowledge.map((m) =>
    section(`What version ${m.version} knew (round ${m.round})`,
      "Asked closed book, several times: doubt is 0 where every answer was right and sure, and 100 % where none was. The least known comes first; open what you want to read.",
      funnelLine(m.funnel), sliceTable(m.slices),
      m.documents.map((d, i) => opening([el("strong", {}, d.document), " ", doubtBar(d.doubt)], () => d.passages.map(askedPassage), i === 0)),
      m.left_out > 0 && note(`${whole(m.left_out)} questions that are known best are left out.`)))];
}
