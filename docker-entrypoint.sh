#!/bin/sh
# Before pserve: wait until PostgreSQL answers, and bring the schema up to date.  Other commands just run.
#
# DATABASE_WAIT  seconds to wait (30)
# MIGRATE        "no" skips the migrations: on Heroku the release phase applies them
set -eu

if [ "${1:-}" = pserve ]; then
    [ "${MIGRATE:-yes}" = no ] && skip=--no-migrate || skip=
    initialize_db "$2" --wait "${DATABASE_WAIT:-30}" $skip &
    # The first process of a container ignores SIGTERM unless it handles it.
    trap 'kill "$!"; exit 143' TERM INT
    wait "$!"
    trap - TERM INT
fi
exec "$@"
