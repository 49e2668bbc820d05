"""DICOMweb: STOW-RS in, QIDO-RS and WADO-RS over the de-identified images that are held."""
