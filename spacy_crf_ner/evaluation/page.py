"""The HTML around displaCy's markup: one page that needs no other file."""

from string import Template

ENTITY = (
    '<mark class="entity {verdict}" title="{label}: {verdict}" style="background: {bg}">'
    '{text}<span class="type">{label}</span><span class="verdict">{mark}</span></mark>'
)
"""displaCy's entity template. `verdict` and `mark` are parameters of ours, given with each entity."""

PAGE = Template("""<!DOCTYPE html>
<html lang="$lang" dir="$dir">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light; --ink: #1d2129; --soft: #6a7280; --line: #e3e6ea; --bad: #c62828; }
* { box-sizing: border-box; }
body {
  margin: 0; background: #f4f5f7; color: var(--ink); font-size: 16px; line-height: 1.5;
  font-family: -apple-system, BlinkMacSystemFont, "Segoe UI", "Helvetica Neue", Arial, "PingFang SC",
    "Hiragino Sans GB", "Microsoft YaHei", "Noto Sans CJK SC", "Source Han Sans SC", "Noto Sans", sans-serif;
}
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { margin: 0 0 1rem; font-size: 1.4rem; overflow-wrap: anywhere; }
section, article { background: #fff; border: 1px solid var(--line); border-radius: 10px; }
section { padding: 1.25rem 1.5rem; margin-bottom: 1.5rem; }
.figures { display: flex; flex-wrap: wrap; gap: .75rem 2.25rem; margin: 0; }
.figures dt { color: var(--soft); font-size: .8rem; }
.figures dd { margin: 0; font-size: 1.3rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.legend, .note { margin: 1rem 0 0; color: var(--soft); font-size: .85rem; }
.legend mark.entity { background: #fff; }
table { border-collapse: collapse; margin-top: 1rem; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem 1.5rem .2rem 0; text-align: right; font-weight: normal; }
th { color: var(--soft); font-size: .8rem; }
th:first-child, td:first-child { text-align: start; }
.swatch { display: inline-block; padding: 0 .5em; border-radius: .3em; color: #111; font-weight: 600; }
article { padding: .75rem 1.5rem 1rem; margin-bottom: .9rem; }
article.wrong { border-inline-start: 4px solid var(--bad); }
article header { color: var(--soft); font-size: .8rem; }
article header a { color: inherit; text-decoration: none; }
.row { display: grid; grid-template-columns: 5.5rem 1fr; gap: .5rem; align-items: baseline; }
.row + .row { border-top: 1px dashed var(--line); margin-top: .4rem; padding-top: .4rem; }
.row h2 { margin: 0; color: var(--soft); font-size: .8rem; font-weight: 600; }
.entities { line-height: 2.1 !important; white-space: pre-wrap; overflow-wrap: anywhere; line-break: strict; }
mark.entity {
  display: inline-block; max-width: 100%; color: #111; line-height: 1.35; padding: .12em .4em; margin: 0 .22em;
  border-radius: .35em;
}
mark .type { margin-inline-start: .45em; font-size: .68em; font-weight: 700; opacity: .75; }
mark .verdict:not(:empty) {
  margin-inline-start: .45em; padding: .1em .4em; border-radius: .3em; background: var(--bad); color: #fff;
  font-size: .66em; font-weight: 700;
}
mark.missed { outline: 2px dashed var(--bad); }
mark.spurious, mark.unaligned { outline: 2px solid var(--bad); }
mark.ignored { opacity: .55; }
mark.ignored .verdict { background: var(--soft); }
@media (max-width: 40rem) { .row { grid-template-columns: 1fr; gap: 0; } }
@media print { body { background: #fff; } article { break-inside: avoid; } }
</style>
</head>
<body>
<main>
<h1>$title</h1>
<section>
<dl class="figures">
$figures
</dl>
$types
<p class="legend">$legend</p>
<p class="note">$note</p>
</section>
$articles
</main>
</body>
</html>
""")

FIGURE = Template("<div><dt>$name</dt><dd>$value</dd></div>")

TYPES = Template("""<table>
<tr><th>type</th><th>gold</th><th>P</th><th>R</th><th>F</th></tr>
$rows
</table>""")

TYPE = Template(
    '<tr><td><span class="swatch" style="background: $color">$label</span></td>'
    "<td>$gold</td><td>$p</td><td>$r</td><td>$f</td></tr>"
)

ARTICLE = Template("""<article id="doc-$number" class="$state">
<header><a href="#doc-$number">Document $number</a>$summary</header>
$rows
</article>""")

ROW = Template('<div class="row"><h2>$name</h2>$entities</div>')
