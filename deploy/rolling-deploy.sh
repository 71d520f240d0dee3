#!/bin/sh
# Builds the image, and replaces the running replicas of docker-compose.production.yml one by one.
#
# It needs the variables with which the replicas were started.  If a new replica does not become healthy, it is
# removed, and the replicas that have not been replaced go on.
set -eu
cd "$(dirname "$0")/.."
export COMPOSE_FILE=docker-compose.production.yml

revision=$(git describe --always --exclude '*' --dirty --abbrev=40 2> /dev/null || true)
docker compose build --quiet --build-arg REVISION="$revision" web
# Replicas that have ended would be started again, with the old image.
docker compose rm --force web
old=$(docker compose ps --quiet web)
if [ -z "$old" ]; then
    echo "No replica is running: start the site with docker compose -f $COMPOSE_FILE up." >&2
    exit 1
fi
number=$(echo "$old" | wc -l)
for replica in $old; do
    before=$(docker compose ps --quiet web)
    if ! docker compose up --detach --wait --no-deps --no-recreate --scale web=$((number + 1)) web; then
        for started in $(docker compose ps --all --quiet web | grep -vxF "$before"); do
            docker logs --tail 20 "$started"
            docker rm --force "$started" > /dev/null
        done
        echo "The new replica above did not become healthy: correct its error, and deploy again." >&2
        exit 1
    fi
    docker stop "$replica" > /dev/null
    docker rm "$replica" > /dev/null
done
