"""Reports on the runs of a database: a table, plots and one HTML page."""
