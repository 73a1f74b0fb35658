"""Questions in several languages: a sum told in words, and the weekday after some days."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from fleetbench_collectors.quality.general import words
from fleetbench_collectors.quality.general.item import Item, Reply, distinct, make, stream

CATEGORY = "language"
_SUM = {
    "de": "{name} hat {a} Äpfel und kauft {b} dazu. Wie viele sind es? Antworte nur mit der Zahl.",
    "fr": "{name} a {a} pommes et en achète {b} autres. Combien y en a-t-il ? Réponds seulement par le nombre.",
    "es": "{name} tiene {a} manzanas y compra {b} más. ¿Cuántas son? Responde solo con el número.",
    "it": "{name} ha {a} mele e ne compra altre {b}. Quante sono? Rispondi solo con il numero.",
    "pt": "{name} tem {a} maçãs e compra mais {b}. Quantas são? Responde só com o número.",
}
_DAY = {
    "de": "Heute ist {day}. Welcher Wochentag ist in {n} Tagen? Antworte nur mit dem Wochentag.",
    "fr": "Aujourd'hui, c'est {day}. Quel jour serons-nous dans {n} jours ? Réponds seulement par le jour.",
    "es": "Hoy es {day}. ¿Qué día de la semana será dentro de {n} días? Responde solo con el día.",
    "it": "Oggi è {day}. Che giorno sarà fra {n} giorni? Rispondi solo con il giorno.",
    "pt": "Hoje é {day}. Que dia da semana será daqui a {n} dias? Responde só com o dia.",
}
_DAYS = {
    "de": ("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"),
    "fr": ("lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"),
    "es": ("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"),
    "it": ("lunedì", "martedì", "mercoledì", "giovedì", "venerdì", "sabato", "domenica"),
    "pt": ("segunda-feira", "terça-feira", "quarta-feira", "quinta-feira", "sexta-feira", "sábado", "domingo"),
}
LANGUAGES = tuple(_SUM)


def items(n: int, seed: int) -> Iterator[Item]:
    rng = stream(seed, CATEGORY)
    return distinct(n, lambda i: (_sum, _day)[i % 2](rng, LANGUAGES[i // 2 % len(LANGUAGES)]))


def is_correct(item: Item, reply: Reply) -> bool:
    """The word or number alone, accents included; a final full stop and the case of the word are free."""
    return re.sub(r"\.\Z", "", reply.text.strip()).casefold() == str(item.want).casefold()


def _sum(rng: Random, language: str) -> Item:
    a, b = rng.randint(12, 480), rng.randint(12, 480)
    prompt = _SUM[language].format(name=rng.choice(words.NAMES), a=a, b=b)
    return make(CATEGORY, f"{language}/easy", prompt, str(a + b), str(a + b), max_tokens=32)


def _day(rng: Random, language: str) -> Item:
    today, n = rng.randrange(7), rng.randint(8, 99)
    days = _DAYS[language]
    prompt = _DAY[language].format(day=days[today], n=n)
    want = days[(today + n) % 7]
    return make(CATEGORY, f"{language}/hard", prompt, want, want, max_tokens=32)
