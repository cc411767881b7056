"""The AsyncAPI documents are valid, the Avro schemas in them too: the official parser from npm says so."""

import copy
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.describe.asyncapi import asyncapi
from pipeline.topology import Topology
from tests.bank.traffic import BANK

PACKAGE = "@asyncapi/parser@3.6.6"
INSTALL_S, PARSE_S = 300, 120
SCRIPT = """
import { Parser } from '@asyncapi/parser';
import fs from 'fs';
const parser = new Parser();
for (const file of process.argv.slice(2)) {
  const { document, diagnostics } = await parser.parse(fs.readFileSync(file, 'utf8'));
  const wrong = diagnostics.filter(d => d.severity < 2).map(d => `${d.path.join('/')}: ${d.message}`);
  const counts = document ? [document.channels().length, document.operations().length] : null;
  console.log(JSON.stringify({ counts, wrong }));
}
"""


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the parser, and the script that calls it."""
    npm, home = shutil.which("npm"), tmp_path_factory.mktemp("npm")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", PACKAGE]
    try:
        done = npm and subprocess.run(command, cwd=home, timeout=INSTALL_S, capture_output=True, text=True, check=False)
        why = "there is no npm" if not done else done.stderr[-500:] if done.returncode else ""
    except subprocess.TimeoutExpired:
        why = f"npm has not installed it within {INSTALL_S} s"
    if why:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"ASYNCAPI IS NOT VALIDATED: {why}")
    (home / "parse.mjs").write_text(SCRIPT)
    return home


def parsed(parser: Path, *documents: Any) -> list[Any]:
    files = [parser / f"{n}.json" for n in range(len(documents))]
    for file, document in zip(files, documents, strict=True):
        file.write_text(json.dumps(document))
    command = ["node", "parse.mjs", *map(str, files)]
    done = subprocess.run(command, cwd=parser, timeout=PARSE_S, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_documents_are_valid(parser: Path, shop_topology: Topology) -> None:
    shop, bank = asyncapi(shop_topology, version="1.0.0", partitions=4), asyncapi(BANK, version="7")
    public = asyncapi(shop_topology, version="1.0.0", public=True)
    for document, found in zip((shop, bank, public), parsed(parser, shop, bank, public), strict=True):
        assert found == {"counts": [len(document["channels"]), len(document["operations"])], "wrong": []}


def test_the_parser_finds_what_is_wrong(parser: Path, shop_topology: Topology) -> None:
    shop = asyncapi(shop_topology, version="1.0.0")
    dangling, no_type = copy.deepcopy(shop), copy.deepcopy(shop)
    del dangling["channels"]["orders.event"]
    del no_type["components"]["messages"]["orders.event"]["payload"]["schema"]["fields"][0]["type"]
    assert [bool(found["wrong"]) for found in parsed(parser, dangling, no_type)] == [True, True]
