# The functions that config/get_configs.sh and checkpoints/get_checkpoints.sh share. They download files from a web server,
# each completely or not at all. Both scripts source this file, and it downloads into the current folder. It needs sh, curl,
# and sha256sum or shasum.
#
# While a file is downloaded, FILE.part contains its first bytes, and FILE.part.version the size and the version of the file
# on the server. checksums.txt stores the SHA-256 and the size of each file at the time when its download was complete.
LC_ALL=C
export LC_ALL
record=checksums.txt
busy=.downloading  # contains the id of the process that downloads into this folder
ours='`python -m config.recipes` writes our own recipes.'

fail() {  # SENTENCE [EXIT CODE]
    echo "error: $1" >&2
    exit "${2:-1}"
}

among() {  # WORD WORDS
    for each in $2; do
        [ "$each" != "$1" ] || return 0
    done
    return 1
}

sha256() {
    { sha256sum "$1" 2>/dev/null || shasum -a 256 "$1" 2>/dev/null; } | cut -d ' ' -f 1
}

size_of() {
    wc -c <"$1" | tr -d ' '
}

kept_sum() {  # FILE: prints its checksum from its first complete download, if there was one
    awk -v file="$1" '$3 == file {print $1; exit}' "$record" 2>/dev/null
}

readable() {  # BYTES
    echo "$1" | awk '{split("bytes kB MB GB TB", unit); n = 1; while ($1 >= 999.95 && n < 5) {$1 /= 1000; n++}
                      printf(n == 1 ? "%d %s\n" : "%.1f %s\n", $1, unit[n])}'
}

# is_here FILE: succeeds if FILE was downloaded before. Ends the script if FILE has changed since, or was not downloaded.
is_here() {
    [ -e "$1" ] || return 1
    [ -n "$(kept_sum "$1")" ] || fail "$folder/$1 was not downloaded from $base. Move it elsewhere and run this again."
    [ "$(sha256 "$1")" = "$(kept_sum "$1")" ] || fail "$folder/$1 changed after its download. Remove it and run this again."
}

# ask FILE: prints the size of the file on the server and its version, which is an ETag or a date for If-Range, or empty.
ask() {
    headers=$(curl --silent --location --head --connect-timeout 30 --max-time 120 --retry 2 "$base/$1") ||
        fail "$base does not answer (curl: $?). Check the network and run the same command again. $ours"
    headers=$(printf '%s\n' "$headers" | tr -d '\r' | awk '
        /^HTTP\// {status = $2; size = etag = date = ""}
        tolower($1) == "content-length:" {size = $2}
        tolower($1) == "etag:" && $2 ~ /^"/ {etag = substr($0, index($0, "\""))}
        tolower($1) == "last-modified:" {date = substr($0, index($0, $2))}
        END {print status, size, etag != "" ? etag : date}')
    status=${headers%% *}
    case $status in
        200) ;;
        403 | 404 | 410) fail "$base has no $1 (HTTP $status), so its address may have changed. $ours" ;;
        *) fail "$base answers HTTP ${status:-nothing} for $1. Run the same command later. $ours" ;;
    esac
    headers=${headers#* }
    case ${headers%% *} in
        '' | *[!0-9]*) fail "$base does not send the size of $1, so an incomplete download could not be noticed. $ours" ;;
    esac
    printf '%s\n' "$headers"
}

# bring FILE SIZE VERSION: downloads FILE, and resumes where an earlier download of the same version stopped.
bring() {
    mkdir -p "$(dirname "$1")" || exit 1
    if [ -z "$3" ] || [ "$(cat "$1.part.version" 2>/dev/null)" != "$2 $3" ] || [ "$(size_of "$1.part")" -gt "$2" ]; then
        rm -f "$1.part"  # of another or an unknown version
    fi 2>/dev/null
    printf '%s\n' "$2 $3" >"$1.part.version" || exit 1
    if [ ! -e "$1.part" ] || [ "$(size_of "$1.part")" -lt "$2" ]; then
        echo "$1 ($(readable "$2"))"
        transfer "$1" "$3"
    fi
    [ "$(size_of "$1.part")" = "$2" ] || {
        rm -f "$1.part"
        fail "The download of $1 has another size than the $2 bytes that $base announced. Run the same command again."
    }
    sum=$(sha256 "$1.part")
    kept=$(kept_sum "$1")
    [ "$sum" = "${kept:-$sum}" ] || fail "$1 of $base is no longer the file that was downloaded first: its SHA-256 is $sum and \
was $kept. Remove its line from $folder/$record to accept the new file."
    [ -n "$kept" ] || echo "$sum $2 $1" >>"$record" || exit 1
    mv "$1.part" "$1" && rm -f "$1.part.version" || exit 1
}

# transfer FILE VERSION: downloads the missing rest of FILE.part, or all of it if the file on the server has changed.
transfer() {
    set -- "$1" "$2" --fail --location --progress-bar --connect-timeout 30 --speed-limit 1 --speed-time 120
    file=$1 version=$2
    shift 2
    if [ -s "$file.part" ]; then
        curl "$@" --continue-at - --header "If-Range: $version" --output "$file.part" "$base/$file" && return
        [ $? = 33 ] || fail "The download of $file stopped. Run the same command again to resume it."
        rm -f "$file.part"  # the server sends a changed file completely, and curl does not append that to a part
    fi
    curl "$@" --output "$file.part" "$base/$file" ||
        fail "The download of $file stopped. Run the same command again to resume it."
}

# alone: ends the script if another process downloads into this folder.
alone() {
    if ! (set -C && echo $$ >"$busy") 2>/dev/null; then
        other=$(cat "$busy" 2>/dev/null)
        ! kill -0 "$other" 2>/dev/null ||
            fail "Process $other already downloads into $folder. Wait until it ends, or remove $folder/$busy."
        { echo $$ >"$busy"; } 2>/dev/null || fail "Nothing can be written into $folder. Check the permissions and the disk."
    fi
    trap 'rm -f "$busy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

# download FILE...: downloads all files from $base into the current folder, and prints their sizes first. Messages call the
# folder $folder.
download() {
    command -v curl >/dev/null || fail "curl is not installed. Install it and run the same command again. $ours"
    [ -n "$(sha256 /dev/null)" ] || fail "Neither sha256sum nor shasum is installed, so there are no checksums. Install one."
    alone
    wanted=
    for file in "$@"; do
        is_here "$file" || wanted="$wanted $file"
    done
    [ -n "$wanted" ] || { echo "All files are here, as they were downloaded."; return; }
    echo "Asking $base for the sizes."
    plan=
    for file in $wanted; do
        answer=$(ask "$file") || exit 1
        plan="$plan$file $answer
"
        printf '%10s  %s\n' "$(readable "${answer%% *}")" "$file"
    done
    total=$(printf %s "$plan" | awk '{total += $2; files++} END {printf "%.0f %d", total, files}')
    echo "$(readable "${total% *}") in all, ${total#* } files from $base"
    printf %s "$plan" | while read -r file size version; do
        bring "$file" "$size" "$version" </dev/null
    done || exit 1
}
