// The conversations of this tab, which of them is open, and their list.
"use strict";
let all = merged([]);
if (!all.length) all = [fresh()];
let open = all[0];
const running = new Map(); // conversation -> the answer that is being written in it, of `answer`
const drafts = new WeakMap(); // conversation -> { text, images } of the message to come

function draftOf(one) {
  if (!drafts.has(one)) {
    drafts.set(one, { text: unsent[placeOf(one)] ?? "", images: [] });
    delete unsent[placeOf(one)];
  }
  return drafts.get(one);
}

// Texts that were not sent when the page was left, kept in this tab by their conversation's id; one
// that has not begun has another each time.
const UNSENT = "lm.unsent";
const placeOf = (one) => (one.turns.length ? one.id : "");
const unsent = (() => {
  try { return JSON.parse(sessionStorage.getItem(UNSENT)) ?? {}; } catch { return {}; }
})();

function keepUnsent() {
  const texts = all.map((one) => [placeOf(one), draftOf(one).text]).filter(([, text]) => text);
  try { sessionStorage.setItem(UNSENT, JSON.stringify({ ...unsent, ...Object.fromEntries(texts) })); }
  catch { /* the browser's store is full or closed */ }
}

// Keeps a conversation that has changed here, beside what other tabs have kept.
function keep(one) {
  one.changed = Date.now();
  all = merged(all, running);
  writeAll();
}

let unkept = ""; // what is said where the store is full
function writeAll() {
  const left = write(all.map(standing)).map((one) => `“${titled(one)}”`);
  const shown = unkept && $("note").textContent === unkept;
  const largest = left.length && all.reduce((a, b) => (sizeOf(b) > sizeOf(a) ? b : a));
  const was = unkept;
  unkept = left.length ? `Not kept: ${left.join(", ")}. The store of this browser is full or closed; download what you need (⤓) and delete other conversations (✕). The largest is “${titled(largest)}”.` : "";
  if (shown ? unkept !== was : unkept) note(unkept);
}

// A conversation as it is kept: an answer that has not begun is none, and what a new one takes the
// place of stays until it has.
function standing(one) {
  const own = running.get(one);
  if (!own || own.turn.content) return one;
  return { ...one, turns: own.before && !own.edited ? own.before : one.turns.slice(0, -1) };
}

// Keeps what has come of an answer so far; where another tab has written meanwhile, beside that.
function keepGrowing(one) {
  if (overtaken(one)) one.id = newId();
  if (all.includes(one)) keep(one);
}

// Another tab has changed something.
function meet(event) {
  if (event.key !== KEPT && event.key !== GONE) return;
  const before = JSON.stringify(open);
  all = merged(all, running);
  if (!all.length) all = [fresh()];
  for (const one of running.keys()) if (!all.includes(one)) stop(one);
  if (!all.includes(open)) choose(all[0]);
  else if (running.has(open) || JSON.stringify(open) === before) showList();
  else show();
}

// ---------------------------------------------------------------- the list

const titled = (one) => one.title || one.turns[0]?.content.trim().slice(0, 60) || (one.turns.length ? "An image" : "New conversation");

function showList() {
  if ($("list").querySelector("input")) return; // somebody names one
  $("list").replaceChildren(...all.map((one) => {
    const entry = make("div", one === open ? "entry open" : "entry");
    const name = make("button", "name", titled(one));
    name.dir = "auto";
    name.addEventListener("click", () => choose(one));
    if (one === open) name.setAttribute("aria-current", "true");
    if (running.has(one)) entry.classList.add("busy");
    name.addEventListener("keydown", (event) => { if (event.key === "F2") rename(one, entry); });
    entry.append(name);
    if (one === open) {
      entry.append(
        action("✎", "Rename this conversation (F2)", () => rename(one, entry)),
        action("⤓", "Download this conversation, to learn from", () => download(one)),
      );
    }
    const dropping = action("✕", "Delete this conversation", () => drop(one));
    dropping.classList.add("drop");
    entry.append(dropping);
    return entry;
  }));
}

function rename(one, entry) {
  const box = make("input");
  box.value = titled(one);
  box.dir = "auto";
  box.setAttribute("aria-label", "Title");
  const done = (keeping) => {
    box.onblur = null;
    const title = box.value.trim();
    box.remove();
    if (keeping && title !== titled(one)) { one.title = title; keep(one); }
    showList();
  };
  box.onblur = () => done(true);
  box.addEventListener("keydown", (event) => {
    if (composing(event) || !["Enter", "Escape"].includes(event.key)) return;
    event.preventDefault(); // or the title is clicked
    event.stopPropagation();
    done(event.key === "Enter");
    $("list").querySelector(".open .name")?.focus();
  });
  entry.replaceChildren(box);
  box.focus();
  box.select();
}

// As training reads it, and `/save` of launch.chat writes it: an answer that was cut off has weight 0.
async function download(one) {
  const answers = one.turns.filter(({ role, content }) => role === "assistant" && content);
  const cut = answers.map(({ ended }) => ended === false); // of older ones it was not kept
  const messages = await messagesOf(one, Infinity);
  messages.filter(({ role }) => role === "assistant").forEach((said, n) => { if (cut[n]) said.weight = 0; });
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify({ messages }) + "\n"], { type: "application/json" }));
  link.download = `${titled(one)}.jsonl`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// Its images stay until the next one is deleted or the page is opened again.
function drop(one) {
  stop(one);
  all = merged(all, running).filter((other) => other !== one);
  writeAll();
  forget(one); // now there is room for its id
  sweep([...all.map(standing), one]);
  if (!all.length) all = [fresh()];
  if (one === open) choose(all[0]);
  else { menu(false); showList(); }
  if (!one.turns.length) return;
  const undo = action("Undo", "Put it back", () => {
    note("");
    remember(one);
    all.push(one);
    keep(one);
    choose(one);
  });
  note(`Deleted “${titled(one)}”. ${unkept}`, undo);
  undo.focus();
}

function choose(one) {
  open = one;
  $("text").value = draftOf(one).text;
  showPending();
  grow();
  menu(false);
  show();
  toEnd();
  $("text").focus();
}

function begin() {
  let one = all.find((other) => !other.turns.length);
  if (!one) { one = fresh(); all.unshift(one); }
  choose(one);
}
