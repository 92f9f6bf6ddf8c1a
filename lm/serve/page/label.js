// The labelling page. Answers are shown without their source, in an order that the server draws.
"use strict";
let labeler = labelerName();
let item = null; // what is being labelled
let questions = {}; // what is asked of each answer, by name
// { number, text, tied, rating, said, open }, the best first; `number` as the server sent them,
// `said` yes or no by the name of the question, `open` whether the questions are shown
let order = [];
let showAnswers = null;
let writing = false;
let judged = false; // whether anything was said of the answers
let moved = false; // whether they were put in order, and are not as the server shuffled them
let touched = false; // whether anything was changed since the item came up
let since = 0; // when it came up
let asking = false; // whether it was asked if the server's order is right
let busy = false;
let waiting = 0; // the timer until the page looks again

async function attempt(run) { // whether it was done
  if (busy) return false;
  busy = true;
  $("fault").textContent = $("note").textContent = "";
  try { await run(); } catch (error) { $("fault").textContent = reasonOf(error); }
  busy = false;
  return !$("fault").textContent;
}

const SETTLING = 700; // milliseconds within which the second press of a double click comes

// Whether a press may be meant for the item before, which is gone.
const early = (event) => !touched && event.timeStamp - since < SETTLING;

// Looks again while there is nothing to label, after a failure too.
function later() {
  clearTimeout(waiting);
  waiting = setTimeout(async () => {
    if (!item && $("login").hidden && !(await attempt(next))) later();
  }, 2000);
}

// Why there is no item.
function why({ making, total, prompts, dropped, refused, fault }) {
  if (making) return "Answers are being sampled; this page looks again by itself.";
  const said = [];
  if (total) said.push("You have seen every item there is. Thank you.");
  else if (!prompts) said.push("Start the server with --label_prompts=FILE.");
  if (fault) said.push(`The sampling of answers ended early: ${fault}.`);
  if (dropped) said.push(`${dropped} of ${prompts} prompts have no two different answers: ${refused || "the temperature may be 0"}.`);
  return said.join(" ");
}

// ---------------------------------------------------------------- what is shown

const next = async () => present(await call("/labels/next?labeler=" + encodeURIComponent(labeler)));

function present(found) {
  $("progress").textContent = `${found.done} of ${found.total}` + (found.skipped ? `, ${found.skipped} skipped` : "");
  $("bar").max = Math.max(found.total, 1);
  $("bar").value = found.done + found.skipped;
  item = found.item;
  $("login").hidden = true;
  $("foot").hidden = false;
  for (const id of ["work", "skip", "submit"]) $(id).hidden = !item;
  $("none").hidden = Boolean(item);
  $("who").textContent = labeler;
  if (!item) {
    $("why").textContent = why(found);
    if (found.making) later();
    return;
  }
  questions = found.metadata;
  order = found.answers.map((text, number) => ({ number, text, tied: false, rating: null, said: {}, open: false }));
  $("conversation").replaceChildren(...found.messages.map(({ role, content }) => {
    const turn = make("div", "turn");
    turn.append(make("div", "who", role), saying(content, role === "assistant"));
    return turn;
  }));
  const draft = { ...draftOf(labeler, item), ...found.said };
  judged = draft.ranks?.length === order.length;
  moved = judged && draft.moved !== false;
  if (judged) fillOrder(order, draft);
  $("demonstration").value = draft.answer ?? "";
  pane(Boolean(draft.answer) && !judged);
  showAnswers = orderedList($("answers"), order, (answer, place) => [quality(answer, place), asked(answer, questions, judge)], otherKey, reorder);
  keep();
  if (found.done + found.skipped === found.total) $("note").textContent = "You skipped this one before; nothing else is left.";
  touched = false;
  since = performance.now();
  scrollTo(0, 0);
}

function judge() {
  judged = true;
  keep();
}

function reorder() {
  moved = true;
  judge();
}

