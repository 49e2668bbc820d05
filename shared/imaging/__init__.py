"""Volumes and slices: reading, checking, geometry, modality, overlays."""
