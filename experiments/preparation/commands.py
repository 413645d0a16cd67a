"""The 31 intents of spoken commands, with wordings of our own.

The intents are those of Fluent Speech Commands (Lugosch et al., 2019,
https://arxiv.org/abs/1904.03670): an action, an object and a location, which can be 'none'.
"""

from collections.abc import Mapping

Intent = tuple[str, str, str]

# Starts of a sentence that asks for something.
_POLITE = ("", "please ", "could you ", "can you ", "I want you to ")

# What a request does to an object, and where.
_ROOMS: Mapping[str, tuple[str, ...]] = {
    "none": ("",),
    "kitchen": (" in the kitchen",),
    "bedroom": (" in the bedroom", " in my bedroom"),
    "washroom": (" in the washroom", " in the bathroom"),
}
_LANGUAGES = ("Chinese", "English", "German", "Korean")

# For each action and object: the requests, which can start politely, and other sentences.
_WITH_ROOM: Mapping[tuple[str, str], tuple[tuple[str, ...], tuple[str, ...]]] = {
    ("activate", "lights"): (
        ("turn on the lights", "turn the lights on", "switch on the lights", "light up everything"),
        ("lights on", "I need some light", "it is too dark"),
    ),
    ("deactivate", "lights"): (
        (
            "turn off the lights",
            "turn the lights off",
            "switch off the lights",
            "put out the light",
        ),
        ("lights off", "we do not need the lights", "it is too bright"),
    ),
    ("increase", "heat"): (
        ("turn up the heat", "turn the heating up", "raise the temperature", "make it warmer"),
        ("more heat", "it is too cold", "I am freezing"),
    ),
    ("decrease", "heat"): (
        ("turn down the heat", "turn the heating down", "lower the temperature", "make it cooler"),
        ("less heat", "it is too hot", "I am sweating"),
    ),
}
_WITHOUT_ROOM: Mapping[tuple[str, str], tuple[tuple[str, ...], tuple[str, ...]]] = {
    ("activate", "lamp"): (
        ("turn on the lamp", "turn the lamp on", "switch on the lamp", "light the lamp"),
        ("lamp on", "I need the lamp"),
    ),
    ("deactivate", "lamp"): (
        ("turn off the lamp", "turn the lamp off", "switch off the lamp", "put out the lamp"),
        ("lamp off", "no lamp any more"),
    ),
    ("activate", "music"): (
        ("play some music", "start the music", "turn on the music", "put a song on"),
        ("music on", "I would like to hear a song"),
    ),
    ("deactivate", "music"): (
        ("stop the music", "end the music", "turn off the music", "stop this song"),
        ("music off", "no more music today"),
    ),
    ("increase", "volume"): (
        ("turn up the volume", "turn it up", "raise the volume", "make it louder"),
        ("more volume", "it is too quiet", "I can hardly hear it"),
    ),
    ("decrease", "volume"): (
        ("turn down the volume", "turn it down", "lower the volume", "make it quieter"),
        ("less volume", "it is too loud", "that hurts my ears"),
    ),
    ("bring", "juice"): (
        ("bring me some juice", "get the juice", "fetch me a glass of juice", "pour me a juice"),
        ("I would like some juice", "juice for me"),
    ),
    ("bring", "newspaper"): (
        (
            "bring me the newspaper",
            "get the newspaper",
            "fetch me a newspaper",
            "find my newspaper",
        ),
        ("I would like to read the newspaper", "where is my newspaper"),
    ),
    ("bring", "shoes"): (
        ("bring me my shoes", "get the shoes", "fetch me my shoes", "find my shoes"),
        ("I would like to wear my shoes", "where are my shoes"),
    ),
    ("bring", "socks"): (
        ("bring me my socks", "get the socks", "fetch me my socks", "find my socks"),
        ("I would like to wear my socks", "where are my socks"),
    ),
    ("change language", "none"): (
        ("change the language", "use a different language", "open the language settings"),
        ("another language", "I do not understand this language"),
    ),
    **{
        ("change language", name): (
            (f"change the language to {name}", f"use {name}", f"speak {name} to me"),
            (f"{name} from now on", f"I would like to learn {name}"),
        )
        for name in _LANGUAGES
    },
}


def _wordings() -> dict[Intent, tuple[str, ...]]:
    found = {}
    for pairs, rooms in ((_WITH_ROOM, _ROOMS), (_WITHOUT_ROOM, {"none": ("",)})):
        for (action, thing), (requests, others) in pairs.items():
            starts = [start + request for start in _POLITE for request in requests]
            for room, ends in rooms.items():
                found[action, thing, room] = tuple(
                    start + end for start in (*starts, *others) for end in ends
                )
    return found


# Maps each intent to the sentences that express it.
WORDINGS: Mapping[Intent, tuple[str, ...]] = _wordings()
