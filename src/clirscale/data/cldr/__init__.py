"""Parallel questions and passages from the Unicode CLDR, in the eleven languages of XQuAD; nothing to download.

**What it is.** The Common Locale Data Repository, which ``babel`` ships, holds facts about territories, languages,
scripts, currencies and time zones, and their names as speakers of hundreds of languages have contributed them. One
parallel group is one fact of one of sixteen relations (:data:`~clirscale.data.cldr.facts.RELATIONS`) at one entity,
as a question and a passage in each language. The names, lists, percentages, currencies, years and codes are CLDR's;
the sentences around them are templates written for this project in each language, not translated from one another.
Which of the paraphrases a language uses for a fact is drawn by hash, independently of the other languages.

**What it is not.** It is templated text: a handful of sentence patterns for each relation, short passages, names in
their dictionary form, and questions that a list of names could nearly answer. Scores on it say how the training
recipes compare where cross-lingual names have to be matched; they do not say how a model does on natural questions,
for which there are XQuAD-R, MLQA-R and others. CLDR's figures for languages are estimates, what is true "today" is
what its release says (:func:`cldr_version`), and long lists are cut to their most prominent members, of which babel
allows no more than a guess: a passage may name other places first than an encyclopaedia would.

**The held-out task.** Facts are divided by a hash of relation and entity, so that the task asks about no pair that
training asks about, in wordings that training never uses; the entities themselves (Poland, the złoty) do occur in
training under other relations, and so may a fact seen from its other side ("where is the złoty legal tender?" beside
"what do people in Poland pay with?"). Every question has one right passage in each language. How many groups there
are of each relation depends on the release of CLDR; ``tests/data/cldr`` holds the ranges, and the counts for CLDR 47.
"""

from clirscale.data.cldr.build import cldr_version, held_out_task, training_pool
from clirscale.data.cldr.names import LANGUAGES

__all__ = ["LANGUAGES", "cldr_version", "held_out_task", "training_pool"]
