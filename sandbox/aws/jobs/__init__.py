"""AWS IoT Jobs of the sandbox: one execution per thing, the whole state machine, on the sandbox's clock."""
