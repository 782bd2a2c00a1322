#!/bin/sh
# Makes a fresh clone ready: the pinned Bun and the packages. Quiet when all is there; prints where Bun is with --print.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
bootstrap
if [ "${1:-}" = --print ]; then printf '%s\n' "$BUN"; fi
