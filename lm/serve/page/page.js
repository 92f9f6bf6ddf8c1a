// What every page does: makes nodes, and asks the server.
"use strict";
const $ = (id) => document.getElementById(id);

function make(kind, className, text) {
  const node = document.createElement(kind);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
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
  const found = await response.json();
  if (!response.ok) throw new Error(found.error.message);
  return found;
}
