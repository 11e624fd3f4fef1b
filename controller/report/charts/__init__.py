"""Charts of a fleet report as inline SVG, each with a title, a description and the same numbers as a table.

``chart`` is the value that pages show, ``drawing`` the only file that knows the chart library; the
others choose what is worth a picture. Colours are the page's: a series names its meaning, not its colour.
"""
