#!/usr/bin/env bash
# Fills a virtual environment with exactly what a lock names.
# usage: requirements/install.sh VENV LOCK
#
# uv installs a lock several times faster than pip, but does not read pip's settings: a configured
# index or wheel folder is handed over. Where uv cannot do it, pip does.
set -euo pipefail
venv=$1 lock=$2
python=$venv/bin/python
torch_index=https://download.pytorch.org/whl/cpu

[ -x "$python" ] || { echo "$python is missing: create the environment first" >&2; exit 1; }

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
pip_settings=$("$python" -m pip config list)
pip_setting() { # pip_setting NAME: its value, from the environment or any pip.conf
    local scope value
    for scope in :env: install global; do
        value=$(sed -nE "s/^$scope\.$1='(.*)'$/\1/p" <<<"$pip_settings")
        [ -z "$value" ] || { printf '%b' "$value"; return; }
    done
}
pinned() { grep -E "^$1==" "$lock" | cut -d' ' -f1; } # pinned NAME: its line in the lock

use_pip() { "$python" -m pip install -qq --disable-pip-version-check --no-deps "$@"; }
use_uv() { "$venv/bin/uv" pip install --python "$python" --no-deps "$@"; }
install() { use_uv "$@" || { say "uv could not; trying pip"; use_pip "$@"; }; }

hand_pip_settings_to_uv() {
    local index extra links cert
    index=$(pip_setting index-url) extra=$(pip_setting extra-index-url)
    links=$(pip_setting find-links) cert=$(pip_setting cert)
    [ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
    [ -z "$extra" ] || export UV_INDEX=${UV_INDEX:-$(xargs <<<"$extra")}
    [ -z "$links" ] || export UV_FIND_LINKS=${UV_FIND_LINKS:-$(xargs <<<"$links" | tr ' ' ',')}
    [ -z "$cert" ] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$cert}
    export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true} UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}
    # pip looks for the best match in all indexes; so must uv, or a partial mirror hides versions.
    export UV_INDEX_STRATEGY=${UV_INDEX_STRATEGY:-unsafe-best-match} UV_LINK_MODE=${UV_LINK_MODE:-copy}
}

hand_pip_settings_to_uv
use_pip "$(pinned uv)"

torch=$(pinned torch)
say "$torch"
install "$torch" || {
    say "not on the configured index; trying PyTorch's own, for this one package"
    use_pip --index-url "$torch_index" "$torch"
}
say "the rest of $lock"
install --requirement "$lock"
