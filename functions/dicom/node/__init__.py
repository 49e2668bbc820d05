"""The DICOM node: C-ECHO, C-STORE and C-FIND for peers that are known by name and address."""
