"""Everything that ``import lookm_cpp`` offers."""

from __future__ import annotations

from lookm_cpp import arrays
from lookm_cpp._core import __version__, chat_templates, llama_cpp_version, methods
from lookm_cpp.answer_text import AnswerText
from lookm_cpp.comparison import Comparison
from lookm_cpp.compression import Compression
from lookm_cpp.conversation import Chat
from lookm_cpp.explaining import Explanation
from lookm_cpp.full_conversation import FullChat
from lookm_cpp.image_series import ImageSeries
from lookm_cpp.images import ImageLike
from lookm_cpp.info import devices, model_info
from lookm_cpp.llava import Llava
from lookm_cpp.pdf_pages import read_pdf
from lookm_cpp.planning import plan
from lookm_cpp.prefix import Prefix
from lookm_cpp.stats import Stats
from lookm_cpp.video_frames import read_video

__all__ = [
    "AnswerText",
    "Chat",
    "Comparison",
    "Compression",
    "Explanation",
    "FullChat",
    "ImageLike",
    "ImageSeries",
    "Llava",
    "Prefix",
    "Stats",
    "__version__",
    "arrays",
    "chat_templates",
    "devices",
    "llama_cpp_version",
    "methods",
    "model_info",
    "plan",
    "read_pdf",
    "read_video",
]
