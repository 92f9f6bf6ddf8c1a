"""How a report looks: one column that widens into two, in the reader's light or dark scheme."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --panel: #f6f7f9; --ink: #1d232b; --quiet: #5b6673; --grid: #c9d0d8;
  --reference: #6b7280;
  --series-0: #2563eb; --series-1: #d9480f; --series-2: #0f8a5f; --series-3: #a21caf;
  --series-4: #b7791f; --series-5: #0e7490; --series-6: #be123c; --series-7: #57534e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12161b; --panel: #1b2129; --ink: #e4e8ee; --quiet: #98a3b0; --grid: #39434f;
    --reference: #a3adb9;
    --series-0: #6ea8fe; --series-1: #ff9a62; --series-2: #4fd1a0; --series-3: #e28af0;
    --series-4: #e9c46a; --series-5: #5ccfe0; --series-6: #ff8fa3; --series-7: #c7c2bc;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .7rem; }
h3 { font-size: .9rem; margin: 0 0 .4rem; color: var(--quiet); font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .6rem;
  margin: 0; }
.tiles > div { background: var(--panel); border-radius: .5rem; padding: .6rem .8rem; }
.tiles dt { font-size: .8rem; color: var(--quiet); }
.tiles dd { margin: 0; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
.notice { border-left: 3px solid var(--series-1); padding-left: .7rem; color: var(--quiet); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr));
  gap: 1rem; }
.legend { grid-column: 1 / -1; display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; padding: 0;
  list-style: none; font-size: .85rem; }
figure { margin: 0; background: var(--panel); border-radius: .5rem; padding: .7rem .8rem .4rem; }
figcaption { font-weight: 600; font-size: .9rem; margin-bottom: .3rem; }
.figure { display: block; width: 100%; height: auto; }
.figure * { stroke-linejoin: round; stroke-linecap: butt; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr));
  gap: 1rem; }
article { min-width: 0; }
pre { margin: 0; padding: .8rem; background: var(--panel); border-radius: .5rem; font-size: .85rem;
  font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; max-height: 30rem; overflow-y: auto; }
details { margin-top: 1rem; }
summary { cursor: pointer; color: var(--quiet); margin-bottom: .6rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; min-width: 50%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem 1.2rem .35rem 0; border-bottom: 1px solid var(--grid);
  vertical-align: top; }
thead th { color: var(--quiet); font-size: .8rem; font-weight: 600; }
tbody th { font-weight: 400; }
ul { margin: 0; padding-left: 1.2rem; }
li { overflow-wrap: anywhere; }
@media print { pre { max-height: none; } }
"""
