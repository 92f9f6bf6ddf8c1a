// The chat page. What a model or a person wrote enters the page as textContent and nothing else.
"use strict";
const KNOBS = { temperature: "1", top_p: "1", top_k: "", max_tokens: "", seed: "" };
const MOST_RANKED = 9; // answers of a ranking
const KEEPING = 1000; // milliseconds after which an answer that is being written is kept
const MOST_SENT = 12 << 20; // characters of images in a request, of the 16 MiB that the server reads
let entries = new Map(); // what the server says of each model
let labelled = false; // whether it keeps labels
let leaving = false; // the page is about to be closed

// ---------------------------------------------------------------- answers

const mostImages = () => entries.get($("model").value)?.images ?? 0;

function contentOf(content, urls) {
  if (!urls.length) return content;
  const parts = urls.map((url) => ({ type: "image_url", image_url: { url } }));
  return [...parts, { type: "text", text: content }];
}

// `left` is told of how many images are left out, the oldest: those that a request has no room for.
async function messagesOf({ system, turns }, room = MOST_SENT, left = () => {}) {
  const said = [];
  for (const turn of turns) {
    if (turn.role === "assistant" && !turn.content) said.pop(); // its answer never came
    else said.push(turn);
  }
  const messages = [];
  let missing = 0;
  for (const { role, content, images = [] } of said.reverse()) {
    const urls = (await Promise.all(images.map(pictureOf))).filter(Boolean);
    for (const url of urls) room -= url.length;
    if (room < 0 && messages.length) missing += urls.splice(0).length;
    messages.unshift({ role, content: contentOf(content, urls) });
  }
  if (missing) left(missing);
  if (system.trim()) messages.unshift({ role: "system", content: system });
  return messages;
}

async function body(one, left) {
  const messages = await messagesOf(one, MOST_SENT, left);
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

// Draws the next turn. `beside`: what it has of the turn whose place it takes. `before`: the turns
// that are put back where nothing comes, and `edited` { number, text }, what is then in the form again.
async function answer(one = open, beside = {}, before = null, edited = null) {
  if (running.has(one) || one.turns.at(-1)?.role !== "user") return;
  const turn = { role: "assistant", content: "", model: $("model").value, ended: false, answers: [], ...beside };
  const { answers } = turn;
  const own = { abort: new AbortController(), turn, before, edited, node: null, frame: null };
  const said = body({ system: one.system, turns: [...one.turns] }, (count) => {
    if (one === open) note(`Without the oldest ${count === 1 ? "image" : `${count} images`}: a request has room for no more.`);
  });
  let reason = null; // why it ended; what was stopped is no answer to rank
  let kept = Date.now();
  running.set(one, own);
  one.turns.push(turn);
  const tell = speaker(one);
  if (one === open) { show(); toEnd(); }
  try {
    const asked = await said;
    const response = await fetch("/v1/chat/completions", {
      method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify(asked), signal: own.abort.signal,
    });
    if (!response.ok) throw new Error(await faultOf(response));
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      turn.content += event.choices[0]?.delta.content ?? "";
      reason ??= event.choices[0]?.finish_reason ?? null;
      tell(turn.content, false);
      if (turn.content && Date.now() - kept > KEEPING) { keepGrowing(one); kept = Date.now(); }
      own.frame ??= requestAnimationFrame(() => showGrowing(one, own));
    }
    if (!reason) throw new Error("The answer broke off: the connection was closed before its end.");
  } catch (error) {
    if (leaving) await new Promise((resolve) => setTimeout(resolve, 2000)); // it fails of that, and is kept
    if (error.name !== "AbortError") turn.fault = error.message;
  }
  const back = before && !turn.content;
  tell(turn.fault && !back ? `${turn.content} ${turn.fault}` : turn.content, true);
  running.delete(one);
  if (back) { one.turns = before; note(turn.fault ?? ""); }
  turn.ended = reason === "stop"; // or cut off
  if (reason && turn.content && turn.answers && !answers.some(({ content }) => content === turn.content)) {
    turn.answers = [...answers, { content: turn.content, model: turn.model, ended: turn.ended }];
    if (turn.answers.length > MOST_RANKED) turn.answers.splice(1, 1); // by the first it is known
  }
  keepGrowing(one);
  if (one !== open) { showList(); return; }
  const idle = [document.body, $("stop")].includes(document.activeElement);
  show();
  if (back && edited) edit(edited.number, edited.text);
  else if (idle) $("text").focus(); // not while somebody types elsewhere
}

