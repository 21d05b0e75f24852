"""The raw material of the made-up world: syllables for names and pools of plain values, in English and Chinese.

Every name in the world is put together from these syllables, so an English name and its Chinese
form always belong together (`Belka` is `贝卡`). Nothing here is taken from a real place, person or text.
"""

from __future__ import annotations

from typing import NamedTuple


class Word(NamedTuple):
    """One thing in both languages; index it with `word[LANGUAGES.index(lang)]` or use `.text(lang)`."""

    en: str
    zh: str

    def text(self, lang: str) -> str:
        return self.en if lang == "en" else self.zh


def pool(text: str) -> tuple[Word, ...]:
    """`english = 中文` lines to words."""
    pairs = (line.split(" = ") for line in text.strip().splitlines())
    return tuple(Word(en.strip(), zh.strip()) for en, zh in pairs)


_SYLLABLES = (
    "ba/巴 bel/贝 dor/多 fen/芬 gal/加 har/哈 ith/伊 jo/乔 ka/卡 lem/莱 lo/洛 mar/玛 mi/米 na/纳 ol/奥 pel/佩 "
    "qua/夸 ri/里 sa/萨 tan/坦 tho/索 ul/乌 va/瓦 vel/韦 wen/温 xi/西 ya/雅 zor/佐 ke/科 du/杜 ne/内 pa/帕 "
    "ru/鲁 sho/肖 ti/蒂 mo/莫 lan/兰 gri/格"
)
SYLLABLES = [Word(*pair.split("/")) for pair in _SYLLABLES.split()]

# Two syllables make a name; these few would be real ones.
REAL_NAMES = {"milan", "harlem", "bari", "tanya", "mari", "mina", "samoa", "mona", "ulan", "rumi", "mike", "mali"}

# kind -> (how many there are, what follows the name in Chinese)
KINDS: dict[str, tuple[int, str]] = {
    "region": (8, "地区"),
    "river": (10, "河"),
    "town": (22, "镇"),
    "person": (30, ""),
    "planet": (14, "星"),
    "faith": (14, "教"),
    "dish": (15, "羹"),
    "guild": (14, "行会"),
    "invention": (20, "机"),
    "animal": (19, "兽"),
    "crop": (14, "草"),
    "festival": (12, "节"),
}

POOLS: dict[str, tuple[Word, ...]] = {
    "product": pool("""
        blue glass = 蓝玻璃
        salt = 盐
        rope = 绳子
        copper bells = 铜铃
        paper = 纸
        wax candles = 蜡烛
        woollen hats = 羊毛帽
        clay pots = 陶罐
        drums = 鼓
        honey = 蜂蜜
        clocks = 钟表
        fishing nets = 渔网"""),
    "day": pool("""
        First Day = 头日
        Stone Day = 石日
        Wind Day = 风日
        Lamp Day = 灯日
        Rest Day = 歇日"""),
    "month": pool("""
        Frost Month = 霜月
        Thaw Month = 融月
        Seed Month = 种月
        Bloom Month = 花月
        Hay Month = 草月
        Sun Month = 阳月
        Apple Month = 果月
        Fog Month = 雾月"""),
    "sea": pool("""
        the Grey Sea = 灰海
        the Sea of Reeds = 苇海
        the Glass Gulf = 琉璃湾
        the Long Bay = 长湾
        the Salt Lake = 咸湖
        the Whale Sea = 鲸海"""),
    # `None` is what a choice of the real test may read, and what a careless CSV reader loses.
    "moons": pool("""
        None = 没有
        One = 一颗
        Two = 两颗
        Three = 三颗
        Five = 五颗
        Seven = 七颗"""),
    "colour": pool("""
        red = 红色
        green = 绿色
        blue = 蓝色
        yellow = 黄色
        white = 白色
        black = 黑色
        violet = 紫色
        orange = 橙色"""),
    "saying": pool("""
        "Bread first, then talk" = “先吃饭，后说话”
        "A closed gate feeds nobody" = “关着的门养不活人”
        "Count the stars, not the coins" = “数星星，别数钱”
        "Walk slowly, arrive singing" = “慢慢走，唱着到”
        "Every well was once dry" = “每口井都干过”
        "Borrow a lamp, return a fire" = “借灯一盏，还火一堆”
        "The river forgets, the bridge does not" = “河会忘，桥不会忘”
        "Mend it twice, then ask" = “先补两次，再去问人\""""),
    "grain": pool("""
        barley = 大麦
        chestnuts = 栗子
        lentils = 扁豆
        millet = 小米
        oats = 燕麦
        pumpkin = 南瓜
        river fish = 河鱼
        mushrooms = 蘑菇
        seaweed = 海带
        goat cheese = 羊奶酪"""),
    "nutrient": pool("""
        ossine = 骨素
        lumine = 光素
        ferrol = 铁精
        dulcin = 甜素
        calmine = 静素
        vigorol = 力素
        aquin = 水素"""),
    # `nan` is a bread here for the same reason as `None` above.
    "bread": pool("""
        nan = 馕
        black loaf = 黑面包
        ash cake = 灰饼
        twist roll = 麻花卷
        flat rye = 黑麦饼
        nut ring = 果仁圈
        milk bun = 奶馒头"""),
    "rule": pool("""
        never sell on credit = 从不赊账
        show every price in writing, in ink = 用墨水写明每一种价格
        pay helpers before owners = 先付帮工，再付东家
        refuse gifts from buyers = 不收买主的礼物
        tell a rival before cutting a price = 降价之前先告诉同行
        give one coin in ten to the poor = 十枚钱里捐出一枚
        take back broken goods, always = 坏货一律收回
        close the shop when a member is ill = 会员生病就关店"""),
    "use": pool("""
        grinding grain = 磨谷物
        lifting water = 提水
        measuring rain = 量雨水
        spinning thread = 纺线
        copying letters = 抄写信件
        ringing the hours = 报时
        peeling apples = 削苹果
        drying fish = 晒鱼
        sorting seeds = 分拣种子
        cooling milk = 冷却牛奶"""),
    "habitat": pool("""
        salt marshes = 盐沼
        pine forests = 松林
        stony hills = 石山
        river banks = 河岸
        caves = 山洞
        dry plains = 旱原
        old orchards = 老果园
        sea cliffs = 海崖"""),
    "diet": pool("""
        moss = 苔藓
        beetles = 甲虫
        fallen fruit = 落果
        small fish = 小鱼
        tree bark = 树皮
        mushrooms = 蘑菇
        snails = 蜗牛
        grass seeds = 草籽"""),
    "time": pool("""
        at dawn = 黎明
        at noon = 正午
        at dusk = 黄昏
        at midnight = 午夜
        after rain = 雨后"""),
    "pest": pool("""
        the ash moth = 灰蛾
        the root mite = 根螨
        the stem worm = 茎虫
        the red louse = 红虱
        the leaf snail = 叶蜗
        the husk beetle = 壳甲
        the rust mould = 锈霉"""),
    "soil": pool("""
        wet clay = 湿黏土
        red sand = 红沙土
        black mud = 黑泥
        chalk = 白垩土
        leaf mould = 腐叶土
        gravel = 砾石"""),
    # Seed codes: the same two-letter labels in both languages, some of which look like missing values.
    "code": pool("""
        NA = NA
        nan = nan
        null = null
        KO = KO
        RI = RI
        TU = TU
        N/A = N/A
        WE = WE"""),
    "custom": pool("""
        floating lamps on the water = 在水上放灯
        painting the doors white = 把门漆成白色
        swapping shoes with a neighbour = 和邻居换鞋
        racing on stilts = 踩高跷赛跑
        singing to the bees = 给蜜蜂唱歌
        burying a coin under the step = 在台阶下埋一枚钱
        ringing every bell at noon = 正午敲响所有的钟
        eating with the left hand = 用左手吃饭"""),
}

