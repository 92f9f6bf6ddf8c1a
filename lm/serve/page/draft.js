// What a labeler has half said of an item, kept in this tab until it is sent: over a reload, and
// while another item is shown.
"use strict";

const draftName = (labeler, item) => `lm.draft ${labeler} ${item}`;

function draftOf(labeler, item) {
  try { return JSON.parse(sessionStorage.getItem(draftName(labeler, item))); } catch { return null; }
}

function keepDraft(labeler, item, draft) {
  const name = draftName(labeler, item);
  try {
    if (draft) sessionStorage.setItem(name, JSON.stringify(draft));
    else sessionStorage.removeItem(name);
  } catch { /* the browser's store is full or closed */ }
}

// Puts what was said of answers, each as it was shown, into a fresh order, the best first.
function fillOrder(order, { ranks, ratings = [], metadata = [] }) {
  for (const answer of order) {
    answer.rating = ratings[answer.number] ?? null;
    answer.said = metadata[answer.number] ?? {};
  }
  order.sort((a, b) => ranks[a.number] - ranks[b.number]);
  order.forEach((answer, place) => {
    answer.tied = place > 0 && ranks[answer.number] === ranks[order[place - 1].number];
  });
}
