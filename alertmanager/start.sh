#!/bin/sh
# Starts Alertmanager without the receivers that have no address (alertmanager.yml):
#   start.sh --config.file=/run/alertmanager/alertmanager.yml OPTIONS
#   start.sh   writes that file anew and ends; for a change without a restart, before Alertmanager is told to reload
set -eu
umask 077 # an address is a secret
config=${CONFIG:-/etc/alertmanager/config}
secrets=${SECRETS:-/etc/alertmanager/secrets}
written=${WRITTEN:-/run/alertmanager}

left_out() { # FILE: what goes without it
    case $1 in
    oncall_slack_url) echo "nobody hears that the webhook is down" ;;
    heartbeat_url) echo "nobody hears that Prometheus or Alertmanager is down" ;;
    *) echo "that team has no channel of its own" ;;
    esac
}

cp "$config"/*.tmpl "$written"
text=$(cat "$config/alertmanager.yml")
for file in $(printf '%s\n' "$text" | sed -n 's/^ *# with \([a-z_]*\)$/\1/p'); do
    # What is no address would keep Alertmanager from starting, and all alerts with it.
    if [ "$(tr -d '\r' 2>/dev/null <"$secrets/$file" | grep -c .)" != 1 ] ||
        ! tr -d '\r' <"$secrets/$file" | grep -Eq "^ *https?://[^[:space:]\"'#]+ *\$"; then
        echo "start.sh: $secrets/$file is missing, empty or not one address: $(left_out "$file")" >&2
        text=$(printf '%s\n' "$text" | sed "/^ *# with $file\$/,/^ *# end\$/d")
    elif [ "$file" = heartbeat_url ]; then
        address=$(tr -d '[:space:]' <"$secrets/$file" | sed 's/[&|\\]/\\&/g')
        text=$(printf '%s\n' "$text" | sed "s|https://heartbeat\.invalid/|$address|")
    fi
done
printf '%s\n' "$text" >"$written/alertmanager.yml.new"
mv "$written/alertmanager.yml.new" "$written/alertmanager.yml"
[ $# -eq 0 ] || exec "${ALERTMANAGER:-/bin/alertmanager}" "$@"
