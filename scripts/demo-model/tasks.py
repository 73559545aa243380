"""Generates the demo's prompts and answers.

An example is (task, prompt, answer); the answer starts with a blank and is followed by "\\n".
What `is_held_back` names is never trained on and makes up the evaluation.
"""

import random
import string
import zlib

import facts

STOP = "\n"

CAPITAL_QUESTIONS = ["What is the capital of {}?", "Which city is the capital of {}?",
                     "Name the capital of {}.", "{} has which capital?"]
OPPOSITE_QUESTIONS = ["What is the opposite of {}?", "Which word is the opposite of {}?",
                      "Name the opposite of {}.", "{} is the opposite of what?"]
COLOUR_QUESTIONS = ["What colour is {}?", "Which colour does {} have?", "Name the colour of {}.",
                    "{} is of which colour?"]
YOUNG_QUESTIONS = ["What is a young {} called?", "What do we call a young {}?",
                   "Name the young of a {}.", "A young {} is called what?"]
SUM_QUESTIONS = ["What is {} + {}?", "How much is {} plus {}?", "Add {} and {}.",
                 "What is the sum of {} and {}?", "{} plus {} makes what?"]


def question(text):
    return f"Question: {text}\nAnswer:"


def airports(rng, letters=string.ascii_uppercase, shares=(2, 6, 3)):
    """Codes to copy out of a sentence. Most are random letters: they cannot be memorised.

    `shares` says how often there are one, two and three codes.
    """
    count = rng.choices([1, 2, 3], shares)[0]
    template = rng.choice(facts.FLIGHT_TEMPLATES[count - 1])
    cities = rng.sample(sorted(facts.AIRPORTS), count)
    if rng.random() < 0.1:
        codes = [facts.AIRPORTS[city] for city in cities]
    else:
        codes = ["".join(rng.choices(letters, k=3)) for _ in cities]
    places = [f"{city} ({code})" for city, code in zip(cities, codes)]
    text = template.format(*places)
    prompt = f'Extract the airport codes from this text.\nText: "{text}"\nAirport codes:'
    return "airports", prompt, " " + ", ".join(codes)


def sums(rng):
    left, right = rng.randrange(10), rng.randrange(10)
    text = rng.choice(SUM_QUESTIONS).format(left, right)
    return "sums", question(text), f" {left + right}"


def capitals(rng):
    country, city = rng.choice(list(facts.CAPITALS.items()))
    return "capitals", question(rng.choice(CAPITAL_QUESTIONS).format(country)), " " + city


def opposites(rng):
    pair = list(rng.choice(facts.OPPOSITES))
    rng.shuffle(pair)
    return "opposites", question(rng.choice(OPPOSITE_QUESTIONS).format(pair[0])), " " + pair[1]


def colours(rng):
    thing, colour = rng.choice(list(facts.COLOURS.items()))
    return "colours", question(rng.choice(COLOUR_QUESTIONS).format(thing)), " " + colour


def young(rng):
    animal, name = rng.choice(list(facts.YOUNG.items()))
    return "young", question(rng.choice(YOUNG_QUESTIONS).format(animal)), " " + name


# task -> (generator, weight in training, rows in the evaluation)
TASKS = {
    "airports": (airports, 10, 160),
    "sums": (sums, 3, 40),
    "capitals": (capitals, 2, 30),
    "opposites": (opposites, 2, 30),
    "colours": (colours, 1, 10),
    "young": (young, 1, 10),
}


def is_held_back(prompt):
    """About one prompt in six, by a checksum: the same ones in every run.

    For the fact tasks this keeps back a phrasing of a fact, not the fact; for airports a text.
    """
    return zlib.crc32(prompt.encode()) % 6 == 0


def training_example(rng, hard=0.0):
    """`hard` is the share of airport texts that have three codes, half of them made of few letters.

    With few letters the same one is often followed now by one letter, now by another, so that
    copying takes more than looking up what came after it.
    """
    names = list(TASKS)
    while True:
        name = rng.choices(names, [TASKS[name][1] for name in names])[0]
        if hard and name == "airports" and rng.random() < hard:
            letters = rng.sample(string.ascii_uppercase, rng.choice([5, 26]))
            example = airports(rng, letters, shares=(0, 0, 1))
        else:
            example = TASKS[name][0](rng)
        if not is_held_back(example[1]):
            return example


def evaluation_examples(seed=1):
    """The held-back examples, each prompt once, task by task."""
    rng = random.Random(seed)
    examples = {}
    for generate, _, rows in TASKS.values():
        found = {}
        for _ in range(20000):
            example = generate(rng)
            if is_held_back(example[1]):
                found[example[1]] = example
            if len(found) == rows:
                break
        examples.update(found)
    return list(examples.values())


def vocabulary_corpus(seed=2):
    """Texts that the vocabulary is made from, so that codes are spelled letter by letter.

    No code is in them, so no two capitals become one token; every capital after a blank is often
    in them, so that " J" of the answer " JFK" is one token whatever the letter.
    """
    rng = random.Random(seed)
    texts = facts.SENTENCES * 20 + [f"Gate {letter}" for letter in string.ascii_uppercase] * 400
    for _ in range(4000):
        name, prompt, answer = training_example(rng)
        if name == "airports":
            for code in answer.split(", "):
                prompt = prompt.replace(code.strip(), "here")
            answer = ""
        texts.append(prompt + answer + STOP)
    return texts
