"""Cases: what a clinician collects of one patient."""
