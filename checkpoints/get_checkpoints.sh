#!/bin/bash
# Downloads checkpoints that the authors released (arXiv:2003.01513) into this folder; see usage below.
set -u
cd "$(dirname "$0")" || exit 1
base=${CHECKPOINTS_URL:-https://neuralignckpts.s3-us-west-1.amazonaws.com}
models="resnet18 resnet50 resnet50v2 resnet101v2 resnet152v2"
rules="symmetric activation information_tpe mirror"
record=checksums.txt  # SHA-256, size in bytes, file: of every file as it was when it had come whole

usage() {
    echo "usage: checkpoints/get_checkpoints.sh MODEL RULE   one checkpoint"
    echo "       checkpoints/get_checkpoints.sh all          all of them"
    echo "MODEL: $models"
    echo "RULE:  $rules (mirror: resnet18 only)"
    echo "A download that was interrupted goes on where it stopped. Sizes and SHA-256 are kept in checkpoints/$record."
}

fail() {
    echo "error: $1" >&2
    exit "${2:-1}"
}

step_of() {
    case $1 in
        symmetric | activation) echo 450360 ;;
        information_tpe) echo 1000800 ;;
        mirror) echo 126250 ;;
    esac
}

sha256() {
    { sha256sum "$1" 2>/dev/null || shasum -a 256 "$1"; } | cut -d ' ' -f 1
}

size_of() {
    wc -c <"$1" | tr -d ' '
}

# remote_size URL: the size in bytes that the server tells.
remote_size() {
    local headers code
    headers=$(curl --silent --fail --location --head --retry 2 "$1")
    code=$?
    [ $code = 22 ] && fail "$base has no ${1#"$base"/}; the address may have changed (CHECKPOINTS_URL gives another)"
    [ $code = 0 ] || fail "$base cannot be reached (curl: $code); check the network, then run the same command again"
    echo "$headers" | tr -d '\r' | awk 'tolower($1) == "content-length:" {size = $2} END {print size}'
}

# fetch FILE: brings one file, or checks the one that is there.
fetch() {
    local file=$1 size kept
    kept=$(awk -v file="$file" '$3 == file {sum = $1} END {print sum}' "$record" 2>/dev/null)
    if [ -f "$file" ] && [ -n "$kept" ]; then
        [ "$(sha256 "$file")" = "$kept" ] || fail "checkpoints/$file is not what was downloaded; remove it and run this again"
        echo "$file is here"
        return
    fi
    size=$(remote_size "$base/$file") || exit 1
    [ -n "$size" ] || fail "$base does not tell the size of $file, so that a part of it could pass for the whole"
    mkdir -p "$(dirname "$file")" || exit 1
    if [ -f "$file.part" ] && [ "$(size_of "$file.part")" -gt "$size" ]; then
        rm "$file.part"
    fi
    if [ ! -f "$file.part" ] || [ "$(size_of "$file.part")" -lt "$size" ]; then
        echo "$file ($size bytes)"
        curl --fail --location --progress-bar --continue-at - --output "$file.part" "$base/$file" ||
            fail "the download of $file stopped; run the same command again, and it goes on from there"
    fi
    [ "$(size_of "$file.part")" = "$size" ] || fail "$file has $(size_of "$file.part") bytes and should have $size; run this again"
    echo "$(sha256 "$file.part") $size $file" >>"$record" && mv "$file.part" "$file" || exit 1
}

# checkpoint MODEL RULE: its three files.
checkpoint() {
    local prefix ending
    prefix=$1/$2/model.ckpt-$(step_of "$2")
    for ending in meta index data-00000-of-00001; do
        fetch "$prefix.$ending" || exit 1
    done
    echo "checkpoints/$prefix is whole; give it to --load_checkpoint"
}

among() {
    case " $2 " in *" $1 "*) return 0 ;; *) return 1 ;; esac
}

if [ $# = 1 ] && [ "$1" = --help ]; then
    usage
elif [ $# = 1 ] && [ "$1" = all ]; then
    for model in $models; do
        for rule in symmetric activation information_tpe; do
            checkpoint "$model" "$rule"
        done
    done
    checkpoint resnet18 mirror
elif [ $# = 2 ] && among "$1" "$models" && among "$2" "$rules"; then
    [ "$2" != mirror ] || [ "$1" = resnet18 ] || fail "mirror was released for resnet18 only" 2
    checkpoint "$1" "$2"
else
    usage >&2
    fail "say which checkpoint: MODEL RULE, or all" 2
fi
