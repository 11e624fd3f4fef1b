"""The pure core: values in, values out. No I/O, no clock, no boto3, no git.

``policy`` and ``device`` are what comes in (what git says, what AWS says), ``finding`` and ``plan``
what goes out. Every instant is an aware UTC datetime; ``now`` is always a parameter.
"""
