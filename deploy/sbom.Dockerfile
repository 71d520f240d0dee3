# "make sbom" runs this file, which lists the packages in the image hello_login, as CycloneDX, and their
# licences.
FROM python:3.13-slim AS tools
RUN pip install --quiet --no-cache-dir --root-user-action=ignore cyclonedx-bom pip-licenses
COPY --from=hello_login /app /app
# The licences that are allowed, by a part of their names.  Another one ends the build with an error.
ARG LICENCES="Apache;BSD;ISC;(LGPL);MIT;PSF-2.0;Repoze;Unlicense;Zope;ZPL"
RUN mkdir /sbom \
 && pip-licenses --python /app/.venv/bin/python --from mixed --with-system --with-urls --format markdown \
        --allow-only "$LICENCES" --partial-match --output-file /sbom/licences.md \
 && cyclonedx-py environment --output-reproducible --output-file /sbom/hello_login.cdx.json /app/.venv

FROM scratch
COPY --from=tools /sbom /
