"""The words of the wide world: for every attribute the phrases that say it.

Captions are put together from these tables (`captions.py`) and read by them (`reading.py`).
"""

from causvid.world.wide.catalogue import KINDS, plural


def _phrases(**values: str) -> dict[str, tuple[str, ...]]:
    """Value → phrases for it, written with commas. What is said more often stands there twice."""
    return {value: tuple(phrases.split(", ")) for value, phrases in values.items()}


COLOURS = _phrases(
    red="red, red, red, crimson, scarlet",
    orange="orange",
    yellow="yellow, yellow, golden",
    green="green, green, green, emerald",
    blue="blue, blue, blue, azure",
    purple="purple, purple, violet",
    pink="pink, pink, rosy",
    brown="brown",
    black="black, black, dark",
    white="white, white, pale",
    grey="grey, gray, silver",
    turquoise="turquoise, teal",
)
SIZES = _phrases(
    small="small, small, little, tiny", normal="normal", big="big, big, large, huge, giant"
)
SIDES = _phrases(
    left="on the left, on the left, on the left side, at the left",
    right="on the right, on the right, on the right side, at the right",
    middle="in the middle, in the centre, in the center",
)
PLACES = _phrases(
    meadow="in the meadow, on the grass, in a field, on the lawn, in the park, in the garden",
    sea="on the sea, at sea, on the ocean, on the water, on the waves, on the lake",
    desert="in the desert, in the desert, in the dunes, on the sand",
    snow="in the snow, in the snow, in a snowy field, on snowy ground, on the ice, in winter",
    forest="in the forest, in a forest, in the woods, among the trees, in the jungle",
    mountains="in the mountains, in the mountains, before the mountains, in the hills",
    beach="on the beach, at the beach, by the shore, on the coast",
    city="in the city, in the street, in a town, downtown, on the road",
    room="in a room, in the room, indoors, at home, inside a house",
    sky="in the sky, in the air, among the clouds, up in the sky",
    space="in space, in outer space, in the universe, in the galaxy",
    underwater="underwater, underwater, under the sea, under water, at the bottom of the sea",
)
PLACE_KEYWORDS = _phrases(
    meadow="meadow, grass, field, park",
    sea="sea, ocean, water, lake",
    desert="desert, dunes, sand",
    snow="snow, snowy, ice, winter",
    forest="forest, woods, jungle",
    mountains="mountains, hills",
    beach="beach, shore, coast",
    city="city, street, town",
    room="room, indoors",
    sky="sky, clouds",
    space="space, galaxy",
    underwater="underwater",
)
TIMES = _phrases(
    day="by day, in the daytime, at noon, in daylight, on a sunny day, in the morning",
    sunset="at sunset, at sunset, at dusk, in the evening, at sundown",
    night="at night, at night, at midnight, by night, in the moonlight, on a starry night",
)
TIME_KEYWORDS = _phrases(
    day="day, daytime, noon, daylight",
    sunset="sunset, dusk, evening",
    night="night, midnight, moonlight",
)
WEATHERS = _phrases(
    clear="under a clear sky, in clear weather, with a cloudless sky, in good weather",
    rain="in the rain, while it rains, in rainy weather, it rains, rain falls, in a storm",
    snowfall="in snowfall, while it snows, it is snowing, in a snowstorm, it snows, snow falls",
    fog="in the fog, in fog, in foggy weather, in the mist, it is foggy",
)
WEATHER_KEYWORDS = _phrases(
    clear="clear weather, fine weather, cloudless",
    rain="rain, rainy, raining",
    snowfall="snowfall, snowing, snow falls",
    fog="fog, foggy, mist",
)
CAMERAS = _phrases(
    still="the camera is still, the camera stands still, the camera rests, a still camera",
    left="the camera pans left, the camera moves left, the camera pans to the left, pan left",
    right="the camera pans right, the camera moves right, the camera pans to the right, pan right",
    up="the camera pans up, the camera moves up, the camera tilts up, pan up",
    down="the camera pans down, the camera moves down, the camera tilts down, pan down",
    **{"in": "the camera zooms in, zoom in, the camera comes closer, zooming in"},
    out="the camera zooms out, zoom out, the camera moves back, zooming out",
    follow="the camera follows, the camera follows it, followed by the camera",
)
COVERS = _phrases(
    wall="a wall, the wall",
    bush="a bush, the bush",
    rock="a rock, the rock",
    box="a crate, the crate",
)
NOBODY = _phrases(one="something, a thing, it, it, a shape, a figure", two="two things, two shapes")
"""What things without a name are called."""
STANDSTILL = (
    "it is still",
    "it stands still",
    "nothing moves",
    "it rests",
    "all is still",
    "still",
)
"""What is said where neither camera nor things move."""

