"""LOOK-M implemented a second time in plain NumPy, as the reference for the C++ code."""
