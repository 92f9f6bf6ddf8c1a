// How turns of a conversation are shown and changed. What a model or a person wrote enters the page
// as textContent and nothing else.
"use strict";
function showTurn(turn, number) {
  const node = make("article", "turn " + turn.role);
  node.setAttribute("aria-label", turn.role);
  if (turn.role === "assistant") node.append(make("span", "who", turn.model ?? "assistant"));
  if (turn.images?.length) node.append(showImages(turn.images));
  const said = saying(turn.content, turn.role === "assistant");
  if (turn.content || !turn.images?.length) node.append(said);
  if (turn.fault) node.append(make("div", "fault", turn.fault));
  const own = running.get(open);
  if (own?.turn === turn) { node.classList.add("growing"); own.node = said; return node; }
  const doing = make("div", "doing");
  if (turn.branches) { node.classList.add("branched"); doing.append(...branchesOf(turn, number)); }
  doing.append(action("Copy", "Copy the text", (event) => copy(turn.content, event.target)));
  doing.append(action("Edit", "Change this turn and go on from here", () => edit(number)));
  if (turn.role === "assistant" || number === open.turns.length - 1) { // or its answer never came
    doing.append(action("Regenerate", "Another answer", () => again(number)));
  }
  if (turn.role === "assistant") {
    if (rankable(turn, number)) {
      doing.append(action(`Rank ${turn.answers.length} answers`, "Put the answers to this in order", () => rankTurn(turn, number)));
    }
    if (demonstrable(turn, number)) {
      const cut = cutOff(number);
      const told = cut ? "An answer up to here was cut off: edit it first" : "Keep the conversation up to here, to learn from";
      const keeping = action("Keep as demonstration", told, () => demonstrateTurn(turn, number));
      keeping.disabled = cut;
      doing.append(keeping);
    }
  }
  if (own) for (const button of doing.querySelectorAll("button")) button.disabled ||= button.textContent !== "Copy";
  const marks = [asTold(turn.told) && turn.ranked && "Ranked", asTold(turn.keptTold) && turn.kept];
  for (const told of marks) if (told) doing.append(make("span", "soft", told));
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

const atEnd = () => $("turns").scrollHeight - $("turns").scrollTop - $("turns").clientHeight < 80;
function toEnd() { $("turns").scrollTop = $("turns").scrollHeight; }

// Shows the open conversation anew. A form in which somebody writes stays, while what it is about does.
function show(following = atEnd()) {
  const place = $("turns").scrollTop;
  const focus = document.activeElement;
  forms = forms.filter((form) => form.one !== open || form.about === upTo(open, form.number));
  const formOf = (number) => forms.find((form) => form.one === open && form.number === number)?.node;
  const turns = open.turns.map((turn, number) => formOf(number) ?? showTurn(turn, number));
  if (!turns.length) {
    const empty = make("div", "empty");
    empty.append(make("h2", "", "What shall we talk about?"), make("p", "", $("model").value));
    if (entries.get($("model").value)?.chat === false) empty.append(make("p", "small", "It has not learned conversations: what it says may be no answer."));
    const whole = entries.get($("model").value)?.dialogue;
    if (mostImages()) empty.append(make("p", "small", whole ? "It sees images, and reads the whole conversation." : "It sees images, and answers one question at a time. A system prompt is refused."));
    turns.push(empty);
  }
  $("turns").replaceChildren(...turns);
  if (focus.isConnected) focus.focus({ preventScroll: true });
  $("turns").scrollTop = following ? $("turns").scrollHeight : place;
  if ($("system").value !== open.system) $("system").value = open.system;
  const busy = running.has(open);
  $("send").hidden = busy;
  $("stop").hidden = !busy;
  $("write").hidden = !labelled || busy;
  $("attach").hidden = !mostImages();
  showList();
}

// ---------------------------------------------------------------- forms in the place of a turn

let forms = []; // { one, number, about, node }: those that are open, in any conversation
const upTo = ({ turns }, number) => JSON.stringify(turns.slice(0, number + 1).map(({ role, content }) => [role, content]));

// A turn's node, for a form; `close` shows the turn again and goes to the button that opened it.
function formAt(number, opener) {
  const form = { one: open, number, about: upTo(open, number), node: $("turns").children[number] };
  forms.push(form);
  const close = () => {
    forms = forms.filter((other) => other !== form);
    show(false);
    focusOn(number, opener);
  };
  return { node: form.node, close };
}

function focusOn(number, text) {
  const buttons = [...$("turns").children[number]?.querySelectorAll(".doing button") ?? []];
  buttons.find((button) => button.textContent.startsWith(text))?.focus();
}

function edit(number, text = open.turns[number].content) {
  const one = open;
  const { node, close } = formAt(number, "Edit");
  const user = one.turns[number].role === "user";
  const area = make("textarea");
  area.value = text;
  area.dir = "auto";
  area.rows = Math.min(12, text.split("\n").length + 1);
  area.setAttribute("aria-label", "Change this turn");
  const done = () => {
    const turn = one.turns[number];
    if (area.value === turn.content) { close(); return; }
    if (running.has(one)) { note("An answer is being written: stop it first"); return; }
    if (user) {
      const before = [...one.turns];
      const tail = one.turns.splice(number); // what followed answers something else
      one.turns.push({ role: "user", content: area.value, images: turn.images, ...besides(tail) });
      keep(one);
      answer(one, {}, before, { number, text: area.value });
      return;
    }
    sayInstead(one, number, { content: area.value, ended: true });
    keep(one);
    close();
  };
  const doing = make("div", "doing");
  doing.append(action(user ? "Send" : "Keep", "Ctrl+Enter", done), action("Cancel", "Escape", close));
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.stopPropagation(); close(); }
    if (sends(event)) { event.preventDefault(); done(); }
  });
  node.replaceChildren(area, doing);
  area.focus();
}

// The assistant's turn is written, not drawn; left empty it is one that never came.
function writeTurn(one) {
  one.turns.push({ role: "assistant", content: "" });
  keep(one);
  if (one !== open) { showList(); return; }
  show();
  toEnd();
  edit(open.turns.length - 1);
}
