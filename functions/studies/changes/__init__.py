"""What people change of a study: its name, patient and case; whether it is used; whether it is there."""
