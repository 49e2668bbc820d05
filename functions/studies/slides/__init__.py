"""Slides: studies of one kind, with the fields and routes of the older slide system."""
