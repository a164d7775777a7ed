"""The closed vocabulary of the prompts: emoji, colours, shapes, corners and people."""

from __future__ import annotations

# Name in the prompts -> short name in the emoji data set, where the two differ.
_RENAMED = {
    "fox": "fox_face",
    "panda": "panda_face",
    "cheese": "cheese_wedge",
    "donut": "doughnut",
    "bicycle": "bike",
    "football": "soccer",
}

# 48 emoji that can be told apart at 27 pixels.
_EMOJI_NAMES = """
    dog cat fox panda koala pig frog penguin owl bee butterfly ladybug turtle octopus crab dolphin
    elephant flamingo rose sunflower cactus mushroom apple pear lemon banana watermelon grapes
    strawberry pineapple carrot cheese pizza donut beer car bus bicycle rocket guitar key bell
    umbrella hammer scissors football basketball crown
"""
EMOJI = sorted(_EMOJI_NAMES.split())
COLOURS = ["black", "blue", "brown", "gray", "green", "red", "teal", "yellow"]
SHAPES = ["circle", "rectangle", "triangle"]
ROWS = ("top", "bottom")
COLUMNS = ("left", "right")
CORNERS = tuple(f"{row} {column}" for row in ROWS for column in COLUMNS)
PEOPLE = ["Anna", "Ben", "Carl", "Dora", "Emma", "Fred", "Gina", "Hugo", "Ivan", "Jane"]
MAX_PICTURES = 16

# Words that have a direction of their own in the space of the picture tokens (see stage0.py), in
# this order.
VISUAL_WORDS = (*EMOJI, *COLOURS, *SHAPES, *ROWS, *COLUMNS)


def emoji_short_name(name: str) -> str:
    """The emoji data set's short name of `name`."""
    return _RENAMED.get(name, name)


def with_article(noun: str) -> str:
    """`noun` with a or an, by its first letter only (so also "a grapes")."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def enumerate_nouns(nouns: tuple[str, ...]) -> str:
    """("cat", "owl", "key") -> "a cat, an owl and a key"."""
    parts = [with_article(noun) for noun in nouns]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
