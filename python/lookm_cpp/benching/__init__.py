"""``lookm bench``: what compression costs and brings on this machine, beside llama.cpp's own
decode.
"""
