"""A brain MRI in one form of 1 to 4 NIfTI volumes."""
