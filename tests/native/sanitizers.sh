#!/bin/sh
# Builds the native lanes and the emulated runtime with the sanitizers, and stresses them: sanitizers.sh [jobs]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
for sanitizer in thread address,undefined; do
    ${CC:-cc} -std=c11 -D_GNU_SOURCE -g -O1 -Wall -Wextra -Werror -pthread "-fsanitize=$sanitizer" -fno-sanitize-recover=all \
        "-I$root/ort_rknn/native" -o "$build/stress" "$here/stress.c" "$root"/ort_rknn/native/*.c "$root"/tests/emulator/*.c
    echo "== $sanitizer"
    TSAN_OPTIONS=halt_on_error=1 timeout 300 "$build/stress" "${1:-1500}"
done
