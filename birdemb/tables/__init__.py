"""Tables out: a prediction in the forms that people and programs read, one module for each.

`birdemb.tables.forms` knows which there are, and which one a path asks for.
"""
