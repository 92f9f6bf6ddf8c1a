// The labelling page. Answers are shown without their source, in an order that the server draws.
"use strict";
const $ = (id) => document.getElementById(id);
let labeler = localStorage.getItem("lm.labeler") ?? "";
let item = null; // what is being labelled
let questions = {}; // what is asked of each answer, by name
// { number, text, tied, rating, said, open }, the best first; `number` as the server sent them,
// `said` yes or no by the name of the question, `open` whether the questions are shown
let order = [];
let writing = false;
let busy = false;

function make(kind, className, text) {
  const node = document.createElement(kind);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

async function call(path, sent) {
  const options = sent === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(sent),
  };
  const response = await fetch(path, options);
  const found = await response.json();
  if (!response.ok) throw new Error(found.error.message);
  return found;
}

async function attempt(run) {
  if (busy) return;
  busy = true;
  $("fault").textContent = "";
  try { await run(); } catch (error) { $("fault").textContent = error.message; }
  busy = false;
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
    $("why").textContent = found.making
      ? "Answers are being sampled; this page looks again by itself."
      : found.total ? "You have seen every item. Thank you." : "Start the server with --label_prompts=FILE.";
    if (found.making) setTimeout(() => { if (!item && $("login").hidden) attempt(next); }, 2000);
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
  showAnswers(0);
  scrollTo(0, 0);
}

function ranks() {
  let rank = 0;
  return order.map((answer, place) => { if (!answer.tied || !place) rank = place + 1; return rank; });
}

function small(text, title, pressed, run) {
  const node = make("button", "", text);
  node.type = "button";
  node.tabIndex = -1;
  node.title = title;
  if (pressed !== null) node.setAttribute("aria-pressed", String(pressed));
  node.addEventListener("click", (event) => { event.stopPropagation(); run(); });
  return node;
}

function showAnswers(focus) {
  const ranked = ranks();
  $("answers").replaceChildren(...order.map((answer, place) => {
    const node = make("li", "answer");
    node.tabIndex = 0;
    node.draggable = true;
    node.dataset.number = answer.number;
    if (answer.tied && place) node.classList.add("tied");
    if (order[place + 1]?.tied) node.classList.add("leads");
    node.setAttribute("aria-label", `rank ${ranked[place]}: ${answer.text.slice(0, 80)}`);
    const moves = make("div", "moves");
    moves.append(
      small("↑", "Better (Shift+↑)", null, () => move(place, place - 1)),
      small("↓", "Worse (Shift+↓)", null, () => move(place, place + 1)),
    );
    if (place) moves.append(small("=", "Tie with the one above (T)", answer.tied, () => tie(place)));
    const quality = make("div", "quality small");
    quality.append(make("span", "soft", "Quality"));
    for (let value = 1; value <= 7; value++) {
      quality.append(small(String(value), `Quality ${value}`, answer.rating === value, () => rate(place, value)));
    }
    node.append(make("div", "rank", String(ranked[place])), make("div", "said", answer.text || "(says nothing)"), moves, quality, asked(answer, questions));
    node.addEventListener("keydown", (event) => { if (event.target === node) keys(event, place); });
    node.addEventListener("dragstart", (event) => {
      event.dataTransfer.setData("text/plain", String(place));
      event.dataTransfer.effectAllowed = "move";
      node.classList.add("held");
    });
    node.addEventListener("dragend", () => node.classList.remove("held"));
    node.addEventListener("dragover", (event) => event.preventDefault());
    node.addEventListener("drop", (event) => {
      event.preventDefault();
      move(Number(event.dataTransfer.getData("text/plain")), place);
    });
    return node;
  }));
  $("answers").children[focus]?.focus({ preventScroll: focus === 0 });
}

// ---------------------------------------------------------------- ranking

function move(from, to) {
  if (!(from in order) || !(to in order) || from === to) return;
  const [answer] = order.splice(from, 1);
  if (order[from]) order[from].tied = order[from].tied && answer.tied; // a tie does not jump a gap
  answer.tied = Boolean(order[to]?.tied); // within a tie it joins, so that none ends or begins
  order.splice(to, 0, answer);
  order[0].tied = false;
  showAnswers(to);
}

function tie(place) {
  if (place) order[place].tied = !order[place].tied;
  showAnswers(place);
}

function rate(place, value) {
  order[place].rating = order[place].rating === value ? null : value;
  showAnswers(place);
}

function keys(event, place) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (step && event.shiftKey) move(place, place + step);
  else if (step) $("answers").children[place + step]?.focus();
  else if (event.key.toLowerCase() === "t") tie(place);
  else if (event.key.toLowerCase() === "q") ask($("answers").children[place]);
  else if (/^[1-7]$/.test(event.key)) rate(place, Number(event.key));
  else return;
  event.preventDefault();
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
  const ranked = ranks();
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
  localStorage.setItem("lm.labeler", labeler);
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
