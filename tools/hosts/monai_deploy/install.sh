#!/usr/bin/env bash
# Build the environment of MONAI Deploy: tools/hosts/monai_deploy/install.sh [FOLDER]     default: .hosts/monai_deploy
# Another interpreter: PYTHON=python3.12 tools/hosts/monai_deploy/install.sh              Nothing is done when it is up to date.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${1:-$here/../../../.hosts/monai_deploy}
python=${PYTHON:-python3}

"$python" -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else "Python must be 3.10 to 3.13, got %d.%d: choose another one with PYTHON=python3.11" % v)'
made_of=$("$python" -c 'import hashlib, sys; print(sys.version.split()[0], *(hashlib.sha256(open(f, "rb").read()).hexdigest() for f in sys.argv[1:]))' \
    "$here/requirements.txt" "$here/install.sh")
if [ "$(cat "$target/.installed" 2>/dev/null)" = "$made_of" ]; then
    touch "$target/.installed"
    echo "$target is up to date"
    exit 0
fi

started=$SECONDS
rm -rf "$target"
mkdir -p "$(dirname "$target")"
"$python" -m venv "$target"
"$target/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
ulimit -S -s 32768 2>/dev/null || true  # what Holoscan asks for
"$target/bin/python" -I -W ignore -c 'import monai.deploy.core, monai.deploy.operators, highdicom, transformers'
echo "$made_of" > "$target/.installed"
echo "$target was made in $(( SECONDS - started )) s"
