#!/usr/bin/env bash
# What an environment is made of: a bill of materials in CycloneDX's form, and a list of licences.
# usage: requirements/sbom.sh VENV OUT
set -euo pipefail
venv=$1 out=$2
tools=$("$(dirname "${BASH_SOURCE[0]}")/release_tools.sh" "$venv")
mkdir -p "$out"
"$tools/cyclonedx-py" environment "$venv/bin/python" --pyproject pyproject.toml --mc-type application \
    --output-reproducible --output-format JSON --output-file "$out/sbom.cyclonedx.json"
"$tools/pip-licenses" --python "$venv/bin/python" --from mixed --order license --with-urls \
    --format csv --output-file "$out/licences.csv"
