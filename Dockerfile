# DNMS without the lab. BASE is any image with Python 3.11 or later and pip.
ARG BASE=python:3.11-slim
FROM ${BASE}

WORKDIR /usr/src/dnms
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY bus bus
COPY dnms dnms
RUN python3 -m venv --without-pip /opt/dnms \
 && python3 -m pip --python /opt/dnms/bin/python install --no-cache-dir -c constraints.txt .

ENV PATH=/opt/dnms/bin:$PATH
ENTRYPOINT ["dnms"]
