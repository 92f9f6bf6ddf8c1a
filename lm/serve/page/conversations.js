// The conversations of this tab, which of them is open, and their list.
"use strict";
let all = merged([]);
if (!all.length) all = [fresh()];
let open = all[0];
const running = new Map(); // conversation -> the answer that is being written in it, of `answer`
const drafts = new WeakMap(); // conversation -> { text, images } of the message to come

function draftOf(one) {
  if (!drafts.has(one)) drafts.set(one, { text: "", images: [] });
  return drafts.get(one);
}

// Keeps a conversation that has changed here, beside what other tabs have kept.
function keep(one) {
  one.changed = Date.now();
  all = merged(all, running);
  write(all.map(standing));
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

const titled = (one) => one.turns[0]?.content.trim().slice(0, 60) || (one.turns.length ? "An image" : "New conversation");

function showList() {
  $("list").replaceChildren(...all.map((one) => {
    const entry = make("div", one === open ? "entry open" : "entry");
    const name = make("button", "name", titled(one));
    name.addEventListener("click", () => choose(one));
    if (one === open) name.setAttribute("aria-current", "true");
    if (running.has(one)) entry.classList.add("busy");
    const drop = action("✕", "Delete this conversation", () => {
      stop(one);
      forget(one);
      all = merged(all, running);
      write(all.map(standing));
      sweep(all.map(standing));
      if (!all.length) all = [fresh()];
      if (one === open) choose(all[0]);
      else showList();
    });
    drop.classList.add("drop");
    entry.append(name, drop);
    return entry;
  }));
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
