"""An adapter beside a base: does it fit, where does it go, how many parameters does it have.

Imports: `adapter`, `base`, `formats` and the words of `hub`.
The door is `report.check`.
"""
