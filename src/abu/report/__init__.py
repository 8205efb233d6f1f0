"""Arrays to figures, and the page."""
