"""Chat templates with tools and with reasoning, for the embedded model, which has neither."""

from __future__ import annotations

TURNS = (
    "{% elif message.role == 'tool' %}<tool_response>{{ message.content }}</tool_response>"
    "{% else %}USER: {{ message.content }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)
TOOLS = (
    "{%- if tools %}TOOLS: {% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n{% endif %}"
    "{%- for message in messages %}{%- if message.role == 'assistant' %}"
)
MARKED = (
    TOOLS + "ASSISTANT: {{ message.content }}{% for call in message.tool_calls %}"
    '\n<tool_call>\n{"name": "{{ call.function.name }}", '
    '"arguments": {{ call.function.arguments | tojson }}}\n</tool_call>{% endfor %}</s>' + TURNS
)
"""A call stands between ``<tool_call>`` and ``</tool_call>``, as in Qwen2.5 and Hermes."""
BARE = (
    TOOLS + "ASSISTANT: {% if message.tool_calls %}{% for call in message.tool_calls %}"
    '{"name": "{{ call.function.name }}", '
    '"parameters": {{ call.function.arguments | tojson }}}{% endfor %}'
    "{% else %}{{ message.content }}{% endif %}</s>" + TURNS
)
"""A call is JSON and nothing else, as in Llama 3."""
THINKING = (
    "{%- for message in messages %}{%- if message.role == 'assistant' %}ASSISTANT: "
    "{% if message.reasoning_content %}<think>\n{{ message.reasoning_content }}\n</think>\n\n"
    "{% endif %}{{ message.content }}</s>{% else %}USER: {{ message.content }}\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT: "
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
"""Reasoning stands between ``<think>`` and ``</think>``, as in Qwen3."""
