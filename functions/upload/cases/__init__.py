"""Volumes of a case's brain MRI, sent one by one as the older system for cases did."""
