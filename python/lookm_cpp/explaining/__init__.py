"""What became of a prompt's cells: kept, evicted, merged, and where they lie in its images."""

from __future__ import annotations

from lookm_cpp.explaining.explanation import Explanation, LayerCells, MethodCells, Piece

__all__ = ["Explanation", "LayerCells", "MethodCells", "Piece"]
