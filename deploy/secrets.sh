#!/bin/sh
# Random secrets for compose.yaml and for k8s/ (docs/deployment.md): secrets.sh [FOLDER]. What is there already stays.
# The folder is closed to others. The files in it are readable, since each is mounted alone into a container that runs
# as another user.
set -eu
umask 022
folder=${1:-deploy/secrets}
mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"
mkdir -p channels sources

random() { # BYTES: as URL-safe base64, which needs no quotes anywhere
    head -c "$1" /dev/urandom | base64 | tr -d '\n' | tr '+/' '-_'
}

written=0
keep() { # NAME: standard input, without a line feed at its end, unless the file is there
    text=$(cat)
    [ ! -e "$1" ] || return 0
    printf '%s' "$text" >"$1.new"
    mv "$1.new" "$1"
    written=$((written + 1))
}

random 24 >.random && keep postgres_password <.random
random 24 >.random && keep redis_password <.random
for name in ingest_token admin_token secret_key grafana_admin_password grafana_renderer_token; do
    random 24 >.random && keep "$name" <.random
done
random 32 >.random && keep encryption_keys <.random
rm -f .random
echo "postgresql://sentinel:$(cat postgres_password)@postgres:5432/sentinel" >.text && keep database_url <.text
echo "redis://:$(cat redis_password)@redis:6379/0" >.text && keep redis_url <.text
printf 'requirepass %s\nsave ""\nappendonly no\n' "$(cat redis_password)" >.text && keep redis.conf <.text
printf 'AUTH_TOKEN=%s' "$(cat grafana_renderer_token)" >.text && keep renderer.env <.text
rm -f .text
# Yours to fill: incoming webhooks of Slack's for on-call and teams, and who calls when nothing comes any more. Alertmanager
# leaves out what has an empty file (alertmanager/start.sh).
for name in oncall_slack_url team_analysts_slack_url team_data_slack_url team_platform_slack_url heartbeat_url; do
    [ -e "$name" ] || : >"$name"
done
echo "$written secrets written, the others were there: $folder"
[ -s oncall_slack_url ] || echo "$folder/oncall_slack_url is empty: nobody will hear that the webhook is down"
[ -s heartbeat_url ] || echo "$folder/heartbeat_url is empty: nobody will hear that Prometheus or Alertmanager is down"
