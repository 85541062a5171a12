"""Measures of a retrieval task in three settings, as in Elmahdy et al. (arXiv:2408.10536).

monolingual (``mono``): query and passages in one language; cross-lingual (``cross``): every ordered pair of two
languages, each its own index; multilingual (``multi``): the passages of all languages in one pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clirscale.data.tasks import RetrievalTask
from clirscale.errors import DataError
from clirscale.retrieval import trec
from clirscale.retrieval.measures import JudgedRanks, Values, compute, depth_needed, parse_measures
from clirscale.retrieval.search import POOL, Floats, Ints, PassageIndex, Rankings

SETTINGS = ("mono", "cross", "multi")

_LINES_PER_PART = 200_000


def evaluate(
    task: RetrievalTask,
    query_vectors: Floats,
    passage_vectors: Floats,
    measures: Sequence[str],
    run_depth: int,
) -> Evaluation:
    """Search and measure.

    A query takes part where a passage of grade 1 or more is among the candidates; elsewhere it is dropped and counted.

    Args:
        task: queries, passages and qrels.
        query_vectors: (number of queries, dimensions), in the order of the task.
        passage_vectors: (number of passages, dimensions).
        measures: names of ir-measures, such as ``P@5``.
        run_depth: how many passages of each ranking :meth:`Evaluation.save` writes.

    Raises:
        ConfigError: a measure cannot be computed.
        DataError: no query has a relevant passage.
        ClirscaleError: a vector is not finite.
    """
    if (len(query_vectors), len(passage_vectors)) != (len(task.queries), len(task.passages)):
        raise ValueError(f"{task.name}: needs one vector for each query and passage, in their order")
    parsed = parse_measures(measures)
    judged = _judgements(task)
    if not (judged.grade >= 1).any():
        raise DataError(f"{task.name}: no query has a relevant passage; check that the qrels name the queries' ids")
    index = PassageIndex([p.id for p in task.passages], [p.lang for p in task.passages], passage_vectors)
    depth = max(run_depth, depth_needed(parsed))
    rankings = index.search(query_vectors, judged.query, judged.passage, depth)
    corpora = tuple(_corpus(name, judged) for name in (*index.languages, POOL))
    found = _Found(task, judged, rankings)
    frames = []
    for corpus in corpora:
        if not len(corpus.queries):
            continue
        ranks = found.ranks(corpus)
        values = compute(parsed, ranks, partial(found.top_with_grades, corpus))
        distance = _rank_distance(ranks, judged.lang[corpus.pairs])
        frames.append(
            pd.DataFrame(
                {
                    "setting": _settings(corpus.name, found.query_lang[corpus.queries]),
                    "query_lang": found.query_lang[corpus.queries],
                    "passage_lang": corpus.name,
                    "query_id": found.query_id[corpus.queries],
                    "group_id": [task.queries[i].group_id for i in corpus.queries],
                    **values,
                    "rank_distance": distance if corpus.name == POOL else np.nan,
                }
            )
        )
    per_query = pd.concat(frames, ignore_index=True)
    per_query["setting"] = pd.Categorical(per_query["setting"], SETTINGS)
    for column in ("query_lang", "passage_lang", "query_id", "group_id"):
        per_query[column] = per_query[column].astype("category")
    per_query = per_query.sort_values("setting", kind="stable", ignore_index=True)
    return Evaluation(per_query, tuple(parsed), run_depth, found, corpora)


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` found.

    Attributes:
        per_query: one row a query and setting (and passage language): ``setting``, ``query_lang``, ``passage_lang``
            (``*`` for all), ``query_id``, ``group_id``, a column a measure, and ``rank_distance``: in the multilingual
            setting the highest minus the lowest rank of the query's relevant passages, in the complete ranking, where
            these are in two languages or more; else NaN.
        measures: names of the measures.
        run_depth: how many passages of each ranking the run files have.
    """

    per_query: pd.DataFrame
    measures: tuple[str, ...]
    run_depth: int
    _found: _Found
    _corpora: tuple[_Corpus, ...]

    def cells(self) -> pd.DataFrame:
        """Return means over queries, one row a setting, query language and passage language.

        ``n_dropped`` counts the queries of the language that have no relevant passage among the candidates. A cell
        in which all are dropped has no means (NaN).
        """
        keys = ["setting", "query_lang", "passage_lang"]
        columns = [*self.measures, "rank_distance"]
        groups = self.per_query.groupby(keys, observed=True)
        means = groups[columns].mean()
        means.insert(0, "n_queries", groups.size())
        asked = pd.Series(self._found.query_lang).value_counts().sort_index()
        cells = [
            (setting, lang, corpus.name)
            for corpus in self._corpora
            for lang, setting in zip(asked.index, _settings(corpus.name, asked.index.to_numpy()), strict=True)
        ]
        cells.sort(key=lambda cell: (SETTINGS.index(cell[0]), *cell[1:]))
        table = means.reindex(pd.MultiIndex.from_tuples(cells, names=keys)).reset_index()
        table["n_queries"] = table["n_queries"].fillna(0).astype(int)
        table.insert(4, "n_dropped", asked.loc[table["query_lang"]].to_numpy() - table["n_queries"])
        return table

    def summary(self) -> dict[str, dict[str, float]]:
        """Return the macro average by setting and measure: the mean over queries in each cell, then over cells.

        Cells without a query do not count; a setting without a cell, and a rank distance that no query has, are left
        out.
        """
        cells = self.cells()
        columns = [*self.measures, "rank_distance"]
        means = cells[cells["n_queries"] > 0].groupby("setting", sort=False)[columns].mean()
        return {
            str(setting): {str(name): float(value) for name, value in row.items() if not np.isnan(value)}
            for setting, row in means.to_dict("index").items()
        }

    def save(self, folder: Path) -> None:
        """Write ``per_query.parquet``, ``runs/<setting>.trec.gz`` and ``qrels/<setting>.trec.gz``.

        In the cross-lingual files each ordered pair of languages is an index of its own, so a query's id is
        ``<query id>><passage language>``. On these files trec_eval gives the values of :attr:`per_query`, of
        measures with a cut-off up to ``run_depth``.

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
        rows = max(1, _LINES_PER_PART // self.run_depth)
        for corpus in self._corpora:
            queries = corpus.queries[_settings(corpus.name, self._found.query_lang[corpus.queries]) == setting]
            for begin in range(0, len(queries), rows):
                yield partial(self._run_part, corpus.name, setting, queries[begin : begin + rows])

    def _run_part(self, corpus: str, setting: str, queries: Ints) -> bytes:
        passages, scores = self._found.rankings.top(corpus, queries, self.run_depth)
        return trec.run_lines(self._ids(corpus, setting, queries), self._found.passage_id, passages, scores)

    def _qrels_parts(self, setting: str) -> Iterator[Callable[[], bytes]]:
        judged = self._found.judged
        for corpus in self._corpora:
            query = judged.query[corpus.pairs]
            pairs = corpus.pairs[_settings(corpus.name, self._found.query_lang[query]) == setting]
            if len(pairs):
                queries = self._ids(corpus.name, setting, judged.query[pairs])
                passages = self._found.passage_id.take(pa.array(judged.passage[pairs]))
                yield partial(trec.qrels_lines, queries, passages, judged.grade[pairs])

    def _ids(self, corpus: str, setting: str, queries: Ints) -> pa.StringArray:
        suffix = f">{corpus}" if setting == "cross" else ""
        return pa.array([f"{query_id}{suffix}" for query_id in self._found.query_id[queries]], pa.string())


@dataclass(frozen=True)
class _Judgements:
    """The qrels, a row a judged pair, ascending by query."""

    query: Ints  # (m,) number of the query in the task
    passage: Ints  # (m,) number of the passage
    grade: Ints  # (m,)
    lang: npt.NDArray[np.object_]  # (m,) language of the passage


def _judgements(task: RetrievalTask) -> _Judgements:
    number = {passage.id: i for i, passage in enumerate(task.passages)}
    pairs = [
        (i, number[passage_id], grade)
        for i, query in enumerate(task.queries)
        for passage_id, grade in task.qrels.get(query.id, {}).items()
    ]
    query, passage, grade = np.array(pairs, dtype=np.int64).reshape(-1, 3).T
    return _Judgements(query, passage, grade, np.array([task.passages[i].lang for i in passage], dtype=object))


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
        self.passage_id = pa.array([p.id for p in task.passages], pa.string())

    def ranks(self, corpus: _Corpus) -> JudgedRanks:
        """Return the ranks of the judged passages, queries numbered as in the corpus."""
        ranks = self.rankings.rank_in_pool if corpus.name == POOL else self.rankings.rank_in_language
        query = np.searchsorted(corpus.queries, self.judged.query[corpus.pairs])
        return JudgedRanks(
            len(corpus.queries), query, ranks[corpus.pairs].astype(np.float64), self.judged.grade[corpus.pairs]
        )

    def top_with_grades(self, corpus: _Corpus, depth: int) -> tuple[list[list[str]], list[dict[str, int]]]:
        """Return, for each query of the corpus, ids of the top passages and the grades of the judged ones."""
        passages, _ = self.rankings.top(corpus.name, corpus.queries, depth)
        ids = np.array(self.passage_id.to_pylist(), dtype=object)
        grades: dict[int, dict[str, int]] = {int(query): {} for query in corpus.queries}
        for pair in corpus.pairs:
            grades[int(self.judged.query[pair])][ids[self.judged.passage[pair]]] = int(self.judged.grade[pair])
        return ids[passages].tolist(), list(grades.values())


def _settings(corpus: str, query_lang: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Return the setting of a search of ``corpus`` with queries in each of the languages."""
    if corpus == POOL:
        return np.full(len(query_lang), "multi", dtype=object)
    return np.where(query_lang == corpus, "mono", "cross").astype(object)


def _rank_distance(ranks: JudgedRanks, lang: npt.NDArray[np.object_]) -> Values:
    """Return max − min rank of the relevant passages of each query; NaN where they are in one language."""
    relevant = ranks.grade >= 1
    _, code = np.unique(lang.astype(str), return_inverse=True)

    def spread(values: Values) -> Values:
        highest: Values = np.full(ranks.n, -np.inf)
        lowest: Values = np.full(ranks.n, np.inf)
        np.maximum.at(highest, ranks.query[relevant], values[relevant])
        np.minimum.at(lowest, ranks.query[relevant], values[relevant])
        return highest - lowest

    return np.where(spread(code.astype(np.float64)) > 0, spread(ranks.rank), np.nan)