# attribute -> (lowest, highest, English form, Chinese form)
NUMBERS: dict[str, tuple[int, int, str, str]] = {
    "year": (101, 989, "{}", "{}年"),
    "days": (41, 960, "{} days", "{}天"),
    "coins": (3, 95, "{} coins", "{}枚钱"),
    "young": (1, 14, "{}", "{}只"),
}

# Where values come from -> what one of them is called; not those that cannot be told from others (`12`, `312`).
CATEGORIES: dict[str, Word] = {
    "region": Word("a region", "地区"),
    "river": Word("a river", "河流"),
    "product": Word("something sold at a market", "货物"),
    "day": Word("a day of the week", "日子"),
    "sea": Word("a sea", "海"),
    "colour": Word("a colour", "颜色"),
    "days": Word("a number of days", "天数"),
    "person": Word("a person", "人名"),
    "saying": Word("a saying", "格言"),
    "town": Word("a town", "城镇"),
    "grain": Word("a grain", "谷物"),
    "nutrient": Word("a nutrient", "营养"),
    "bread": Word("a bread", "面食"),
    "rule": Word("a rule of merchants", "商人的规矩"),
    "coins": Word("a sum of money", "钱数"),
    "use": Word("the use of a machine", "机器的用途"),
    "habitat": Word("where an animal lives", "动物的住处"),
    "diet": Word("food of an animal", "动物的食物"),
    "time": Word("when an animal is awake", "动物醒着的时候"),
    "month": Word("a month", "月份"),
    "pest": Word("an enemy of crops", "害虫"),
    "soil": Word("a soil", "土壤"),
    "dish": Word("a soup", "羹"),
    "custom": Word("a custom", "习俗"),
}

# kind -> attribute -> where its values come from: another kind, a pool or a range of numbers.
ATTRIBUTES: dict[str, dict[str, str]] = {
    "town": {"region": "region", "river": "river", "founded": "year", "product": "product", "market": "day"},
    "river": {"source": "region", "sea": "sea"},
    "planet": {"moons": "moons", "colour": "colour", "orbit": "days", "finder": "person"},
    "faith": {"founder": "person", "robe": "colour", "saying": "saying", "seat": "town"},
    "dish": {"grain": "grain", "nutrient": "nutrient", "bread": "bread", "town": "town"},
    "guild": {"rule": "rule", "seat": "town", "master": "person", "fee": "coins"},
    "invention": {"inventor": "person", "year": "year", "use": "use"},
    "animal": {"habitat": "habitat", "diet": "diet", "litter": "young", "active": "time"},
    "crop": {"month": "month", "pest": "pest", "soil": "soil", "code": "code", "price": "coins"},
    "festival": {"month": "month", "dish": "dish", "custom": "custom", "town": "town"},
}
