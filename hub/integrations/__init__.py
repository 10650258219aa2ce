"""Other engines and formats, one file each.  Imports: `runtime` and below."""
