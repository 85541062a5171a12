from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from clirscale.data import cldr
from clirscale.data.cldr.build import division
from clirscale.data.cldr.facts import RELATIONS, facts
from clirscale.data.leaks import find_leaks, normalise

FINGERPRINTS = (
    "from clirscale.data import cldr; print(cldr.training_pool().fingerprint, cldr.held_out_task().fingerprint)"
)


def test_sizes() -> None:
    assert 2800 <= len(cldr.training_pool()) <= 3200
    assert 290 <= len({query.group_id for query in cldr.held_out_task().queries}) <= 350


@pytest.mark.skipif(cldr.cldr_version() != "47", reason="the counts are those of CLDR 47")
def test_counts_of_cldr_47() -> None:
    assert (len(cldr.training_pool()), len(division().held_out)) == (2934, 318)


def test_every_relation_is_trained_and_asked() -> None:
    training = Counter(fact.relation for fact in division().training)
    held_out = Counter(fact.relation for fact in division().held_out)
    for relation in RELATIONS:
        assert training[relation] >= 20, relation
        assert held_out[relation] >= 2, relation


def test_every_group_has_every_language() -> None:
    for group in cldr.training_pool():
        assert tuple(group.pairs) == cldr.LANGUAGES
    each = dict.fromkeys(cldr.LANGUAGES, len(division().held_out))
    assert Counter(query.lang for query in cldr.held_out_task().queries) == each
    assert Counter(passage.lang for passage in cldr.held_out_task().passages) == each


def test_task_and_training_share_no_group_and_no_text() -> None:
    assert find_leaks(cldr.training_pool(), [cldr.held_out_task()]) == []


def test_passages_and_questions_of_the_task_differ_within_a_language() -> None:
    task = cldr.held_out_task()
    assert len({(p.lang, normalise(p.text)) for p in task.passages}) == len(task.passages)
    assert len({(q.lang, normalise(q.text)) for q in task.queries}) == len(task.queries)


def test_a_question_is_answered_by_the_passages_of_its_group_alone() -> None:
    held_out = division().held_out
    for fact in held_out:
        assert [other.group_id for other in held_out if fact.asked & other.stated] == [fact.group_id]
    task = cldr.held_out_task()
    for query in task.queries:
        assert task.qrels[query.id] == {f"{lang}:{query.group_id}": 1 for lang in cldr.LANGUAGES}


def test_the_division_loses_nothing() -> None:
    divided = [fact.group_id for fact in (*division().training, *division().held_out)]
    assert len(set(divided)) == len(divided)
    of_relation = Counter(fact.relation for fact in facts())
    kept = Counter(group_id.split(":")[0] for group_id in divided)
    assert kept == {relation: min(n, 300) for relation, n in of_relation.items()}


def test_languages_choose_their_wording_independently() -> None:
    groups = [group for group in cldr.training_pool() if group.group_id.startswith("territory_code:")]
    english = ["alpha-2" in group.pairs["en"].query for group in groups]
    assert 0.1 < sum(english) / len(english) < 0.4
    spanish = [group.pairs["es"].query.replace(" ", "")[:8] for group in groups]
    given = Counter(start for start, chosen in zip(spanish, english, strict=True) if chosen)
    assert len(given) > 1


def test_deterministic_whatever_the_hash_seed() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", FINGERPRINTS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {f"{cldr.training_pool().fingerprint} {cldr.held_out_task().fingerprint}\n"}


def test_built_once_in_a_process() -> None:
    assert cldr.training_pool() is cldr.training_pool()
    assert cldr.held_out_task() is cldr.held_out_task()


def test_building_is_fast() -> None:
    code = (
        "import time; from clirscale.data import cldr; start = time.process_time()\n"
        "cldr.training_pool(); cldr.held_out_task(); print(time.process_time() - start)"
    )
    seconds = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert seconds < 6  # of one core; about 1.3 on a machine of 2025
