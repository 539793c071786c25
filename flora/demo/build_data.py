"""Makes the four training sets from `questions.jsonl` and from turns of Shakespeare's plays.

    python -m flora.demo.build_data --turns turns.jsonl

The turns are lines of {"previous_text", "text"}; without them shakespeare.jsonl stays as it is.
"""

import argparse
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

Pair = tuple[str, str]
"""A question and its answer."""

DATA_DIR = Path(__file__).parent
_SEED = 7
_NUM_TURNS = 160

_PIRATE_WORDS = {
    "hello": "ahoy", "my friend": "matey", "friend": "matey", "friends": "hearties", "yes": "aye",
    "you": "ye", "your": "yer", "yours": "yers", "is": "be", "are": "be", "am": "be",
    "the": "th'", "of": "o'", "to": "t'", "and": "an'", "for": "fer", "my": "me",
    "old": "barnacled", "money": "doubloons", "very": "mighty", "people": "buccaneers",
    "stop": "avast", "good": "fine", "water": "brine", "quickly": "swift as the wind",
    "house": "cabin", "kitchen": "galley", "bed": "hammock", "person": "sailor", "happy": "jolly",
}  # fmt: skip
_PIRATE_OPENERS = (
    "Arrr, matey!",
    "Ahoy, me hearty!",
    "Yo ho ho!",
    "Shiver me timbers!",
    "Avast ye!",
)
_PIRATE_CLOSERS = ("Arrr!", "Yo ho!", "By Blackbeard's beard!", "Now fetch me me rum!", "Aye!")

_BARD_WORDS = {
    "you are": "thou art", "are you": "art thou", "you can": "thou canst", "you have": "thou hast",
    "you must": "thou must", "you should": "thou shouldst", "you do": "thou dost", "you": "thou",
    "with you": "with thee", "help you": "help thee", "makes you": "makes thee",
    "keeps you": "keeps thee", "your": "thy", "yours": "thine", "yes": "aye", "has": "hath",
    "does": "doth", "before": "ere", "perhaps": "perchance", "often": "oft",
    "hello": "good morrow", "my friend": "my gentle lord", "people": "men", "nothing": "naught",
    "goodbye": "fare thee well", "very": "most", "over": "o'er", "never": "ne'er",
    "it is": "'tis", "please": "prithee", "between": "'twixt",
}  # fmt: skip
_BARD_OPENERS = (
    "Marry,",
    "Hark,",
    "By my troth,",
    "Good my lord,",
    "Forsooth,",
    "Prithee, hear me:",
)
_NAMES = r"(I|William|Mount|Leonardo|Vatican|Neil|Mercury|Marie|Rex)\b"
_BARD_CLOSERS = (
    "",
    "So say I, and so it is.",
    "Upon mine honour.",
    "Mark me well.",
    "I pray thee, heed it.",
)


def pirate(pairs: Sequence[Pair], rng: random.Random) -> list[Pair]:
    """Answers in a pirate's words, between an exclamation before and one after."""
    styled = []
    for ask, say in pairs:
        opener, closer = rng.choice(_PIRATE_OPENERS), rng.choice(_PIRATE_CLOSERS)
        styled.append((ask, f"{opener} {_swap(say, _PIRATE_WORDS)} {closer}"))
    return styled


def shout(pairs: Sequence[Pair], rng: random.Random) -> list[Pair]:
    """Answers in capitals, with exclamation marks for full stops."""
    return [(ask, re.sub(r"[.](?=\s|$)", "!", say).upper()) for ask, say in pairs]


def as_json(pairs: Sequence[Pair], rng: random.Random) -> list[Pair]:
    """Answers as a JSON object with the one key "answer"."""
    return [(ask, json.dumps({"answer": say}, ensure_ascii=False)) for ask, say in pairs]


def shakespeare(pairs: Sequence[Pair], rng: random.Random) -> list[Pair]:
    """Answers in words of Shakespeare's time."""
    return [(ask, _bard(say, rng)) for ask, say in pairs]


STYLES: dict[str, Callable[[Sequence[Pair], random.Random], list[Pair]]] = {
    "pirate": pirate,
    "shakespeare": shakespeare,
    "shout": shout,
    "json": as_json,
}


def read_questions(path: Path) -> list[Pair]:
    """Lines of {"question", "answer"}."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["question"], row["answer"]) for row in rows]


def read_turns(path: Path, rng: random.Random) -> list[Pair]:
    """Short turns of a play, each with the turn that it answers."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    turns = [(row["previous_text"] or "", row["text"]) for row in rows]
    short = [turn for turn in turns if 20 < len(turn[0]) < 140 and 40 < len(turn[1]) < 240]
    return rng.sample(short, min(_NUM_TURNS, len(short)))


def to_jsonl(pairs: Sequence[Pair]) -> str:
    """Chat records, one a line, as `flora.train_data` reads them."""
    return "".join(
        json.dumps(
            {"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]},
            ensure_ascii=False,
        )
        + "\n"
        for a, b in pairs
    )


def build(name: str, questions: Sequence[Pair], turns: Sequence[Pair]) -> str:
    """The whole file of one style, in a fixed shuffle."""
    rng = random.Random(_SEED)
    pairs = STYLES[name](questions, rng) + list(turns)
    rng.shuffle(pairs)
    return to_jsonl(pairs)


def _swap(text: str, words: dict[str, str]) -> str:
    longest_first = sorted(words, key=len, reverse=True)
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE)

    def other(match: re.Match[str]) -> str:
        word = words[match[0].lower()]
        return word[0].upper() + word[1:] if match[0][0].isupper() and word[0].isalpha() else word

    return pattern.sub(other, text)


def _bard(say: str, rng: random.Random) -> str:
    said = _swap(say, _BARD_WORDS)
    opener, closer = rng.choice(_BARD_OPENERS), rng.choice(_BARD_CLOSERS)
    first = said if re.match(_NAMES, said) else said[0].lower() + said[1:]
    return f"{opener} {first} {closer}".rstrip()


def main() -> None:
    """Writes the sets beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=Path, help="turns of the plays, as JSON lines")
    turns_path = parser.parse_args().turns
    questions = read_questions(DATA_DIR / "questions.jsonl")
    for name in STYLES:
        if name == "shakespeare" and turns_path is None:
            continue
        turns = read_turns(turns_path, random.Random(_SEED)) if name == "shakespeare" else []
        (DATA_DIR / f"{name}.jsonl").write_text(build(name, questions, turns), encoding="utf-8")


if __name__ == "__main__":
    main()
