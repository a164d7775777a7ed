"""LOOK-M a second time, in plain NumPy: what the C++ code is held against."""
