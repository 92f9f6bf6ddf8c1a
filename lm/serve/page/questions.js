// The yes/no questions about one answer. Each has three states: pressed again, a yes or a no is none.
"use strict";

function asked(answer, questions, changed) {
  const node = make("details", "questions small");
  const summary = make("summary", "soft");
  const names = Object.keys(questions);
  const count = () => {
    summary.textContent = `Questions: ${Object.keys(answer.said).length} of ${names.length} answered`;
  };
  node.open = answer.open;
  node.addEventListener("toggle", () => { answer.open = node.open; });
  node.append(summary, ...names.map((name) => question(answer, name, questions[name], () => { count(); changed(); })));
  count();
  return node;
}

function question(answer, name, text, changed) {
  const row = make("div", "question");
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", text);
  const choices = [["Yes", true], ["No", false]].map(([word, value]) => {
    const node = make("button", "", word);
    node.type = "button";
    node.addEventListener("click", () => {
      if (answer.said[name] === value) delete answer.said[name];
      else answer.said[name] = value;
      press();
      changed();
    });
    return [node, value];
  });
  const press = () => {
    for (const [node, value] of choices) node.setAttribute("aria-pressed", String(answer.said[name] === value));
  };
  press();
  row.append(make("span", "", text), ...choices.map(([node]) => node));
  return row;
}

// Opens the questions of an answer's card at the first, or closes them and goes back to the card.
function ask(card) {
  const node = card.querySelector("details");
  node.open = !node.open;
  (node.open ? node.querySelector("button") : card).focus();
}
