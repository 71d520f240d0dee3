#!/bin/sh
# Pins the base images by the digests that their tags have now; make requirements runs it.
# If no registry answers for one of them, all stay as they are.
set -eu
cd "$(dirname "$0")/.."

files="Dockerfile deploy/sbom.Dockerfile proxy/Dockerfile docker-compose.yml docker-compose.production.yml"
# Images that are built here have no tag.  A pinned image keeps its tag, for the next time.
images=$(sed -nE 's/^(FROM| +image:) ([^@ ]+:[^@ ]+).*/\2/p' $files | sort -u)
edits=""
for image in $images; do
    # Without "print", buildx ignores the format if the image is for one platform only.
    answer=$(docker buildx imagetools inspect --format '{{print .Manifest.Digest}}' "$image" 2>&1) || true
    case $answer in
        sha256:*) edits="$edits s#^(FROM| +image:) $image(@[^ ]+)?( |\$)#\\1 $image@$answer\\3#;" ;;
        *)
            reason=$(echo "$answer" | tail -n 1)
            echo "The base images stay as they are, because no registry answered for $image: $reason"
            exit
            ;;
    esac
done
# The sed of macOS requires a suffix.
sed -i.before -E "$edits" $files
for file in $files; do
    rm "$file.before"
done
