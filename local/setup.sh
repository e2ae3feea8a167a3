#!/bin/sh
# Set up what `make run` and `make test` need: a virtual environment with Python 3.13, pip and npm
# packages. Run again, it does nothing. Whatever is missing is said in one line.
set -eu
cd "$(dirname "$0")/.."
requirements=${1:-requirements-dev.txt}

say() { printf '%s\n' "$*" >&2; }

wanted=$(cat .python-version)

suits() { # a command that is Python of the wanted version, or newer
    [ -n "${1:-}" ] && "$1" -c "import sys; sys.exit(sys.version_info < tuple(map(int, '$wanted'.split('.'))))" >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-} "python$wanted" python3 python; do
        if suits "$candidate"; then command -v "$candidate"; return; fi
    done
    if command -v uv >/dev/null 2>&1; then
        uv python find "$wanted" 2>/dev/null || { uv python install -q "$wanted" && uv python find "$wanted"; }
    fi
}

# --- Python --------------------------------------------------------------------------------------
if ! suits .venv/bin/python; then
    python=$(find_python || true)
    if [ -z "$python" ]; then
        say "Python $wanted is needed and was not found: install it (pyenv install $wanted, uv python install $wanted, or python.org), or set PYTHON to it."
        exit 1
    fi
    say "Setting up a virtual environment with $("$python" --version 2>&1) …"
    rm -rf .venv
    "$python" -m venv .venv || {
        say "Python's venv module failed: on Debian and Ubuntu, install python$wanted-venv."
        exit 1
    }
fi
stamp=.venv/.installed
fingerprint=$(cat requirements.txt requirements-dev.txt | cksum)
if [ "$(cat $stamp 2>/dev/null || true)" != "$fingerprint" ]; then
    say "Installing Python packages …"
    .venv/bin/python -m pip install -qq --disable-pip-version-check -r "$requirements" || {
        say "pip could not install $requirements: the lines above say why."
        exit 1
    }
    printf '%s' "$fingerprint" >$stamp
fi

# --- Node, for Azurite ---------------------------------------------------------------------------
if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
    say "Node.js 20 or newer is needed for Azurite, the storage emulator, and was not found: install it (nodejs.org, or apt-get install nodejs npm)."
    exit 1
fi
major=$(node --version | sed 's/^v\([0-9]*\).*/\1/')
if [ "$major" -lt 20 ]; then
    say "Node.js 20 or newer is needed for Azurite, and this is $(node --version): install a newer one."
    exit 1
fi
fingerprint=$(cat package.json package-lock.json | cksum)
if [ "$(cat node_modules/.installed 2>/dev/null || true)" != "$fingerprint" ]; then
    say "Installing Azurite, the storage emulator …"
    npm ci --silent --ignore-scripts >&2 || {
        say "npm could not install Azurite: the lines above say why."
        exit 1
    }
    printf '%s' "$fingerprint" >node_modules/.installed
fi

# --- Simulated nodes -----------------------------------------------------------------------------
# Nodes are network namespaces with firewalls of their own. Without these commands they are recorded text,
# which the simulator says when it starts: nothing here is worth stopping for.
missing=
while read -r command package; do
    if ! PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null 2>&1; then missing="$missing $package"; fi
done <<EOF
iptables-nft-restore iptables
nft nftables
ufw ufw
ipset ipset
ip iproute2
nc netcat-openbsd
gzip gzip
EOF
stamp=.venv/.nodes
if [ -n "$missing" ] && [ "$(cat $stamp 2>/dev/null || true)" != "$missing" ]; then
    if [ "$(uname -s)" != Linux ]; then
        say "Simulated nodes will be recorded text: there are network namespaces on Linux only."
    elif [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "Installing what simulated nodes need:$missing …"
        export DEBIAN_FRONTEND=noninteractive
        # shellcheck disable=SC2086 # a list of packages
        { apt-get install -qq -y --no-install-recommends $missing ||
            { apt-get update -qq && apt-get install -qq -y --no-install-recommends $missing; }; } >/dev/null 2>&1 ||
            say "apt-get could not install$missing: simulated nodes will lack them, or be recorded text."
    else
        say "Simulated nodes will lack these, or be recorded text; as root: apt-get install$missing"
    fi
    printf '%s' "$missing" >$stamp # said once
fi
