"""Whole-slide images, as the older slide system took them: a start that signs all parts at once, and a finish."""
