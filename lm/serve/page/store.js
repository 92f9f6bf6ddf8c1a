// What this browser keeps: conversations in localStorage, their images in IndexedDB.
// Several tabs share it: of a conversation the newest form counts, and one deleted stays deleted.
"use strict";
const KEPT = "lm.conversations";
const GONE = "lm.deleted"; // ids of conversations, the newest last
const REMEMBERED = 500;

const load = (name, otherwise) => {
  try { return JSON.parse(localStorage.getItem(name)) ?? otherwise; } catch { return otherwise; }
};
const store = (name, value) => {
  try { localStorage.setItem(name, JSON.stringify(value)); return true; }
  catch { return false; /* the browser's store is full or closed: the page goes on, this is not kept */ }
};
const arrayOf = (name) => { const found = load(name, []); return Array.isArray(found) ? found : []; };
const stored = () => arrayOf(KEPT).filter((one) => Array.isArray(one?.turns)); // whatever else is there
const newId = () => crypto.getRandomValues(new Uint32Array(2)).join("-");
const fresh = () => ({ id: newId(), changed: 0, system: "", turns: [] });

// The conversations of this tab and of the store together, those of this tab as the same objects;
// those that are `busy`, written here, stay as they are.
function merged(own, busy) {
  const gone = new Set(arrayOf(GONE));
  const found = new Map(own.filter((one) => !gone.has(one.id)).map((one) => [one.id, one]));
  for (const one of stored()) {
    const mine = found.get(one.id);
    if (gone.has(one.id)) continue;
    if (!mine) found.set(one.id, one);
    else if (!busy?.has(mine) && (one.changed ?? 0) > mine.changed) Object.assign(mine, one);
  }
  const every = [...found.values()];
  for (const one of every) one.changed ??= 0;
  const begun = every.filter((one) => one.turns.length).sort((a, b) => b.changed - a.changed);
  return [...every.filter((one) => !one.turns.length), ...begun];
}

// Whether another tab has kept a newer form of a conversation than the one that was begun with here.
const overtaken = (one) => stored().some((other) => other.id === one.id && other.changed > one.changed);

const sizeOf = (one) => JSON.stringify(one).length;

// One that is written here, and of which another tab has kept more, stays as that has it. Returns
// those for which there is no room: the largest of what has changed, which stay as they were.
function write(conversations) {
  const before = new Map(stored().map((one) => [one.id, one]));
  const newest = (one) => (before.get(one.id)?.changed > one.changed ? before.get(one.id) : one);
  let kept = conversations.filter((one) => one.turns.length).map(newest);
  const changed = kept.filter((one) => before.get(one.id)?.changed !== one.changed);
  changed.sort((a, b) => sizeOf(b) - sizeOf(a));
  const left = [];
  while (!store(KEPT, kept) && changed.length) {
    const one = changed.shift();
    left.push(one);
    kept = kept.map((other) => (other === one ? before.get(one.id) : other)).filter(Boolean);
  }
  return left;
}

const forget = (one) => store(GONE, [...arrayOf(GONE), one.id].slice(-REMEMBERED));
const remember = (one) => store(GONE, arrayOf(GONE).filter((id) => id !== one.id));

// ---------------------------------------------------------------- images

const pictures = new Map(); // id -> data: URL, of all that this tab has seen
const database = new Promise((resolve) => {
  try {
    const opening = indexedDB.open("lm", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("images");
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => resolve(null); // a private window: images last as long as the tab
  } catch { resolve(null); }
});

async function images(mode, run) {
  const opened = await database;
  if (!opened) return null;
  return new Promise((resolve) => {
    const request = run(opened.transaction("images", mode).objectStore("images"));
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => resolve(null);
  });
}

async function keepPicture(url) {
  const id = newId();
  pictures.set(id, url);
  await images("readwrite", (all) => all.put(url, id));
  return id;
}

async function pictureOf(id) {
  if (!pictures.has(id)) {
    const url = await images("readonly", (all) => all.get(id));
    if (url) pictures.set(id, url);
  }
  return pictures.get(id) ?? null;
}

// The turns of a conversation, and those of the branches that are not shown.
function* everyTurn(turns) {
  for (const turn of turns) {
    yield turn;
    for (const tail of turn.branches ?? []) if (tail) yield* everyTurn(tail);
  }
}

// Removes the images that no conversation holds.
async function sweep(conversations) {
  const held = new Set(conversations.flatMap((one) => [...everyTurn(one.turns)].flatMap((turn) => turn.images ?? [])));
  for (const id of (await images("readonly", (all) => all.getAllKeys())) ?? []) {
    if (!held.has(id)) await images("readwrite", (all) => all.delete(id));
  }
}
