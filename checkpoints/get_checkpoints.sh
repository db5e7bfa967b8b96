#!/bin/sh
# Downloads the checkpoints that the authors released (arXiv:2003.01513) into this folder. See usage() below.
set -u
CDPATH='' cd -- "$(dirname -- "$0")" || exit 1
. ../config/download.sh
base=${CHECKPOINTS_URL:-https://neuralalignckpts.s3-us-west-1.amazonaws.com}
folder=checkpoints
models="resnet18 resnet50 resnet50v2 resnet101v2 resnet152v2"
rules="symmetric activation information_tpe mirror"

usage() {
    echo "usage: checkpoints/get_checkpoints.sh              download all checkpoints"
    echo "       checkpoints/get_checkpoints.sh MODEL RULE   download one checkpoint"
    echo "MODEL: $models"
    echo "RULE:  $rules (mirror: resnet18 only)"
    echo "The script prints the sizes first. An interrupted download resumes where it stopped. The SHA-256 and the size of each"
    echo "file are stored in checkpoints/$record."
}

add() {  # MODEL RULE: adds the three files of a checkpoint to $files
    case $2 in
        symmetric | activation) prefix=$1/$2/model.ckpt-450360 ;;
        information_tpe) prefix=$1/$2/model.ckpt-1000800 ;;
        mirror) prefix=$1/$2/model.ckpt-126250 ;;
    esac
    files="$files $prefix.meta $prefix.index $prefix.data-00000-of-00001"
}

files=
if [ $# = 0 ]; then
    for model in $models; do
        for rule in symmetric activation information_tpe; do
            add "$model" "$rule"
        done
    done
    add resnet18 mirror
elif [ "$1" = --help ]; then
    usage
    exit
elif [ $# = 2 ] && among "$1" "$models" && among "$2" "$rules"; then
    [ "$2" != mirror ] || [ "$1" = resnet18 ] || fail "The authors released mirror for resnet18 only." 2
    add "$1" "$2"
else
    usage >&2
    fail "Give MODEL and RULE for one checkpoint, or nothing for all of them." 2
fi
download $files
for file in $files; do
    case $file in *.meta) echo "checkpoints/${file%.meta} is complete. Use it with --load_checkpoint." ;; esac
done
