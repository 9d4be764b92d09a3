"""BERT's uncased tokenizer: text to the ids of word pieces.

1. Normalise: lowercase, accents off ("É" is "e"), control characters out.
2. Split at white space; each punctuation mark and each Chinese character is a word of its own.
3. Cut each word into the longest pieces that the vocabulary has, from the left. A piece that does
   not begin its word is written with ## before it: "tokenizer" is "token", "##izer".
"""

import unicodedata

# A sentence is cut to this many tokens, [CLS] and [SEP] included: the model was trained no longer.
MAXIMUM_TOKENS = 256
# A longer word is not looked up, it is [UNK]; the vocabulary was made so.
MAXIMUM_CHARACTERS = 100

# Han characters. Kana and Hangul are written with words, and are not here.
HAN = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
# ASCII's symbols count as punctuation too, where Unicode says otherwise.
SYMBOLS = frozenset("$+<=>^`|~")


def is_dropped(character, category):
    """Accents (NFD makes them characters), control characters, and what could not be decoded."""
    if character in "\t\n\r":
        return False
    return category in ("Mn", "Cc", "Cf", "Co", "Cs") or character == "\ufffd"


def stands_alone(character, category):
    """Whether the character is a word whatever stands beside it."""
    if category.startswith("P") or character in SYMBOLS:
        return True
    return any(first <= ord(character) <= last for first, last in HAN)


def words(text):
    """The words of a text, normalised."""
    kept = []
    for character in unicodedata.normalize("NFD", text):
        category = unicodedata.category(character)
        if not is_dropped(character, category):
            # Character by character: str.lower() of a whole word would end it in a final sigma.
            lower = character.lower()
            kept.append(f" {lower} " if stands_alone(character, category) else lower)
    return "".join(kept).split()


class Tokenizer:
    """`tokenizer(text)` is the list of ids, from [CLS] to [SEP]."""

    def __init__(self, path):
        """`path` is vocab.txt: one piece a line, its id the number of the line from 0."""
        # Not splitlines(), which would also split at characters that are pieces.
        pieces = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        self.ids = {piece: number for number, piece in enumerate(pieces)}
        self.unknown, self.begin, self.end = (self.ids[p] for p in ("[UNK]", "[CLS]", "[SEP]"))

    def __call__(self, text):
        # "[SEP]" in a text is four words: a text cannot forge the marks.
        ids = [number for word in words(text) for number in self.cut(word)]
        return [self.begin, *ids[: MAXIMUM_TOKENS - 2], self.end]

    def cut(self, word):
        """The ids of the word's pieces; [UNK] alone if some rest of it has no piece."""
        if len(word) > MAXIMUM_CHARACTERS:
            return [self.unknown]
        ids, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                number = self.ids.get(prefix + word[start:end])
                if number is not None:
                    break
            else:
                return [self.unknown]
            ids.append(number)
            start = end
        return ids
