"""Puts Mermaid, which draws the pictures, into the site, so that a reader without a network sees them: a MkDocs hook.

`make docs` runs this file first, which has npm fetch Mermaid once. Where there is none, the site is built all the same:
the theme then has the reader's browser fetch it from its public address.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

VERSION = "11.17.2"  # of the major version that the theme asks for
SHA256 = "581ed7d74bd9048d0e3a91363927d72ef22942d7722546b27f7cc29e35390eb8"
KEPT = Path(__file__).parents[2] / "build" / f"mermaid-{VERSION}.min.js"
PLACE = "assets/javascripts/mermaid.min.js"
FETCH_S = 120
PICTURE, THEMES_OWN = '<pre class="mermaid">', '<script src="'


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the script to the site."""
    if KEPT.exists():
        files.append(File.generated(config, PLACE, abs_src_path=str(KEPT)))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Load the script on pages with a picture: before the theme's, which fetches it only if it is not there."""
    if not KEPT.exists() or PICTURE not in output:
        return output
    before, theirs, after = output.rpartition(THEMES_OWN)
    return f'{before}<script src="{get_relative_url(PLACE, page.url)}"></script>{theirs}{after}'


def fetch() -> str:
    """Have npm fetch the script, unless it is there. Return what keeps it away, or nothing."""
    if KEPT.exists():
        return ""
    if (npm := shutil.which("npm")) is None:
        return "there is no npm"
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--silent", f"mermaid@{VERSION}"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FETCH_S)
        except subprocess.TimeoutExpired:
            return f"npm has not fetched it within {FETCH_S} s"
        if done.returncode:
            return done.stderr.strip()[-500:]
        with tarfile.open(Path(folder) / f"mermaid-{VERSION}.tgz") as package:
            script = package.extractfile("package/dist/mermaid.min.js")
            assert script is not None
            content = script.read()
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        return f"mermaid {VERSION} has the digest {found}, not {SHA256}"
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_bytes(content)
    return ""


if __name__ == "__main__":
    if why := fetch():
        print(f"Mermaid is not in the site, readers' browsers will fetch it: {why}", file=sys.stderr)
