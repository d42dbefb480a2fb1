"""Pages as headless Chromium shows them."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no chromium, chromium-browser or google-chrome here")
PHONE = 375  # CSS pixels


def browse(page: Path, settings: str = "", *flags: str) -> tuple[str, str]:
    """The page as it stands after its scripts ran, with `settings` behind its address; what its console says."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        f"--user-data-dir={page.parent / 'profile'}", *flags, "--dump-dom", f"file://{page}{settings}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def measured(page: Path, tmp_path: Path, script: str, width: int = PHONE):
    """What `script`, the body of a function of `document`, returns of the page at a width, in a frame: Chromium's own
    windows have 500 pixels at least."""
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<body style="margin:0"><pre></pre><iframe style="border:0;width:{width}px;height:2000px" '
        f'srcdoc="{html.escape(page.read_text(encoding="utf-8"))}"></iframe><script>onload = () => {{'
        f'const measure = new Function("document", {json.dumps(script)}), frame = document.querySelector("iframe");'
        'document.querySelector("pre").textContent = JSON.stringify(measure(frame.contentDocument)); frame.remove()'
        "}</script>",
        encoding="utf-8",
    )
    shown, _ = browse(frame, "", f"--window-size={max(width, 500)},2000")
    return json.loads(html.unescape(re.search("<pre>(.*?)</pre>", shown, re.DOTALL)[1]))


def stands_out(page: Path, tmp_path: Path, width: int = PHONE) -> list[str]:
    """Elements that reach beyond the page at this width, unless they can be scrolled within; all details are open."""
    script = """
      for (const part of document.querySelectorAll("details")) part.open = true;
      const wide = document.documentElement.clientWidth;
      const scrolls = (e) => e && (getComputedStyle(e).overflowX !== "visible" || scrolls(e.parentElement));
      const out = [...document.querySelectorAll("body *")].filter((e) =>
        !scrolls(e.parentElement) && e.getBoundingClientRect().right > wide + 0.5);
      const moved = document.documentElement.scrollWidth > wide;
      return [...out.map((e) => e.outerHTML.slice(0, 80)), ...(moved ? ["the page scrolls"] : [])];
    """
    return measured(page, tmp_path, script, width)
