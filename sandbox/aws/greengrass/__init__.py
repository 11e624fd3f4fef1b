"""AWS IoT Greengrass V2 of the sandbox: component versions, deployments, core devices."""
