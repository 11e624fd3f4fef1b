"""The commands, one module each: ``add_arguments(parser)`` declares what it takes, ``run(context)`` does it.

``run`` returns an exit code and raises CertfleetError; it writes to the context's streams and exits
nothing. Machine output goes to stdout (or ``--output``), all else to stderr.
"""
