# A worker for a RunPod serverless endpoint of the queue kind: the CUDA image with RunPod's SDK.
#
#   docker build --tag chatterbox-server:cuda --target cuda .
#   docker build --tag chatterbox-server:runpod --file deploy/runpod.Dockerfile .
#
# Settings are the endpoint's environment, as for the server: LOAD_TURBO=true, and HF_HOME=/runpod-volume/models where a
# network volume keeps the weights. An endpoint of the load-balancing kind takes chatterbox-server:cuda as it is, with
# PORT_HEALTH=8081; RunPod then probes /ping.
FROM chatterbox-server:cuda
USER 0:0
# Without their own dependencies, as the rest was installed: the lock file holds all of them.
COPY requirements/runpod.txt /tmp/
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement /tmp/runpod.txt
USER 10001:10001
# The server listens where only its worker knows; RunPod checks the worker itself.
HEALTHCHECK NONE
CMD ["runpod"]
