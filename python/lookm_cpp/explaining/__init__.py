"""What happened to the cells of a prompt (kept, evicted or merged), and their place in images."""

from __future__ import annotations

from lookm_cpp.explaining.cells import LayerCells, MethodCells, Piece
from lookm_cpp.explaining.explanation import Explanation

__all__ = ["Explanation", "LayerCells", "MethodCells", "Piece"]
