"""A laptop-sized AWS IoT: moto, extended; an MQTT endpoint with mutual TLS; a Greengrass stand-in.

The embedded default and the end-to-end test bed. ``docs/sandbox.md`` shows where it differs from AWS.
"""
