"""Trains the embedded test model, a vision-language model of 5.9 M parameters, from zero.

Its shape is that of LLaVA-1.5. Run ``python -m training`` from the repository root; see README.md
in this folder.
"""
