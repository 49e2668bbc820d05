"""What a study is made of and what was made from it: its stored files, its DICOM series, its artifacts."""
