#!/bin/sh
# Make sure that programs are there, from Debian's packages where they are not: packages.sh PROGRAM[|PROGRAM]=PACKAGE …
# A service that such a package would start is kept from starting: the stack and the tests start their own.
set -eu

have() {
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || ls /usr/lib/postgresql/*/bin/"$1" >/dev/null 2>&1
}

missing=''
for pair in "$@"; do
    found=''
    for program in $(printf '%s' "${pair%%=*}" | tr '|' ' '); do
        if have "$program"; then found=yes; fi
    done
    [ -n "$found" ] || missing="$missing ${pair#*=}"
done
[ -n "$missing" ] || exit 0
missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')

as_root=''
if [ "$(id -u)" -ne 0 ]; then as_root=sudo; fi
if ! command -v apt-get >/dev/null 2>&1 || { [ -n "$as_root" ] && ! command -v sudo >/dev/null 2>&1; }; then
    echo "missing: ${missing}(Debian's package names). Install them with your system's package manager, put them on PATH, and try again; or run the demo with: docker compose -f compose.demo.yaml up" >&2
    exit 1
fi

echo "Installing Debian packages: $missing"
policy=/usr/sbin/policy-rc.d
placed=''
log=$(mktemp)
trap '[ -z "$placed" ] || $as_root rm -f "$policy"; rm -f "$log"' EXIT
trap 'exit 130' HUP INT TERM
if [ ! -e "$policy" ]; then
    placed=yes
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi
install() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing >"$log" 2>&1
}
if ! { $as_root apt-get update >"$log" 2>&1 && install; }; then
    tail -n 15 "$log" >&2
    echo "could not install: ${missing}(see above); install them by hand and try again" >&2
    exit 1
fi
