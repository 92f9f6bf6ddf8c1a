// The chat page. What a model or a person wrote enters the page as textContent and nothing else.
"use strict";
const KNOBS = { temperature: "1", top_p: "1", top_k: "", max_tokens: "", seed: "" };
const MOST_RANKED = 9; // answers of a ranking
const MOST_SENT = 12 << 20; // characters of images in a request, of the 16 MiB that the server reads
let all = merged([]);
if (!all.length) all = [fresh()];
let open = all[0];
let running = null; // { abort, conversation } of the answer that is being written
let entries = new Map(); // what the server says of each model
let labelled = false; // whether it keeps labels

// Keeps a conversation that has changed here, beside what other tabs have kept.
function keep(one) {
  one.changed = Date.now();
  all = merged(all, running?.conversation);
  write(all.map(standing));
}

// A conversation as it is kept: what a new answer takes the place of stays until that has come.
function standing(one) {
  if (running?.conversation !== one || !running.before.length) return one;
  return { ...one, turns: [...one.turns.slice(0, -1), ...running.before] };
}

// Another tab has changed something.
function meet(event) {
  if (event.key !== KEPT && event.key !== GONE) return;
  const before = JSON.stringify(open);
  all = merged(all, running?.conversation);
  if (!all.length) all = [fresh()];
  if (running && !all.includes(running.conversation)) stop();
  if (!all.includes(open)) choose(all[0]);
  else if (running?.conversation === open || JSON.stringify(open) === before) showList();
  else show();
}

// ---------------------------------------------------------------- conversations

const titled = (one) => one.turns[0]?.content.trim().slice(0, 60) || (one.turns.length ? "An image" : "New conversation");

function showList() {
  $("list").replaceChildren(...all.map((one) => {
    const entry = make("div", one === open ? "entry open" : "entry");
    const name = make("button", "name", titled(one));
    name.addEventListener("click", () => choose(one));
    if (one === open) name.setAttribute("aria-current", "true");
    const drop = action("✕", "Delete this conversation", () => {
      if (running?.conversation === one) stop();
      forget(one);
      all = merged(all, running?.conversation);
      write(all.map(standing));
      sweep(all.map(standing));
      if (!all.length) all = [fresh()];
      choose(one === open ? all[0] : open);
    });
    drop.classList.add("drop");
    entry.append(name, drop);
    return entry;
  }));
}

function choose(one) {
  open = one;
  $("system").value = open.system;
  menu(false);
  show();
  $("turns").scrollTop = $("turns").scrollHeight;
  $("text").focus();
}

function begin() {
  let one = all.find((other) => !other.turns.length);
  if (!one) { one = fresh(); all.unshift(one); }
  choose(one);
}

// ---------------------------------------------------------------- answers

const mostImages = () => entries.get($("model").value)?.images ?? 0;

function contentOf(content, urls) {
  if (!urls.length) return content;
  const parts = urls.map((url) => ({ type: "image_url", image_url: { url } }));
  return [...parts, { type: "text", text: content }];
}

async function messagesOf({ system, turns }) {
  const said = [];
  for (const turn of turns) {
    if (turn.role === "assistant" && !turn.content) said.pop(); // its answer never came
    else said.push(turn);
  }
  const messages = [];
  let room = MOST_SENT;
  for (const { role, content, images = [] } of said.reverse()) { // the oldest images are left out
    const urls = (await Promise.all(images.map(pictureOf))).filter(Boolean);
    for (const url of urls) room -= url.length;
    messages.unshift({ role, content: contentOf(content, room < 0 && messages.length ? [] : urls) });
  }
  if (system.trim()) messages.unshift({ role: "system", content: system });
  return messages;
}

