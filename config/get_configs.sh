#!/bin/sh
# Downloads the settings files that the authors released (arXiv:2003.01513) into this folder. See usage() below.
set -u
CDPATH='' cd -- "$(dirname -- "$0")" || exit 1
. ./download.sh
base=${CONFIGS_URL:-https://neuralalignpkls.s3-us-west-1.amazonaws.com}
folder=config
names="symmetric activation wm wm_tpe wm_tpe_ad wm_tpe_ad_ops information_tpe"

usage() {
    echo "usage: config/get_configs.sh            download all of the authors' settings files"
    echo "       config/get_configs.sh NAME ...   download some of them"
    echo "NAME: $names"
    echo "Each is stored as config/NAME.pkl, for --load_params_file. An interrupted download resumes where it stopped. The"
    echo "SHA-256 and the size of each file are stored in config/$record. python -m config.recipes writes our own recipes."
}

[ $# != 0 ] || set -- $names
[ "$1" != --help ] || { usage; exit; }
files=
for name in "$@"; do
    among "$name" "$names" || fail "The authors released no settings file $name, only $names. $ours" 2
    files="$files $name.pkl"
done
download $files
