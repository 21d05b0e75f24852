"""Short Chinese meetings with summaries, as VCSUM has long ones, and chronicles, the demo's long text.

A meeting is about a town's matter: what is wrong, what is decided, who sees to it. Its summary says the same in a
fixed form. A chronicle goes on for as long as asked: statements of the world and events whose people come again.
"""

from __future__ import annotations

from typing import NamedTuple

from lesson import held_out
from world import Dice, World

# What a meeting is about -> what may be wrong with it.
MATTERS: dict[str, tuple[str, ...]] = {
    "集市": ("摊位太少", "路太窄", "来的人不多"), "桥": ("木头坏了", "太低了", "只能走一辆车"),
    "水井": ("水不干净", "离得太远", "绳子断了"), "学校": ("房子太小", "没有书", "老师不够"),
    "灯会": ("灯不够亮", "日子太晚", "钱不够"), "粮仓": ("有老鼠", "屋顶漏水", "放不下了"),
}  # fmt: skip
PLANS = ("下个月动工", "请工匠来修", "先存一笔钱", "换一个地方", "再买三车木头", "明年春天再议")
CHATTER = "大家都到了吗？ 我先说两句。 这个我同意。 声音大一点。 茶在桌上。 好的，继续。 请看这张纸。".split()


class Meeting(NamedTuple):
    turns: list[tuple[str, list[str]]]  # speaker's number, sentences
    summary: str

    @property
    def text(self) -> str:
        return "\n".join(f"说话人{who}：{''.join(said)}" for who, said in self.turns)


def meeting(world: World, dice: Dice, held: bool) -> Meeting:
    while True:
        town, matter = dice.pick(world.things["town"]).zh, dice.pick(sorted(MATTERS))
        wrong, plan = dice.pick(MATTERS[matter]), dice.pick(PLANS)
        if held_out(town, matter, wrong) == held:
            break
    who = dice.pick(world.things["person"]).zh
    said = [
        f"今天谈谈{town}的{matter}。",
        f"{matter}的问题是{wrong}。",
        f"我看不如{plan}。",
        f"那就这样，由{who}负责。",
    ]
    turns: list[tuple[str, list[str]]] = []
    for sentence in said:
        chatter = [dice.pick(CHATTER) for _ in range(dice.below(2))]
        turns.append((str(1 + dice.below(4)), [*chatter, sentence]))
        if dice.below(2):
            turns.append((str(1 + dice.below(4)), [dice.pick(CHATTER)]))
    return Meeting(turns, f"会议讨论了{town}的{matter}，问题是{wrong}，决定{plan}，由{who}负责。")


EVENTS = (
    "In the year {y} {a} came to {t} with {n} {g}.",
    "{a} met {b} in {t}, and they spoke of {c}.",
    "{b} gave {a} {n} {g} for the road to {t}.",
    "After {n} days {a} left {t}, and {c} went along.",
    "In {t} they still say that {a} never forgot {b}.",
    "{c} wrote to {b} from {t} and asked for {n} {g}.",
)
GOODS = "lamps ropes bells candles hats pots drums clocks nets".split()


def chronicle(world: World, dice: Dice, sentences: int) -> str:
    """A long text in paragraphs, about a small cast that stays the same, with the world's facts between."""
    cast = [word.en for word in dice.shuffled(world.things["person"])[:5]]
    towns = [word.en for word in dice.shuffled(world.things["town"])[:3]]
    out, paragraph = [], []
    for number in range(sentences):
        if number % 2:
            a, b, c = dice.shuffled(cast)[:3]
            paragraph.append(
                dice.pick(EVENTS).format(
                    a=a, b=b, c=c, t=dice.pick(towns), y=700 + dice.below(300), n=2 + dice.below(30), g=dice.pick(GOODS)
                )
            )
        else:
            paragraph.append(dice.pick(dice.pick(world.facts).statements("en")))
        if len(paragraph) == 8:
            out.append(" ".join(paragraph))
            paragraph = []
    return "\n\n".join([*out, " ".join(paragraph)] if paragraph else out)
