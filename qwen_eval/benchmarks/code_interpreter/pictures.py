"""Whether the pictures of a code interpreter run answer their questions: asked of a judge, as published.

Protocol: QwenLM/Qwen-Agent, benchmark/code_interpreter/metrics/visualization.py (the texts; `right` anywhere in the
reply counts). The reply stands in samples.jsonl; a judge that is named later is asked about a finished run too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import Item, Record
from qwen_eval.judge import Judge
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
    changes = {}
    asked = [(item, record) for item, record in pairs if item.subject == "visualization"]
    with progress("judge", 0, len(asked)) as bar:
        for item, record in asked:
            names = [name for cell in record["cells"] for name in cell["pictures"]]
            reply = ""
            if any(cell["pictures"] and not cell["error"] for cell in record["cells"]):
                pictures = [(folder / name).read_bytes() for name in names]
                question = ASK.get(item.row["lang"], ASK["en"]).format(query=item.row["question"])
                reply = judge.ask(question, pictures, item.id)
            changes[item.key] = {"judge": judge.model, "judge_reply": reply, "judged_right": "right" in reply.lower()}
            bar.update()
    return changes
