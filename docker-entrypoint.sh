#!/bin/sh
# Before pserve: wait until PostgreSQL answers, and bring the schema up to date.  Other commands just run.
#
# DATABASE_WAIT  seconds to wait (30)
# MIGRATE        "no" skips the migrations: on Heroku the release phase applies them
set -eu

if [ "${1:-}" = pserve ]; then
    if [ "${MIGRATE:-yes}" = no ]; then
        initialize_db "$2" --wait "${DATABASE_WAIT:-30}" --no-migrate
    else
        initialize_db "$2" --wait "${DATABASE_WAIT:-30}"
    fi
fi
exec "$@"
