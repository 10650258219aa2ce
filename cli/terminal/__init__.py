"""What commands share: options, output, progress, and how an operator's command reaches the server's data.

Imports: click, rich; of `hub` what each part shows.
"""
