"""What the pages share (audit, curation report, demo): one look, and a policy by which only their own script runs."""

import base64
import hashlib
import html
import re
from pathlib import Path

STYLE = """
:root {
  --ink: #16181d; --soft: #5b616e; --line: #e0e3e9; --ground: #f4f5f8; --paper: #fff; --track: #eceef2;
  --edge: #b9bec9; --off: #a3a8b2; --accent: #1f6fae; --mark: #b34700; --good: #1a7f4b; --lift: #fff 0%;
  color-scheme: light dark;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e8ec; --soft: #9aa1ae; --line: #31353f; --ground: #14161a; --paper: #1d2026; --track: #2a2e37;
    --edge: #4b515d; --off: #6a707c; --accent: #6cb2ea; --mark: #ff9a52; --good: #58c48c; --lift: #fff 30%;
  }
}
* { box-sizing: border-box }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", "Noto Sans CJK SC", "PingFang SC",
    "Microsoft YaHei", sans-serif;
  font-variant-numeric: tabular-nums;
}
h1 { font-size: 1.5rem; font-weight: 650; letter-spacing: -.01em; margin: 0 }
h2 { font-size: 1.08rem; font-weight: 650; margin: 0 0 .15rem }
h3 { font-size: .95rem; font-weight: 600; margin: 0 0 .3rem; overflow-wrap: anywhere }
small { font-size: .82rem; color: var(--soft); font-weight: 400 }
a { color: var(--accent); text-underline-offset: 2px }
.note { color: var(--soft); font-size: .88rem; margin: 0 0 .9rem; max-width: 80ch }
section, article {
  background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 1.15rem 1.35rem 1.25rem;
  min-width: 0;
}
table { border-collapse: collapse; width: 100% }
.scroll { overflow-x: auto }
svg { display: block; width: 100%; height: auto }
:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; border-radius: 3px }
@media print { * { -webkit-print-color-adjust: exact; print-color-adjust: exact } body { background: none } }
"""


def bdi(text: str) -> str:
    """HTML of a text in any script: one that turns the writing direction turns nothing else.  Of no text nothing."""
    return f"<bdi>{html.escape(text)}</bdi>" if text else ""


def page(template: Path, script: str = "", **parts: str) -> str:
    """The template with STYLE, the script, and HTML in place of @NAME@; nothing but the script may run, whatever a part
    holds."""
    text = template.read_text(encoding="utf-8").replace("@STYLE@", STYLE).replace("@SCRIPT@", script)
    if own := re.search("<script>(.*?)</script>", text, re.DOTALL):
        parts["HASH"] = base64.b64encode(hashlib.sha256(own[1].encode()).digest()).decode()
    # In one go: a part may hold what looks like the place of another.
    return re.sub("@([A-Z]+)@", lambda place: parts[place[1]], text)
