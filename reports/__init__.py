"""What came out: the runs of a database as a table, as plots and as one page."""
