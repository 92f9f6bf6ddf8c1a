// What every page does: makes nodes, copies what they show, and asks the server.
"use strict";
const $ = (id) => document.getElementById(id);

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

// Whether a key is part of a word that is composed; Safari has ended that before its last key.
const composing = (event) => event.isComposing || event.keyCode === 229;

// Whether a key sends a text of several lines: a touch keyboard has no Shift+Enter for a new one.
const coarse = matchMedia("(pointer: coarse)");
const sends = (event) => event.key === "Enter" && !composing(event)
  && (event.ctrlKey || event.metaKey || !(event.shiftKey || coarse.matches));

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

// An error for people; a server without --labels has no routes of labels.
const reasonOf = (error) =>
  error.message === "Not Found" ? "This server keeps no labels: start it with --labels=FOLDER." : error.message;

// The labeler's name, which the chat page and the labelling page keep under the same key.
function labelerName(said) {
  try {
    if (said) localStorage.setItem("lm.labeler", said);
    return localStorage.getItem("lm.labeler") ?? "";
  } catch { return ""; /* the browser's store is full or closed */ }
}

async function call(path, sent) {
  const options = sent === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(sent),
  };
  const response = await fetch(path, options);
  if (!response.ok) throw new Error(await faultOf(response));
  return response.json();
}

// What a server that refuses says; one before it may answer with a page of its own.
async function faultOf(response) {
  const found = await response.json().catch(() => null);
  return found?.error?.message ?? `HTTP ${response.status}`;
}
