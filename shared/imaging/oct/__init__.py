"""OCT of the eye: vendors' files and single B-scans as one type, with laterality and scale validated."""
