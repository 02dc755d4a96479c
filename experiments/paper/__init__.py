"""The paper's figures: settings, plain data, verdicts, pictures; one module for each figure.

A figure is a list of cells. A cell is a piece that is computed by itself and kept by the hash of what it is and of
the code, so that a figure that was stopped goes on where it was. Source: Liu, Wang, Wu, INFOCOM 2025, section V.
"""
