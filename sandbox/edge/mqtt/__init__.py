"""The MQTT endpoint: 3.1.1 and 5, QoS 0 and 1, mutual TLS, as AWS IoT Core."""
