// The chat page. What a model or a person wrote enters the page as textContent and nothing else.
"use strict";
const $ = (id) => document.getElementById(id);
const KNOBS = { temperature: "1", top_p: "1", top_k: "", max_tokens: "", seed: "" };
const KEPT = "lm.conversations";

const load = (name, otherwise) => {
  try { return JSON.parse(localStorage.getItem(name)) ?? otherwise; } catch { return otherwise; }
};
const fresh = () => ({ id: crypto.getRandomValues(new Uint32Array(2)).join("-"), system: "", turns: [] });
let all = load(KEPT, []);
if (!Array.isArray(all) || !all.length) all = [fresh()];
let open = all[0];
let running = null; // { abort, conversation } of the answer that is being written

function keep() {
  try { localStorage.setItem(KEPT, JSON.stringify(all.filter((one) => one.turns.length || one === open))); }
  catch { /* the browser's store is full: the page goes on, the conversation is not kept */ }
}

function make(kind, className, text) {
  const node = document.createElement(kind);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function action(text, title, run) {
  const node = make("button", "quiet", text);
  node.type = "button";
  node.title = title;
  node.addEventListener("click", run);
  return node;
}

// ---------------------------------------------------------------- conversations

const titled = (one) => one.turns[0]?.content.trim().slice(0, 60) || "New conversation";

function showList() {
  $("list").replaceChildren(...all.map((one) => {
    const entry = make("div", one === open ? "entry open" : "entry");
    const name = make("button", "name", titled(one));
    name.addEventListener("click", () => choose(one));
    if (one === open) name.setAttribute("aria-current", "true");
    const drop = action("✕", "Delete this conversation", () => {
      if (running?.conversation === one) stop();
      all = all.filter((other) => other !== one);
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
  $("text").focus();
}

function begin() {
  let one = all.find((other) => !other.turns.length);
  if (!one) { one = fresh(); all.unshift(one); }
  choose(one);
}

// ---------------------------------------------------------------- turns

function showTurn(turn, number) {
  const node = make("article", "turn " + turn.role);
  node.setAttribute("aria-label", turn.role);
  if (turn.role === "assistant") node.append(make("span", "who", turn.model ?? "assistant"));
  const said = make("div", "said", turn.content);
  node.append(said);
  if (turn.fault) node.append(make("div", "fault", turn.fault));
  const mine = running?.turn === turn;
  if (mine) { node.classList.add("growing"); running.node = said; return node; }
  const doing = make("div", "doing");
  doing.append(action("Copy", "Copy the text", (event) => copy(turn.content, event.target)));
  doing.append(action("Edit", "Change this turn and go on from here", () => edit(node, turn, number)));
  if (turn.role === "assistant") {
    doing.append(action("Regenerate", "Another answer", () => again(number)));
  }
  if (running) for (const button of doing.children) button.disabled = button.textContent !== "Copy";
  node.append(doing);
  return node;
}

function show() {
  const turns = open.turns.map(showTurn);
  if (!turns.length) {
    const empty = make("div", "empty");
    empty.append(make("h2", "", "What shall we talk about?"), make("p", "", $("model").value));
    turns.push(empty);
  }
  $("turns").replaceChildren(...turns);
  $("turns").scrollTop = $("turns").scrollHeight;
  $("send").hidden = Boolean(running);
  $("stop").hidden = !running;
  showList();
  keep();
}

async function copy(text, button) {
  try { await navigator.clipboard.writeText(text); } catch {
    const area = make("textarea", "", text); // without https there is no clipboard: the old way
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1200);
}

function edit(node, turn, number) {
  const area = make("textarea");
  area.value = turn.content;
  area.rows = Math.min(12, turn.content.split("\n").length + 1);
  area.setAttribute("aria-label", "Change this turn");
  const done = () => {
    turn.content = area.value;
    if (turn.role === "user") { open.turns.length = number + 1; answer(); } else show();
  };
  const doing = make("div", "doing");
  doing.append(action(turn.role === "user" ? "Send" : "Keep", "Ctrl+Enter", done), action("Cancel", "Escape", show));
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.stopPropagation(); show(); }
    if (event.key === "Enter" && !event.isComposing && (event.ctrlKey || event.metaKey || !event.shiftKey)) { event.preventDefault(); done(); }
  });
  node.replaceChildren(area, doing);
  area.focus();
}

function again(number) {
  open.turns.length = number;
  answer();
}

// ---------------------------------------------------------------- answers

function body() {
  const messages = [];
  for (const { role, content } of open.turns) {
    if (role === "assistant" && !content) messages.pop(); // a question whose answer never came
    else messages.push({ role, content });
  }
  if (open.system.trim()) messages.unshift({ role: "system", content: open.system });
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

async function answer() {
  if (running || open.turns.at(-1)?.role !== "user") return;
  const asked = body();
  const turn = { role: "assistant", content: "", model: asked.model };
  const own = { abort: new AbortController(), conversation: open, turn, node: null };
  running = own;
  open.turns.push(turn);
  show();
  try {
    const response = await fetch("/v1/chat/completions", {
      method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify(asked), signal: own.abort.signal,
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      turn.content += event.choices[0]?.delta.content ?? "";
      if (open === own.conversation && own.node) {
        const log = $("turns");
        const following = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
        own.node.textContent = turn.content;
        if (following) log.scrollTop = log.scrollHeight;
      }
    }
  } catch (error) {
    if (error.name !== "AbortError") turn.fault = error.message;
  }
  running = null;
  const idle = [document.body, $("stop")].includes(document.activeElement);
  show();
  if (idle) $("text").focus(); // not while somebody types elsewhere
}

function stop() { running?.abort.abort(); }

// ---------------------------------------------------------------- controls

function send(event) {
  event?.preventDefault();
  const text = $("text").value;
  if (!text.trim() || running) return;
  if (open.turns.at(-1)?.role === "user") open.turns.pop(); // its answer never came
  open.turns.push({ role: "user", content: text });
  all = [open, ...all.filter((one) => one !== open)];
  $("text").value = "";
  grow();
  answer();
}

function grow() {
  $("text").style.height = "auto";
  $("text").style.height = $("text").scrollHeight + "px";
}

function menu(shown) {
  document.body.classList.toggle("menu", shown);
  $("menu").setAttribute("aria-expanded", String(shown));
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
  const { data } = await response.json();
  const known = load("lm.model", null);
  $("model").replaceChildren(...data.map((one) => {
    const option = make("option", "", one.id);
    option.disabled = !one.chat;
    return option;
  }));
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
    localStorage.setItem("lm.knobs", JSON.stringify(knobs));
    showKnobs();
  });
}
$("model").addEventListener("change", () => localStorage.setItem("lm.model", JSON.stringify($("model").value)));
$("system").addEventListener("input", () => { open.system = $("system").value; keep(); });
$("ask").addEventListener("submit", send);
$("text").addEventListener("input", grow);
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
});
$("stop").addEventListener("click", stop);
$("new").addEventListener("click", begin);
$("menu").addEventListener("click", () => menu(!document.body.classList.contains("menu")));
$("veil").addEventListener("click", () => menu(false));
$("gear").addEventListener("click", () => settings($("settings").hidden));
addEventListener("keydown", (event) => {
  if (event.key === "Escape") { stop(); menu(false); }
  if (event.ctrlKey && event.shiftKey && event.key.toLowerCase() === "o") { event.preventDefault(); begin(); }
});
showKnobs();
choose(open);
models();
