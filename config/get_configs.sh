#!/bin/sh
# Write every shipped recipe as config/<name>.pkl, for --load_params_file. Names as arguments write those alone.
cd "$(dirname "$0")/.." && exec "${PYTHON:-python3}" -m config.recipes "$@"
