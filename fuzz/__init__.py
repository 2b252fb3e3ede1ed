"""Fuzz targets: ``python -m fuzz --seconds N [TARGET...]``; each also runs for a second in the unit tier."""
