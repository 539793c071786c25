#!/usr/bin/env bash
# Chromium for the console's tests, where there is none yet. A machine that cannot have it goes without:
# pytest's header says so, and leaves those tests out.
set -euo pipefail

for name in chromium chromium-browser google-chrome google-chrome-stable; do
    command -v "$name" >/dev/null && exit 0
done

# Ubuntu's package of that name is a snap, which does not run in containers.
id=$(. /etc/os-release 2>/dev/null && echo "${ID:-}" || true)
if [ "$id" = debian ] && [ "$EUID" = 0 ] && command -v apt-get >/dev/null; then
    printf '\033[1m==> apt-get install chromium, for the tests of the console\033[0m\n'
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends chromium >/dev/null && exit 0
fi
echo "no Chromium: the tests of the console are left out (Debian: apt-get install chromium)" >&2