// Shows what has come of an answer, once a frame: a model may be faster than the page can be drawn.
function showGrowing(one, own) {
  own.frame = null;
  if (open !== one || running.get(one) !== own) return;
  const following = atEnd();
  fillSaid(own.node, own.turn.content, true);
  if (following) toEnd();
}

function stop(one = open) { running.get(one)?.abort.abort(); }

// Says an answer to those who listen to the page: sentence by sentence, each once.
function speaker(one) {
  let told = 0;
  if (one === open) $("live").replaceChildren();
  return (text, ended) => {
    const rest = text.slice(told);
    const end = ended ? rest.length : Math.max(...[". ", "! ", "? ", "\n"].map((mark) => rest.lastIndexOf(mark) + 1));
    if (one === open && end > 0 && rest.slice(0, end).trim()) $("live").append(make("p", "", rest.slice(0, end)));
    told += Math.max(end, 0);
  };
}

// ---------------------------------------------------------------- controls

async function send(event, reply = answer) {
  event?.preventDefault();
  const one = open; // it goes there, wherever one is when its images have been read
  if (running.has(one)) return;
  const draft = draftOf(one);
  const text = $("text").value; // as it is now: what is typed while one waits is the next
  putText(one, "");
  await Promise.all([attaching, listed]);
  if (running.has(one)) { putText(one, text + draft.text); return; } // one that was sent before it
  const { images } = draft;
  if (!(text.trim() || images.length)) return;
  draft.images = [];
  note("");
  if (one === open) showPending();
  const turn = { role: "user", content: text };
  if (images.length) turn.images = await Promise.all(images.map(({ url }) => keepPicture(url)));
  if (one.turns.at(-1)?.role === "user") Object.assign(turn, besides(one.turns.splice(-1))); // its answer never came
  one.turns.push(turn);
  keep(one);
  reply(one);
}

function putText(one, text) {
  draftOf(one).text = text;
  if (one === open) { $("text").value = text; grow(); }
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
  const { data, labels } = await call("/v1/models");
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
  const offered = () => open.turns.map(({ told, keptTold }) => [asTold(told), asTold(keptTold)]).join();
  const before = offered();
  tellInstead(open, $("system").value);
  keep(open);
  if (offered() !== before) show();
});
$("ask").addEventListener("submit", (event) => send(event));
$("write").addEventListener("click", (event) => send(event, writeTurn));
$("text").addEventListener("input", () => { draftOf(open).text = $("text").value; grow(); });
$("text").addEventListener("keydown", (event) => {
  if (sends(event)) send(event);
});
$("stop").addEventListener("click", () => stop());
$("new").addEventListener("click", begin);
$("menu").addEventListener("click", () => menu(!document.body.classList.contains("menu")));
for (const id of ["veil", "close"]) $(id).addEventListener("click", () => menu(false));
$("gear").addEventListener("click", () => settings($("settings").hidden));
addEventListener("keydown", (event) => {
  if (event.key === "Escape") { stop(); menu(false); }
  if (event.ctrlKey && event.shiftKey && event.key.toLowerCase() === "o") { event.preventDefault(); begin(); }
});
addEventListener("storage", meet);
addEventListener("beforeunload", () => { leaving = true; });
for (const left of ["pagehide", "visibilitychange"]) addEventListener(left, keepUnsent);
addEventListener("pagehide", () => { for (const one of running.keys()) keepGrowing(one); });
narrow.addEventListener("change", () => menu(false));
watchForImages(mostImages);
showKnobs();
choose(open);
const listed = models().catch((error) => note(error.message)); // to whom a message may go
sweep(all);
