// Light or dark: as the system has it until somebody chooses.
function theme(chosen) {
  try {
    if (chosen) localStorage.setItem("lm.theme", chosen);
    return localStorage.getItem("lm.theme");
  } catch { return null; /* the browser's store is full or closed */ }
}

const known = theme();
const dark = known ? known === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
document.documentElement.dataset.theme = dark ? "dark" : "light";
addEventListener("DOMContentLoaded", () => {
  document.getElementById("theme").addEventListener("click", () => {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    theme(next);
  });
});
