// Labels of one message of a chat, as the labelling page keeps them: a ranking of the answers that
// were drawn to it, or an answer as it should be.
"use strict";

// Labels are of answers to text.
const seesNothing = (number) => !open.turns.slice(0, number).some((one) => one.images?.length);
const rankable = (turn, number) => labelled && turn.answers?.length > 1 && asTold(turn.told) && seesNothing(number);
const demonstrable = (turn, number) => labelled && turn.content.trim() && seesNothing(number);
// Whether an answer up to a turn was stopped or too long; of older ones it was not kept. Who learns
// from it would learn to end there.
const cutOff = (number) => open.turns.slice(0, number + 1).some((one) => one.ended === false && one.content);

const messagesBefore = ({ system, turns }, number) => messagesOf({ system, turns: turns.slice(0, number) });

// The answers of a turn answer the system prompt `told`, and a demonstration that was kept is of
// `keptTold`, where that has changed since.
const asTold = (told) => (told ?? open.system) === open.system;

function tellInstead(one, system) {
  for (const turn of everyTurn([...one.turns, ...(running.get(one)?.before ?? [])])) {
    if (turn.answers) turn.told ??= one.system;
    if (turn.kept) turn.keptTold ??= one.system;
  }
  one.system = system;
}

// What was said before has changed: the answers there are do not answer it, and others were kept.
function forgetAnswers(turns) {
  for (const turn of everyTurn(turns)) Object.assign(turn, { answers: undefined, ranked: undefined, told: undefined, kept: turn.kept && "" });
}

// A form in the place of a turn, with the labeler's name, which it gives; what `send` throws is told.
function labelForm(number, content, opener, word, send) {
  const { node, close } = formAt(number, opener);
  const who = make("label", "", "Your name ");
  const name = make("input");
  Object.assign(name, { value: labelerName(), maxLength: 40, autocomplete: "off" });
  who.append(name);
  const fault = make("div", "fault");
  fault.setAttribute("role", "alert");
  const done = async () => {
    const labeler = name.value.trim();
    try { await send(labeler); } catch (error) { fault.textContent = reasonOf(error); return; }
    labelerName(labeler);
    close();
  };
  const doing = make("div", "doing");
  doing.append(action(word, "Ctrl+Enter", done), action("Cancel", "Escape", close));
  node.onkeydown = (event) => {
    if (event.key === "Escape") { event.stopPropagation(); close(); }
    const enter = event.key === "Enter" && !composing(event);
    if (enter && (event.ctrlKey || event.metaKey || event.target === name)) { event.preventDefault(); done(); }
  };
  node.replaceChildren(content, who, doing, fault);
  return name;
}

// Keeps a turn as what the assistant should say. Changed and kept again, it stands for what was kept
// before, by its `name`, which another answer there has not; those kept before turns had one (`kept`,
// "" where it was changed) are named by their number.
function demonstrateTurn(turn, number) {
  const one = open;
  const called = turn.name ?? (turn.kept === undefined ? newId() : number);
  const sent = { kind: "demonstration", item: `${one.id}-${called}`, answer: turn.content };
  labelForm(number, saying(turn.content, true), "Keep as", "Keep", async (labeler) => {
    const messages = await messagesBefore(one, number);
    const { replaced } = await call("/labels/chat", { ...sent, labeler, messages });
    for (const other of everyTurn(one.turns)) if (other.name === called) other.kept = "";
    Object.assign(one.turns[number], { name: called, keptTold: undefined });
    one.turns[number].kept = replaced ? "Kept in place of the earlier one" : "Kept as demonstration";
    keep(one);
  }).focus();
}

function rankTurn(turn, number) {
  const one = open;
  const { answers } = turn;
  const order = answers.map(({ content }, n) => ({ number: n, text: content, tied: false }));
  const list = make("ol", "answers");
  list.setAttribute("aria-label", "Answers, the best first");
  labelForm(number, list, "Rank", "Keep the ranking", async (labeler) => {
    if (!asTold(turn.told)) throw new Error("The system prompt has changed: these answer the one before.");
    const sent = { labeler, answers: [], sources: [], ended: [], ranks: [] };
    ranks(order).forEach((rank, place) => { sent.ranks[order[place].number] = rank; });
    for (const { content, model, ended = true } of answers) { // of older ones it was not kept
      sent.answers.push(content);
      sent.sources.push(model);
      sent.ended.push(ended);
    }
    sent.messages = await messagesBefore(one, number);
    await call("/labels/chat", sent);
    turn = one.turns[number]; // another tab may have made another object of it
    turn.ranked = true;
    const best = answers[order[0].number];
    const liked = answers.some(({ content }, n) => content === turn.content && sent.ranks[n] === 1);
    const branch = turn.branches?.findIndex((tail) => tail?.[0].content === best.content) ?? -1;
    const last = one.turns.at(-1) === turn;
    if (last && !liked && branch >= 0) turnTo(one, number, branch);
    else if (last && !liked) sayInstead(one, number, { content: best.content, model: best.model, ended: best.ended, name: undefined, kept: undefined });
    keep(one);
  });
  orderedList(list, order);
}
