"""The C++ code held against the reference, and against the laws of the method."""
