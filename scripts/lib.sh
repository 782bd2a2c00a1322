# Sourced by the shell scripts of this folder: finds or fetches the one Bun version that package.json pins, and the
# packages of bun.lock. POSIX sh, quiet when all is there. Sets BUN to an absolute path and puts it first in PATH.
# Expects the working directory to be the project's root.

say() { printf '%s\n' "$*" >&2; }
die() {
  say "$0: $*"
  exit 1
}

# long WHAT LOG FOLDER COMMAND...: runs it, its output in LOG. From the second second on says that it does WHAT, how much lies in FOLDER
# (- for none) and since when: over and over on a terminal, every ten seconds elsewhere. What was over at once it says nothing of.
long() {
  what=$1 log=$2 folder=$3
  shift 3
  began=$(date +%s)
  tell_long &
  teller=$!
  code=0
  "$@" >"$log" 2>&1 || code=$?
  kill "$teller" 2>/dev/null && wait "$teller" 2>/dev/null || :
  took=$(($(date +%s) - began))
  if [ "$took" -gt 0 ] && is_terminal; then printf '\r\033[K' >&2; fi
  if [ "$took" -gt 1 ] && [ "$code" -eq 0 ]; then say "$what: $took s"; fi
  return "$code"
}

is_terminal() { [ -t 2 ] && [ "${TERM:-dumb}" != dumb ]; }

# Nobody waits for the sleep that it leaves behind, and it ends with the script that it belongs to.
tell_long() {
  seconds=0
  while sleep 1 </dev/null >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
    seconds=$((seconds + 1))
    size=
    if [ "$folder" != - ]; then size="$(($(du -sk "$folder" 2>/dev/null | cut -f 1) / 1024)) MiB, "; fi
    if is_terminal; then
      printf '\r\033[K%s: %s%s s' "$what" "$size" "$seconds" >&2
    elif [ $((seconds % 10)) -eq 0 ]; then
      say "$what: $size$seconds s"
    fi
  done
}

pinned_bun() {
  # The only place of the version is package.json: "engines": { "bun": "x.y.z" }.
  sed -n '/"engines"/,/}/s/.*"bun"[[:space:]]*:[[:space:]]*"\([0-9][0-9.]*\)".*/\1/p' package.json | head -n 1
}

is_bun() {
  [ -x "$1" ] && [ "$("$1" --version 2>/dev/null)" = "$BUN_VERSION" ]
}

# Prints the path of a right Bun, if there is one.
find_bun() {
  for candidate in "$(command -v bun 2>/dev/null)" node_modules/.bin/bun .cache/bun/node_modules/.bin/bun \
    .cache/bun/node_modules/@oven/bun-*/bin/bun; do
    if [ -n "$candidate" ] && is_bun "$candidate"; then
      case $candidate in
      /*) printf '%s\n' "$candidate" ;;
      *) printf '%s/%s\n' "$PWD" "$candidate" ;;
      esac
      return 0
    fi
  done
  return 1
}

# What was fetched must be the very bytes that scripts/bun.sha256 names, before any of it runs: a version is a name that others give.
check_fetched() {
  command -v sha256sum >/dev/null 2>&1 || die "needs sha256sum (Debian: apt-get install coreutils)"
  for fetched in .cache/bun/node_modules/@oven/bun-*/bin/bun; do
    [ -f "$fetched" ] || continue
    hash=$(sha256sum "$fetched" | cut -d ' ' -f 1)
    grep -q "^$hash  bun-" scripts/bun.sha256 || {
      rm -rf .cache/bun/node_modules
      die "$fetched has the SHA-256 $hash, which scripts/bun.sha256 does not name: it was removed, and nothing of it ran"
    }
  done
}

add_bun() (cd .cache/bun && bun add --ignore-scripts --exact "bun@$BUN_VERSION")

install_bun() {
  mkdir -p .cache/bun || die "cannot write to $PWD/.cache"
  if command -v npm >/dev/null 2>&1; then
    say "fetching bun $BUN_VERSION with npm (once, about 100 MiB, into .cache/bun)"
    long "fetching bun" .cache/bun/install.log .cache/bun \
      npm install --no-save --no-audit --no-fund --no-package-lock --include=optional --ignore-scripts --loglevel=error \
      --prefix .cache/bun "bun@$BUN_VERSION" ||
      { tail -n 20 .cache/bun/install.log >&2; die "npm could not install bun@$BUN_VERSION; see above"; }
  elif command -v bun >/dev/null 2>&1; then
    say "fetching bun $BUN_VERSION with the bun $(bun --version) that is here (once, about 100 MiB, into .cache/bun)"
    printf '{ "private": true }\n' >.cache/bun/package.json
    long "fetching bun" .cache/bun/install.log .cache/bun add_bun ||
      { tail -n 20 .cache/bun/install.log >&2; die "bun could not install bun@$BUN_VERSION; see above"; }
  else
    die "needs bun $BUN_VERSION, or npm to fetch it: install one of them (Debian: apt-get install npm)"
  fi
  check_fetched
}

# Every script starts with this.
bootstrap() {
  [ -f package.json ] || die "no package.json in $PWD"
  BUN_VERSION=$(pinned_bun)
  [ -n "$BUN_VERSION" ] || die "package.json pins no bun version under engines"
  BUN=$(find_bun) || {
    install_bun
    BUN=$(find_bun) || die "bun $BUN_VERSION was installed but does not run; see .cache/bun/install.log"
  }
  # A wrong bun may stand first in PATH, and the scripts of package.json say plain bun.
  mkdir -p .cache/bin || die "cannot write to $PWD/.cache"
  if [ "$BUN" != "$PWD/.cache/bin/bun" ]; then
    [ "$(readlink .cache/bin/bun 2>/dev/null)" = "$BUN" ] || ln -sf "$BUN" .cache/bin/bun
    PATH=$PWD/.cache/bin:$PATH
  fi
  export BUN PATH
  # bun itself decides in milliseconds that nothing is missing.
  long "installing packages" .cache/packages.log - "$BUN" install --frozen-lockfile || {
    cat .cache/packages.log >&2
    die "the packages of bun.lock could not be installed; see above (without network they must be in the cache of bun)"
  }
}
