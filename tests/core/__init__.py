"""The tests of the files at the top of the package."""
