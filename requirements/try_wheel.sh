#!/usr/bin/env bash
# Installs the wheel of dist/ with nothing but a lock, far from the sources, and asks a server of it.
# usage: requirements/try_wheel.sh VENV LOCK MODEL
set -euo pipefail
venv=$(realpath "$1") lock=$(realpath "$2") model=$(realpath "$3") wheel=$(realpath dist/*.whl)
install=$(realpath "$(dirname "${BASH_SOURCE[0]}")")/install.sh
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
unset PYTHONPATH

"$venv/bin/python" -m venv own
echo "installing the lock into an environment of its own"
"$install" own "$lock" >install.txt 2>&1 || { cat install.txt >&2; exit 1; }
own/bin/uv pip install --quiet --python own/bin/python --no-deps "$wheel"
own/bin/flora --version
own/bin/flora --help >help.txt && [ -s help.txt ]
own/bin/python - "$model" <<'PYTHON'
"""A server of the installed package, the smallest that answers."""
import sys
from pathlib import Path

import httpx
from rich.console import Console

import app
from benchmarks.served import served

model, place = Path(sys.argv[1]), Path.cwd()
assert place in Path(app.__file__).parents, app.__file__
with served(model, place, Console(stderr=True), "--engine", "echo") as url:
    body = {"model": model.name, "prompt": "Ahoy", "max_tokens": 3}
    answer = httpx.post(f"{url}/v1/completions", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    print(f"{app.__file__} answers: {answer.json()['choices'][0]['text']}")
PYTHON
