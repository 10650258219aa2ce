"""The pages that people read.  `pages/` makes each page's values, `templates/` its HTML.

Imports: `api`, `http`.
The door is `routes.install`.
"""
