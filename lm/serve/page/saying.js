// How a text is shown: its code set apart, each part in the direction it is written in. What it says
// enters the page as text nodes and nothing else.
"use strict";
const FENCE = /^ {0,3}```([^`\n]*)(?:\n|$)/m;

function saying(text) {
  const node = make("div", "said");
  node.dir = "auto";
  fillSaid(node, text);
  return node;
}

// Shows a text in the place of another. What both have stays, and with it what somebody has selected
// there, or is about to press.
function fillSaid(node, text) {
  const fresh = make("div");
  fresh.append(...nodesOf(text));
  become(node, fresh);
}

function become(node, fresh) {
  const [before, after] = [[...node.childNodes], [...fresh.childNodes]];
  after.forEach((child, n) => {
    const was = before[n];
    if (!was) node.append(child);
    else if (was.nodeName !== child.nodeName || was.className !== child.className) was.replaceWith(child);
    else if (was.nodeType !== Node.TEXT_NODE) { if (was.nodeName !== "BUTTON") become(was, child); }
    else if (child.data.startsWith(was.data)) was.appendData(child.data.slice(was.data.length));
    else was.data = child.data;
  });
  for (const gone of before.slice(after.length)) gone.remove();
}

function nodesOf(text) {
  const parts = text.split(FENCE); // text, language, code, what ends it, and so on
  const nodes = [parts[0]];
  for (let n = 1; n < parts.length; n += 4) nodes.push(codeBlock(parts[n], parts[n + 1]), parts[n + 3] ?? "");
  return nodes;
}

function codeBlock(language, code) {
  const node = make("div", "code");
  const head = make("div", "code-head soft small");
  const pre = make("pre", "", code);
  const copying = action("Copy", "Copy the code", () => copy(pre.textContent, copying)); // as it has become
  pre.tabIndex = 0; // long lines are reached by keys
  node.dir = "ltr";
  head.append(make("span", "grow", language.trim()), copying);
  node.append(head, pre);
  return node;
}
