"""The C++ code compared with the reference, and checked against general rules of the methods."""