async function body(one) {
  const messages = await messagesOf(one);
  const asked = { model: $("model").value, messages, stream: true };
  for (const name of Object.keys(KNOBS)) if ($(name).value !== "") asked[name] = Number($(name).value);
  return asked;
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const data = part.slice("data: ".length);
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

// `answers`: those that were drawn to the same before. `before`: the turns that stood here, which
// are put back where nothing comes in their place.
async function answer(one = open, answers = [], before = []) {
  if (running || one.turns.at(-1)?.role !== "user") return;
  const turn = { role: "assistant", content: "", model: $("model").value, answers };
  const own = { abort: new AbortController(), conversation: one, turn, before, node: null };
  const said = body({ system: one.system, turns: [...one.turns] });
  let reason = null; // why it ended; what was stopped is no answer to rank
  running = own;
  one.turns.push(turn);
  const tell = speaker();
  show();
  try {
    const asked = await said;
    const response = await fetch("/v1/chat/completions", {
      method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify(asked), signal: own.abort.signal,
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      turn.content += event.choices[0]?.delta.content ?? "";
      reason ??= event.choices[0]?.finish_reason ?? null;
      tell(turn.content, false);
      if (open === one && own.node) {
        const log = $("turns");
        const following = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
        own.node.textContent = turn.content;
        if (following) log.scrollTop = log.scrollHeight;
      }
    }
  } catch (error) {
    if (error.name !== "AbortError") turn.fault = error.message;
  }
  const back = before.length && !turn.content;
  tell(turn.fault && !back ? `${turn.content} ${turn.fault}` : turn.content, true);
  running = null;
  if (back) {
    if (!turn.answers) forgetAnswers(before); // they were told something else meanwhile
    one.turns.splice(-1, 1, ...before);
    note(turn.fault ?? "");
  }
  turn.ended = reason === "stop"; // or cut off
  if (reason && turn.content && turn.answers && !answers.some(({ content }) => content === turn.content)) {
    turn.answers = [...answers, { content: turn.content, model: turn.model, ended: turn.ended }];
    if (turn.answers.length > MOST_RANKED) turn.answers.splice(1, 1); // by the first it is known
  }
  if (overtaken(one)) one.id = newId(); // both tabs wrote: both are kept
  if (all.includes(one)) keep(one);
  const idle = [document.body, $("stop")].includes(document.activeElement);
  show();
  if (idle) $("text").focus(); // not while somebody types elsewhere
}

function stop() { running?.abort.abort(); }

// Says an answer to those who listen to the page: sentence by sentence, each once.
function speaker() {
  let told = 0;
  $("live").replaceChildren();
  return (text, ended) => {
    const rest = text.slice(told);
    const end = ended ? rest.length : Math.max(...[". ", "! ", "? ", "\n"].map((mark) => rest.lastIndexOf(mark) + 1));
    if (end > 0 && rest.slice(0, end).trim()) $("live").append(make("p", "", rest.slice(0, end)));
    told += Math.max(end, 0);
  };
}

// ---------------------------------------------------------------- controls

async function send(event, reply = answer) {
  event?.preventDefault();
  const one = open; // it goes there, wherever one is when its images have been read
  await Promise.all([attaching, listed]);
  const [text, images] = [$("text").value, pending];
  if (!(text.trim() || images.length) || running) return;
  $("text").value = "";
  pending = [];
  note("");
  showPending();
  grow();
  const turn = { role: "user", content: text };
  if (images.length) turn.images = await Promise.all(images.map((one) => keepPicture(one.url)));
  if (one.turns.at(-1)?.role === "user") one.turns.pop(); // its answer never came
  one.turns.push(turn);
  keep(one);
  reply(one);
}

function grow() {
  $("text").style.height = "auto";
  $("text").style.height = $("text").scrollHeight + "px";
}

// On a phone the conversations are a drawer: while it is open nothing else can be reached by keys,
// and when it closes they are where they were.
const narrow = matchMedia("(max-width: 46rem)");
function menu(shown) {
  const was = document.body.classList.contains("menu");
  document.body.classList.toggle("menu", shown);
  $("menu").setAttribute("aria-expanded", String(shown));
  $("side").inert = narrow.matches && !shown;
  document.querySelector("main").inert = narrow.matches && shown;
  if (narrow.matches && shown !== was) $(shown ? "new" : "menu").focus();
}

function settings(shown) {
  $("settings").hidden = !shown;
  $("gear").setAttribute("aria-expanded", String(shown));
}

function showKnobs() {
  $("temperature-now").textContent = Number($("temperature").value).toFixed(2);
  $("top_p-now").textContent = Number($("top_p").value).toFixed(2);
}

async function models() {
  const response = await fetch("/v1/models");
  const { data, labels } = await response.json();
  const known = load("lm.model", null);
  labelled = labels;
  entries = new Map(data.map((one) => [one.id, one]));
  $("model").replaceChildren(...data.map((one) => make("option", "", one.id)));
  const talking = data.filter((one) => one.chat).map((one) => one.id);
  if (talking.includes(known)) $("model").value = known;
  else if (talking.length) $("model").value = talking[0];
  show();
}

const knobs = { ...KNOBS, ...load("lm.knobs", {}) };
for (const name of Object.keys(KNOBS)) {
  $(name).value = knobs[name];
  $(name).addEventListener("input", () => {
    knobs[name] = $(name).value;
    store("lm.knobs", knobs);
    showKnobs();
  });
}
$("model").addEventListener("change", () => { store("lm.model", $("model").value); show(); });
$("system").addEventListener("input", () => {
  open.system = $("system").value;
  const gone = forgetAnswers(open.turns); // they were told something else
  keep(open);
  if (gone) show();
});
$("ask").addEventListener("submit", (event) => send(event));
$("write").addEventListener("click", (event) => send(event, writeTurn));
$("text").addEventListener("input", grow);
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
});
$("stop").addEventListener("click", stop);
$("new").addEventListener("click", begin);
$("menu").addEventListener("click", () => menu(!document.body.classList.contains("menu")));
for (const id of ["veil", "close"]) $(id).addEventListener("click", () => menu(false));
$("gear").addEventListener("click", () => settings($("settings").hidden));
addEventListener("keydown", (event) => {
  if (event.key === "Escape") { stop(); menu(false); }
  if (event.ctrlKey && event.shiftKey && event.key.toLowerCase() === "o") { event.preventDefault(); begin(); }
});
addEventListener("storage", meet);
narrow.addEventListener("change", () => menu(false));
watchForImages(mostImages);
showKnobs();
choose(open);
const listed = models().catch((error) => note(error.message)); // to whom a message may go
sweep(all);
