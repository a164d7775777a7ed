"""Trains the embedded test model (a LLaVA-1.5-shaped vision-language model of 5.9 M parameters)
from zero.

Run ``python -m training`` from the repository root; see README.md in this folder.
"""
