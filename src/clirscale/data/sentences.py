"""Sentences of a paragraph, by rules: for sets that are published without LAReQA's sentence breaks.

A terminator ends a sentence, together with the quotation marks and brackets behind it; :func:`split` has the rules.
Where conventions differ they follow LAReQA's breaks (Roy et al., EMNLP 2020), whose splitter is not published: its
habits, such as that an initial (``J. Smith``) ends a sentence in Spanish but not in English, were taken from XQuAD-R.

Agreement with LAReQA on XQuAD-R: the breaks taken away and made again. Precision and recall are those of the breaks
inside paragraphs; "answers" is the share of questions whose relevant sentence is the same text. The rules were written
on these texts: expect somewhat less on others.

==== ========== ======= ========= ====== =======
lang candidates rebuilt precision recall answers
==== ========== ======= ========= ====== =======
ar   1222       1222    0.999     0.999  0.998
de   1276       1275    0.993     0.992  0.981
el   1234       1235    0.995     0.996  0.995
en   1180       1170    1.000     0.989  0.987
es   1215       1219    0.978     0.982  0.961
hi   1244       1245    0.996     0.997  0.991
ru   1219       1212    0.995     0.988  0.982
th   852        760     0.625     0.531  0.369
tr   1167       1159    0.997     0.988  0.988
vi   1209       1209    0.998     0.998  0.997
zh   1196       1201    0.994     0.999  0.987
==== ========== ======= ========= ====== =======

Thai has no terminators. LAReQA breaks it at some of its spaces, which only a model of the language could tell; the rule
here (a space before certain conjunctions) is a stopgap, and its candidates are not LAReQA's. For comparison, on the
other ten languages: sentencex 1.0.32 has recall .93 to .98, pysbd 0.3.4 .94 to .98 and, in Arabic, twice the sentences.
"""

from __future__ import annotations

import re
import unicodedata

NAME = "clirscale rules, version 1"  # of the splitter; a change of any rule is a new version

# Full stops of scripts without case or blanks between sentences, and the bullets of lists: they end a sentence whatever
# follows. The others need a blank or a letter without case behind them, so that 3.5 and example.org stay whole.
_ALWAYS = "。！？｡।॥•"
_TERMINATOR = re.compile(
    rf"(?P<run>[.!?…؟۔{_ALWAYS}]+)"
    r"[\"'”’»›)\]』」】）》〉]*"
    r"[\[(《（]*"  # LAReQA's breaks come after these, too
)
_OPENERS = "\"'“‘«‹([『「【（《〈¿¡„-–—·* "
_NUMBER = re.compile(r"[\d\W]*")

# Where a single letter before a full stop is an initial.
_INITIALS = frozenset({"de", "en", "ru"})
# Where a number before a full stop is an ordinal.
_ORDINALS = frozenset({"cs", "da", "de", "et", "fi", "hr", "hu", "lv", "no", "pl", "sk", "sl", "sr", "tr"})
# Where a sentence does not begin with a number and a small letter behind it (1930'larda).
_NO_LEADING_NUMBERS = frozenset({"tr"})
_ABBREVIATIONS = {
    "de": re.compile(
        "al|bzw|ca|co|corp|dr|evtl|fig|ggf|inc|inkl|ltd|mio|mr|mrs|nr|prof|sog|st|usw|vgl|vol|vs|zb", re.IGNORECASE
    ),
    "en": re.compile(
        "al|approx|bros|ca|capt|cf|col?|corp|dept|dr|eds?|etc|fig|gen|hon|inc|jr|lt|ltd|mr|mrs|ms|mt|no|pp|prof|rev|sgt"
        "|st|vol|vs",
        re.IGNORECASE,
    ),
    "es": re.compile("ee", re.IGNORECASE),  # EE. UU.
}
_THAI = re.compile(
    r"\s+(?=ซึ่ง|ในขณะที่|ขณะที่|เนื่องจาก|อย่างไรก็ตาม|นอกจาก|ดังนั้น|อย่างเช่น|แม้ว่า|ถึงแม้|โดย|เพื่อ|เพราะ|ต่อมา"
    r"|ถ้า|หาก|ปกติ|ตามปกติ|ดังที่|ยิ่ง)"
)


def split(text: str, lang: str) -> list[tuple[int, int]]:
    """Return where the sentences of a paragraph begin and end, without the blanks around them.

    A terminator ends a sentence unless what follows shows that it goes on (a small letter, a comma), or what precedes
    shows that its full stop has another office: an abbreviation (Dr., U.S.), an initial, an ordinal.

    >>> text = "Dr. Ames (b. 1950) earned 3.5 million. She left. 他走了。她没有。"
    >>> [text[begin:end] for begin, end in split(text, "en")]
    ['Dr. Ames (b. 1950) earned 3.5 million.', 'She left.', '他走了。', '她没有。']

    Args:
        text: the paragraph; line breaks in it are blanks.
        lang: its language, which decides on abbreviations, initials and ordinals; any tag will do.

    Returns:
        Spans in ascending order, ``text[begin:end]``; none is empty. Together they cover all but blanks.
    """
    if lang == "th":
        ends = [found.start() for found in _THAI.finditer(text)]
    else:
        ends = [found.end() for found in _TERMINATOR.finditer(text) if _is_end(text, found, lang)]
    spans = []
    for begin, end in zip([0, *ends], [*ends, len(text)], strict=True):
        sentence = text[begin:end]
        if stripped := sentence.strip():
            begin += len(sentence) - len(sentence.lstrip())
            spans.append((begin, begin + len(stripped)))
    return spans


def _is_end(text: str, found: re.Match[str], lang: str) -> bool:
    following = text[found.end() : found.end() + 1]
    if not following:
        return True
    if found["run"][-1] in _ALWAYS:
        return not (following.isdigit() or following in ",.:;।")
    if not following.isspace():
        return unicodedata.category(following) == "Lo"  # a letter without case, as in Arabic
    if _goes_on(text[found.end() : found.end() + 40], lang):
        return False
    return found.group() != "." or not _belongs_to_word(text[max(0, found.start() - 40) : found.start()], lang)


def _goes_on(after: str, lang: str) -> bool:
    """Say whether the text behind a terminator shows that its sentence has not ended."""
    if after.lstrip()[:1] in tuple(".,:;"):
        return True
    after = after.lstrip(_OPENERS)
    if lang in _NO_LEADING_NUMBERS:
        after = _NUMBER.sub("", after, count=1)
    return after[:1].islower()


def _belongs_to_word(before: str, lang: str) -> bool:
    """Say whether a full stop behind this text is part of its last word."""
    word = re.split(r"[\s(\"“«]", before)[-1]
    if lang in _ORDINALS and word.isdigit() and len(word) <= 2:
        return True
    if lang in _INITIALS and len(word) == 1 and word.isalpha():
        return True
    if lang in _ABBREVIATIONS and _ABBREVIATIONS[lang].fullmatch(word):
        return True
    return re.search(r"[^\W\d_]", word) is not None and "." in word and len(word.rpartition(".")[2]) <= 2
