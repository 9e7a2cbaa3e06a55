"""Counts in; metrics, calibration, figures and the report out."""
