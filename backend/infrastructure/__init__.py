"""The CDK constructs of the backend, one idea a file."""
