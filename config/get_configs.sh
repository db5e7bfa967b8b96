#!/bin/sh
# Downloads the settings files that the authors released (arXiv:2003.01513) into this folder; see usage below.
set -u
CDPATH='' cd -- "$(dirname -- "$0")" || exit 1
. ./download.sh
base=${CONFIGS_URL:-https://neuralalignpkls.s3-us-west-1.amazonaws.com}
folder=config
names="symmetric activation wm wm_tpe wm_tpe_ad wm_tpe_ad_ops information_tpe"

usage() {
    echo "usage: config/get_configs.sh            all of the authors' settings files"
    echo "       config/get_configs.sh NAME ...   some of them"
    echo "NAME: $names"
    echo "Each is config/NAME.pkl then, for --load_params_file. A download that was interrupted goes on where it stopped."
    echo "SHA-256 and size of each are kept in config/$record. Our own recipes: python -m config.recipes"
}

[ $# != 0 ] || set -- $names
[ "$1" != --help ] || { usage; exit; }
files=
for name in "$@"; do
    among "$name" "$names" || fail "the authors released no settings file $name, but $names; $ours" 2
    files="$files $name.pkl"
done
download $files
