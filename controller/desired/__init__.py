"""The desired state: from a git ref, a folder or a bundle to checked values."""
