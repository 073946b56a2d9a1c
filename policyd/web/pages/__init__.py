"""The pages for the help desk: each is made from the tables and from what the daemon keeps; nothing is changed.

A new page is a file here with a `show`, its template in `policyd/web/templates/`, and a line in `PAGES` of `desk.py`.
"""
