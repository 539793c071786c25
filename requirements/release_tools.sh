#!/usr/bin/env bash
# Sets up the release's tools apart from everything else, and prints the folder of their commands.
# usage: requirements/release_tools.sh VENV
set -euo pipefail
uv=$1/bin/uv here=$(dirname "${BASH_SOURCE[0]}") tools=.cache/release-tools
export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true}
"$uv" venv --quiet --allow-existing --python "$1/bin/python" "$tools"
"$uv" pip sync --quiet --python "$tools/bin/python" "$here/release.txt"
echo "$tools/bin"
