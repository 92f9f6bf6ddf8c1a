// Ranking the answers that were drawn to one message of a chat; the record is the labelling page's.
"use strict";

// Whether there is something to rank in a turn: different answers, and no image before them.
function rankable(turn, number) {
  return turn.answers?.length > 1 && !open.turns.slice(0, number).some((one) => one.images?.length);
}

// What was said before has changed: the answers there are do not answer it.
function forgetAnswers(turns) {
  const found = turns.filter((turn) => turn.answers);
  for (const turn of found) { delete turn.answers; delete turn.ranked; }
  return found.length > 0;
}

// The labeler's name, which the labelling page keeps under the same key.
function labelerName(said) {
  try {
    if (said) localStorage.setItem("lm.labeler", said);
    return localStorage.getItem("lm.labeler") ?? "";
  } catch { return ""; /* the browser's store is full or closed */ }
}

function rankTurn(node, turn, number) {
  const one = open;
  const { answers } = turn;
  const order = answers.map(({ content }, n) => ({ number: n, text: content, tied: false }));
  const list = make("ol", "answers");
  list.setAttribute("aria-label", "Answers, the best first");
  const who = make("label", "", "Your name ");
  const name = make("input");
  Object.assign(name, { value: labelerName(), maxLength: 40, autocomplete: "off" });
  who.append(name);
  const fault = make("div", "fault");
  fault.setAttribute("role", "alert");
  const keepRanking = async () => {
    const labeler = name.value.trim();
    const sent = { labeler, answers: [], sources: [], ended: [], ranks: [] };
    ranks(order).forEach((rank, place) => { sent.ranks[order[place].number] = rank; });
    for (const { content, model, ended = true } of answers) { // of older ones it was not kept
      sent.answers.push(content);
      sent.sources.push(model);
      sent.ended.push(ended);
    }
    try {
      sent.messages = await messagesOf({ system: one.system, turns: one.turns.slice(0, number) });
      await call("/labels/chat", sent);
    } catch (error) {
      fault.textContent = reasonOf(error);
      return;
    }
    labelerName(labeler);
    turn.ranked = true;
    const best = answers[order[0].number];
    const liked = answers.some(({ content }, n) => content === turn.content && sent.ranks[n] === 1);
    if (one.turns.at(-1) === turn && !liked) Object.assign(turn, { content: best.content, model: best.model, fault: undefined });
    keep(one);
    show();
  };
  const doing = make("div", "doing");
  doing.append(action("Keep the ranking", "Ctrl+Enter", keepRanking), action("Cancel", "Escape", show));
  node.onkeydown = (event) => {
    if (event.key === "Escape") { event.stopPropagation(); show(); }
    const enter = event.key === "Enter" && !event.isComposing;
    if (enter && (event.ctrlKey || event.metaKey || event.target === name)) { event.preventDefault(); keepRanking(); }
  };
  node.replaceChildren(list, who, doing, fault);
  orderedList(list, order);
}
