// What stood in a conversation before a turn was changed or drawn again is kept as a branch: a turn
// has `branches`, the turns from there on of each, with null in the place of the one that is shown.
"use strict";
function putAway([{ branches = [null], answers, ranked, told, ...head }, ...rest]) {
  return branches.map((tail) => tail ?? [head, ...rest]);
}

// What a turn that is put before them has of turns that it takes the place of.
function besides(tail) {
  const { content, images, branches } = tail[0];
  if (!content && !images) return { branches }; // its answer never came
  return { branches: [...putAway(tail), null] };
}

// Says something else in a turn. What stood there becomes a branch, with a copy of what follows as
// it is shown: the branches of that stay here, or each change would double them.
function sayInstead(one, number, said) {
  const [turn, ...rest] = one.turns.splice(number);
  const followed = structuredClone(rest.map(({ branches, ...other }) => other));
  one.turns.push({ ...turn, ...besides([turn, ...followed]), fault: undefined, kept: turn.kept && "", ...said }, ...rest);
  forgetAnswers(rest);
}

function turnTo(one, number, place) {
  const tail = one.turns.splice(number);
  const { answers, ranked, told } = tail[0]; // to what was said before, whatever is shown
  const branches = putAway(tail);
  const [head, ...rest] = branches[place];
  branches[place] = null;
  one.turns.push({ ...head, branches, answers, ranked, told }, ...rest);
}

// ‹ 1/2 ›
function branchesOf({ branches }, number) {
  const [count, place] = [branches.length, branches.indexOf(null)];
  const go = (text, title, step) => action(text, title, () => {
    turnTo(open, number, (place + step + count) % count);
    keep(open);
    show(false);
    focusOn(number, text);
  });
  const told = make("span", "soft", `${place + 1}/${count}`);
  return [go("‹", "The version before", -1), told, go("›", "The next version", 1)];
}

// Another answer in the place of a turn, or to the last.
function again(number) {
  if (running.has(open)) return;
  const before = [...open.turns];
  if (before[number].role === "user") { answer(); return; }
  const tail = open.turns.splice(number);
  const { answers = [], told } = tail[0];
  answer(open, { ...besides(tail), ...(asTold(told) ? { answers, told } : {}) }, before);
}
