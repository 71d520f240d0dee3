#!/bin/sh
# Before pserve: wait until PostgreSQL answers, and bring the schema up to date.  Any other command is run
# as it is.
#
# DATABASE_WAIT  seconds to wait (30)
# MIGRATE        "no" leaves the schema alone: on Heroku the release phase has done it
set -eu

if [ "${1:-}" = pserve ]; then
    if [ "${MIGRATE:-yes}" = no ]; then
        initialize_db "$2" --wait "${DATABASE_WAIT:-30}" --no-migrate
    else
        initialize_db "$2" --wait "${DATABASE_WAIT:-30}"
    fi
fi
exec "$@"
