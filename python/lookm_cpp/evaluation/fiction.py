"""Invented people, places, firms and figures, none of which a document has twice."""

from __future__ import annotations

import random
from collections.abc import Sequence

from lookm_cpp.parsing import words

_FEMALE = words(
    "Clara, Helen, Marta, Nora, Olga, Ruth, Sofia, Wanda, Irene, Judith, Lydia, Paula, "
    "Agnes, Bettina, Cora, Doris, Elsa, Frieda, Greta, Hanna, Ida, Karin, Leonie, Miriam"
)
_MALE = words(
    "Peter, Oskar, Stefan, Viktor, Werner, Albert, Bruno, Conrad, Daniel, Erik, Felix, "
    "Georg, Henrik, Jakob, Kurt, Ludwig, Martin, Niklas, Otto, Rafael, Simon, Tobias, "
    "Ulrich, Walter"
)
_SURNAMES = words(
    "Lang, Weiss, Brandt, Moreau, Keller, Novak, Lindqvist, Ferrari, Okafor, Petrov, "
    "Haas, Dupont, Ritter, Sandoval, Bergman, Castell, Draper, Eklund, Fontaine, "
    "Grimaldi, Hollis, Ivarsen, Jansen, Kowalski, Larkin, Marchetti, Nyberg, Osborne, "
    "Pereira, Quist, Rourke, Salazar, Tanaka, Ulvik, Varga, Whitlock, Yilmaz, Zeller, "
    "Abbott, Bianchi, Corrigan, Dahl, Escobar, Fischer"
)
_TOWN_BEGINNINGS = words(
    "Ash, Bram, Cold, Dun, Elm, Fern, Glen, Har, Ivy, King, Lin, Mar, North, Oak, Pen, "
    "Ros, Stan, Thorn, Wal, Yar"
)
_TOWN_ENDINGS = words("bury, field, ford, ham, hurst, ley, mouth, stead, ton, wick")
_FIRM_BEGINNINGS = words(
    "Nordvik, Halden, Solvay, Brenner, Tamworth, Castor, Lumen, Arden, Corvus, Delphin, "
    "Estrel, Faulkner, Gallus, Hyperion, Ibex, Jutland, Kestrel, Lorimer, Meridian, "
    "Nimbus"
)
_FIRM_ENDINGS = words("Brothers, Company, Group, Limited, Partners, Sons, Trading, Works")
_PROJECTS = words(
    "harbour, library, bridge, museum, orchard, stadium, theatre, tram, hospital, "
    "lighthouse, market, castle, canal, observatory, swimming-pool, kindergarten, "
    "tunnel, windmill, monastery, zoo, airport, fountain, greenhouse, archive, "
    "cable-car, concert-hall, fire-station, ferry, railway, school"
)

POOLS: dict[str, tuple[str, ...]] = {
    "job": tuple(
        words(
            "baker, carpenter, dentist, surveyor, florist, goldsmith, translator, jeweller, "
            "librarian, plumber, nurse, pharmacist, photographer, tailor, veterinarian, "
            "watchmaker, bookbinder, butcher, chemist, geologist, hairdresser, locksmith, "
            "midwife, painter"
        )
    ),
    "instrument": tuple(
        words(
            "cello, trumpet, flute, accordion, clarinet, harp, trombone, oboe, guitar, piano, "
            "violin, banjo"
        )
    ),
    "colour": tuple(words("yellow, purple, orange, turquoise, green, pink, brown, silver")),
    "pet": tuple(
        words(
            "parrot, rabbit, tortoise, goldfish, hamster, ferret, snake, lizard, goose, donkey, "
            "goat, pony"
        )
    ),
    "country": tuple(
        words(
            "Portugal, Iceland, Greece, Morocco, Japan, Scotland, Croatia, Canada, Mexico, "
            "Kenya, Ireland, Turkey, Egypt, Peru, Vietnam, Cuba"
        )
    ),
    "language": tuple(
        words(
            "Polish, Dutch, Hungarian, Catalan, Danish, Finnish, Arabic, Swahili, Czech, Hindi, "
            "Korean, Welsh, Romanian, Russian"
        )
    ),
    "weekday": tuple(words("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday")),
    "product": tuple(
        words(
            "bicycle, candle, carpet, mirror, ladder, lamp, backpack, sofa, saddle, helmet, "
            "kettle, clock, canoe, telescope"
        )
    ),
}
"""Words by kind. Kinds share no word, and no filler sentence has one of them."""

_MONTHS = words(
    "January, February, March, April, May, June, July, August, September, October, "
    "November, December"
)


class Fiction:
    """Draws names, words and figures from ``rng``, each only once."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._left: dict[str, list[str]] = {}
        self._figures: set[int] = set()

    def word(self, kind: str) -> str:
        """A word of ``POOLS[kind]`` that was not drawn before; ``""`` if none is left."""
        left = self._pool(kind, POOLS[kind])
        return left.pop() if left else ""

    def person(self) -> tuple[str, str]:
        """First name and surname of a person, and the pronoun: her or him."""
        surname = self._name("surname", _SURNAMES)
        if self.rng.random() < 0.5:
            return f"{self._name('woman', _FEMALE)} {surname}", "her"
        return f"{self._name('man', _MALE)} {surname}", "him"

    def town(self) -> str:
        """A town."""
        return self._name(
            "town", [first + last for first in _TOWN_BEGINNINGS for last in _TOWN_ENDINGS]
        )

    def firm(self) -> str:
        """A firm, of two words."""
        return f"{self._name('firm', _FIRM_BEGINNINGS)} {self.rng.choice(_FIRM_ENDINGS)}"

    def project(self) -> str:
        """What a project builds or repairs."""
        return self._name("project", _PROJECTS)

    def date(self) -> str:
        """A day of a month, such as ``14 March``."""
        return self._name("date", [f"{day} {month}" for day in range(3, 28) for month in _MONTHS])

    def figure(self, low: int, high: int) -> int:
        """A number from ``low`` to ``high``, both included."""
        found = self.rng.choice([n for n in range(low, high + 1) if n not in self._figures])
        self._figures.add(found)
        return found

    def _name(self, kind: str, names: Sequence[str]) -> str:
        left = self._pool(kind, names)
        if not left:
            raise ValueError(f"n_words needs more than {len(names)} {kind} names, expected fewer")
        return left.pop()

    def _pool(self, kind: str, words: Sequence[str]) -> list[str]:
        if kind not in self._left:
            self._left[kind] = self.rng.sample(words, len(words))
        return self._left[kind]
