// How a text is shown: its code set apart, and of an answer also what Markdown marks: headings,
// lists, tables, **bold** and `code`. What it says enters the page as text nodes and nothing else,
// and what is not marked stays as it was written, line by line.
"use strict";
const FENCE = /^(\s*)(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?\S)(?:\s+#+)?\s*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(?![-*_\s]*$)(.*)$/; // and no line of marks alone
const RULE = /^\s*\|?(\s*:?-+:?\s*\|)+\s*(:?-+:?)?\s*$/; // below the head of a table
const MARKS = /(`+)(?:([^`\n].*?[^`\n]|[^`\n])\1(?!`))?|\B\*\*(?=[^\s*])(.*?[^\s*])\*\*\B/g;

// `marked`: whether it is Markdown, as answers are; what a person asks is shown as it was typed.
function saying(text, marked) {
  const node = make("div", "said");
  node.dir = "auto";
  fillSaid(node, text, marked);
  return node;
}

// Shows a text in the place of another. What both have stays, and with it what somebody has selected
// there, or is about to press.
function fillSaid(node, text, marked) {
  const fresh = make("div");
  fresh.append(...nodesOf(text, marked));
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

// Each kind of block takes its lines from the front, or gives null; all other lines are plain.
function nodesOf(text, marked) {
  const lines = text.split("\n");
  const nodes = [];
  let plain = [];
  const flush = (last) => { // empty lines beside a block go: it keeps its own distance
    if (nodes.length) while (plain[0]?.trim() === "") plain.shift();
    if (!last) while (plain.at(-1)?.trim() === "") plain.pop();
    if (plain.length) nodes.push(...(marked ? inline(plain.join("\n")) : [plain.join("\n")]));
    plain = [];
  };
  while (lines.length) {
    const block = fenced(lines) ?? (marked ? heading(lines) ?? list(lines) ?? table(lines) : null);
    if (block) { flush(false); nodes.push(block); } else plain.push(lines.shift());
  }
  flush(true);
  return nodes;
}

// Ends with a fence of the same kind that is as long, so that one block may hold another.
function fenced(lines) {
  const [, indent, fence, language] = FENCE.exec(lines[0]) ?? [];
  if (!fence) return null;
  lines.shift();
  const ends = (line) => line.trim().length >= fence.length && !line.trim().replaceAll(fence[0], "");
  const end = lines.findIndex(ends);
  const code = lines.splice(0, end < 0 ? lines.length : end);
  if (end >= 0 && code.length) code.push(""); // the fence is on a line of its own
  if (end >= 0) lines.shift();
  return codeBlock(language, code.map((line) => (line.startsWith(indent) ? line.slice(indent.length) : line.trimStart())).join("\n"));
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

function heading(lines) {
  const [, marks, text] = HEADING.exec(lines[0]) ?? [];
  if (!marks) return null;
  lines.shift();
  return filled(`h${Math.min(marks.length + 2, 6)}`, text); // a page has a first and second of its own
}

// Items that are further in are a list in the item before; an item goes on in lines further in.
function list(lines) {
  const within = []; // { indent, node } of the lists an item is in, the innermost last
  while (lines.length) {
    const empty = lines.findIndex((line) => line.trim()); // lines between items
    const [, { length: indent } = "", mark, text] = ITEM.exec(lines[empty] ?? "") ?? [];
    if (!mark) {
      const further = within.length && empty === 0 && /^\s/.test(lines[0]) && !FENCE.test(lines[0]);
      if (!further) break;
      within.at(-1).node.lastChild.append("\n", ...inline(lines.shift().trim()));
      continue;
    }
    const kind = /\d/.test(mark) ? "ol" : "ul";
    while (within.length > 1 && indent < within.at(-1).indent) within.pop();
    const deeper = !within.length || indent > within.at(-1).indent + 1;
    const other = !deeper && within.at(-1).node.localName !== kind;
    if (other && within.length === 1) break;
    if (other) within.pop();
    if (deeper || other) {
      const node = make(kind);
      within.at(-1)?.node.lastChild.append(node);
      within.push({ indent, node });
    }
    const item = filled("li", text);
    if (kind === "ol") item.value = parseInt(mark, 10); // as it was written
    within.at(-1).node.append(item);
    lines.splice(0, empty + 1);
  }
  return within[0]?.node ?? null;
}

function table(lines) {
  const width = lines[0].includes("|") && RULE.test(lines[1] ?? "") ? cells(lines[1]).length : 0;
  if (!width || cells(lines[0]).length !== width) return null;
  const rowOf = (kind, line) => {
    const row = make("tr");
    row.append(...cells(line).map((text) => filled(kind, text)));
    return row;
  };
  const node = make("table");
  node.append(rowOf("th", lines[0]));
  lines.splice(0, 2);
  while (lines[0]?.includes("|")) node.append(rowOf("td", lines.shift()));
  const wide = make("div", "wide");
  wide.tabIndex = 0; // what does not fit is reached by keys
  wide.append(node);
  return wide;
}

const cells = (line) => line.replaceAll("\\|", "\0").trim().replace(/^\||\|$/g, "").split("|")
  .map((text) => text.replaceAll("\0", "|").trim());

function filled(kind, text) {
  const node = make(kind);
  node.append(...inline(text));
  return node;
}

function inline(text) {
  const nodes = [];
  let from = 0;
  for (const { 0: { length }, 2: code, 3: bold, index } of text.matchAll(MARKS)) {
    if (!code && !bold) continue; // a mark that nothing ends
    nodes.push(text.slice(from, index), code ? make("code", "", code) : filled("strong", bold));
    from = index + length;
  }
  return [...nodes, text.slice(from)].filter((node) => node !== "");
}
