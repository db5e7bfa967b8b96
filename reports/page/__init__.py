"""The HTML page of a report: one file, with all that it needs.

`document` writes the page, `data` what its scripts read, `still` what is there without scripts, and
`serving` refreshes it in a browser. The scripts and the style are the .js and .css files here;
`vendor` holds plotly.js.
"""
