"""What became of a prompt's cells: kept, evicted, merged, and where they lie in its images."""

from __future__ import annotations

from lookm_cpp.explaining.cells import LayerCells, MethodCells, Piece
from lookm_cpp.explaining.explanation import Explanation

__all__ = ["Explanation", "LayerCells", "MethodCells", "Piece"]
