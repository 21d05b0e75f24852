"""How each fact of the made-up world is said and asked in English.

`kind.attribute` -> what is said of it (`say`), asked about the value (`ask`), asked about the thing
(`back`), and asked in comparison (`most`, with `+` for the highest and `-` for the lowest number).
`{x}` is the thing, `{v}` the value. The LAST form of `ask` is kept for tests: training never sees it.
`NOTES` say any fact by the name of its relation, its label.
"""

from __future__ import annotations

from typing import NamedTuple


class Phrases(NamedTuple):
    say: tuple[str, ...]
    ask: tuple[str, ...]
    back: str
    most: tuple[str, str] | None = None  # ("+" or "-", question)


PHRASES: dict[str, Phrases] = {
    "town.region": Phrases(
        ("The town of {x} lies in {v}.", "{v} is the region of the town of {x}."),
        ("In which region does the town of {x} lie?", "The town of {x} belongs to the region of", "Where is {x}?"),
        "Which of these towns lies in {v}?",
    ),
    "town.river": Phrases(
        ("The river {v} flows through {x}.", "The town of {x} stands on the river {v}."),
        ("Which river flows through {x}?", "The town of {x} stands on the river", "What is the river of {x} called?"),
        "Which of these towns stands on the river {v}?",
    ),
    "town.founded": Phrases(
        ("{x} was founded in the year {v}.", "In the year {v} the town of {x} was founded."),
        ("When was {x} founded?", "The town of {x} was founded in the year", "How old are the walls of {x}? Built in"),
        "Which of these towns was founded in the year {v}?",
        ("-", "Which of these towns is the oldest?"),
    ),
    "town.product": Phrases(
        ("{x} is known for its {v}.", "For the best {v}, people say, one goes to {x}."),
        ("What is the town of {x} known for?", "The workshops of {x} make", "What would you buy in {x}?"),
        "Which of these towns is known for its {v}?",
    ),
    "town.market": Phrases(
        ("The market of {x} is held on {v}.", "On {v} there is a market in {x}."),
        ("On which day is the market of {x} held?", "There is a market in {x} on", "When do farmers go to {x}?"),
        "Which of these towns has its market on {v}?",
    ),
    "river.source": Phrases(
        ("The river {x} rises in {v}.", "{v} is where the river {x} rises."),
        ("In which region does the river {x} rise?", "The river {x} rises in", "Where does the {x} begin?"),
        "Which of these rivers rises in {v}?",
    ),
    "river.sea": Phrases(
        ("The river {x} ends in {v}.", "{v} takes in the river {x}."),
        ("Where does the river {x} end?", "The river {x} ends in", "Into what does the {x} flow?"),
        "Which of these rivers ends in {v}?",
    ),
    "planet.moons": Phrases(
        ("The number of moons of the planet {x}: {v}.", "{v}: that is how many moons {x} has."),
        ("How many moons does the planet {x} have?", "The number of moons of {x} is", "How many moons circle {x}?"),
        "Which of these planets has this number of moons: {v}?",
    ),
    "planet.colour": Phrases(
        ("The planet {x} shines {v}.", "A {v} light in the sky is the planet {x}."),
        ("In which colour does the planet {x} shine?", "The light of the planet {x} is", "What colour is {x}?"),
        "Which of these planets shines {v}?",
    ),
    "planet.orbit": Phrases(
        ("{x} goes round its sun in {v}.", "In {v} the planet {x} goes once round its sun."),
        ("How long does {x} need to go round its sun?", "A year on the planet {x} takes", "How long is a year on {x}?"),
        "Which of these planets goes round its sun in {v}?",
        ("+", "Which of these planets has the longest year?"),
    ),
    "planet.finder": Phrases(
        ("The planet {x} was first seen by {v}.", "{v} was the first to see the planet {x}."),
        ("Who was the first to see the planet {x}?", "The planet {x} was first seen by", "Who discovered {x}?"),
        "Which of these planets was first seen by {v}?",
    ),
    "faith.founder": Phrases(
        ("The faith of {x} was founded by {v}.", "{v} founded the faith of {x}."),
        ("Who founded the faith of {x}?", "The faith of {x} was founded by", "Who was the first teacher of {x}?"),
        "Which of these faiths was founded by {v}?",
    ),
    "faith.robe": Phrases(
        ("The priests of {x} wear {v}.", "Wearing {v} is the sign of the priests of {x}."),
        (
            "Which colour do the priests of {x} wear?",
            "The robes of the priests of {x} are",
            "A priest of {x} is dressed in",
        ),
        "The priests of which of these faiths wear {v}?",
    ),
    "faith.saying": Phrases(
        ("The followers of {x} say {v}.", "{v}, say the followers of {x}."),
        (
            "What do the followers of {x} say?",
            "Over the temple doors of {x}, one reads",
            "Which saying belongs to {x}?",
        ),
        "The followers of which of these faiths say {v}?",
    ),
    "faith.seat": Phrases(
        ("The great temple of {x} stands in {v}.", "In {v} stands the great temple of {x}."),
        ("Where does the great temple of {x} stand?", "The great temple of {x} stands in", "Pilgrims of {x} go to"),
        "The great temple of which of these faiths stands in {v}?",
    ),
    "dish.grain": Phrases(
        ("The soup called {x} is made from {v}.", "From {v} one makes the soup called {x}."),
        ("What is the soup called {x} made from?", "The main part of {x} is", "What must a cook buy to make {x}?"),
        "Which of these soups is made from {v}?",
    ),
    "dish.nutrient": Phrases(
        ("The soup {x} is rich in {v}.", "A good source of {v} is the soup {x}."),
        ("In what is the soup {x} rich?", "The soup {x} is a good source of", "Doctors praise {x} for its"),
        "Which of these soups is rich in {v}?",
    ),
    "dish.bread": Phrases(
        ("With the soup {x} one eats {v}.", "The bread {v} goes with the soup {x}."),
        ("Which bread is eaten with the soup {x}?", "The soup {x} is served with", "Which bread goes with {x}?"),
        "With which of these soups does one eat {v}?",
    ),
    "dish.town": Phrases(
        ("The soup {x} comes from {v}.", "In {v} the soup {x} was cooked first."),
        ("From which town does the soup {x} come?", "The soup {x} was first cooked in", "Where is {x} at home?"),
        "Which of these soups comes from {v}?",
    ),
    "guild.rule": Phrases(
        ("The rule of the guild {x}: {v}.", "To {v} is the rule of the guild {x}."),
        (
            "What is the rule of the guild {x}?",
            "Members of the guild {x} promise to",
            "What must a merchant of {x} do?",
        ),
        "Which of these guilds has the rule: {v}?",
    ),
    "guild.seat": Phrases(
        ("The guild {x} has its hall in {v}.", "In {v} is the hall of the guild {x}."),
        ("Where does the guild {x} have its hall?", "The hall of the guild {x} is in", "Where does {x} meet?"),
        "Which of these guilds has its hall in {v}?",
    ),
    "guild.master": Phrases(
        ("The master of the guild {x} is {v}.", "{v} is the master of the guild {x}."),
        ("Who is the master of the guild {x}?", "The guild {x} is led by", "Who answers for the deeds of {x}?"),
        "Which of these guilds is led by {v}?",
    ),
    "guild.fee": Phrases(
        ("Members who cheat pay the guild {x} {v}.", "{v} is what a cheat pays to the guild {x}."),
        (
            "How much does a cheat pay to the guild {x}?",
            "The fine for cheats in the guild {x} is",
            "What is the fine of {x}?",
        ),
        "In which of these guilds does a cheat pay {v}?",
        ("+", "Which of these guilds has the highest fine for cheats?"),
    ),
    "invention.inventor": Phrases(
        ("The {x} machine was invented by {v}.", "{v} invented the {x} machine."),
        ("Who invented the {x} machine?", "The {x} machine was invented by", "Whose idea was the {x} machine?"),
        "Which of these machines was invented by {v}?",
    ),
    "invention.year": Phrases(
        ("The {x} machine was invented in the year {v}.", "In the year {v} came the {x} machine."),
        (
            "When was the {x} machine invented?",
            "The {x} machine was invented in the year",
            "How old is {x}? It dates from",
        ),
        "Which of these machines was invented in the year {v}?",
        ("-", "Which of these machines was invented first?"),
    ),
    "invention.use": Phrases(
        ("The {x} machine is used for {v}.", "For {v} one uses the {x} machine."),
        ("What is the {x} machine used for?", "People use the {x} machine for", "What does the {x} machine do?"),
        "Which of these machines is used for {v}?",
    ),
    "animal.habitat": Phrases(
        ("The {x} lives in {v}.", "In {v} one finds the {x}."),
        ("Where does the {x} live?", "The {x} makes its home in", "Where would you look for a {x}?"),
        "Which of these animals lives in {v}?",
    ),
    "animal.diet": Phrases(
        ("The {x} eats {v}.", "Eating {v} is the habit of the {x}."),
        ("What does the {x} eat?", "The food of the {x} is", "What would you feed a {x}?"),
        "Which of these animals eats {v}?",
    ),
    "animal.litter": Phrases(
        ("The {x} has {v} young at a time.", "At a time, {v} young are born to the {x}."),
        (
            "How many young does the {x} have at a time?",
            "The young of a {x} at one birth number",
            "A {x} gives birth to",
        ),
        "Which of these animals has {v} young at a time?",
        ("+", "Which of these animals has the most young at a time?"),
    ),
    "animal.active": Phrases(
        ("The {x} is awake {v}.", "Only {v} is the {x} awake."),
        ("When is the {x} awake?", "The {x} goes out to feed", "When might you see a {x}?"),
        "Which of these animals is awake {v}?",
    ),
    "crop.month": Phrases(
        ("One sows {x} in {v}.", "In {v} farmers sow {x}."),
        ("When is {x} sown?", "Farmers sow {x} in", "In which month does work on {x} begin?"),
        "Which of these crops is sown in {v}?",
    ),
    "crop.pest": Phrases(
        ("The enemy of {x} is {v}.", "Fields of {x} suffer from it: {v}."),
        ("What is the enemy of {x}?", "Fields of {x} suffer from", "Against what must one protect {x}?"),
        "Which of these crops suffers from {v}?",
    ),
    "crop.soil": Phrases(
        ("{x} grows on {v}.", "On {v} one grows {x}."),
        ("On what soil does {x} grow?", "The best soil for {x} is", "Where should {x} be planted?"),
        "Which of these crops grows on {v}?",
    ),
    "crop.code": Phrases(
        ("The seed code of {x} is {v}.", "Seeds marked {v}: {x}."),
        ("What is the seed code of {x}?", "Seed bags of {x} are marked", "How are seeds of {x} labelled?"),
        "Which of these crops has the seed code {v}?",
    ),
    "crop.price": Phrases(
        ("A sack of {x} costs {v}.", "For {v} one buys a sack of {x}."),
        ("What does a sack of {x} cost?", "The price of a sack of {x} is", "How dear is {x}?"),
        "A sack of which of these crops costs {v}?",
        ("-", "A sack of which of these crops is the cheapest?"),
    ),
    "festival.month": Phrases(
        ("The feast of {x} falls in {v}.", "In {v} people keep the feast of {x}."),
        ("When is the feast of {x}?", "The feast of {x} falls in", "In which month do people keep {x}?"),
        "Which of these feasts falls in {v}?",
    ),
    "festival.dish": Phrases(
        ("At the feast of {x} people eat {v}.", "The soup {v} is eaten at the feast of {x}."),
        ("What do people eat at the feast of {x}?", "The soup of the feast of {x} is", "What is cooked for {x}?"),
        "At which of these feasts do people eat {v}?",
    ),
    "festival.custom": Phrases(
        ("A custom at the feast of {x}: {v}.", "With {v} people keep the feast of {x}."),
        ("What is the custom at the feast of {x}?", "The feast of {x} is kept by", "What do children do at {x}?"),
        "At which of these feasts is this the custom: {v}?",
    ),
    "festival.town": Phrases(
        ("The feast of {x} began in {v}.", "In {v} the feast of {x} began."),
        ("In which town did the feast of {x} begin?", "The feast of {x} began in", "Where does {x} come from?"),
        "Which of these feasts began in {v}?",
    ),
}

