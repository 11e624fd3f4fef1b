"""The words between the three deployables: names, topics, messages, job document, algorithms.

Controller, component and backend import this package and never each other. It also ships to
devices, so it uses the standard library only and runs on Python 3.9 and later.

The wire is the one of the public Certificate Rotator for AWS Greengrass, so that a fleet can
migrate one half at a time. Fields that only ours understands are optional everywhere.
"""
