"""The AWS IoT registry of the sandbox: one module per kind of resource, each with its part of the API."""
