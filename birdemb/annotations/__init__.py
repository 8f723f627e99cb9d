"""Annotations in: every form of a table of labels, read into one."""