TRAVEL: dict[str, tuple[str, ...]] = {
    "walk": ("walk", "run", "move", "go"),
    "roll": ("drive", "drive", "roll", "move"),
    "fly": ("fly", "fly", "drift", "move"),
    "swim": ("swim", "sail", "move"),
    "item": ("roll", "slide", "move"),
}
"""Verbs of each mover for getting from one place to another."""
VESSELS = ("boat", "yacht", "speedboat", "motorboat", "steamer", "ferry", "canoe")


def travels(kind: str, mover: str) -> tuple[str, ...]:
    """Verbs of a kind: fish swim, ships sail."""
    left_out = "swim" if kind in VESSELS else "sail"
    return tuple(verb for verb in TRAVEL[mover] if verb != left_out)


# {0} is the verb of travel in its form; other verbs stand in braces by their base.
MOTIONS = _phrases(
    still="{be} still, {be} still, {stand} still, {stay} still, {rest}, {wait}, {stop}",
    left="{0} left, {0} left, {0} to the left, {move} left, {move} to the left",
    right="{0} right, {0} right, {0} to the right, {move} right, {move} to the right",
    rise="{rise}, {rise}, {climb}, {go} up, {move} up, {0} up",
    fall="{fall}, {fall}, {fall} down, {descend}, {come} down, {move} down",
    bounce="{bounce}, {bounce}, {jump}, {hop}, {jump} up and down",
    **{"in": "{come} in, {come} in, {enter}, {0} in, {arrive}"},
    out="{go} away, {go} out, {exit}, {0} away, {depart}",
    behind="{0} behind {1}, {pass} behind {1}, {hide} behind {1}, {go} behind {1}",
    grow="{grow}, {grow}, {get} bigger, {get} larger, {become} big",
    shrink="{shrink}, {shrink}, {get} smaller, {become} small",
    turn="{spin}, {turn}, {rotate}, {spin} around",
)
SPECIAL_MOTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "fly": _phrases(still="{hover}, {hover}, {float}", rise="{float} up", left="{float} left"),
    "swim": _phrases(still="{float}, {lie} still", bounce="{bob}, {bob} up and down"),
    "roll": _phrases(still="{be} parked"),
}
PAST_THE_CAMERA = ("past the camera", "through the picture", "across the picture")
"""Said of things that travel where the camera stands still."""

_ING = {
    "be": "being",
    "go": "going",
    "run": "running",
    "swim": "swimming",
    "get": "getting",
    "hop": "hopping",
    "stop": "stopping",
    "spin": "spinning",
    "bob": "bobbing",
    "lie": "lying",
    "fly": "flying",
}


def verb(base: str, form: str) -> str:
    """A verb as `one` does it (walks), as `two` do (walk) or in its `ing` form (walking)."""
    if base == "be":
        return {"one": "is", "two": "are", "ing": ""}[form]
    if form == "two":
        return base
    if form == "ing":
        return _ING.get(base) or f"{base[:-1] if base.endswith('e') else base}ing"
    if base.endswith("y") and base[-2] not in "aeiou":
        return f"{base[:-1]}ies"
    return f"{base}es" if base.endswith(("s", "x", "ch", "sh", "o")) else f"{base}s"


def motion_phrase(template: str, form: str, travel: str, cover: str) -> str:
    """A phrase of `MOTIONS` with its verbs in a form."""
    words = []
    for word in template.split():
        if word == "{0}":
            words.append(verb(travel, form))
        elif word == "{1}":
            words.append(cover)
        elif word.startswith("{"):
            words.append(verb(word[1:-1], form))
        else:
            words.append(word)
    return " ".join(word for word in words if word)


NAMES: dict[str, tuple[str, ...]] = {name: kind.names for name, kind in KINDS.items()}
PLURALS: dict[str, tuple[str, ...]] = {
    name: tuple(plural(word) for word in kind.names) for name, kind in KINDS.items()
}
