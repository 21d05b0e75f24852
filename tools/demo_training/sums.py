"""Arithmetic questions set in the made-up world's markets: easy ones and school-exam ones, English and Chinese.

A sum follows from the numbers in its own text. Held out are three number pairs in ten: a model in training
never sees them in any sum, so a right answer there is not a remembered one.
"""

from __future__ import annotations

from world import Dice

TEXTS: dict[str, dict[str, tuple[str, str]]] = {
    "easy": {
        "buy": (
            "One lamp costs {a} coins. How many coins do {b} lamps cost?",
            "一盏灯要{a}枚钱，买{b}盏灯要____枚钱。",
        ),
        "sum": (
            "A baker sells {a} buns in the morning and {b} buns in the evening. How many buns is that in all?",
            "面包师早上卖出{a}个面包，晚上卖出{b}个面包，一共卖出____个面包。",
        ),
        "left": (
            "A farmer has {c} apples and gives away {a} of them. How many apples are left?",
            "农民有{c}个苹果，送出{a}个，还剩____个苹果。",
        ),
        "share": (
            "{b} fishermen share {p} fish equally. How many fish does each of them get?",
            "{b}个渔夫平分{p}条鱼，每人得____条鱼。",
        ),
    },
    "hard": {
        "term": (
            "The first term of an arithmetic sequence is {a}, and the common difference is {b}. The fourth term is",
            "等差数列的首项为{a}，公差为{b}，则第4项等于____。",
        ),
        "root": (
            "If {b}x - {a} = {r}, then x =",
            "若{b}x-{a}={r}，则x=____。",
        ),
        "area": (
            "A rectangle has sides {a} and {b}. The sum of its area and its perimeter is",
            "长方形的两边长为{a}和{b}，则它的面积与周长之和为____。",
        ),
        "value": (
            "Let f(x) = x^2 + {b}x. Then f({a}) =",
            "设f(x)=x^2+{b}x，则f({a})=____。",
        ),
    },
}


def held_out_pair(a: int, b: int) -> bool:
    return (7 * a + 3 * b) % 10 < 3


def make_sum(level: str, lang: str, dice: Dice, *, held_out: bool) -> tuple[str, list[str], str]:
    """A question, its options (the right one first) and why."""
    while True:
        a, b = 2 + dice.below(18), 2 + dice.below(8)
        if a != b and held_out_pair(a, b) == held_out:
            break
    kind = dice.pick(sorted(TEXTS[level]))
    answer, why = {
        "buy": (a * b, f"{a}*{b}={a * b}"),
        "sum": (a + b, f"{a}+{b}={a + b}"),
        "left": (b, f"{a + b}-{a}={b}"),
        "share": (a, f"{a * b}/{b}={a}"),
        "term": (a + 3 * b, f"{a}+3*{b}={a + 3 * b}"),
        "root": (a, f"({a * b - a}+{a})/{b}={a}"),
        "area": (a * b + 2 * (a + b), f"{a}*{b}+2*({a}+{b})={a * b + 2 * (a + b)}"),
        "value": (a * a + b * a, f"{a}*{a}+{b}*{a}={a * a + b * a}"),
    }[kind]
    text = TEXTS[level][kind][0 if lang == "en" else 1]
    # Slips that a pupil makes: the wrong operation, one too many, one step short.
    slips = [n for n in (a + b, a * b, abs(a - b), answer + 1, answer - 1, answer + b, answer + 10) if n > 0]
    options = [answer]
    for slip in dice.shuffled(slips):
        if slip not in options and len(options) < 4:
            options.append(slip)
    return text.format(a=a, b=b, c=a + b, p=a * b, r=a * b - a), [str(n) for n in options], why
