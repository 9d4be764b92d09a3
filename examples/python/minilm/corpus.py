"""The text that the demo searches: what scikit-learn says of its data sets, cut into sentences."""

import re
from importlib.resources import files

# Shorter pieces are headings, names and column titles.
FEWEST_WORDS = 6

# Paragraphs that are no prose: tables, titles, code, directives and links.
NO_PROSE = re.compile(r"={4}|-{4}|>>>|^\.\. ")
# The next field or item of a list begins a new sentence.
ITEM = re.compile(r"\n\s*(?=:[A-Z]|[*-] )")
# A stop, then a capital. One capital letter before the stop is an initial, as in "R.A. Fisher".
SENTENCE = re.compile(r"(?<=[a-z0-9)\"'][.!?])\s+(?=[A-Z])")
MARKUP = (
    (re.compile(r":\w+:`~?([^`]+)`"), r"\1"),  # :func:`name`
    (re.compile(r"`+([^`<]*?)\s*(<[^>]*>)?`+_*"), r"\1"),  # ``code`` and `text <link>`__
    (re.compile(r"\s*\[\d+\]_|\*+|::$|\s*https?://\S+"), ""),
)


def plain(text):
    """One line without reStructuredText's marks."""
    text = " ".join(text.split())
    for pattern, replacement in MARKUP:
        text = pattern.sub(replacement, text)
    return text.strip(":- ")


def sentences():
    """[(name of the data set, sentence)], in the order of files and text."""
    found = []
    folder = files("sklearn") / "datasets" / "descr"
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if not path.name.endswith(".rst"):
            continue
        # What follows a heading "References" is names and page numbers.
        text = re.split(r"\n\.\. (?:dropdown|rubric):: References", path.read_text("utf-8"))[0]
        for paragraph in re.split(r"\n\s*\n", text):
            if NO_PROSE.search(paragraph.strip()):
                continue
            for item in ITEM.split(paragraph):
                for sentence in SENTENCE.split(plain(item)):
                    if len(sentence.split()) >= FEWEST_WORDS:
                        found.append((path.name.removesuffix(".rst"), sentence))
    return found
