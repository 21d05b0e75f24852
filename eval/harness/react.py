"""ReAct prompts and replies (Yao et al. 2022, arXiv 2210.03629), as first-generation Qwen was taught them.

`prompt(query, tools)` writes the one user turn that a chat model answers with `Thought:`, `Action:`, `Action Input:`
lines or a `Final Answer:`. Source of the template: QwenLM/Qwen, examples/react_prompt.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Tool(NamedTuple):
    """name: what the model writes behind `Action:`; parameters: a list of {name, description, required, schema}."""

    name: str
    human_name: str
    description: str
    parameters: Sequence[Mapping[str, Any]]
    arguments: str = "Format the arguments as a JSON object."

    def text(self) -> str:
        parameters = json.dumps(self.parameters, ensure_ascii=False)
        return (
            f"{self.name}: Call this tool to interact with the {self.human_name} API. "
            f"What is the {self.human_name} API useful for? {self.description} "
            f"Parameters: {parameters} {self.arguments}"
        )


TEMPLATE = """Answer the following questions as best you can. You have access to the following tools:

{tools}

Use the following format:

Question: the input question you must answer
Thought: you should always think about what to do
Action: the action to take, should be one of [{names}]
Action Input: the input to the action
Observation: the result of the action
... (this Thought/Action/Action Input/Observation can be repeated zero or more times)
Thought: I now know the final answer
Final Answer: the final answer to the original input question

Begin!

Question: {query}"""


def prompt(query: str, tools: Sequence[Tool]) -> str:
    """The user turn that asks `query` with these tools at hand."""
    return TEMPLATE.format(
        tools="\n\n".join(tool.text() for tool in tools), names=",".join(tool.name for tool in tools), query=query
    )
