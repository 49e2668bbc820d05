"""The audit log for those who may read it: `GET /audit`, as pages or as one CSV file."""
