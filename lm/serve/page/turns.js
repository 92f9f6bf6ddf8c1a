// How turns of a conversation are shown, copied and changed. What a model or a person wrote enters
// the page as textContent and nothing else.
"use strict";
function action(text, title, run) {
  const node = make("button", "quiet", text);
  node.type = "button";
  node.title = title;
  node.addEventListener("click", run);
  return node;
}

function showTurn(turn, number) {
  const node = make("article", "turn " + turn.role);
  node.setAttribute("aria-label", turn.role);
  if (turn.role === "assistant") node.append(make("span", "who", turn.model ?? "assistant"));
  if (turn.images?.length) node.append(showImages(turn.images));
  const said = make("div", "said", turn.content);
  if (turn.content || !turn.images?.length) node.append(said);
  if (turn.fault) node.append(make("div", "fault", turn.fault));
  const mine = running?.turn === turn;
  if (mine) { node.classList.add("growing"); running.node = said; return node; }
  const doing = make("div", "doing");
  doing.append(action("Copy", "Copy the text", (event) => copy(turn.content, event.target)));
  doing.append(action("Edit", "Change this turn and go on from here", () => edit(node, turn, number)));
  if (turn.role === "assistant") {
    doing.append(action("Regenerate", "Another answer", () => again(number)));
    if (rankable(turn, number)) {
      doing.append(action(`Rank ${turn.answers.length} answers`, "Put the answers to this in order", () => rankTurn(node, turn, number)));
    }
    if (demonstrable(turn, number)) {
      const cut = cutOff(number);
      const told = cut ? "An answer up to here was cut off: edit it first" : "Keep the conversation up to here, to learn from";
      const keeping = action("Keep as demonstration", told, () => demonstrateTurn(node, turn, number));
      keeping.disabled = cut;
      doing.append(keeping);
    }
  }
  if (running) for (const button of doing.children) button.disabled ||= button.textContent !== "Copy";
  for (const told of [turn.ranked && "Ranked", turn.kept]) if (told) doing.append(make("span", "soft", told));
  node.append(doing);
  return node;
}

function showImages(ids) {
  const row = make("div", "shown");
  row.append(...ids.map((id, number) => {
    const node = make("button");
    const image = make("img");
    image.alt = `image ${number + 1}`;
    pictureOf(id).then((url) => {
      if (url) image.src = url;
      else node.replaceChildren(make("span", "soft small", "(this image is not kept here)"));
    });
    node.type = "button";
    node.title = "Larger or smaller";
    node.setAttribute("aria-expanded", "false");
    node.addEventListener("click", () => {
      node.setAttribute("aria-expanded", String(node.getAttribute("aria-expanded") !== "true"));
    });
    node.append(image);
    return node;
  }));
  return row;
}

function show() {
  const turns = open.turns.map(showTurn);
  if (!turns.length) {
    const empty = make("div", "empty");
    empty.append(make("h2", "", "What shall we talk about?"), make("p", "", $("model").value));
    if (entries.get($("model").value)?.chat === false) empty.append(make("p", "small", "It has not learned conversations: what it says may be no answer."));
    const whole = entries.get($("model").value)?.dialogue;
    if (mostImages()) empty.append(make("p", "small", whole ? "It sees images, and reads the whole conversation." : "It sees images, and answers one question at a time. A system prompt is refused."));
    turns.push(empty);
  }
  $("turns").replaceChildren(...turns);
  $("turns").scrollTop = $("turns").scrollHeight;
  $("send").hidden = Boolean(running);
  $("stop").hidden = !running;
  $("write").hidden = !labelled || Boolean(running);
  $("attach").hidden = !mostImages();
  showList();
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
    delete turn.fault; // of the answer that did not come
    if (turn.role === "user") open.turns.length = number + 1; // what followed answers something else
    else { turn.ended = true; forgetAnswers(open.turns.slice(number)); }
    keep(open);
    if (turn.role === "user") answer(); else show();
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

// The assistant's turn is written, not drawn; left empty it is one that never came.
function writeTurn(one) {
  const turn = { role: "assistant", content: "" };
  one.turns.push(turn);
  keep(one);
  show();
  if (one === open) edit($("turns").lastChild, turn, open.turns.length - 1);
}

// What stands here is kept until the new answer has come, and outlives a page that is closed.
function again(number) {
  const before = open.turns.splice(number);
  answer(open, before[0].answers, before);
}
