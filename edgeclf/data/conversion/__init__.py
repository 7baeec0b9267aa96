"""Conversion of other libraries' images and data sets to files and pixels that edgeclf reads."""