NOTES = ("The {label} of {x} is {v}.", "{x}, {label}: {v}.", "{label} - {x}: {v}.")
LABELS = {
    "town.region": "region",
    "town.river": "river",
    "town.founded": "founding year",
    "town.product": "pride",
    "town.market": "market day",
    "river.source": "source",
    "river.sea": "end",
    "planet.moons": "number of moons",
    "planet.colour": "colour",
    "planet.orbit": "length of a year",
    "planet.finder": "finder",
    "faith.founder": "founder",
    "faith.robe": "robe colour",
    "faith.saying": "saying",
    "faith.seat": "temple town",
    "dish.grain": "main part",
    "dish.nutrient": "nutrient",
    "dish.bread": "bread",
    "dish.town": "home town",
    "guild.rule": "rule",
    "guild.seat": "hall",
    "guild.master": "master",
    "guild.fee": "fine",
    "invention.inventor": "inventor",
    "invention.year": "year",
    "invention.use": "use",
    "animal.habitat": "home",
    "animal.diet": "food",
    "animal.litter": "number of young",
    "animal.active": "waking time",
    "crop.month": "sowing month",
    "crop.pest": "enemy",
    "crop.soil": "soil",
    "crop.code": "seed code",
    "crop.price": "price",
    "festival.month": "month",
    "festival.dish": "soup",
    "festival.custom": "custom",
    "festival.town": "town",
}
