"""One step of the schema each, named as its revision."""
