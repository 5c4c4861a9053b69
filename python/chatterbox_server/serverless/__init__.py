"""The server as a worker of RunPod's serverless platform: ``chatterbox-server runpod``.

A job is checked (``job``), spoken by a server on loopback (``process``) and answered piece by piece (``handler``).
"""
