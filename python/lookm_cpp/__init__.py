"""Long prompts with many images on ordinary machines: LOOK-M KV-cache compression for llama.cpp.

>>> from lookm_cpp import Llava
>>> from lookm_cpp.embedded import demo_prompts
>>> prompt = demo_prompts()[0]
>>> with Llava.embedded(kv_ratio=0.2) as llm:
...     answer = llm.ask(prompt.content, prompt.images)
...     0 < llm.stats.kept_cells < llm.stats.prompt_cells
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lookm_cpp._public import *  # noqa: F403
    from lookm_cpp._public import __all__ as __all__
else:
    from importlib import import_module
    from importlib.util import find_spec

    def __getattr__(name: str) -> object:
        """Import the library when its first name is asked for.

        Until then ``import lookm_cpp.cli`` takes no time, so that ``lookm`` answers Ctrl-C from the
        start.
        """
        if find_spec(f"{__name__}.{name}"):
            return import_module(f"{__name__}.{name}")
        public = import_module(f"{__name__}._public")
        if name != "__all__" and name not in public.__all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, getattr(public, name))

    def __dir__() -> list[str]:
        return __getattr__("__all__")
