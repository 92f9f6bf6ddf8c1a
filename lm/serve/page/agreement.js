"use strict";
const percent = (share) => (100 * share).toFixed(1) + " %";

function figure(value, text) {
  const node = document.createElement("div");
  const number = document.createElement("b");
  const told = document.createElement("span");
  node.className = "figure";
  told.className = "small soft";
  number.textContent = value ?? "–";
  told.textContent = text;
  node.append(number, told);
  return node;
}

async function show() {
  const found = await (await fetch("/labels/agreement")).json();
  const interval = found.interval ? ` (${found.interval.map(percent).join(" to ")})` : "";
  document.getElementById("figures").replaceChildren(
    figure(found.agreement === null ? null : percent(found.agreement), "pairwise agreement" + interval),
    figure(found.alpha_preference?.toFixed(3), "alpha of preferences"),
    figure(found.alpha_rating?.toFixed(3), "alpha of quality, ordinal"),
    figure(String(found.items), `ranked items, ${found.shared_items} by several labelers`),
    figure(String(found.labelers.length), "labelers"),
  );
  document.getElementById("between").replaceChildren(...found.between.map((row) => {
    const line = document.createElement("tr");
    for (const text of [row.labelers.join(" and "), percent(row.agreement), String(row.pairs)]) {
      const cell = document.createElement("td");
      cell.textContent = text;
      line.append(cell);
    }
    return line;
  }));
}

show();
