"""DICOM files in: headers under guards, series, the right one of a study, and volumes in the patient's frame."""
