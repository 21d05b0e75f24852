"""Whether the pictures of a code interpreter run answer their questions: asked of a judge, as published.

Protocol: QwenLM/Qwen-Agent, benchmark/code_interpreter/metrics/visualization.py (the texts; `right` anywhere in the
reply counts). The reply stands in samples.jsonl; a judge that is named later is asked about a finished run too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import Item, Record
from qwen_eval.judge import Judge, Question
from qwen_eval.progress import progress

ASK = {
    "zh": "请判断图片是否与下面的[问题]一致，如果一致则回复“right”，不一致则回复“wrong”。\n[问题]：{query}\n",
    "en": "Please judge whether the image is consistent with the [Question] below, if it is consistent then reply "
    '"right", if not then reply "wrong".\n[Question]: {query}\n',
}


def judge_pictures(
    pairs: Sequence[tuple[Item, Record]], folder: Path, judge: Judge
) -> Mapping[tuple[str, int], Mapping[str, Any]]:
    """What the judge says of every visualization row that has pictures of code that ran; rows without are wrong.

    Returns the fields that the records get, by the item's key.
    """
    asked = {item.key: (item, record) for item, record in pairs if item.subject == "visualization"}
    drawn = (_question(item, record, folder) for item, record in asked.values() if _drew(record))
    replies = dict.fromkeys(asked, "")
    with progress("judge", sum(not _drew(record) for _, record in asked.values()), len(asked)) as bar:
        for key, reply in judge.answers(drawn):
            replies[key] = reply
            bar.update()
    return {
        key: {"judge": judge.model, "judge_reply": reply, "judged_right": "right" in reply.lower()}
        for key, reply in replies.items()
    }


def _drew(record: Record) -> bool:
    """Whether code that ran has drawn something."""
    return any(cell["pictures"] and not cell["error"] for cell in record["cells"])


def _question(item: Item, record: Record, folder: Path) -> tuple[tuple[str, int], Question]:
    """What the judge is asked of an item, with its key."""
    text = ASK.get(item.row["lang"], ASK["en"]).format(query=item.row["question"])
    pictures = [(folder / name).read_bytes() for cell in record["cells"] for name in cell["pictures"]]
    return item.key, Question(text, tuple(pictures), item.id)
