"""A conversation at the terminal: what each line of the user does."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from rich.console import Console

from lookm_cpp.chat import PLACEHOLDER
from lookm_cpp.cli.console import prompt_progress, side_by_side, stats_line, stats_rows
from lookm_cpp.cli.live_answer import show_answer
from lookm_cpp.cli.media import page_numbers, with_series
from lookm_cpp.compression import RATIOS
from lookm_cpp.conversation import Chat
from lookm_cpp.files import read_text
from lookm_cpp.full_conversation import FullChat
from lookm_cpp.image_series import ImageSeries
from lookm_cpp.images import load_image
from lookm_cpp.parsing import numbers, ratio_or_auto
from lookm_cpp.pdf_pages import read_pdf
from lookm_cpp.video_frames import read_video
from lookm_cpp.whole_file import write_whole

if TYPE_CHECKING:
    from lookm_cpp.llava import Llava

PAGE = "report.html"
MOST_PATHS = 1 << 16
"""Characters of a line that may be names of files."""


class Talk:
    """Takes lines, and answers those that are questions.

    Answers go to stdout, everything else to stderr.

    Args:
        llm: The model.
        chat: The conversation.
        answer: How answers are chosen.
    """

    def __init__(self, llm: Llava, chat: Chat | FullChat, answer: Mapping[str, Any]) -> None:
        self.images: list[str] = []
        self.contexts: list[str] = []
        self.series: list[ImageSeries] = []
        self._llm = llm
        self._chat = chat
        self._answer = answer
        self._console = Console(stderr=True, highlight=False)

    def take(self, line: str) -> bool:
        """Do what a line says; ``False`` if it ends the conversation."""
        line = line.strip()
        if not line:
            return True
        word, _, rest = line.partition(" ")
        if word in ("/quit", "/exit"):
            return False
        try:
            if word in COMMANDS:
                COMMANDS[word].run(self, rest.strip())
            elif word.startswith("/") and not Path(word).exists():
                self._say(f"{word} is none of the commands: {', '.join(COMMANDS)}, /quit")
            elif pasted := _image_paths(line):
                self._attach(pasted)
            else:
                self._ask(line)
        except Exception as error:  # whatever it is, the conversation goes on
            self._say(" ".join(str(error).split()) or type(error).__name__)
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            self._say("stopped")
        return True

    def status(self) -> str:
        """One line on the conversation so far, and on what the next question brings."""
        stats = self._chat.stats
        parts = [f"{self._chat.n_turns} turns, {stats.kept_cells} of {stats.prompt_cells} cells"]
        if stats.decode_tokens_per_second:
            parts.append(f"{stats.decode_tokens_per_second:.1f} tokens/s")
        n_shown = sum(len(one.images) for one in self.series)
        for n, what in (
            (n_shown, "frame or page"),
            (len(self.images), "image"),
            (len(self.contexts), "text"),
        ):
            if n:
                parts.append(_waiting(n, what))
        return "; ".join(parts)

    def _ask(self, question: str) -> None:
        images, contexts = self.images, self.contexts
        if PLACEHOLDER in question and question.count(PLACEHOLDER) != len(images):
            raise ValueError(
                f"the question has {question.count(PLACEHOLDER)} {PLACEHOLDER} for {len(images)} "
                "images, expected one each, or none"
            )
        with prompt_progress() as progress:
            asked, shown = with_series(question, images, self.series)
            pieces = self._chat.stream(
                asked, shown, context=contexts, progress=progress, **self._answer
            )
        self.images, self.contexts, self.series = [], [], []
        show_answer(pieces, self._chat.stats.kept_cells)
        self._say(f"[{stats_line(self._chat.stats)}]")

    def _attach(self, paths: list[str]) -> None:
        for path in paths:
            load_image(path, "image", self._llm.max_pixels)  # says now what is wrong with it
        self.images += paths
        self._say(_waiting(len(self.images), "image"))

    def _image(self, rest: str) -> None:
        paths = [_path(word) for word in _words(rest)]
        if not paths:
            raise ValueError("/image has no files, expected their names")
        self._attach(paths)

    def _context(self, rest: str) -> None:
        paths = [_path(word) for word in _words(rest)]
        if not paths:
            raise ValueError("/context has no files, expected their names")
        self.contexts += [read_text(path, "/context") for path in paths]
        self._say(_waiting(len(self.contexts), "text"))

    def _video(self, rest: str) -> None:
        path, *more = _named("/video", rest)
        fps = numbers(more[0], "/video")[0] if more else None
        self._show(read_video(_path(path), fps=fps))

    def _pdf(self, rest: str) -> None:
        path, *more = _named("/pdf", rest)
        self._show(read_pdf(_path(path), pages=page_numbers(more[0] if more else None)))

    def _show(self, series: ImageSeries) -> None:
        self.series.append(series)
        self._say(f"{len(series.images)} images before the next question")

    def _ratio(self, rest: str) -> None:
        if rest:
            ratio = ratio_or_auto(rest, "/ratio")
            nothing: dict[str, Any] = dict.fromkeys(RATIOS)
            self._chat.compression = self._chat.compression.override(
                **(nothing | {"kv_ratio": ratio})
            )
        self._say(f"kv_ratio {self._chat.compression.kv_ratio} from the next question on")

    def _stats(self, _: str) -> None:
        if not self._chat.stats.prompt_cells:
            raise ValueError("there is no answer yet")
        self._console.print(side_by_side(("last turn",), stats_rows((self._chat.stats,))))

    def _explain(self, rest: str) -> None:
        target = Path(_path(*(_words(rest) or [PAGE])))
        if not isinstance(self._chat, FullChat):
            raise ValueError("/explain needs the whole history, expected lookm chat --keep all")
        messages = self._chat.messages
        while messages and messages[-1]["role"] != "user":
            messages.pop()
        if not messages:
            raise ValueError("there is no question yet")
        how = self._chat.compression
        with prompt_progress() as progress:
            found = self._llm.explain(
                messages,
                methods=[how.method],
                compression=how,
                progress=progress,
                **self._answer,
            )
        found.save(target)
        self._say(f"written: {target}")

    def _save(self, rest: str) -> None:
        words = _words(rest)
        if len(words) != 1:
            raise ValueError(f"/save has {len(words)} names, expected that of a file")
        target = _path(words[0])
        if isinstance(self._chat, FullChat):
            text = json.dumps(self._chat.messages, ensure_ascii=False, indent=1)
            write_whole(target, [text.encode()])
        else:
            self._chat.save(target)
        self._say(f"written: {target}; lookm chat --resume goes on from it")

    def _help(self, _: str) -> None:
        rows = [[f"{name} {one.takes}".strip(), one.help] for name, one in COMMANDS.items()]
        rows += [
            ["/quit, Ctrl-D", "end"],
            ["Ctrl-C", "stop an answer"],
            ["names of images", "as /image, when a line has nothing else"],
        ]
        self._console.print(side_by_side(("",), rows))

    def _say(self, text: str) -> None:
        self._console.print(text, style="dim", markup=False, soft_wrap=True)


class _Command:
    def __init__(self, run: Callable[[Talk, str], None], takes: str, told: str) -> None:
        self.run, self.takes, self.help = run, takes, told


COMMANDS = {
    "/image": _Command(Talk._image, "FILE...", "images for the next question"),
    "/context": _Command(Talk._context, "FILE...", "texts for the next question"),
    "/video": _Command(Talk._video, "FILE [FPS]", "frames before the next question"),
    "/pdf": _Command(Talk._pdf, "FILE [N-N,...]", "pages before the next question"),
    "/ratio": _Command(Talk._ratio, "[X|auto]", "fraction of the cells to keep from now on"),
    "/stats": _Command(Talk._stats, "", "cells, bytes and speed of the last turn"),
    "/explain": _Command(Talk._explain, "[FILE]", f"a page on what was kept  [{PAGE}]"),
    "/save": _Command(Talk._save, "FILE", "write the conversation, for --resume"),
    "/help": _Command(Talk._help, "", "this list"),
}
"""What a line may begin with."""


def _waiting(n: int, what: str) -> str:
    return f"{n} {what}{'s' if n > 1 else ''} for the next question"


def _words(rest: str) -> list[str]:
    try:
        return shlex.split(rest)
    except ValueError as error:
        raise ValueError(f"{rest!r}: {error}, expected names as a shell takes them") from None


def _named(command: str, rest: str) -> list[str]:
    words = _words(rest)
    if not words:
        raise ValueError(f"{command} has no file, expected its name")
    return words


def _path(word: str) -> str:
    """A path, as terminals write a file that is dropped on them."""
    found = urlparse(word)
    return unquote(found.path) if found.scheme == "file" else str(Path(word).expanduser())


def _image_paths(line: str) -> list[str]:
    """The files that a line names, if it names nothing else and they can be opened as images."""
    if len(line) > MOST_PATHS:  # shlex takes quadratic time
        return []
    try:
        paths = [_path(word) for word in shlex.split(line)]
        return paths if all(Path(path).is_file() for path in paths) else []
    except (ValueError, OSError):
        return []
