"""Files that run inside the toolkit's own Python (3.8 or later); they import nothing of this package."""
