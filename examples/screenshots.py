"""An agent loop: each turn brings a new screenshot, and asks what to make of it.

    lookm serve -m model.gguf --mmproj mmproj.gguf --kv-ratio 0.2
    python examples/screenshots.py http://127.0.0.1:8080 first.png second.png third.png

The server goes on from the cells of the turns before, so a turn reads its own screenshot alone.
Needs ``pip install openai``.
"""

from __future__ import annotations

import argparse
import base64
import mimetypes
from pathlib import Path
from typing import Any

from openai import OpenAI


def part(screenshot: Path) -> dict[str, Any]:
    """A screenshot as a part of a message."""
    kind = mimetypes.guess_type(screenshot)[0] or "image/png"
    data = base64.b64encode(screenshot.read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}


def main() -> None:
    """Send one screenshot after the other, and print the answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="of the server")
    parser.add_argument("screenshots", nargs="+", type=Path)
    parser.add_argument("--ask", default="What is in image {}?", help="question of each turn")
    parser.add_argument("--max-tokens", type=int, default=64)
    given = parser.parse_args()
    client = OpenAI(base_url=f"{given.url}/v1", api_key="none")
    messages: list[Any] = []
    for number, screenshot in enumerate(given.screenshots, start=1):
        question = given.ask.format(number)
        content = [
            {"type": "text", "text": f"Image {number}:"},
            part(screenshot),
            {"type": "text", "text": f" {question}"},
        ]
        messages.append({"role": "user", "content": content})
        answer = client.chat.completions.create(
            model="any", messages=messages, max_tokens=given.max_tokens, temperature=0
        )
        said = answer.choices[0].message.content or ""
        messages.append({"role": "assistant", "content": said})
        timings: dict[str, Any] = (answer.model_extra or {}).get("timings", {})
        print(f"{said.strip()}    ({timings.get('prompt_n', '?')} tokens read)")


if __name__ == "__main__":
    main()
