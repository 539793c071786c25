#!/usr/bin/env bash
# Looks whether a known weakness is in a lock. Exits with 69 where the service does not answer.
# usage: requirements/audit.sh VENV LOCK
set -euo pipefail
venv=$1 lock=$2
service=https://api.osv.dev

# Asked for one that everybody knows first: where nothing is known, pip-audit would find nothing.
if ! "$venv/bin/python" -c "
import json, urllib.request
asked = b'{\"version\": \"9.0.1\", \"package\": {\"name\": \"pip\", \"ecosystem\": \"PyPI\"}}'
json.load(urllib.request.urlopen('$service/v1/query', asked, timeout=5))['vulns'][0]
" 2>/dev/null; then
    echo "audit: NOT DONE, as the service of known weaknesses, $service, does not answer here" >&2
    exit 69
fi
tools=$("$(dirname "${BASH_SOURCE[0]}")/release_tools.sh" "$venv")
# A build's local part (2.13.0+cpu) is no version that the service knows.
sed -E 's/^([a-z0-9._-]+==[^ +]+)\+[a-z0-9]+/\1/' "$lock" >.cache/audited.txt
"$tools/pip-audit" --vulnerability-service osv --requirement .cache/audited.txt --strict --no-deps --disable-pip \
    --progress-spinner off
