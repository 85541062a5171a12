"""Measures of a retrieval task in three settings, as in Elmahdy et al. (arXiv:2408.10536).

monolingual (``mono``): query and passages in one language; cross-lingual (``cross``): every ordered pair of two
languages, each its own index; multilingual (``multi``): the passages of all languages in one pool.

In the multilingual setting the bias towards a language is measured, too (:data:`BIAS`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clirscale.config import SearchConfig
from clirscale.data.tasks import SETTINGS, RetrievalTask
from clirscale.errors import DataError
from clirscale.retrieval import approximate, trec
from clirscale.retrieval.measures import (
    CE,
    JudgedRanks,
    Values,
    average_precision,
    compute,
    contrastive_entropy,
    depth_needed,
    negatives,
    parse_measures,
)
from clirscale.retrieval.search import POOL, DenseScorer, Ints, PassageIndex, Rankings, Scorer, is_excluded

#: Language bias in the multilingual pool, a value a query. ``rank_distance``: the highest minus the lowest rank of the
#: query's relevant passages, in the complete ranking (Elmahdy et al., footnote 6; Huang et al. 2023). ``own_share@20``:
#: share of the query's language in the top 20, to be compared with ``own_share``, that in the pool. ``AP_other``: AP
#: where passages in the query's language are no candidates.
BIAS = ("rank_distance", "own_share@20", "own_share", "AP_other")

_OWN_SHARE_DEPTH = 20
_TEMPERATURE = 0.05  # of contrastive entropy, the same for every encoder; without one, cosines could not get near 0
_QUERIES = 4096  # of a block
_LINES_PER_PART = 200_000


def evaluate(
    task: RetrievalTask,
    scorer: Scorer,
    measures: Sequence[str],
    run_depth: int | None,
    search: SearchConfig,
) -> Evaluation:
    """Search and measure.

    A query takes part where a passage of grade 1 or more is among the candidates; elsewhere it is dropped and counted.

    Args:
        task: queries, passages, qrels, and the settings that make sense.
        scorer: of the task's queries and passages, in their order.
        measures: names of ir-measures, such as ``P@5``, or of our own (``R_cap@20``, ``AP_cap@20``, ``CE``).
        run_depth: how many passages of each ranking :meth:`Evaluation.save` writes; None for all.
        search: exact or an approximate index; its seed also draws the negatives of ``CE``.

    Raises:
        ConfigError: a measure cannot be computed.
        DataError: no query has a relevant passage in any setting.
        ClirscaleError: a vector is not finite, or zero.
    """
    parsed = parse_measures(measures)
    judged, excluded = _judgements(task), _excluded(task)
    found, how = _search(task, scorer, judged, excluded, parsed, run_depth, search)
    corpora = [_corpus(name, judged) for name in (*task.passages.languages, POOL)]
    frames = []
    for corpus in corpora:
        setting = _settings(corpus.name, found.query_lang[corpus.queries])
        if not np.isin(setting, task.settings).any():
            continue
        ranks = found.ranks(corpus)
        values = compute({n: m for n, m in parsed.items() if n != CE}, ranks, partial(found.top_with_grades, corpus))
        if CE in parsed:
            values[CE] = _entropy(task, scorer, found, corpus, excluded, search.seed)
        frame = pd.DataFrame(
            {
                "setting": setting,
                "query_lang": found.query_lang[corpus.queries],
                "passage_lang": corpus.name,
                "query_id": found.query_id[corpus.queries],
                "group_id": [task.queries[i].group_id for i in corpus.queries],
                **{name: values[name] for name in parsed},
                **(found.bias(corpus) if corpus.name == POOL else dict.fromkeys(BIAS, np.nan)),
            }
        )
        frames.append(frame[frame["setting"].isin(task.settings)])
    if not sum(map(len, frames)):
        raise DataError(
            f"{task.name}: no query has a relevant passage in a setting of {', '.join(task.settings)}; check that the "
            "qrels name the queries' ids"
        )
    per_query = pd.concat(frames, ignore_index=True)
    per_query["setting"] = pd.Categorical(per_query["setting"], SETTINGS)
    for column in ("query_lang", "passage_lang", "query_id", "group_id"):
        per_query[column] = per_query[column].astype("category")
    per_query = per_query.sort_values("setting", kind="stable", ignore_index=True)
    return Evaluation(per_query, tuple(parsed), run_depth, how, tuple(task.settings), found, tuple(corpora))


def _search(
    task: RetrievalTask,
    scorer: Scorer,
    judged: _Judgements,
    excluded: Mapping[int, Ints],
    parsed: Any,
    run_depth: int | None,
    search: SearchConfig,
) -> tuple[_Found, dict[str, Any]]:
    depth = max(run_depth or len(task.passages), depth_needed(parsed), _OWN_SHARE_DEPTH)
    index = PassageIndex(task.passages.ids, task.passages.lang_codes, task.passages.languages)
    query_lang = [q.lang for q in task.queries]
    arguments = (len(query_lang), query_lang, judged.query, judged.passage, depth, excluded)
    if search.index == "exact" or not isinstance(scorer, DenseScorer):
        return _Found(task, judged, index.search(scorer, *arguments)), {"index": "exact"}
    rankings, recall = approximate.search(
        index, search.index, scorer, *arguments, sample=search.sample, seed=search.seed
    )
    return _Found(task, judged, rankings), {"index": search.index, "recall": recall, "recall_sample": search.sample}


def _excluded(task: RetrievalTask) -> dict[int, Ints]:
    rows = task.passages.find({passage for passages in task.excluded.values() for passage in passages})
    return {
        i: np.array(sorted(rows[p] for p in task.excluded[query.id] if p in rows), dtype=np.int64)
        for i, query in enumerate(task.queries)
        if query.id in task.excluded
    }


def _entropy(
    task: RetrievalTask, scorer: Scorer, found: _Found, corpus: _Corpus, excluded: Mapping[int, Ints], seed: int
) -> Values:
    """Return the contrastive entropy of the queries of a corpus; NaN for scores that are no cosines, such as BM25's."""
    if not isinstance(scorer, DenseScorer):
        return np.full(len(corpus.queries), np.nan)
    judged = found.judged
    relevant = corpus.pairs[judged.grade[corpus.pairs] >= 1]
    relevant = relevant[~is_excluded(judged.query[relevant], judged.passage[relevant], excluded)]
    members = task.passages.rows_in(None if corpus.name == POOL else corpus.name)
    query = np.searchsorted(corpus.queries, judged.query[relevant])
    positions = np.searchsorted(members, judged.passage[relevant])
    forbidden = np.split(positions, np.searchsorted(query, np.arange(1, len(corpus.queries))))
    for i in np.flatnonzero(np.isin(corpus.queries, list(excluded))):
        candidates = np.isin(members, excluded[int(corpus.queries[i])])
        forbidden[i] = np.append(forbidden[i], np.flatnonzero(candidates))
    drawn = negatives(len(members), forbidden, seed)  # (queries, 256 or fewer), -1 for none
    distinct = np.unique(drawn[drawn >= 0])
    scores = np.concatenate([scorer.scores(rows, members[distinct]) for rows in _blocks(len(task.queries))])
    columns = np.searchsorted(distinct, drawn)
    negative = np.where(drawn >= 0, scores[corpus.queries[:, None], np.minimum(columns, len(distinct) - 1)], -np.inf)
    positive = scorer.pairs(judged.query[relevant], judged.passage[relevant])
    return contrastive_entropy(positive, negative, query, _TEMPERATURE)


