"""Predicting inside a time budget: a valid table at once, made better for as long as there is time."""
