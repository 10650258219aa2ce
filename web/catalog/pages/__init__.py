"""What each catalog page shows, as plain values: the routes are in `catalog.py`, the markup in `templates/`."""
