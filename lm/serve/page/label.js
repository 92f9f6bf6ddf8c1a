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
let busy = false;
let waiting = 0; // the timer until the page looks again

async function attempt(run) { // whether it was done
  if (busy) return false;
  busy = true;
  $("fault").textContent = "";
  try { await run(); } catch (error) { $("fault").textContent = reasonOf(error); }
  busy = false;
  return !$("fault").textContent;
}

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
  $("work").hidden = !item;
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
    turn.append(make("div", "who", role), make("div", "said", content));
    return turn;
  }));
  $("demonstration").value = "";
  pane(false);
  showAnswers = orderedList($("answers"), order, (answer, place) => [quality(answer, place), asked(answer, questions)], otherKey);
  scrollTo(0, 0);
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
  $("tab-rank").setAttribute("aria-selected", String(!write));
  $("tab-write").setAttribute("aria-selected", String(write));
  if (write) $("demonstration").focus();
}

function ranking() {
  const ranked = ranks(order);
  const sent = { kind: "ranking", ranks: [], ratings: [], metadata: [] };
  order.forEach((answer, place) => {
    sent.ranks[answer.number] = ranked[place];
    sent.ratings[answer.number] = answer.rating;
    sent.metadata[answer.number] = answer.said;
  });
  return sent;
}

async function send(record) {
  await call("/labels/record", { ...record, labeler, item });
  await next();
}

const submit = () => attempt(() => send(writing ? { kind: "demonstration", answer: $("demonstration").value } : ranking()));
const skip = () => attempt(() => send({ kind: "skip" }));
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
$("tab-rank").addEventListener("click", () => pane(false));
$("tab-write").addEventListener("click", () => pane(true));
addEventListener("keydown", (event) => {
  if (event.repeat || $("login").hidden === false) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); if (item) submit(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea")) return;
  if (event.key.toLowerCase() === "s" && item) skip();
  if (event.key.toLowerCase() === "u") undo();
});
if (labeler) attempt(next); else login();
