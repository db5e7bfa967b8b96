# syntax=docker/dockerfile:1
# The set-up of the README in an image: docs/containers.md says how to use it, also with Apptainer.
#     docker build --build-arg PYTHON=3.11 -t credit-alignment .     (3.7: TensorFlow 1.13.2)
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm

# git: records name the commit. libcurl4: the private mongod needs it.
RUN apt-get update && apt-get install -y --no-install-recommends git libcurl4 make && rm -rf /var/lib/apt/lists/*

WORKDIR /credit-alignment
COPY . .
RUN git config --system --add safe.directory /credit-alignment
RUN make setup PYTHON=python3 DEVICE=cpu

CMD ["make", "train", "PYTHON=python3", "DEVICE=cpu"]
