"""The named things of the world: how each is called, how it moves, and which way its picture looks.

Pictures of the sprites lie in one file (`sprites.webp`, see `sprites.py`), in the order of
`SPRITES`. The six painted things are drawn by `causvid.world.actors`.
"""

from dataclasses import dataclass
from typing import Literal

Mover = Literal["walk", "roll", "fly", "swim", "item"]
"""Goes on feet, on wheels, through the air, through water, or not by itself (then it may fall,
bounce and turn)."""


@dataclass(frozen=True)
class Kind:
    """A kind of thing.

    Attributes:
        name: its usual name.
        names: all names, the usual one first.
        emoji: the character its picture shows; empty for a painted thing.
        mover: how it gets about.
        facing: which way its picture looks: -1 left, 1 right, 0 to the viewer.
    """

    name: str
    names: tuple[str, ...]
    emoji: str
    mover: Mover
    facing: int = 0

    @property
    def painted(self) -> bool:
        """Whether it comes in any colour that is asked for."""
        return not self.emoji


# One thing an entry: the character, its names after a colon, divided by slashes. Before the
# character stands the way its picture looks: < left, > right.
_TABLES: dict[Mover, str] = {
    "walk": """
<🐈:cat/kitten/kitty <🐕:dog/puppy <🐎:horse/pony <🐄:cow <🐖:pig <🐑:sheep <🐐:goat <🐘:elephant
<🦒:giraffe <🦓:zebra <🦏:rhino/rhinoceros 🦛:hippo <🐪:camel <🦘:kangaroo <🐅:tiger
<🐆:leopard/cheetah <🐇:rabbit/bunny <🐁:mouse <🐀:rat <🐿️:squirrel/chipmunk <🦔:hedgehog
<🦌:deer/stag <🐂:ox/bull <🦙:llama <🐒:monkey 🦍:gorilla <🦧:orangutan <🦥:sloth <🦨:skunk
<🦡:badger <🦦:otter 🦝:raccoon <🐓:rooster <🐔:hen/chicken <🐤:chick <🐧:penguin
<🦃:turkey 🦚:peacock <🦩:flamingo <🐢:turtle/tortoise <🐊:crocodile/alligator 🦎:lizard <🐍:snake
<🦖:dinosaur <🦕:brontosaurus <🐌:snail <🐛:caterpillar <🐜:ant 🐞:ladybug/ladybird/beetle
🕷️:spider <🦂:scorpion 🦀:crab <🐩:poodle <🦗:cricket 🐨:koala 🐼:panda 🦊:fox 🐻:bear
🦁:lion 🐺:wolf 🐸:frog <🦆:duck <🦢:swan <🦬:bison/buffalo <🦣:mammoth
<🐃:yak <💃:dancer/woman/lady <🏃:runner <🚶:walker/man/person 🧙:wizard 🤖:robot ⛄:snowman
👻:ghost 👽:alien 🦄:unicorn 🐲:dragon
""",
    "roll": """
<🚗:automobile <🚕:taxi/cab <🚙:jeep <🚌:bus <🚒:firetruck
<🚑:ambulance <🚚:truck/lorry <🚛:trailer <🚜:tractor <🏎️:racer <🏍️:motorcycle/motorbike
<🛵:scooter <🚲:bicycle/bike <🚂:locomotive/train <🚎:trolleybus <🚐:van
<🛹:skateboard <🛻:pickup <🚴:cyclist <🛷:sled/sledge 🚆:metro 🛒:cart
""",
    "fly": """
<🦅:eagle <🦜:parrot <🕊️:dove/pigeon 🦉:owl 🦇:bat <🐝:bee 🦋:butterfly 🪰:housefly <🦟:mosquito
>✈️:airplane/aeroplane <🚁:helicopter 🛸:ufo/saucer >🛩️:plane 🪁:kite
<🛰️:satellite 🪂:parachute ☁️:cloud ❄️:snowflake >🚀:spacecraft 🌙:moon
🪐:planet ⭐:star 🍁:leaf 🪶:feather
""",
    "swim": """
<🐟:fish <🐡:pufferfish <🦈:shark <🐬:dolphin <🐳:whale 🐙:octopus <🦑:squid 🦞:lobster
<🦐:shrimp <🦭:seal <⛵:yacht <🚤:speedboat <🛥️:motorboat <🚢:steamer/liner <⛴️:ferry
<🛶:canoe
""",
    "item": """
⚽:football/soccer 🏀:basketball 🏐:volleyball ⚾:baseball 🏈:rugby
🍎:apple 🍐:pear 🍊:tangerine/mandarin 🍋:lemon 🍌:banana 🍉:melon/watermelon 🍇:grapes
🍓:strawberry 🫐:blueberries 🍒:cherries/cherry 🍑:peach 🥭:mango 🍍:pineapple 🥥:coconut 🥝:kiwi
🍅:tomato 🥑:avocado 🍆:aubergine/eggplant 🥕:carrot 🌽:corn/maize 🌶️:chilli/pepper 🥒:cucumber
🥦:broccoli 🧅:onion 🍄:mushroom/toadstool 🥔:potato 🥐:croissant 🍞:bread 🥨:pretzel 🧀:cheese
🍔:hamburger/burger 🍟:fries 🍕:pizza 🌭:hotdog 🥚:egg 🍩:doughnut/donut 🍪:cookie/biscuit
🎂:cake 🧁:cupcake 🍭:lollipop 🍬:candy/sweet 🍦:icecream/cone 🍯:honey ☕:coffee 🍵:tea 🥤:juice
🌻:sunflower 🌹:rose 🌷:tulip 🌸:flower/blossom 🌼:daisy 🌵:cactus 🌴:palm 🌲:pine/fir 🌳:tree
🍀:clover 🎃:pumpkin 🪴:plant
🧸:teddy 🪀:yoyo 🎲:dice 🧩:puzzle 🎁:gift/present 🎀:bow/ribbon 🪆:doll 🎸:guitar 🎻:violin
🎺:trumpet 🥁:drum 🎹:piano 🎷:saxophone 🔔:bell 🏆:trophy/cup 👑:crown 💎:diamond/gem
🔑:key ⚓:anchor 🧲:magnet 💡:lightbulb/bulb 🕯️:candle 🔥:fire/flame 💧:droplet ☂️:umbrella
👓:glasses 🎩:hat 🧢:cap 👟:shoe/sneaker 👢:boot 👗:dress 👕:shirt 🧦:socks 🧤:gloves 🎒:backpack
💼:briefcase 👜:handbag/bag ⏰:clock ⌚:watch 📺:television/tv 📻:radio
💻:laptop/computer 📱:phone/telephone 📖:book ✏️:pencil 🖌️:brush ✂️:scissors 🔨:hammer
🪓:axe 🪑:chair 🛋️:sofa/couch 🛏️:bed 🛁:bathtub 🧹:broom 🧺:basket 🪣:bucket 📦:box/parcel
🏠:house/home 🏰:castle ⛺:tent 🗼:tower 🗿:statue ⛲:fountain 🎠:carousel
😀:smiley/face 🤡:clown ❤️:heart 💀:skull 👁️:eye 🦴:bone ✋:hand
🌍:earth/globe/world 🌞:sun ⚙️:gear/cog 🧭:compass 🎯:target 🐚:shell
""",
}

