#!/bin/sh
# Writes a .env for docker-compose.yaml with fresh secrets, which only you can read:  sh docker/new-env.sh .env
# It refuses to replace one: without its FERNET_KEY, stored connections cannot be read. Without a name it prints.
# They consist of letters, digits, - and _ only, so that they can stand in a URL as they are.
set -eu
secret() { head -c 32 /dev/urandom | base64 | tr -d '\n=' | tr '+/' '-_'; }
umask 077
if [ $# -gt 0 ]; then
    set -C
    exec > "$1"
elif [ -f /dev/stdout ]; then
    chmod 600 /dev/stdout # a shell has made the file, with its own umask
fi
cat <<ENV
# Secrets of docker-compose.yaml. Keep FERNET_KEY: without it, stored connections cannot be read.
FERNET_KEY=$(secret)=
JWT_SECRET=$(secret)
API_SECRET_KEY=$(secret)
ADMIN_PASSWORD=$(secret)
MYSQL_ROOT_PASSWORD=$(secret)
AIRFLOW_DB_PASSWORD=$(secret)
EVENTS_DB_PASSWORD=$(secret)
DEMO_SETUP_PASSWORD=$(secret)
DEMO_SOURCE_PASSWORD=$(secret)
DEMO_SINK_PASSWORD=$(secret)
REDIS_PASSWORD=$(secret)

# Where the web interface is found, and whether the demo is set up (yes or no).
MLOPS_PORT=8080
MLOPS_SERVE_PORT=8085
MLOPS_DEMO=yes

# Several workers: COMPOSE_PROFILES=distributed and MLOPS_EXECUTOR=CeleryExecutor.
COMPOSE_PROFILES=
MLOPS_EXECUTOR=LocalExecutor
ENV
