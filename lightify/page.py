"""One self-contained HTML page: source and result side by side, each line linked to its fate."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape

from lightify.convert import Conversion
from lightify.ledger import Fate, LedgerEntry
from lightify.report import counts_text, diagnostic_text

#: A file of the source, and a line in it.
Place = tuple[str, int]

STYLE = """
:root { --kept: transparent; --moved: #dbeafe; --replaced: #ede4fd; --dropped: #fde2e1; --ink: #1f2328; --dim: #6e7781;
  --paper: #fff; --line: #d0d7de; --mark: #fff3bf }
@media (prefers-color-scheme: dark) { :root { --moved: #12304f; --replaced: #33214f; --dropped: #4c1d1f;
  --ink: #e6edf3; --dim: #8b949e; --paper: #0d1117; --line: #30363d; --mark: #5c4a00 } }
* { box-sizing: border-box }
body { margin: 0; color: var(--ink); background: var(--paper); font: 14px/1.5 system-ui, sans-serif;
  display: flex; flex-direction: column; height: 100vh }
header { padding: .6rem 1rem; border-bottom: 1px solid var(--line); max-height: 34vh; overflow: auto }
h1 { font-size: 1rem; margin: 0 } ul { margin: .2rem 0; padding-left: 1.2rem }
.key span { padding: 0 .5em; margin-right: .4em; border-radius: 3px; border: 1px solid var(--line) }
#why { padding: .3rem 1rem; min-height: 2.2em; border-bottom: 1px solid var(--line); color: var(--dim) }
main { flex: 1; display: grid; grid-template-columns: 1fr 1fr; min-height: 0 }
section { overflow: auto; font: 12px/1.45 ui-monospace, monospace }
section + section { border-left: 1px solid var(--line) }
h2 { font: bold 12px system-ui; margin: 0; padding: .3rem .6rem; position: sticky; top: 0; background: var(--paper);
  border-bottom: 1px solid var(--line) }
.l { display: flex; white-space: pre; color: inherit; text-decoration: none }
.l i { color: var(--dim); width: 4em; text-align: right; padding-right: 1em; flex: none; font-style: normal;
  user-select: none }
.kept { background: var(--kept) } .moved { background: var(--moved) } .replaced { background: var(--replaced) }
.dropped { background: var(--dropped) } .dropped span { text-decoration: line-through }
.on, .l:target { background: var(--mark) }
a.l:hover, .l[data-from]:hover { outline: 1px solid var(--dim); cursor: pointer }
"""

SCRIPT = """
const why = document.getElementById("why"), all = s => document.querySelectorAll(s);
function light(lines) {
  all(".on").forEach(line => line.classList.remove("on"));
  lines.forEach(line => line.classList.add("on"));
  lines[0].scrollIntoView({block: "center"});
}
all("#source a.l").forEach(line => line.addEventListener("click", event => {
  event.preventDefault(); why.textContent = line.title;
  light([line.dataset.to && document.getElementById("r" + line.dataset.to), line].filter(Boolean));
}));
all("#result .l[data-from]").forEach(line => line.addEventListener("click", () => {
  const from = document.getElementById("s" + line.dataset.from); why.textContent = from.title; light([from, line]);
}));
"""


def html_page(conversion: Conversion) -> str:
    """The page as text; it loads nothing and needs no network."""
    result = (conversion.text or "").splitlines()
    files = {conversion.source.path: conversion.source.text, **{m.path: m.text for m in conversion.elsewhere}}
    fate_of = {
        (entry.span.path, line): entry
        for entry in reversed(conversion.ledger.entries)
        for line in range(entry.span.line, max(entry.span.end_line, entry.span.line) + 1)
    }
    places = result_lines(conversion.ledger.entries, {path: text.splitlines() for path, text in files.items()}, result)
    origins = {to: _anchor(list(files).index(path), line) for (path, line), to in sorted(places.items(), reverse=True)}
    title = escape(conversion.source.path)
    answer = f"{conversion.mode} optimization" if conversion.mode else "refused"
    remarks = [*conversion.reasons, *conversion.departures]
    remarks += [diagnostic_text(item) for item in (*conversion.refusals, *conversion.findings)]
    items = "".join(f"<li>{escape(remark)}</li>" for remark in remarks)
    key = "".join(f'<span class="{fate.value}">{fate.value}</span>' for fate in Fate)
    left = "\n".join(_source_file(n, path, text, fate_of, places) for n, (path, text) in enumerate(files.items()))
    right = "\n".join(_result_line(n, text, origins) for n, text in enumerate(result, 1))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}: lightify</title>
<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>
<header><h1>{title}: {escape(answer)}</h1><div>{escape(counts_text(conversion))}</div><ul>{items}</ul>
<div class="key">{key}</div></header>
<div id="why">Choose a line to see what became of it.</div>
<main><section id="source">{left}
</section><section id="result"><h2>result</h2>
{right}
</section></main>
<script>{SCRIPT}</script></body></html>
"""


def result_lines(
    entries: Sequence[LedgerEntry], source: Mapping[str, Sequence[str]], result: Sequence[str]
) -> dict[Place, int]:
    """Source line to result line, where one can be told: the same text, best within the function it went to."""
    by_text: dict[str, list[int]] = {}
    for number, text in enumerate(result, 1):
        if text.strip():
            by_text.setdefault(text.strip(), []).append(number)
    found: dict[Place, int] = {}
    for entry in entries:
        if entry.fate is Fate.DROPPED:
            continue
        start = _target_line(entry.target, result)
        lines = source.get(entry.span.path, ())
        for line in range(entry.span.line, max(entry.span.end_line, entry.span.line) + 1):
            same = by_text.get(lines[line - 1].strip(), []) if line <= len(lines) else []
            if same:
                after = [number for number in same if number >= start]
                taken = set(found.values())
                free = [number for number in after or same if number not in taken]
                found[entry.span.path, line] = (free or after or same)[0]
            elif start:
                found[entry.span.path, line] = start
    return found


def _target_line(target: str, result: Sequence[str]) -> int:
    """Where the hook or option that a fate names stands in the result; 0 when it does not."""
    name = re.match(r"[A-Za-z_]\w*", target.rpartition(".")[2])
    if name is None:
        return 0
    definition = re.compile(rf"\s*(?:async )?(?:def|class) {name[0]}\b")
    use = re.compile(rf"\b{name[0]}\b")
    for pattern in (definition.match, use.search):
        for number, line in enumerate(result, 1):
            if pattern(line):
                return number
    return 0


def _anchor(file: int, line: int) -> str:
    """What a line of a source file is called in the page: the script's by its number."""
    return f"{file}-{line}" if file else str(line)


def _source_file(
    file: int, path: str, text: str, fate_of: Mapping[Place, LedgerEntry], places: Mapping[Place, int]
) -> str:
    title = f"<h2>{escape(path) if file else 'source'}</h2>"
    lines = (
        _source_line(_anchor(file, n), n, line, fate_of.get((path, n)), places.get((path, n)))
        for n, line in enumerate(text.splitlines(), 1)
    )
    return "\n".join([title, *lines])


def _source_line(anchor: str, number: int, text: str, entry: LedgerEntry | None, to: int | None) -> str:
    code = f"<i>{number}</i><span>{escape(text)}</span>"
    if entry is None or not text.strip():
        return f'<div class="l" id="s{anchor}">{code}</div>'
    where = f" to {entry.target}" if entry.target else ""
    why = escape(f"line {number}: {entry.fate.value}{where}{': ' + entry.reason if entry.reason else ''}", quote=True)
    link = f'href="#r{to}" data-to="{to}"' if to else f'href="#s{anchor}"'
    return f'<a class="l {entry.fate.value}" id="s{anchor}" {link} title="{why}">{code}</a>'


def _result_line(number: int, text: str, origins: Mapping[int, str]) -> str:
    origin = f' data-from="{origins[number]}"' if number in origins else ""
    return f'<div class="l" id="r{number}"{origin}><i>{number}</i><span>{escape(text)}</span></div>'
