// A list of answers that is put in order: by keys, by buttons, by dragging.
// An order is [{ number, text, tied }], the best first; `tied` with the one above.
"use strict";

function ranks(order) {
  let rank = 0;
  return order.map((answer, place) => { if (!answer.tied || !place) rank = place + 1; return rank; });
}

function standing(answer, place, rank) {
  const tied = answer.tied && place ? ", tied with the one above" : "";
  return `rank ${rank}${tied}${answer.rating ? `, quality ${answer.rating}` : ""}`;
}

function small(text, title, pressed, run) {
  const node = make("button", "", text);
  node.type = "button";
  node.tabIndex = -1;
  node.title = title;
  if (pressed !== null) node.setAttribute("aria-pressed", String(pressed));
  node.addEventListener("click", (event) => { event.stopPropagation(); run(); });
  return node;
}

// Fills a list with the cards of an order, and gives what fills it again and goes to a place.
// `more(answer, place)` are further nodes of a card, `other(key, place)` does what another key says
// and tells whether it says anything; `changed()` is told that the order is another.
function orderedList(list, order, more = () => [], other = () => false, changed = () => {}) {
  let held = null; // the place of the card that is dragged; a file or a text has none
  function show(focus) {
    const ranked = ranks(order);
    list.replaceChildren(...order.map((answer, place) => card(answer, place, ranked[place])));
    list.children[focus]?.focus({ preventScroll: focus === 0 });
  }

  function card(answer, place, rank) {
    const node = make("li", "answer");
    node.tabIndex = 0;
    node.dataset.number = answer.number;
    if (answer.tied && place) node.classList.add("tied");
    if (order[place + 1]?.tied) node.classList.add("leads");
    node.setAttribute("aria-label", `${standing(answer, place, rank)}: ${answer.text.slice(0, 80)}`);
    const moves = make("div", "moves");
    moves.append(
      small("↑", "Better (Shift+↑)", null, () => move(place, place - 1)),
      small("↓", "Worse (Shift+↓)", null, () => move(place, place + 1)),
    );
    if (place) moves.append(small("=", "Tie with the one above (T)", answer.tied, () => tie(place)));
    const said = saying(answer.text || "(says nothing)", true);
    const handle = make("div", "rank", String(rank));
    handle.draggable = true; // and nothing else of the card: its text can be selected
    handle.title = "Drag to put it elsewhere";
    node.append(handle, said, moves, ...more(answer, place));
    node.addEventListener("keydown", (event) => { if (event.target === node) keys(event, place); });
    handle.addEventListener("dragstart", (event) => {
      event.dataTransfer.setData("text/plain", String(place));
      event.dataTransfer.setDragImage(node, 0, 0);
      event.dataTransfer.effectAllowed = "move";
      held = place;
      node.classList.add("held");
    });
    handle.addEventListener("dragend", () => { held = null; node.classList.remove("held"); });
    node.addEventListener("dragover", (event) => event.preventDefault());
    node.addEventListener("drop", (event) => {
      event.preventDefault();
      if (held !== null) move(held, place);
      held = null;
    });
    return node;
  }

  function update(place) {
    show(place);
    changed();
  }

  function move(from, to) {
    if (!(from in order) || !(to in order) || from === to) return;
    const [answer] = order.splice(from, 1);
    if (order[from]) order[from].tied = order[from].tied && answer.tied; // a tie does not jump a gap
    answer.tied = Boolean(order[to]?.tied); // within a tie it joins, so that none ends or begins
    order.splice(to, 0, answer);
    order[0].tied = false;
    update(to);
  }

  function tie(place) {
    if (!place) return;
    order[place].tied = !order[place].tied;
    update(place);
  }

  function keys(event, place) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (step && event.shiftKey) move(place, place + step);
    else if (step) list.children[place + step]?.focus();
    else if (event.key.toLowerCase() === "t") tie(place);
    else if (!other(event.key, place)) return;
    event.preventDefault();
  }

  show(0);
  return show;
}
