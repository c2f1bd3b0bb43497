#!/usr/bin/env bash
# Make an environment with MONAI Label 0.8.5 for packed bundles: bash tools/hosts/monai_label/install.sh .hosts/monai_label
# PYTHON names the interpreter (3.11; default python3). Offline: PIP_NO_INDEX=1 PIP_FIND_LINKS=folder of wheels.
set -euo pipefail
folder=${1:?"name the folder of the environment, such as .hosts/monai_label"}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

"${PYTHON:-python3}" -m venv --clear "$folder"
run="$folder/bin/python"
"$run" -m pip install -q --disable-pip-version-check -r "$here/requirements.txt"
"$run" -m pip install -q --disable-pip-version-check --no-deps monailabel==0.8.5
if ! "$run" -c 'import torchvision' 2>/dev/null; then
    cp -r "$here/stubs/torchvision" "$("$run" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/"
fi
"$run" -m monailabel.main --version