_PLURALS = {
    "mouse": "mice",
    "sheep": "sheep",
    "deer": "deer",
    "fish": "fish",
    "ox": "oxen",
    "wolf": "wolves",
    "leaf": "leaves",
    "dice": "dice",
    "snowman": "snowmen",
    "bison": "bison",
    "man": "men",
    "woman": "women",
    "person": "people",
}


def plural(name: str) -> str:
    """Two of them."""
    if name in _PLURALS:
        return _PLURALS[name]
    if name.endswith(("s", "x", "ch", "sh")):
        return f"{name}es"
    if name.endswith("y") and name[-2] not in "aeiou":
        return f"{name[:-1]}ies"
    if name in ("tomato", "potato", "mango", "buffalo", "mosquito"):
        return f"{name}es"
    return f"{name}s"


_PAINTED = (
    Kind("ball", ("ball", "beachball"), "", "item"),
    Kind("balloon", ("balloon",), "", "fly"),
    Kind("car", ("car",), "", "roll", 1),
    Kind("boat", ("boat", "sailboat", "ship"), "", "swim", 1),
    Kind("bird", ("bird", "songbird"), "", "fly", 1),
    Kind("rocket", ("rocket", "spaceship"), "", "fly"),
)


def _read(mover: Mover, table: str) -> tuple[Kind, ...]:
    kinds = []
    for entry in table.split():
        picture, _, said = entry.partition(":")
        names = tuple(said.split("/"))
        facing = {"<": -1, ">": 1}.get(picture[0], 0)
        kinds.append(Kind(names[0], names, picture.lstrip("<>"), mover, facing))
    return tuple(kinds)


SPRITES: tuple[Kind, ...] = tuple(
    kind for mover, table in _TABLES.items() for kind in _read(mover, table)
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in (*_PAINTED, *SPRITES)}
"""All kinds by their usual name, the six painted ones first."""
