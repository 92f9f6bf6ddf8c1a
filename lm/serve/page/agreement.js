"use strict";
const percent = (share) => (100 * share).toFixed(1) + " %";

function figure(value, text) {
  const node = make("div", "figure");
  node.append(make("b", "", value ?? "–"), make("span", "small soft", text));
  return node;
}

async function show() {
  const found = await call("/labels/agreement");
  const interval = found.interval ? ` (${found.interval.map(percent).join(" to ")})` : "";
  $("figures").replaceChildren(
    figure(found.agreement === null ? null : percent(found.agreement), "pairwise agreement" + interval),
    figure(found.alpha_preference?.toFixed(3), "alpha of preferences"),
    figure(found.alpha_rating?.toFixed(3), "alpha of quality, ordinal"),
    figure(String(found.items), `ranked items, ${found.shared_items} by several labelers`),
    figure(String(found.labelers.length), "labelers"),
    ...found.published.map((row) => figure(
      `${(100 * row.value).toFixed(1)} ± ${percent(row.error)}`, `published: ${row.system}, ${row.source}`)),
  );
  $("between").replaceChildren(...found.between.map((row) => {
    const line = make("tr");
    line.append(...[row.labelers.join(" and "), percent(row.agreement), String(row.pairs)].map((text) => make("td", "", text)));
    return line;
  }));
}

show().catch((error) => { $("fault").textContent = reasonOf(error); });
