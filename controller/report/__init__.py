"""Reports: one value that all formats are made from, and one renderer a file. No I/O.

``model`` gathers what one run saw; ``formats`` knows which renderer makes which format, and what a
command can be asked for.
"""