// Keeps what has been said as a draft, and tells what of it is submitted.
function keep() {
  touched = true;
  asking = false;
  $("note").textContent = "";
  const draft = said();
  keepDraft(labeler, item, judged || draft.answer ? { ...draft, moved } : null);
  $("submit").textContent = !draft.answer ? "Submit" : judged ? "Submit both" : "Submit the answer";
}

function quality(answer, place) {
  const node = make("div", "quality small");
  node.append(make("span", "soft", "Quality"));
  for (let value = 1; value <= 7; value++) {
    node.append(small(String(value), `Quality ${value}`, answer.rating === value, () => rate(place, value)));
  }
  return node;
}

function rate(place, value) {
  order[place].rating = order[place].rating === value ? null : value;
  showAnswers(place);
  judge();
}

function otherKey(key, place) {
  if (key.toLowerCase() === "q") ask($("answers").children[place]);
  else if (/^[1-7]$/.test(key)) rate(place, Number(key));
  else return false;
  return true;
}

// ---------------------------------------------------------------- sending

function pane(write) {
  writing = write;
  $("rank-pane").hidden = write;
  $("write-pane").hidden = !write;
  for (const [id, selected] of [["tab-rank", !write], ["tab-write", write]]) {
    $(id).setAttribute("aria-selected", String(selected));
    $(id).tabIndex = selected ? 0 : -1;
  }
  if (write) $("demonstration").focus();
}

// What a labeler has said of the answers, and his own.
function said() {
  const answer = $("demonstration").value;
  return { ...(judged ? ranking() : {}), ...(answer.trim() ? { answer } : {}) };
}

function ranking() {
  const ranked = ranks(order);
  const sent = { ranks: [], ratings: [], metadata: [] };
  order.forEach((answer, place) => {
    sent.ranks[answer.number] = ranked[place];
    sent.ratings[answer.number] = answer.rating;
    sent.metadata[answer.number] = answer.said;
  });
  return sent;
}

const send = (record) => attempt(async () => {
  const sent = { ...record, labeler, item };
  const found = await call("/labels/record", sent);
  if (sent.kind !== "skip") keepDraft(sent.labeler, sent.item, null);
  present(found);
});

function submit(event) {
  if (early(event)) return;
  const { answer } = said();
  if (writing && !judged && !answer) { $("note").textContent = "Nothing is written."; return; }
  if (!moved && (judged || !answer)) {
    if (!asking) {
      asking = true;
      touched = false;
      since = event.timeStamp;
      $("note").textContent = "The order is as it came. If it is right, submit it once more.";
      return;
    }
    judged = moved = true;
  }
  send({ kind: judged ? "ranking" : "demonstration", ...said() });
}

const skip = (event) => early(event) || send({ kind: "skip" });
const undo = () => attempt(async () => present(await call("/labels/undo", { labeler })));

function login() {
  item = null;
  for (const id of ["work", "none", "foot"]) $(id).hidden = true;
  $("login").hidden = false;
  $("name").value = labeler;
  $("name").focus();
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  labeler = $("name").value;
  labelerName(labeler);
  attempt(next);
});
$("who").addEventListener("click", login);
$("submit").addEventListener("click", submit);
$("skip").addEventListener("click", skip);
$("undo").addEventListener("click", undo);
$("demonstration").addEventListener("input", keep);
$("tab-rank").addEventListener("click", () => pane(false));
$("tab-write").addEventListener("click", () => pane(true));
document.querySelector(".tabs").addEventListener("keydown", (event) => {
  const write = { ArrowLeft: !writing, ArrowRight: !writing, Home: false, End: true }[event.key];
  if (write === undefined) return;
  event.preventDefault();
  pane(write);
  $(write ? "tab-write" : "tab-rank").focus();
});
addEventListener("keydown", (event) => {
  if (event.repeat || $("login").hidden === false) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); if (item) submit(event); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea")) return;
  if (event.key.toLowerCase() === "s" && item) skip(event);
  if (event.key.toLowerCase() === "u") undo();
});
if (labeler) attempt(next); else login();
