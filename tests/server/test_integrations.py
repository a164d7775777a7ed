"""Libraries that people use with servers of OpenAI's and Anthropic's kind, where installed.

Each runs in a process of its own, as their imports take long and warn of things. For Vercel's,
run `npm install ai @ai-sdk/openai-compatible` in any folder and let NODE_PATH name its
`node_modules`.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lookm_cpp.embedded import DEMO

from server.servers import Server, content, data_uri

OWL = DEMO / "pic08.png"
QUESTION = "What is in image 1?"
PRINTS_TEXT = {
    "anthropic": """
client = anthropic.Anthropic(base_url=url, api_key="none")
picture = {"type": "base64", "media_type": "image/png", "data": uri.partition(",")[2]}
content = [{"type": "image", "source": picture}, {"type": "text", "text": question}]
made = client.messages.create(
    model="any", max_tokens=64, messages=[{"role": "user", "content": content}],
    extra_body={"temperature": 0},
)
print(made.content[0].text)
""",
    "litellm": """
content = [
    {"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": question}
]
made = litellm.completion(
    model="openai/any", api_base=url + "/v1", api_key="none", temperature=0,
    messages=[{"role": "user", "content": content}],
)
print(made.choices[0].message.content)
""",
    "pydantic_ai": """
import base64
from pydantic_ai import Agent, BinaryContent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
provider = OpenAIProvider(base_url=url + "/v1", api_key="none")
agent = Agent(OpenAIChatModel("any", provider=provider), model_settings={"temperature": 0})
picture = BinaryContent(base64.b64decode(uri.partition(",")[2]), media_type="image/png")
print(agent.run_sync([picture, question]).output)
""",
    "llm": """
from llm.default_plugins.openai_models import Chat
model = Chat("any", model_name="any", api_base=url + "/v1", vision=True)
model.key = "none"
picture = llm.Attachment(path=path)
print(model.prompt(question, attachments=[picture], stream=False, temperature=0).text())
""",
}
_VERCEL = """
const { generateText, streamText } = require("ai");
const { createOpenAICompatible } = require("@ai-sdk/openai-compatible");
const [url, uri, text] = process.argv.slice(1);
const model = createOpenAICompatible({ name: "lookm", baseURL: url + "/v1" })("any");
const content = [{ type: "image", image: uri }, { type: "text", text }];
const asked = { model, temperature: 0, messages: [{ role: "user", content }] };
"""
VERCEL_PRINTS_TEXT = {
    "generateText": """
generateText(asked).then((made) => console.log(made.text));
""",
    "streamText": """
const onError = ({ error }) => { console.error(error); process.exitCode = 1; };
(async () => {
  const made = streamText({ ...asked, onError });
  for await (const piece of made.textStream) process.stdout.write(piece);
})();
""",
}
PRINTS_JSON = {
    "instructor": """
from openai import OpenAI
from pydantic import BaseModel
class Seen(BaseModel):
    image: int
    big: bool
client = instructor.from_openai(
    OpenAI(base_url=url + "/v1", api_key="none"), mode=instructor.Mode.JSON_SCHEMA
)
content = [
    {"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": question}
]
made = client.chat.completions.create(
    model="any", response_model=Seen, temperature=0, max_tokens=400,
    messages=[{"role": "user", "content": content}],
)
print(made.model_dump_json())
""",
}


def _run(name: str, code: str, server: Server, folder: Path) -> str:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    values = {"url": server.url, "uri": data_uri(OWL), "path": str(OWL), "question": QUESTION}
    given = "".join(f"{key} = {value!r}\n" for key, value in values.items())
    script = folder / "client.py"
    script.write_text(f"import {name}\n{given}{code}")
    return _printed(sys.executable, str(script))


def _printed(*command: str) -> str:
    made = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert made.returncode == 0, made.stderr[-2000:]
    return made.stdout.strip()


def _expected(server: Server) -> str:
    """The answer to the same request, made by hand."""
    parts = [
        {"type": "image_url", "image_url": {"url": data_uri(OWL)}},
        {"type": "text", "text": QUESTION},
    ]
    asked = [{"role": "user", "content": parts}]
    return content(server.post("/v1/chat/completions", messages=asked, temperature=0))


@pytest.mark.parametrize("name", PRINTS_TEXT)
def test_text(name: str, server: Server, tmp_path: Path) -> None:
    assert _run(name, PRINTS_TEXT[name], server, tmp_path) == _expected(server)


@pytest.mark.parametrize("name", VERCEL_PRINTS_TEXT)
def test_vercel(name: str, server: Server) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    found = subprocess.run(
        [node, "-e", "require.resolve('ai'), require.resolve('@ai-sdk/openai-compatible')"],
        capture_output=True,
        timeout=120,
        check=False,
    )
    if found.returncode:
        pytest.skip("node does not find ai and @ai-sdk/openai-compatible: set NODE_PATH")
    code = _VERCEL + VERCEL_PRINTS_TEXT[name]
    printed = _printed(node, "-e", code, server.url, data_uri(OWL), QUESTION)
    assert printed == _expected(server)


@pytest.mark.parametrize("name", PRINTS_JSON)
def test_json(name: str, server: Server, tmp_path: Path) -> None:
    found = json.loads(_run(name, PRINTS_JSON[name], server, tmp_path))
    assert isinstance(found["image"], int)
    assert isinstance(found["big"], bool)
