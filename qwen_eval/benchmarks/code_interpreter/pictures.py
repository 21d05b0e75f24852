"""Whether the pictures of a code interpreter run answer their questions: asked of a judge, as published.

Protocol: QwenLM/Qwen-Agent, benchmark/code_interpreter/metrics/visualization.py (the texts; `right` anywhere in the
reply counts). The reply stands in samples.jsonl; a judge that is named later is asked about a finished run too.
"""

from qwen_eval.judge import Judge
from qwen_eval.progress import progress
from qwen_eval.run import Run

ASK = {
    "zh": "请判断图片是否与下面的[问题]一致，如果一致则回复“right”，不一致则回复“wrong”。\n[问题]：{query}\n",
    "en": "Please judge whether the image is consistent with the [Question] below, if it is consistent then reply "
    '"right", if not then reply "wrong".\n[Question]: {query}\n',
}


def judge_pictures(run: Run, judge: Judge) -> None:
    """Ask the judge about every visualization row that has pictures of code that ran; rows without are wrong."""
    changes = {}
    asked = [item for item in run.items if item.subject == "visualization"]
    with progress("judge", 0, len(asked)) as bar:
        for item in asked:
            cells = run.journal.records[item.key]["cells"]
            names = [name for cell in cells for name in cell["pictures"]]
            reply = ""
            if any(cell["pictures"] and not cell["error"] for cell in cells):
                pictures = [(run.folder / name).read_bytes() for name in names]
                question = ASK.get(item.row["lang"], ASK["en"]).format(query=item.row["question"])
                reply = judge.ask(question, pictures, item.id)
            changes[item.key] = {"judge": judge.model, "judge_reply": reply, "judged_right": "right" in reply.lower()}
            bar.update()
    run.journal.amend(changes)