def _blocks(n: int) -> Iterator[slice]:
    return (slice(begin, min(begin + _QUERIES, n)) for begin in range(0, n, _QUERIES))


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` found.

    Attributes:
        per_query: one row a query and setting (and passage language): ``setting``, ``query_lang``, ``passage_lang``
            (``*`` for all), ``query_id``, ``group_id``, a column a measure, and those of :data:`BIAS`, which are NaN
            outside the multilingual setting and where they are not defined: without relevant passages in two languages
            (rank distance) or in another language (AP_other), or without passages in the query's language (own share).
        measures: names of the measures.
        run_depth: how many passages of each ranking the run files have, None for all.
        search: how passages were found; an approximate index with its recall.
        settings: those that were measured.
    """

    per_query: pd.DataFrame
    measures: tuple[str, ...]
    run_depth: int | None
    search: dict[str, Any]
    settings: tuple[str, ...]
    _found: _Found = field(repr=False)
    _corpora: tuple[_Corpus, ...] = field(repr=False)

    @property
    def drops(self) -> dict[str, int]:
        """How many queries were dropped for want of a relevant candidate, over the cells of each setting."""
        cells = self.cells()
        dropped = cells.groupby("setting")["n_dropped"].sum()
        return {f"{setting}: queries without a relevant candidate": int(n) for setting, n in dropped.items() if n}

    def cells(self) -> pd.DataFrame:
        """Return means over queries, one row a setting, query language and passage language.

        ``n_dropped`` counts the queries of the language that have no relevant passage among the candidates. A cell
        in which all are dropped has no means (NaN).
        """
        keys = ["setting", "query_lang", "passage_lang"]
        columns = [*self.measures, *BIAS]
        groups = self.per_query.groupby(keys, observed=True)
        means = groups[columns].mean()
        means.insert(0, "n_queries", groups.size())
        asked = pd.Series(self._found.query_lang).value_counts().sort_index()
        cells = [
            (setting, lang, corpus.name)
            for corpus in self._corpora
            for lang, setting in zip(asked.index, _settings(corpus.name, asked.index.to_numpy()), strict=True)
            if setting in self.settings
        ]
        cells.sort(key=lambda cell: (SETTINGS.index(cell[0]), *cell[1:]))
        table = means.reindex(pd.MultiIndex.from_tuples(cells, names=keys)).reset_index()
        table["n_queries"] = table["n_queries"].fillna(0).astype(int)
        table.insert(4, "n_dropped", asked.loc[table["query_lang"]].to_numpy() - table["n_queries"])
        return table

    def summary(self) -> dict[str, dict[str, float]]:
        """Return the macro average by setting and measure: the mean over queries in each cell, then over cells.

        Cells without a query do not count; a setting without a cell, and a bias that no query has, are left out.
        """
        cells = self.cells()
        columns = [*self.measures, *BIAS]
        means = cells[cells["n_queries"] > 0].groupby("setting", sort=False)[columns].mean()
        return {
            str(setting): {str(name): float(value) for name, value in row.items() if not np.isnan(value)}
            for setting, row in means.to_dict("index").items()
        }

    def save(self, folder: Path) -> None:
        """Write ``per_query.parquet``, ``runs/<setting>.trec.gz`` and ``qrels/<setting>.trec.gz``.

        In the cross-lingual files each ordered pair of languages is an index of its own, so a query's id is
        ``<query id>><passage language>``. On these files trec_eval gives the values of :attr:`per_query`, of
        measures with a cut-off up to ``run_depth``; where that is None, of all measures.

        Raises:
            ClirscaleError: a file cannot be written.
        """
        folder = Path(folder)
        with trec.replacing(folder / "per_query.parquet") as temporary:
            pq.write_table(pa.Table.from_pandas(self.per_query, preserve_index=False), temporary, compression="zstd")
        for setting in SETTINGS:
            if (self.per_query["setting"] == setting).any():
                trec.write(folder / "runs" / f"{setting}.trec.gz", self._run_parts(setting))
                trec.write(folder / "qrels" / f"{setting}.trec.gz", self._qrels_parts(setting))

    def _run_parts(self, setting: str) -> Iterator[Callable[[], bytes]]:
        depth = self.run_depth or len(self._found.passage_ids)
        rows = max(1, _LINES_PER_PART // depth)
        for corpus in self._corpora:
            queries = corpus.queries[_settings(corpus.name, self._found.query_lang[corpus.queries]) == setting]
            for begin in range(0, len(queries), rows):
                yield partial(self._run_part, corpus.name, setting, queries[begin : begin + rows], depth)

    def _run_part(self, corpus: str, setting: str, queries: Ints, depth: int) -> bytes:
        passages, scores = self._found.rankings.top(corpus, queries, depth)
        row, column = np.nonzero(passages >= 0)  # fewer than depth may have been retrieved
        return trec.run_lines(
            self._ids(corpus, setting, queries[row]),
            self._found.names(passages[row, column]),
            column + 1,
            scores[row, column],
        )

    def _qrels_parts(self, setting: str) -> Iterator[Callable[[], bytes]]:
        judged = self._found.judged
        for corpus in self._corpora:
            query = judged.query[corpus.pairs]
            pairs = corpus.pairs[_settings(corpus.name, self._found.query_lang[query]) == setting]
            if len(pairs):
                queries = self._ids(corpus.name, setting, judged.query[pairs])
                passages = self._found.names(judged.passage[pairs])
                yield partial(trec.qrels_lines, queries, passages, judged.grade[pairs])

    def _ids(self, corpus: str, setting: str, queries: Ints) -> pa.StringArray:
        suffix = f">{corpus}" if setting == "cross" else ""
        return pa.array([f"{query_id}{suffix}" for query_id in self._found.query_id[queries]], pa.large_string())


@dataclass(frozen=True)
class _Judgements:
    """The qrels, a row a judged pair, ascending by query."""

    query: Ints  # (m,) number of the query in the task
    passage: Ints  # (m,) number of the passage
    grade: Ints  # (m,)
    lang: npt.NDArray[np.object_]  # (m,) language of the passage
    query_lang: npt.NDArray[np.object_]  # (m,) language of the query


def _judgements(task: RetrievalTask) -> _Judgements:
    row = task.judged_rows
    pairs = [
        (i, row[passage_id], grade)
        for i, query in enumerate(task.queries)
        for passage_id, grade in task.qrels.get(query.id, {}).items()
    ]
    query, passage, grade = np.array(pairs, dtype=np.int64).reshape(-1, 3).T
    languages = np.array(task.passages.languages, dtype=object)
    query_lang = np.array([task.queries[i].lang for i in query], dtype=object)
    return _Judgements(query, passage, grade, languages[task.passages.lang_codes[passage]], query_lang)


@dataclass(frozen=True)
class _Corpus:
    """The passages of a language, or all of them, with the queries that have a relevant one among them."""

    name: str
    queries: Ints  # (k,) ascending
    pairs: Ints  # rows of the judgements: these queries, these passages


def _corpus(name: str, judged: _Judgements) -> _Corpus:
    inside = np.ones(len(judged.lang), dtype=bool) if name == POOL else judged.lang == name
    queries = np.unique(judged.query[inside & (judged.grade >= 1)])
    return _Corpus(name, queries, np.flatnonzero(inside & np.isin(judged.query, queries)))


class _Found:
    """The outcome of the search, with the names that go with the numbers."""

    def __init__(self, task: RetrievalTask, judged: _Judgements, rankings: Rankings) -> None:
        self.judged, self.rankings = judged, rankings
        self.query_id = np.array([q.id for q in task.queries], dtype=object)
        self.query_lang = np.array([q.lang for q in task.queries], dtype=object)
        self.passage_ids = task.passages.ids
        self._languages, self._lang_codes = task.passages.languages, task.passages.lang_codes

    def names(self, passages: Ints) -> pa.ChunkedArray:
        """Return the ids of some passages."""
        return self.passage_ids.take(pa.array(passages))

    def ranks(self, corpus: _Corpus) -> JudgedRanks:
        """Return the ranks of the judged passages, queries numbered as in the corpus."""
        ranks = self.rankings.rank_in_pool if corpus.name == POOL else self.rankings.rank_in_language
        return self._ranks(corpus, corpus.pairs, ranks)

    def _ranks(self, corpus: _Corpus, pairs: Ints, ranks: Values) -> JudgedRanks:
        query = np.searchsorted(corpus.queries, self.judged.query[pairs])
        return JudgedRanks(len(corpus.queries), query, ranks[pairs], self.judged.grade[pairs])

    def top_with_grades(self, corpus: _Corpus, depth: int) -> tuple[list[list[str]], list[dict[str, int]]]:
        """Return, for each query of the corpus, ids of the top passages and the grades of the judged ones."""
        passages, _ = self.rankings.top(corpus.name, corpus.queries, depth)
        ids = [self.names(row[row >= 0]).to_pylist() for row in passages]
        grades: dict[int, dict[str, int]] = {int(query): {} for query in corpus.queries}
        judged_ids = self.names(self.judged.passage[corpus.pairs]).to_pylist()
        for pair, passage_id in zip(corpus.pairs, judged_ids, strict=True):
            grades[int(self.judged.query[pair])][passage_id] = int(self.judged.grade[pair])
        return ids, list(grades.values())

    def bias(self, pool: _Corpus) -> dict[str, Values]:
        """Return the columns of :data:`BIAS` for the queries of the pool."""
        other = pool.pairs[self.judged.lang[pool.pairs] != self.judged.query_lang[pool.pairs]]
        without_own = self._ranks(pool, other, self.rankings.rank_without_own)
        has_other = without_own.total(without_own.grade >= 1) > 0
        top, share = self._own_share(pool)
        columns = (
            _rank_distance(self.ranks(pool), self.judged.lang[pool.pairs]),
            top,
            share,
            np.where(has_other & (share > 0), average_precision(without_own), np.nan),
        )
        return dict(zip(BIAS, columns, strict=True))

    def _own_share(self, pool: _Corpus) -> tuple[Values, Values]:
        """Return the share of each query's language in its top and in the pool; NaN where the pool has none of it."""
        code = np.array([_position(self._languages, lang) for lang in self.query_lang[pool.queries]])
        counts = np.append(np.bincount(self._lang_codes, minlength=len(self._languages)), 0)
        share = counts[code] / len(self._lang_codes)
        share[(code < 0) | (len(self._languages) < 2)] = np.nan
        passages, _ = self.rankings.top(POOL, pool.queries, _OWN_SHARE_DEPTH)
        retrieved = passages >= 0
        own = retrieved & (self._lang_codes[passages] == code[:, None])
        found = retrieved.sum(axis=1)
        top = np.divide(own.sum(axis=1), found, out=np.full(len(found), np.nan), where=found > 0)
        return np.where(np.isnan(share), np.nan, top), share


def _position(languages: Sequence[str], lang: str) -> int:
    return languages.index(lang) if lang in languages else -1


def _settings(corpus: str, query_lang: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Return the setting of a search of ``corpus`` with queries in each of the languages."""
    if corpus == POOL:
        return np.full(len(query_lang), "multi", dtype=object)
    return np.where(query_lang == corpus, "mono", "cross").astype(object)


def _rank_distance(ranks: JudgedRanks, lang: npt.NDArray[np.object_]) -> Values:
    """Return max − min rank of the relevant passages of each query.

    NaN where they are in one language, or where one was not retrieved.
    """
    relevant = ranks.grade >= 1
    _, code = np.unique(lang.astype(str), return_inverse=True)

    def spread(values: Values) -> Values:
        highest: Values = np.full(ranks.n, -np.inf)
        lowest: Values = np.full(ranks.n, np.inf)
        np.maximum.at(highest, ranks.query[relevant], values[relevant])
        np.minimum.at(lowest, ranks.query[relevant], values[relevant])
        return np.where(np.isfinite(highest), highest, np.nan) - lowest

    return np.where(spread(code.astype(np.float64)) > 0, spread(ranks.rank), np.nan)
